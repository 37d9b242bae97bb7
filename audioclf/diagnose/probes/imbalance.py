"""Frequent classes drown the rare ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

from audioclf.diagnose.held_out import in_split, score_test
from audioclf.diagnose.probe import Probe
from audioclf.diagnose.repair import Repair, words
from audioclf.diagnose.trial import effect
from audioclf.diagnose.verdict import Gap, Limits, Numbers, Verdict, change_of

if TYPE_CHECKING:
    from audioclf.diagnose.lab import Lab

RATIO = 4.0  # of the largest class to the smallest; 2:1 is harmless (measured: drawing equally changes nothing)
MEND: Repair = {"sampler": "balanced"}
REPEATS = 3  # seeds: a few rare clips are learnt differently each time


class Imbalance(Probe):
    """Drawing every class equally often mends what imbalance alone does; what is left is scarcity."""

    cause = "class_imbalance"
    title = "frequent classes drown the rare ones"
    order = 45

    def examine(self, lab: Lab) -> Numbers:
        """Draws the training clips of each class equally often, and scores test."""
        clips, _ = lab.sizes
        ratio = float(clips.max() / max(clips.min(), 1))
        numbers: Numbers = {
            "nominated": ratio >= RATIO and lab.config.sampler != "balanced",
            "sampler": lab.config.sampler,
            "ratio": ratio,
            "clips": dict(zip(lab.whole.classes, clips.tolist(), strict=True)),
        }
        if numbers["nominated"]:
            train = in_split(lab, "train")
            before = score_test(lab, f"test_from_train_network_{REPEATS}", train, repeats=REPEATS)
            after = score_test(lab, "test_from_train_balanced", train, repeats=REPEATS, overrides=MEND)
            numbers["effect"] = effect(before, after)
        return numbers

    def judge(self, numbers: Numbers, gap: Gap, limits: Limits) -> Verdict:
        """By the effect of balanced drawing on test."""
        clips = numbers["clips"]
        least, most = min(clips, key=clips.__getitem__), max(clips, key=clips.__getitem__)
        said = f"training clips: {clips[most]} of {most}, {clips[least]} of {least} ({numbers['ratio']:.0f} to 1)"
        if not numbers["nominated"]:
            drawn = ["drawn equally often already (sampler=balanced)"] if numbers.get("sampler") == "balanced" else []
            return self.cleared(numbers, said, *drawn)
        found = numbers["effect"]
        evidence = [
            f"every class drawn equally often in training: {change_of(found)} on test, {REPEATS} seeds",
            f"{said}; what that leaves is scarcity, which more clips mend ({least} first)",
        ]
        return self.convict(numbers, gap, limits, evidence, words(MEND))
