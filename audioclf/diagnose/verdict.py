"""What is concluded of one cause, and the rule that turns an effect into a status."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml

Status = Literal["explains", "contributes", "cleared", "undetermined"]
CONVICTED: tuple[Status, ...] = ("explains", "contributes")
STATUS_ORDER: tuple[Status, ...] = (*CONVICTED, "undetermined", "cleared")

THRESHOLDS = Path(__file__).with_name("thresholds.yaml")

Numbers = dict[str, Any]
"""What a probe measured: plain JSON values, so that a verdict can be judged again from ``diagnosis.json``."""

Limits = Mapping[str, float]
"""One cause's thresholds, with those that all share."""


@dataclass(frozen=True)
class Verdict:
    """What is concluded of one cause.

    Attributes:
        cause: its name, e.g. ``"lr_too_high"``.
        status: ``explains`` (most of the gap), ``contributes`` (some of it), ``cleared`` (looked for and not found) or
            ``undetermined`` (the evidence is not enough).
        share: of the gap, what mending it returns, in [0, 1]; None where nothing was mended.
        interval: of the share, 95 %.
        evidence: sentences with numbers, the strongest first; never empty.
        next: the overrides of ``train.py`` that mend it (``["lr=1e-5"]``), or one sentence on what to do; None:
            nothing to do.
        numbers: what the probe measured, from which the verdict can be judged again.
    """

    cause: str
    status: Status
    share: float | None
    interval: tuple[float, float] | None
    evidence: list[str]
    next: list[str] | str | None
    numbers: Numbers = field(default_factory=dict)

    @property
    def convicted(self) -> bool:
        """Whether the cause is named."""
        return self.status in CONVICTED


@dataclass(frozen=True)
class Gap:
    """What there is to explain, as macro-F1.

    Attributes:
        chance: what predicting without looking scores.
        test: what the run scored on test.
        base: what its setting scores out of fold on the development clips (train and val), trained again.
        probe: what the best cheap probe scores on the same clips and folds.
        reference: the highest of ``probe`` and of what any intervention reached.
    """

    chance: float
    test: float
    base: float
    probe: float
    reference: float

    @property
    def observed(self) -> float:
        """The lower of test and development."""
        return min(self.test, self.base)

    @property
    def size(self) -> float:
        """``reference - observed``, at least 0."""
        return max(self.reference - self.observed, 0.0)


def share_of(effect: Mapping[str, Any], gap: Gap) -> tuple[float, tuple[float, float]]:
    """R = gain / gap with its interval, each within [-1, 1]; 0 where there is no gap.

    Args:
        effect: numbers with ``gain``, ``low`` and ``high`` (:func:`audioclf.diagnose.trial.effect`).
        gap: what there is to explain; its own uncertainty is left out.
    """

    def ratio(value: float) -> float:
        return max(-1.0, min(1.0, value / gap.size)) if gap.size > 0 else 0.0

    return ratio(effect["gain"]), (ratio(effect["low"]), ratio(effect["high"]))


def status_of(effect: Mapping[str, Any], gap: Gap, limits: Limits) -> Status:
    """The status of a cause whose repair had an effect.

    ``explains``: share at least ``explains`` and the interval above 0; ``contributes``: share at least
    ``contributes``, the interval above 0; both only where the gain is at least ``least_gain`` of F1. ``cleared``: the
    whole interval is below ``least_gain``, or below ``contributes`` of the gap. Else ``undetermined``.
    """
    share, (_, most) = share_of(effect, gap)
    if effect["gain"] >= limits["least_gain"] and effect["low"] > 0:
        if share >= limits["explains"]:
            return "explains"
        if share >= limits["contributes"]:
            return "contributes"
    small = effect["high"] < limits["least_gain"] or most < limits["contributes"]
    return "cleared" if small else "undetermined"


def change_of(effect: Mapping[str, Any]) -> str:
    """An effect in words: ``F1 0.11 -> 0.60, +0.49 [+0.41, +0.54]``."""
    return (
        f"F1 {effect['before']:.2f} -> {effect['after']:.2f}, "
        f"{effect['gain']:+.2f} [{effect['low']:+.2f}, {effect['high']:+.2f}]"
    )


@functools.cache
def _thresholds() -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load(THRESHOLDS.read_text(encoding="utf-8"))
    return content


def limits_of(cause: str, thresholds: Mapping[str, Any] | None = None) -> dict[str, float]:
    """The thresholds of one cause: the shared ones, and its own over them.

    Args:
        cause: the probe's name.
        thresholds: the content of ``thresholds.yaml``; None: the shipped file.
    """
    content = _thresholds() if thresholds is None else thresholds
    return {**content["all"], **(content.get(cause) or {})}
