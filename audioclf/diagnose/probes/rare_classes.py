"""Some classes have too few clips to be learnt, however they are weighted."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from audioclf.diagnose.held_out import in_split, lend
from audioclf.diagnose.probe import Probe
from audioclf.diagnose.trial import level_of
from audioclf.diagnose.verdict import Gap, Limits, Numbers, Verdict, change_of

if TYPE_CHECKING:
    from audioclf.diagnose.lab import Lab

RATIO = 4.0  # a rare class has this many times fewer clips than the largest
RECORDINGS = 6  # and at most so many recordings
REPEATS = 3


class RareClasses(Probe):
    """Lends the rare classes their val and test clips for training: if test rises, they lacked clips.

    Each test recording is scored by a model that has not heard it. Weighting or drawing (``class_imbalance``) cannot
    make up for sounds that were never heard.
    """

    cause = "rare_classes"
    title = "some classes have too few clips"
    order = 46

    def examine(self, lab: Lab) -> Numbers:
        """Trains with the other clips of the rare classes, too, and scores test."""
        clips, recordings = lab.sizes
        rare = (clips * RATIO <= clips.max()) & (recordings <= RECORDINGS)
        lent = in_split(lab, "val", "test") & rare[lab.whole.targets]
        names = np.asarray(lab.whole.classes)[rare].tolist()
        numbers: Numbers = {
            "nominated": bool(rare.any()),
            "rare": {name: int(n) for name, n in zip(names, clips[rare], strict=True)},
            "largest": int(clips.max()),
            "fewest": int(clips.min()),
            "lent": int(lent.sum()),
        }
        if numbers["nominated"]:
            numbers |= lend(lab, "test_with_rare", lent, folds=2, repeats=REPEATS, level=level_of(2))
        return numbers

    def judge(self, numbers: Numbers, gap: Gap, limits: Limits) -> Verdict:
        """By the effect of the lent clips on test."""
        if not numbers["nominated"]:
            return self.cleared(
                numbers, f"no class is rare: {numbers['fewest']} to {numbers['largest']} training clips"
            )
        rare, found = numbers["rare"], numbers["effect"]
        said = f"training clips of {', '.join(f'{n} ({k})' for n, k in rare.items())}; the largest class has {numbers['largest']}"
        evidence = [
            f"with {numbers['lent']} more clips of the rare classes, lent by val and test, {numbers['learner']}: "
            f"{change_of(found)} on test recordings that it has not heard",
            said,
        ]
        if numbers["lent"] < sum(rare.values()):
            return self.undetermined(numbers, f"only {numbers['lent']} clips to lend to the rare classes", said)
        return self.convict(numbers, gap, limits, evidence, f"more clips of {', '.join(rare)}")
