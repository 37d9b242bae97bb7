"""From logits to scores and predicted classes, as the model's task has them."""

from __future__ import annotations

import copy

import torch

from audioclf.training.module import ClassifierModule
from audioclf.training.task import MultiLabel


class Decision:
    """How a model's logits are read; on the CPU.

    Args:
        module: whose task it is.
    """

    def __init__(self, module: ClassifierModule) -> None:
        self.task = copy.deepcopy(module.task).cpu()

    @property
    def activation(self) -> str:
        """What turns logits into scores: ``softmax``, or ``sigmoid`` where classes do not exclude one another."""
        return "sigmoid" if isinstance(self.task, MultiLabel) else "softmax"

    @property
    def thresholds(self) -> list[float] | None:
        """From which score on a class is there, K of them; None where a clip has one class, that of the highest score."""
        return self.task.thresholds.tolist() if isinstance(self.task, MultiLabel) else None

    def scores(self, logits: torch.Tensor) -> torch.Tensor:
        """Logits ``[B, K]`` → scores ``[B, K]`` within [0, 1], float64."""
        return self.task.probabilities(logits.double())

    def predicted(self, logits: torch.Tensor) -> torch.Tensor:
        """Logits ``[B, K]`` → which classes are predicted, bool ``[B, K]``."""
        decided = self.task.decided(logits)
        return decided if decided.dim() == 2 else torch.nn.functional.one_hot(decided, logits.shape[1]).bool()
