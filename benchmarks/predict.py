"""A trained model in use: an hour-long recording as a timeline, and many clips in batches against one at a time.

The model is trained for an epoch on the demo, at the default size: its weights do not change how long it takes. Each
measurement of memory is a process of its own, since a peak never falls again.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import soundfile

HOUR_S = 3600
RATE = 44_100
CLIPS = 160
ROUNDS = 3


def rows() -> list[tuple[str, ...]]:
    """Speed and memory of a one-hour file, memory of ten hours of lower rate, and batches against clips."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run = train(folder)
        hour = write_noise(folder / "hour.flac", HOUR_S, RATE)
        ten = write_noise(folder / "ten.wav", 10 * HOUR_S, 8_000)
        one, many = _measured("timeline", run, hour), _measured("timeline", run, ten)
        both = _measured("clips", run, *write_clips(folder / "clips"))
    return [
        (
            "predict, one hour (FLAC, 44.1 kHz) as a timeline",
            f"{one['seconds']:.1f} s",
            f"the recording {HOUR_S} s",
            f"{HOUR_S / one['seconds']:.0f}x real time",
            "",
        ),
        ("its peak memory over the model", f"{one['mb']:.0f} MB", "", "", "<= 500 MB"),
        (
            "the same of ten hours (WAV, 8 kHz)",
            f"{many['mb']:.0f} MB",
            f"one hour {one['mb']:.0f} MB",
            f"{many['mb'] / one['mb']:.2f}x",
            "<= 500 MB",
        ),
        (
            f"predict, {CLIPS} clips of 5 s",
            f"{CLIPS / both['together']:.0f} clips/s",
            f"one call each {CLIPS / both['alone']:.0f} clips/s",
            f"{both['alone'] / both['together']:.1f}x",
            "",
        ),
    ]


def train(folder: Path) -> Path:
    """A run of the default features and model."""
    from audioclf.compose import load_config
    from audioclf.training.fit import fit

    words = ["data.recordings_per_class=3", "epochs=1", "trainer.tensorboard=false", "trainer.keep_state=false"]
    return fit(
        load_config([*words, f"paths.cache={folder / 'cache'}", "trainer.accelerator=cpu"]), folder / "run"
    ).folder


def write_noise(path: Path, seconds: int, rate: int) -> Path:
    """A recording of noise, a minute at a time."""
    rng = np.random.default_rng(0)
    with soundfile.SoundFile(path, "w", rate, 1, "PCM_16") as sound:
        for _ in range(seconds // 60):
            sound.write((0.1 * rng.standard_normal(60 * rate)).astype(np.float32))
    return path


def write_clips(folder: Path) -> list[Path]:
    """Clips of 5 s."""
    folder.mkdir()
    return [write_noise_clip(folder / f"{number}.wav", number) for number in range(CLIPS)]


def write_noise_clip(path: Path, seed: int) -> Path:
    """Five seconds of noise."""
    soundfile.write(path, 0.1 * np.random.default_rng(seed).standard_normal(5 * RATE), RATE, "PCM_16")
    return path


def _measured(what: str, run: Path, *files: Path) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.predict", what, str(run), *map(str, files)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def _timeline(run: Path, file: Path) -> dict[str, float]:
    from audioclf import load

    model = load(run, device="cpu")
    before, start = _memory_mb("VmRSS"), time.perf_counter()
    sounds = model.listener(timeline=True).sounds(model.clips(file))
    windows = sum(prediction.usable for prediction in model.predictions(sounds))
    assert windows > 700
    return {"seconds": time.perf_counter() - start, "mb": _memory_mb("VmHWM") - before}


def _clips(run: Path, *files: Path) -> dict[str, float]:
    from audioclf import load

    model = load(run, device="cpu")
    times: dict[str, list[float]] = {"together": [], "alone": []}
    for _ in range(ROUNDS + 1):
        start = time.perf_counter()
        model.predict(files)
        times["together"].append(time.perf_counter() - start)
        start = time.perf_counter()
        for file in files:
            model.predict(file)
        times["alone"].append(time.perf_counter() - start)
    return {name: statistics.median(seconds[1:]) for name, seconds in times.items()}  # the first warms up


def _memory_mb(name: str) -> float:
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines() if ":" in line)
    return float(status[name].split()[0]) / 1024


if __name__ == "__main__":
    measure = {"timeline": _timeline, "clips": _clips}[sys.argv[1]]
    print(json.dumps(measure(*map(Path, sys.argv[2:]))))
