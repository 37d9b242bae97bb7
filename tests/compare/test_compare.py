"""A comparison of made-up runs from folders to sentences, tables and the command line."""

from __future__ import annotations

import csv
import itertools
import json
import os
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from audioclf.cli import main
from audioclf.compare.compare import compare
from audioclf.compare.comparison import Comparison
from audioclf.compare.tables import print_comparison, write_tables
from audioclf.console import console
from audioclf.errors import UserError
from audioclf.training.scores import confusion_matrix, scores
from benchmarks.runs import write_run

Write = Callable[..., Path]
SKILL = {1e-2: -1.5, 1e-3: 0.8, 1e-4: 0.9, 1e-5: -0.3}


def write_runs(folder: Path, seeds: int = 3, folds: Sequence[int | None] = (None,), **axes: Sequence[Any]) -> Path:
    """Runs of every combination of values; skill goes by lr and epochs."""
    for values in itertools.product(*axes.values()):
        settings: Mapping[str, Any] = {"batch_size": 32} | dict(zip(axes, values, strict=True))
        skill = SKILL[settings.get("lr", 1e-3)] + 0.005 * settings.get("epochs", 10)
        for seed, fold in itertools.product(range(seeds), folds):
            write_run(folder / "-".join(map(str, (*values, seed, fold))), settings, seed, fold, skill)
    return folder


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes runs below tmp_path: ``write(lr=[1e-2, 1e-3], seeds=2)``."""
    return lambda into="runs", **words: write_runs(tmp_path / into, **words)


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    return compare([write_runs(tmp_path_factory.mktemp("sweep"), lr=[1e-2, 1e-3, 1e-4, 1e-5], epochs=[3, 10])])


def said(comparison: Comparison, pattern: str) -> bool:
    return any(re.search(pattern, sentence) for sentence in comparison.sentences)


def warned(comparison: Comparison, pattern: str) -> bool:
    return any(re.search(pattern, warning) for warning in comparison.warnings)


def test_settings_are_ranked_on_val(sweep: Comparison) -> None:
    assert sweep.title == "24 runs of esc10: epochs x lr, 3 seeds"
    assert sweep.keys == ["epochs", "lr"], "a key of one value is none"
    means = [setting.val.mean for setting in sweep.settings]
    assert means == sorted(means, reverse=True) and len(means) == 8
    assert sweep.selected is sweep.settings[0]
    assert sweep.selected.values["lr"] in (1e-3, 1e-4)
    assert all([run.seed for run in setting.runs] == [0, 1, 2] for setting in sweep.settings)
    assert sweep.confusion.sum() == 240 and sweep.chance == pytest.approx(0.1)
    assert [score.support for score in sweep.class_scores] == [8] * 10 or sum(
        s.support for s in sweep.class_scores
    ) == 80


def test_what_is_said_of_val_does_not_look_at_test(write: Write, tmp_path: Path) -> None:
    folder = write(lr=[1e-2, 1e-3, 1e-4], epochs=[3, 10], seeds=2)
    before, val = compare([folder]), re.compile(r"\bon val\b")
    for number, run in enumerate(sorted(folder.iterdir())):
        guess_on_test(run, np.random.default_rng(number))
    after = compare([folder])
    assert [s.label for s in after.settings] == [s.label for s in before.settings]
    assert [(s.val, s.val_difference) for s in after.settings] == [(s.val, s.val_difference) for s in before.settings]
    assert after.selected.test.mean < 0.3 < before.selected.test.mean
    told = [[s.partition(", test F1")[0] for s in one.sentences if val.search(s)] for one in (before, after)]
    assert told[0] == told[1] and len(told[0]) > 3


def guess_on_test(run: Path, rng: np.random.Generator) -> None:
    """Makes a run's test predictions anew, by chance."""
    table = pq.read_table(run / "predictions.parquet").to_pydict()
    names = pq.read_schema(run / "predictions.parquet").metadata[b"classes"].decode().split("\n")
    test = np.array(table["split"]) == "test"
    guesses = rng.integers(0, len(names), test.sum())
    for at, guess in zip(np.flatnonzero(test), guesses, strict=True):
        table["predicted"][at] = names[guess]
    whole = pa.table(table).replace_schema_metadata({"classes": "\n".join(names)})
    pq.write_table(whole, run / "predictions.parquet")
    found = scores(confusion_matrix(np.array(table["target"])[test], guesses, len(names)))
    result = json.loads((run / "result.json").read_text())
    result["test"] |= {"f1_macro": found.f1_macro, "accuracy": found.accuracy}
    (run / "result.json").write_text(json.dumps(result))


