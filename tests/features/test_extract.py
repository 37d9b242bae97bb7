"""Extraction: only what is missing, never half a file, and the same features whichever clips share a batch."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from audioclf.audio.importer import import_clips
from audioclf.audio.ledger import Ledger
from audioclf.audio.store import AudioStore
from audioclf.clips.table import read_table
from audioclf.config import Config, MelConfig
from audioclf.console import ProgressBar
from audioclf.errors import UserError
from audioclf.features.build import build_front_end
from audioclf.features.extract import CHUNK, extract, load_waveform
from audioclf.features.frontend import front_end_settings
from audioclf.features.store import FeatureStore

CPU = torch.device("cpu")


class Stage:
    """36 imported clips, and a place for their features."""

    def __init__(self, cache: Path, rows: dict[str, str], config: MelConfig, folder: Path) -> None:
        self.keys = rows  # sha256 -> audio key
        self.audio = AudioStore(cache / "audio")
        self.front_end = build_front_end(config)
        settings = front_end_settings(config, self.front_end.version)
        self.store = FeatureStore(folder, settings, self.front_end.output_shape, config.storage)

    def run(self, keys: dict[str, str] | None = None, workers: int = 2) -> int:
        return extract(
            self.keys if keys is None else keys, self.audio, self.store, self.front_end, device=CPU, workers=workers
        )

    def files(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in self.store.folder.glob("??/*")}


@pytest.fixture(scope="session")
def imported(tones: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    cache = tmp_path_factory.mktemp("imported")
    clips, _ = read_table(tones, None)
    with Ledger(cache / "ledger.sqlite") as ledger:
        report = import_clips(clips, AudioStore(cache / "audio"), ledger)
    return cache, {str(row.sha256): row.key for row in report.rows.values()}


@pytest.fixture
def stage(
    imported: tuple[Path, dict[str, str]], tiny_config: Callable[..., Config], tmp_path: Path
) -> Callable[..., Stage]:
    def make(name: str = "features", **changes: Any) -> Stage:
        config = tiny_config(features=changes).features
        return Stage(*imported, config, tmp_path / name)

    return make


def test_every_clip_gets_its_features_and_a_second_time_nothing_is_done(stage: Callable[..., Stage]) -> None:
    here = stage()
    assert here.run() == 36
    before = here.files()
    assert set(before) == {f"{sha256}.npy" for sha256 in here.keys}
    assert (here.store.folder / "config.json").exists()
    assert here.run() == 0 and here.files() == before


def test_features_are_of_the_clips_own_waveform(stage: Callable[..., Stage]) -> None:
    here = stage()
    here.run()
    for sha256, key in here.keys.items():
        samples, rate = soundfile.read(here.audio.path(key), dtype="float32")
        assert (len(samples), rate) == (22_050, 44_100)
        waveform = here.front_end.fit_length(load_waveform(here.audio, key, 8_000))
        expected = here.front_end(waveform[None])[0].numpy()
        np.testing.assert_allclose(here.store.read(sha256), expected, atol=1e-4)


def test_only_what_is_missing_or_torn_is_extracted(stage: Callable[..., Stage]) -> None:
    here = stage()
    here.run()
    whole = here.files()
    untouched, missing, torn, empty = sorted(here.keys)[:4]
    here.store.path(missing).unlink()
    here.store.path(torn).write_bytes(here.store.path(torn).read_bytes()[:-1])
    here.store.path(empty).write_bytes(b"")
    time_before = here.store.path(untouched).stat().st_mtime_ns
    assert here.run() == 3
    assert here.store.path(untouched).stat().st_mtime_ns == time_before
    assert here.files() == whole


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"engine": "librosa"},
        {"sample_rate": 22_050, "n_fft": 2048, "hop_length": 512, "n_mels": 64, "target_length": 216},
        {"sample_rate": 16_000, "n_fft": 1024, "hop_length": 160, "n_mels": 40, "target_length": 101, "scale": "power"},
    ],
)
def test_features_do_not_depend_on_which_clips_share_a_batch(
    stage: Callable[..., Stage], settings: dict[str, Any]
) -> None:
    """So that an extraction that was killed and taken up again gives what an uninterrupted one gives."""
    together, alone = stage("together", **settings), stage("alone", **settings)
    together.run()
    for sha256, key in list(together.keys.items())[::-3]:
        alone.run({sha256: key}, workers=1)
    assert len(alone.files()) == 12
    assert alone.files().items() <= together.files().items()


@pytest.mark.parametrize("damage", ["cut", "overwritten", "gone"])
def test_damaged_audio_is_the_users_to_mend_and_named(stage: Callable[..., Stage], tmp_path: Path, damage: str) -> None:
    here = stage()
    key = next(iter(here.keys.values()))
    audio = AudioStore(tmp_path / "damaged")
    for path in here.audio.root.glob("??/*.flac"):
        copy = audio.root / path.relative_to(here.audio.root)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(path.read_bytes())
    here.audio = audio
    bad = audio.path(key)
    content = bad.read_bytes()
    if damage == "gone":
        bad.unlink()
    else:
        bad.write_bytes(content[: len(content) // 2] if damage == "cut" else b"text" * 1000)
    with pytest.raises(UserError, match=bad.name) as error:
        here.run()
    assert error.value.hint
    assert all(name.endswith(".npy") for name in here.files()), "no temporary file is left"

    bad.write_bytes(content)
    here.run()
    assert len(here.files()) == 36


def test_ctrl_c_keeps_what_is_finished_and_leaves_nothing_half_written(
    stage: Callable[..., Stage], monkeypatch: pytest.MonkeyPatch
) -> None:
    here = stage()
    advance = ProgressBar.advance

    def press(self: ProgressBar, n: int = 1, note: str = "") -> None:
        advance(self, n, note)
        raise KeyboardInterrupt

    monkeypatch.setattr(ProgressBar, "advance", press)
    with pytest.raises(KeyboardInterrupt):
        here.run(workers=1)
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith("extract")] == []
    done = here.files()
    assert CHUNK <= len(done) < 36 and all(name.endswith(".npy") for name in done)
    assert torch.get_num_threads() == 1

    monkeypatch.undo()
    assert here.run() == 36 - len(done)
    assert {name: content for name, content in here.files().items() if name in done} == done


def test_what_a_killed_extraction_left_half_written_is_removed(stage: Callable[..., Stage]) -> None:
    here = stage()
    here.run()
    sha256 = next(iter(here.keys))
    leftover = here.store.path(sha256).with_name(f"{sha256}.npy.00000000-1.tmp")
    leftover.write_bytes(b"half")
    os.utime(leftover, (0, 0))
    here.store.path(sha256).unlink()
    here.run()
    assert not leftover.exists()


def test_the_number_of_threads_is_given_back(stage: Callable[..., Stage]) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        stage().run()
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
