"""The learning rate is too high for the scale of the input."""

from __future__ import annotations

from typing import TYPE_CHECKING

from audioclf.diagnose.probe import Probe
from audioclf.diagnose.repair import gained, try_repair, words
from audioclf.diagnose.scale import first_jump, input_sizes, lr_for
from audioclf.diagnose.verdict import Gap, Limits, Numbers, Verdict
from audioclf.runs.identity import short
from audioclf.training.preflight import HEALTHY_JUMP

if TYPE_CHECKING:
    from audioclf.diagnose.lab import Lab

JUMP = 4.0  # more than ten times what the defaults have
UNNORMALISED = 10.0  # times a healthy jump: without normalisation most of the input is an offset, which carries nothing


class LrTooHigh(Probe):
    """Adam's first step moves an activation by up to lr * sum |x|: far above 1, units die and nothing is learnt."""

    cause = "lr_too_high"
    title = "the learning rate is too high"
    order = 31

    def examine(self, lab: Lab) -> Numbers:
        """Lowers lr to where the first step is of the order of the initial activations."""
        jump = first_jump(lab.config, lab.pool)
        lab.note("input_size", input_sizes(lab.config, lab.pool, lab.everything.features))
        numbers: Numbers = {"nominated": jump > JUMP, "jump": jump, "lr": lab.config.lr, "train_f1": lab.base.train_f1}
        if not numbers["nominated"]:
            return numbers
        larger = UNNORMALISED if lab.config.features.normalisation == "none" else 1.0
        lr = lr_for(lab.config, lab.pool, HEALTHY_JUMP * larger)
        return numbers | try_repair(lab, "lower_lr", {"lr": lr})

    def judge(self, numbers: Numbers, gap: Gap, limits: Limits) -> Verdict:
        """By the effect of the lower learning rate, against as many epochs at the run's."""
        said = f"Adam's first step moves an activation by {format(numbers['jump'], ',.0f' if numbers['jump'] >= 10 else '.2g')} (about {HEALTHY_JUMP:g} is healthy)"
        if not numbers["nominated"]:
            return self.cleared(numbers, said)
        lr = numbers["repair"]["lr"]
        evidence = [gained(numbers, f"lr={short(lr)} instead of {short(numbers['lr'])}"), said]
        return self.convict(numbers, gap, limits, evidence, words(numbers["repair"]))
