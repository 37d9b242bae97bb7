"""What a comparison holds: plain records, made by :mod:`audioclf.compare.compare`, shown by the tables, figures and HTML."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True)
class PassedOver:
    """A folder that was looked at and not counted.

    Attributes:
        path: where it lies.
        reason: why, in words, e.g. ``"result.json is cut short"``.
    """

    path: Path
    reason: str


@dataclass(frozen=True)
class Estimate:
    """A macro-F1 over seeds, folds and recordings.

    Attributes:
        mean: over folds of the mean over seeds.
        sd: between runs (within folds where there are several seeds); NaN where there is one run.
        low, high: 95 % interval; of train F1 over runs alone, and NaN where there is one run.
        n: runs.
    """

    mean: float
    sd: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class Difference:
    """A setting less the baseline, paired over the seeds and folds that both have, and over recordings.

    Attributes:
        mean, low, high: difference of macro-F1 with its 95 % interval.
        pairs: runs of each side that were paired; 0 where the seeds were taken as independent.
        verdict: ``better`` or ``worse`` where the interval excludes 0, ``noise`` where it does not, ``unknown`` where
            there are too few seeds to know what noise is.
        more_seeds: about how many more seeds would settle a gap of this size; None: no number of seeds would (the
            recordings are too few), there is nothing to settle, or one seed does not tell what another would change.
    """

    mean: float
    low: float
    high: float
    pairs: int
    verdict: Literal["better", "worse", "noise", "unknown"]
    more_seeds: int | None = None


@dataclass(frozen=True)
class RunRow:
    """One finished run, as the tables list it.

    Attributes:
        folder: where it lies.
        seed, fold: which repetition it is; ``fold`` is None where there is none.
        train, val, test: macro-F1.
        accuracy: of test.
        diverged: whether training diverged. Such a run counts: its setting earned it.
        selected_epoch: the epoch whose weights were tested.
    """

    folder: Path
    seed: int
    fold: int | None
    train: float
    val: float
    test: float
    accuracy: float
    diverged: bool
    selected_epoch: int


@dataclass(frozen=True)
class Setting:
    """The runs that differ in seed and fold alone.

    Attributes:
        label: the keys that vary in the study, as on a command line: ``"lr=1e-4 epochs=10"``; another one for each
            setting of a study, ``"all alike"`` where there is one setting.
        values: those keys and their values; ``"null"`` for None.
        runs: its runs, by fold and seed.
        train, val, test: macro-F1.
        accuracy: test accuracy.
        val_difference, test_difference: to the baseline; None for the baseline itself, or where nothing can be paired.
    """

    label: str
    values: dict[str, Any]
    runs: list[RunRow]
    train: Estimate
    val: Estimate
    test: Estimate
    accuracy: Estimate
    val_difference: Difference | None = None
    test_difference: Difference | None = None

    @property
    def seeds(self) -> int:
        """How many seeds it has."""
        return len({run.seed for run in self.runs})

    @property
    def folds(self) -> int:
        """How many folds it has, at least 1."""
        return len({run.fold for run in self.runs})


@dataclass(frozen=True)
class ClassScore:
    """Test F1 of one class over the runs of a setting.

    Attributes:
        name: the class.
        f1: with interval.
        support: test clips of it, summed over folds.
    """

    name: str
    f1: Estimate
    support: int


@dataclass(frozen=True)
class Importance:
    """How much of the differences in val F1 goes with one hyper-parameter.

    Attributes:
        key: the hyper-parameter; ``seed`` and ``fold`` stand for noise.
        mean, sd: share of the variance.
    """

    key: str
    mean: float
    sd: float


@dataclass(frozen=True)
class Comparison:
    """All that tables, figures and pages show.

    Attributes:
        title: e.g. ``"36 runs of esc10: lr x epochs, 3 seeds"``.
        data: name of the data; ``synthetic`` and ``leaky`` are said in ``warnings``.
        keys: the hyper-parameters that vary, in the order of the command line, else by name.
        settings: best val F1 first.
        selected: the best on val.
        baseline: what the others are compared with.
        sentences: the answer in words: changes of one key from the baseline first, then the selected setting on test.
        changes: how many of the sentences, the first ones, are about changes of one key.
        warnings: edge of the grid, few seeds, unequal folds, leaks.
        passed_over: folders that were not counted.
        classes: the label map, K names.
        class_scores: of the selected setting.
        baseline_class_scores: of the baseline.
        confusion: of the selected setting's test clips, summed over its runs, ``[K, K]``, row true;
            all 0 where clips have several labels.
        importance: largest first; empty where there are too few settings.
        chance: the chance floor of test F1 (highest of the floors, mean over the selected setting's runs).
    """

    title: str
    data: str
    keys: list[str]
    settings: list[Setting]
    selected: Setting
    baseline: Setting
    sentences: list[str]
    warnings: list[str]
    passed_over: list[PassedOver]
    classes: list[str]
    class_scores: list[ClassScore]
    baseline_class_scores: list[ClassScore]
    confusion: IntArray
    chance: float
    importance: list[Importance] = field(default_factory=list)
    changes: int = 0
