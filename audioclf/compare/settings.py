"""Runs by setting: what varies in a study, the runs that differ in seed and fold alone, and which is the baseline."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from audioclf.compare.axis import in_order, short_keys, value_text
from audioclf.compare.bootstrap import Draws
from audioclf.compare.comparison import ClassScore, Estimate, FloatArray, IntArray, Setting
from audioclf.compare.read import ReadRun, Value
from audioclf.compare.statistics import Sample, difference, estimate, tells_noise
from audioclf.compare.study import Study
from audioclf.errors import UserError, nearest, shown

ABSENT = "null"
"""The value of a key that some runs do not have, e.g. ``model.hidden`` of a linear model."""
SHOWN_VALUES = 8  # in an error

Order = list[tuple[int, float, str]]


@dataclass(eq=False)
class Group:
    """The runs that differ in seed and fold alone.

    Attributes:
        values: the keys that vary in the study, and their values here.
        runs: by fold and seed.
        draws: of recordings, the same for all groups.
    """

    values: dict[str, Value]
    runs: list[ReadRun]
    draws: Draws

    @property
    def order(self) -> Order:
        """What groups are sorted by: values, numbers by size."""
        return [in_order(value) for value in self.values.values()]

    @cached_property
    def val(self) -> Sample:
        """Macro-F1 of val."""
        return self._sample(lambda run: run.row.val, lambda run: self.draws.macro_f1(run.val, run.row.val))

    @cached_property
    def test(self) -> Sample:
        """Macro-F1 of test."""
        return self._sample(lambda run: run.row.test, lambda run: self.draws.macro_f1(run.test, run.row.test))

    def setting(self, label: str, baseline: Group) -> Setting:
        """The record of it, with the differences to a baseline that is not itself."""
        accuracy = self._sample(
            lambda run: run.row.accuracy, lambda run: self.draws.accuracy(run.test, run.row.accuracy)
        )
        other = baseline is not self
        return Setting(
            label=label,
            values=dict(self.values),
            runs=[run.row for run in self.runs],
            train=self._train(),
            val=estimate(self.val),
            test=estimate(self.test),
            accuracy=estimate(accuracy),
            val_difference=difference(self.val, baseline.val) if other else None,
            test_difference=difference(self.test, baseline.test) if other else None,
        )

    def class_scores(self) -> list[ClassScore]:
        """Test F1 of each class of the label map; NaN where no run has test clips of it."""
        found_of = [run.test.scores(len(run.classes)) for run in self.runs]
        f1 = [scores.f1 for scores in found_of]
        draws = [self.draws.class_f1(run.test, own) for run, own in zip(self.runs, f1, strict=True)]
        found = []
        for k, name in enumerate(self.runs[0].classes):
            rows = [i for i, scores in enumerate(found_of) if scores.support[k]]
            of_splits = {self.runs[i].test.clips: int(found_of[i].support[k]) for i in rows}
            sample = Sample(
                [self.runs[i].repetition for i in rows], *(np.array([x[i][k] for i in rows]) for x in (f1, draws))
            )
            nothing = Estimate(math.nan, math.nan, math.nan, math.nan, 0)
            found.append(ClassScore(name, estimate(sample) if rows else nothing, sum(of_splits.values())))
        return found

    def confusion(self) -> IntArray:
        """Test clips ``[K, K]``, row true, column predicted, summed over the runs."""
        return np.asarray(np.stack([run.test.confusion(len(run.classes)) for run in self.runs]).sum(0))

    def _train(self) -> Estimate:
        """Over runs alone: the recordings of train are not a sample of anything that is asked about."""
        of_runs = estimate(self._sample(lambda run: run.row.train, lambda run: np.zeros(1)))
        if tells_noise([run.repetition for run in self.runs]):
            return of_runs
        return Estimate(of_runs.mean, of_runs.sd, math.nan, math.nan, of_runs.n)

    def _sample(self, value: Callable[[ReadRun], float], draws: Callable[[ReadRun], FloatArray]) -> Sample:
        values = np.array([value(run) for run in self.runs])
        return Sample([run.repetition for run in self.runs], values, np.stack([draws(run) for run in self.runs]))


def varying_keys(runs: Sequence[ReadRun], first: Sequence[str]) -> list[str]:
    """Keys that do not have one value in all runs: those of ``first`` in its order, then the others by name."""
    keys = {key for run in runs for key in run.settings}
    varying = {key for key in keys if len({run.settings.get(key, ABSENT) for run in runs}) > 1}
    return [key for key in first if key in varying] + sorted(varying - set(first))


def group(study: Study, keys: Sequence[str]) -> list[Group]:
    """The settings of a study, by the order of their values; runs by fold and seed."""
    splits = (part.clips for run in study.runs for part in (run.val, run.test))
    draws = Draws(splits, len(study.runs[0].classes))
    groups: dict[tuple[Value, ...], Group] = {}
    for run in study.runs:
        values = {key: run.settings.get(key, ABSENT) for key in keys}
        groups.setdefault(tuple(values.values()), Group(values, [], draws)).runs.append(run)
    return sorted(groups.values(), key=lambda one: one.order)


def labels(groups: Sequence[Group]) -> list[str]:
    """A name for each setting, all different: numbers short where that tells the settings apart, else in full."""

    def text(values: Mapping[str, Value], digits: int) -> str:
        words = (f"{k}={value_text(v, digits) if digits else v}" for k, v in values.items())
        return " ".join(words) or "all alike"

    for digits in (4, 0):
        found = [text(one.values, digits) for one in groups]
        if len(set(found)) == len(found):
            return found
    return [f"{label} ({number})" for number, label in enumerate(found, 1)]


def choose_baseline(groups: Sequence[Group], study: Study, wanted: Mapping[str, str]) -> Group:
    """What the others are compared with.

    Args:
        groups: the settings, by the order of their values.
        study: what they are from; a sweep's first setting is its baseline.
        wanted: keys and values that the baseline must have, as typed; of several settings that have them, the one
            that has most in common with the baseline without ``wanted``, then the one with most runs.

    Raises:
        UserError: no setting has these values.
    """
    candidates = list(groups)
    for typed, text in wanted.items():
        key = _key(typed, study)
        there = sorted({run.settings.get(key, ABSENT) for run in study.runs}, key=in_order)
        left = [one for one in candidates if same_value(one.runs[0].settings.get(key, ABSENT), text)]
        if not left:
            known = [value_text(value) for value in there]
            more = "" if len(known) <= SHOWN_VALUES else f" and {len(known) - SHOWN_VALUES} more"
            guess = _nearest_value(text, there) if not any(same_value(value, text) for value in there) else None
            raise UserError(
                f"baseline {typed}={shown(text)}: no setting has it"
                + ("" if guess else " together with the other keys")
                + f"; there is {', '.join(known[:SHOWN_VALUES])}{more}",
                f"the nearest is {typed}={guess}" if guess else "leave out one of the keys",
            )
        candidates = left
    usual = study.baseline

    def likeness(one: Group) -> tuple[int, int]:
        return sum(same_value(one.values[key], usual[key]) for key in one.values if key in usual), len(one.runs)

    return max(candidates, key=likeness)  # of equals the first


def same_value(value: Value, other: object) -> bool:
    """Whether two values are the same, numbers by size: ``0.0001`` and ``"1e-4"`` are."""
    if str(value).casefold() == str(other).casefold():
        return True
    try:
        return not isinstance(value, bool) and not isinstance(other, bool) and float(value) == float(str(other))
    except ValueError:
        return False


def _key(typed: str, study: Study) -> str:
    """The key that was meant: whole, or its last word where one key alone ends in it."""
    keys = sorted({key for run in study.runs for key in run.settings})
    by_name = {short: key for key, short in short_keys(keys).items()} | {key: key for key in keys}
    if typed not in by_name:
        guess = nearest(typed, by_name)
        raise UserError(
            f"baseline {shown(typed)}: the runs have no such key", f"did you mean {guess}?" if guess else None
        )
    return by_name[typed]


def _nearest_value(text: str, values: Sequence[Value]) -> str | None:
    """The value that a typed one comes closest to: of numbers by their ratio, of texts by their letters."""
    try:
        wanted = float(text)
        numbers = [value for value in values if in_order(value)[0] == 0]
        return value_text(min(numbers, key=lambda value: _apart(float(value), wanted)))
    except ValueError:
        return nearest(text, map(str, values))


def _apart(value: float, wanted: float) -> float:
    """How far apart two numbers are, as a ratio where both are positive."""
    return (
        abs(math.log(value / wanted))
        if value > 0 and wanted > 0
        else math.inf
        if value * wanted < 0
        else abs(value - wanted)
    )
