"""Fit one run: prepare data, train, select on val, score test once, write everything down."""

from __future__ import annotations

import gc
import logging
import shutil
import signal
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from filelock import FileLock, Timeout
from pytorch_lightning.callbacks import Callback

from audioclf.config import Config
from audioclf.console import console, progress_bar
from audioclf.data import AudioDataModule
from audioclf.errors import UserError
from audioclf.features.normalise import Standardise
from audioclf.files import replacing
from audioclf.runs.folder import LAYOUT, RunFolder
from audioclf.runs.identity import identity, run_name, shares_epochs, trajectory
from audioclf.training.callbacks import (
    AtMarks,
    KeepBest,
    KeepState,
    RecordEpochs,
    SeedEpochs,
    StopEarly,
    save_atomically,
)
from audioclf.training.finish import as_configured, finish
from audioclf.training.module import ClassifierModule
from audioclf.training.preflight import preflight
from audioclf.training.ranks import Rank, several
from audioclf.training.tensorboard import RunBoard
from audioclf.weights import contents

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


class Pruned(Exception):
    """A search gave the run up; its state is saved.

    Attributes:
        epoch: epochs that are done and saved.
    """

    def __init__(self, epoch: int, epochs: int) -> None:
        super().__init__(f"given up after epoch {epoch} of {epochs}")
        self.epoch = epoch


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


def fit(
    config: Config,
    path: Path,
    prune: Callable[[int, float], bool] | None = None,
    tell: Callable[[str], None] | None = None,
) -> Run:
    """Trains one run, or takes up what is there.

    A finished run of the same identity on the same data is returned as it is; an unfinished one is resumed; one that
    a shorter run of the same trajectory leads to is continued from it. A run of other data in the folder is set
    aside, never overwritten. Runs that end at ``config.marks`` are written down beside it, whole.

    Args:
        config: the resolved configuration.
        path: the run's folder.
        prune: asked after each epoch, with the epochs done and val macro-F1, whether to give the run up.
        tell: called before a run's first epoch with each line that a person should know; ``train.log`` has them, too.

    Raises:
        UserError: data or settings that cannot be trained on.
        Interrupted: the user pressed Ctrl-C; the same call resumes.
        Pruned: ``prune`` said so; the same call resumes.
    """
    quiet_lightning()
    try:
        return _prepare_and_fit(config, path, prune, tell)
    finally:
        # Trainer, module and data refer to one another; Python's collector counts objects, not the hundred megabytes
        # behind them, and would keep every run of a sweep.
        gc.collect()


def _prepare_and_fit(
    config: Config, path: Path, prune: Callable[[int, float], bool] | None, tell: Callable[[str], None] | None
) -> Run:
    if config.marks and not shares_epochs(config):
        raise UserError(
            f"marks={config.marks}: a run of fewer epochs is not on the way of this one (its schedule, early stopping or devices)",
            "leave marks out and launch such runs by themselves: python train.py -m epochs=10,50",
        )
    RunFolder(path).check_free()  # before the long work; again below, where no other process can be at it
    data = data_module(config)
    data.prepare_data()
    data.setup()
    return _fit(config, path, data, prune, tell)


def data_module(config: Config) -> AudioDataModule:
    """The data that a configuration names, not yet prepared.

    Raises:
        UserError: a GPU was asked for and there is none.
    """
    return AudioDataModule(
        config.data,
        config.features,
        batch_size=config.batch_size,
        seed=config.seed,
        cache=config.paths.cache,
        device=_device(config),
        fetch=config.fetch,
        launcher=config.launcher,
        sampler=config.sampler,
    )


def state_of(config: Config, data_fingerprint: str) -> dict[str, Any]:
    """What names a run: its configuration's identity and the data's, and what a person looks for first."""
    return {
        "identity": identity(config),
        "trajectory": trajectory(config),
        "data_fingerprint": data_fingerprint,
        "epochs": config.epochs,
        "seed": config.seed,
    }


def finished(folder: RunFolder, state: Mapping[str, Any]) -> dict[str, Any] | None:
    """The content of ``result.json``, where it is of that very run; else None."""
    result = folder.read_result()
    return result if result is not None and result.get("layout") == LAYOUT and _same(result, state) else None


def _same(found: Mapping[str, Any], state: Mapping[str, Any]) -> bool:
    return all(found.get(key) == state[key] for key in ("identity", "data_fingerprint"))


def _fit(
    config: Config,
    path: Path,
    data: AudioDataModule,
    prune: Callable[[int, float], bool] | None = None,
    tell: Callable[[str], None] | None = None,
) -> Run:
    folder, state = RunFolder(path), state_of(config, data.fingerprint)
    with _locked(path):
        result = None if config.retrain else finished(folder, state)
        shorter, begun = (None, config.epochs) if result else _begun(folder, state, alone=config.retrain)
        for mark in sorted(mark for mark in set(config.marks) if mark <= min(begun, config.epochs - 1)):
            _fit(
                _shorter(config, mark), path.absolute().parent / run_name(_shorter(config, mark)), data
            )  # it is past that mark
        if result is not None:
            return Run(path, result, reused=True)
        _make_room(folder, state)
        with _logged(folder):
            return Run(path, _train(config, data, folder, state, shorter, prune, tell), reused=False)


