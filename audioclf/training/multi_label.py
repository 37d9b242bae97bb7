"""Honest numbers where clips have several labels: the same as of single labels, and how well each class is ranked.

``there`` ``[N, K]`` is which clips have which labels, ``scores`` ``[N, K]`` what a model says of each: only their order
counts. A class without clips in a split has no average precision, and one that all clips or none have no AUROC: nan,
left out of the means.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

from audioclf.training.scores import DRAWS, Chance, FloatArray, Scores, draws_of, ends, ratio, scores_of_counts

BoolArray = npt.NDArray[np.bool_]

NO_THRESHOLD = 0.5  # where there is no clip of any class
SHARED_CLIPS = 50  # clips with a class that count as much as what all classes have in common


def label_scores(there: BoolArray, predicted: BoolArray) -> Scores:
    """Scores of decisions ``[N, K]``; its accuracy is the share of clips of which every label is right."""
    hits, support, chosen = (part.sum(0).astype(np.float64) for part in (there & predicted, there, predicted))
    return scores_of_counts(hits, support, chosen, float((there == predicted).all(1).mean()) if len(there) else 0.0)


def average_precision(there: BoolArray, scores: FloatArray) -> FloatArray:
    """Of each class ``[K]``: the mean of the precision at each of its clips, best first; equal scores count as one step.

    Equals scikit-learn's ``average_precision_score``; nan for a class without clips.
    """
    return np.array([_average_precision(there[order, k], last) for k, (order, last) in enumerate(_ranked(scores))])


def auroc(there: BoolArray, scores: FloatArray) -> FloatArray:
    """Of each class ``[K]``: how often a clip of it has a higher score than one without it, ties half.

    Equals scikit-learn's ``roc_auc_score``; nan where there are no such pairs.
    """
    ranks = rankdata(scores, axis=0) if len(scores) else scores
    with_it = there.sum(0).astype(np.float64)
    pairs = with_it * (len(there) - with_it)
    above = (ranks * there).sum(0) - with_it * (with_it + 1) / 2
    return np.asarray(np.divide(above, pairs, out=np.full(len(pairs), np.nan), where=pairs > 0))


def mean_of(values: FloatArray) -> float:
    """The mean of the classes that have a value; 0 where none has."""
    known = ~np.isnan(values)
    return float(values[known].mean()) if known.any() else 0.0


def best_thresholds(there: BoolArray, probabilities: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """The threshold of each class ``[K]`` at which its F1 is highest, shrunk towards that of all classes; of equal ones the highest.

    A handful of clips chooses a threshold that suits them alone. So to a class's hits, alarms and clips are added those
    of :data:`SHARED_CLIPS` clips of the average class, to which every class contributes equally, however frequent it is:
    with few clips the threshold is about the same for all, with hundreds it is the class's own (empirical Bayes;
    measured in docs/experiments/multi_label.md).

    It lies half-way between the last probability that is taken and the first that is not, so that a difference in the
    last digit decides nothing. Without clips of any class there is nothing to tune: 0.5.
    """
    found = np.full(there.shape[1], NO_THRESHOLD, dtype=np.float32)
    support = there.sum(0)
    if not support.any():
        return found
    each = np.divide(SHARED_CLIPS / (support > 0).sum(), support, out=np.zeros(len(support)), where=support > 0)
    weights = np.broadcast_to(each, there.shape)
    shared_hits, shared_alarms = _Above(probabilities[there], weights[there]), _Above(probabilities, weights)
    for k, (order, last) in enumerate(_ranked(probabilities)):
        taken = probabilities[order[last], k]
        left = np.append(taken[1:], np.float32(0))
        middle = ((taken.astype(np.float64) + left) / 2).astype(np.float32)
        cuts = np.where(middle > left, middle, taken)
        hits, alarms = np.cumsum(there[order, k])[last], last + 1.0
        f1 = 2 * (hits + shared_hits(cuts)) / (alarms + shared_alarms(cuts) + support[k] + SHARED_CLIPS)
        found[k] = cuts[int(f1.argmax())]
    return found


class _Above:
    """The weight of all values that reach a cut.

    Args:
        values: any shape.
        weights: of the same.
    """

    def __init__(self, values: npt.NDArray[np.float32], weights: FloatArray) -> None:
        order = np.argsort(values, axis=None)
        self._values = values.ravel()[order]
        self._above = np.append(np.cumsum(weights.ravel()[order][::-1])[::-1], 0.0)

    def __call__(self, cuts: npt.NDArray[np.float32]) -> FloatArray:
        """Of cuts ``[C]``, ``[C]``."""
        return np.asarray(self._above[np.searchsorted(self._values, cuts)])


@dataclass(frozen=True)
class LabelChance(Chance):
    """The same floors where clips have several labels, and that of mAP.

    ``majority`` is every label for every clip, the best that can be said of all clips alike; ``stratified`` draws each
    label with its share of the training split.

    Attributes:
        map: mAP of the run's own scores, shuffled among the clips (mean over draws).
        map_p: share of those shuffles with at least the run's mAP, (1 + n) / (1 + draws).
    """

    map: float
    map_p: float


def label_chance(
    there: BoolArray, scores: FloatArray, predicted: BoolArray, train: BoolArray, seed: int = 0
) -> LabelChance:
    """The chance floor of a split.

    Args:
        there: its clips' labels ``[N, K]``.
        scores: what the run says of them.
        predicted: what it decides.
        train: the training split's labels, for the shares of labels.
        seed: of the random draws.
    """
    rng = np.random.default_rng(seed)
    shares = train.mean(0)
    drawn = [label_scores(there, rng.random(there.shape) < shares).f1_macro for _ in range(DRAWS)]
    orders = [rng.permutation(len(there)) for _ in range(DRAWS)]
    shuffled = np.array([label_scores(there[order], predicted).f1_macro for order in orders])
    ranked = _mean_average_precision(scores, (there[order] for order in orders))
    observed, observed_map = label_scores(there, predicted).f1_macro, mean_of(average_precision(there, scores))
    return LabelChance(
        majority=label_scores(there, np.ones_like(there)).f1_macro,
        stratified=float(np.mean(drawn)),
        permutation=float(shuffled.mean()),
        permutation_p=(1 + int((shuffled >= observed).sum())) / (1 + DRAWS),
        map=float(ranked.mean()),
        map_p=(1 + int((ranked >= observed_map).sum())) / (1 + DRAWS),
    )


def label_intervals(
    there: BoolArray, scores: FloatArray, predicted: BoolArray, groups: Sequence[str], seed: int = 0
) -> dict[str, tuple[float, float]]:
    """Bootstrap intervals (95 %) of ``f1_macro`` and ``map``, drawing whole recordings with replacement.

    Of F1 they are percentiles. Average precision is higher where clips are few, and higher still in a draw, where some
    stand twice; so of mAP they are what the draws are away from the observed, to the other side (the basic bootstrap:
    Davison and Hinkley, 1997, section 5.2).

    Args:
        there: the clips' labels ``[N, K]``.
        scores: what the run says of them.
        predicted: what it decides.
        groups: each clip's recording, N of them.
        seed: of the random draws.
    """
    times = np.array(list(draws_of(groups, seed)))
    hits, support, chosen = (times @ part.astype(np.float64) for part in (there & predicted, there, predicted))
    f1, known = ratio(2 * hits, support + chosen), support > 0
    macro = (f1 * known).sum(1) / np.maximum(known.sum(1), 1)
    ranks = _ranked(scores)
    each = np.array([_average_precision(there[o, k], last, times[:, o]) for k, (o, last) in enumerate(ranks)])
    low, high = ends([mean_of(draw) for draw in each.T])
    observed = mean_of(average_precision(there, scores))
    return {"f1_macro": ends(macro), "map": (max(2 * observed - high, 0.0), min(2 * observed - low, 1.0))}


def _mean_average_precision(scores: FloatArray, labels: Iterable[BoolArray]) -> FloatArray:
    """The mAP of the same scores with each of several sets of labels ``[N, K]``."""
    ranks = _ranked(scores)
    return np.array(
        [mean_of(np.array([_average_precision(t[o, k], last) for k, (o, last) in enumerate(ranks)])) for t in labels]
    )


def _ranked(scores: npt.NDArray[np.floating]) -> list[tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]]:
    """Of each class the clips' places, highest score first, and where in that order a step of equal scores ends."""
    found = []
    for column in scores.T:
        order = np.argsort(-column, kind="stable")
        ranked = column[order]
        found.append((order, np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True)[: len(ranked)])))
    return found


def _average_precision(hits: BoolArray, last: npt.NDArray[np.intp], times: FloatArray | None = None) -> FloatArray:
    """Average precision of a class in the order of its scores.

    Args:
        hits: whether each clip is of the class ``[N]``, highest score first.
        last: where steps of equal scores end.
        times: how often each clip counts ``[D, N]``; None: once.

    Returns:
        ``[]`` or ``[D]``; nan without clips of the class.
    """
    weights = np.ones(len(hits)) if times is None else times
    found, taken = (np.cumsum(part, -1)[..., last] for part in (weights * hits, weights))
    if not len(last):
        return np.full(weights.shape[:-1], np.nan)
    total = found[..., -1]
    gained = np.diff(found, prepend=0.0, axis=-1)
    area = (gained * ratio(found, taken)).sum(-1)
    return np.asarray(np.divide(area, total, out=np.full_like(total, np.nan), where=total > 0))
