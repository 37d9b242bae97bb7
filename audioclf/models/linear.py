"""The cheapest honest baseline."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import nn


class Linear(nn.Module):
    """Flatten → one linear layer: multinomial logistic regression.

    Args:
        input_shape: shape of one clip's features.
        num_classes: classes K.
    """

    def __init__(self, input_shape: Sequence[int], num_classes: int) -> None:
        super().__init__()
        self.fc = nn.Linear(math.prod(input_shape), num_classes)

    def embed(self, features: torch.Tensor) -> torch.Tensor:
        """Features ``[B, *input_shape]``, flattened."""
        return features.flatten(1)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Features ``[B, *input_shape]`` → logits ``[B, K]``."""
        logits: torch.Tensor = self.fc(self.embed(features))
        return logits
