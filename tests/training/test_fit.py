"""One run from end to end: what it writes, what it takes up again, and what it never does twice."""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import pytorch_lightning as pl
import soundfile
import torch
from sklearn.metrics import accuracy_score, f1_score, log_loss, precision_recall_fscore_support

from audioclf.config import Config
from audioclf.data import AudioDataModule
from audioclf.errors import EXIT_INTERRUPTED, UserError
from audioclf.models.build import build_model
from audioclf.runs.folder import RunFolder
from audioclf.runs.identity import run_name
from audioclf.training.fit import Interrupted, Run, fit
from audioclf.training.report import print_run

Tiny = Callable[..., Config]


def predictions(folder: Path) -> dict[str, Any]:
    return pq.read_table(folder / "predictions.parquet").to_pydict()


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return torch.load(folder / "checkpoints" / "model.ckpt", weights_only=True)["state_dict"]


def result_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "result.json").read_text())


def rows_of(folder: Path) -> list[dict[str, float]]:
    return RunFolder(folder).read_metrics()


def assert_same_numbers(one: Path, other: Path) -> None:
    """Every number of two runs is the same to the last bit."""
    assert (one / "metrics.csv").read_bytes() == (other / "metrics.csv").read_bytes()
    ours, theirs = weights(one), weights(other)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    assert predictions(one) == predictions(other)
    varying = ("seconds", "identity", "data")
    assert {k: v for k, v in result_of(one).items() if k not in varying} == {
        k: v for k, v in result_of(other).items() if k not in varying
    }


def content(folder: Path) -> dict[str, tuple[int, str]]:
    """Time and hash of every file of a folder."""
    return {
        str(path.relative_to(folder)): (path.stat().st_mtime_ns, hashlib.sha256(path.read_bytes()).hexdigest())
        for path in folder.rglob("*")
        if path.is_file()
    }


# --- the numbers -----------------------------------------------------------------------------------------------------


def test_metrics_equal_scikit_learn_also_where_test_lacks_a_class(
    tones: Path, write_file: Callable[..., Path], tiny_config: Tiny, tmp_path: Path
) -> None:
    def split(path: str) -> str:
        number = int(path[-5])  # a recording's
        return "train" if number < 3 else "val" if number == 3 else "test"

    rows = [[*line.split(","), split(line.split(",")[0])] for line in tones.read_text().split()[1:]]
    lines = [",".join(row) for row in rows if (row[3], row[4]) != ("high", "test")]
    table = write_file("clips.csv", "\n".join(["path,start,end,label,split", *lines]))
    data = {"csv": str(table), "audio_dir": str(tones.parent)}
    config = tiny_config(data=data, lr=3e-3, epochs=15, trainer={"select": "last"})
    result = fit(config, tmp_path / "run").result

    table_of = predictions(tmp_path / "run")
    classes = result["data"]["classes"]
    assert classes == ["high", "low", "mid"] and set(table_of["split"]) == {"train", "val", "test"}
    for name in ("train", "val", "test"):
        here = [i for i, other in enumerate(table_of["split"]) if other == name]
        target = [table_of["label"][i] for i in here]
        logits = np.array([table_of["logits"][i] for i in here], dtype=np.float64)
        predicted = [classes[i] for i in logits.argmax(1)]
        assert predicted == [table_of["predicted"][i] for i in here]
        assert target == [classes[table_of["target"][i]] for i in here]
        present = sorted(set(target))
        precision, recall, f1, _ = precision_recall_fscore_support(
            target, predicted, labels=present, average="macro", zero_division=0
        )
        shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        expected = {
            "accuracy": accuracy_score(target, predicted),
            "precision_macro": precision,
            "recall_macro": recall,
            "f1_macro": f1,
            "f1_micro": f1_score(target, predicted, labels=classes, average="micro", zero_division=0),
            "f1_weighted": f1_score(target, predicted, labels=present, average="weighted", zero_division=0),
            "loss": log_loss(target, shares, labels=classes),
        }
        assert {key: result[name][key] for key in expected} == pytest.approx(expected, abs=1e-6)
        each = precision_recall_fscore_support(target, predicted, labels=classes, zero_division=0)
        for i, label in enumerate(classes):
            wanted = dict(zip(("precision", "recall", "f1", "support"), (part[i] for part in each), strict=True))
            assert result[name]["per_class"][label] == pytest.approx(wanted, abs=1e-6)
        assert result[name]["classes_without_support"] == 3 - len(present)
        if name == "test":
            assert present == ["low", "mid"] and "high" in predicted and 0 < f1 < 1, "it would prove nothing"


