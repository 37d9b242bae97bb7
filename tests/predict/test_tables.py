"""Tables of a trained model: read as the run's own was, from other folders, under other names, and of links."""

from __future__ import annotations

import csv
import io
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from audioclf import load
from audioclf.audio import decode
from audioclf.audio.ledger import Ledger, LedgerRow, State
from audioclf.audio.store import CANONICAL_RATE, AudioStore
from audioclf.clips.clip import Clip
from audioclf.clips.formats import read_csv
from audioclf.compose import load_config
from audioclf.errors import EXIT_FAILED, EXIT_OK, EXIT_USAGE, UserError
from audioclf.predict.model import Model
from audioclf.training.fit import fit

Written = Callable[..., tuple[int, str, str]]


def renamed(tones: Path, to: Path, **columns: str) -> Path:
    """A table of the tones whose columns have other names."""
    with tones.open() as file:
        rows = list(csv.DictReader(file))
    with to.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([columns.get(name, name) for name in rows[0]])
        writer.writerows(row.values() for row in rows)
    return to


@pytest.fixture(scope="module")
def by_names(tones: Path, tiny_overrides: list[str], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A run on a table with columns of other names that lies apart from its audio, and that table."""
    folder = tmp_path_factory.mktemp("named")
    table = renamed(tones, folder / "t.csv", path="file", label="sound")
    words = [
        f"data.csv={table}",
        f"data.audio_dir={tones.parent}",
        "data.columns.path=file",
        "data.columns.label=sound",
    ]
    return fit(load_config([*tiny_overrides, *words]), folder / "run").folder, table


def saved_logits(run: Path) -> dict[str, list[float]]:
    saved = pq.read_table(run / "predictions.parquet", columns=["clip", "logits"]).to_pydict()
    return dict(zip(saved["clip"], saved["logits"], strict=True))


def test_the_runs_own_table_is_read_as_in_training(by_names: tuple[Path, Path]) -> None:
    run, table = by_names
    found = load(run, device="cpu").predict(table)
    assert len(found) == 36 and {p.status for p in found} == {"ok"} and {p.labels for p in found} >= {("low",)}
    expected = saved_logits(run)
    assert expected
    for prediction in found:
        if prediction.clip in expected:
            np.testing.assert_allclose(prediction.logits, expected[prediction.clip], atol=1e-5)


def test_another_table_is_read_by_the_same_names_from_its_own_folder(
    by_names: tuple[Path, Path], tones: Path, tmp_path: Path
) -> None:
    model = load(by_names[0], device="cpu")
    (tmp_path / "t.csv").write_text("FILE\nlow0.wav\n")  # as much of the names as there is
    shutil.copyfile(tones.parent / "low0.wav", tmp_path / "low0.wav")
    (tmp_path / "ours.csv").write_text("path\nlow0.wav\n")
    assert [p.status for p in model.predict([tmp_path / "t.csv", tmp_path / "ours.csv"])] == ["ok", "ok"]


def test_what_is_not_as_in_training_is_said(
    written: Written, run_folder: Path, tones: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    table = renamed(tones, tmp_path / "t.csv", path="file", label="sound")
    words = ["data.columns.path=file", f"data.audio_dir={tones.parent}"]
    code, out, _ = written("predict", run_folder, table, *words)
    assert code == EXIT_OK and len(out.splitlines()) == 37
    assert load(run_folder, *words, "data.columns.label=sound").predict(table)[0].labels
    assert written("embed", run_folder, *words, table, "--out", tmp_path / "e.parquet")[0] == EXIT_OK
    code, _, error = written("predict", run_folder, table)
    assert code == EXIT_USAGE and "data.columns.path=" in error


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("data.audio_dir=nowhere", "data.audio_dir=nowhere: no such folder"),
        ("paths.cache=nowhere", "paths.cache=nowhere: no such folder"),
        ("data.columns.lable=x", "did you mean data.columns.label?"),
        ("data.csv=x", "expected one of data.audio_dir, data.columns.COLUMN, paths.cache"),
        ("lr=1", "lr=1: no such file, and not to be changed in a trained model"),
    ],
)
def test_words_that_say_nothing(word: str, said: str, run_folder: Path, written: Written) -> None:
    code, _, error = written("predict", run_folder, "a.wav", word)
    assert code == EXIT_USAGE and said in " ".join(error.split())


def test_a_file_that_is_called_like_an_override(
    run_folder: Path, tones: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: Written
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copyfile(tones.parent / "low0.wav", tmp_path / "lr=1.wav")
    code, out, _ = written("predict", run_folder, "lr=1.wav")
    assert code == EXIT_OK and "lr=1.wav" in out


def test_bad_rows_come_behind_their_own_table(tmp_path: Path, tones: Path, model: Model) -> None:
    (tmp_path / "t.csv").write_text(f"path,start,end\n{tones.parent / 'low0.wav'},9,3\n{tones.parent / 'low0.wav'},,\n")
    found = model.predict([tmp_path / "t.csv", tones.parent / "high1.wav"])
    assert [p.status for p in found] == ["ok", "failed", "ok"]
    assert "t.csv:2: column end" in found[1].reason


@pytest.fixture(scope="module")
def of_links(
    tones: Path, tiny_overrides: list[str], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Path, Path]:
    """A run on links that were fetched, its table, and the cache."""
    folder = tmp_path_factory.mktemp("links")
    with tones.open() as file:
        rows = list(csv.DictReader(file))
    table, cache = folder / "t.csv", folder / "cache"
    lines = [f"https://example.org/{row['path']},{row['start']},{row['end']},{row['label']}" for row in rows]
    table.write_text("\n".join(["link,start,end,label", *lines]))
    words = ["data=links", f"data.csv={table}", "data.columns.url=link", f"paths.cache={cache}", "fetch.enabled=false"]
    config = load_config([*tiny_overrides, *words])
    clips, _, _ = read_csv(config.data)  # type: ignore[arg-type]
    store = AudioStore(cache / "audio")
    with Ledger(cache / "ledger.sqlite") as ledger:
        for clip, row in zip(clips, rows, strict=True):
            decoded = decode(tones.parent / row["path"], float(row["start"]), float(row["end"]), CANONICAL_RATE)
            ledger.put_many([replace(store.write(clip, decoded), message="as fetched")])
    return fit(config, folder / "run").folder, table, cache


def test_links_that_were_fetched_give_the_runs_own_logits(of_links: tuple[Path, Path, Path]) -> None:
    run, table, _ = of_links
    model = load(run, device="cpu")
    found, expected = model.predict(table), saved_logits(run)
    assert {p.status for p in found} == {"ok"} and found[0].file.startswith("https://example.org/")
    assert (found[1].start, found[1].end) == (0.5, 1.0) and "as fetched" in found[1].reason
    for prediction in found:
        if prediction.clip in expected:
            np.testing.assert_allclose(prediction.logits, expected[prediction.clip], atol=1e-5)
    windows = [(p.start, p.end) for p in model.predict(table, hop=0.25)]
    assert windows[:2] == [(0.0, 0.5), (0.5, 1.0)]  # shorter than the model hears
    vectors, timeline = model.embed(table), model.embed(table, hop=9)
    np.testing.assert_allclose(vectors[0].vector, timeline[0].vector, atol=1e-5)


def test_links_that_were_not_fetched_say_how(
    of_links: tuple[Path, Path, Path], run_folder: Path, tmp_path: Path, written: Written
) -> None:
    run, table, cache = of_links
    clips, _, _ = read_csv(load_config(["data=links", f"data.csv={table}", "data.columns.url=link"]).data)  # type: ignore[arg-type]
    mine = tmp_path / "cache"
    shutil.copytree(cache, mine)
    with Ledger(mine / "ledger.sqlite") as ledger:
        ledger.put_many([LedgerRow.of(clips[0], State.FAILED, failure="removed", message="Video unavailable")])
        ledger.delete_many([clips[1].audio_key])
    AudioStore(mine / "audio").path(clips[2]).unlink()
    code, out, _ = written("predict", run, table, f"paths.cache={mine}")
    rows = list(csv.DictReader(io.StringIO(out)))
    assert code == EXIT_FAILED and [row["status"] for row in rows[:4]] == ["failed", "failed", "failed", "ok"]
    assert rows[0]["reason"] == "removed: Video unavailable"
    for row in rows[1:3]:
        assert row["reason"].startswith("not fetched: `python -m audioclf fetch`") and str(mine) in row["reason"]
    (alone,) = load(run_folder, device="cpu").predict("https://example.org/a.wav")
    assert alone.status == "failed" and "not fetched" in alone.reason
    (mine / "ledger.sqlite").write_bytes(b"no ledger at all")
    with pytest.raises(UserError, match="not an audioclf ledger"):
        load(run, f"paths.cache={mine}", device="cpu").predict(table)


def test_a_timeline_of_a_fetched_segment_is_in_the_recordings_time(
    run_folder: Path, tmp_path: Path, write_wav: Callable[..., Path]
) -> None:
    clip = Clip("a", "https://example.org/a.wav", 5.0, 7.0, (), "a")
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        decoded = decode(write_wav("a.wav", seconds=2.0), 0, None, CANONICAL_RATE)
        ledger.put_many([AudioStore(tmp_path / "audio").write(clip, decoded)])
    (tmp_path / "t.csv").write_text("url,start,end\nhttps://example.org/a.wav,5,7\n")
    model = load(run_folder, f"paths.cache={tmp_path}", device="cpu")
    windows = model.predict(tmp_path / "t.csv", hop=0.5)
    assert [w.start for w in windows] == [5.0, 5.5, 6.0, 6.5] and windows[-1].end == pytest.approx(7.0)
    assert {w.status for w in windows} == {"ok"}
