"""A pretrained encoder and a linear layer, trained together in stages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from audioclf.config import FinetuneConfig
from audioclf.features.encoders import Encoder, states_of_silence


class Finetune(nn.Module):
    """Encoder → mean over time → linear layer, in two stages.

    At first the encoder is frozen and the linear layer learns to read it: its random weights would otherwise spoil what
    the encoder knows. From ``unfreeze_epoch`` on the encoder's upper layers, or all of it, are trained as well, each layer
    at a lower learning rate than the one above it. What is frozen is in evaluation mode: no dropout, and batch norms
    keep their statistics.

    Args:
        input_shape: ``(samples,)``.
        num_classes: classes K.
        encoder: from waveforms to hidden states.
        config: the ``model`` section.

    Raises:
        UserError: what is to be the encoder gives no hidden states, or none of so few samples.
    """

    def __init__(self, input_shape: Sequence[int], num_classes: int, encoder: Encoder, config: FinetuneConfig) -> None:
        super().__init__()
        self.encoder, self.config = encoder, config
        self._trained: list[nn.Module] = []
        settings: Any = getattr(encoder.model, "config", object())
        if hasattr(settings, "apply_spec_augment"):
            settings.apply_spec_augment = False  # drawn by NumPy, which no epoch seeds; `augment` has its own
        self.dropout = nn.Dropout(config.dropout)
        dimensions = states_of_silence(encoder.eval(), *input_shape)[-1].shape[-1]
        self.fc = nn.Linear(dimensions, num_classes)
        self.start_epoch(0)

    def start_epoch(self, epoch: int) -> None:
        """Freezes and unfreezes what an epoch, from 0, asks for."""
        layers = self.config.unfreeze_layers
        upper: list[nn.Module] = [self.encoder] if layers is None else list(self.encoder.blocks)[-layers:]
        self._trained = upper if epoch >= self.config.unfreeze_epoch else []
        self.encoder.requires_grad_(False)
        for part in self._trained:
            part.requires_grad_(True)
        self.train(self.training)

    def train(self, mode: bool = True) -> Finetune:
        """Training or evaluation mode, in which what is frozen stays."""
        super().train(mode)
        self.encoder.eval()
        for part in self._trained:
            part.train(mode)
        return self

    def parameter_groups(self, lr: float) -> list[dict[str, Any]]:
        """Parameters and the learning rate of each layer, the linear layer's first."""
        blocks = list(self.encoder.blocks)
        above = {id(weight): depth for depth, block in enumerate(reversed(blocks), 1) for weight in block.parameters()}
        groups: dict[int, list[nn.Parameter]] = {0: list(self.fc.parameters())}
        for weight in self.encoder.parameters():
            groups.setdefault(above.get(id(weight), len(blocks) + 1), []).append(weight)
        decay = self.config.layer_decay
        return [{"params": groups[depth], "lr": lr * decay**depth} for depth in sorted(groups)]

    def embed(self, waveforms: torch.Tensor) -> torch.Tensor:
        """Waveforms ``[B, samples]`` → the encoder's last hidden state, its mean over time, ``[B, D]``."""
        states: list[torch.Tensor] = self.encoder(waveforms)
        return states[-1].mean(1)

    def forward(self, waveforms: torch.Tensor) -> torch.Tensor:
        """Waveforms ``[B, samples]`` → logits ``[B, K]``."""
        logits: torch.Tensor = self.fc(self.dropout(self.embed(waveforms)))
        return logits
