"""Training ended before the network had learnt: too few epochs, or too small a learning rate."""

from __future__ import annotations

from typing import TYPE_CHECKING

from audioclf.diagnose.probe import Probe
from audioclf.diagnose.repair import LONG, gained, words
from audioclf.diagnose.scale import first_jump, lr_for
from audioclf.diagnose.trial import BASE, Recipe
from audioclf.diagnose.verdict import Gap, Limits, Numbers, Verdict
from audioclf.runs.identity import short
from audioclf.training.preflight import HEALTHY_JUMP

if TYPE_CHECKING:
    from audioclf.diagnose.lab import Lab

LEARNT = 0.9  # train F1 from which more training has nothing to add on the clips that are learnt


class Undertrained(Probe):
    """Low train F1 and a loss near ln K nominate; more epochs, at a learning rate that moves, convict."""

    cause = "undertrained"
    title = "training ended too early, or its steps are too small"
    order = 32

    def examine(self, lab: Lab) -> Numbers:
        """Trains longer, and with larger steps where they are very small; never with smaller ones."""
        config, base = lab.config, lab.base
        jump = first_jump(config, lab.pool)
        numbers: Numbers = {
            "nominated": not base.train_f1 >= LEARNT,  # also where it is nan
            "train_f1": base.train_f1,
            "jump": jump,
            "lr": config.lr,
            "epochs": config.epochs,
        }
        if not numbers["nominated"]:
            return numbers
        repair = {"lr": lr_for(config, lab.pool)} if jump < HEALTHY_JUMP / 3 else {}
        longer = max(LONG, 2 * config.epochs)
        repair["epochs"] = longer if lab.cost_s(longer) < lab.left_s / 4 else max(lab.brief, config.epochs)
        # more epochs are the repair here, so it is held against the run's own number of them
        return numbers | {"effect": lab.compare(Recipe(BASE), Recipe("longer", repair)), "repair": repair}

    def judge(self, numbers: Numbers, gap: Gap, limits: Limits) -> Verdict:
        """By the effect of longer training."""
        said = f"train F1 {numbers['train_f1']:.2f} after {numbers['epochs']} epochs at lr={short(numbers['lr'])}"
        if not numbers["nominated"]:
            return self.cleared(numbers, f"{said}: what it was shown, it has learnt")
        repair = numbers["repair"]
        evidence = [gained(numbers, f"trained with {' '.join(words(repair))}"), said]
        return self.convict(numbers, gap, limits, evidence, words(repair))
