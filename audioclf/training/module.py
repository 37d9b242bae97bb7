"""The LightningModule: normalisation, network, loss and Adam, with metrics collected over whole epochs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import nn
from torchmetrics import Metric, SumMetric

from audioclf.config import Config, parse_config
from audioclf.data import Batch
from audioclf.features.normalise import Standardise
from audioclf.models.build import build_model
from audioclf.training.losses import build_loss
from audioclf.training.task import build_task


class ClassifierModule(pl.LightningModule):
    """One run's model: ``Standardise`` → network → loss, trained by Adam.

    A checkpoint of it holds all that prediction needs: configuration, label map, normalisation, and what its task
    learnt (thresholds). What its loss learns from the training split, ``loss.fit(targets)`` learns before training.

    Args:
        config: the resolved configuration as plain containers.
        classes: the label map, K names.
        feature_shape: shape of one clip's features.
        standardise: normalisation fitted on the training split; None: identity, to be filled from a checkpoint.
    """

    def __init__(
        self,
        config: dict[str, Any],
        classes: Sequence[str],
        feature_shape: Sequence[int],
        standardise: Standardise | None = None,
    ) -> None:
        super().__init__()
        self.save_hyperparameters({"config": config, "classes": list(classes), "feature_shape": list(feature_shape)})
        self.config: Config = parse_config(config)
        self.classes = list(classes)
        shape = tuple(feature_shape)
        kind = self.config.features.normalisation
        self.standardise = standardise or Standardise.identity(kind, shape)
        self.model = build_model(self.config.model, shape, len(classes))
        self.loss = build_loss(self.config.loss, len(classes))
        self.task = build_task(self.config, classes)
        # A sum, because torchmetrics' mean drops NaN (an epoch that diverged would look sound) or, told not to, weights.
        self.loss_sum = nn.ModuleDict({stage: SumMetric(nan_strategy="disable") for stage in ("fit", "val", "test")})
        self.collected = nn.ModuleDict({stage: self.task.metric() for stage in ("fit", "val", "test")})

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Features ``[B, *feature_shape]`` as the front-end gives them → logits ``[B, K]``."""
        logits: torch.Tensor = self.model(self.standardise(features))
        return logits

    def training_step(self, batch: Batch, batch_idx: int) -> torch.Tensor:
        """One step's loss; the epoch's train metrics are of the weights as they changed from step to step."""
        return self._step(batch, "fit")

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
        """Adam, fused: on the CPU too, where one fused pass halves the memory traffic of a step."""
        optimizer = torch.optim.Adam(
            self.model.parameters(),
            lr=self.config.lr,
            weight_decay=self.config.optimizer.weight_decay,
            fused=all(p.is_floating_point() and p.device.type in ("cpu", "cuda") for p in self.model.parameters()),
        )
        if self.config.optimizer.schedule == "constant":
            return optimizer
        return [optimizer], [torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=self.config.epochs)]

    def _step(self, batch: Batch, stage: str) -> torch.Tensor:
        features, targets, _ = batch
        logits = self(features)
        loss: torch.Tensor = self.loss(logits, targets)
        _update(self.loss_sum[stage], loss.detach() * len(targets))
        _update(self.collected[stage], logits.detach(), targets)
        return loss

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