def _begun(folder: RunFolder, state: Mapping[str, Any], alone: bool) -> tuple[RunFolder | None, int]:
    """How many epochs of a run are done: by itself, else by the longest shorter run on the same way, which is named.

    Where ``alone``, others do not count: what is asked to be trained again is not continued from what was there.
    """
    found = folder.read_state()
    own = found is not None and _same(found, state) and folder.read_result() is None
    if own and (done := folder.saved_epochs()):
        return None, done
    best: RunFolder | None = None
    most = 0
    for sibling in () if alone else folder.path.absolute().parent.glob("*/result.json"):
        other = RunFolder(sibling.parent)
        result = other.read_result() or {}
        epochs = result.get("epochs")
        same = all(result.get(key) == state[key] for key in ("trajectory", "data_fingerprint"))
        if same and isinstance(epochs, int) and most < epochs < state["epochs"] and other.last_checkpoint.exists():
            best, most = other, epochs
    return best, most


def _make_room(folder: RunFolder, state: Mapping[str, Any]) -> None:
    """Sets aside what lies in a run's folder and is not this run, unfinished.

    Raises:
        UserError: the folder holds something that is no run's.
    """
    folder.check_free()
    found = folder.read_state()
    if found is None:
        return
    same, result = _same(found, state), folder.read_result()
    if (not same or result is not None) and (aside := folder.set_aside()) is not None:
        why = "asked to train again" if same else "it is of another run or other audio"
        if same and result is not None and result.get("layout") != LAYOUT:
            why = "an older version wrote its result"
        console.print(f"{folder.path.name}: {why}; the earlier folder is kept as {aside.name}", markup=False)


def _train(
    config: Config,
    data: AudioDataModule,
    folder: RunFolder,
    state: dict[str, Any],
    shorter: RunFolder | None,
    prune: Callable[[int, float], bool] | None,
    tell: Callable[[str], None] | None,
) -> dict[str, Any]:
    started = time.monotonic()
    module = _module(config, data)
    if not folder.last_checkpoint.exists():
        folder.begin(config.model_dump(), state)
        if shorter is not None:
            console.print(f"continuing from {shorter.path.name}", markup=False, soft_wrap=True)
            shutil.copyfile(shorter.metrics_csv, folder.metrics_csv)
            with shorter.last_checkpoint.open("rb") as source, replacing(folder.last_checkpoint) as target:
                shutil.copyfileobj(source, target)
    done = folder.saved_epochs()
    folder.keep_epochs(done)
    if not done:
        _look_before(module, data, tell)
    board = _board(config, folder)
    best = KeepBest(config.trainer.select == "best")
    keep = KeepState(folder, config.trainer.checkpoint_every_s, config.epochs, done, prune)

    def at_mark(epoch: int, trainer: pl.Trainer) -> None:
        _write_shorter(_shorter(config, epoch), folder, trainer, best, data, started)

    marks = [mark for mark in config.marks if mark < config.epochs]
    log.info("%d epochs of %s, %d done before", config.epochs, config.data.name, done)
    with _stop_on_interrupt(keep):
        with progress_bar("train", config.epochs, "epochs", done) as bar, several(config, folder) as devices:
            callbacks = [RecordEpochs(folder, board, bar), best, AtMarks(marks, at_mark), keep]
            trainer = _trainer(module, folder, data, callbacks, devices)
            trainer.fit(module, datamodule=data, ckpt_path=folder.last_checkpoint if done else None, weights_only=True)
        if not keep.complete:
            if board is not None:
                board.close()
            raise (Pruned if keep.pruned else Interrupted)(trainer.current_epoch, config.epochs)
        return finish(config, folder, state, trainer, best, data, board, started)


def follow(config: Config, folder: RunFolder, rank: Rank) -> None:
    """Trains beside the run's own process, as another one of ``trainer.devices``; writes nothing.

    Args:
        config: of the run.
        folder: where it lies.
        rank: which of the processes this is.
    """
    fetch = config.fetch.model_copy(update={"enabled": False})  # all train on the same clips
    data = data_module(config.model_copy(update={"fetch": fetch}))
    data.setup()
    done = folder.saved_epochs()
    keep = KeepState(folder, config.trainer.checkpoint_every_s, config.epochs, done)
    module = _module(config, data)
    trainer = _trainer(module, folder, data, [KeepBest(wanted=False), keep], rank.options(config))
    trainer.fit(module, datamodule=data, ckpt_path=folder.last_checkpoint if done else None, weights_only=True)


