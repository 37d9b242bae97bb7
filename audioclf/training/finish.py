"""The end of a run: the selected weights are scored, test once, and everything is written down, ``result.json`` last."""

from __future__ import annotations

import copy
import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pytorch_lightning as pl

from audioclf.config import Config
from audioclf.data import AudioDataModule
from audioclf.runs.folder import LAYOUT, RunFolder, finite
from audioclf.runs.identity import swept_settings
from audioclf.training.callbacks import KeepBest, save_atomically
from audioclf.training.evaluate import confident_errors, evaluate, predict_splits, write_predictions
from audioclf.training.module import ClassifierModule
from audioclf.training.tensorboard import RunBoard

log = logging.getLogger("audioclf")


def finish(
    config: Config,
    folder: RunFolder,
    state: Mapping[str, Any],
    trainer: pl.Trainer,
    best: KeepBest,
    data: AudioDataModule,
    board: RunBoard | None,
    started: float,
) -> dict[str, Any]:
    """Scores a run that has done its epochs, and writes everything that was not written on the way.

    Args:
        config: of this run; its ``epochs`` are done, or it was stopped early.
        folder: where it lies.
        state: identity, data fingerprint and what else names the run.
        trainer: holds the module, which is left as it was: a longer run may go on with it.
        best: the best epoch and its weights.
        data: the data module after ``setup()``.
        board: the run's TensorBoard, or None.
        started: ``time.monotonic()`` at the run's beginning.

    Returns:
        The content of ``result.json``.
    """
    module = trainer.lightning_module
    assert isinstance(module, ClassifierModule)
    done = len(folder.read_metrics())  # fewer than config.epochs where it was stopped early
    with as_configured(trainer, config), _selected(module, best):
        logits = predict_splits(module, data)
        module.task.tune(logits["val"], data.datasets["val"].targets)
        save_atomically(trainer, folder.model_checkpoint, weights_only=True)
        task = copy.deepcopy(module.task).cpu()
    write_predictions(task, folder, data, logits)
    result: dict[str, Any] = finite(
        {
            "status": "finished",
            "layout": LAYOUT,
            **state,
            "settings": swept_settings(config),
            "lr": config.lr,
            "batch_size": config.batch_size,
            "selected_epoch": best.epoch if best.wanted else done,
            "trained_epochs": done,
            "select": config.trainer.select,
            **evaluate(task, data, logits),
            "data": data.summary(),
            "seconds": round(time.monotonic() - started, 1),
        }
    )
    if board is not None:
        try:
            confusion = task.confusion(logits["test"], data.datasets["test"].targets)
            board.finish(result["settings"], result, confusion, confident_errors(config, task, data, logits["test"]))
        except (ValueError, RuntimeError, OSError):  # a figure that cannot be drawn costs no finished run
            log.exception("TensorBoard's figures could not be written")
    folder.write_result(result)
    if not config.trainer.keep_state:
        folder.last_checkpoint.unlink(missing_ok=True)
    log.info("finished in %.1f s: test F1 %.3f", result["seconds"], result["test"]["f1_macro"])
    return result


@contextmanager
def as_configured(trainer: pl.Trainer, config: Config) -> Iterator[None]:
    """Checkpoints saved in a ``with`` block carry this configuration."""
    hparams = trainer.lightning_module.hparams
    before = hparams["config"]
    hparams["config"] = config.to_share()
    try:
        yield
    finally:
        hparams["config"] = before


@contextmanager
def _selected(module: ClassifierModule, best: KeepBest) -> Iterator[None]:
    """The module with its best weights, where those are wanted, for the time of a ``with`` block."""
    before = {key: value.detach().clone() for key, value in module.state_dict().items()}
    if best.wanted:
        module.load_state_dict(best.weights)
    try:
        yield
    finally:
        module.load_state_dict(before)
