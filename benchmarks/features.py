"""Clips a second from audio files to mel features, against a plain librosa loop over the same files.

Two ways of ours: the chain alone (decode, resample, mel), and the first run, which also verifies every clip and keeps
it as FLAC and features. Each round times all of them in turn.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

import librosa
import soundfile
import torch

from audioclf.audio import AudioStore, Ledger, decode, import_clips
from audioclf.clips.clip import Clip
from audioclf.clips.demo import read_demo, write_demo
from audioclf.clips.esc import read_esc
from audioclf.config import MelConfig
from audioclf.features.build import build_front_end
from audioclf.features.extract import extract
from audioclf.features.frontend import front_end_settings
from audioclf.features.store import FeatureStore

CLIPS = 160
ROUNDS = 3
CHUNK = 4
CONFIG = MelConfig(name="mel", n_mels=64)


def rows() -> list[tuple[str, ...]]:
    """One row for each way of ours."""
    clips, what = some_clips(CLIPS)
    ways: dict[str, Callable[[Sequence[Clip]], None]] = {
        "librosa": librosa_loop,
        "decode + resample + mel": chain,
        "first run: the same, verified and stored": first_run,
    }
    with tempfile.TemporaryDirectory() as folder:
        wavs = [as_wav(clip, Path(folder)) for clip in clips]
        return [
            *_rows(
                {name: partial(way, clips) for name, way in ways.items()}, len(clips), f"{len(clips)} clips of {what}"
            ),
            *_rows({name: partial(way, wavs) for name, way in list(ways.items())[:2]}, len(wavs), "the same as WAV"),
        ]


def _rows(ways: dict[str, Callable[[], None]], count: int, files: str) -> list[tuple[str, ...]]:
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(ROUNDS + 1):
        for name, way in ways.items():
            start = time.perf_counter()
            way()
            times[name].append(time.perf_counter() - start)
    rate = {name: count / statistics.median(seconds[1:]) for name, seconds in times.items()}  # the first warms up
    return [
        (
            f"{name} ({files})",
            f"{rate[name]:.0f} clips/s",
            f"librosa loop {rate['librosa']:.0f} clips/s",
            f"{rate[name] / rate['librosa']:.1f}x",
            ">= 4x" if name.startswith("decode") else "",
        )
        for name in ways
        if name != "librosa"
    ]


def as_wav(clip: Clip, folder: Path) -> Clip:
    """The clip in a WAV file of its own, so that what is timed is not mostly the codec."""
    samples, rate = librosa.load(
        clip.source, sr=None, offset=clip.start, duration=None if clip.end is None else clip.end - clip.start
    )
    path = folder / f"{clip.id}.wav"
    soundfile.write(path, samples, rate, subtype="PCM_16")
    return replace(clip, source=str(path), start=0.0, end=None)


def some_clips(count: int) -> tuple[list[Clip], str]:
    """Clips to work on, evenly over the classes, and what they are."""
    for folder in (os.environ.get("AUDIOCLF_DATA"), "../shared/data"):
        if folder and (Path(folder) / "esc10").is_dir():
            clips, _ = read_esc(Path(folder) / "esc10", esc10_only=True)
            return clips[:: max(1, len(clips) // count)][:count], "ESC-10"
    return read_demo(write_demo(Path("cache/demo/benchmark")))[:count], "the synthetic demo"


def librosa_loop(clips: Sequence[Clip]) -> None:
    """What a notebook does."""
    for clip in clips:
        duration = None if clip.end is None else clip.end - clip.start
        samples, rate = librosa.load(clip.source, sr=CONFIG.sample_rate, offset=clip.start, duration=duration)
        mel = librosa.feature.melspectrogram(
            y=samples, sr=rate, n_fft=CONFIG.n_fft, hop_length=CONFIG.hop_length, n_mels=CONFIG.n_mels
        )
        librosa.power_to_db(mel, top_db=None)


def chain(clips: Sequence[Clip]) -> None:
    """Our decoder, resampler and front-end, in threads, without the stores."""
    front_end = build_front_end(CONFIG)

    def work(chunk: Sequence[Clip]) -> torch.Tensor:
        waveforms = [decode(clip.source, clip.start, clip.end, CONFIG.sample_rate).samples for clip in chunk]
        return front_end(torch.stack([front_end.fit_length(torch.from_numpy(w)) for w in waveforms]))

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(work, [clips[i : i + CHUNK] for i in range(0, len(clips), CHUNK)]))
    torch.set_num_threads(threads)


def first_run(clips: Sequence[Clip]) -> None:
    """All that a first run does before training, into empty stores."""
    with tempfile.TemporaryDirectory() as folder:
        prepare(clips, Path(folder))


def prepare(clips: Sequence[Clip], folder: Path) -> None:
    """Import and extraction, as the data module does them."""
    front_end = build_front_end(CONFIG)
    audio = AudioStore(folder / "audio")
    with Ledger(folder / "ledger.sqlite") as ledger:
        report = import_clips(clips, audio, ledger)
    store = FeatureStore(
        folder / "features", front_end_settings(CONFIG, front_end.version), front_end.output_shape, CONFIG.storage
    )
    keys = {str(row.sha256): row.key for row in report.rows.values() if row.state.usable}
    extract(keys, audio, store, front_end, device=torch.device("cpu"))
