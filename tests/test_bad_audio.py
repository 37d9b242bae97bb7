"""Audio that cannot be used: each kind ends as a named state in ledger and summary, and training goes on without it."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from audioclf.compose import load_config
from audioclf.config import Config
from audioclf.errors import EXIT_USAGE, UserError
from audioclf.training.fit import fit
from audioclf.training.report import print_run

RATE = 8_000


def noise(seconds: float, seed: int = 0, rate: int = RATE) -> np.ndarray:
    return 0.1 * np.random.default_rng(seed).standard_normal(round(seconds * rate))


def zero_bytes(path: Path) -> None:
    path.touch()


def text(path: Path) -> None:
    path.write_text("this is no sound\n" * 100)


def truncated_flac(path: Path) -> None:
    whole = path.with_name("whole.flac")
    soundfile.write(whole, noise(1.0), RATE)
    path.write_bytes(whole.read_bytes()[:200])
    whole.unlink()


def half_a_flac(path: Path) -> None:
    whole = path.with_name("whole.flac")
    soundfile.write(whole, noise(4.0), RATE)
    path.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    whole.unlink()


def nan_samples(path: Path) -> None:
    samples = noise(1.0)
    samples[4000:] = np.nan
    soundfile.write(path, samples, RATE, subtype="FLOAT")


def one_sample(path: Path) -> None:
    soundfile.write(path, noise(1 / RATE), RATE)


def eight_channels(path: Path) -> None:
    soundfile.write(path, np.stack([noise(1.0, seed) for seed in range(8)], axis=1), RATE)


def at_192_khz(path: Path) -> None:
    soundfile.write(path, noise(1.0, rate=192_000), 192_000, subtype="PCM_24")


def digital_silence(path: Path) -> None:
    soundfile.write(path, np.zeros(RATE), RATE)


def vanishing(path: Path) -> None:
    """Never there: the table names it."""


# name -> maker, extension, the ledger's state, the ledger's failure, the reason in the summary (None: used)
KINDS: dict[str, tuple[Callable[[Path], None], str, str, str | None, str | None]] = {
    "zero_bytes": (zero_bytes, "wav", "failed", "empty", "empty"),
    "text": (text, "wav", "failed", "not_audio", "not_audio"),
    "truncated_flac": (truncated_flac, "flac", "failed", "truncated", "truncated"),
    "half_a_flac": (half_a_flac, "flac", "partial", None, None),
    "nan_samples": (nan_samples, "wav", "failed", "non_finite", "non_finite"),
    "one_sample": (one_sample, "wav", "failed", "too_short", "too_short"),
    "eight_channels": (eight_channels, "wav", "ok", None, None),
    "at_192_khz": (at_192_khz, "wav", "ok", None, None),
    "digital_silence": (digital_silence, "wav", "silent", None, "silent"),
    "vanishing": (vanishing, "wav", "failed", "missing", "missing"),
}
SKIPPED = {name: reason for name, (*_, reason) in KINDS.items() if reason}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder per class: twelve sound files in each of two classes, and one of each bad kind in the second."""
    for number in range(24):
        path = tmp_path / "data" / "ab"[number % 2] / f"good{number}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, noise(1.0, seed=100 + number), RATE)
    for name, (make, extension, *_) in KINDS.items():
        make(tmp_path / "data" / "b" / f"{name}.{extension}")
    return tmp_path / "data"


def write_table(folder: Path) -> Path:
    """The table of what should be in the folder, the file that vanished included."""
    files = sorted({path.relative_to(folder) for path in folder.glob("?/*")} | {Path("b/vanishing.wav")})
    table = folder / "clips.csv"
    table.write_text("path,label\n" + "\n".join(f"{path},{path.parent}" for path in files))
    return table


@pytest.fixture
def config_for(tiny_overrides: list[str], tmp_path: Path) -> Callable[..., Config]:
    def make(*data: str) -> Config:
        mine = [o for o in tiny_overrides if not o.startswith(("data", "paths.cache"))]
        return load_config([*mine, *data, f"paths.cache={tmp_path / 'cache'}"])

    return make


def ledger_of(cache: Path) -> dict[str, tuple[str, str | None, str]]:
    """Each file's state, failure and message."""
    with sqlite3.connect(cache / "ledger.sqlite") as db:
        rows = db.execute("SELECT source, state, failure, message FROM clips").fetchall()
    return {Path(source).stem: (state, failure, message) for source, state, failure, message in rows}