def test_the_numbers_are_those_of_the_runs(sweep: Comparison) -> None:
    for setting in sweep.settings:
        for name in ("train", "val", "test", "accuracy"):
            values = [getattr(run, name) for run in setting.runs]
            found = getattr(setting, name)
            assert found.mean == pytest.approx(sum(values) / 3)
            assert found.low <= found.mean <= found.high
    base = sweep.baseline
    assert base.val_difference is None and base.test_difference is None
    for setting in sweep.settings:
        if setting is not base:
            assert setting.test_difference is not None
            assert setting.test_difference.mean == pytest.approx(setting.test.mean - base.test.mean)
    assert sum(score.f1.mean for score in sweep.class_scores) / 10 == pytest.approx(sweep.selected.test.mean)


def test_sentences_compare_what_differs_in_one_key(sweep: Comparison) -> None:
    assert sweep.baseline.values == {"epochs": 3, "lr": 1e-5}, "most runs, then lowest values"
    changes = sweep.sentences[: sweep.changes]
    assert len(changes) == 4
    assert changes[0].startswith("epochs=10 against epochs=3 (at lr=1e-5): within noise on val, ")
    assert re.fullmatch(r"lr=1e-4 beats lr=1e-5 by \.\d\d \[\.\d+, \.\d\d\] on val \(at epochs=3\)", changes[1])
    assert changes[3].startswith("lr=1e-2 loses to lr=1e-5 by .")
    score = r"\.\d\d"
    interval = rf"\[{score}, {score}\]"
    assert said(
        sweep,
        rf"^selected on val: epochs=\d+ lr=1e-[34]: val F1 {score}, test F1 {score} {interval} over 3 seeds; chance .10$",
    )
    assert said(sweep, r"^not told apart on val from the selected setting \(\d of 7\): ")
    assert said(sweep, r"beats the baseline epochs=3 lr=1e-5 by .* on test$")
    assert said(sweep, "^7 comparisons: of every 20 intervals, one")


def test_one_seed_tells_no_noise(write: Write) -> None:
    comparison = compare([write(lr=[1e-2, 1e-3], seeds=1)])
    difference = comparison.settings[0].val_difference or comparison.settings[1].val_difference
    assert difference is not None and difference.verdict == "unknown"
    assert said(comparison, "^one seed: how much is noise cannot be told; add seed=0,1,2$")
    assert not said(comparison, "beats|loses|within noise|told apart")


def test_one_run_alone(write: Write) -> None:
    comparison = compare([next(write(lr=[1e-3], seeds=1).iterdir())])
    assert comparison.settings == [comparison.selected] and comparison.baseline is comparison.selected
    assert comparison.title == "1 run of esc10: 1 seed" and comparison.changes == 0
    assert said(comparison, r"^val F1 \.\d\d, test F1 \.\d\d \[.*\] over 1 seed; chance \.10$")


def test_folds_are_cross_validated(write: Write) -> None:
    comparison = compare([write(lr=[1e-2, 1e-3], seeds=1, folds=(1, 2, 3, 4, 5))])
    assert comparison.title.endswith("1 seed x 5 folds")
    assert said(
        comparison, r"^cross-validated over 5 folds: accuracy \.\d\d ± \.\d\d, macro-F1 \.\d\d ± \.\d\d \(sd over"
    )
    assert said(comparison, r"^lr=1e-3 .*lr=1e-2|^lr=1e-2 .*lr=1e-3")
    assert warned(comparison, "^1 seed: fewer than 3")
    assert sum(score.support for score in comparison.class_scores) == 5 * 80


