"""Schedules, early stopping, precision, accumulation, clipping and several devices; each resumed to the bit."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from audioclf.compose import load_config
from audioclf.config import Config, parse_config
from audioclf.errors import UserError
from audioclf.runs.folder import RunFolder
from audioclf.runs.identity import run_name, shares_epochs
from audioclf.training.fit import fit
from audioclf.training.optimizers import build_optimizer

Tiny = Callable[..., Config]
CNN = {"name": "cnn", "width": 4, "blocks": 2, "dropout": 0.2}
AUGMENT = {"gain": 6.0, "time_shift": 0.5, "noise": 0.2, "time_mask": 6, "freq_mask": 3, "mixup": 0.4}


def with_model(config: Config, model: dict[str, Any]) -> Config:
    return parse_config(config.model_dump() | {"model": model})


def rates(config: Config, epochs: int, steps: int) -> list[list[float]]:
    """The learning rate of each step of each epoch."""
    optimizer, schedules = build_optimizer(torch.nn.Linear(2, 2), config, steps)
    found = []
    for _ in range(epochs):
        found.append([])
        for _ in range(steps):
            found[-1].append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            for schedule in schedules:
                if schedule["interval"] == "step":
                    schedule["scheduler"].step()
        for schedule in schedules:
            if schedule["interval"] == "epoch":
                schedule["scheduler"].step()
    return found


# --- schedules -------------------------------------------------------------------------------------------------------


def test_schedules_are_the_curves_that_their_names_promise(tiny_config: Tiny) -> None:
    def of(**optimizer: Any) -> list[list[float]]:
        return rates(tiny_config(lr=0.1, epochs=10, optimizer=optimizer), epochs=10, steps=4)

    assert of() == [[0.1] * 4] * 10
    cosine = of(schedule="cosine")
    assert [epoch[0] for epoch in cosine] == pytest.approx([0.05 * (1 + math.cos(math.pi * e / 10)) for e in range(10)])
    assert all(len(set(epoch)) == 1 for epoch in cosine)
    cycle = [rate for epoch in of(schedule="one_cycle") for rate in epoch]
    top = cycle.index(max(cycle))
    assert cycle[0] == pytest.approx(0.1 / 25) and max(cycle) == pytest.approx(0.1) and 10 <= top <= 13
    assert cycle == sorted(cycle[:top]) + sorted(cycle[top:], reverse=True) and cycle[-1] < 1e-5
    rising = [rate for epoch in of(warmup=2.0) for rate in epoch]
    assert rising[:9] == pytest.approx([0.1 * (1 + i) / 9 for i in range(9)]) and set(rising[9:]) == {rising[9]}
    both = of(warmup=2.0, schedule="cosine")
    assert [epoch[0] for epoch in both[3:]] == pytest.approx([epoch[0] for epoch in cosine[3:]])


def test_one_cycle_needs_no_warmup() -> None:
    with pytest.raises(UserError, match="schedule=one_cycle rises by itself; expected warmup=0"):
        load_config(["optimizer.schedule=one_cycle", "optimizer.warmup=1"])


def test_one_cycle_ends_with_the_runs_last_step(tiny_config: Tiny, tmp_path: Path) -> None:
    config = tiny_config(optimizer={"schedule": "one_cycle"}, trainer={"accumulate": 2})
    fit(config, tmp_path / "run")
    state = torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt", weights_only=True)
    (schedule,) = state["lr_schedulers"]
    assert schedule["last_epoch"] == schedule["total_steps"] == state["global_step"]


# --- the same after a kill -------------------------------------------------------------------------------------------

SETTINGS: dict[str, dict[str, Any]] = {
    "augment": {"augment": AUGMENT},
    "one_cycle": {"optimizer": {"schedule": "one_cycle"}, "trainer": {"accumulate": 2, "gradient_clip": 0.5}},
    "warmup": {"optimizer": {"schedule": "cosine", "warmup": 2.5}},
    "bf16": {"trainer": {"precision": "bf16-mixed"}},
    "patience": {"trainer": {"patience": 4}, "augment": {"mixup": 0.3}},
}


def fit_killed(config: Config, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trains until the third epoch's numbers are written, and no further."""
    append = RunFolder.append_metrics

    def kill(self: RunFolder, row: dict[str, float]) -> None:
        append(self, row)
        if row["epoch"] == 3:
            raise RuntimeError("killed")

    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "append_metrics", kill)
        with pytest.raises(RuntimeError, match="killed"):
            fit(config, path)


