"""Embeddings a second: the extraction, against calling the same model clip by clip on the same stored audio.

YAMNet has its real weights where they are found ($AUDIOCLF_DATA or ../shared/data, models/yamnet.tflite); the
transformers are small and have random ones, since time does not depend on them. Needs the extras yamnet and pretrained.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from audioclf.audio import AudioStore, Ledger, import_clips
from audioclf.config import FeaturesConfig, TransformersConfig, YamnetConfig
from audioclf.features.build import build_front_end
from audioclf.features.extract import extract, load_waveform
from audioclf.features.frontend import front_end_settings
from audioclf.features.store import FeatureStore
from benchmarks.features import some_clips

CLIPS = 80
ROUNDS = 3
CPU = torch.device("cpu")


def rows() -> list[tuple[str, ...]]:
    """One row for each model."""
    clips, what = some_clips(CLIPS)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["AUDIOCLF_WEIGHTS"] = str(folder / "weights")
        audio = AudioStore(folder / "audio")
        with Ledger(folder / "ledger.sqlite") as ledger:
            report = import_clips(clips, audio, ledger)
        keys = {str(row.sha256): row.key for row in report.rows.values() if row.state.usable}
        return [_row(name, config, keys, audio, folder, what) for name, config in models(folder).items()]


def models(folder: Path) -> dict[str, FeaturesConfig]:
    """What is timed."""
    found: dict[str, FeaturesConfig] = {}
    for root in (os.environ.get("AUDIOCLF_DATA"), "../shared/data"):
        if root and (Path(root) / "models" / "yamnet.tflite").is_file() and not found:
            found["YAMNet"] = YamnetConfig(name="yamnet", weights=str(Path(root) / "models" / "yamnet.tflite"))
    return found | {
        "wav2vec 2.0, 4 x 256": TransformersConfig(name="transformers", model=str(small_wav2vec2(folder / "wav2vec2")))
    }


def small_wav2vec2(folder: Path) -> Path:
    """wav2vec 2.0 with a third of the width and of the layers of its base model."""
    from transformers import Wav2Vec2Config, Wav2Vec2FeatureExtractor, Wav2Vec2Model

    config = Wav2Vec2Config(
        hidden_size=256, num_hidden_layers=4, num_attention_heads=4, intermediate_size=1024, conv_dim=(128,) * 7
    )
    Wav2Vec2Model(config).save_pretrained(folder)
    Wav2Vec2FeatureExtractor().save_pretrained(folder)
    return folder


def _row(
    name: str, config: FeaturesConfig, keys: dict[str, str], audio: AudioStore, folder: Path, what: str
) -> tuple[str, ...]:
    front_end = build_front_end(config)

    def ours() -> None:
        with tempfile.TemporaryDirectory(dir=folder) as empty:
            store = FeatureStore(Path(empty), front_end_settings(config, "1"), front_end.output_shape, "float32")
            extract(keys, audio, store, front_end, device=CPU)

    def clip_by_clip() -> None:
        for key in keys.values():
            waveform = load_waveform(audio, key, front_end.sample_rate)
            front_end(front_end.fit_length(waveform)[None])

    ways: dict[str, Callable[[], None]] = {"clip by clip": clip_by_clip, "ours": ours}
    times: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(ROUNDS + 1):
        for way, run in ways.items():
            start = time.perf_counter()
            run()
            times[way].append(time.perf_counter() - start)
    rate = {way: len(keys) / statistics.median(seconds[1:]) for way, seconds in times.items()}  # the first warms up
    return (
        f"embeddings by {name} ({len(keys)} clips of {what})",
        f"{rate['ours']:.1f} clips/s",
        f"clip by clip {rate['clip by clip']:.1f} clips/s",
        f"{rate['ours'] / rate['clip by clip']:.1f}x",
        "",
    )
