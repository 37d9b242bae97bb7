"""What could have been seen before a finished run began."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import torch

from audioclf.diagnose.levels import faults
from audioclf.features.normalise import Standardise
from audioclf.training.module import ClassifierModule
from audioclf.training.preflight import LOUD_SHARE, Check
from audioclf.training.preflight import preflight as look

if TYPE_CHECKING:
    from audioclf.diagnose.lab import Lab


def preflight(lab: Lab) -> list[Check]:
    """All checks, the dear ones too, on the weights that the run began with; some seconds with the largest models."""
    config, data = lab.config, lab.data
    shape = data.front_end.output_shape
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        standardise = Standardise.fit(config.features.normalisation, data.train_batches(), shape, config.features.axes)
        module = ClassifierModule(config.model_dump(), data.classes, shape, standardise)
    return [*look(module, data, thorough=True), broken_clips(lab), shared_sound(lab)]


def broken_clips(lab: Lab) -> Check:
    """Clips that are silent, clipped, nothing but noise, constant, or a clip of another class."""
    found = Counter(fault for fault in faults(lab.everything, lab.heard, lab.sha256s) if fault)
    share = found.total() / len(lab.everything)
    said = ", ".join(f"{count} {fault}" for fault, count in found.most_common()) or "none"
    return Check(
        name="broken_clips",
        value=share,
        expected="0",
        loud=share > LOUD_SHARE,
        sentence=f"clips that are silent or broken: {said}",
        next="column fault of diagnosis/clips.parquet names them" if found else None,
    )


def shared_sound(lab: Lab) -> Check:
    """Near-duplicates across splits, by audio fingerprint."""
    split = lab.everything.split
    pairs = [pair for pair in lab.twins if split[pair[0]] != split[pair[1]]]
    share = len({place for pair in pairs for place in pair}) / len(split)
    return Check(
        name="shared_sound",
        value=share,
        expected="0",
        loud=share > LOUD_SHARE,
        sentence=f"pairs of clips in different splits that share sound: {len(pairs)}",
        next="give the clips of one recording one group" if pairs else None,
    )
