"""How far the given labels can be trusted: where each ranks among a cheap probe's classes, and within one recording.

A label that was flipped to any other class ranks anywhere below the first place; a clip that is merely hard has its
label in the second or third place. So the share of labels in the lower half of the ranks tells the two apart.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from audioclf.diagnose import reference
from audioclf.diagnose.pool import Pool
from audioclf.diagnose.trial import Trial, known
from audioclf.diagnose.verdict import Numbers
from audioclf.training.scores import FloatArray, IntArray, macro_f1

if TYPE_CHECKING:
    from audioclf.diagnose.lab import Lab

DRAWS = 400  # bootstrap draws, over recordings
INJECTED = 0.2  # of the labels are flipped to see whether the probe finds them
INJECTIONS = 3


def ranks(scores: FloatArray, labels: IntArray) -> IntArray:
    """Place of each clip's label among the classes, 0 the highest score ``[N]``.

    Args:
        scores: ``[N, K]``.
        labels: ``[N]``.
    """
    own = scores[np.arange(len(labels)), labels]
    return np.asarray((scores > own[:, None]).sum(1), dtype=np.int64)


def low_ranks(num_classes: int) -> float:
    """Of labels flipped uniformly to another class, the share whose rank is in the lower half."""
    return (num_classes - -(-num_classes // 2)) / (num_classes - 1)


def disagreement(labels: IntArray, groups: list[str]) -> tuple[int, float]:
    """Pairs of clips of one recording, and the share of them whose labels differ (0 without pairs)."""
    _, group = np.unique(np.asarray(groups), return_inverse=True)
    counts = np.zeros((group.max() + 1, labels.max() + 1))
    np.add.at(counts, (group, labels), 1)
    size = counts.sum(1)
    pairs, same = (size * (size - 1) / 2).sum(), (counts * (counts - 1) / 2).sum()
    return int(pairs), float(1 - same / pairs) if pairs else 0.0


def rate_of_pairs(differ: float, num_classes: int) -> float:
    """The share of uniformly flipped labels r at which two clips of one class differ that often.

    From ``differ = 1 - (1 - r)^2 - r^2 / (K - 1)``, its lower root; at most (K - 1) / K.
    """
    other = num_classes - 1
    a = num_classes / other
    return float((1 - np.sqrt(max(0.0, 1 - a * differ))) / a)


def clean_score(score: float, rate: float, num_classes: int) -> float:
    """What a score on labels of which ``rate`` are flipped uniformly would be on the true ones, in [0, 1].

    For accuracy: ``s = (1 - r) t + (1 - t) r / (K - 1)`` (Natarajan et al., 2013), solved for t; macro-F1 follows it
    closely where classes are about equally large.
    """
    false_hit = rate / (num_classes - 1)
    kept = 1 - rate - false_hit
    return float(np.clip((score - false_hit) / kept, 0.0, 1.0)) if kept > 0 else score


def strongest(lab: Lab) -> tuple[str, Trial]:
    """The better of the cheap probes that read a few statistics, with its kind; not only of the run's features."""
    return max(((kind, lab.cheap(kind)) for kind in ("pooled", "audio")), key=lambda item: item[1].f1)


def trust(lab: Lab) -> Numbers:
    """What the development clips' labels show, without training a network.

    Clips without sound, and those of a class that has no other recording, are left out: their labels are neither right
    nor wrong to a probe.

    Returns:
        ``probe``, its kind; ``clips`` and ``recordings`` looked at; ``f1`` of the probe; ``first``, ``second`` and
        ``low``, shares of labels ranked first, second and in the lower half; ``rate`` with ``rate_low`` and
        ``rate_high``, the share of flipped labels that ``low`` stands for (95 %, over recordings); ``pairs`` and
        ``differ``, of clips of one recording; ``pair_rate``, the share of flipped labels that ``differ`` stands for.
    """
    kind, trial = strongest(lab)
    pool, classes = trial.pool, trial.pool.num_classes
    keep = telling(lab, trial)
    place = ranks(trial.logits, pool.targets)
    low, full = place >= classes / 2, low_ranks(classes)
    groups = [group for group, kept in zip(pool.groups, keep, strict=True) if kept]
    drawn = _bootstrap(low[keep], groups) / full
    pairs, differ = disagreement(pool.targets[keep], groups)
    return {
        "probe": kind,
        "clips": int(keep.sum()),
        "recordings": len(set(groups)),
        "classes": classes,
        "f1": trial.f1,
        "first": float((place[keep] == 0).mean()),
        "second": float((place[keep] == 1).mean()),
        "low": float(low[keep].mean()),
        "rate": float(low[keep].mean() / full),
        "rate_low": float(np.quantile(drawn, 0.025)),
        "rate_high": float(np.quantile(drawn, 0.975)),
        "pairs": pairs,
        "differ": differ,
        "pair_rate": rate_of_pairs(differ, classes),
    }


