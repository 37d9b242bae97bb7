"""A run's folder: written so that a kill leaves nothing that reads as more than it is."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import yaml

from audioclf import files
from audioclf.runs.folder import RunFolder, to_json

ROW = {"epoch": 1, "train_loss": 0.1234567890123456, "val_loss": 1e-7, "val_f1_macro": None}


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return RunFolder(tmp_path / "outputs" / "run")


# --- result.json -----------------------------------------------------------------------------------------------------


def test_a_result_is_read_as_it_was_written(folder: RunFolder) -> None:
    result = {"status": "finished", "lr": 1e-4, "test": {"f1_macro": 0.1, "per_class": {"Hähne": [1, 2.5, None, True]}}}
    assert folder.read_result() is None
    folder.write_result(result)
    assert folder.read_result() == result


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, np.float64("nan")])
def test_what_is_no_number_is_never_written_as_one(value: float, folder: RunFolder) -> None:
    folder.write_result({"loss": value, "deep": {"list": [1.0, value, {"x": (value,)}]}})
    text = (folder.path / "result.json").read_text()
    assert json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} in result.json")) == {
        "loss": None,
        "deep": {"list": [1.0, None, {"x": [None]}]},
    }


def test_a_number_keeps_every_digit() -> None:
    assert json.loads(to_json({"x": 0.1 + 0.2, "y": np.float64(1e-17)})) == {"x": 0.1 + 0.2, "y": 1e-17}


@pytest.mark.parametrize("content", ["", '{"status": "fin', "[1]", "null", "\0\0\0", "{'status': 1}"])
def test_a_torn_or_foreign_result_is_no_result(content: str, folder: RunFolder) -> None:
    folder.path.mkdir(parents=True)
    (folder.path / "result.json").write_text(content)
    assert folder.read_result() is None


def test_a_result_that_fails_half_way_leaves_the_old_one_and_nothing_else(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.write_result({"run": 1})
    monkeypatch.setattr(files.os, "fsync", lambda _: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        folder.write_result({"run": 2})
    assert folder.read_result() == {"run": 1}
    assert [path.name for path in folder.path.iterdir()] == ["result.json"]


def test_a_result_that_cannot_be_written_as_json_writes_nothing(folder: RunFolder) -> None:
    with pytest.raises(TypeError):
        folder.write_result({"tensor": object()})
    assert folder.read_result() is None


# --- what is known before training -----------------------------------------------------------------------------------


def test_begin_writes_configuration_and_environment_and_no_result(folder: RunFolder) -> None:
    assert folder.read_state() is None
    folder.begin({"lr": 1e-05, "data": {"name": "demo", "fold": None}}, {"identity": "abc", "seed": 3})
    assert yaml.safe_load((folder.path / "config.yaml").read_text()) == {
        "lr": 1e-05,
        "data": {"name": "demo", "fold": None},
    }
    state = folder.read_state()
    assert state is not None
    assert (state["identity"], state["seed"]) == ("abc", 3)
    assert {"audioclf", "git", "packages", "python", "platform", "cpu_count", "command"} <= set(state)
    assert "torch" in state["packages"]
    assert folder.checkpoints.is_dir()
    assert folder.read_result() is None


# --- setting aside ---------------------------------------------------------------------------------------------------


def test_setting_aside_keeps_every_earlier_folder(folder: RunFolder) -> None:
    for number in range(1, 4):
        folder.write_result({"run": number})
        aside = folder.set_aside()
        assert aside == folder.path.with_name(f"run.old{number}")
        assert not folder.path.exists()
    kept = sorted(folder.path.parent.iterdir())
    assert [RunFolder(path).read_result() for path in kept] == [{"run": 1}, {"run": 2}, {"run": 3}]


def test_nothing_is_set_aside_where_there_is_nothing_to_keep(folder: RunFolder) -> None:
    assert folder.set_aside() is None
    folder.path.mkdir(parents=True)
    assert folder.set_aside() is None
    assert folder.path.is_dir()


# --- metrics.csv -----------------------------------------------------------------------------------------------------


def rows(number: int) -> list[dict[str, float | int | None]]:
    return [{**ROW, "epoch": epoch} for epoch in range(1, number + 1)]


def write(folder: RunFolder, number: int) -> None:
    folder.path.mkdir(parents=True)
    for row in rows(number):
        folder.append_metrics(row)


def test_metrics_come_back_with_every_digit(folder: RunFolder) -> None:
    assert folder.read_metrics() == []
    write(folder, 2)
    first, second = folder.read_metrics()
    assert (first["epoch"], second["epoch"]) == (1, 2)
    assert first["train_loss"] == ROW["train_loss"]
    assert first["val_loss"] == 1e-7
    assert math.isnan(first["val_f1_macro"])
    assert folder.metrics_csv.read_text().splitlines()[0] == "epoch,train_loss,val_loss,val_f1_macro"


def test_a_file_torn_at_any_byte_gives_whole_rows_only(folder: RunFolder) -> None:
    write(folder, 3)
    whole = folder.metrics_csv.read_text()
    for length in range(len(whole)):
        folder.metrics_csv.write_text(whole[:length])
        found = folder.read_metrics()
        assert len(found) == max(0, whole[:length].count("\n") - 1)
        assert all(row["train_loss"] == ROW["train_loss"] and row["val_loss"] == 1e-7 for row in found)


def test_a_resumed_run_writes_on_behind_the_epochs_that_its_checkpoint_holds(folder: RunFolder) -> None:
    write(folder, 5)
    with folder.metrics_csv.open("a") as file:
        file.write("6,0.12")
    folder.keep_epochs(3)
    for row in rows(5)[3:]:
        folder.append_metrics(row)
    assert [row["epoch"] for row in folder.read_metrics()] == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("torn", ["", "epoch,train_lo"])
def test_a_torn_header_is_written_again(torn: str, folder: RunFolder) -> None:
    folder.path.mkdir(parents=True)
    folder.metrics_csv.write_text(torn)
    folder.keep_epochs(0)
    folder.append_metrics(rows(1)[0])
    assert [row["epoch"] for row in folder.read_metrics()] == [1]


def test_keeping_epochs_of_a_run_that_recorded_none_is_nothing(folder: RunFolder) -> None:
    folder.keep_epochs(3)
    assert not folder.path.exists()