def test_statistics_and_weights_know_nothing_of_val_and_test(tiny_config: Tiny, tmp_path: Path) -> None:
    config = tiny_config(paths={"cache": str(tmp_path / "cache")}, trainer={"select": "last"})
    fit(config, tmp_path / "clean")
    data = AudioDataModule(config.data, config.features, cache=config.paths.cache)
    data.setup()
    for name in ("val", "test"):
        for sha256 in data.datasets[name].sha256s:
            data.feature_store.write(sha256, np.full(data.front_end.output_shape, 1e4, np.float32))
    fit(config, tmp_path / "poisoned")

    assert result_of(tmp_path / "poisoned")["val"]["loss"] != result_of(tmp_path / "clean")["val"]["loss"]
    clean, poisoned = weights(tmp_path / "clean"), weights(tmp_path / "poisoned")
    assert all(torch.equal(clean[key], poisoned[key]) for key in clean)
    train = data.feature_store.read_all(data.datasets["train"].sha256s).double()
    assert torch.allclose(clean["standardise.mean"].double(), train.mean((0, 2)).reshape(-1, 1), rtol=1e-5)
    assert torch.allclose(clean["standardise.std"].double(), train.std((0, 2), correction=0).reshape(-1, 1), rtol=1e-5)


@pytest.mark.parametrize("lr", [1e6, 1e20])
def test_a_run_that_diverges_ends_and_says_so(
    tiny_config: Tiny, tmp_path: Path, capsys: pytest.CaptureFixture[str], lr: float
) -> None:
    run = fit(tiny_config(lr=lr), tmp_path / "run")
    print_run(run)

    assert "DIVERGED" in capsys.readouterr().out
    text = (tmp_path / "run" / "result.json").read_text()
    result = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} in result.json"))
    assert result == run.result and result["diverged"] is True and result["status"] == "finished"
    losses = [row["train_loss"] for row in rows_of(tmp_path / "run")]
    if lr == 1e20:
        assert result["test"]["loss"] is None and all(map(math.isnan, losses))
    else:
        assert result["test"]["loss"] > 100 and all(loss > 100 for loss in losses)


def test_a_healthy_run_is_not_called_diverged(tiny_config: Tiny, tmp_path: Path) -> None:
    assert fit(tiny_config(), tmp_path / "run").result["diverged"] is False


def test_the_selected_weights_are_those_of_the_best_val_epoch(tiny_config: Tiny, tmp_path: Path) -> None:
    for seed in range(10):
        best = fit(tiny_config(seed=seed, lr=1e-2, epochs=6), tmp_path / f"best{seed}")
        chosen = best.result["selected_epoch"]
        if 1 < chosen < 6:
            break
    else:
        pytest.fail("in every run the best epoch was the first or the last")
    rows = rows_of(best.folder)
    order = sorted(rows, key=lambda row: (-row["val_f1_macro"], row["val_loss"], row["epoch"]))
    assert chosen == order[0]["epoch"]
    assert best.result["val"]["f1_macro"] == pytest.approx(rows[chosen - 1]["val_f1_macro"], abs=1e-6)
    assert best.result["val"]["loss"] == pytest.approx(rows[chosen - 1]["val_loss"], abs=1e-6)

    shorter = fit(tiny_config(seed=seed, lr=1e-2, epochs=chosen, trainer={"select": "last"}), tmp_path / "last")
    assert shorter.result["selected_epoch"] == chosen
    assert predictions(shorter.folder) == predictions(best.folder)
    full = fit(tiny_config(seed=seed, lr=1e-2, epochs=6, trainer={"select": "last"}), tmp_path / "elsewhere" / "full")
    assert full.result["selected_epoch"] == 6 and predictions(full.folder) != predictions(best.folder)


# --- the same again --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("threads", [1, 2])
def test_the_seed_decides_every_bit(tiny_config: Tiny, tmp_path: Path, threads: int) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        for name, seed in (("one", 0), ("two", 0), ("other", 1)):
            torch.rand(7)  # whatever was drawn before
            fit(tiny_config(seed=seed, model={"hidden": 300}), tmp_path / name)
    finally:
        torch.set_num_threads(before)
    assert_same_numbers(tmp_path / "one", tmp_path / "two")
    assert (tmp_path / "one" / "metrics.csv").read_bytes() != (tmp_path / "other" / "metrics.csv").read_bytes()
    assert not torch.equal(
        weights(tmp_path / "one")["model.fc1.weight"], weights(tmp_path / "other")["model.fc1.weight"]
    )
    assert predictions(tmp_path / "one")["clip"] == predictions(tmp_path / "other")["clip"], (
        "the split has its own seed"
    )


