"""A training step in Lightning, with metrics and loader, against a bare PyTorch loop on the same tensors.

Both train the same network with fused Adam; epochs of one and of the other alternate in one process.
"""

from __future__ import annotations

import statistics
import time

import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader

from audioclf.compose import load_config
from audioclf.data import Batch, EpochShuffle, as_it_is
from audioclf.features.normalise import Standardise
from audioclf.models.build import build_model
from audioclf.training.fit import quiet_lightning
from audioclf.training.module import ClassifierModule

EPOCHS = 12
CLIPS = 320
CLASSES = 10


class Tensors(torch.utils.data.Dataset[Batch]):
    """Random clips in RAM, served like :class:`audioclf.data.FeatureDataset` serves them."""

    def __init__(self, features: torch.Tensor, targets: torch.Tensor) -> None:
        self.features, self.targets = features, targets

    def __len__(self) -> int:
        return len(self.targets)

    def __getitems__(self, indices: list[int]) -> Batch:
        where = torch.as_tensor(indices)
        return self.features[where], self.targets[where], where


class Alternate(pl.Callback):
    """Times each epoch of the trainer, and a bare epoch after it."""

    def __init__(self, features: torch.Tensor, targets: torch.Tensor, module: ClassifierModule, batch: int) -> None:
        self.features, self.targets, self.batch = features, targets, batch
        self.model = build_model(module.config.model, tuple(features.shape[1:]), CLASSES)
        self.standardise = Standardise.identity("per_band", tuple(features.shape[1:]))
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=module.config.lr, fused=True)
        self.ours: list[float] = []
        self.bare: list[float] = []
        self._start = 0.0

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Starts the clock."""
        self._start = time.perf_counter()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stops the clock, and times a bare epoch."""
        self.ours.append(time.perf_counter() - self._start)
        start = time.perf_counter()
        for where in torch.randperm(len(self.targets)).split(self.batch):
            logits = self.model(self.standardise(self.features[where]))
            loss = torch.nn.functional.cross_entropy(logits, self.targets[where])
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
        self.bare.append(time.perf_counter() - start)


def rows() -> list[tuple[str, ...]]:
    """One row for each number of mel bands."""
    quiet_lightning()
    return [_row(64), _row(128)]


def _row(n_mels: int) -> tuple[str, ...]:
    config = load_config([f"features.n_mels={n_mels}"])
    features = torch.randn(CLIPS, n_mels, config.features.target_length)
    targets = torch.randint(CLASSES, (CLIPS,))
    module = ClassifierModule(config.model_dump(), [str(i) for i in range(CLASSES)], features.shape[1:])
    loader = DataLoader(
        Tensors(features, targets),
        batch_size=config.batch_size,
        sampler=EpochShuffle(CLIPS, seed=0),
        collate_fn=as_it_is,
    )
    alternate = Alternate(features, targets, module, config.batch_size)
    trainer = pl.Trainer(
        max_epochs=EPOCHS,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[alternate],
    )
    trainer.fit(module, loader)
    steps = -(-CLIPS // config.batch_size)
    ours, bare = (statistics.median(times[1:]) / steps * 1000 for times in (alternate.ours, alternate.bare))
    return (
        f"training step, {n_mels} x {config.features.target_length} -> 512, batch {config.batch_size}",
        f"{ours:.1f} ms",
        f"bare loop, fused Adam {bare:.1f} ms",
        f"{ours / bare:.2f}x",
        "<= 1.10x",
    )
