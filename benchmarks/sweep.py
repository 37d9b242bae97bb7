"""A sweep against its runs one by one: `python -m benchmarks sweep` (40 minutes, so only when it is asked for).

Each side starts from an empty outputs folder and trains the same runs of ESC-10 (or of the demo) from features that
are cached. The alternative is what a person does without sweeps: `python train.py lr=... epochs=... seed=...` for each
run, in an outputs folder of its own, so that nothing is continued. A second alternative leaves the interpreter's start
out: the same runs trained one after another in one process.
"""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from audioclf.compose import load_config
from audioclf.runs.identity import run_name
from audioclf.training.fit import fit

CHECKOUT = Path(__file__).parents[1]
GRID = {"lr": ["1e-2", "1e-3", "1e-4", "1e-5"], "epochs": ["3", "10", "50"], "seed": ["0", "1", "2"]}
MARKS = GRID | {"epochs": ["10", "20", "30", "40", "50"]}
A_SIXTH = MARKS | {"lr": ["1e-3", "1e-4"], "seed": ["0"]}
JOBS = {"lr": ["1e-2", "1e-3", "1e-4", "1e-5"], "epochs": ["3", "10", "50"]}

Axes = dict[str, list[str]]


def rows() -> list[tuple[str, ...]]:
    """The sweep of the README against separate trainings; the epochs axis; two jobs against one."""
    esc10 = Path(os.environ.get("AUDIOCLF_DATA", CHECKOUT.parent / "shared" / "data")) / "esc10"
    data = ["data=esc10", f"data.root={esc10}"] if esc10.is_dir() else ["data=demo"]
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        common = [*data, f"paths.cache={place / 'cache'}"]
        _train(place / "warm", [*common, "epochs=1"])
        grid, again = (_sweep(place / "grid", common, GRID) for _ in range(2))
        table = [
            _row(
                "sweep of 36 runs: 4 lr x 3 epochs x 3 seeds",
                grid,
                "36 x train.py",
                _apart(place / "a", common, GRID),
                "<= 0.5x",
            ),
            _row("the same", grid, "36 x fit, one process", _in_one(place / "b", common, GRID), ""),
            _row("the same, launched again when it is finished", again, "the first launch", grid, ""),
        ]
        marks = _sweep(place / "marks", common, MARKS)
        apart = 6 * _apart(place / "c", common, A_SIXTH)
        what = "60 runs: 4 lr x epochs=10,20,30,40,50 x 3 seeds"
        table.append(_row(what, marks, "60 x train.py, by 10 of them,", apart, "<= 0.25x"))
        one, two = (
            _sweep(place / f"jobs{n}", [*common, "launcher=joblib", f"hydra.launcher.n_jobs={n}"], JOBS) for n in (1, 2)
        )
        table.append(_row("launcher=joblib, 2 jobs, 12 runs", two, "1 job", one, "<= 1x"))
    return table


def _row(what: str, ours: float, alternative: str, theirs: float, target: str) -> tuple[str, ...]:
    return what, f"{ours:.0f} s", f"{alternative} {theirs:.0f} s", f"{ours / theirs:.2f}x", target


def _sweep(outputs: Path, common: Sequence[str], axes: Axes) -> float:
    return _train(outputs, ["-m", *common, *(f"{key}={','.join(values)}" for key, values in axes.items())])


def _apart(outputs: Path, common: Sequence[str], axes: Axes) -> float:
    return sum(_train(outputs / str(i), [*common, *words]) for i, words in enumerate(_each(axes)))


def _in_one(outputs: Path, common: Sequence[str], axes: Axes) -> float:
    started = time.perf_counter()
    for i, words in enumerate(_each(axes)):
        config = load_config([*common, *words])
        fit(config, outputs / str(i) / run_name(config))
    return time.perf_counter() - started


def _each(axes: Axes) -> list[list[str]]:
    keyed = [[f"{key}={value}" for value in values] for key, values in axes.items()]
    return [list(words) for words in itertools.product(*keyed)]


def _train(outputs: Path, words: Sequence[str]) -> float:
    command = [sys.executable, str(CHECKOUT / "train.py"), *words, f"paths.outputs={outputs}"]
    started = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started
