"""What is looked at before training: what is loud, what is not, and that nothing of the run changes by looking."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import log_loss

from audioclf.compose import load_config
from audioclf.config import Config
from audioclf.data import AudioDataModule
from audioclf.features.normalise import Standardise
from audioclf.training import fit as fitting
from audioclf.training.fit import data_module, fit
from audioclf.training.module import ClassifierModule
from audioclf.training.preflight import Check, preflight

Tiny = Callable[..., Config]


def untrained(config: Config) -> tuple[ClassifierModule, AudioDataModule]:
    data = data_module(config)
    data.prepare_data()
    data.setup()
    shape = data.front_end.output_shape
    torch.manual_seed(config.seed)
    standardise = Standardise.fit(config.features.normalisation, data.train_batches(), shape)
    return ClassifierModule(config.model_dump(), data.classes, shape, standardise), data


def looked(config: Config, thorough: bool = False) -> dict[str, Check]:
    return {check.name: check for check in preflight(*untrained(config), thorough)}


def loud(checks: dict[str, Check]) -> set[str]:
    return {name for name, check in checks.items() if check.loud}


@pytest.fixture
def table(tones: Path, write_file: Callable[..., Path], tiny_config: Tiny) -> Callable[..., Config]:
    """A run on the tones with a table of our own: rows of path, start, end, labels, split."""
    rows = [line.split(",") for line in tones.read_text().split()[1:]]
    split = {"0": "val", "1": "test"}

    def make(change: Callable[[list[str]], list[str] | None], **data: Any) -> Config:
        changed = [change([*row, split.get(row[0][-5], "train")]) for row in rows]
        lines = ["path,start,end,labels,split", *(",".join(row) for row in changed if row)]
        csv = write_file("clips.csv", "\n".join(lines))
        return tiny_config(data={"csv": str(csv), "audio_dir": str(tones.parent), **data})

    return make


def test_nothing_is_loud_about_a_healthy_run(tiny_config: Tiny, tones: Path, tiny_cache: Path) -> None:
    checks = looked(tiny_config(), thorough=True)
    assert loud(checks) <= {"one_batch"}  # its lr suits three epochs of nothing
    assert checks["first_step"].value < 1 and checks["dead_units"].value < 0.5
    defaults = load_config(["data=csv", f"data.csv={tones}", f"paths.cache={tiny_cache}"])
    assert loud(looked(defaults)) == set()


def test_the_loss_at_init_is_that_of_the_untrained_model(tiny_config: Tiny) -> None:
    module, data = untrained(tiny_config())
    train = data.datasets["train"]
    features, targets, _ = train.__getitems__(range(len(train)))  # fewer than are looked at
    shares = module(features).softmax(1).detach().numpy().astype(np.float64)
    expected = log_loss(targets.numpy(), shares / shares.sum(1, keepdims=True), labels=range(3))
    (found,) = (check for check in preflight(module, data) if check.name == "loss_at_init")
    assert found.value == pytest.approx(expected, abs=1e-5) and abs(found.value - np.log(3)) < 0.3


def test_unnormalised_features_with_a_high_lr_are_loud_and_what_mends_them_is_said(tiny_config: Tiny) -> None:
    config = tiny_config(lr=1e-1, features={"normalisation": "none"})
    checks = looked(config, thorough=True)
    step = checks["first_step"]
    _, data = untrained(config)
    train = torch.cat(list(data.train_batches()))
    assert step.value == pytest.approx(0.1 * float(train.abs().flatten(1).sum(1).mean()), rel=1e-4) and step.loud
    assert step.next is not None and step.next.startswith("try features.normalisation=per_band lr=")
    assert "lr=0.1 is too high for inputs of this size, and the features are not normalised" in step.line
    lr = float(step.next.rpartition("=")[2])
    assert not loud(looked(tiny_config(lr=lr))), "its own advice is sound"


def test_one_batch_tells_a_wrong_lr_from_data_that_cannot_be_learnt(tiny_config: Tiny) -> None:
    slow = looked(tiny_config(lr=1e-7), thorough=True)["one_batch"]
    assert slow.loud and slow.next is not None and slow.next.startswith("try lr=")

    module, data = untrained(tiny_config())
    train = data.datasets["train"]
    assert train.features is not None
    train.features[:] = train.features[0]  # one sound, all labels
    checks = {check.name: check for check in preflight(module, data, thorough=True)}
    assert checks["one_batch"].next == "it cannot be learnt by heart: look at labels and features"


def test_constant_features_and_dead_units(tiny_config: Tiny) -> None:
    module, data = untrained(tiny_config())
    train = data.datasets["train"]
    assert train.features is not None
    train.features[: len(train) // 2] = -80.0
    constant = next(check for check in preflight(module, data) if check.name == "constant_features")
    assert constant.value == (len(train) // 2) / len(train) and constant.loud

    module, data = untrained(tiny_config())
    with torch.no_grad():
        module.model.fc1.bias.fill_(-1e6)
    dead = next(check for check in preflight(module, data, thorough=True) if check.name == "dead_units")
    assert dead.value == 1.0 and dead.loud


def test_classes_that_are_rare_or_absent(table: Callable[..., Config]) -> None:
    def thin(row: list[str]) -> list[str] | None:
        name, start, split = row[0], row[1], row[4]
        if name.startswith("high"):
            return row if split == "train" and name[-5] == "2" and start == "0" else None
        return row

    checks = looked(table(thin))
    assert loud(checks) == {"fewest_clips", "absent_val", "absent_test"}
    assert checks["fewest_clips"].sentence == "class high has 1 training clips"
    assert checks["absent_test"].line.startswith("before training: 1 of 3 classes have no test clips, e.g. high")
    assert checks["imbalance"].value == 8


def test_recordings_in_two_splits_copies_and_several_labels(table: Callable[..., Config]) -> None:
    def leak(row: list[str]) -> list[str]:
        path, start, end, label, split = row
        split = "test" if start == "0.5" and path[-5] == "2" else split
        return [path, start, end, label + ("|mid" if label == "low" else ""), split]

    checks = looked(table(leak, allow_leak=True, multi_label="first"))
    assert {"leaks", "several_labels"} <= loud(checks)
    assert checks["leaks"].value == 3
    assert checks["several_labels"].value == pytest.approx(12 / 36)
    assert not loud(looked(table(leak, allow_leak=True, multi_label="drop", classes=["low", "mid", "high"]))) & {
        "several_labels"
    }

    module, data = untrained(table(lambda row: row))
    rows = data.prepared.rows
    rows[data.splits.test[0]] = rows[data.splits.train[0]]
    copies = next(check for check in preflight(module, data) if check.name == "copies")
    assert copies.value == pytest.approx(1 / 36) and not copies.loud


@pytest.mark.parametrize("thorough", [False, True])
def test_looking_changes_nothing(tiny_config: Tiny, thorough: bool) -> None:
    module, data = untrained(tiny_config(lr=10.0))
    before = {key: value.clone() for key, value in module.state_dict().items()}
    state = torch.get_rng_state()
    numbers = np.random.get_state()[1].copy()  # type: ignore[index]
    preflight(module, data, thorough)
    assert torch.equal(state, torch.get_rng_state()) and (numbers == np.random.get_state()[1]).all()  # type: ignore[index]
    assert all(torch.equal(before[key], value) for key, value in module.state_dict().items())
    assert module.training and all(parameter.grad is None for parameter in module.parameters())


def test_a_run_has_the_same_numbers_and_says_what_is_loud_once(
    tiny_config: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny_config(lr=10.0)
    told: list[str] = []
    run = fit(config, tmp_path / "looked", tell=told.append)
    assert len(told) == 1 and told[0].startswith("before training: the first step moves an activation by")
    log = (tmp_path / "looked" / "train.log").read_text()
    assert told[0] in log and "0 of 3 classes have no val clips" in log
    assert fit(config, tmp_path / "looked", tell=told.append).reused and len(told) == 1
    fit(replace_epochs(config, 5), tmp_path / "longer", tell=told.append)
    assert len(told) == 1, "it goes on from the shorter run"

    monkeypatch.setattr(fitting, "preflight", lambda module, data: [])
    blind = fit(config, tmp_path / "apart" / "blind")
    assert {**run.result, "seconds": 0} == {**blind.result, "seconds": 0}
    assert (tmp_path / "looked/metrics.csv").read_bytes() == (tmp_path / "apart/blind/metrics.csv").read_bytes()


def replace_epochs(config: Config, epochs: int) -> Config:
    return config.model_copy(update={"epochs": epochs})


def test_train_prints_the_loud_lines_before_its_table(
    tiny_overrides: list[str], checkout: Path, launch: Callable[..., Any], tmp_path: Path
) -> None:
    launched = launch(checkout / "train.py", *tiny_overrides, "lr=10", f"paths.outputs={tmp_path}", cwd=tmp_path)
    assert launched.wait() == 0
    lines = launched.printed.splitlines()
    assert lines[0].startswith("before training: the first step moves an activation by 1,")
    assert lines[0].endswith("; try lr=3e-3")
    assert not any(line.startswith("before training") for line in lines[1:])


@pytest.mark.slow
def test_the_lab_report_is_loud_before_it_begins(shared_data: Callable[[str], Path], tiny_cache: Path) -> None:
    words = ["experiment=lab_report", "data=esc10", f"data.root={shared_data('esc10')}", f"paths.cache={tiny_cache}"]
    checks = looked(load_config(words))
    assert loud(checks) == {"first_step", "loss_at_init"}
    assert checks["first_step"].value > 1000
    assert checks["first_step"].next == "try features.normalisation=per_band lr=1e-5"
