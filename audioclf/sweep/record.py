"""A sweep's own folder: which runs belong to it, and why some failed. The runs lie beside it, shared by all sweeps."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from audioclf.files import write_text
from audioclf.runs.folder import to_json
from audioclf.sweep.plan import PlannedRun

SWEEPS = "sweeps"
LAYOUT = 1


def write_sweep(
    folder: Path, keys: Sequence[str], runs: Sequence[PlannedRun], failed: Mapping[str, str] | None = None
) -> None:
    """Writes ``sweep.json``.

    Args:
        folder: the sweep's.
        keys: the swept keys, without seed and fold.
        runs: all of them, whatever became of them; the first one's setting is the baseline.
        failed: label of each combination that failed → why.
    """
    names = {run.label: run.folder.path.name for run in runs}
    content = {
        "layout": LAYOUT,
        "keys": list(keys),
        "baseline": {key: runs[0].settings.get(key, "null") for key in keys},
        "runs": [Path(os.path.relpath(run.folder.path, folder)).as_posix() for run in runs],
        "failed": [
            {"run": names.get(label), "overrides": label, "error": error} for label, error in (failed or {}).items()
        ],
    }
    write_text(folder / "sweep.json", to_json(content))
