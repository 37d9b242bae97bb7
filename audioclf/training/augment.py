"""Augmentation: training batches are varied at random, on their device, just before the network sees them.

Only :meth:`~audioclf.training.module.ClassifierModule.training_loss` calls it: val, test and prediction do not. All
numbers come from torch's generators, which are seeded for each epoch, so that a resumed run draws what an uninterrupted
one does.
"""

from __future__ import annotations

import torch
from torch.nn import functional
from torchaudio.functional import mask_along_axis_iid

from audioclf.config import AugmentConfig, FeaturesConfig, MelConfig
from audioclf.features.mel import POWER_FLOOR
from audioclf.features.normalise import Standardise

MASKS = 2  # of time and of bands each, as in SpecAugment's policies (Park et al., 2019) and PANNs
MOST_MASKED = 0.5  # of an axis, by one mask


class Augment:
    """What the ``augment`` section asks for.

    Args:
        config: the ``augment`` section.
        features: the ``features`` section.
        num_classes: classes K.
    """

    def __init__(self, config: AugmentConfig, features: FeaturesConfig, num_classes: int) -> None:
        self.config, self.features, self.num_classes = config, features, num_classes

    @property
    def on(self) -> bool:
        """Whether there is anything to do."""
        return any(self.config.on)

    def __call__(
        self, features: torch.Tensor, targets: torch.Tensor, standardise: Standardise
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Varies a batch.

        Args:
            features: as the front-end gives them, ``[B, *shape]``.
            targets: class indices ``[B]``, or float ``[B, K]``.
            standardise: the run's normalisation.

        Returns:
            What the network is given ``[B, *shape]``, and its targets: float ``[B, K]`` where clips are mixed, else
            as they were.
        """
        config = self.config
        if config.time_shift:
            features = _shifted(features, config.time_shift)
        if config.gain:
            features = self._louder(features)
        features = standardise(features)
        if config.noise:
            spread = features.flatten(1).std(1, correction=0)
            scale = config.noise * torch.rand(len(features), device=features.device) * spread
            features = features + _each(scale, features) * torch.randn_like(features)
        if config.time_mask or config.freq_mask:
            # Normalised features have mean 0; others are blanked with the mean that they have.
            blank = 0.0 if self.features.normalisation != "none" else float(features.mean())
            for axis, width in ((-1, config.time_mask), (-2, config.freq_mask)):
                for _ in range(MASKS if width else 0):
                    features = mask_along_axis_iid(features, width, blank, features.ndim + axis, MOST_MASKED)
        if config.mixup:
            features, targets = self._mixed(features, targets)
        return features, targets

    def _louder(self, features: torch.Tensor) -> torch.Tensor:
        """A gain for each clip, in the features' own unit; silence stays silence."""
        decibels = _each(self.config.gain * (2 * torch.rand(len(features), device=features.device) - 1), features)
        if isinstance(self.features, MelConfig) and self.features.scale == "db":
            floor = 10 * torch.log10(torch.tensor(POWER_FLOOR, device=features.device))
            return torch.where(features > floor, (features + decibels).clamp(min=floor), features)
        return features * 10 ** (decibels / (10 if isinstance(self.features, MelConfig) else 20))

    def _mixed(self, features: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Each clip with a share of another (Zhang et al., 2018), the smaller one: its own label stays the first."""
        alpha = torch.full((len(features),), self.config.mixup, device=features.device)
        share = torch.distributions.Beta(alpha, alpha).sample()
        share = torch.maximum(share, 1 - share)
        other = torch.randperm(len(features), device=features.device)
        if not targets.is_floating_point():
            targets = functional.one_hot(targets, self.num_classes).to(features.dtype)
        return tuple(_each(share, x) * x + _each(1 - share, x) * x[other] for x in (features, targets))  # type: ignore[return-value]


def _shifted(features: torch.Tensor, most: float) -> torch.Tensor:
    """Each clip rolled along its last axis by at most a share of its length; what leaves at one end enters at the other."""
    length = features.shape[-1]
    by = (most * length * (2 * torch.rand(len(features), device=features.device) - 1)).long()
    where = (torch.arange(length, device=features.device) - by[:, None]) % length
    return features.gather(-1, _each(where, features, 2).expand_as(features))


def _each(values: torch.Tensor, features: torch.Tensor, own: int = 1) -> torch.Tensor:
    """Values of each clip ``[B]`` (or ``[B, n]``, ``own`` = 2), with axes of 1 so that they go with features ``[B, *shape]``."""
    return values.reshape(len(values), *[1] * (features.ndim - own), *values.shape[1:])
