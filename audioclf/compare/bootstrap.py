"""Recordings drawn with replacement, and what runs score on every draw.

A *Poisson bootstrap* (Oza and Russell 2001; Owen and Eckles 2012): each recording is in a draw 0, 1, 2, ... times,
Poisson with mean 1. In the limit it is the usual bootstrap, but a recording is drawn on its own, whatever split it is
in: runs of all settings, seeds and folds see the same recordings in the same draw, which is what makes differences
paired, and folds whose val splits share recordings are not taken for independent. The counts are whole numbers, so
sums over clips are exact and no order of summation shows in a table.

A bootstrap of m things is narrower than the truth by sqrt((m - 1) / m) (Hesterberg, Am. Stat. 69, 2015). Macro-F1 is a
mean over classes, so that m is the recordings of *one* class, often few: draws are widened by sqrt(m / (m - 1)).
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
from scipy import sparse

from audioclf.compare.comparison import FloatArray
from audioclf.compare.read import Clips, Labels, Predictions
from audioclf.training.scores import DRAWS

Counts = npt.NDArray[np.float32]


class Draws:
    """The same :data:`DRAWS` draws of recordings for all runs.

    Args:
        clips: the splits of the runs.
        num_classes: K of the label map.
    """

    def __init__(self, clips: Iterable[Clips], num_classes: int) -> None:
        self.num_classes = num_classes
        splits = list(dict.fromkeys(clips))
        names = sorted({name for split in splits for name in split.recordings})
        self._row = {name: i for i, name in enumerate(names)}
        self._times = np.random.default_rng(0).poisson(1.0, (len(names), DRAWS)).astype(np.float32)
        self._splits: dict[Clips, tuple[Counts, Counts, FloatArray]] = {}

    def class_f1(self, run: Predictions, observed: FloatArray) -> FloatArray:
        """F1 of each class on each draw ``[K, DRAWS]``.

        Args:
            run: the predictions.
            observed: F1 of each class on all clips ``[K]``, which stands in for draws without a clip of the class.
        """
        f1, there = self._f1(run)
        widening = self._split(run.clips)[2]
        return _widened(np.where(there, f1, observed[:, None]), widening[:, None])

    def macro_f1(self, run: Predictions, observed: float) -> FloatArray:
        """Macro-F1 over the classes with clips, on each draw ``[DRAWS]``.

        Args:
            run: the predictions.
            observed: macro-F1 of all clips, which stands in for draws that have no clip at all.
        """
        f1, there = self._f1(run)
        classes = there.sum(0)
        _, support, widening = self._split(run.clips)
        draws = np.where(classes > 0, (f1 * there).sum(0) / np.maximum(classes, 1), observed)
        return _widened(draws, widening[support.any(1)].mean())

    def accuracy(self, run: Predictions, observed: float) -> FloatArray:
        """Share of right clips on each draw ``[DRAWS]``."""
        times, _, _ = self._split(run.clips)
        clips = times.sum(0, dtype=np.float64)
        right = run.clips.targets == run.predicted
        hits = (right.all(1) if right.ndim == 2 else right).astype(np.float32) @ times
        return np.where(clips > 0, hits / np.maximum(clips, 1), observed)

    def _f1(self, run: Predictions) -> tuple[FloatArray, npt.NDArray[np.bool_]]:
        """F1 of each class on each draw ``[K, DRAWS]``, and whether the class has clips in that draw."""
        times, support, _ = self._split(run.clips)
        predicted = self._per_class(run.predicted)
        hits = self._per_class(run.clips.targets).multiply(predicted) @ times
        total = support + predicted @ times
        f1 = np.divide(2 * hits, total, out=np.zeros_like(total), where=total > 0)
        return f1.astype(np.float64), support > 0

    def _split(self, clips: Clips) -> tuple[Counts, Counts, FloatArray]:
        """How often clips are drawn ``[N, DRAWS]``, the clips of each class ``[K, DRAWS]``, and m / (m - 1) ``[K]``."""
        if clips not in self._splits:
            rows = np.array([self._row[name] for name in clips.recordings])
            labels, places = self._per_class(clips.targets).nonzero()
            pairs = np.unique(np.stack([labels, rows[places]]), axis=1)
            recordings = np.maximum(np.bincount(pairs[0], minlength=self.num_classes), 2)
            times = self._times[rows]
            self._splits[clips] = times, self._per_class(clips.targets) @ times, recordings / (recordings - 1)
        return self._splits[clips]

    def _per_class(self, labels: Labels) -> sparse.csr_array:
        """``[K, N]`` with a 1 where clip n is of class k: times the draws it sums the clips of each class."""
        if labels.ndim == 2:
            return sparse.csr_array(labels.T, dtype=np.float32)
        classes, clips = labels, np.arange(len(labels))
        ones = np.ones(len(classes), dtype=np.float32)
        return sparse.csr_array((ones, (classes, clips)), shape=(self.num_classes, len(classes)))


def _widened(draws: FloatArray, variance: FloatArray | float) -> FloatArray:
    """Draws as far from their mean as makes their variance (last axis) so many times larger."""
    mean = draws.mean(-1, keepdims=True)
    return np.asarray(mean + (draws - mean) * np.sqrt(variance))