def _module(config: Config, data: AudioDataModule) -> ClassifierModule:
    """The module as training begins with it."""
    pl.seed_everything(config.seed, workers=True, verbose=False)
    shape, version = data.front_end.output_shape, data.front_end.version
    standardise = Standardise.fit(config.features.normalisation, data.train_batches(), shape, config.features.axes)
    module = ClassifierModule(
        config.to_share(),
        data.classes,
        shape,
        standardise,
        front_end_version=version,
        weights=contents(config.features),
    )
    module.loss.fit(data.datasets["train"].targets)
    return module


def _trainer(
    module: ClassifierModule,
    folder: RunFolder,
    data: AudioDataModule,
    callbacks: Sequence[Callback],
    devices: Mapping[str, Any],
) -> pl.Trainer:
    """Lightning's trainer as the ``trainer`` section wants it."""
    config, settings = module.config, module.config.trainer
    stop = [] if settings.patience is None else [StopEarly(module.task.chooses, settings.patience)]
    return pl.Trainer(
        max_epochs=config.epochs,
        accelerator=settings.accelerator,
        precision=settings.precision,
        accumulate_grad_batches=settings.accumulate,
        gradient_clip_val=settings.gradient_clip,
        callbacks=[SeedEpochs(config.seed), *stop, *callbacks],
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        deterministic="warn" if data.device.type == "cuda" else None,
        default_root_dir=str(folder.path),
        **devices,
    )


def _look_before(module: ClassifierModule, data: AudioDataModule, tell: Callable[[str], None] | None) -> None:
    """Says what can be seen to be wrong before training."""
    for check in preflight(module, data):
        log.log(logging.WARNING if check.loud else logging.INFO, "%s", check.line)
        if check.loud and tell is not None:
            tell(check.line)


def _shorter(config: Config, epochs: int) -> Config:
    """The configuration of a run that ends on the way of this one."""
    return config.model_copy(update={"epochs": epochs, "marks": []})


def _write_shorter(
    config: Config, longer: RunFolder, trainer: pl.Trainer, best: KeepBest, data: AudioDataModule, started: float
) -> None:
    """Writes a run down that ends where a longer one is now: the files that it leaves when it is trained alone."""
    folder, state = RunFolder(longer.path.absolute().parent / run_name(config)), state_of(config, data.fingerprint)
    with _locked(folder.path):
        if not config.retrain and finished(folder, state) is not None:
            return
        _make_room(folder, state)
        folder.begin(config.model_dump(), state)
        shutil.copyfile(longer.metrics_csv, folder.metrics_csv)
        log.info("written down as %s", folder.path.name)
        shutil.copyfile(longer.log, folder.log)
        if config.trainer.keep_state:
            with as_configured(trainer, config):
                save_atomically(trainer, folder.last_checkpoint)
        finish(config, folder, state, trainer, best, data, _board(config, folder), started)


def _board(config: Config, folder: RunFolder) -> RunBoard | None:
    return RunBoard(folder.path, folder.read_metrics()) if config.trainer.tensorboard else None


@contextmanager
def _stop_on_interrupt(keep: KeepState) -> Iterator[None]:
    """First Ctrl-C: finish the epoch and save. Second, or after the last epoch: stop at once; what is saved stays.

    Stopping at once is :class:`Interrupted` too: Lightning turns a KeyboardInterrupt into exit code 1.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def handle(signum: int, frame: object) -> None:
        if keep.stop or keep.complete:
            raise Interrupted(keep.saved_epochs, keep.epochs)
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
    except (Interrupted, Pruned) as stop:
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
        UserError: a GPU was asked for and there is none, or there are fewer than asked for.
    """
    wanted, available = config.trainer.accelerator, torch.cuda.is_available()
    on_gpu = available and wanted != "cpu"
    if config.trainer.precision == "16-mixed" and not on_gpu:
        raise UserError(
            "trainer.precision=16-mixed: float16 needs a GPU; expected one", "trainer.precision=bf16-mixed runs on CPUs"
        )
    if on_gpu and config.trainer.devices > torch.cuda.device_count():
        raise UserError(
            f"trainer.devices={config.trainer.devices}: found {torch.cuda.device_count()} GPUs; expected no more than those"
        )
    if wanted == "gpu" and not available:
        raise UserError("trainer.accelerator=gpu: no CUDA device found", "trainer.accelerator=auto takes what there is")
    return torch.device("cuda" if on_gpu else "cpu")


def quiet_lightning() -> None:
    """Lightning's hints on loggers and loader workers do not fit: data is in RAM and the run folder is our own."""
    for name in ("pytorch_lightning", "lightning.pytorch", "lightning.fabric", "lightning_fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module=r"pytorch_lightning\..*|lightning_fabric\..*")
