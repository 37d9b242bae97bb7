"""One finished run, read back and checked: what it scored, and what it predicted for every val and test clip.

``result.json`` says what a run scored; ``predictions.parquet`` proves it. A run is taken where both agree.
"""

from __future__ import annotations

import json
import math
import os
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import BaseModel, Field, ValidationError

from audioclf.compare.comparison import IntArray, RunRow
from audioclf.errors import shown
from audioclf.runs.folder import LAYOUT
from audioclf.runs.identity import REPETITIONS
from audioclf.training.multi_label import BoolArray, label_scores
from audioclf.training.scores import Scores, confusion_matrix, scores

AGREES = 1e-6  # between an F1 of result.json and the same from the predictions
SPLITS = ("val", "test")
UNKNOWN_CLASS = "predictions.parquet holds classes that are not in the label map"
Labels = IntArray | BoolArray
Repetition = tuple[int | None, int]
"""Fold and seed of a run."""

Whole = Annotated[int, Field(ge=-(2**63), lt=2**63)]  # larger ones are no numbers to anything that draws or sorts
Value = bool | Whole | Annotated[float, Field(allow_inf_nan=False)] | str
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]


class CannotBeRead(Exception):
    """A folder that does not count; its text is the reason, in words."""


@dataclass(frozen=True, eq=False)
class Clips:
    """The clips of a split, the same object for all runs that have them.

    Attributes:
        targets: true classes ``[N]``; of several labels which are there, bool ``[N, K]``.
        recordings: of which recording each clip is, N names.
    """

    targets: Labels
    recordings: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Predictions:
    """What a run predicted for a split: classes ``[N]``, or which are there, bool ``[N, K]``."""

    clips: Clips
    predicted: Labels

    def scores(self, num_classes: int) -> Scores:
        """What they score, K classes."""
        if self.clips.targets.ndim == 2:
            return label_scores(self.clips.targets.astype(bool), self.predicted.astype(bool))
        return scores(self.confusion(num_classes))

    def confusion(self, num_classes: int) -> IntArray:
        """Clips by class ``[K, K]``, row true, column predicted; none where they are of several classes."""
        if self.clips.targets.ndim == 2:
            return np.zeros((num_classes, num_classes), dtype=np.int64)
        targets, predicted = (labels.astype(np.int64) for labels in (self.clips.targets, self.predicted))
        return confusion_matrix(targets, predicted, num_classes)


@dataclass(frozen=True, eq=False)
class ReadRun:
    """A finished run.

    Attributes:
        row: what the tables list of it.
        identity: of the run; ``fingerprint`` of the data that it saw.
        settings: every key that can change its numbers, without :data:`REPETITIONS`.
        data: name of the data; ``classes`` its label map.
        synthetic, leaky: what the data are.
        chance: the highest chance floor of test macro-F1.
        val, test: predictions.
    """

    row: RunRow
    identity: str
    fingerprint: str
    settings: dict[str, Value]
    data: str
    classes: tuple[str, ...]
    synthetic: bool
    leaky: bool
    chance: float
    val: Predictions
    test: Predictions

    @property
    def repetition(self) -> Repetition:
        """Which one it is of the runs of its setting."""
        return self.row.fold, self.row.seed


class _Scores(BaseModel):
    f1_macro: Share
    accuracy: Share


class _TrainScores(BaseModel):
    f1_macro: Share | None = None


class _Chance(BaseModel):
    majority: Share
    stratified: Share
    permutation: Share


class _Data(BaseModel):
    name: str
    classes: tuple[str, ...] = Field(min_length=2)
    synthetic: bool
    leaky: bool


class _Result(BaseModel):
    """What is needed of ``result.json``."""

    identity: str
    data_fingerprint: str
    seed: Whole
    selected_epoch: Whole
    settings: dict[str, Value]
    diverged: bool
    train: _TrainScores
    val: _Scores
    test: _Scores
    chance: _Chance
    data: _Data


