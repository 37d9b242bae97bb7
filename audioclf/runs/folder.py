"""A run's folder: what lies in it, written so that a kill leaves nothing that reads as more than it is.

::

    config.yaml          the resolved configuration
    environment.json     git commit, package versions, hardware, seed
    metrics.csv          one row for each epoch, train and val
    predictions.parquet  clip, group, split, target, label, predicted, logits; of several labels lists, and scores
    checkpoints/         last.ckpt (to continue from), model.ckpt (the selected weights)
    events*/             TensorBoard
    train.log            what was printed, with times
    failure.txt          of a sweep's run that failed: why, with the traceback
    result.json          written last: its presence means "finished"
"""

from __future__ import annotations

import csv
import datetime
import json
import math
import os
import platform
import subprocess
import sys
import traceback
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import yaml

from audioclf import __version__
from audioclf.errors import UserError
from audioclf.files import TEMPORARY_SUFFIX, write_text

PACKAGES = (
    "torch",
    "torchaudio",
    "pytorch-lightning",
    "torchmetrics",
    "hydra-core",
    "librosa",
    "soundfile",
    "soxr",
    "av",
    "numpy",
    "scikit-learn",
)

LAYOUT = 2
"""Of ``result.json``; raised when a reader of the older layout would misread it."""

BEGINNINGS = {"failure.txt", "train.log", "config.yaml", "checkpoints", ".hydra"}
"""What a run killed before ``environment.json`` leaves, and what Hydra writes before it."""


class RunFolder:
    """Reads and writes one run's folder.

    Args:
        path: the folder; made when something is first written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.checkpoints = path / "checkpoints"
        self.last_checkpoint = self.checkpoints / "last.ckpt"
        self.model_checkpoint = self.checkpoints / "model.ckpt"
        self.metrics_csv = path / "metrics.csv"
        self.predictions = path / "predictions.parquet"
        self.log = path / "train.log"
        self.failure = path / "failure.txt"

    def read_result(self) -> dict[str, Any] | None:
        """``result.json``, or None where the run is not finished (or the file is torn or foreign)."""
        return _read_json(self.path / "result.json")

    def write_result(self, result: Mapping[str, Any]) -> None:
        """Writes ``result.json``, the last file of a run; values that are not finite become null."""
        write_text(self.path / "result.json", to_json(result))

    def read_state(self) -> dict[str, Any] | None:
        """Identity and data fingerprint of the run that the folder was begun for, or None."""
        return _read_json(self.path / "environment.json")

    def write_failure(self, error: Exception) -> None:
        """Writes ``failure.txt``: what happened, and where in the code."""
        trace = "".join(traceback.format_exception(error))
        write_text(self.failure, f"{failure_message(error)}\n\n{trace}")

    def begin(self, config: Mapping[str, Any], state: Mapping[str, Any]) -> None:
        """Writes what is known before training: ``config.yaml`` and ``environment.json``.

        Args:
            config: the resolved configuration.
            state: identity and data fingerprint, kept beside the environment.
        """
        self.checkpoints.mkdir(parents=True, exist_ok=True)
        self.failure.unlink(missing_ok=True)
        write_text(self.path / "config.yaml", yaml.safe_dump(dict(config), sort_keys=False))
        write_text(self.path / "environment.json", to_json({**state, **environment()}))

    def read_failure(self) -> str | None:
        """The first line of ``failure.txt``, or None."""
        try:
            return self.failure.read_text(encoding="utf-8").splitlines()[0]
        except (OSError, IndexError):
            return None

    def check_free(self) -> None:
        """Checks that a run may begin here: the folder is new, empty, a run's, or holds no more than a run's beginnings.

        Raises:
            UserError: it holds something that is no run's.
        """
        names = sorted(path.name for path in self.path.iterdir()) if self.path.is_dir() else []
        foreign = [name for name in names if name not in BEGINNINGS and not name.endswith(TEMPORARY_SUFFIX)]
        if foreign and self.read_state() is None:  # asked last: another process may have begun the run meanwhile
            raise UserError(
                f"{self.path}: holds {foreign[0]}, which is no part of a run just begun; expected a new folder or a run's",
                "name another folder with hydra.run.dir=DIR, or leave that out",
            )

    def set_aside(self) -> Path | None:
        """Renames the folder so that another run can take its place; nothing is deleted.

        Returns:
            The new place, or None where there was nothing to keep.
        """
        if not self.path.is_dir() or not any(self.path.iterdir()):
            return None
        for n in range(1, 10_000):
            aside = self.path.with_name(f"{self.path.name}.old{n}")
            if not aside.exists():
                self.path.rename(aside)
                return aside
        raise RuntimeError(f"{self.path}: no free name to set it aside")

    def saved_epochs(self) -> int:
        """How many epochs ``checkpoints/last.ckpt`` holds; 0 where there is none."""
        import torch

        if not self.last_checkpoint.exists():
            return 0
        return int(torch.load(self.last_checkpoint, weights_only=True, mmap=True)["epoch"]) + 1

    def append_metrics(self, row: Mapping[str, float | int | None]) -> None:
        """Adds one epoch's row to ``metrics.csv``."""
        with self.metrics_csv.open("a", newline="") as file:
            writer = csv.DictWriter(file, list(row), lineterminator="\n")
            if file.tell() == 0:
                writer.writeheader()
            writer.writerow({key: "" if value is None else value for key, value in row.items()})

    def read_metrics(self) -> list[dict[str, float]]:
        """The rows of ``metrics.csv``; a torn last line is passed over."""
        rows = csv.DictReader(self._whole_lines())
        return [{key: float(value) if value else math.nan for key, value in row.items()} for row in rows]

    def keep_epochs(self, epochs: int) -> None:
        """Drops the rows of epochs that a resumed run does again.

        Args:
            epochs: how many epochs the checkpoint holds.
        """
        if self.metrics_csv.exists():
            write_text(self.metrics_csv, "".join(self._whole_lines()[: epochs + 1]))

    def _whole_lines(self) -> list[str]:
        """The lines of ``metrics.csv``; one without an end was torn by a kill."""
        if not self.metrics_csv.exists():
            return []
        lines = self.metrics_csv.read_text().splitlines(keepends=True)
        return [line for line in lines if line.endswith("\n")]


def failure_message(error: Exception) -> str:
    """What a person reads first: the message, and the error's kind where it was not foreseen."""
    return str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"


def to_json(content: Mapping[str, Any]) -> str:
    """JSON in which no NaN or infinity stands: they become null."""
    return json.dumps(finite(content), indent=2, allow_nan=False) + "\n"


def environment() -> dict[str, Any]:
    """What a run ran on: code version, git commit and dirt, packages, hardware."""
    import torch

    return {
        "audioclf": __version__,
        "git": _git(),
        "python": sys.version.split()[0],
        "packages": {name: metadata.version(name) for name in PACKAGES},
        "platform": platform.platform(),
        "cpu_count": os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": sys.argv,
    }


def _git() -> dict[str, Any] | None:
    """Commit and dirt of the checkout that the package is run from, or None outside one."""
    here = Path(__file__).parent

    def git(*words: Sequence[str] | str) -> str:
        command = ["git", "--no-optional-locks", "-C", str(here), *map(str, words)]  # a user may be committing
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()

    try:
        return {"commit": git("rev-parse", "HEAD"), "dirty": bool(git("status", "--porcelain"))}
    except (OSError, subprocess.SubprocessError):
        return None


def finite(value: Any) -> Any:
    """The same without NaN and infinity, which become None."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return value


def _read_json(path: Path) -> dict[str, Any] | None:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None
