"""What happens at the end of an epoch: its numbers are recorded and, now and then, the run's state is saved."""

from __future__ import annotations

import logging
import math
import os
import time
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, Checkpoint, EarlyStopping

from audioclf.console import ProgressBar
from audioclf.data import epoch_seed
from audioclf.files import temporary_name
from audioclf.runs.folder import RunFolder
from audioclf.training.module import ClassifierModule
from audioclf.training.tensorboard import RunBoard

log = logging.getLogger("audioclf")


class SeedEpochs(Callback):
    """Makes every random number of an epoch (dropout, augmentation) a function of (seed, epoch) alone.

    So a run that is resumed, or continued to more epochs, draws what an uninterrupted one draws. Of several devices
    each draws its own.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Seeds torch's generators for this epoch."""
        torch.manual_seed(epoch_seed(self.seed, trainer.current_epoch) + trainer.global_rank)


class StopEarly(EarlyStopping):
    """Stops after ``patience`` epochs without a higher val score; also where that came to pass before a kill.

    Args:
        score: the one that chooses the best epoch: ``f1_macro``, of several labels ``map``.
        patience: epochs.
    """

    def __init__(self, score: str, patience: int) -> None:
        super().__init__(
            f"val/{score}", patience=patience, mode="max", check_finite=False, check_on_train_epoch_end=True
        )

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Looks whether the state that was taken up is one to stop at."""
        trainer.should_stop = trainer.should_stop or self.stopped_epoch > 0


class RecordEpochs(Checkpoint):
    """Writes each epoch's train and val numbers to ``metrics.csv``, TensorBoard, ``train.log`` and the progress bar.

    It counts as a ``Checkpoint`` so that Lightning calls it after the module has logged the epoch.

    Args:
        folder: the run's folder.
        board: TensorBoard, or None.
        bar: the progress bar over epochs.
    """

    def __init__(self, folder: RunFolder, board: RunBoard | None, bar: ProgressBar) -> None:
        self.folder, self.board, self.bar = folder, board, bar

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Records the epoch that has just ended."""
        curves = _module(trainer).task.curves
        row: dict[str, float | int | None] = {"epoch": trainer.current_epoch + 1}
        row |= {f"{split}_{name}": _metric(trainer, f"{split}/{name}") for split in ("train", "val") for name in curves}
        self.folder.append_metrics(row)
        if self.board is not None:
            self.board.epoch(row)
        log.info("epoch %d of %s: %s", row["epoch"], trainer.max_epochs, _words(row))
        self.bar.advance(1, f"val F1 {row['val_f1_macro']:.3f}")


class KeepBest(Checkpoint):
    """Remembers the best epoch: the highest val score (of single labels macro-F1), the lower val loss where it ties.

    Its weights stay in memory and travel inside ``last.ckpt``: one file is the run's state, so there is no moment at
    which two files disagree.

    Args:
        wanted: whether the best weights are wanted; else they need not be held and saved.
    """

    def __init__(self, wanted: bool = True) -> None:
        self.wanted = wanted
        self.epoch = 0  # from 1; 0: none yet
        self.score, self.loss = -math.inf, math.inf
        self.weights: dict[str, torch.Tensor] = {}

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Compares the epoch with the best one."""
        score = _metric(trainer, f"val/{_module(trainer).task.chooses}") or 0.0
        loss = _metric(trainer, "val/loss")
        loss = math.inf if loss is None else loss
        if self.wanted and (score, -loss) > (self.score, -self.loss):
            self.score, self.loss, self.epoch = score, loss, trainer.current_epoch + 1
            self.weights = {key: value.detach().cpu().clone() for key, value in pl_module.state_dict().items()}

    def state_dict(self) -> dict[str, Any]:
        """What travels inside the checkpoint."""
        return {"best": {"epoch": self.epoch, "score": self.score, "loss": self.loss}, "best_weights": self.weights}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes up what a checkpoint brought."""
        best: Mapping[str, Any] = state_dict["best"]
        self.epoch, self.score, self.loss = best["epoch"], best["score"], best["loss"]
        self.weights = state_dict["best_weights"]