def test_the_edge_of_the_grid_is_warned_of(write: Write) -> None:
    edge = compare([write(lr=[1e-2, 1e-3], into="edge")])
    assert warned(edge, "^lr=1e-3 is the lowest of the sweep: add lower ones$")
    inside = compare([write(lr=[1e-2, 1e-4, 1e-5], into="inside")])
    assert inside.selected.values["lr"] == 1e-4 and not warned(inside, "of the sweep")
    words = compare([write(lr=[1e-3], normalisation=["none", "global"], into="words")])
    assert not warned(words, "of the sweep")


def test_unequal_seeds_are_warned_of_and_paired_where_both_have_them(write: Write) -> None:
    folder = write(lr=[1e-3, 1e-4])
    shutil.rmtree(next(folder.glob("0.0001-2-*")))
    comparison = compare([folder])
    difference = comparison.settings[0].val_difference or comparison.settings[1].val_difference
    assert difference is not None and difference.pairs == 2
    assert warned(comparison, "from 2 to 3 runs, not all of the same seeds")


def test_data_that_prove_nothing_are_warned_of(write: Write) -> None:
    folder = write(lr=[1e-3], seeds=2)
    facts = {"name": "esc10", "classes": None, "synthetic": True, "leaky": True}
    comparison = compare([folder])
    facts["classes"] = comparison.classes
    write_run(folder / "third", {"batch_size": 32, "lr": 1e-3}, seed=2, change={"data": facts})
    comparison = compare([folder])
    assert comparison.warnings[0].startswith("SYNTHETIC") and comparison.warnings[1].startswith("LEAKY: in 1 of 3 runs")


def test_settings_that_learnt_nothing_are_named(write: Write) -> None:
    folder = write(lr=[1e-3])
    for seed in range(3):
        write_run(folder / f"lost{seed}", {"batch_size": 32, "lr": 1.0}, seed, skill=-9.0)
    assert warned(compare([folder]), "^no run of a setting scores above its chance floor on test: lr=1$")


def test_warnings_name_settings_as_the_sentences_do(tmp_path: Path) -> None:
    for number, mels in enumerate((64, 128)):
        write_run(tmp_path / str(number), {"features.n_mels": mels}, change={"diverged": mels == 64})
    comparison = compare([tmp_path])
    assert warned(comparison, r"1 run diverged and count all the same: n_mels=64 \(1 of 1\)")


def test_the_baseline_can_be_named(write: Write) -> None:
    folder = write(lr=[1e-2, 1e-3, 1e-4], epochs=[3, 10], seeds=1)
    assert compare([folder], {"lr": "1e-3"}).baseline.values == {"lr": 1e-3, "epochs": 3}
    assert compare([folder], {"lr": "0.0010", "epochs": "10", "batch_size": "32"}).baseline.values["epochs"] == 10
    with pytest.raises(UserError, match=r"baseline lr=2e-3: no setting has it; there is 1e-4, 1e-3, 1e-2") as caught:
        compare([folder], {"lr": "2e-3"})
    assert caught.value.hint == "the nearest is lr=1e-3"
    with pytest.raises(UserError, match="no such key") as caught:
        compare([folder], {"epoch": "3"})
    assert caught.value.hint == "did you mean epochs?"


def test_labels_tell_every_setting_apart(tmp_path: Path) -> None:
    for number, lr in enumerate((1.00001e-4, 1.00002e-4, 1e-3)):
        write_run(tmp_path / str(number), {"lr": lr})
    write_run(tmp_path / "linear", {"model.name": "linear"})
    labels = {setting.label for setting in compare([tmp_path]).settings}
    assert len(labels) == 4
    assert "lr=0.000100001 model.name=null" in labels and "lr=null model.name=linear" in labels


