"""What a model is asked for each clip: which one class it is, or which classes are in it.

All that depends on the answer is here: how logits become decisions, what they score, which score chooses the epoch,
and what guessing has. A task is a part of the model, because thresholds are learnt (from val) and travel with it.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, ClassVar

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from torchmetrics import Metric
from torchmetrics.classification import MulticlassConfusionMatrix

from audioclf.config import Config
from audioclf.training import multi_label
from audioclf.training.multi_label import BoolArray
from audioclf.training.scores import LEVEL, FloatArray, IntArray, Scores, chance, confusion_matrix, interval, scores

LARGEST = 1e30  # of logits that are not finite: a run that diverged has scores, too


class Task(nn.Module, ABC):
    """What is asked of each clip.

    Args:
        classes: the label map, K names.

    Attributes:
        name: as in ``result.json``.
        chooses: the val score by which the best epoch is chosen.
        curves: what is recorded of each epoch.
        guess: the loss of a model that says the same of all classes.
    """

    name: ClassVar[str]
    chooses: ClassVar[str]
    curves: ClassVar[tuple[str, ...]]

    def __init__(self, classes: Sequence[str]) -> None:
        super().__init__()
        self.classes = list(classes)

    @property
    @abstractmethod
    def guess(self) -> float:
        """The loss of a model that says the same of all classes."""

    @abstractmethod
    def probabilities(self, logits: torch.Tensor) -> torch.Tensor:
        """Of each class ``[B, K]``, in [0, 1]."""

    @abstractmethod
    def decided(self, logits: torch.Tensor) -> torch.Tensor:
        """What is said of each clip: a class index ``[B]``, or whether each class is there, bool ``[B, K]``."""

    @abstractmethod
    def loss(self, logits: torch.Tensor, targets: torch.Tensor) -> float:
        """The plain loss, without weights or smoothing, so that runs of other losses can be compared by it."""

    @abstractmethod
    def right(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Whether each clip is right in all its labels, bool ``[B]``."""

    @abstractmethod
    def metric(self) -> Metric:
        """Collects an epoch: ``update(logits, targets)``."""

    @abstractmethod
    def of_epoch(self, metric: Metric, tuned: bool) -> tuple[dict[str, float], int]:
        """An epoch's scores, and of how many clips.

        Args:
            metric: of :meth:`metric`.
            tuned: whether thresholds are those of the task, and not tuned on these very clips.
        """

    @abstractmethod
    def scored(self, logits: torch.Tensor, targets: torch.Tensor) -> dict[str, Any]:
        """The content of ``result.json`` for one split."""

    @abstractmethod
    def floor(self, logits: torch.Tensor, targets: torch.Tensor, train: torch.Tensor) -> dict[str, float]:
        """The chance floor of a split; ``train`` are the training split's targets."""

    @abstractmethod
    def intervals(self, logits: torch.Tensor, targets: torch.Tensor, groups: Sequence[str]) -> dict[str, Any]:
        """Scores with their 95 % interval over recordings."""

    @abstractmethod
    def listed(self, found: torch.Tensor) -> list[Any]:
        """Targets or decisions as lists: a class index for each clip, or a list of them."""

    @abstractmethod
    def mistakes(self, logits: torch.Tensor, targets: torch.Tensor) -> list[tuple[int, str]]:
        """Clips that are wrong, most confident first: their place, and what was wrong in words."""

    def tune(self, logits: torch.Tensor, targets: torch.Tensor) -> None:
        """Learns from val what decisions need."""

    def tuned(self) -> dict[str, Any]:
        """What :meth:`tune` learnt, for ``result.json``."""
        return {}

    def confusion(self, logits: torch.Tensor, targets: torch.Tensor) -> IntArray | None:
        """Clips by class ``[K, K]``, row true, column predicted; None where a clip is of several classes."""
        return None


