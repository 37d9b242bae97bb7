"""Fit one run: prepare data, train, select on val, score test once, write everything down."""

from __future__ import annotations

import gc
import logging
import shutil
import signal
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from filelock import FileLock, Timeout

from audioclf.config import Config
from audioclf.console import console, progress_bar
from audioclf.data import AudioDataModule
from audioclf.errors import UserError
from audioclf.features.normalise import Standardise
from audioclf.files import replacing
from audioclf.runs.folder import LAYOUT, RunFolder, finite
from audioclf.runs.identity import identity, swept_settings
from audioclf.training.callbacks import KeepState, RecordEpochs, SeedEpochs, save_atomically
from audioclf.training.evaluate import confident_errors, confusion_of, evaluate, predict_splits, write_predictions
from audioclf.training.module import ClassifierModule
from audioclf.training.tensorboard import RunBoard

log = logging.getLogger("audioclf")


class Interrupted(Exception):
    """The user asked to stop; the run's state is saved. Raised by the run itself, or by a second Ctrl-C anywhere in it.

    Attributes:
        epoch: epochs that are done and saved.
        epochs: epochs that were asked for.
    """

    def __init__(self, epoch: int, epochs: int) -> None:
        super().__init__(f"stopped after epoch {epoch} of {epochs}")
        self.epoch, self.epochs = epoch, epochs


@dataclass(frozen=True)
class Run:
    """A finished run.

    Attributes:
        folder: where it lies.
        result: the content of ``result.json``.
        reused: whether it was finished before and nothing was trained now.
    """

    folder: Path
    result: dict[str, Any]
    reused: bool


def fit(config: Config, path: Path) -> Run:
    """Trains one run, or takes up what is there.

    A finished run of the same identity on the same data is returned as it is; an unfinished one is resumed; one that
    a shorter run of the same trajectory leads to is continued from it. A run of other data in the folder is set
    aside, never overwritten.

    Args:
        config: the resolved configuration.
        path: the run's folder.

    Raises:
        UserError: data or settings that cannot be trained on.
        Interrupted: the user pressed Ctrl-C; the same call resumes.
    """
    quiet_lightning()
    try:
        return _fit(config, path)
    finally:
        # Trainer, module and data refer to one another; Python's collector counts objects, not the hundred megabytes
        # behind them, and would keep every run of a sweep.
        gc.collect()


def _fit(config: Config, path: Path) -> Run:
    device = _device(config)
    data = AudioDataModule(
        config.data,
        config.features,
        batch_size=config.batch_size,
        seed=config.seed,
        cache=config.paths.cache,
        device=device,
        fetch=config.fetch,
        launcher=config.launcher,
    )
    folder = RunFolder(path)
    folder.check_free()  # before the long work; again below, where no other process can be at it
    data.prepare_data()
    data.setup()
    state = {
        "identity": identity(config),
        "trajectory": identity(config.model_copy(update={"epochs": 1})),
        "data_fingerprint": data.fingerprint,
        "epochs": config.epochs,
        "seed": config.seed,
    }
    with _locked(path):
        found = folder.read_state()
        same = found is not None and all(found.get(key) == state[key] for key in ("identity", "data_fingerprint"))
        result = folder.read_result()
        if same and result is not None and not config.retrain:
            return Run(path, result, reused=True)
        folder.check_free()
        if found is not None and (not same or result is not None) and (aside := folder.set_aside()) is not None:
            why = "asked to train again" if same else "it is of another run or other audio"
            console.print(f"{path.name}: {why}; the earlier folder is kept as {aside.name}", markup=False)
        with _logged(folder):
            return Run(path, _train(config, data, folder, state), reused=False)


