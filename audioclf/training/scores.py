"""Honest numbers: scores from a confusion matrix, the chance floor beside them, and an interval over recordings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

DRAWS = 1000  # random draws behind each chance floor and interval
LEVEL = 0.95  # of the interval


@dataclass(frozen=True)
class Scores:
    """Scores of one split by counts of hits; of single labels all from its confusion matrix.

    Macro averages run over the classes with support in the split, so they equal scikit-learn's with
    ``labels=<those classes>, zero_division=0``.

    Attributes:
        accuracy: share of clips that are right, in all their labels.
        precision_macro, recall_macro, f1_macro: means over classes with support.
        f1_micro: of all labels of all clips in one; for single labels the accuracy.
        f1_weighted: mean weighted by support.
        precision, recall, f1: per class of the label map, ``[K]``; 0 where undefined.
        support: clips of each class, ``[K]``.
    """

    accuracy: float
    precision_macro: float
    recall_macro: float
    f1_macro: float
    f1_micro: float
    f1_weighted: float
    precision: FloatArray
    recall: FloatArray
    f1: FloatArray
    support: IntArray

    @property
    def classes_without_support(self) -> int:
        """How many classes of the label map have no clip in the split."""
        return int((self.support == 0).sum())


def confusion_matrix(targets: IntArray, predicted: IntArray, num_classes: int) -> IntArray:
    """Counts ``[K, K]``: row the true class, column the predicted one."""
    counts = np.bincount(targets * num_classes + predicted, minlength=num_classes**2)
    return counts.reshape(num_classes, num_classes).astype(np.int64)


def scores(confusion: npt.ArrayLike) -> Scores:
    """Scores of a confusion matrix ``[K, K]`` (row true, column predicted)."""
    matrix = np.asarray(confusion, dtype=np.float64)
    hits, support = np.diag(matrix), matrix.sum(1)
    return scores_of_counts(hits, support, matrix.sum(0), float(hits.sum() / max(support.sum(), 1.0)))


def scores_of_counts(hits: FloatArray, support: FloatArray, chosen: FloatArray, accuracy: float) -> Scores:
    """Scores by the clips of each class ``[K]`` that are hit, that there are and that are predicted."""
    precision, recall = ratio(hits, chosen), ratio(hits, support)
    f1 = ratio(2 * hits, support + chosen)
    there = support > 0

    def macro(values: FloatArray) -> float:
        return float(values[there].mean()) if there.any() else 0.0

    return Scores(
        accuracy=accuracy,
        precision_macro=macro(precision),
        recall_macro=macro(recall),
        f1_macro=macro(f1),
        f1_micro=float(2 * hits.sum() / max(support.sum() + chosen.sum(), 1.0)),
        f1_weighted=float((f1 * support).sum() / max(support.sum(), 1.0)),
        precision=precision,
        recall=recall,
        f1=f1,
        support=support.astype(np.int64),
    )


def macro_f1(targets: IntArray, predicted: IntArray, num_classes: int, weights: FloatArray | None = None) -> float:
    """Macro-F1 over the classes with support; ``weights`` counts each clip so many times (a bootstrap draw)."""
    support = np.bincount(targets, weights, num_classes).astype(np.float64)
    chosen = np.bincount(predicted, weights, num_classes).astype(np.float64)
    hit = targets == predicted
    hits = np.bincount(targets[hit], None if weights is None else weights[hit], num_classes)
    there = support > 0
    return float(ratio(2.0 * hits.astype(np.float64), support + chosen)[there].mean()) if there.any() else 0.0


@dataclass(frozen=True)
class Chance:
    """What predicting without looking scores, as macro-F1.

    Attributes:
        majority: always the training split's most frequent class.
        stratified: drawn with the training split's class shares (mean over draws).
        permutation: the run's own predictions, shuffled among the clips (mean over draws).
        permutation_p: share of those shuffles that score at least as well as the run, (1 + n) / (1 + draws).
    """

    majority: float
    stratified: float
    permutation: float
    permutation_p: float


def chance(targets: IntArray, predicted: IntArray, train_targets: IntArray, num_classes: int, seed: int = 0) -> Chance:
    """The chance floor of a split.

    Args:
        targets: true classes ``[N]``.
        predicted: the run's predictions ``[N]``.
        train_targets: true classes of the training split, for the class shares.
        num_classes: classes K of the label map.
        seed: of the random draws.
    """
    rng = np.random.default_rng(seed)
    shares = np.bincount(train_targets, minlength=num_classes) / len(train_targets)
    observed = macro_f1(targets, predicted, num_classes)
    drawn = [macro_f1(targets, rng.choice(num_classes, len(targets), p=shares), num_classes) for _ in range(DRAWS)]
    shuffled = [macro_f1(targets, rng.permutation(predicted), num_classes) for _ in range(DRAWS)]
    return Chance(
        majority=macro_f1(targets, np.full_like(targets, int(shares.argmax())), num_classes),
        stratified=float(np.mean(drawn)),
        permutation=float(np.mean(shuffled)),
        permutation_p=(1 + sum(f1 >= observed for f1 in shuffled)) / (1 + DRAWS),
    )


def interval(
    targets: IntArray, predicted: IntArray, groups: Sequence[str], num_classes: int, seed: int = 0
) -> tuple[float, float]:
    """Percentile bootstrap interval (95 %) of macro-F1, drawing whole recordings with replacement.

    Clips of one recording are not independent; drawing clips would make the interval too narrow.

    Args:
        targets: true classes ``[N]``.
        predicted: predictions ``[N]``.
        groups: each clip's recording, N of them.
        num_classes: classes K of the label map.
        seed: of the random draws.
    """
    return ends([macro_f1(targets, predicted, num_classes, times) for times in draws_of(groups, seed)])


def draws_of(groups: Sequence[str], seed: int = 0) -> Iterator[FloatArray]:
    """How often each clip is in a draw of recordings with replacement ``[N]``, :data:`DRAWS` times."""
    rng = np.random.default_rng(seed)
    names, group = np.unique(np.asarray(groups), return_inverse=True)
    for _ in range(DRAWS):
        times = np.bincount(rng.integers(len(names), size=len(names)), minlength=len(names))
        yield times[group].astype(np.float64)


def ends(draws: Sequence[float] | FloatArray) -> tuple[float, float]:
    """The percentile interval (95 %) of draws."""
    low, high = np.quantile(draws, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def ratio(numerator: FloatArray, denominator: FloatArray) -> FloatArray:
    """Element-wise, 0 where the denominator is 0 (scikit-learn's ``zero_division=0``)."""
    return np.divide(numerator, denominator, out=np.zeros_like(denominator, dtype=np.float64), where=denominator > 0)
