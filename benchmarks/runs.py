"""Comparing 2,000 finished runs: time and memory, against reading their ``result.json`` and averaging, as a notebook does.

The runs are made up: folders of the layout that training writes, with scores as of a small network on ESC-10.
"""

from __future__ import annotations

import collections
import json
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from audioclf.runs.folder import LAYOUT, to_json
from audioclf.training.scores import confusion_matrix, scores

CLASSES = ("clock", "cow", "dog", "fire", "hen", "rain", "rooster", "saw", "sea", "wind")
FOLDS = 5
CLIPS = {"train": 240, "val": 80, "test": 80}
RUNS = 2_000


def rows() -> list[tuple[str, ...]]:
    """One row for time, one for memory."""
    with tempfile.TemporaryDirectory() as folder:
        runs = Path(folder) / "runs"
        write_sweep(runs, RUNS)
        ours, peak = _measured("compare", runs)
        notebook, notebook_peak = _measured("average", runs)
    return [
        (
            f"comparing {RUNS:,} runs",
            f"{ours:.1f} s",
            f"mean of result.json {notebook:.1f} s",
            f"{ours / notebook:.1f}x",
            "< 20 s",
        ),
        (
            f"peak memory of comparing {RUNS:,} runs",
            f"{peak:.0f} MB",
            f"mean of result.json {notebook_peak:.0f} MB",
            f"{peak / notebook_peak:.2f}x",
            "< 1,000 MB",
        ),
    ]


def write_sweep(folder: Path, count: int) -> None:
    """A grid of learning rates, epochs and mel bands, three seeds and five folds of each setting."""
    for number in range(count):
        setting, repetition = divmod(number, 3 * FOLDS)
        seed, fold = repetition % 3, repetition // 3 + 1
        lr, epochs, mels = 10.0 ** -(setting % 4 + 2), (3, 10, 50)[setting // 4 % 3], 16 * (setting // 12 + 1)
        skill = 1.2 - 0.4 * abs(setting % 4 - 2) + 0.2 * (setting // 4 % 3)
        write_run(folder / f"run{number:04d}", {"lr": lr, "epochs": epochs, "features.n_mels": mels}, seed, fold, skill)


def write_run(
    folder: Path,
    settings: Mapping[str, Any],
    seed: int = 0,
    fold: int | None = None,
    skill: float = 1.0,
    *,
    data: str = "esc10",
    classes: Sequence[str] = CLASSES,
    change: Mapping[str, Any] | None = None,
) -> Path:
    """A finished run's folder without checkpoints: what comparisons read.

    Whether a clip is right depends on its recording (the same for all runs), on the seed, and on both.

    Args:
        folder: where to write it.
        settings: its keys and values, beside seed and fold.
        seed: which repetition of the setting it is.
        fold: its fold.
        skill: of the setting, as a z-score: 0 gets half of the clips right.
        data: its name.
        classes: the label map.
        change: what stands in ``result.json`` instead, top-level keys.

    Returns:
        The folder.
    """
    k = len(classes)
    name = json.dumps([dict(settings), seed, fold])
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    clips: dict[str, list[Any]] = {name: [] for name in ("clip", "group", "split", "target", "label", "predicted")}
    result: dict[str, Any] = {}
    for split, count in CLIPS.items():
        of_clips = np.random.default_rng([fold or 0, list(CLIPS).index(split)])
        recording = np.arange(count) // 4 * 3 + np.minimum(np.arange(count) % 4, 2)  # of four clips two share one
        target = recording // 3 % k
        ease, taken_for = of_clips.normal(size=count)[recording % count], of_clips.integers(1, k, count)
        luck = 0.1 * rng.normal() + 0.7 * rng.normal(size=count)
        right = skill + (1.5 if split == "train" else 0) + ease + luck > 0
        predicted = np.where(right, target, (target + taken_for) % k)
        clips["clip"] += [f"{data}{fold}{split}{i}" for i in range(count)]
        clips["group"] += [f"{data}{fold}{split}r{i}" for i in recording]
        clips["split"] += [split] * count
        clips["target"] += target.tolist()
        clips["label"] += [classes[i] for i in target]
        clips["predicted"] += [classes[i] for i in predicted]
        found = scores(confusion_matrix(target, predicted, k))
        result[split] = {"loss": 1.0, "accuracy": found.accuracy, "f1_macro": found.f1_macro}
    folder.mkdir(parents=True)
    table = pa.table(clips | {"logits": [[0.0] * k] * len(clips["clip"])})
    table = table.set_column(3, "target", table["target"].cast(pa.int32()))
    pq.write_table(table.replace_schema_metadata({"classes": "\n".join(classes)}), folder / "predictions.parquet")
    lines = [f"{epoch},1.0,.5,.5,1.0,.5,.5" for epoch in range(3)]
    header = "epoch,train_loss,train_f1_macro,train_accuracy,val_loss,val_f1_macro,val_accuracy"
    (folder / "metrics.csv").write_text("\n".join([header, *lines]) + "\n")
    result |= {
        "status": "finished",
        "layout": LAYOUT,
        "identity": name,
        "data_fingerprint": f"{data} {fold} {k}",
        "seed": seed,
        "selected_epoch": 3,
        "settings": {**settings, "seed": seed, "data.name": data, "data.fold": "null" if fold is None else fold},
        "diverged": False,
        "chance": {"majority": 0.018, "stratified": 1 / k, "permutation": 1 / k},
        "data": {"name": data, "classes": list(classes), "synthetic": False, "leaky": False},
    }
    (folder / "result.json").write_text(to_json(result | dict(change or {})))
    return folder


def compare_runs(folder: Path) -> object:
    """All that ``python -m audioclf compare`` does: sentences, tables, figures and page."""
    from audioclf.cli import compare_folders

    return compare_folders([folder], into=folder.with_name("comparison"))


def average(folder: Path) -> object:
    """What a notebook does: the mean F1 of each setting."""
    found = collections.defaultdict(list)
    for path in folder.glob("*/result.json"):
        result = json.loads(path.read_text())
        settings = {key: value for key, value in result["settings"].items() if key not in ("seed", "data.fold")}
        found[tuple(settings.items())].append((result["val"]["f1_macro"], result["test"]["f1_macro"]))
    return {setting: np.mean(scores, axis=0) for setting, scores in found.items()}


def _measured(way: str, folder: Path) -> tuple[float, float]:
    """Seconds and peak memory [MB] in a process of its own, imports included."""
    command = [sys.executable, "-m", "benchmarks.runs", way, str(folder)]
    start = time.perf_counter()
    finished = subprocess.run(command, capture_output=True, text=True, check=True)
    return time.perf_counter() - start, float(finished.stdout.splitlines()[-1])


def _peak_mb() -> float:
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines() if ":" in line)
    return float(status["VmHWM"].split()[0]) / 1024  # of this process alone; getrusage counts what its parent held


if __name__ == "__main__":
    {"compare": compare_runs, "average": average}[sys.argv[1]](Path(sys.argv[2]))
    print(_peak_mb())
