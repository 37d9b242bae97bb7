"""What could have been seen before a finished run began."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from audioclf.features.normalise import Standardise
from audioclf.training.module import ClassifierModule
from audioclf.training.preflight import Check
from audioclf.training.preflight import preflight as look

if TYPE_CHECKING:
    from audioclf.diagnose.lab import Lab


def preflight(lab: Lab) -> list[Check]:
    """All checks, the dear ones too, on the weights that the run began with; some seconds with the largest models."""
    config, data = lab.config, lab.data
    shape = data.front_end.output_shape
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        standardise = Standardise.fit(config.features.normalisation, data.train_batches(), shape)
        module = ClassifierModule(config.model_dump(), data.classes, shape, standardise)
    return look(module, data, thorough=True)
