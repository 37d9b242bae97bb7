"""Most predictions are one class: a symptom that other causes explain."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from audioclf.diagnose.probe import Probe
from audioclf.diagnose.verdict import Gap, Limits, Numbers, Verdict

if TYPE_CHECKING:
    from audioclf.diagnose.lab import Lab


class Collapsed(Probe):
    """Says so; convicts nobody, since no repair is of this symptom itself."""

    cause = "collapsed"
    title = "most predictions are one class"
    order = 5

    def examine(self, lab: Lab) -> Numbers:
        """Counts the run's test predictions."""
        predicted, pool = lab.predicted(lab.test), lab.test
        counts = np.bincount(predicted, minlength=pool.num_classes)
        most = int(counts.argmax())
        return {
            "symptom": True,
            "class": pool.classes[most],
            "share": float(counts[most] / len(pool)),
            "true_share": float(pool.counts().max() / len(pool)),
            "predicted_classes": int((counts > 0).sum()),
            "classes": pool.num_classes,
        }

    def judge(self, numbers: Numbers, gap: Gap, limits: Limits) -> Verdict:
        """Named where half of the predictions are one class and no class is so frequent."""
        share = numbers["share"]
        said = f"{share:.0%} of the test predictions are {numbers['class']}"
        if share >= limits["share"] and share >= 2 * numbers["true_share"]:
            return self.undetermined(numbers, said)
        return self.cleared(numbers, f"{numbers['predicted_classes']} of {numbers['classes']} classes are predicted")