@pytest.mark.parametrize("source", ["csv", "folder"])
def test_each_bad_file_has_its_named_state_and_training_goes_on(
    source: str,
    folder: Path,
    config_for: Callable[..., Config],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    here = f"data.csv={write_table(folder)}" if source == "csv" else f"data.root={folder}"
    run = fit(config_for(f"data={source}", here), tmp_path / "run")

    rows = ledger_of(tmp_path / "cache")
    listed = {name: kind for name, kind in KINDS.items() if source == "csv" or name != "vanishing"}
    for name, (_, _, state, failure, _) in listed.items():
        assert rows[name][:2] == (state, failure), rows[name]
        assert state != "failed" or f"{name}." in rows[name][2], "the message names the file"
    assert all(rows[f"good{number}"][0] == "ok" for number in range(24))

    data = json.loads((tmp_path / "run" / "result.json").read_text())["data"]
    reasons = {reason: [Path(clip).name for clip in clips] for reason, clips in data["skipped"].items()}
    expected = {reason: name for name, reason in SKIPPED.items() if name in listed}
    assert reasons.keys() == expected.keys()
    for reason, name in expected.items():
        assert len(reasons[reason]) == 1 and name in reasons[reason][0]
    assert data["clips"] == 24 + len(listed) - len(expected) == 27
    assert data["partial"] == 1
    assert data["coverage"]["per_class"] == {
        "a": {"rows": 12, "usable": 12},
        "b": {"rows": 12 + len(listed), "usable": 15},
    }
    print_run(run)
    printed = " ".join(capsys.readouterr().out.split())
    assert f"coverage: 27 of {24 + len(listed)} rows have usable audio" in printed
    assert "1 truncated" in printed and "1 silent" in printed and f"b 15/{12 + len(listed)}" in printed


def test_bad_files_are_tried_again_and_taken_once_they_are_mended(
    folder: Path, config_for: Callable[..., Config], tmp_path: Path
) -> None:
    config = config_for("data=csv", f"data.csv={write_table(folder)}")
    fit(config, tmp_path / "run")
    for name in ("zero_bytes.wav", "vanishing.wav", "digital_silence.wav"):
        soundfile.write(folder / "b" / name, noise(1.0, seed=len(name)), RATE)
    again = fit(config, tmp_path / "run")
    assert not again.reused and again.result["data"]["clips"] == 30
    assert (tmp_path / "run.old1" / "result.json").exists()
    rows = ledger_of(tmp_path / "cache")
    assert [rows[name][0] for name in ("zero_bytes", "vanishing", "digital_silence")] == ["ok", "ok", "ok"]


@pytest.mark.parametrize("source", ["csv", "folder"])
def test_a_class_of_bad_files_alone_stops_with_what_is_wrong(
    source: str, folder: Path, config_for: Callable[..., Config], tmp_path: Path
) -> None:
    for name, (make, extension, *_) in KINDS.items():
        if name in SKIPPED and name != "vanishing":
            (folder / "c").mkdir(exist_ok=True)
            make(folder / "c" / f"{name}.{extension}")
    here = f"data.csv={write_table(folder)}" if source == "csv" else f"data.root={folder}"
    with pytest.raises(UserError, match=r"class c has no usable clips: of .* left out: 2 empty, ") as error:
        fit(config_for(f"data={source}", here), tmp_path / "run")
    assert error.value.hint and not (tmp_path / "run").exists()


def test_train_py_says_so_in_two_lines_with_exit_code_2_and_leaves_no_folder(
    launch: Callable[..., Any], folder: Path, tmp_path: Path
) -> None:
    (folder / "c").mkdir()
    zero_bytes(folder / "c" / "x.wav")
    digital_silence(folder / "c" / "y.wav")
    process = launch("train.py", "data=folder", f"data.root={folder}", cwd=tmp_path)
    assert process.wait() == EXIT_USAGE
    lines = process.printed.strip().splitlines()
    assert len(lines) == 2 and lines[0].startswith("error: class c has no usable clips") and "hint:" in lines[1]
    assert not [path for path in (tmp_path / "outputs").iterdir() if path.is_dir()]