def test_the_same_runs_give_the_same_bytes(write: Write, tmp_path: Path) -> None:
    folder = write(lr=[1e-3, 1e-4], seeds=2)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for run in sorted(folder.iterdir(), reverse=True):
        shutil.copytree(run, elsewhere / run.name)
    written = []
    for place, into in ((folder, tmp_path / "a"), (elsewhere, tmp_path / "b")):
        write_tables(compare([place]), into)
        written.append([(into / name).read_bytes() for name in ("comparison.csv", "runs.csv")])
    assert written[0] == written[1]
    rows = list(csv.DictReader(written[0][0].decode().splitlines()))
    assert [row["selected"] for row in rows] == ["true", "false"] and rows[0]["val_mean"] > rows[1]["val_mean"]
    assert len(written[0][1].decode().splitlines()) == 1 + 4


@pytest.mark.parametrize("width", [40, 80, 200])
def test_the_console_has_the_answer_at_every_width(
    sweep: Comparison, width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console, "_width", width)
    monkeypatch.setattr(console, "_force_terminal", True)
    with console.capture() as captured:
        print_comparison(sweep)
    text = re.sub(r"\x1b\[[0-9;]*m", "", captured.get())
    assert max(map(len, text.splitlines())) <= width
    assert "selected on val: " in " ".join(text.split()), text
    assert text.count("\n- ") <= 8


@pytest.mark.parametrize(("width", "intervals"), [(70, 0), (80, 1), (100, 3)])
def test_the_table_has_as_many_intervals_as_fit_on_a_line(
    write: Write, width: int, intervals: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    comparison = compare([write(**{"lr": [1e-3, 1e-4], "features.normalisation": ["none"], "epochs": [3, 10]})])
    comparison = replace(comparison, keys=["lr", "epochs", "features.normalisation"])
    for setting in comparison.settings:
        setting.values["features.normalisation"] = "per_band"
    monkeypatch.setattr(console, "_width", width)
    with console.capture() as captured:
        print_comparison(comparison)
    worst = next(line for line in captured.get().splitlines() if "per_band" in line and "baseline" not in line)
    assert worst.count("[") == intervals, worst


def test_names_are_no_markup_no_formula_and_in_any_encoding(tmp_path: Path) -> None:
    for seed, name in enumerate(("[/b]", "[bold]x", '=HYPERLINK("http://x")', "\ud800")):
        run = write_run(tmp_path / "runs" / str(seed), {"model.name": name, f"\udcff{seed}": 1})
        run.rename(run.with_name(os.fsdecode(b"run\xff%d" % seed)))
    comparison = compare([tmp_path / "runs"])
    with console.capture() as captured:
        print_comparison(comparison)
    assert "[/b]" in captured.get() and "[bold]x" in captured.get()
    write_tables(comparison, tmp_path / "made")
    rows = list(csv.DictReader((tmp_path / "made" / "comparison.csv").open()))
    cells = {row["model.name"] for row in rows}
    assert cells == {"[/b]", "[bold]x", '\'=HYPERLINK("http://x")', "?"}
    assert {"?0", "?3"} <= rows[0].keys()


def test_a_selected_setting_of_one_seed_is_not_told_apart(write: Write) -> None:
    folder = write(lr=[1e-2, 1e-3])
    write_run(folder / "lucky", {"batch_size": 32, "lr": 1e-4}, skill=3.0)
    comparison = compare([folder])
    assert said(comparison, "^selected on val: lr=1e-4: .* over 1 seed")
    assert said(comparison, r"^not told apart on val from the selected setting \(2 of 2\)")


def test_the_command(write: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write(lr=[1e-3, 1e-4], seeds=2)
    assert main(["compare", str(folder), "--baseline", "lr=1e-4", "--into", str(tmp_path / "made")]) == 0
    printed = capsys.readouterr().out
    assert "lr=1e-3 against lr=1e-4" in printed or "lr=1e-3 beats" in printed or "lr=1e-3 loses" in printed
    made = {path.name for path in (tmp_path / "made").iterdir()}
    assert {"comparison.csv", "runs.csv", "comparison.html", "figures"} <= made
    assert not (folder / "comparison.csv").exists()
    for words in (["compare", str(tmp_path / "nowhere")], ["compare", str(folder), "--baseline", "lr"]):
        with pytest.raises(SystemExit) as stopped:
            main(words)
        assert stopped.value.code == 2