def test_a_finished_run_is_not_trained_again(tiny_config: Tiny, tmp_path: Path) -> None:
    first = fit(tiny_config(), tmp_path / "run")
    before = content(first.folder)
    again = fit(tiny_config(), tmp_path / "run")
    assert (first.reused, again.reused) == (False, True)
    assert again.result == first.result
    assert content(first.folder) == before


def test_retrain_keeps_the_old_folder_aside(tiny_config: Tiny, tmp_path: Path) -> None:
    fit(tiny_config(), tmp_path / "run")
    before = content(tmp_path / "run")
    again = fit(tiny_config(retrain=True), tmp_path / "run")
    assert not again.reused and content(tmp_path / "run.old1") == before
    assert_same_numbers(tmp_path / "run", tmp_path / "run.old1")
    fit(tiny_config(retrain=True), tmp_path / "run")
    assert content(tmp_path / "run.old1") == before and (tmp_path / "run.old2" / "result.json").exists()


@pytest.mark.parametrize("select", ["best", "last"])
def test_more_epochs_continue_a_shorter_run_bit_for_bit(tiny_config: Tiny, tmp_path: Path, select: str) -> None:
    changes = {"lr": 1e-2, "trainer": {"select": select}}
    fit(tiny_config(epochs=2, **changes), tmp_path / "runs" / "two")
    before = content(tmp_path / "runs" / "two")
    four = fit(tiny_config(epochs=4, **changes), tmp_path / "runs" / "four")
    assert "2 done before" in (four.folder / "train.log").read_text()
    assert content(tmp_path / "runs" / "two") == before

    fit(tiny_config(epochs=4, **changes), tmp_path / "alone" / "four")
    assert_same_numbers(four.folder, tmp_path / "alone" / "four")


