"""The score itself misleads."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from sklearn.metrics import f1_score

from audioclf.diagnose.probe import Probe
from audioclf.diagnose.verdict import Gap, Limits, Numbers, Status, Verdict

if TYPE_CHECKING:
    from audioclf.diagnose.lab import Lab

FEW = 2  # test clips of a class, at most, whose F1 is a toss of a coin


class Metric(Probe):
    """The same predictions by other averages: nothing is trained."""

    cause = "metric"
    title = "the score itself misleads"
    order = 20

    def examine(self, lab: Lab) -> Numbers:
        """Scores test by every usual average."""
        result = lab.run.result
        found, per_class = result["test"], result["test"]["per_class"]
        train = {name: part["support"] for name, part in result["train"]["per_class"].items()}
        usual = float(np.median(list(train.values())))
        tossed = [
            name for name, part in per_class.items() if 0 < part["support"] <= FEW and train[name] >= usual / 2
        ]  # rare in test alone: of a class that is rare in training the low F1 is real
        steady = [part["f1"] for name, part in per_class.items() if part["support"] > 0 and name not in tossed]
        targets, predicted, size = lab.test.targets, lab.predicted(lab.test), lab.config.batch_size
        batches = [
            float(f1_score(targets[i : i + size], predicted[i : i + size], average="macro", zero_division=0))
            for i in range(0, len(targets), size)
        ]
        absent, classes = int(found["classes_without_support"]), len(per_class)
        return {
            "nominated": bool(tossed) and bool(steady),
            "macro": found["f1_macro"],
            "micro": found["accuracy"],
            "weighted": found["f1_weighted"],
            "absent": absent,
            "absent_as_zero": found["f1_macro"] * (classes - absent) / classes,
            "batch_mean": float(np.mean(batches)),
            "steady": float(np.mean(steady)) if steady else None,
            "tossed": tossed,
            "interval": result["interval"]["f1_macro"],
            "chance_p": result["chance"]["permutation_p"],
            "clips": sum(part["support"] for part in per_class.values()),
        }

    def judge(self, numbers: Numbers, gap: Gap, limits: Limits) -> Verdict:
        """Convicts where classes of one or two test clips, and nothing else, pull the macro average down."""
        low, high = numbers["interval"]
        evidence = [
            f"macro-F1 {numbers['macro']:.2f} [{low:.2f}, {high:.2f}] on {numbers['clips']} clips; "
            f"accuracy (micro) {numbers['micro']:.2f}, weighted {numbers['weighted']:.2f}, "
            f"mean over batches {numbers['batch_mean']:.2f}",
        ]
        if numbers["absent"]:
            evidence.append(
                f"{numbers['absent']} classes have no test clips and are left out; "
                f"counted as zero they would make it {numbers['absent_as_zero']:.2f}"
            )
        if numbers["chance_p"] > limits["chance_p"]:
            evidence.append(f"predictions shuffled among the clips score as much (p = {numbers['chance_p']:.2f})")
        if numbers["nominated"]:
            gain = numbers["steady"] - numbers["macro"]
            tossed = ", ".join(numbers["tossed"])
            evidence.insert(
                0, f"without the classes of {FEW} test clips or fewer ({tossed}) F1 is {numbers['steady']:.2f}"
            )
            if min(gain, numbers["micro"] - numbers["macro"]) >= limits["misleads"]:
                share = min(1.0, gain / gap.size) if gap.size > 0 else 1.0
                status: Status = "explains" if share >= limits["explains"] else "contributes"
                mend = f"more test clips of {tossed}; until then read accuracy {numbers['micro']:.2f} beside macro-F1"
                return Verdict(self.cause, status, share, None, evidence, mend, numbers)
        if high - low > limits["wide"]:
            return self.undetermined(numbers, f"test is too small to say how good it is: {evidence[0]}", *evidence[1:])
        if numbers["chance_p"] > limits["chance_p"] and numbers["absent"]:
            return self.undetermined(numbers, "test cannot tell this run from guessing", *evidence)
        return self.cleared(numbers, *evidence)
