"""A learnt mixture of an encoder's layers."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import nn


class LayerMix(nn.Module):
    """The weighted sum of layers, before any model (Peters et al., 2018; SUPERB: Yang et al., 2021).

    Args:
        input_shape: ``(L, *shape)``, L layers.
        model: makes the network from the shape of one layer.
    """

    def __init__(self, input_shape: Sequence[int], model: Callable[[tuple[int, ...]], nn.Module]) -> None:
        super().__init__()
        layers, *shape = input_shape
        self.scores = nn.Parameter(torch.zeros(layers))  # all alike at first
        self.model = model(tuple(shape))

    @property
    def weights(self) -> torch.Tensor:
        """Of the layers ``[L]``, > 0, sum 1."""
        return self.scores.softmax(0)

    def embed(self, features: torch.Tensor) -> torch.Tensor:
        """Features ``[B, L, *shape]`` → what the network makes of their mixture."""
        embedding: torch.Tensor = self.model.embed(self._mix(features))  # type: ignore[operator]
        return embedding

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Features ``[B, L, *shape]`` → logits ``[B, K]``."""
        logits: torch.Tensor = self.model(self._mix(features))
        return logits

    def _mix(self, features: torch.Tensor) -> torch.Tensor:
        return torch.einsum("l,bl...->b...", self.weights, features)
