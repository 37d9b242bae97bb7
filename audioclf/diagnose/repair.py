"""Repairs of a run's setting: overrides that change its training, and the trial that shows what they return."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from audioclf.diagnose.command import hydra_value
from audioclf.diagnose.trial import Recipe, Trial, effect
from audioclf.diagnose.verdict import Numbers

if TYPE_CHECKING:
    from audioclf.diagnose.lab import Lab

BRIEF = 250
"""Steps that show whether another setting learns."""
LONG = 50
"""Epochs that a repaired run is given: the default."""

Repair = Mapping[str, Any]
"""Dotted keys of the configuration and their values."""


def try_repair(lab: Lab, name: str, repair: Repair) -> Numbers:
    """Trains the run's setting with a repair, for at least :data:`BRIEF` steps, and without.

    Both are trained equally long, so that what the repair returns is not what more epochs would return.

    Returns:
        ``effect`` and ``repair``.
    """
    return {"effect": effect(lab.as_long, repaired(lab, name, repair)), "repair": dict(repair)}


def repaired(lab: Lab, name: str, repair: Repair) -> Trial:
    """The trial of a repair."""
    return lab.trial(Recipe(name, {"epochs": lab.epochs, **repair}))


def words(repair: Repair) -> list[str]:
    """A repair as overrides of ``train.py``: ``["lr=1e-5"]``."""
    return [f"{key}={hydra_value(value)}" for key, value in repair.items()]


def gained(numbers: Numbers, what: str) -> str:
    """One sentence: what the repair did."""
    found = numbers["effect"]
    return (
        f"{what}: F1 {found['before']:.2f} -> {found['after']:.2f}, "
        f"{found['gain']:+.2f} [{found['low']:+.2f}, {found['high']:+.2f}] out of fold"
    )
