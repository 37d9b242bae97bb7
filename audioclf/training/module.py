"""The LightningModule: normalisation, network, loss and Adam, with metrics collected over whole epochs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import nn
from torchmetrics import Metric, SumMetric

from audioclf import __version__
from audioclf.config import Config, parse_config
from audioclf.data import Batch
from audioclf.features.normalise import Standardise
from audioclf.models.build import build_model
from audioclf.models.finetune import Finetune
from audioclf.training.augment import Augment
from audioclf.training.losses import build_loss
from audioclf.training.optimizers import build_optimizer
from audioclf.training.task import build_task

LAYOUT = 1
"""Of a checkpoint; raised when an older or newer audioclf would misread it."""


class ClassifierModule(pl.LightningModule):
    """One run's model: ``Standardise`` → network → loss, trained by Adam.

    A checkpoint of it holds all that prediction needs: configuration, label map, normalisation, the architecture of an
    encoder that was fine-tuned, and what its task learnt (thresholds). What its loss learns from the training split,
    ``loss.fit(targets)`` learns before training.

    Args:
        config: the resolved configuration as plain containers.
        classes: the label map, K names.
        feature_shape: shape of one clip's features.
        standardise: normalisation fitted on the training split; None: identity, to be filled from a checkpoint.
        encoder: architecture of the encoder that is fine-tuned, of a checkpoint, which needs no pretrained weights.
        front_end_version: of the front-end whose features it is trained on; empty: not known.
        weights: what names the content of that front-end's own weights, by their keys below ``features``.
    """

    def __init__(
        self,
        config: dict[str, Any],
        classes: Sequence[str],
        feature_shape: Sequence[int],
        standardise: Standardise | None = None,
        encoder: dict[str, Any] | None = None,
        front_end_version: str = "",
        weights: dict[str, str] | None = None,
    ) -> None:
        super().__init__()
        self.config: Config = parse_config(config)
        self.classes = list(classes)
        shape = tuple(feature_shape)
        kind = self.config.features.normalisation
        self.standardise = standardise or Standardise.identity(kind, shape, self.config.features.axes)
        self.augment = Augment(self.config.augment, self.config.features, len(classes))
        self.model = build_model(self.config.model, shape, len(classes), self.config.features, encoder)
        own = {"encoder": self.model.encoder.architecture} if isinstance(self.model, Finetune) else {}
        self.save_hyperparameters(
            {
                "config": config,
                "classes": list(classes),
                "feature_shape": list(feature_shape),
                "front_end_version": front_end_version,
                "weights": weights or {},
                **own,
            }
        )
        self.loss = build_loss(self.config.loss, len(classes))
        self.task = build_task(self.config, classes)
        # A sum, because torchmetrics' mean drops NaN (an epoch that diverged would look sound) or, told not to, weights.
        self.loss_sum = nn.ModuleDict({stage: SumMetric(nan_strategy="disable") for stage in ("fit", "val", "test")})
        self.collected = nn.ModuleDict({stage: self.task.metric() for stage in ("fit", "val", "test")})

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Features ``[B, *feature_shape]`` as the front-end gives them → logits ``[B, K]``."""
        logits: torch.Tensor = self.model(self.standardise(features))
        return logits

    def on_train_epoch_start(self) -> None:
        """Models that are trained in stages look whether one begins."""
        self.start_epoch(self.current_epoch)

    def start_epoch(self, epoch: int) -> None:
        """What the model does before an epoch, from 0."""
        if isinstance(self.model, Finetune):
            self.model.start_epoch(epoch)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Says which audioclf wrote the checkpoint."""
        checkpoint["audioclf"] = {"layout": LAYOUT, "version": __version__}

    def training_step(self, batch: Batch, batch_idx: int) -> torch.Tensor:
        """One step's loss; the epoch's train metrics are of the weights as they changed from step to step.

        They are of the clips as training saw them: where it augments, of harder ones than ``result.json``'s are.
        """
        features, targets, _ = batch
        loss, logits = self.training_loss(features, targets)
        self._count("fit", loss, logits, targets)
        return loss

    def training_loss(self, features: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Loss and logits ``[B, K]`` of a training batch: the only place where clips are augmented.

        Args:
            features: as the front-end gives them, ``[B, *feature_shape]``.
            targets: class indices ``[B]``.
        """
        inputs, mixed = self.augment(features, targets, self.standardise)
        logits = self.model(inputs)
        loss: torch.Tensor = self.loss(logits, mixed)
        return loss, logits

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Collects one batch of val."""
        self._step(batch, "val")

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """Collects one batch of test."""
        self._step(batch, "test")

    def predict_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> torch.Tensor:
        """Logits ``[B, K]``."""
        logits: torch.Tensor = self(batch[0])
        return logits

    def on_train_epoch_end(self) -> None:
        """Logs the epoch's train loss and scores."""
        self._log_epoch("fit", "train")

    def on_validation_epoch_end(self) -> None:
        """Logs the epoch's val loss and scores."""
        self._log_epoch("val", "val")

    def on_test_epoch_end(self) -> None:
        """Logs test loss and scores."""
        self._log_epoch("test", "test")

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Adam with the configured schedule."""
        steps = int(self.trainer.estimated_stepping_batches) if self.config.optimizer.by_step else 1
        optimizer, schedules = build_optimizer(self.model, self.config, max(1, steps // self.config.epochs))
        return cast(OptimizerLRScheduler, ([optimizer], schedules) if schedules else optimizer)

    def _step(self, batch: Batch, stage: str) -> torch.Tensor:
        features, targets, _ = batch
        logits = self(features)
        loss: torch.Tensor = self.loss(logits, targets)
        self._count(stage, loss, logits, targets)
        return loss

    def _count(self, stage: str, loss: torch.Tensor, logits: torch.Tensor, targets: torch.Tensor) -> None:
        _update(self.loss_sum[stage], loss.detach() * len(targets))
        _update(self.collected[stage], logits.detach(), targets)

    def _log_epoch(self, stage: str, name: str) -> None:
        loss, collected = self.loss_sum[stage], self.collected[stage]
        assert isinstance(loss, Metric) and isinstance(collected, Metric)
        found, clips = self.task.of_epoch(collected, tuned=stage == "test")
        self.log(f"{name}/loss", loss.compute() / clips)
        for score, value in found.items():
            self.log(f"{name}/{score}", value)
        loss.reset()
        collected.reset()


def _update(metric: nn.Module, *values: Any) -> None:
    assert isinstance(metric, Metric)
    metric.update(*values)