@pytest.mark.parametrize("name", SETTINGS)
def test_a_killed_run_goes_on_to_the_bit(
    tiny_config: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    changes = SETTINGS[name]
    trainer = {"checkpoint_every_s": 0.0} | changes.get("trainer", {})
    config = with_model(tiny_config(**changes | {"epochs": 5, "lr": 1e-2, "trainer": trainer}), CNN)
    fit_killed(config, tmp_path / "killed", monkeypatch)
    assert RunFolder(tmp_path / "killed").saved_epochs() == 2
    fit(config, tmp_path / "killed")
    fit(config, tmp_path / "whole")
    assert_same(tmp_path / "killed", tmp_path / "whole")


def assert_same(one: Path, other: Path) -> None:
    ours, theirs = RunFolder(one), RunFolder(other)
    assert ours.metrics_csv.read_bytes() == theirs.metrics_csv.read_bytes()
    states = [torch.load(folder.last_checkpoint, weights_only=True) for folder in (ours, theirs)]
    assert all(
        torch.equal(states[0]["state_dict"][key], states[1]["state_dict"][key]) for key in states[0]["state_dict"]
    )
    assert str(states[0]["optimizer_states"]) == str(states[1]["optimizer_states"])
    assert states[0]["lr_schedulers"] == states[1]["lr_schedulers"]
    assert (ours.read_result() or {})["test"] == (theirs.read_result() or {})["test"]


# --- early stopping --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("select", ["best", "last"])
def test_a_run_stops_after_so_many_epochs_without_a_higher_val_f1(
    tiny_config: Tiny, tmp_path: Path, capsys: pytest.CaptureFixture[str], select: str
) -> None:
    config = tiny_config(epochs=200, lr=1e-2, trainer={"patience": 3, "select": select})
    result = fit(config, tmp_path / "run").result
    f1 = [row["val_f1_macro"] for row in RunFolder(tmp_path / "run").read_metrics()]
    last_rise = max(i for i, value in enumerate(f1, 1) if value > max(f1[: i - 1], default=-1.0))
    assert len(f1) == last_rise + 3 < 200
    assert result["status"] == "finished" and result["epochs"] == 200 and result["trained_epochs"] == len(f1)
    assert result["selected_epoch"] == (len(f1) if select == "last" else result["selected_epoch"])
    assert result["val"]["f1_macro"] == pytest.approx(f1[result["selected_epoch"] - 1], abs=1e-6)
    assert fit(config, tmp_path / "run").reused


def test_a_run_killed_after_it_was_stopped_early_is_scored_without_training(tiny_config: Tiny, tmp_path: Path) -> None:
    config = tiny_config(epochs=200, lr=1e-2, trainer={"patience": 2})
    result = fit(config, tmp_path / "run").result
    rows = RunFolder(tmp_path / "run").metrics_csv.read_bytes()
    for name in ("result.json", "predictions.parquet", "checkpoints/model.ckpt"):
        (tmp_path / "run" / name).unlink()
    again = fit(config, tmp_path / "run").result
    assert RunFolder(tmp_path / "run").metrics_csv.read_bytes() == rows
    assert {**again, "seconds": 0} == {**result, "seconds": 0}


@pytest.mark.parametrize(
    "change",
    [
        {"trainer": {"patience": 3}},
        {"optimizer": {"schedule": "one_cycle"}},
        {"trainer": {"devices": 2}},
    ],
)
def test_a_run_that_no_longer_run_begins_with_takes_no_marks(
    tiny_config: Tiny, tmp_path: Path, change: dict[str, Any]
) -> None:
    assert not shares_epochs(tiny_config(**change))
    with pytest.raises(UserError, match=r"marks=\[2\]: a run of fewer epochs is not on the way"):
        fit(tiny_config(marks=[2], **change), tmp_path / "run")


# --- the rest --------------------------------------------------------------------------------------------------------


def test_accumulated_batches_are_one_larger_batch(tiny_config: Tiny, tmp_path: Path) -> None:
    large = tiny_config(batch_size=22, epochs=2)
    small = tiny_config(batch_size=11, epochs=2, trainer={"accumulate": 2})
    clips = fit(large, tmp_path / "large").result["data"]["splits"]["train"]["clips"]
    assert clips == 22, "batches of one size are averaged as one"
    fit(small, tmp_path / "small")
    both = [
        torch.load(tmp_path / name / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
        for name in ("large", "small")
    ]
    assert all(torch.allclose(both[0][key], both[1][key], atol=1e-5) for key in both[0])


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_clipping_bounds_the_gradient(precision: str, tiny_config: Tiny, tmp_path: Path) -> None:
    for name, clip in (("free", None), ("clipped", 1e-6)):
        fit(tiny_config(epochs=1, trainer={"gradient_clip": clip, "precision": precision}), tmp_path / name)
    norms = []
    for name in ("free", "clipped"):
        state = torch.load(tmp_path / name / "checkpoints" / "last.ckpt", weights_only=True)["optimizer_states"][0]
        norms.append(max(float(part["exp_avg"].norm()) for part in state["state"].values()))
    assert norms[1] < 1e-5 < norms[0]


def test_float16_needs_a_gpu(tiny_config: Tiny, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="float16 needs a GPU"):
        fit(tiny_config(trainer={"precision": "16-mixed"}), tmp_path / "run")


# --- several devices -------------------------------------------------------------------------------------------------


def test_devices_share_a_batch_equally() -> None:
    with pytest.raises(UserError, match=r"trainer\.devices=3: batch_size=32 is no multiple of it") as caught:
        load_config(["trainer.devices=3"])
    assert caught.value.hint == "write batch_size=30"


@pytest.mark.slow
def test_two_processes_train_what_one_does_and_only_the_first_writes(tiny_config: Tiny, tmp_path: Path) -> None:
    """Training on 22 clips, a multiple of two; without dropout and augmentation, whose numbers each draws for itself."""
    one = tiny_config(epochs=4, trainer={"checkpoint_every_s": 0.0})
    two = tiny_config(epochs=4, trainer={"checkpoint_every_s": 0.0, "devices": 2, "patience": 100})
    runs = [fit(config, tmp_path / name) for name, config in (("one", one), ("two", two))]
    assert runs[0].result["data"]["splits"]["train"]["clips"] % 2 == 0
    assert not torch.distributed.is_initialized()
    both = [torch.load(run.folder / "checkpoints" / "last.ckpt", weights_only=True) for run in runs]
    for key, value in both[0]["state_dict"].items():
        assert torch.allclose(value, both[1]["state_dict"][key], atol=1e-5), key
    rows = [RunFolder(run.folder).read_metrics() for run in runs]
    for ours, theirs in zip(*rows, strict=True):
        assert ours == pytest.approx(theirs, abs=1e-4), "also val, in which each clip counts once"
    for split in ("train", "val", "test"):
        assert runs[0].result[split]["f1_macro"] == pytest.approx(runs[1].result[split]["f1_macro"], abs=1e-6)
    assert both[0]["callbacks"]["KeepBest"]["best"]["epoch"] == both[1]["callbacks"]["KeepBest"]["best"]["epoch"]
    assert {p.name for p in runs[0].folder.iterdir()} == {p.name for p in runs[1].folder.iterdir()}


@pytest.mark.slow
def test_two_processes_stop_early_together_and_go_on_after_a_kill(
    tiny_config: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny_config(epochs=60, lr=1e-2, trainer={"checkpoint_every_s": 0.0, "devices": 2, "patience": 5})
    fit_killed(config, tmp_path / "killed", monkeypatch)
    assert not torch.distributed.is_initialized() and RunFolder(tmp_path / "killed").saved_epochs() == 2
    again, whole = fit(config, tmp_path / "killed"), fit(config, tmp_path / "whole")
    assert again.result["trained_epochs"] == whole.result["trained_epochs"] < 60
    assert_same(tmp_path / "killed", tmp_path / "whole")
    assert run_name(config) != run_name(tiny_config(epochs=60, lr=1e-2))
