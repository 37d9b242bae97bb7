"""A sequence of vectors, weighed by attention."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn


class AttentionPool(nn.Module):
    """Linear → ReLU on each moment; heads that each weigh the moments for their part of it; one linear layer.

    Args:
        input_shape: ``(D, T)``: dimensions and moments.
        num_classes: classes K.
        hidden: units H of the layer before pooling, divided among the heads.
        heads: number of heads; each attends to moments of its own.
        dropout: share of the embedding that is dropped in training.
    """

    def __init__(
        self, input_shape: Sequence[int], num_classes: int, hidden: int = 256, heads: int = 4, dropout: float = 0.2
    ) -> None:
        super().__init__()
        self.project = nn.Linear(input_shape[0], hidden)
        self.relu = nn.ReLU()
        self.attend = nn.Linear(hidden, heads)
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(hidden, num_classes)

    def attention(self, features: torch.Tensor) -> torch.Tensor:
        """Features ``[B, D, T]`` → how much each head looks at each moment ``[B, T, heads]``, sum 1 over T."""
        return self._weights(self._moments(features))

    def embed(self, features: torch.Tensor) -> torch.Tensor:
        """Features ``[B, D, T]`` → the moments' mean as the heads weigh it, ``[B, H]``."""
        moments = self._moments(features)
        parts = moments.unflatten(2, (self.attend.out_features, -1))  # [B, T, heads, H / heads]
        embedding: torch.Tensor = (parts * self._weights(moments)[..., None]).sum(1).flatten(1)
        return embedding

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Features ``[B, D, T]`` → logits ``[B, K]``."""
        logits: torch.Tensor = self.fc(self.dropout(self.embed(features)))
        return logits

    def _moments(self, features: torch.Tensor) -> torch.Tensor:
        moments: torch.Tensor = self.relu(self.project(features.transpose(1, 2)))
        return moments

    def _weights(self, moments: torch.Tensor) -> torch.Tensor:
        scores: torch.Tensor = self.attend(moments)
        return scores.softmax(1)