class Reader:
    """Reads run folders, in several threads if wanted; what many runs share is held once."""

    def __init__(self) -> None:
        self._clips: dict[tuple[bytes, tuple[str, ...]], Clips] = {}
        self._shared: dict[Any, Any] = {}
        self._lock = threading.Lock()

    def read(self, folder: Path) -> ReadRun:
        """A finished run.

        Raises:
            CannotBeRead: with the reason.
        """
        try:
            result = _read_result(folder)
            return self._checked(folder, result)
        except OSError as error:
            raise CannotBeRead(f"cannot be read: {error.strerror or error}") from error

    def _checked(self, folder: Path, result: _Result) -> ReadRun:
        classes = self._one(result.data.classes)
        predictions = self._predictions(folder / "predictions.parquet", classes)
        for split, told in zip(SPLITS, (result.val, result.test), strict=True):
            found = predictions[split].scores(len(classes))
            checked = (("F1", found.f1_macro, told.f1_macro), ("accuracy", found.accuracy, told.accuracy))
            for name, ours, said in checked:
                if abs(ours - said) > AGREES:
                    raise CannotBeRead(
                        f"inconsistent: result.json has {split} {name} {said:.6f}, the predictions give {ours:.6f}"
                    )
        fold = result.settings.get("data.fold")
        settings = {key: value for key, value in result.settings.items() if key not in REPETITIONS}
        train, chance = result.train.f1_macro, result.chance
        return ReadRun(
            row=RunRow(
                folder=folder,
                seed=result.seed,
                fold=fold if isinstance(fold, int) else None,
                train=math.nan if train is None else train,
                val=result.val.f1_macro,
                test=result.test.f1_macro,
                accuracy=result.test.accuracy,
                diverged=result.diverged,
                selected_epoch=result.selected_epoch,
            ),
            identity=result.identity,
            fingerprint=result.data_fingerprint,
            settings={self._one(key): self._one(value) for key, value in settings.items()},
            data=self._one(result.data.name),
            classes=classes,
            synthetic=result.data.synthetic,
            leaky=result.data.leaky,
            chance=max(chance.majority, chance.stratified, chance.permutation),
            val=predictions["val"],
            test=predictions["test"],
        )

    def _predictions(self, path: Path, classes: tuple[str, ...]) -> dict[str, Predictions]:
        try:
            # From memory, by one thread: Arrow's own pool costs more than it saves on files this small.
            buffer = pa.py_buffer(path.read_bytes())
            table = pq.read_table(
                buffer, columns=["group", "split", "target", "predicted"], use_threads=False, pre_buffer=False
            )
            named = (table.schema.metadata or {}).get(b"classes", b"").decode().split("\n")
            if tuple(named) != classes:
                raise CannotBeRead("predictions.parquet has another label map than result.json")
            parts = {split: table.filter(pc.equal(table["split"], split)) for split in SPLITS}
            return {split: self._part(part, classes, split) for split, part in parts.items()}
        except FileNotFoundError as error:
            raise CannotBeRead("predictions.parquet is missing") from error
        except (pa.ArrowException, KeyError, ValueError, TypeError) as error:
            raise CannotBeRead("predictions.parquet is cut short, or none of ours") from error

    def _part(self, part: pa.Table, classes: tuple[str, ...], split: str) -> Predictions:
        if part.num_rows == 0:
            raise CannotBeRead(f"predictions.parquet has no {split} clips")
        if part["group"].null_count:
            raise CannotBeRead("predictions.parquet holds clips of no recording")
        targets = _labels(part["target"], len(classes))
        predicted = _labels(part["predicted"], len(classes), pa.array(classes, pa.string()))
        recordings = part["group"].cast(pa.string())  # they are sorted together with those of other runs
        key = (targets.tobytes(), tuple(recordings.to_pylist()))
        with self._lock:
            clips = self._clips.setdefault(key, Clips(targets, key[1]))
        return Predictions(clips, predicted)

    def _one(self, value: Any) -> Any:
        """The same value, one object for all runs."""
        return self._shared.setdefault((type(value), value), value)


def _labels(column: pa.ChunkedArray, classes: int, names: pa.Array | None = None) -> Labels:
    """A column of classes, or of lists of them, by index or by name.

    Returns:
        Classes ``[N]``, or which are there, bool ``[N, K]``.

    Raises:
        CannotBeRead: a class that is not in the label map.
    """
    several = pa.types.is_list(column.type)
    one = pc.list_flatten(column) if several else column
    found = one if names is None else pc.index_in(one, names)
    if column.null_count or found.null_count:
        raise CannotBeRead(UNKNOWN_CLASS)
    places: IntArray = found.to_numpy().astype(np.int64)
    if len(places) and (places.min() < 0 or places.max() >= classes):
        raise CannotBeRead(UNKNOWN_CLASS)
    if not several:
        return places
    there = np.zeros((len(column), classes), dtype=bool)
    there[pc.list_parent_indices(column).to_numpy(), places] = True
    return there


def _read_result(folder: Path) -> _Result:
    """``result.json``, checked.

    Raises:
        CannotBeRead: with the reason.
        OSError: as the system has it.
    """
    try:
        content = json.loads((folder / "result.json").read_bytes())
    except FileNotFoundError as error:
        begun = any((folder / name).exists() for name in ("environment.json", "config.yaml", "checkpoints"))
        raise CannotBeRead("not finished" if begun else "no run in it") from error
    except (ValueError, RecursionError) as error:
        raise CannotBeRead("result.json is cut short, or no JSON") from error
    if not isinstance(content, dict) or "status" not in content:
        raise CannotBeRead("result.json is none of ours")
    layout = content.get("layout", 1)
    if layout != LAYOUT:
        newer = isinstance(layout, int) and layout > LAYOUT
        raise CannotBeRead(
            f"result.json has layout {shown(layout)}, expected {LAYOUT}: "
            + ("a newer audioclf wrote it" if newer else "an older audioclf wrote it; train the run again")
        )
    try:
        return _Result.model_validate(content)
    except ValidationError as error:
        place = ".".join(map(str, error.errors()[0]["loc"][:2]))
        if place.endswith("f1_macro"):
            raise CannotBeRead(f"{place.split('.')[0]} F1 is no number from 0 to 1") from error
        raise CannotBeRead(f"result.json is none of ours: {place} is missing or wrong") from error


def is_run(folder: Path) -> bool:
    """Whether a run was ever begun there."""
    return any((folder / name).exists() for name in ("result.json", "environment.json", "config.yaml"))


def is_set_aside(folder: Path) -> bool:
    """Whether another run has taken the folder's place: ``NAME.old1``."""
    _, dot, last = folder.name.rpartition(".old")
    return bool(dot) and last.isdigit()


def children(folder: Path) -> list[Path]:
    """Folders (and links to folders, and links that lead nowhere) in a folder, by name."""
    with os.scandir(folder) as entries:
        names = [e.name for e in entries if e.is_symlink() or e.is_dir()]
    return [folder / name for name in sorted(names) if not name.startswith(".")]