def telling(lab: Lab, trial: Trial) -> np.ndarray:
    """Which clips of a trial have sound and a class that it was trained on, bool ``[N]``; all where none has."""
    keep: np.ndarray = audible(lab, trial.pool) & known(trial.pool, trial.fold)
    return keep if keep.any() else np.ones(len(keep), dtype=bool)


def audible(lab: Lab, pool: Pool) -> np.ndarray:
    """Which clips have sound, bool ``[N]``; all where none has."""
    sounds = {clip.id: heard.level.audible for clip, heard in zip(lab.everything.clips, lab.heard, strict=True)}
    keep = np.asarray([sounds[clip.id] for clip in pool.clips])
    return keep if keep.any() else ~keep


def found_injected(lab: Lab, kind: str) -> float:
    """How much more often labels that we flip rank low than the others do: 0 where the probe sees nothing.

    Label-noise tools flag clean labels, too, most of them where features carry nothing; this is what their word is
    worth on these clips.
    """
    pool, classes = lab.pool, lab.pool.num_classes
    columns, lifts = lab.probe_columns(kind, pool), []
    for seed in range(INJECTIONS):
        rng = np.random.default_rng(seed)
        where = rng.permutation(len(pool))[: max(1, round(INJECTED * len(pool)))]
        labels = pool.targets.copy()
        labels[where] = (labels[where] + rng.integers(1, classes, len(where))) % classes
        trial = lab.keep(reference.score_probe(f"injected_{seed + 1}", columns, pool, lab.fold, labels))
        low = ranks(trial.logits, labels) >= classes / 2
        flipped = np.isin(np.arange(len(pool)), where)
        lifts.append(low[flipped].mean() - low[~flipped].mean())
    return float(np.mean(lifts))


def flips_rate(numbers: Mapping[str, float], least_pairs: float) -> float:
    """The share of flipped labels: what the ranks say, at most what recordings of several clips say."""
    enough = numbers["pairs"] >= least_pairs
    return min(numbers["rate"], numbers["pair_rate"]) if enough else numbers["rate"]


def on_clean_labels(before: Trial, after: Trial, low: np.ndarray, most: float) -> Numbers:
    """The effect of true labels: ``before`` on the given ones, ``after`` on true ones, estimated.

    Args:
        before: the run's setting.
        after: the same, or the same trained on corrected labels.
        low: whether a probe ranks the label in the lower half, bool ``[N]``.
        most: the share of flipped labels is at most this.
    """
    pool, classes = before.pool, before.pool.num_classes
    full = low_ranks(classes)

    def both(weights: FloatArray | None) -> tuple[float, float]:
        rate = min(float(np.average(low, weights=weights)) / full, most)
        first, second = (macro_f1(pool.targets, trial.predicted, classes, weights) for trial in (before, after))
        return first, clean_score(second, rate, classes)

    first, second = both(None)
    draws = [clean - given for given, clean in map(both, _weights(pool.groups))]
    edges = np.quantile(draws, [0.025, 0.975])
    return {
        "before": first,
        "after": second,
        "gain": second - first,
        "low": float(edges[0]),
        "high": float(edges[1]),
        "trials": [before.name, after.name],
    }


def _weights(groups: list[str]) -> list[FloatArray]:
    """Bootstrap weights of clips ``[N]``, drawn by recordings."""
    names, group = np.unique(np.asarray(groups), return_inverse=True)
    rng = np.random.default_rng(0)
    draws = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=DRAWS)
    return [draw[group].astype(float) for draw in draws]


def _bootstrap(values: np.ndarray, groups: list[str]) -> FloatArray:
    """Means of ``values`` ``[N]`` under bootstrap weights ``[DRAWS]``."""
    return np.asarray([np.average(values, weights=weights) for weights in _weights(groups)])
