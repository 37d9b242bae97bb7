"""The learning rate is too high."""

from __future__ import annotations

from typing import TYPE_CHECKING

from audioclf.diagnose.probe import Probe
from audioclf.diagnose.scale import brief_epochs, first_jump, lr_for
from audioclf.diagnose.trial import Recipe, effect
from audioclf.diagnose.verdict import Gap, Limits, Numbers, Verdict

if TYPE_CHECKING:
    from audioclf.diagnose.lab import Lab

JUMP = 3.0  # a first step that moves an activation by more than this is suspect


class LrTooHigh(Probe):
    """Adam's first step moves every weight by lr, an activation by up to lr * sum |x|: far above 1, units die."""

    cause = "lr_too_high"
    title = "the learning rate is too high"
    order = 30
    trains = True

    def examine(self, lab: Lab) -> Numbers:
        """Lowers lr to where the first step is of the order of the initial activations."""
        jump = first_jump(lab.config, lab.pool)
        numbers: Numbers = {"nominated": jump > JUMP, "jump": jump, "lr": lab.config.lr}
        if numbers["nominated"]:
            lr = lr_for(lab.config, lab.pool)
            epochs = max(lab.config.epochs, brief_epochs(lab))
            after = lab.trial(Recipe("lower_lr", {"lr": lr, "epochs": epochs}))
            before = lab.trial(Recipe("as_long", {"epochs": epochs}))
            numbers |= {"effect": effect(before, after), "repair": {"lr": lr}}
        return numbers

    def judge(self, numbers: Numbers, gap: Gap, limits: Limits) -> Verdict:
        """By the effect of the lower learning rate, against the same number of epochs at the run's."""
        said = f"the first step moves an activation by {numbers['jump']:.3g}"
        if not numbers["nominated"]:
            return self.cleared(numbers, f"{said}: not too far")
        found, lr = numbers["effect"], numbers["repair"]["lr"]
        evidence = [
            f"lr={lr:g} instead of {numbers['lr']:g}: F1 {found['before']:.2f} -> {found['after']:.2f} "
            f"({found['gain']:+.2f} [{found['low']:.2f}, {found['high']:.2f}])",
            said,
        ]
        return self.convict(numbers, gap, limits, evidence, [f"lr={lr:g}"])