def test_random_layers_draw_the_same_in_a_continued_run(
    tiny_config: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def with_dropout(*arguments: Any) -> torch.nn.Module:
        return torch.nn.Sequential(torch.nn.Dropout(0.5), build_model(*arguments))

    monkeypatch.setattr("audioclf.training.module.build_model", with_dropout)
    fit(tiny_config(epochs=2), tmp_path / "runs" / "two")
    fit(tiny_config(epochs=4), tmp_path / "runs" / "four")
    fit(tiny_config(epochs=4), tmp_path / "alone" / "four")
    assert_same_numbers(tmp_path / "runs" / "four", tmp_path / "alone" / "four")


@pytest.mark.parametrize("change", [{"seed": 1}, {"lr": 2e-3}, {"batch_size": 4}, {"data": {"split_seed": 1}}])
def test_a_run_of_another_trajectory_is_not_continued(
    tiny_config: Tiny, tmp_path: Path, change: dict[str, Any]
) -> None:
    fit(tiny_config(epochs=1, **change), tmp_path / "one")
    two = fit(tiny_config(epochs=2), tmp_path / "two")
    assert "0 done before" in (two.folder / "train.log").read_text()


def test_a_run_killed_after_its_last_epoch_is_scored_without_training(tiny_config: Tiny, tmp_path: Path) -> None:
    fit(tiny_config(), tmp_path / "whole")
    shutil.copytree(tmp_path / "whole", tmp_path / "killed")
    for name in ("result.json", "predictions.parquet", "checkpoints/model.ckpt"):
        (tmp_path / "killed" / name).unlink()
    again = fit(tiny_config(), tmp_path / "killed")
    assert not again.reused and "3 done before" in (again.folder / "train.log").read_text()
    assert_same_numbers(tmp_path / "whole", tmp_path / "killed")


def test_a_checkpoint_that_is_not_whole_never_takes_the_place_of_one_that_is(
    tiny_config: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny_config(epochs=4, trainer={"checkpoint_every_s": 0.0})

    def break_off(self: pl.Trainer, path: Path, weights_only: bool = False) -> None:
        if self.current_epoch == 2:
            Path(path).write_bytes(b"half")
            raise OSError("No space left on device")
        save(self, path, weights_only)

    save = pl.Trainer.save_checkpoint
    with monkeypatch.context() as patch:
        patch.setattr(pl.Trainer, "save_checkpoint", break_off)
        with pytest.raises(OSError, match="No space left"):
            fit(config, tmp_path / "run")
    assert [path.name for path in (tmp_path / "run" / "checkpoints").iterdir()] == ["last.ckpt"]
    assert "No space left" in (tmp_path / "run" / "train.log").read_text()
    fit(config, tmp_path / "run")
    assert "2 done before" in (tmp_path / "run" / "train.log").read_text()
    fit(config, tmp_path / "whole")
    assert_same_numbers(tmp_path / "run", tmp_path / "whole")


def test_changed_audio_under_an_unchanged_name_is_noticed(tones: Path, tiny_config: Tiny, tmp_path: Path) -> None:
    shutil.copytree(tones.parent, tmp_path / "tones")
    config = tiny_config(data={"csv": str(tmp_path / "tones" / "clips.csv")})
    first = fit(config, tmp_path / "run")
    before = content(first.folder)
    changed = tmp_path / "tones" / "low0.wav"
    samples, rate = soundfile.read(changed)
    soundfile.write(changed, samples[::-1], rate, subtype="PCM_16")

    second = fit(config, tmp_path / "run")
    assert not second.reused
    assert second.result["identity"] == first.result["identity"], "the table is the same"
    assert second.result["data_fingerprint"] != first.result["data_fingerprint"]
    assert content(tmp_path / "run.old1") == before


# --- the folder ------------------------------------------------------------------------------------------------------


def test_a_folder_with_other_things_in_it_is_refused_and_left_alone(tiny_config: Tiny, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("x")
    with pytest.raises(UserError, match=r"thesis\.tex"):
        fit(tiny_config(paths={"cache": str(tmp_path / "cache")}), tmp_path / "mine")
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["thesis.tex"]
    assert not (tmp_path / "cache").exists(), "refused before the long work"


def test_a_run_killed_in_its_first_moment_is_begun_again_in_its_folder(tiny_config: Tiny, tmp_path: Path) -> None:
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    for name in ("train.log", "config.yaml", "environment.json.0123abcd-99999999.tmp"):
        (tmp_path / "run" / name).touch()
    fit(tiny_config(), tmp_path / "run")
    assert (tmp_path / "run" / "result.json").exists()
    assert [path.name for path in tmp_path.glob("run*")] == ["run"]


def test_another_run_in_the_folder_is_kept_aside(tiny_config: Tiny, tmp_path: Path) -> None:
    fit(tiny_config(seed=1), tmp_path / "run")
    before = content(tmp_path / "run")
    assert fit(tiny_config(seed=2), tmp_path / "run").result["seed"] == 2
    assert content(tmp_path / "run.old1") == before


# --- processes -------------------------------------------------------------------------------------------------------


def test_two_processes_that_launch_one_run_train_it_once(
    launch: Callable[..., Any], tiny_overrides: list[str], tmp_path: Path
) -> None:
    command = ["train.py", *tiny_overrides, "epochs=30", "paths.outputs=runs"]
    both = [launch(*command, cwd=tmp_path) for _ in range(2)]
    assert [process.wait() for process in both] == [0, 0]
    (folder,) = (path for path in (tmp_path / "runs").iterdir() if path.is_dir())
    assert len(rows_of(folder)) == 30 and not list(tmp_path.glob("runs/*.old*"))
    assert (folder / "train.log").read_text().count("finished in") == 1
    assert sorted("nothing was trained now" in process.printed for process in both) == [False, True]


def test_a_sweep_trains_equal_jobs_once_and_goes_on_after_a_users_error(
    launch: Callable[..., Any],
    tiny_overrides: list[str],
    tones: Path,
    write_file: Callable[..., Path],
    tmp_path: Path,
) -> None:
    rows = tones.read_text().split()
    lines = [f"{rows[0]},fold", *(f"{row},{int(row.split('.')[0][-1]) % 3 + 1}" for row in rows[1:])]
    table = write_file("clips.csv", "\n".join(lines))
    sweep = ("lr=1e-3,0.001", "seed=0,1", "data.fold=9,1", f"data.csv={table}", f"data.audio_dir={tones.parent}")
    process = launch("train.py", "-m", *tiny_overrides, *sweep, "hydra.sweep.dir=sweep", cwd=tmp_path)
    assert process.wait() != 0, "one job failed"
    folders = [path.parent for path in (tmp_path / "sweep").glob("*/result.json")]
    trained = sorted((r["seed"], r["data"]["split_rule"].split(",")[0]) for r in map(result_of, folders))
    assert trained == [(seed, "published fold 1 of 3") for seed in (0, 1)]
    assert process.printed.count("\nfailed: ") == 2, "each failed run says why"
    assert "2 of 4 runs failed" in process.printed
    assert "Traceback" not in process.printed


def test_the_default_folder_names_the_run_and_no_two_runs_share_it(tiny_config: Tiny) -> None:
    numbers = [
        *({"lr": 2e-3}, {"epochs": 4}, {"seed": 1}, {"batch_size": 9}, {"model": {"hidden": 17}}),
        *({"data": {"split_seed": 1}}, {"data": {"fold": 2}}, {"data": {"folds": 4}}, {"data": {"val_fraction": 0.3}}),
        *({"data": {"on_bad_row": "skip"}}, {"features": {"n_mels": 9}}, {"features": {"engine": "librosa"}}),
        *({"features": {"normalisation": "none"}}, {"features": {"storage": "float16"}}),
        *({"loss": {"label_smoothing": 0.1}}, {"optimizer": {"weight_decay": 0.1}}, {"trainer": {"select": "last"}}),
    ]
    names = [run_name(tiny_config(**change)) for change in [{}, *numbers]]
    assert len(set(names)) == len(names)
    assert names[0].startswith("csv-mel-audio_classifier-lr1e-3-epochs3-seed0-")
    no_numbers = [
        *({"paths": {"outputs": "elsewhere"}}, {"paths": {"cache": "elsewhere"}}, {"retrain": True}),
        *(
            {"data": {"ram_budget_gb": 0.0}},
            {"trainer": {"checkpoint_every_s": 0.0}},
            {"trainer": {"tensorboard": True}},
        ),
    ]
    assert {run_name(tiny_config(**change)) for change in no_numbers} == {names[0]}


@pytest.mark.parametrize("presses", [1, 2])
def test_ctrl_c_leaves_a_run_that_the_same_command_finishes_bit_for_bit(
    launch: Callable[..., Any], tiny_overrides: list[str], tmp_path: Path, presses: int
) -> None:
    command = ["train.py", *tiny_overrides, "epochs=30", "trainer.checkpoint_every_s=0", "hydra.run.dir=here"]
    process = launch(*command, cwd=tmp_path)
    folder = tmp_path / "here"
    while process.running and len(rows_of(folder)) < 3:
        time.sleep(0.002)
    for _ in range(presses):
        os.kill(process.pid, signal.SIGINT)
        time.sleep(0.005)
    assert process.wait() == EXIT_INTERRUPTED
    done = len(rows_of(folder))
    assert 3 <= done < 30 and not (folder / "result.json").exists()
    assert "the same command continues: python train.py data=csv" in process.printed
    assert "Traceback" not in process.printed
    assert "stopped after epoch" in (folder / "train.log").read_text()

    again = launch(*command, cwd=tmp_path)
    assert again.wait() == 0, again.printed
    whole = launch(*command[:-1], "hydra.run.dir=whole", cwd=tmp_path)
    assert whole.wait() == 0
    assert_same_numbers(folder, tmp_path / "whole")


def test_a_run_reports_its_interruption_to_python_too(
    tiny_config: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    append = RunFolder.append_metrics

    def press(self: RunFolder, row: dict[str, float]) -> None:
        append(self, row)
        if row["epoch"] == 2:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(RunFolder, "append_metrics", press)
    with pytest.raises(Interrupted) as stop:
        fit(tiny_config(epochs=5), tmp_path / "run")
    assert (stop.value.epoch, stop.value.epochs) == (2, 5)
    assert isinstance(fit(tiny_config(epochs=5), tmp_path / "run"), Run)


def test_a_checkpoint_carries_no_password(tiny_config, tmp_path):
    config = tiny_config(fetch={"proxy": "http://me:secret@proxy", "cookies": "cookies.txt"})
    folder = fit(config, tmp_path / "run").folder
    for name in ("model.ckpt", "last.ckpt"):
        assert b"secret" not in (folder / "checkpoints" / name).read_bytes()
        assert b"cookies.txt" not in (folder / "checkpoints" / name).read_bytes()
