"""The network has too few units to learn what it is shown."""

from __future__ import annotations

from typing import TYPE_CHECKING

from audioclf.config import AudioClassifierConfig
from audioclf.diagnose.probe import Probe
from audioclf.diagnose.repair import gained, try_repair, words
from audioclf.diagnose.verdict import Gap, Limits, Numbers, Verdict

if TYPE_CHECKING:
    from audioclf.diagnose.lab import Lab

LEARNT = 0.95  # train F1 from which a larger network has nothing to add on the clips that are learnt
HIDDEN = 512  # the default
SMALL = 4  # times the classes: fewer hidden units are few


class ModelTooSmall(Probe):
    """Few hidden units and a train F1 that stays low nominate; the default's width convicts."""

    cause = "model_too_small"
    title = "the network is too small"
    order = 34

    def examine(self, lab: Lab) -> Numbers:
        """Widens the hidden layer to the default's."""
        model = lab.config.model
        hidden = model.hidden if isinstance(model, AudioClassifierConfig) else None
        few = hidden is not None and hidden <= SMALL * lab.pool.num_classes
        train_f1 = lab.base.train_f1
        numbers: Numbers = {
            "nominated": few and not train_f1 >= LEARNT,
            "hidden": hidden,
            "train_f1": train_f1,
        }
        if numbers["nominated"]:
            numbers |= try_repair(lab, "wider", {"model.hidden": HIDDEN})
        return numbers

    def judge(self, numbers: Numbers, gap: Gap, limits: Limits) -> Verdict:
        """By the effect of more units."""
        units = "no hidden layer" if numbers["hidden"] is None else f"{numbers['hidden']} hidden units"
        if not numbers["nominated"]:
            return self.cleared(numbers, units)
        evidence = [gained(numbers, f"{HIDDEN} hidden units instead of {numbers['hidden']}")]
        return self.convict(numbers, gap, limits, evidence, words(numbers["repair"]))
