"""The lab report's network."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import nn


class AudioClassifier(nn.Module):
    """Flatten → ``fc1`` → ReLU → ``fc2``.

    Args:
        input_shape: shape of one clip's features, e.g. ``(n_mels, target_length)``.
        num_classes: classes K.
        hidden: units of ``fc1``.
    """

    def __init__(self, input_shape: Sequence[int], num_classes: int, hidden: int = 512) -> None:
        super().__init__()
        self.fc1 = nn.Linear(math.prod(input_shape), hidden)
        self.relu = nn.ReLU()
        self.fc2 = nn.Linear(hidden, num_classes)

    def embed(self, features: torch.Tensor) -> torch.Tensor:
        """Features ``[B, *input_shape]`` → the activations behind ``fc1``, ``[B, hidden]``, >= 0."""
        activations: torch.Tensor = self.relu(self.fc1(features.flatten(1)))
        return activations

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Features ``[B, *input_shape]`` → logits ``[B, K]``."""
        logits: torch.Tensor = self.fc2(self.embed(features))
        return logits
