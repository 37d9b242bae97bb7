"""Tables of a trained model: read as the run's own was, from other folders, under other names, and of links."""

from __future__ import annotations

import csv
import io
import json
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile

from audioclf import load
from audioclf.audio import decode
from audioclf.audio.ledger import Ledger, LedgerRow, State
from audioclf.audio.store import CANONICAL_RATE, AudioStore
from audioclf.clips.clip import Clip
from audioclf.clips.formats import read_csv
from audioclf.compose import load_config
from audioclf.config import parse_config
from audioclf.errors import EXIT_FAILED, EXIT_OK, EXIT_USAGE, UserError
from audioclf.predict.inputs import Tables
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
    (tmp_path / "t.csv").write_text("FILE\nlow0.wav\nlow1.wav\n")  # as much of the names as there is
    shutil.copyfile(tones.parent / "high0.wav", tmp_path / "low0.wav")  # called as one of training's audio_dir
    (tmp_path / "ours.csv").write_text("path\nlow0.wav\n")
    first, gone, ours = model.predict([tmp_path / "t.csv", tmp_path / "ours.csv"])
    (expected,) = model.predict(tones.parent / "high0.wav")
    assert (first.status, gone.status, ours.status) == ("ok", "failed", "ok")
    for prediction in (first, ours):
        np.testing.assert_allclose(prediction.logits, expected.logits, atol=1e-5)


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


def test_from_another_folder_it_is_all_found_again(
    tones: Path, tiny_overrides: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trained with relative paths, as most are."""
    trained, used = tmp_path / "trained", tmp_path / "used"
    trained.mkdir()
    used.mkdir()
    renamed(tones, trained / "t.csv", path="file", label="sound")
    (trained / "audio").symlink_to(tones.parent)
    monkeypatch.chdir(trained)
    words = ["data.csv=t.csv", "data.audio_dir=audio", "data.columns.path=file", "data.columns.label=sound"]
    fit(load_config([*tiny_overrides, *words, "paths.cache=cache"]), trained / "run")
    monkeypatch.chdir(used)
    model = load(trained / "run", device="cpu")
    assert {p.status for p in model.predict("../trained/t.csv")} == {"ok"}
    shutil.copyfile(tones.parent / "low0.wav", used / "low0.wav")
    (used / "t.csv").write_text("path\nlow0.wav\n")  # called like the run's own
    assert [p.status for p in model.predict("t.csv")] == ["ok"]
    assert model.tables.cache == trained / "cache"


def test_a_run_on_links_reads_another_table_by_what_it_is(
    of_links: tuple[Path, Path, Path], tones: Path, tmp_path: Path
) -> None:
    config = load(of_links[0], device="cpu").module.config
    content = config.model_dump()
    content["data"] |= {"format": "columns", "class_labels": str(tmp_path / "gone.csv"), "audio_dir": str(tmp_path)}
    tables = Tables.of(parse_config(content), [])
    (tmp_path / "vgg.csv").write_text("abcdefghijk,3,dog,test\n")
    ((clip,), bad) = tables.read(tmp_path / "vgg.csv")
    assert not bad and (clip.label, clip.start, clip.end) == ("dog", 3.0, 13.0)
    (tmp_path / "audioset.csv").write_text("abcdefghijk, 3, 13, /m/x\n")
    with pytest.raises(UserError, match="no class_labels_indices\\.csv beside it"):  # the run's own list is gone
        tables.read(tmp_path / "audioset.csv")
    said = Tables.of(parse_config(content), [f"data.audio_dir={tones.parent}"])
    (tmp_path / "files.csv").write_text("path\nlow0.wav\n")
    assert said.read(tmp_path / "files.csv")[0][0].source == str(tones.parent / "low0.wav")


def test_null_unsets_and_quotes_are_hydras(tmp_path: Path, by_names: tuple[Path, Path], tones: Path) -> None:
    run, table = by_names
    model = load(run, "data.audio_dir=null", "data.columns.label=null", "data.columns.path='file'", device="cpu")
    found = model.predict(table)
    assert {p.status for p in found} == {"failed"} and found[0].labels == (), "from its own folder, without labels"


@pytest.mark.parametrize("name", ["x" * 300 + ".wav", "x" * 300 + "/a.wav"])
def test_a_name_that_no_file_can_have_is_a_line(name: str, run_folder: Path, tones: Path, written: Written) -> None:
    code, out, _ = written("predict", run_folder, name, tones.parent / "low0.wav", "--format", "jsonl")
    rows = [json.loads(line) for line in out.splitlines()]
    assert code == EXIT_FAILED and [row["status"] for row in rows] == ["failed", "ok"] and rows[0]["reason"]
    assert written("predict", run_folder, f"lr={name}")[0] in (EXIT_FAILED, EXIT_USAGE)


def test_a_silent_clip_of_one_table_is_none_of_another(
    run_folder: Path, tmp_path: Path, tones: Path, written: Written
) -> None:
    for folder, sound in (("x", tones.parent / "low0.wav"), ("y", None)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "t.csv").write_text("path\na.wav\n")
        if sound:
            shutil.copyfile(sound, tmp_path / folder / "a.wav")
        else:
            soundfile.write(tmp_path / folder / "a.wav", np.zeros(8_000), 8_000)
    for order in ("xy", "yx"):
        code, _, error = written("predict", run_folder, *(tmp_path / folder / "t.csv" for folder in order))
        assert code == EXIT_FAILED and "1 ok" in error and "1 silent" in error


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


def test_links_are_looked_up_before_anything_is_predicted_and_whatever_thread_asks(
    of_links: tuple[Path, Path, Path], tones: Path, tmp_path: Path
) -> None:
    run, table, _ = of_links
    model = load(run, device="cpu")
    answers = model.predictions(model.listener().sounds(model.clips([table])))
    with ThreadPoolExecutor(1) as one, ThreadPoolExecutor(1) as other:
        assert [pool.submit(next, answers).result().status for pool in (one, other) * 3] == ["ok"] * 6
        other.submit(answers.close).result()  # type: ignore[attr-defined]
    (tmp_path / "ledger.sqlite").write_bytes(b"no ledger at all")
    answers = load(run, f"paths.cache={tmp_path}", device="cpu")
    with pytest.raises(UserError, match="not an audioclf ledger"):
        next(answers.predictions(answers.listener().sounds(answers.clips([tones.parent / "low0.wav", table]))))


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
    flac = AudioStore(tmp_path / "audio").path(clip)
    flac.write_bytes(flac.read_bytes()[: flac.stat().st_size * 3 // 4])
    *before, broken = load(run_folder, f"paths.cache={tmp_path}", device="cpu").predict(tmp_path / "t.csv", hop=0.5)
    assert before and broken.status == "failed" and 5.5 < broken.start < 7.0
