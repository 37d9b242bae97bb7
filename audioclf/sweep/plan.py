"""What a sweep runs: each identity once, and runs that differ in ``epochs`` alone as one trajectory."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from audioclf.config import Config
from audioclf.runs.folder import RunFolder
from audioclf.runs.identity import REPETITIONS, identity, run_name, shares_epochs, swept_settings, trajectory


@dataclass(frozen=True)
class PlannedRun:
    """One run of a sweep.

    Attributes:
        label: what it is among the others, as typed: ``"lr=1e-4 epochs=10 seed=0"``.
        overrides: all of its command line, one word each.
        config: resolved.
        folder: where it lies or will lie.
    """

    label: str
    overrides: tuple[str, ...] = field(compare=False)
    config: Config = field(compare=False)
    folder: RunFolder = field(compare=False)

    @property
    def settings(self) -> dict[str, Any]:
        """Its hyper-parameters by dotted key."""
        return swept_settings(self.config)


def plan(combinations: Iterable[tuple[str, tuple[str, ...], Config]], outputs: Path) -> list[PlannedRun]:
    """The runs of a sweep: combinations that come to the same identity are one run.

    Args:
        combinations: label, overrides and configuration of each.
        outputs: the folder of run folders.
    """
    runs: dict[str, PlannedRun] = {}
    for label, overrides, config in combinations:
        run = PlannedRun(label, overrides, config, RunFolder(outputs / run_name(config)))
        runs.setdefault(identity(config), run)
    return list(runs.values())


def trajectories(runs: Iterable[PlannedRun]) -> list[list[PlannedRun]]:
    """Runs that one training passes through, fewest epochs first."""
    ways: dict[str, list[PlannedRun]] = {}
    for run in runs:
        ways.setdefault(trajectory(run.config), []).append(run)
    return [sorted(way, key=lambda run: run.config.epochs) for way in ways.values()]


def job_of(way: Sequence[PlannedRun]) -> list[str]:
    """The command line of the job that trains a trajectory: its longest run, the others marked on the way.

    Marks that were typed stay. Clips were fetched before the jobs, so that all train on the same ones.
    """
    *shorter, longest = way
    marks = {run.config.epochs for run in shorter} | {mark for run in way for mark in run.config.marks}
    return [
        *longest.overrides,
        f"marks=[{','.join(map(str, sorted(marks)))}]",
        "fetch.enabled=false",
        f"hydra.sweep.subdir='{longest.folder.path.name}'",
    ]


def varying(runs: Sequence[PlannedRun], typed: Sequence[str] = ()) -> list[str]:
    """Keys of settings that differ between runs, those that were typed first; without seed and fold."""
    settings = [run.settings for run in runs]
    keys = {key for one in settings for key in one}
    differ = {key for key in keys if len({str(one.get(key)) for one in settings}) > 1} - set(REPETITIONS)
    first = [key for key in typed if key in differ]
    return first + sorted(differ - set(first))


def sweep_name(runs: Sequence[PlannedRun], keys: Sequence[str]) -> str:
    """A folder name: what is swept, and a hash of the runs, so that the same sweep finds its folder again."""
    swept = [key.removesuffix(".name").rpartition(".")[2] for key in keys]
    swept += [key.rpartition(".")[2] for key in REPETITIONS if len({run.settings.get(key) for run in runs}) > 1]
    digest = hashlib.sha256("\n".join(sorted(identity(run.config) for run in runs)).encode()).hexdigest()
    return "-".join([runs[0].config.data.name, *swept[:6], digest[:8]])


def why_not_shared(runs: Sequence[PlannedRun]) -> str | None:
    """Says that runs of other ``epochs`` train apart, where schedule, early stopping or several devices make them."""
    apart = [run.config for run in runs if not shares_epochs(run.config)]
    if not apart or len({run.config.epochs for run in runs}) == 1:
        return None
    trainer, schedule = apart[0].trainer, apart[0].optimizer.schedule
    if schedule != "constant":
        return f"optimizer.schedule={schedule} depends on epochs: runs of other epochs share no work"
    why = f"patience={trainer.patience}" if trainer.patience is not None else f"devices={trainer.devices}"
    return f"trainer.{why}: runs of other epochs share no work"
