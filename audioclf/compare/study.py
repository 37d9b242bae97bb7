"""Which runs are compared: those found below the folders, once each, finished, whole, and of the same data."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from audioclf.compare.axis import in_order
from audioclf.compare.comparison import PassedOver
from audioclf.compare.read import CannotBeRead, Reader, ReadRun, Value, children, is_run, is_set_aside
from audioclf.errors import UserError

READERS = 4  # threads; Arrow reads without the interpreter's lock
OURS = frozenset({"figures", "sweeps"})
"""Folders beside runs that hold comparisons and sweeps, not runs."""


@dataclass
class Study:
    """The runs that are compared.

    Attributes:
        runs: sorted by settings, fold and seed.
        passed_over: what was looked at and not counted.
        keys: swept keys in the order typed, where a sweep's folder says it.
        baseline: a sweep's first setting; empty where there is none.
        failed: of sweeps: the words of a run and its error.
        pruned: of searches: the words of each run that was given up.
    """

    runs: list[ReadRun] = field(default_factory=list)
    passed_over: list[PassedOver] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    baseline: dict[str, Value] = field(default_factory=dict)
    failed: list[tuple[str, str]] = field(default_factory=list)
    pruned: list[str] = field(default_factory=list)


def read_study(folders: Sequence[Path]) -> Study:
    """Finds and reads the runs below folders.

    Args:
        folders: each a run, a sweep's folder (with ``sweep.json``), or a folder of runs.

    Raises:
        UserError: a folder that is not there or may not be read, or no run in any of them that can be compared.
    """
    study = Study()
    found: dict[Path, Path] = {}  # resolved -> as found: a run reached twice is one run
    for folder in folders:
        for path in _runs_below(folder, study):
            try:
                found.setdefault(path.resolve(strict=True), path)
            except (OSError, RuntimeError):  # Python before 3.13 has RuntimeError for a loop of links
                study.passed_over.append(PassedOver(path, "is not there, or a link that leads nowhere"))
    # By where they lie, not by how they were named: of two runs alike the first counts.
    paths = [found[where] for where in sorted(found, key=lambda where: (where.name, str(where)))]
    with ThreadPoolExecutor(READERS) as pool:
        reader = Reader()
        for path, outcome in zip(paths, pool.map(lambda path: _read(reader, path), paths), strict=True):
            if isinstance(outcome, ReadRun):
                study.runs.append(outcome)
            else:
                study.passed_over.append(PassedOver(path, outcome))
    _keep_comparable(study)
    study.runs.sort(key=lambda run: (sorted_values(run.settings), run.row.fold or 0, run.row.seed, run.identity))
    study.passed_over.sort(key=lambda passed: (passed.path.name, str(passed.path)))
    if not study.runs:
        raise _nothing(folders, study.passed_over)
    return study


def sorted_values(settings: dict[str, Value]) -> tuple[tuple[str, tuple[int, float, str]], ...]:
    """A key to sort settings by: numbers by size, texts by letter."""
    return tuple((key, in_order(value)) for key, value in sorted(settings.items()))


def _read(reader: Reader, path: Path) -> ReadRun | str:
    try:
        return reader.read(path)
    except CannotBeRead as reason:
        return str(reason)


def _runs_below(folder: Path, study: Study) -> list[Path]:
    """Candidates: folders that may hold a run."""
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; expected a run, a sweep's folder or a folder of runs")
    try:
        if (folder / "sweep.json").exists():
            return _runs_of_sweep(folder, study)
        if is_run(folder):
            return [folder]
        below = children(folder)
    except OSError as error:
        raise UserError(f"{folder}: cannot be read: {error.strerror}") from error
    aside = [path for path in below if is_set_aside(path)]
    study.passed_over += [PassedOver(path, "set aside: another run took its place") for path in aside]
    return [path for path in below if path not in aside and not (path.name in OURS and not _holds_run(path))]


def _holds_run(path: Path) -> bool:
    try:
        return is_run(path)
    except OSError:
        return True  # reading it will say why not


def _runs_of_sweep(folder: Path, study: Study) -> list[Path]:
    """The runs that ``sweep.json`` names, and what it says about them."""
    path = folder / "sweep.json"
    try:
        sweep: dict[str, Any] = json.loads(path.read_bytes())
        runs = [Path(os.path.normpath(folder / name)) for name in sweep["runs"]]
        keys, baseline = list(sweep["keys"]), dict(sweep["baseline"])
        failed = [(str(one["overrides"]), str(one["error"])) for one in sweep.get("failed", [])]
        gone = {str(one["run"]) for one in sweep.get("failed", [])}  # told with their error, so not passed over as well
        pruned = [(str(one["run"]), str(one["overrides"]), int(one["epoch"])) for one in sweep.get("pruned", [])]
    except (ValueError, TypeError, KeyError, RecursionError):
        study.passed_over.append(PassedOver(folder, "sweep.json is cut short, or none of ours"))
        return []
    study.keys += [key for key in keys if key not in study.keys]
    study.baseline = study.baseline or baseline
    study.failed += [one for one in failed if one not in study.failed]
    outputs = folder.resolve().parent.parent
    study.passed_over += [PassedOver(outputs / run, f"pruned after epoch {epoch}") for run, _, epoch in pruned]
    study.pruned += [overrides for _, overrides, _ in pruned]
    return [path for path in runs if path.name not in gone]


def _keep_comparable(study: Study) -> None:
    """Keeps the runs of the data that most have, each once."""
    everywhere: Callable[[ReadRun], Hashable] = lambda run: ()  # noqa: E731
    _keep_majority(study, everywhere, lambda run: run.data, "of other data than most")
    _keep_majority(study, everywhere, lambda run: run.classes, "has another label map than most")
    _keep_majority(study, _data_settings, lambda run: run.fingerprint, "of other audio or splits than most")
    _name_folds(study)
    first: dict[Hashable, Path] = {}
    kept = []
    for run in study.runs:
        key = (sorted_values(run.settings), run.row.fold, run.row.seed)
        if first.setdefault(key, run.row.folder) == run.row.folder:
            kept.append(run)
        else:
            study.passed_over.append(PassedOver(run.row.folder, f"the same run as {first[key]}"))
    study.runs = kept


def _keep_majority(
    study: Study, within: Callable[[ReadRun], Hashable], what: Callable[[ReadRun], Hashable], reason: str
) -> None:
    """Passes over the runs in which ``what`` is another than in most of the runs that agree in ``within``."""
    counts: dict[Hashable, Counter[Hashable]] = {}
    for run in study.runs:
        counts.setdefault(within(run), Counter())[what(run)] += 1
    usual = {key: counter.most_common(1)[0][0] for key, counter in counts.items()}
    kept = []
    for run in study.runs:
        if what(run) == usual[within(run)]:
            kept.append(run)
        else:
            name = f": {what(run)}" if what(run) == run.data else ""
            study.passed_over.append(PassedOver(run.row.folder, reason + name))
    study.runs = kept


def _data_settings(run: ReadRun) -> Hashable:
    """What runs must share to have the same clips in the same splits."""
    return run.row.fold, tuple(sorted((k, str(v)) for k, v in run.settings.items() if k.startswith("data.")))


def _name_folds(study: Study) -> None:
    """Gives runs without a fold the one whose clips they have: ``data.fold=null`` is the first published fold."""
    folds = {run.fingerprint: run.row.fold for run in study.runs if run.row.fold is not None}
    study.runs = [
        replace(run, row=replace(run.row, fold=folds[run.fingerprint]))
        if run.row.fold is None and run.fingerprint in folds
        else run
        for run in study.runs
    ]


def _nothing(folders: Sequence[Path], passed_over: Sequence[PassedOver]) -> UserError:
    places = ", ".join(map(str, folders))
    if not passed_over:
        return UserError(f"{places}: no runs in it; expected finished runs", "python train.py makes one")
    within = [one.path for one in passed_over if one.path not in folders]
    if sweep := next((path for path in within if (path / "sweep.json").is_file()), None):
        return UserError(f"{places}: a folder of sweeps, not of runs", f"python -m audioclf compare {sweep}")
    reasons = Counter(one.reason for one in passed_over).most_common(3)
    said = "; ".join(f"{count} {reason}" for reason, count in reasons)
    return UserError(
        f"{places}: none of {len(passed_over)} folders holds a run that can be compared ({said})",
        "python train.py with the same words finishes a run that was stopped",
    )
