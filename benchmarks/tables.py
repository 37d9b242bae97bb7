"""Reading tables of links against ``csv.DictReader``, which checks nothing: time of AudioSet's, memory of two million rows.

The readers take turns in one process; a peak of memory never falls again, so each has a process of its own.
"""

from __future__ import annotations

import base64
import csv
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from audioclf.clips.manifest import read_manifest
from audioclf.config import LinksData

BALANCED, MANY = 22_160, 2_000_000
CLASSES = 527
ROUNDS = 5
NAMES = "class_labels_indices.csv"


def rows() -> list[tuple[str, ...]]:
    """One row for the time of a usual table, one for the memory of a very large one."""
    with tempfile.TemporaryDirectory() as folder:
        table, what = balanced(Path(folder))
        ways: dict[str, Callable[[Path], object]] = {"ours": ours, "DictReader": dict_reader}
        times: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(ROUNDS + 1):
            for name, way in ways.items():
                start = time.perf_counter()
                way(table)
                times[name].append(time.perf_counter() - start)
        seconds = {name: statistics.median(found[1:]) for name, found in times.items()}  # the first warms up
        large = write_segments(Path(folder) / "large.csv", MANY)
        peak = {name: _peak_mb(name, large) for name in ways}
    return [
        (
            f"reading {what}, {BALANCED:,} rows",
            f"{seconds['ours']:.2f} s",
            f"csv.DictReader {seconds['DictReader']:.2f} s",
            f"{seconds['ours'] / seconds['DictReader']:.1f}x",
            "< 1 s",
        ),
        (
            f"peak memory of reading {MANY:,} rows",
            f"{peak['ours']:.0f} MB",
            f"csv.DictReader {peak['DictReader']:.0f} MB",
            f"{peak['ours'] / peak['DictReader']:.2f}x",
            "< 2,000 MB",
        ),
    ]


def balanced(folder: Path) -> tuple[Path, str]:
    """AudioSet's balanced table where it is found, else one of its size, and which of them it is."""
    for root in (os.environ.get("AUDIOCLF_DATA"), "../shared/data"):
        table = Path(root or "") / "audioset" / "balanced_train_segments.csv"
        if root and table.is_file():
            return table, "AudioSet balanced"
    return write_segments(folder / "balanced.csv", BALANCED), "a table like AudioSet balanced"


def write_segments(table: Path, count: int) -> Path:
    """A table in AudioSet's format with its list of classes beside it: one to four classes a row."""
    rng = random.Random(0)
    mids = [f"/m/{number:05x}" for number in range(CLASSES)]
    names = [f"{number},{mid},class {number}\n" for number, mid in enumerate(mids)]
    (table.parent / NAMES).write_text("index,mid,display_name\n" + "".join(names))
    with table.open("w") as file:
        file.write("# YTID, start_seconds, end_seconds, positive_labels\n")
        for _ in range(count):
            video, start = base64.urlsafe_b64encode(rng.randbytes(8))[:11].decode(), 10 * rng.randrange(60)
            labels = ",".join(rng.sample(mids, rng.randint(1, 4)))
            file.write(f'{video}, {start}.000, {start + 10}.000, "{labels}"\n')
    return table


def ours(table: Path) -> object:
    """Checked clips with one label each, all ids unique."""
    data = LinksData.model_validate({"name": "links", "csv": str(table), "multi_label": "most_specific"})
    return read_manifest(data, table.parent).clips


def dict_reader(table: Path) -> object:
    """What a notebook does: a dictionary of texts for each row."""
    with table.open(newline="") as file:
        return list(csv.DictReader(file, ("id", "start", "end", "labels"), skipinitialspace=True))


def _peak_mb(name: str, table: Path) -> float:
    command = [sys.executable, "-m", "benchmarks.tables", name, str(table)]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[-1])


def _measure(name: str, table: Path) -> float:
    held = (ours if name == "ours" else dict_reader)(table)
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines() if ":" in line)
    del held
    return float(status["VmHWM"].split()[0]) / 1024  # of this process alone; getrusage counts what its parent held


if __name__ == "__main__":
    print(_measure(sys.argv[1], Path(sys.argv[2])))
