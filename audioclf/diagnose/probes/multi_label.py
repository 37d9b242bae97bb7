"""Clips hold several classes, and one label was kept."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from audioclf.clips.formats import read_csv
from audioclf.config import CsvData, DataConfig, LinksData
from audioclf.diagnose import noise
from audioclf.diagnose.pool import Pool
from audioclf.diagnose.probe import Probe
from audioclf.diagnose.trial import paired
from audioclf.diagnose.verdict import Gap, Limits, Numbers, Verdict, change_of, limits_of
from audioclf.training.scores import IntArray

if TYPE_CHECKING:
    from audioclf.diagnose.lab import Lab


class MultiLabel(Probe):
    """Either the table gives clips several labels, or the sounds are mixtures of which the table names one part."""

    cause = "multi_label"
    title = "clips hold several classes, and one label was kept"
    order = 41

    def examine(self, lab: Lab) -> Numbers:
        """Counts any of a clip's labels as right; or, for mixtures, the two highest classes."""
        every = labels_of(lab.config.data, lab.everything)
        lab.note("labels", [[lab.everything.classes[i] for i in labels] for labels in every])
        given = [labels for labels, split in zip(every, lab.everything.split, strict=True) if split != "test"]
        several = sum(len(labels) > 1 for labels in given)
        numbers: Numbers = {"clips": len(given), "several": several}
        if several:
            after = lab.base.predicted.copy()
            for i, labels in enumerate(given):
                if after[i] in labels:
                    after[i] = lab.pool.targets[i]
            return numbers | {"effect": _effect(lab, after)}
        numbers["trust"] = noise.trust(lab)
        if mixed(numbers["trust"], limits_of(self.cause)):
            guessed = np.ptp(lab.base.logits, axis=1) > 0  # a diverged network's classes are all equal
            second = guessed & (noise.ranks(lab.base.logits, lab.pool.targets) <= 1)
            numbers["effect"] = _effect(lab, np.where(second, lab.pool.targets, lab.base.predicted))
        return numbers

    def judge(self, numbers: Numbers, gap: Gap, limits: Limits) -> Verdict:
        """By the table's own labels, or by the mixtures' symptoms and what the second class returns."""
        effect = numbers.get("effect")
        change = change_of(effect) if effect else ""
        if numbers["several"]:
            said = f"{numbers['several']} of {numbers['clips']} clips have several labels in the table"
            return self.convict(
                numbers,
                gap,
                limits,
                [f"counting any of them as right: {change}", said],
                "train on all labels of a clip (data.multi_label=keep loss=bce), or choose classes that do not occur "
                "together (data.classes): one label a clip cannot say what they hold",
            )
        trust = numbers["trust"]
        said = (
            f"{trust['differ']:.0%} of {trust['pairs']} pairs of clips of one recording have different labels, and yet "
            f"{trust['second']:.0%} of the labels are a probe's second class and only {trust['low']:.0%} in the "
            "lower half: the label is heard, beside another"
        )
        if effect and mixed(trust, limits):  # heard, but nothing that was mended shows it
            return self.undetermined(
                numbers,
                said,
                f"counting either of the two highest classes as right: {change}; listen to some clips: if two classes "
                "sound at once, label both and train on both (data.multi_label=keep loss=bce)",
            )
        return self.cleared(
            numbers,
            "no clip has several labels in the table",
            f"{trust['first']:.0%} of the labels are a probe's first class, {trust['second']:.0%} its second; "
            f"{trust['differ']:.0%} of {trust['pairs']} pairs of clips of one recording have different labels",
        )


def mixed(trust: Mapping[str, Any], limits: Limits) -> bool:
    """Whether labels change within recordings, as flipped ones do, but rank high, as flipped ones do not."""
    return bool(
        trust["classes"] >= limits["classes"]
        and trust["pairs"] >= limits["pairs"]
        and trust["differ"] >= limits["differ"]
        and trust["first"] <= limits["first"]
        and trust["second"] >= limits["second"]
        and trust["second"] >= limits["second_to_low"] * trust["low"]
    )


def labels_of(data: DataConfig, pool: Pool) -> list[list[int]]:
    """All labels that the table gives each clip, as classes of the label map; N lists, none empty."""
    if not isinstance(data, CsvData | LinksData):
        return [[int(target)] for target in pool.targets]
    clips, _, _ = read_csv(data)
    place = {name: i for i, name in enumerate(pool.classes)}
    all_of = {clip.id: [place[name] for name in clip.labels if name in place] for clip in clips}
    return [sorted({int(t), *all_of.get(clip.id, [])}) for clip, t in zip(pool.clips, pool.targets, strict=True)]


def _effect(lab: Lab, after: IntArray) -> Numbers:
    """Of counting more than the given label as right, on development clips; no network was mended by it."""
    pool = lab.pool
    return paired(pool.targets, lab.base.predicted, after, pool.groups, pool.num_classes) | {
        "trials": ["base"],
        "estimated": True,
    }
