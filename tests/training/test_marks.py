"""Runs that are written down on the way of a longer one are the runs that they are when trained alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from audioclf.config import Config
from audioclf.runs.folder import RunFolder
from audioclf.runs.identity import run_name, shares_epochs, trajectory
from audioclf.training.fit import fit

Tiny = Callable[..., Config]


def assert_same(one: Any, other: Any, where: str = "") -> None:
    """Equal to the last bit, tensors included."""
    assert type(one) is type(other), where
    if isinstance(one, torch.Tensor):
        assert torch.equal(one, other), where
    elif isinstance(one, dict):
        assert one.keys() == other.keys(), where
        for key in one:
            assert_same(one[key], other[key], f"{where}/{key}")
    elif isinstance(one, list | tuple):
        assert len(one) == len(other), where
        for i, pair in enumerate(zip(one, other, strict=True)):
            assert_same(*pair, f"{where}/{i}")
    else:
        assert one == other, where


def whole(folder: Path) -> dict[str, Any]:
    """All that a run says and keeps, but times and places."""
    result = json.loads((folder / "result.json").read_text())
    checkpoints = {path.name: torch.load(path, weights_only=True) for path in (folder / "checkpoints").iterdir()}
    for checkpoint in checkpoints.values():
        checkpoint["hyper_parameters"]["config"].pop("marks")
    for count in ("epoch", "loops"):
        checkpoints["model.ckpt"].pop(count)  # Lightning's own, before or after its loop has ended
    config = yaml.safe_load((folder / "config.yaml").read_text())
    return {
        "files": sorted(path.name for path in folder.iterdir() if "tfevents" not in path.name),
        "result": {key: value for key, value in result.items() if key != "seconds"},
        "metrics": (folder / "metrics.csv").read_text(),
        "predictions": pq.read_table(folder / "predictions.parquet").to_pydict(),
        "checkpoints": checkpoints,
        "config": {key: value for key, value in config.items() if key != "marks"},
    }


@pytest.mark.parametrize("select", ["best", "last"])
def test_runs_at_marks_equal_those_trained_alone_to_the_bit(tiny_config: Tiny, tmp_path: Path, select: str) -> None:
    trainer = {"select": select, "tensorboard": True}
    for epochs in (2, 3, 6):
        alone = tiny_config(epochs=epochs, trainer=trainer)
        fit(alone, tmp_path / f"alone{epochs}" / run_name(alone))  # folders apart: none continues another
    longest = tiny_config(epochs=6, trainer=trainer, marks=[3, 2])
    fit(longest, tmp_path / "swept" / run_name(longest))
    folders = [path for path in (tmp_path / "swept").iterdir() if path.is_dir()]
    assert len(folders) == 3
    for epochs in (2, 3, 6):
        name = run_name(tiny_config(epochs=epochs, trainer=trainer))
        assert_same(whole(tmp_path / "swept" / name), whole(tmp_path / f"alone{epochs}" / name), f"epochs={epochs}")
        for split in ("train", "val"):
            events = EventAccumulator(str(tmp_path / "swept" / name / f"events-{split}")).Reload()
            assert [event.step for event in events.Scalars("loss")] == list(range(1, epochs + 1))


def test_a_run_at_a_mark_is_continued_like_any_other(tiny_config: Tiny, tmp_path: Path) -> None:
    marked = tiny_config(epochs=5, marks=[2])
    fit(marked, tmp_path / "a" / run_name(marked))
    between = tiny_config(epochs=4)
    fit(between, tmp_path / "a" / run_name(between))
    log = (tmp_path / "a" / run_name(between) / "train.log").read_text()
    assert "2 done before" in log
    fit(between, tmp_path / "b" / run_name(between))
    assert_same(whole(tmp_path / "a" / run_name(between)), whole(tmp_path / "b" / run_name(between)))


def test_a_mark_that_lies_behind_is_trained_apart(
    tiny_config: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    append = RunFolder.append_metrics

    def stop(self: RunFolder, row: dict[str, float]) -> None:
        append(self, row)
        if row["epoch"] == 4:
            raise RuntimeError("gone")

    plain = tiny_config(epochs=6, trainer={"checkpoint_every_s": 0.0})
    path = tmp_path / "runs" / run_name(plain)
    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "append_metrics", stop)
        with pytest.raises(RuntimeError, match="gone"):
            fit(plain, path)
    assert RunFolder(path).saved_epochs() == 3
    fit(plain.model_copy(update={"marks": [2, 5]}), path)
    for epochs in (2, 5, 6):
        alone = tiny_config(epochs=epochs, trainer={"checkpoint_every_s": 0.0})
        fit(alone, tmp_path / f"alone{epochs}" / run_name(alone))
        assert_same(whole(tmp_path / "runs" / run_name(alone)), whole(tmp_path / f"alone{epochs}" / run_name(alone)))


def test_marks_of_a_finished_run_are_written_down_and_it_is_not_touched(tiny_config: Tiny, tmp_path: Path) -> None:
    config = tiny_config(epochs=4)
    path = tmp_path / run_name(config)
    fit(config, path)
    before = {file: file.stat().st_mtime_ns for file in path.rglob("*") if file.is_file()}
    assert fit(config.model_copy(update={"marks": [2, 4, 9]}), path).reused
    assert {file: file.stat().st_mtime_ns for file in path.rglob("*") if file.is_file()} == before
    assert sorted(len(RunFolder(f).read_metrics()) for f in tmp_path.iterdir() if f.is_dir()) == [2, 4]


def test_a_schedule_that_depends_on_epochs_shares_nothing(tiny_config: Tiny, tmp_path: Path) -> None:
    cosine = {"schedule": "cosine"}
    two, four = (tiny_config(epochs=n, optimizer=cosine) for n in (2, 4))
    assert not shares_epochs(two) and trajectory(two) != trajectory(four)
    assert trajectory(tiny_config(epochs=2)) == trajectory(tiny_config(epochs=4))
    fit(two, tmp_path / run_name(two))
    fit(four, tmp_path / run_name(four))
    assert "0 done before" in (tmp_path / run_name(four) / "train.log").read_text()
    first = [RunFolder(tmp_path / run_name(config)).read_metrics()[0]["train_loss"] for config in (two, four)]
    assert first[0] == first[1], "the first epoch has the full learning rate"
    last = [RunFolder(tmp_path / run_name(config)).read_metrics()[1]["train_loss"] for config in (two, four)]
    assert last[0] != last[1]


def test_without_state_a_run_is_whole_but_for_what_continues_it(tiny_config: Tiny, tmp_path: Path) -> None:
    config = tiny_config(epochs=4, marks=[2], trainer={"keep_state": False})
    fit(config, tmp_path / run_name(config))
    folders = [path for path in tmp_path.iterdir() if path.is_dir()]
    assert len(folders) == 2
    for folder in folders:
        assert (folder / "result.json").exists()
        assert [path.name for path in (folder / "checkpoints").iterdir()] == ["model.ckpt"]


def test_what_is_trained_again_is_trained_from_its_beginning(
    tiny_config: Tiny, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for epochs in (2, 4):
        fit(tiny_config(epochs=epochs), tmp_path / run_name(tiny_config(epochs=epochs)))
    again = tiny_config(epochs=4, retrain=True, marks=[2])
    capsys.readouterr()
    fit(again, tmp_path / run_name(again))
    assert "0 done before" in (tmp_path / run_name(again) / "train.log").read_text()
    assert len(list(tmp_path.glob("*.old1"))) == 2 and not list(tmp_path.glob("*.old2"))
    assert "continuing" not in capsys.readouterr().out


def test_a_result_of_an_older_layout_is_set_aside_for_that_reason(
    tiny_config: Tiny, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tiny_config(epochs=1)
    folder = RunFolder(tmp_path / run_name(config))
    result = fit(config, folder.path).result
    folder.write_result(result | {"layout": 1})
    assert not fit(config, folder.path).reused
    said = " ".join(capsys.readouterr().out.split())
    assert "an older version wrote its result" in said and "asked to train again" not in said