class SingleLabel(Task):
    """Which one class a clip is: the highest logit."""

    name, chooses, curves = "single_label", "f1_macro", ("loss", "f1_macro", "accuracy")

    @property
    def guess(self) -> float:
        """For K classes ln K."""
        return math.log(len(self.classes))

    def probabilities(self, logits: torch.Tensor) -> torch.Tensor:
        """``[B, K]``, rows sum to 1."""
        return logits.softmax(1)

    def decided(self, logits: torch.Tensor) -> torch.Tensor:
        """Class indices ``[B]``."""
        return logits.argmax(1)

    def loss(self, logits: torch.Tensor, targets: torch.Tensor) -> float:
        """Cross-entropy."""
        return float(functional.cross_entropy(logits, targets))

    def right(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Whether each clip's highest logit is its class, bool ``[B]``."""
        return logits.argmax(1) == _one(targets)

    def metric(self) -> Metric:
        """A confusion matrix."""
        return _Confusion(len(self.classes))

    def of_epoch(self, metric: Metric, tuned: bool) -> tuple[dict[str, float], int]:
        """Macro-F1 and accuracy."""
        found = scores(metric.compute().cpu().numpy())
        return {"f1_macro": found.f1_macro, "accuracy": found.accuracy}, int(found.support.sum())

    def scored(self, logits: torch.Tensor, targets: torch.Tensor) -> dict[str, Any]:
        """Everything that a confusion matrix says."""
        return {"loss": self.loss(logits, targets), **_content(scores(self.confusion(logits, targets)), self.classes)}

    def floor(self, logits: torch.Tensor, targets: torch.Tensor, train: torch.Tensor) -> dict[str, float]:
        """Of macro-F1."""
        return asdict(chance(targets.numpy(), self.decided(logits).numpy(), train.numpy(), len(self.classes)))

    def intervals(self, logits: torch.Tensor, targets: torch.Tensor, groups: Sequence[str]) -> dict[str, Any]:
        """Of macro-F1."""
        found = interval(targets.numpy(), self.decided(logits).numpy(), groups, len(self.classes))
        return {"f1_macro": list(found), "level": LEVEL}

    def listed(self, found: torch.Tensor) -> list[Any]:
        """A class index for each clip."""
        return list(found.tolist())

    def mistakes(self, logits: torch.Tensor, targets: torch.Tensor) -> list[tuple[int, str]]:
        """``dog taken for cat (0.93)``."""
        confidence, taken = self.probabilities(logits).max(1)
        wrong = [i for i in confidence.argsort(descending=True).tolist() if taken[i] != targets[i]]
        names = self.classes
        return [(i, f"{names[targets[i]]} taken for {names[taken[i]]} ({confidence[i]:.2f})") for i in wrong]

    def confusion(self, logits: torch.Tensor, targets: torch.Tensor) -> IntArray:
        """Clips by class ``[K, K]``, row true, column predicted."""
        return confusion_matrix(targets.numpy(), self.decided(logits).numpy(), len(self.classes))


class MultiLabel(Task):
    """Which classes are in a clip: those whose probability reaches their threshold, which val decides."""

    name, chooses, curves = "multi_label", "map", ("loss", "f1_macro", "map", "auroc")
    thresholds: torch.Tensor

    def __init__(self, classes: Sequence[str]) -> None:
        super().__init__(classes)
        self.register_buffer("thresholds", torch.full((len(classes),), multi_label.NO_THRESHOLD))

    @property
    def guess(self) -> float:
        """Of every class, that it may be there or not: ln 2."""
        return math.log(2)

    def probabilities(self, logits: torch.Tensor) -> torch.Tensor:
        """``[B, K]``, each by itself."""
        return logits.sigmoid()

    def decided(self, logits: torch.Tensor) -> torch.Tensor:
        """Whether each class is there, bool ``[B, K]``."""
        return self.probabilities(logits) >= self.thresholds

    def loss(self, logits: torch.Tensor, targets: torch.Tensor) -> float:
        """Binary cross-entropy, mean over clips and classes."""
        return float(functional.binary_cross_entropy_with_logits(logits, targets))

    def right(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Whether each clip is right in all classes, bool ``[B]``."""
        return (self.decided(logits) == _there(targets)).all(1)

    def tune(self, logits: torch.Tensor, targets: torch.Tensor) -> None:
        """Learns the threshold of each class: :func:`multi_label.best_thresholds`."""
        self.thresholds.copy_(self._best(logits, targets))

    def tuned(self) -> dict[str, Any]:
        """The thresholds by class."""
        return {"thresholds": dict(zip(self.classes, self.thresholds.tolist(), strict=True))}

    def metric(self) -> Metric:
        """All logits and targets: a ranking needs them together."""
        return _Collected()

    def of_epoch(self, metric: Metric, tuned: bool) -> tuple[dict[str, float], int]:
        """mAP, AUROC, and macro-F1 at the task's thresholds, or at those tuned on these clips."""
        logits, targets = (part.cpu() for part in metric.compute())
        thresholds = self.thresholds.cpu() if tuned else self._best(logits, targets)
        there, ranked = _there(targets).numpy(), _finite(logits)
        found = multi_label.label_scores(there, (self.probabilities(logits) >= thresholds).numpy())
        means = {
            "map": multi_label.mean_of(multi_label.average_precision(there, ranked)),
            "auroc": multi_label.mean_of(multi_label.auroc(there, ranked)),
        }
        return {"f1_macro": found.f1_macro, "accuracy": found.accuracy, **means}, len(there)

    def scored(self, logits: torch.Tensor, targets: torch.Tensor) -> dict[str, Any]:
        """Decisions at the thresholds, and rankings."""
        there, ranked, decided = self._arrays(logits, targets)
        ranking = {"ap": multi_label.average_precision(there, ranked), "auroc": multi_label.auroc(there, ranked)}
        content = _content(multi_label.label_scores(there, decided), self.classes)
        for name, values in ranking.items():
            for label, value in zip(self.classes, values.tolist(), strict=True):
                content["per_class"][label][name] = value
        return {
            "loss": self.loss(logits, targets),
            **content,
            "map": multi_label.mean_of(ranking["ap"]),
            "auroc": multi_label.mean_of(ranking["auroc"]),
            "classes_without_auroc": int(np.isnan(ranking["auroc"]).sum()),
        }

    def floor(self, logits: torch.Tensor, targets: torch.Tensor, train: torch.Tensor) -> dict[str, float]:
        """Of macro-F1 and mAP."""
        return asdict(multi_label.label_chance(*self._arrays(logits, targets), _there(train).numpy()))

    def intervals(self, logits: torch.Tensor, targets: torch.Tensor, groups: Sequence[str]) -> dict[str, Any]:
        """Of macro-F1 and mAP."""
        found = multi_label.label_intervals(*self._arrays(logits, targets), groups)
        return {**{name: list(both) for name, both in found.items()}, "level": LEVEL}

    def listed(self, found: torch.Tensor) -> list[Any]:
        """A list of class indices for each clip."""
        return [row.nonzero().flatten().tolist() for row in found]

    def mistakes(self, logits: torch.Tensor, targets: torch.Tensor) -> list[tuple[int, str]]:
        """``siren found in dog, rain (0.93)`` or ``dog missed in dog, rain (0.02)``: of each clip the worst."""
        there, wrong = _there(targets), self.decided(logits) != _there(targets)
        chances = self.probabilities(logits)
        confidence, worst = torch.where(wrong, torch.where(there, 1 - chances, chances), -1.0).max(1)
        found = []
        for i in confidence.argsort(descending=True).tolist():
            k = int(worst[i])
            if wrong[i].any():
                what = "missed" if there[i, k] else "found"
                labels = ", ".join(self.classes[j] for j in self.listed(there[i : i + 1])[0])
                found.append((i, f"{self.classes[k]} {what} in {labels} ({chances[i, k]:.2f})"))
        return found

    def _best(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        probabilities = self.probabilities(torch.from_numpy(_finite(logits))).numpy()
        return torch.from_numpy(multi_label.best_thresholds(_there(targets).numpy(), probabilities))

    def _arrays(self, logits: torch.Tensor, targets: torch.Tensor) -> tuple[BoolArray, FloatArray, BoolArray]:
        """Labels that are there, scores that rank, labels that are decided; each ``[N, K]``."""
        return _there(targets).numpy(), _finite(logits), self.decided(logits).numpy()


def build_task(config: Config, classes: Sequence[str]) -> Task:
    """What the configuration asks of each clip."""
    return (MultiLabel if config.data.multi_label == "keep" else SingleLabel)(classes)


class _Confusion(MulticlassConfusionMatrix):
    def __init__(self, num_classes: int) -> None:
        super().__init__(num_classes, validate_args=False)

    def update(self, preds: torch.Tensor, target: torch.Tensor) -> None:
        super().update(preds.argmax(1), _one(target))


class _Collected(Metric):
    logits: list[torch.Tensor]
    targets: list[torch.Tensor]

    def __init__(self) -> None:
        super().__init__()
        self.add_state("logits", [], dist_reduce_fx="cat")
        self.add_state("targets", [], dist_reduce_fx="cat")

    def update(self, logits: torch.Tensor, targets: torch.Tensor) -> None:
        self.logits.append(logits.float())
        self.targets.append(targets.float())

    def compute(self) -> tuple[torch.Tensor, torch.Tensor]:
        return _joined(self.logits), _joined(self.targets)


def _joined(parts: list[torch.Tensor] | torch.Tensor) -> torch.Tensor:
    """One tensor; what was gathered from several processes is one already."""
    return parts if isinstance(parts, torch.Tensor) else torch.cat(parts)


def _one(targets: torch.Tensor) -> torch.Tensor:
    """Class indices ``[B]``; of mixed clips the largest share."""
    return targets.argmax(1) if targets.is_floating_point() else targets


def _there(targets: torch.Tensor) -> torch.Tensor:
    """Which labels are there, bool ``[B, K]``; of mixed clips those with half a share or more."""
    return targets >= 0.5 if targets.dtype != torch.bool else targets


def _finite(logits: torch.Tensor) -> FloatArray:
    """Logits without nan and infinity, ``[N, K]``."""
    return torch.nan_to_num(logits.float(), -LARGEST, LARGEST, -LARGEST).numpy()


def _content(found: Scores, classes: Sequence[str]) -> dict[str, Any]:
    """What ``result.json`` says of decisions."""
    return {
        "accuracy": found.accuracy,
        "precision_macro": found.precision_macro,
        "recall_macro": found.recall_macro,
        "f1_macro": found.f1_macro,
        "f1_micro": found.f1_micro,
        "f1_weighted": found.f1_weighted,
        "classes_without_support": found.classes_without_support,
        "per_class": {
            label: {
                "precision": float(found.precision[i]),
                "recall": float(found.recall[i]),
                "f1": float(found.f1[i]),
                "support": int(found.support[i]),
            }
            for i, label in enumerate(classes)
        },
    }
