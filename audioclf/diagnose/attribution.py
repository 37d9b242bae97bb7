"""Where did the F1 go: from guessing through what was observed to what each repair returns and to the best probe.

Repairs interact: a lower learning rate and normalisation mend the same disease, and each alone returns most of what
both return. So each is credited with its mean gain over all orders in which the repairs can be made (Shapley, "A value
for n-person games", 1953), from trials of every combination.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from audioclf.diagnose.diagnosis import Step
from audioclf.diagnose.repair import Repair, changed
from audioclf.diagnose.scale import lr_for
from audioclf.diagnose.trial import Recipe, Trial, bootstrap
from audioclf.diagnose.verdict import Gap, Verdict
from audioclf.training.scores import LEVEL, FloatArray

if TYPE_CHECKING:
    from audioclf.diagnose.lab import Lab

MOST = 3  # repairs that are combined: 2^n trials

Shares = dict[str, tuple[float, tuple[float, float]]]
"""Cause: its gain in macro-F1, and the interval."""

Combinations = dict[frozenset[str], Trial]
"""The trial with each set of repairs made, the empty one included."""


def attribute(lab: Lab, convicted: Sequence[Verdict]) -> tuple[Shares, Combinations]:
    """Divides the gain of all repairs of the run's setting among them.

    Args:
        lab: the bench.
        convicted: verdicts; those without a ``repair`` of the setting (of the data, of test) are passed over, and of
            more than :data:`MOST` those with the smallest shares.

    Returns:
        Each repair's gain, and the trial of each combination; nothing where there is no repair.

    Raises:
        OutOfTime: the combinations do not fit into the budget.
    """
    repairs = {v.cause: v.numbers["repair"] for v in convicted if v.numbers.get("repair")}
    repairs = dict(list(repairs.items())[:MOST])
    if not repairs:
        return {}, {}
    trials: Combinations = {}
    for size in range(len(repairs) + 1):
        for causes in itertools.combinations(repairs, size):
            trials[frozenset(causes)] = _trial(lab, convicted, repairs, causes)
    draws = {causes: bootstrap(trial) for causes, trial in trials.items()}
    return {cause: _interval(_shapley(cause, list(repairs), draws)) for cause in repairs}, trials


def together(lab: Lab, repairs: Sequence[Repair]) -> dict[str, Any]:
    """Several repairs as one; a learning rate that is changed is set for the input as the others leave it."""
    joint: dict[str, Any] = {}
    for repair in repairs:
        joint |= repair
    if {"lr", "features.normalisation"} <= set(joint):
        joint["lr"] = lr_for(Recipe("", joint).config(lab.config), lab.pool)
    return joint


def waterfall(gap: Gap, convicted: Sequence[Verdict], shares: Shares, titles: Mapping[str, str]) -> list[Step]:
    """The steps from guessing to the best probe.

    Args:
        gap: what there was to explain.
        convicted: the causes, in the order of their steps.
        shares: of :func:`attribute`; causes that are not in it have their own effect.
        titles: of the causes.

    Causes of the data were tried alone and not in every combination: where all causes together would return more than
    the best that was reached, all are shortened alike.
    """
    steps = [
        Step("guessing", gap.chance, None, "level"),
        Step("this run" if gap.test <= gap.base else "this run, out of fold", gap.observed, None, "level"),
    ]
    gains = {v.cause: shares[v.cause] if v.cause in shares else _alone(v) for v in convicted}
    found = {cause: gain for cause, gain in gains.items() if gain is not None}
    total = sum(gain for gain, _ in found.values())
    shorter = min(1.0, gap.size / total) if total > 0 else 1.0
    for cause, (gain, (low, high)) in found.items():
        interval = (shorter * low, shorter * high)
        steps.append(Step(f"mended: {titles[cause]}", shorter * gain, interval, "gain", cause))
    rest = gap.size - shorter * total
    if rest > 1e-9:
        steps.append(Step("not explained", rest, None, "rest"))
    steps.append(Step("best probe" if gap.reference <= gap.probe else "best reached", gap.reference, None, "level"))
    return steps


def _alone(verdict: Verdict) -> tuple[float, tuple[float, float]] | None:
    found = verdict.numbers.get("effect")
    return (found["gain"], (found["low"], found["high"])) if found else None


def _trial(lab: Lab, convicted: Sequence[Verdict], repairs: Mapping[str, Repair], causes: Sequence[str]) -> Trial:
    if not causes:
        return lab.base if all("epochs" in repair for repair in repairs.values()) else lab.trial(lab.unchanged)
    if len(causes) == 1:
        verdict = next(v for v in convicted if v.cause == causes[0])
        return lab.trials[verdict.numbers["effect"]["trials"][1]]
    return lab.trial(changed(lab, "with_" + "_and_".join(causes), together(lab, [repairs[cause] for cause in causes])))


def _shapley(cause: str, causes: Sequence[str], draws: Mapping[frozenset[str], FloatArray]) -> FloatArray:
    """A repair's mean gain over all orders, on each draw; the first is the observed one."""
    others = [other for other in causes if other != cause]
    n = len(causes)
    total = np.zeros_like(draws[frozenset()])
    for size in range(n):
        weight = math.factorial(size) * math.factorial(n - size - 1) / math.factorial(n)
        for before in itertools.combinations(others, size):
            total += weight * (draws[frozenset((*before, cause))] - draws[frozenset(before)])
    return total


def _interval(draws: FloatArray) -> tuple[float, tuple[float, float]]:
    low, high = np.quantile(draws[1:], [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(draws[0]), (float(low), float(high))