def _train(config: Config, data: AudioDataModule, folder: RunFolder, state: dict[str, Any]) -> dict[str, Any]:
    started = time.monotonic()
    pl.seed_everything(config.seed, workers=True, verbose=False)
    features = config.features
    standardise = Standardise.fit(features.normalisation, data.train_batches(), data.front_end.output_shape)
    module = ClassifierModule(config.model_dump(), data.classes, data.front_end.output_shape, standardise)
    if not folder.last_checkpoint.exists():
        folder.begin(config.model_dump(), state)
        _start_from_shorter(folder, state)
    checkpoint = folder.last_checkpoint if folder.last_checkpoint.exists() else None
    done = int(torch.load(checkpoint, weights_only=True, mmap=True)["epoch"]) + 1 if checkpoint else 0
    folder.keep_epochs(done)
    board = RunBoard(folder.path, folder.read_metrics()) if config.trainer.tensorboard else None
    keep = KeepState(folder, config.trainer.checkpoint_every_s, done, config.trainer.select == "best")
    log.info("%d epochs of %s, %d done before", config.epochs, config.data.name, done)
    with _stop_on_interrupt(keep, config.epochs):
        with progress_bar("train", config.epochs, "epochs", done) as bar:
            trainer = pl.Trainer(
                max_epochs=config.epochs,
                accelerator=config.trainer.accelerator,
                devices=1,
                callbacks=[SeedEpochs(config.seed), RecordEpochs(folder, board, bar), keep],
                logger=False,
                enable_progress_bar=False,
                enable_model_summary=False,
                num_sanity_val_steps=0,
                deterministic="warn" if data.device.type == "cuda" else None,
                default_root_dir=str(folder.path),
            )
            trainer.fit(module, datamodule=data, ckpt_path=checkpoint, weights_only=True)
        if trainer.current_epoch < config.epochs:
            if board is not None:
                board.close()
            raise Interrupted(trainer.current_epoch, config.epochs)

        selected = config.epochs
        if config.trainer.select == "best":
            module.load_state_dict(keep.best_weights)
            selected = keep.best_epoch
        save_atomically(trainer, folder.model_checkpoint, weights_only=True)
        logits = predict_splits(trainer, module, data)
        write_predictions(folder, data, logits)
        result: dict[str, Any] = finite(
            {
                "status": "finished",
                "layout": LAYOUT,
                **state,
                "settings": swept_settings(config),
                "lr": config.lr,
                "batch_size": config.batch_size,
                "selected_epoch": selected,
                "select": config.trainer.select,
                **evaluate(data, logits),
                "data": data.summary(),
                "seconds": round(time.monotonic() - started, 1),
            }
        )
        if board is not None:
            confusion = confusion_of(data, logits, "test")
            errors = confident_errors(config, data, logits["test"])
            try:
                board.finish(swept_settings(config), result, confusion, errors)
            except (ValueError, RuntimeError, OSError):  # a figure that cannot be drawn costs no finished run
                log.exception("TensorBoard's figures could not be written")
        folder.write_result(result)
        log.info("finished in %.1f s: test F1 %.3f", result["seconds"], result["test"]["f1_macro"])
        return result


def _start_from_shorter(folder: RunFolder, state: dict[str, Any]) -> None:
    """Takes over the state of the longest finished run that differs only in having fewer epochs; that run stays."""
    best: RunFolder | None = None
    most = 0
    for sibling in folder.path.parent.glob("*/result.json"):
        other = RunFolder(sibling.parent)
        result = other.read_result() or {}
        epochs = result.get("epochs")
        same = all(result.get(key) == state[key] for key in ("trajectory", "data_fingerprint"))
        if same and isinstance(epochs, int) and most < epochs < state["epochs"] and other.last_checkpoint.exists():
            best, most = other, epochs
    if best is None:
        return
    console.print(f"continuing from {best.path.name} (epoch {most})", markup=False)
    shutil.copyfile(best.metrics_csv, folder.metrics_csv)
    with best.last_checkpoint.open("rb") as source, replacing(folder.last_checkpoint) as target:
        shutil.copyfileobj(source, target)


@contextmanager
def _stop_on_interrupt(keep: KeepState, epochs: int) -> Iterator[None]:
    """First Ctrl-C: finish the epoch and save. Second, or after the last epoch: stop at once; what is saved stays.

    Stopping at once is :class:`Interrupted` too: Lightning turns a KeyboardInterrupt into exit code 1.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def handle(signum: int, frame: object) -> None:
        if keep.stop or keep.saved_epochs == epochs:
            raise Interrupted(keep.saved_epochs, epochs)
        keep.stop = True
        console.print("stopping after this epoch (Ctrl-C again stops at once)", markup=False)

    before = signal.signal(signal.SIGINT, handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """One process at a time in a run's folder; a second one waits and then finds the finished run."""
    path = path.resolve()  # "." has no name
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path.parent / f".{path.name}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        console.print(f"{path.name}: another process is training this run; waiting for it", markup=False)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


@contextmanager
def _logged(folder: RunFolder) -> Iterator[None]:
    """Sends log messages and warnings to ``train.log``."""
    folder.path.mkdir(parents=True, exist_ok=True)
    handler = logging.FileHandler(folder.log, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    loggers = [log, *map(logging.getLogger, ("py.warnings", "pytorch_lightning"))]
    for logger in loggers:
        logger.addHandler(handler)
        logger.propagate = False  # the console has the table
    log.setLevel(logging.INFO)
    logging.captureWarnings(True)
    try:
        yield
    except Interrupted as stop:
        log.info("%s", stop)
        raise
    except Exception:
        log.exception("failed")
        raise
    finally:
        logging.captureWarnings(False)
        for logger in loggers:
            logger.removeHandler(handler)
            logger.propagate = True
        handler.close()


def _device(config: Config) -> torch.device:
    """Where features and training run.

    Raises:
        UserError: a GPU was asked for and there is none.
    """
    wanted, available = config.trainer.accelerator, torch.cuda.is_available()
    if wanted == "gpu" and not available:
        raise UserError("trainer.accelerator=gpu: no CUDA device found", "trainer.accelerator=auto takes what there is")
    return torch.device("cuda" if available and wanted != "cpu" else "cpu")


def quiet_lightning() -> None:
    """Lightning's hints on loggers and loader workers do not fit: data is in RAM and the run folder is our own."""
    for name in ("pytorch_lightning", "lightning.pytorch", "lightning.fabric", "lightning_fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module=r"pytorch_lightning\..*|lightning_fabric\..*")
