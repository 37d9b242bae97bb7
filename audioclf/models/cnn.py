"""A small convolutional network for mel-spectrograms."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn


class Cnn(nn.Module):
    """Blocks of convolution, batch norm, ReLU and pooling; then mean over bands, mean plus max over time.

    After PANNs' CNN6 (Kong et al., 2020), which has one convolution a block as well, at a fraction of its width. Each
    block halves bands and frames, as long as there are two of them, and all but the first double the channels.

    Args:
        input_shape: ``(n_mels, frames)``.
        num_classes: classes K.
        width: channels of the first block.
        blocks: number of blocks N; the last one has ``width * 2^(N - 1)`` channels C.
        dropout: share of the embedding that is dropped in training.
    """

    def __init__(
        self, input_shape: Sequence[int], num_classes: int, width: int = 16, blocks: int = 4, dropout: float = 0.2
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        (bands, frames), channels = input_shape, 1
        for block in range(blocks):
            wider = width * 2**block
            layers += [nn.Conv2d(channels, wider, 3, padding=1, bias=False), nn.BatchNorm2d(wider), nn.ReLU()]
            halve = min(2, bands), min(2, frames)
            layers.append(nn.AvgPool2d(halve))
            bands, frames, channels = bands // halve[0], frames // halve[1], wider
        # Channels last: oneDNN's convolutions read them in that order.
        self.blocks = nn.Sequential(*layers).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(channels, num_classes)

    def embed(self, features: torch.Tensor) -> torch.Tensor:
        """Features ``[B, n_mels, frames]`` → what the blocks found, pooled over bands and time, ``[B, C]``, >= 0."""
        found: torch.Tensor = self.blocks(features[:, None].contiguous(memory_format=torch.channels_last))
        over_time = found.mean(2)
        return over_time.mean(2) + over_time.amax(2)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Features ``[B, n_mels, frames]`` → logits ``[B, K]``."""
        logits: torch.Tensor = self.fc(self.dropout(self.embed(features)))
        return logits
