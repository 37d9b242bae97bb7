"""The network learns its training clips by heart at the cost of others."""

from __future__ import annotations

from typing import TYPE_CHECKING

from audioclf.diagnose.probe import Probe
from audioclf.diagnose.repair import gained, words
from audioclf.diagnose.trial import BASE, Recipe, effect
from audioclf.diagnose.verdict import Gap, Limits, Numbers, Verdict

if TYPE_CHECKING:
    from audioclf.diagnose.lab import Lab

LEARNT = 0.7  # train F1 below which nothing was learnt by heart
FALL = 0.05  # of out-of-fold F1 from its peak


class Overfitting(Probe):
    """Out-of-fold F1 that falls from its peak nominates; early stopping or a penalty that brings it back convicts.

    The distance between train and test F1 does neither: it is above .3 in most healthy runs.
    """

    cause = "overfitting"
    title = "the network learns the training clips by heart"
    order = 33

    def examine(self, lab: Lab) -> Numbers:
        """Stops at the best epoch (which other folds choose); where the run does so already, adds a penalty."""
        base = lab.base
        peak = max(base.curve, key=lambda epoch: base.curve[epoch])
        last = max(base.curve)
        numbers: Numbers = {
            "train_f1": base.train_f1,
            "f1": base.f1,
            "peak_epoch": peak,
            "peak": base.curve[peak],
            "last_epoch": last,
            "last": base.curve[last],
        }
        numbers["nominated"] = base.train_f1 >= LEARNT and base.curve[peak] - base.curve[last] >= FALL
        if not numbers["nominated"]:
            return numbers
        if lab.config.trainer.select == "last":
            repair: dict[str, str | float] = {"trainer.select": "best"}
            found = effect(base, lab.keep(base.selecting("best")))
        else:
            repair = {"optimizer.weight_decay": 1e-3, "loss.label_smoothing": 0.1}
            found = lab.compare(Recipe(BASE), Recipe("regularised", repair))
        return numbers | {"effect": found, "repair": repair}

    def judge(self, numbers: Numbers, gap: Gap, limits: Limits) -> Verdict:
        """By the effect of stopping early, or of the penalty."""
        train, last = numbers["train_f1"], numbers["last"]
        if train is None or train < LEARNT:
            found = "nan" if train is None else f"{train:.2f}"
            return self.cleared(numbers, f"train F1 is {found}: what is not learnt is not learnt by heart either")
        fell = (
            f"out-of-fold F1 peaks at {numbers['peak']:.2f} (epoch {numbers['peak_epoch']}) "
            f"and is {last:.2f} at the end (epoch {numbers['last_epoch']})"
        )
        if not numbers["nominated"]:
            return self.cleared(numbers, f"{fell}: it does not fall; train F1 {train:.2f} alone proves nothing")
        evidence = [gained(numbers, f"trained with {' '.join(words(numbers['repair']))}"), fell]
        return self.convict(numbers, gap, limits, evidence, words(numbers["repair"]))
