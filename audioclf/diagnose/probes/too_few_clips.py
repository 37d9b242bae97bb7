"""There are too few clips of every class."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from audioclf.diagnose.held_out import in_split, lend, sizes
from audioclf.diagnose.probe import Probe
from audioclf.diagnose.verdict import Gap, Limits, Numbers, Verdict

if TYPE_CHECKING:
    from audioclf.diagnose.lab import Lab

RECORDINGS = 5  # that three classes of four have in training, at most; healthy ones have 7 and more
MOST = 0.75  # of the classes have as few: where half of them do, that is imbalance
FOLDS = 4
REPEATS = 2


class TooFewClips(Probe):
    """The learning curve, upwards: trains on val and most of test as well, and scores the rest of test."""

    cause = "too_few_clips"
    title = "there are too few clips to learn from"
    order = 40
    trains = True

    def examine(self, lab: Lab) -> Numbers:
        """Compares what training alone gives with what all clips give, by the run's setting and by a cheap probe."""
        clips, recordings = sizes(lab.whole)
        numbers: Numbers = {
            "nominated": bool(np.quantile(recordings, MOST) <= RECORDINGS),
            "clips": float(np.median(clips)),
            "recordings": float(np.median(recordings)),
            "classes": lab.whole.num_classes,
            "clips_in_all": float(np.median(lab.whole.counts())),
        }
        if numbers["nominated"]:
            numbers |= lend(lab, "test_with_rest", in_split(lab, "val", "test"), folds=FOLDS, repeats=REPEATS)
        return numbers

    def judge(self, numbers: Numbers, gap: Gap, limits: Limits) -> Verdict:
        """By the effect of more clips on test."""
        said = (
            f"a class has {numbers['clips']:.0f} training clips of {numbers['recordings']:.0f} recordings (median of "
            f"{numbers['classes']} classes)"
        )
        if not numbers["nominated"]:
            return self.cleared(numbers, said)
        found = numbers["effect"]
        evidence = [
            f"trained on val and the rest of test as well ({numbers['clips_in_all']:.0f} clips of a class in all), {numbers['learner']} "
            f"goes from F1 {found['before']:.2f} to {found['after']:.2f} on test "
            f"({found['gain']:+.2f} [{found['low']:.2f}, {found['high']:.2f}])",
            said,
        ]
        mend = "more recordings of every class, at least ten each" + (
            ", or fewer classes (data.classes)" if numbers["classes"] > 10 else ""
        )
        return self.convict(numbers, gap, limits, evidence, mend)
