"""Losses: logits ``[B, K]`` and targets, class indices ``[B]`` or shares of each class ``[B, K]`` (of mixed clips).

Weights of classes are learnt from the training split (:meth:`fit`) and are buffers: they travel in the checkpoint, so
that a reloaded module has the same loss.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from audioclf.config import BceConfig, FocalConfig, LossConfig


class CrossEntropy(nn.CrossEntropyLoss):
    """Torch's cross-entropy, which divides by the weights of the batch whichever way its targets are written."""

    def forward(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """The mean loss of a batch."""
        loss: torch.Tensor = super().forward(logits, targets)
        if self.weight is not None and targets.is_floating_point():  # there torch divides by the number of clips
            loss = loss * len(targets) / (targets @ self.weight).sum()
        return loss

    def fit(self, targets: torch.Tensor) -> None:
        """Learns the weights of classes from the training split's targets."""
        if self.weight is not None:
            self.weight.copy_(class_weights(shares(targets, len(self.weight))))


class Focal(nn.Module):
    """Cross-entropy times (1 - p)^gamma, p the probability of the clip's class (Lin et al., "Focal loss", ICCV 2017).

    Theirs is of each class by itself; this is the usual one of a softmax over classes. gamma=0 is cross-entropy.

    Args:
        num_classes: classes K.
        gamma: how much less the clips count that are known.
        weighted: whether classes have weights.
    """

    weight: torch.Tensor

    def __init__(self, num_classes: int, gamma: float, weighted: bool) -> None:
        super().__init__()
        self.gamma, self.weighted = gamma, weighted
        self.register_buffer("weight", torch.ones(num_classes))

    def forward(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """The mean loss of a batch, by the weights of its clips."""
        wanted = self.weight * shares(targets, logits.shape[1]).to(logits.dtype)
        log_p = logits.log_softmax(1)
        # Not 1 - exp(log p), which is 0 long before p is 1; and never 0, where a power below 1 has no finite gradient.
        unknown = (-torch.expm1(log_p)).clamp_min(torch.finfo(log_p.dtype).tiny)
        return -(wanted * unknown**self.gamma * log_p).sum() / wanted.sum()

    def fit(self, targets: torch.Tensor) -> None:
        """Learns the weights of classes from the training split's targets."""
        if self.weighted:
            self.weight.copy_(class_weights(shares(targets, len(self.weight))))


class BinaryCrossEntropy(nn.BCEWithLogitsLoss):
    """Torch's binary cross-entropy of every class of every clip."""

    def forward(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """The mean loss of a batch."""
        loss: torch.Tensor = super().forward(logits, shares(targets, logits.shape[1]).to(logits.dtype))
        return loss

    def fit(self, targets: torch.Tensor) -> None:
        """Learns from the training split's targets how often a class is missing for each time that it is there."""
        if self.pos_weight is not None:
            there = shares(targets, len(self.pos_weight))
            self.pos_weight.copy_((len(there) - there.sum(0)) / there.sum(0).clamp_min(1))


Loss = CrossEntropy | Focal | BinaryCrossEntropy


def build_loss(config: LossConfig, num_classes: int) -> Loss:
    """The loss that the ``loss`` section names; weights of classes are 1 until they are fitted or loaded.

    Args:
        config: the ``loss`` section.
        num_classes: classes K.
    """
    weighted = config.class_weights == "balanced"
    weight = torch.ones(num_classes) if weighted else None
    if isinstance(config, BceConfig):
        return BinaryCrossEntropy(pos_weight=weight)
    if isinstance(config, FocalConfig):
        return Focal(num_classes, config.gamma, weighted)
    return CrossEntropy(weight=weight, label_smoothing=config.label_smoothing)


def shares(targets: torch.Tensor, num_classes: int) -> torch.Tensor:
    """Targets as shares of each class ``[B, K]``, whether they are class indices ``[B]`` or are so already."""
    return targets if targets.is_floating_point() else functional.one_hot(targets, num_classes).float()


def class_weights(there: torch.Tensor) -> torch.Tensor:
    """Weights ``[K]``, inversely as the clips of each class, with which a clip of ``[N, K]`` weighs 1 on average.

    scikit-learn's ``class_weight="balanced"``; a class without clips weighs 1.
    """
    counts = there.sum(0)
    return torch.where(counts > 0, counts.sum() / ((counts > 0).sum() * counts.clamp_min(1e-12)), 1.0)
