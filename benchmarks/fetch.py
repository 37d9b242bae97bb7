"""Fetching from a server that gives each connection 200 KB/s: eight workers against one.

The server is that of the tests, on this machine. Each recording's clip is 20 s of WAV, 1.9 MB.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import soundfile

from audioclf.audio.ledger import Ledger
from audioclf.audio.store import AudioStore
from audioclf.clips.clip import Clip
from audioclf.config import FetchConfig
from audioclf.fetch.fetch import fetch_clips

SERVER = Path(__file__).parents[1] / "tests" / "fetch" / "server.py"
RECORDINGS, WORKERS = 24, 8
SECONDS, RATE = 20, 48_000
BYTES_PER_S = 200_000


def rows() -> list[tuple[str, ...]]:
    """One row: the time with eight workers against that with one."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        noise = np.random.default_rng(0).normal(0, 0.1, (SECONDS + 5) * RATE).astype(np.float32)
        (folder / "media").mkdir()
        soundfile.write(folder / "media" / "noise.wav", noise, RATE, subtype="PCM_16")
        command = [sys.executable, "-S", str(SERVER), str(folder / "media")]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as server:
            assert server.stdout is not None
            root = f"http://127.0.0.1:{int(server.stdout.readline())}"
            one, eight = (_seconds(root, workers, folder / str(workers)) for workers in (1, WORKERS))
            server.kill()
    return [
        (
            f"{RECORDINGS} recordings at 200 KB/s a connection, {WORKERS} workers",
            f"{RECORDINGS / eight:.2f} clips/s",
            f"1 worker {RECORDINGS / one:.2f} clips/s",
            f"{one / eight:.1f}x",
            ">= 6x",
        )
    ]


def _seconds(root: str, workers: int, folder: Path) -> float:
    """Wall time of a whole fetch, the start of its workers included."""
    urls = [f"{root}/noise.wav?rate={BYTES_PER_S}&n={workers}-{i}" for i in range(RECORDINGS)]
    clips = [Clip(f"c{i}", url, 2.0, 2.0 + SECONDS, ("x",), url) for i, url in enumerate(urls)]
    config = FetchConfig.model_validate(
        {"workers": workers, "workers_per_site": workers, "sleep": 0.0, "per_hour": None, "allow_private": True}
    )
    with Ledger(folder / "ledger.sqlite") as ledger:
        started = time.perf_counter()
        report = fetch_clips(clips, AudioStore(folder / "audio"), ledger, config)
        took = time.perf_counter() - started
    assert report.fetched == RECORDINGS, report.summary_lines()
    return took
