"""Repairs of a run's setting: overrides that change its training, and the trial that shows what they return."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from audioclf.diagnose.command import hydra_value
from audioclf.diagnose.trial import Recipe
from audioclf.diagnose.verdict import Numbers, change_of

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
        ``effect``, ``repair`` and ``trained_epochs`` of both.
    """
    found = lab.compare(lab.unchanged, changed(lab, name, repair))
    return {"effect": found, "repair": dict(repair), "trained_epochs": lab.epochs}


def changed(lab: Lab, name: str, repair: Repair) -> Recipe:
    """The recipe of a repair, as long as :attr:`Lab.unchanged`."""
    return Recipe(name, {"epochs": lab.epochs, **repair})


def words(repair: Repair) -> list[str]:
    """A repair as overrides of ``train.py``: ``["lr=1e-5"]``."""
    return [f"{key}={hydra_value(value)}" for key, value in repair.items()]


def gained(numbers: Numbers, what: str) -> str:
    """One sentence: what the repair did."""
    epochs = f", both trained for {numbers['trained_epochs']} epochs" if "trained_epochs" in numbers else ""
    seeds = f", {numbers['effect']['seeds']} seeds" if "seeds" in numbers["effect"] else ""
    return f"{what}: {change_of(numbers['effect'])} out of fold{epochs}{seeds}"
