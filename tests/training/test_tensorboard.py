"""What TensorBoard shows, read back with TensorBoard's own readers and, for the HParams tab, from its own server."""

from __future__ import annotations

import io
import json
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import pytorch_lightning as pl
import soundfile
from PIL import Image
from tensorboard import program
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

from audioclf.config import Config
from audioclf.runs.folder import RunFolder
from audioclf.training.callbacks import KeepState
from audioclf.training.fit import Interrupted, Run, fit

Tiny = Callable[..., Config]
ALL = {"scalars": 0, "images": 0, "audio": 0, "tensors": 0}


def events_of(folder: Path) -> EventAccumulator:
    return EventAccumulator(str(folder), size_guidance=ALL).Reload()


def curve(folder: Path, tag: str) -> list[tuple[int, float]]:
    return [(event.step, event.value) for event in events_of(folder).Scalars(tag)]


@pytest.fixture(scope="module")
def run(tiny_config: Tiny, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return fit(tiny_config(trainer={"tensorboard": True}), tmp_path_factory.mktemp("runs") / "run")


@pytest.mark.parametrize("tag", ["loss", "f1_macro", "accuracy"])
def test_train_and_val_curves_share_a_chart_and_hold_each_epoch(run: Run, tag: str) -> None:
    rows = RunFolder(run.folder).read_metrics()
    for split in ("train", "val"):
        steps, values = zip(*curve(run.folder / split, tag), strict=True)
        assert steps == (1, 2, 3)
        assert values == pytest.approx([row[f"{split}_{tag}"] for row in rows], rel=1e-6)


def test_hparams_plugin_holds_the_knobs_and_the_final_metrics(run: Run) -> None:
    events = events_of(run.folder)
    plugin = events.PluginTagToContent("hparams")
    start = HParamsPluginData.FromString(plugin["_hparams_/session_start_info"]).session_start_info
    assert {name: start.hparams[name].number_value for name in ("lr", "epochs", "seed", "batch_size")} == {
        "lr": 0.001,
        "epochs": 3,
        "seed": 0,
        "batch_size": 8,
    }
    assert start.hparams["model.name"].string_value == "audio_classifier"
    experiment = HParamsPluginData.FromString(plugin["_hparams_/experiment"]).experiment
    assert {info.name.tag for info in experiment.metric_infos} >= {"test/f1_macro", "val/f1_macro", "test/loss"}
    for split in ("train", "val", "test"):
        for name in ("f1_macro", "accuracy", "loss"):
            assert curve(run.folder, f"{split}/{name}")[0][1] == pytest.approx(run.result[split][name], abs=1e-6)


def test_tensorboards_hparams_tab_lists_every_run_with_its_metrics(run: Run, tiny_config: Tiny) -> None:
    other = fit(tiny_config(trainer={"tensorboard": True}, lr=2e-3), run.folder.parent / "other")
    board = program.TensorBoard()
    board.configure(argv=["tensorboard", "--logdir", str(run.folder.parent), "--port", "0", "--load_fast", "false"])
    url = board.launch()

    def ask(what: str, question: dict[str, Any]) -> dict[str, Any]:
        request = urllib.request.Request(
            f"{url}data/plugin/hparams/{what}",
            data=json.dumps(question).encode(),
            headers={"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)

    experiment = ask("experiment", {})
    columns = [{"metric": info["name"]} for info in experiment["metricInfos"]]
    groups = ask(
        "session_groups",
        {
            "startIndex": 0,
            "sliceSize": 100,
            "colParams": columns,
            "allowedStatuses": ["STATUS_UNKNOWN", "STATUS_SUCCESS", "STATUS_FAILURE", "STATUS_RUNNING"],
        },
    )["sessionGroups"]
    shown = {}
    for group in groups:
        metrics = {(value["name"]["group"], value["name"]["tag"]): value["value"] for value in group["metricValues"]}
        shown[group["hparams"]["lr"]] = {tag: value for (_, tag), value in metrics.items()}
    assert set(shown) == {0.001, 0.002}
    for lr, result in ((0.001, run.result), (0.002, other.result)):
        for name in ("test/f1_macro", "val/f1_macro", "test/accuracy", "test/loss"):
            split, key = name.split("/")
            assert shown[lr][name] == pytest.approx(result[split][key], abs=1e-6)


def test_figures_and_audible_errors_are_there(run: Run) -> None:
    events = events_of(run.folder)
    images = {tag: events.Images(tag)[0] for tag in events.Tags()["images"]}
    assert {"test/confusion_matrix", "test/f1_per_class"} <= set(images)
    for image in images.values():
        pixels = np.asarray(Image.open(io.BytesIO(image.encoded_image_string)))
        assert pixels.std() > 5, "an empty picture"

    wrong = round(len(_test_rows(run)) * (1 - run.result["test"]["accuracy"]))
    sounds = {tag: events.Audio(tag)[0] for tag in events.Tags()["audio"]}
    assert len(sounds) == min(wrong, 10) > 0
    assert set(sounds) <= set(images), "a spectrogram beside each sound"
    for sound in sounds.values():
        samples, rate = soundfile.read(io.BytesIO(sound.encoded_audio_string))
        assert rate == 8_000 and len(samples) == 4_000 and np.abs(samples).max() > 0.1


def test_errors_are_the_most_confident_ones_first(run: Run) -> None:
    logits = np.array([row["logits"] for row in _test_rows(run)])
    shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    wrong = sorted(
        (-share.max(), row["clip"])
        for share, row in zip(shares, _test_rows(run), strict=True)
        if row["label"] != row["predicted"]
    )
    tags = sorted(events_of(run.folder).Tags()["audio"])
    assert [tag.rsplit(", ")[-1] for tag in tags] == [clip for _, clip in wrong[:10]]


def _test_rows(run: Run) -> list[dict[str, Any]]:
    return [row for row in pq.read_table(run.folder / "predictions.parquet").to_pylist() if row["split"] == "test"]


def test_a_continued_run_has_each_epoch_once(run: Run, tiny_config: Tiny, tmp_path: Path) -> None:
    fit(tiny_config(epochs=2, trainer={"tensorboard": True}), tmp_path / "two")
    longer = fit(tiny_config(epochs=4, trainer={"tensorboard": True}), tmp_path / "four")
    for split in ("train", "val"):
        assert [step for step, _ in curve(longer.folder / split, "loss")] == [1, 2, 3, 4]
        assert [step for step, _ in curve(tmp_path / "two" / split, "loss")] == [1, 2]
        assert curve(longer.folder / split, "loss")[:3] == curve(run.folder / split, "loss")


def test_a_resumed_run_has_each_epoch_once(tiny_config: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped two epochs after its last checkpoint: they were shown and are done again."""
    config = tiny_config(epochs=6, trainer={"tensorboard": True, "checkpoint_every_s": 0.0})
    save, append = KeepState.save, RunFolder.append_metrics

    def save_two(self: KeepState, trainer: pl.Trainer) -> None:
        if trainer.current_epoch < 2:
            save(self, trainer)

    def stop(self: RunFolder, row: dict[str, float]) -> None:
        append(self, row)
        if row["epoch"] == 5:
            raise Interrupted(2, 6)

    with monkeypatch.context() as patch:
        patch.setattr(KeepState, "save", save_two)
        patch.setattr(RunFolder, "append_metrics", stop)
        with pytest.raises(Interrupted):
            fit(config, tmp_path / "run")
    assert [step for step, _ in curve(tmp_path / "run" / "train", "loss")] == [1, 2, 3, 4]
    fit(config, tmp_path / "run")
    assert "2 done before" in (tmp_path / "run" / "train.log").read_text()
    for split in ("train", "val"):
        assert [step for step, _ in curve(tmp_path / "run" / split, "f1_macro")] == [1, 2, 3, 4, 5, 6]
    (tmp_path / "run" / "result.json").unlink()  # killed after all was shown
    fit(config, tmp_path / "run")
    assert len(list((tmp_path / "run").rglob("events.*"))) == 3


def test_a_diverged_run_is_shown_without_its_lost_numbers(tiny_config: Tiny, tmp_path: Path) -> None:
    fit(tiny_config(lr=1e20, epochs=1, trainer={"tensorboard": True}), tmp_path / "run")
    tags = events_of(tmp_path / "run").Tags()["scalars"]
    assert "test/f1_macro" in tags and "test/loss" not in tags
    assert "loss" not in events_of(tmp_path / "run" / "train").Tags()["scalars"]


def test_no_events_where_they_are_not_wanted(tiny_config: Tiny, tmp_path: Path) -> None:
    fit(tiny_config(epochs=1), tmp_path / "run")
    assert not list((tmp_path / "run").rglob("events.*"))
