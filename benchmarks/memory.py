"""Peak memory of import and extraction for few and for many clips: it must not grow with their number.

Each measurement is a process of its own, since a peak never falls again.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import soundfile

FEW, MANY = 100, 1000
SECONDS, RATE = 5, 22_050


def rows() -> list[tuple[str, ...]]:
    """One row: the peak for many clips against that for few."""
    with tempfile.TemporaryDirectory() as folder:
        recording = Path(folder) / "noise.wav"
        noise = np.random.default_rng(0).normal(0, 0.1, MANY * SECONDS * RATE // 10).astype(np.float32)
        soundfile.write(recording, noise, RATE)
        few, many = (_peak_mb(recording, count, Path(folder) / str(count)) for count in (FEW, MANY))
    return [
        (
            f"peak memory of import + extraction, {MANY} clips",
            f"{many:.0f} MB",
            f"{FEW} clips {few:.0f} MB",
            f"{many / few:.2f}x",
            "independent",
        )
    ]


def _peak_mb(recording: Path, count: int, folder: Path) -> float:
    command = [sys.executable, "-m", "benchmarks.memory", str(recording), str(count), str(folder)]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[-1])


def _measure(recording: str, count: int, folder: Path) -> float:
    from audioclf.clips.clip import Clip
    from benchmarks.features import prepare

    step = SECONDS / 10.2  # clips overlap, so that a short recording gives many
    clips = [Clip(f"c{i}", recording, i * step, i * step + SECONDS, ("x",), "noise") for i in range(count)]
    prepare(clips, folder)
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return float(status["VmHWM"].split()[0]) / 1024  # of this process alone; getrusage counts what its parent held


if __name__ == "__main__":
    print(_measure(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])))