class AtMarks(Checkpoint):
    """Calls ``finish`` at the end of marked epochs, where a shorter run on the same way ends.

    Stands before :class:`KeepState`: a state past a mark is saved only after the shorter run is written down.

    Args:
        marks: epochs, from 1.
        finish: what is done there.
    """

    def __init__(self, marks: Collection[int], finish: Callable[[int, pl.Trainer], None]) -> None:
        self.marks, self.finish = marks, finish

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Looks whether the epoch is marked."""
        if trainer.current_epoch + 1 in self.marks:
            self.finish(trainer.current_epoch + 1, trainer)


class KeepState(Checkpoint):
    """Saves the run's whole state: at most every ``every_s`` seconds, at the last epoch, and when a stop is asked for.

    Of several devices the first decides for all: a checkpoint is saved together.

    Args:
        folder: the run's folder.
        every_s: least time between two checkpoints, in seconds.
        epochs: of the whole run.
        saved_epochs: how many epochs the checkpoint that lies there holds.
        prune: asked with (epochs done, val macro-F1 of the last one) whether to give the run up; None: never.

    Attributes:
        complete: whether the run's last epoch is done and saved: no more are to come.
    """

    def __init__(
        self,
        folder: RunFolder,
        every_s: float,
        epochs: int,
        saved_epochs: int = 0,
        prune: Callable[[int, float], bool] | None = None,
    ) -> None:
        self.folder, self.every_s, self.saved_epochs, self.prune = folder, every_s, saved_epochs, prune
        self.epochs = epochs
        self.complete = saved_epochs == epochs
        self.stop = False
        self.pruned = False
        self._saved = time.monotonic()

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Looks whether the run was stopped early before."""
        self.complete = self.complete or trainer.should_stop

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Saves where it is time to."""
        last = trainer.current_epoch + 1 == self.epochs or trainer.should_stop  # early, by StopEarly
        if self.prune is not None and not last:
            self.pruned = self.prune(trainer.current_epoch + 1, _metric(trainer, "val/f1_macro") or 0.0)
        stop = self.stop or self.pruned
        due = last or stop or time.monotonic() - self._saved >= self.every_s
        stop, due = trainer.strategy.broadcast((stop, due))
        if due:
            self.save(trainer)
            self.complete = last
        if stop:
            trainer.should_stop = True

    def save(self, trainer: pl.Trainer) -> None:
        """Saves ``checkpoints/last.ckpt``."""
        save_atomically(trainer, self.folder.last_checkpoint)
        self.saved_epochs = trainer.current_epoch + 1
        self._saved = time.monotonic()


def save_atomically(trainer: pl.Trainer, path: Path, weights_only: bool = False) -> None:
    """Saves a Lightning checkpoint that is there whole or not at all."""
    temporary = temporary_name(path)
    try:
        trainer.save_checkpoint(temporary, weights_only=weights_only)
        if not trainer.is_global_zero:
            return
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _words(row: Mapping[str, float | int | None]) -> str:
    """An epoch's numbers for people, e.g. ``train loss 0.353``; ``nan`` where training diverged."""
    numbers = {name: math.nan if value is None else value for name, value in row.items() if name != "epoch"}
    return ", ".join(f"{name.replace('_', ' ')} {value:.4g}" for name, value in numbers.items())


def _module(trainer: pl.Trainer) -> ClassifierModule:
    module = trainer.lightning_module
    assert isinstance(module, ClassifierModule)
    return module


def _metric(trainer: pl.Trainer, name: str) -> float | None:
    """A logged value, or None where it is missing or not finite."""
    value = trainer.callback_metrics.get(name)
    return float(value) if value is not None and math.isfinite(float(value)) else None
