"""`python -m audioclf` and `python train.py` as processes: what they print, write and return."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

import audioclf
from audioclf.errors import EXIT_FAILED, EXIT_OK, EXIT_USAGE

RATE = 8_000
IDS = [f"{'abc'[number % 3] * 8}{number:03d}" for number in range(18)]  # eleven characters, as YouTube's


def noise(seconds: float, seed: int) -> np.ndarray:
    return 0.1 * np.random.default_rng(seed).standard_normal(round(seconds * RATE))


@pytest.fixture
def linked(tmp_path: Path) -> Path:
    """A table of links, and beside it a folder with their audio under the three kinds of names."""
    (tmp_path / "audio" / "deep").mkdir(parents=True)
    lines = ["url,start,end,label"]
    for number, name in enumerate(IDS):
        start = 2 + number
        lines.append(f"https://www.youtube.com/watch?v={name},{start},{start + 1},{'abc'[number % 3]}")
        if number % 3 == 0:  # the whole recording
            soundfile.write(tmp_path / "audio" / f"{name}.wav", noise(start + 2, number), RATE)
        elif number % 3 == 1:  # AudioSet's way to name it
            soundfile.write(tmp_path / "audio" / f"Y{name}.flac", noise(start + 2, number), RATE)
        else:  # cut already
            soundfile.write(tmp_path / "audio" / "deep" / f"{name}_{start}.wav", noise(1, number), RATE)
    (tmp_path / "links.csv").write_text("\n".join(lines))
    return tmp_path


SMALL = [
    *("features.sample_rate=8000", "features.n_fft=512", "features.hop_length=256", "features.n_mels=8"),
    *("features.target_length=20", "model.hidden=16", "epochs=1", "lr=1e-3", "trainer.tensorboard=false"),
]
TABLE = ["data=csv", "data.csv=links.csv", "fetch.enabled=false"]


def test_audio_that_is_held_is_imported_into_a_table_of_links_and_trained_on(
    launch: Callable[..., Any], linked: Path
) -> None:
    early = launch("train.py", *TABLE, *SMALL, cwd=linked)
    assert early.wait() == EXIT_USAGE
    assert "18 not fetched" in early.printed and "python -m audioclf import DIR" in early.printed

    imported = launch("-m", "audioclf", "import", "audio", *TABLE, cwd=linked)
    assert imported.wait() == EXIT_OK, imported.printed
    assert "18 clips have a file, 0 have none; 0 files are not used" in imported.printed
    assert "18 clips: 18 ok (18 imported now)" in imported.printed
    again = launch("-m", "audioclf", "import", "audio", *TABLE, cwd=linked)
    assert again.wait() == EXIT_OK and "(0 imported now)" in again.printed

    trained = launch("train.py", *TABLE, *SMALL, "hydra.run.dir=run", cwd=linked)
    assert trained.wait() == EXIT_OK, trained.printed
    data = json.loads((linked / "run" / "result.json").read_text())["data"]
    assert data["clips"] == data["groups"] == 18 and data["skipped"] == {} and data["classes"] == ["a", "b", "c"]
    for number, flac in ((0, "aaaaaaaa000"), (1, "bbbbbbbb001"), (2, "cccccccc002")):
        (stored,) = linked.glob(f"cache/audio/??/*{flac}_{2 + number}*.flac")
        samples, rate = soundfile.read(stored)
        assert rate == 44_100 and len(samples) == 44_100
        whole = noise(4 + number, number) if number < 2 else np.concatenate([np.zeros(4 * RATE), noise(1, number)])
        second = whole[(2 + number) * RATE : (3 + number) * RATE]
        assert np.abs(_spectrum(samples, 44_100) - _spectrum(second, RATE)).max() < 0.05, "another second than asked"


def _spectrum(samples: np.ndarray, rate: int) -> np.ndarray:
    """The phases and shares of 100 to 2000 Hz, one value a hertz, whatever the rate."""
    bins = np.fft.rfft(samples)[100:2000] / rate
    return bins / np.abs(bins).max()


def test_import_says_which_clips_it_has_no_file_for_and_fails(launch: Callable[..., Any], linked: Path) -> None:
    (linked / "audio" / f"{IDS[0]}.wav").unlink()
    (linked / "audio" / f"{IDS[3]}.wav").write_text("no sound")
    soundfile.write(linked / "audio" / "other.wav", noise(1, 0), RATE)
    process = launch("-m", "audioclf", "import", "audio", *TABLE, cwd=linked)
    assert process.wait() == EXIT_FAILED
    assert "17 clips have a file, 1 have none; 1 files are not used" in process.printed
    assert "1 not_audio" in process.printed and f"{IDS[3]}.wav" in process.printed

    trained = launch("train.py", *TABLE, *SMALL, "hydra.run.dir=run", cwd=linked)
    assert trained.wait() == EXIT_OK, trained.printed
    skipped = json.loads((linked / "run" / "result.json").read_text())["data"]["skipped"]
    assert {reason: len(clips) for reason, clips in skipped.items()} == {"not fetched": 1, "not_audio": 1}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["import", "nowhere", *TABLE], "nowhere: no such folder"),
        (["import", "links.csv", *TABLE], "links.csv: no such folder"),
        (["import", "empty", *TABLE], "no file in it is named after a clip"),
        (["import", "audio", "data=csv", "data.csv=none.csv"], "data.csv=none.csv: no such file"),
        (["import", "audio", *TABLE, "epochs=0"], "epochs=0"),
        (["import"], "DIR"),
        (["improt", "audio"], "improt"),
        ([], "COMMAND"),
    ],
)
def test_bad_input_is_said_in_a_line_or_two_with_exit_code_2(
    launch: Callable[..., Any], linked: Path, arguments: list[str], said: str
) -> None:
    (linked / "empty").mkdir()
    process = launch("-m", "audioclf", *arguments, cwd=linked)
    assert process.wait() == EXIT_USAGE
    assert said in process.printed and "Traceback" not in process.printed
    assert not (linked / "cache").exists() and not (linked / "outputs").exists()


def test_help_names_the_commands_and_their_arguments(launch: Callable[..., Any], tmp_path: Path) -> None:
    overview = launch("-m", "audioclf", "--help", cwd=tmp_path)
    assert overview.wait() == EXIT_OK and "import" in overview.printed
    details = launch("-m", "audioclf", "import", "--help", cwd=tmp_path)
    assert details.wait() == EXIT_OK
    assert all(word in details.printed for word in ("DIR", "KEY=VALUE", "<id>_<start>"))


def test_train_help_lists_groups_and_keys(launch: Callable[..., Any], tmp_path: Path) -> None:
    process = launch("train.py", "--help", cwd=tmp_path)
    assert process.wait() == EXIT_OK
    assert "data: csv, demo, esc10, esc50, folder, links" in re.sub(r"base\w*, ", "", process.printed)
    assert "python train.py lr=1e-4 epochs=50" in process.printed and "weight_decay" in process.printed
    assert list(tmp_path.iterdir()) == []


def test_the_programs_start_from_any_folder_in_a_process_of_their_own(checkout: Path, tmp_path: Path) -> None:
    """Without the test's warm launcher: the whole start, as a user has it."""
    version = subprocess.run(
        [sys.executable, "-m", "audioclf", "--version"], cwd=checkout, capture_output=True, text=True, check=True
    )
    assert version.stdout.strip() == audioclf.__version__
    wrong = subprocess.run(
        [sys.executable, checkout / "train.py", "lr=-1"], cwd=tmp_path, capture_output=True, text=True
    )
    assert wrong.returncode == EXIT_USAGE and wrong.stdout == ""
    assert wrong.stderr.startswith("error: lr=-1: expected a value greater than 0")
    assert list(tmp_path.iterdir()) == []
