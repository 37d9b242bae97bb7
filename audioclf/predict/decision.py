"""From logits to scores and predicted classes: the one place that knows which activation and which thresholds."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from audioclf.training.module import ClassifierModule


@dataclass(frozen=True)
class Decision:
    """How a model's logits are read.

    Attributes:
        thresholds: of each class, ``[K]``, where a clip may have several; None: it has one, that of the highest score.
    """

    thresholds: torch.Tensor | None = None

    @classmethod
    def of(cls, module: ClassifierModule) -> Decision:
        """Multi-label training leaves its thresholds among the module's buffers."""
        thresholds = dict(module.named_buffers()).get("thresholds")
        return cls(None if thresholds is None else thresholds.detach().double().cpu())

    @property
    def activation(self) -> str:
        """What turns logits into scores: ``softmax``, or ``sigmoid`` where classes do not exclude one another."""
        return "softmax" if self.thresholds is None else "sigmoid"

    def scores(self, logits: torch.Tensor) -> torch.Tensor:
        """Logits ``[B, K]`` → scores ``[B, K]`` within [0, 1], float64."""
        return logits.double().softmax(1) if self.thresholds is None else logits.double().sigmoid()

    def predicted(self, scores: torch.Tensor) -> torch.Tensor:
        """Scores ``[B, K]`` → which classes are predicted, bool ``[B, K]``."""
        if self.thresholds is not None:
            return scores >= self.thresholds
        return torch.nn.functional.one_hot(scores.argmax(1), scores.shape[1]).bool()
