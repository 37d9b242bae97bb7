"""Clips are silent or broken."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np

from audioclf.config import SPLITS
from audioclf.diagnose.levels import faults
from audioclf.diagnose.probe import Probe
from audioclf.diagnose.reference import score_probe
from audioclf.diagnose.trial import Recipe, level_of
from audioclf.diagnose.verdict import Gap, Limits, Numbers, Verdict, change_of
from audioclf.training.scores import DRAWS, IntArray, macro_f1

if TYPE_CHECKING:
    from audioclf.diagnose.lab import Lab

MEASURED = {
    "setting": "out of fold, trained without them",
    "probe": "a support vector machine out of fold, trained without them",
    "test": "the run's own test predictions",
}
FEWEST, SMALLEST = 2, 0.03  # clips, and share of them, that can cost a noticeable F1


class BadClips(Probe):
    """Finds what no model could read and leaves it out: of training, and of what is scored."""

    cause = "bad_clips"
    title = "clips are silent or broken"
    order = 10

    def examine(self, lab: Lab) -> Numbers:
        """Scores the run's test predictions, and the setting trained again, without the bad clips."""
        found = faults(lab.everything, lab.heard, lab.sha256s)
        lab.note("loudest_db", [heard.level.loudest_db for heard in lab.heard])
        lab.note("rms_db", [heard.level.rms_db for heard in lab.heard])
        lab.note("silent", [heard.level.silent for heard in lab.heard])
        lab.note("clipped", [heard.level.clipped for heard in lab.heard])
        lab.note("fault", found)
        bad, split = np.array([bool(fault) for fault in found]), np.array(lab.everything.split)
        labels = [lab.everything.classes[target] for target in lab.everything.targets]
        numbers: Numbers = {
            "faults": dict(Counter(filter(None, found))),
            "bad": {name: int((bad & (split == name)).sum()) for name in SPLITS},
            "clips": {name: int((split == name).sum()) for name in SPLITS},
            "by_class": dict(Counter(label for label, is_bad in zip(labels, bad, strict=True) if is_bad)),
            "share": float(bad.mean()),
        }
        pool, test = lab.pool, lab.test
        good, good_test = ~bad[split != "test"], ~bad[split == "test"]
        tried = {}
        if _matters(good) and good.any():
            columns = lab.probe_columns("pooled", pool)
            probe = lab.keep(score_probe("probe_good_clips", columns, pool, lab.fold, train_on=good))
            pairs = {
                "setting": (lab.base, lab.trial(Recipe("good_clips", train_on=good))),
                "probe": (lab.cheap("pooled"), probe),  # shows it where the setting learns nothing
            }
            for name, (before, after) in pairs.items():
                measured = without(pool.targets, before.predicted, after.predicted, pool.groups, pool.num_classes, good)
                unscored = macro_f1(pool.targets[good], before.predicted[good], pool.num_classes)
                tried[name] = measured | {"trials": [before.name, after.name], "unscored": unscored}
        if _matters(good_test) and good_test.any():
            predicted = lab.predicted(test)
            tried["test"] = without(test.targets, predicted, predicted, test.groups, test.num_classes, good_test)
        numbers |= {"nominated": bool(tried), "tried": tried}
        if tried:
            numbers["where"] = max(tried, key=lambda name: tried[name]["low"])  # the surer one
            numbers["effect"] = tried[numbers["where"]]
        return numbers

    def judge(self, numbers: Numbers, gap: Gap, limits: Limits) -> Verdict:
        """By what leaving the bad clips out returns."""
        total = sum(numbers["bad"].values())
        kinds = ", ".join(f"{count} {fault}" for fault, count in numbers["faults"].items())
        said = f"{total} of {sum(numbers['clips'].values())} clips are bad" + (f" ({kinds})" if kinds else "")
        if not numbers["nominated"]:
            return self.cleared(numbers, said)
        said += ": " + ", ".join(f"{numbers['bad'][name]} of {numbers['clips'][name]} in {name}" for name in SPLITS)
        found, measured = numbers["effect"], MEASURED[numbers["where"]]
        evidence = [
            f"without them {change_of(found)} ({measured})",
            said,
        ]
        if "unscored" in found:
            evidence.append(f"F1 {found['unscored']:.2f} where they are trained on but not scored")
        mend = (
            f"listen to the {total} clips that diagnosis/clips.parquet names in its column fault; "
            "bring their audio again, or leave them out of the table"
        )
        return self.convict(numbers, gap, limits, evidence, mend)


def _matters(good: np.ndarray) -> bool:
    """Whether the clips that are not good ``[N]`` are enough to cost a noticeable F1."""
    return int((~good).sum()) >= FEWEST and float((~good).mean()) >= SMALLEST


def without(
    targets: IntArray, before: IntArray, after: IntArray, groups: list[str], num_classes: int, good: np.ndarray
) -> Numbers:
    """Macro-F1 of ``before`` over all clips, of ``after`` over the good ones, and a bootstrap that draws recordings.

    The bad clips count before, because they are part of the F1 that is to be explained, and cannot be right after.

    Args:
        targets: true classes ``[N]``.
        before: predicted with the bad clips ``[N]``.
        after: predicted without them ``[N]``.
        groups: the recording of each clip.
        num_classes: classes K of the label map.
        good: which clips are, bool ``[N]``.
    """

    def gain(weights: np.ndarray) -> tuple[float, float]:
        return macro_f1(targets, before, num_classes, weights), macro_f1(targets, after, num_classes, weights * good)

    names, group = np.unique(np.asarray(groups), return_inverse=True)
    rng = np.random.default_rng(0)
    gains = np.empty(DRAWS)
    for i in range(DRAWS):
        drawn = np.bincount(rng.integers(len(names), size=len(names)), minlength=len(names))
        first, second = gain(drawn[group].astype(float))
        gains[i] = second - first
    level = level_of(len(MEASURED))
    low, high = np.quantile(gains, [(1 - level) / 2, (1 + level) / 2])
    first, second = gain(np.ones(len(targets)))
    return {"before": first, "after": second, "gain": second - first, "low": float(low), "high": float(high)}
