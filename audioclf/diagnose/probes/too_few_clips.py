"""There are too few clips of every class."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from audioclf.diagnose.held_out import in_split, lend, read
from audioclf.diagnose.probe import Probe
from audioclf.diagnose.trial import Trial, effect, folds_of, level_of
from audioclf.diagnose.verdict import Gap, Limits, Numbers, Verdict, change_of

if TYPE_CHECKING:
    from audioclf.diagnose.lab import Lab

RECORDINGS = 5  # that three classes of four have in training, at most; healthy ones have 7 and more
MOST = 0.75  # of the classes have as few: where half of them do, that is imbalance
FOLDS = 4
REPEATS = 2
CURVE_FOLDS = 5
DRAWS = 3  # of the few clips


class TooFewClips(Probe):
    """The learning curve, upwards, in two ways; both show what the next clips would give.

    The run's setting, trained on val and most of test as well, scores the rest of test. And a cheap probe scores all
    clips out of fold, trained on as many clips of a class as the run had, and on all of the other folds: it is steadier,
    as it scores every clip, and no learning rate can spoil it.
    """

    cause = "too_few_clips"
    title = "there are too few clips to learn from"
    order = 40

    def examine(self, lab: Lab) -> Numbers:
        """Compares what training alone gives with what all clips give, by the run's setting and by a cheap probe."""
        clips, recordings = lab.sizes
        numbers: Numbers = {
            "nominated": bool(np.quantile(recordings, MOST) <= RECORDINGS),
            "clips": float(np.median(clips)),
            "recordings": float(np.median(recordings)),
            "classes": lab.whole.num_classes,
            "clips_in_all": float(np.median(lab.whole.counts())),
        }
        if numbers["nominated"]:
            level = level_of(3)
            lent = lend(lab, "test_with_rest", in_split(lab, "val", "test"), folds=FOLDS, repeats=REPEATS, level=level)
            curve = effect(*learning_curve(lab, round(float(np.median(clips)))), level)
            numbers |= {"lent": lent["effect"], "learner": lent["learner"], "curve": curve}
            numbers["effect"] = max(lent["effect"], curve, key=lambda found: found["low"])
        return numbers

    def judge(self, numbers: Numbers, gap: Gap, limits: Limits) -> Verdict:
        """By the effect of more clips on test."""
        said = (
            f"a class has {numbers['clips']:.0f} training clips of {numbers['recordings']:.0f} recordings (median of "
            f"{numbers['classes']} classes)"
        )
        if not numbers["nominated"]:
            return self.cleared(numbers, said)
        evidence = [
            f"a support vector machine trained on {numbers['clips']:.0f} clips of a class, and on up to "
            f"{numbers['clips_in_all']:.0f} of them, out of fold: {change_of(numbers['curve'])}",
            f"trained on val and the rest of test as well, {numbers['learner']}: {change_of(numbers['lent'])} on test",
            said,
        ]
        mend = "more recordings of every class, at least ten each" + (
            ", or fewer classes (data.classes)" if numbers["classes"] > 10 else ""
        )
        return self.convict(numbers, gap, limits, evidence, mend)


def learning_curve(lab: Lab, clips: int) -> tuple[Trial, Trial]:
    """Two points of a cheap probe's learning curve, on ``lab.whole`` out of fold, :data:`DRAWS` times.

    Args:
        lab: the bench.
        clips: of each class that the first one learns from; the second learns from all clips of the other folds.
    """
    whole = lab.whole
    columns, fold = lab.probe_columns("pooled", whole), folds_of(whole, CURVE_FOLDS)
    few, every = np.zeros((2, DRAWS, len(whole), whole.num_classes))
    for draw in range(DRAWS):
        rng = np.random.default_rng(draw)
        for number in sorted(set(fold.tolist())):
            inside, outside = rng.permutation(np.flatnonzero(fold != number)), np.flatnonzero(fold == number)
            of_class = [inside[whole.targets[inside] == k] for k in range(whole.num_classes)]
            drawn = np.concatenate([places[:clips] for places in of_class])
            for logits, places in ((few, drawn), (every, inside)):
                logits[draw, outside] = read(columns[places], whole.targets[places], columns[outside], whole)
    repeated = whole.take(np.tile(np.arange(len(whole)), DRAWS))
    first, second = (
        lab.keep(Trial(name, repeated, np.tile(fold, DRAWS), logits.reshape(len(repeated), -1)))
        for name, logits in ((f"curve_{clips}_clips", few), ("curve_all_clips", every))
    )
    return first, second
