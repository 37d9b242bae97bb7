"""The network is given features as they are, far from zero and far from unit size."""

from __future__ import annotations

from typing import TYPE_CHECKING

from audioclf.diagnose.probe import Probe
from audioclf.diagnose.repair import gained, try_repair, words
from audioclf.diagnose.verdict import Gap, Limits, Numbers, Verdict
from audioclf.features.normalise import suited

if TYPE_CHECKING:
    from audioclf.diagnose.lab import Lab


class NoNormalisation(Probe):
    """Without normalisation dB values of some -40 +- 20 reach the first layer: every step is dominated by the offset."""

    cause = "no_normalisation"
    title = "the features are not normalised"
    order = 30

    def examine(self, lab: Lab) -> Numbers:
        """Standardises each band with statistics of the training clips; the learning rate stays."""
        features = lab.pool.features
        flat = lab.everything.features.flatten(1).double()
        lab.note("feature_mean", flat.mean(1).tolist())
        lab.note("feature_std", flat.std(1, correction=0).tolist())
        numbers: Numbers = {
            "nominated": lab.config.features.normalisation == "none",
            "normalisation": lab.config.features.normalisation,
            "mean": float(features.mean()),
            "std": float(features.std()),
        }
        if numbers["nominated"]:
            numbers |= try_repair(lab, "normalise", {"features.normalisation": suited(lab.config.features)})
        return numbers

    def judge(self, numbers: Numbers, gap: Gap, limits: Limits) -> Verdict:
        """By the effect of normalising."""
        said = f"features as they are: mean {numbers['mean']:.3g}, standard deviation {numbers['std']:.3g}"
        if not numbers["nominated"]:
            return self.cleared(numbers, f"features.normalisation={numbers['normalisation']}")
        how = "normalised per band" if "per_band" in numbers["repair"].values() else "normalised"
        evidence = [gained(numbers, how), said]
        return self.convict(numbers, gap, limits, evidence, words(numbers["repair"]))
