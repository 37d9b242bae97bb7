"""Many labels are wrong."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from audioclf.diagnose import noise
from audioclf.diagnose.probe import Probe
from audioclf.diagnose.trial import Recipe, known
from audioclf.diagnose.verdict import Gap, Limits, Numbers, Verdict, limits_of

if TYPE_CHECKING:
    from audioclf.diagnose.lab import Lab

NAMED = 5  # suspects that the evidence names


class LabelNoise(Probe):
    """Labels far down in the ranks of a probe that never saw the clip, and clips of one recording that disagree."""

    cause = "label_noise"
    title = "many labels are wrong"
    order = 40

    def examine(self, lab: Lab) -> Numbers:
        """Estimates the share of flipped labels; where it is large, trains on labels that the probe corrected.

        The corrected label of a clip comes from a probe that was not trained on it, but was on clips that are held
        out when it is trained on: a mild leak, which corrects towards the given labels and so understates the noise.
        """
        limits = limits_of(self.cause)
        numbers = noise.trust(lab)
        numbers["rate_used"] = noise.flips_rate(numbers, limits["pairs"])
        if not suspected(numbers, limits):
            return numbers | {"nominated": False}
        numbers["found"] = noise.found_injected(lab, numbers["probe"])
        if numbers["found"] < limits["found"]:
            return numbers | {"nominated": False}
        probe, pool = lab.cheap(numbers["probe"]), lab.pool
        place = noise.ranks(probe.logits, pool.targets)
        heard = known(pool, probe.fold)  # a class that the probe was not trained on ranks last, right or wrong
        corrected = np.where(heard & (place >= 2), probe.predicted, pool.targets)
        low = heard & (place >= pool.num_classes / 2)
        relabelled = lab.trial(Recipe("relabelled", train_labels=corrected))
        after = max(lab.base, relabelled, key=lambda trial: trial.f1)
        effect = noise.on_clean_labels(lab.base, after, low, numbers["rate_used"])
        effect |= {"on_given": relabelled.f1, "estimated": True}
        return numbers | {"nominated": True, "effect": effect, "suspects": note_suspects(lab, numbers["probe"])}

    def judge(self, numbers: Numbers, gap: Gap, limits: Limits) -> Verdict:
        """By the share of flipped labels and by what true labels would score."""
        said = [
            f"{numbers['low']:.0%} of the labels rank in the lower half of a probe's classes "
            f"(F1 {numbers['f1']:.2f}): about {numbers['rate']:.0%} "
            f"[{numbers['rate_low']:.0%}, {numbers['rate_high']:.0%}] are wrong",
        ]
        if numbers["pairs"]:
            said.append(
                f"{numbers['differ']:.0%} of {numbers['pairs']} pairs of clips of one recording have different labels"
            )
        few = numbers["clips"] < max(limits["clips"], limits["clips_a_class"] * numbers["classes"])
        if few or numbers["classes"] < limits["classes"]:
            return self.undetermined(numbers, "too few clips or classes to tell a wrong label from a hard clip", *said)
        if not numbers["nominated"] or not suspected(numbers, limits) or numbers["found"] < limits["found"]:
            if numbers["rate_used"] < limits["rate"]:
                return self.cleared(numbers, *said)
            return self.undetermined(
                numbers, *said, "they may as well be hard, hold several classes, or all be labelled at random"
            )
        effect = numbers["effect"]
        said += [
            f"with true labels the setting would score about {effect['after']:.2f} instead of {effect['before']:.2f} "
            f"({effect['gain']:+.2f} [{effect['low']:.2f}, {effect['high']:.2f}]; estimated from the share)",
            f"trained on labels that the probe corrected: {effect['on_given']:.2f} on the given ones",
            f"labels flipped on purpose rank low {numbers['found']:.0%} more often",
        ]
        first = ", ".join(f"{s['clip']} ({s['label']}, sounds like {s['suggested']})" for s in numbers["suspects"])
        advice = f"listen to the clips with the highest label_suspect in diagnosis/clips.parquet first: {first}"
        verdict = self.convict(numbers, gap, limits, said, advice)
        if verdict.status == "cleared":  # the labels are suspect all the same
            return self.undetermined(numbers, *said)
        return verdict


def suspected(numbers: Mapping[str, Any], limits: Limits) -> bool:
    """Whether the symptoms say flipped labels, not hard clips (second place) and not several classes in a clip."""
    return bool(
        numbers["clips"] >= max(limits["clips"], limits["clips_a_class"] * numbers["classes"])
        and numbers["classes"] >= limits["classes"]
        and numbers["first"] >= 1 / numbers["classes"] + limits["above_chance"]
        and limits["rate"] <= numbers["rate_used"] <= limits["most"]
        and numbers["rate_low"] >= limits["rate_low"]
        and numbers["second"] < limits["second_to_low"] * numbers["low"]
    )


def note_suspects(lab: Lab, kind: str) -> list[dict[str, str]]:
    """Notes each clip's ``label_suspect`` in [0, 1] (1: its label is the probe's last guess) and ``label_suggested``.

    Returns:
        The most suspicious ones: ``clip``, ``label`` and ``suggested``.
    """
    whole = lab.whole
    trial = lab.cheap(kind, whole)
    place = noise.ranks(trial.logits, whole.targets)
    suspect = place / (whole.num_classes - 1)
    lab.note("label_suspect", suspect.tolist())
    lab.note("label_suggested", [whole.classes[i] for i in trial.predicted])
    worst = np.argsort(-(place + trial.probabilities.max(1)), kind="stable")[:NAMED]
    return [
        {
            "clip": whole.clips[i].id,
            "label": whole.classes[whole.targets[i]],
            "suggested": whole.classes[trial.predicted[i]],
        }
        for i in worst
    ]
