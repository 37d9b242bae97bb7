"""Normalisation with statistics of the training split."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch

from audioclf.config import Axes, FeaturesConfig

MIN_RATIO = 1e-4  # of the median deviation: what varies less counts as constant; a text's is 1/400 of a dB mel's
RESOLUTION = 1e-6  # of a mean: what varies less varies by rounding (float32: 6e-8 a step)


def suited(features: FeaturesConfig) -> str:
    """What features of this kind are best normalised by: their own default; of raw samples all together."""
    default = type(features).model_fields["normalisation"].default
    return "global" if default == "none" else str(default)


class Standardise(torch.nn.Module):
    """``(x - mean) / std`` with constants that travel with the model's weights.

    Args:
        mean: broadcastable to one clip's features.
        std: likewise, > 0.
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, mean: torch.Tensor, std: torch.Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Normalised features, ``[B, *shape]`` like its input."""
        return (features - self.mean) / self.std

    @classmethod
    def identity(cls, kind: str, shape: tuple[int, ...], axes: Axes = ("band", "time")) -> Standardise:
        """A module of the right shape that changes nothing: to be filled from a checkpoint, or for ``none``."""
        size = _size(kind, shape, axes)
        return cls(torch.zeros(size), torch.ones(size))

    @classmethod
    def fit(
        cls, kind: str, batches: Iterable[torch.Tensor], shape: tuple[int, ...], axes: Axes = ("band", "time")
    ) -> Standardise:
        """Statistics of a training split, in one pass and in double precision.

        Args:
            kind: ``none`` (changes nothing), ``global`` (one mean and standard deviation) or ``per_band`` (one for
                each mel band, or each dimension of an embedding, of each layer: over time alone).
            batches: features ``[B, *shape]`` of the training split.
            shape: shape of one clip's features.
            axes: what its axes are.
        """
        if kind == "none":
            return cls.identity(kind, shape, axes)
        size = _size(kind, shape, axes)
        over = tuple(axis for axis, places in enumerate((1, *size)) if places == 1)
        count, mean, m2 = 0.0, torch.zeros(1, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)
        for batch in batches:  # Chan, Golub and LeVeque (1983): combine means and squared deviations of parts
            part = batch.double()
            n = part.numel() / math.prod(size)
            part_mean = part.mean(over)
            part_m2 = part.var(over, unbiased=False) * n
            delta, total = part_mean - mean, count + n
            mean = mean + delta * n / total
            m2 = m2 + part_m2 + delta**2 * count * n / total
            count = total
        std = (m2 / count).sqrt()
        layered = kind == "per_band" and axes[0] == "layer"  # each of which has its own unit
        std = torch.stack([scales(*each) for each in zip(std, mean, strict=True)]) if layered else scales(std, mean)
        return cls(mean.float().reshape(size), std.float().reshape(size))


def scales(std: torch.Tensor, mean: torch.Tensor) -> torch.Tensor:
    """Standard deviations to divide by: the band's own, and for one that is all but constant the median band's.

    Such a band then stays about constant, where its own would have blown it up. Features have units of their own (dB,
    powers, whatever an encoder gives), so no fixed floor would do. Where nothing varies at all it is 1.
    """
    varying = std > RESOLUTION * mean.abs()
    usual = std[varying].median() if varying.any() else std.new_ones(())
    return torch.where(varying & (std > MIN_RATIO * usual), std, usual)


def _size(kind: str, shape: tuple[int, ...], axes: Axes) -> tuple[int, ...]:
    """Shape of the statistics: 1 along each axis that they are taken over."""
    if kind != "per_band":
        return (1,) * len(shape)
    return tuple(1 if axis == "time" else places for axis, places in zip(axes, shape, strict=True))
