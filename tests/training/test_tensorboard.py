"""What TensorBoard shows, read back with TensorBoard's own readers and, for the HParams tab, from its own server."""

from __future__ import annotations

import io
import json
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
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
from audioclf.runs.identity import run_name, swept_settings
from audioclf.training.callbacks import KeepState
from audioclf.training.fit import Interrupted, Run, fit

Tiny = Callable[..., Config]
Ask = Callable[..., Any]
ALL = {"scalars": 0, "images": 0, "audio": 0, "tensors": 0}
STATUSES = ["STATUS_UNKNOWN", "STATUS_SUCCESS", "STATUS_FAILURE", "STATUS_RUNNING"]
FINAL = ["test/accuracy", "test/f1_macro", "test/loss", "val/accuracy", "val/f1_macro", "val/loss"]


def events_of(folder: Path) -> EventAccumulator:
    return EventAccumulator(str(folder), size_guidance=ALL).Reload()


def curve(folder: Path, tag: str) -> list[tuple[int, float]]:
    return [(event.step, event.value) for event in events_of(folder).Scalars(tag)]


@contextmanager
def board(logdir: Path) -> Iterator[Ask]:
    """TensorBoard's own server: ``ask("data/runs")``."""
    server = program.TensorBoard()
    server.configure(argv=["tensorboard", "--logdir", str(logdir), "--port", "0", "--load_fast", "false"])
    url = server.launch()

    def ask(path: str, question: dict[str, Any] | None = None) -> Any:
        data = None if question is None else json.dumps(question).encode()
        request = urllib.request.Request(f"{url}{path}", data, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)

    yield ask


@pytest.fixture(scope="module")
def run(tiny_config: Tiny, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return fit(tiny_config(trainer={"tensorboard": True}), tmp_path_factory.mktemp("runs") / "run")


@pytest.mark.parametrize("tag", ["loss", "f1_macro", "accuracy"])
def test_train_and_val_curves_share_a_chart_and_hold_each_epoch(run: Run, tag: str) -> None:
    rows = RunFolder(run.folder).read_metrics()
    for split in ("train", "val"):
        steps, values = zip(*curve(run.folder / f"events-{split}", tag), strict=True)
        assert steps == (1, 2, 3)
        assert values == pytest.approx([row[f"{split}_{tag}"] for row in rows], rel=1e-6)


def test_every_setting_and_the_final_scores_are_recorded(run: Run, tiny_config: Tiny) -> None:
    events = events_of(run.folder / "events")
    content = events.PluginTagToContent("hparams")["_hparams_/session_start_info"]
    hparams = HParamsPluginData.FromString(content).session_start_info.hparams
    shown = {key: getattr(value, value.WhichOneof("kind")) for key, value in hparams.items()}
    assert shown == swept_settings(tiny_config()) | {"data.allow_leak": "false"}
    assert (shown["lr"], shown["features.n_mels"], shown["data.classes"]) == (0.001, 8, "null")
    assert sorted(events.Tags()["scalars"]) == FINAL
    for tag in FINAL:
        split, name = tag.split("/")
        ((step, value),) = curve(run.folder / "events", tag)
        assert (step, value) == (run.result["selected_epoch"], pytest.approx(run.result[split][name], abs=1e-6))


def test_hparams_tab_puts_first_what_differs_and_has_the_final_scores_alone(run: Run, tiny_config: Tiny) -> None:
    """Asked as the tab asks: it shows the first five columns of hyper-parameters, and of metrics, by default."""
    changes = [
        {"lr": 2e-3, "features": {"n_mels": 9}},
        {"lr": 2e-3, "data": {"classes": sorted(run.result["data"]["classes"])[:2]}, "seed": 1},
    ]
    runs = {0: run}
    for number, change in enumerate(changes, 1):
        config = tiny_config(**{"trainer": {"tensorboard": True}} | change)
        runs[number] = fit(config, run.folder.parent / f"run{number}")
    with board(run.folder.parent) as ask:
        experiment = ask("data/plugin/hparams/experiment", {"hparamsLimit": 1000})
        columns = [{"metric": info["name"]} for info in experiment["metricInfos"]]
        question = {"startIndex": 0, "sliceSize": 100, "colParams": columns, "allowedStatuses": STATUSES}
        groups = ask("data/plugin/hparams/session_groups", question)["sessionGroups"]

    names = [info["name"] for info in experiment["hparamInfos"]]
    differing = ["data.classes", "features.n_mels", "lr", "seed"]
    assert [info["name"] for info in experiment["hparamInfos"] if info.get("differs")] == differing == names[:4]
    assert sorted(names) == sorted(swept_settings(tiny_config()))
    assert [info["name"] for info in experiment["metricInfos"]] == [{"group": "", "tag": tag} for tag in FINAL]

    rows = {group["name"]: group for group in groups}
    assert set(rows) == {f"{one.folder.name}/events" for one in runs.values()}
    for one in runs.values():
        row = rows[f"{one.folder.name}/events"]
        assert {key: row["hparams"][key] for key in differing} == {
            key: one.result["settings"][key] for key in differing
        }
        for metric in row["metricValues"]:
            split, key = metric["name"]["tag"].split("/")
            assert metric["value"] == pytest.approx(one.result[split][key], abs=1e-6)


def test_time_series_tab_knows_the_settings_of_each_curve(run: Run) -> None:
    """It gives a curve the hyper-parameters of the longest name that the curve's own name begins with."""
    with board(run.folder.parent) as ask:
        question = {"startIndex": 0, "sliceSize": 100, "colParams": [], "allowedStatuses": STATUSES}
        groups = ask("data/plugin/hparams/session_groups", question)["sessionGroups"]
        curves = ask("data/plugin/scalars/tags")
    sessions = {session["name"] for group in groups for session in group["sessions"]}
    for split in ("train", "val"):
        name = f"{run.folder.name}/events-{split}"
        assert set(curves[name]) == {"accuracy", "f1_macro", "loss"}
        assert max((one for one in sessions if name.startswith(one)), key=len) == f"{run.folder.name}/events"


def test_figures_and_audible_errors_are_there(run: Run) -> None:
    events = events_of(run.folder / "events")
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
    tags = sorted(events_of(run.folder / "events").Tags()["audio"])
    assert [tag.rsplit(", ")[-1] for tag in tags] == [clip for _, clip in wrong[:10]]


def _test_rows(run: Run) -> list[dict[str, Any]]:
    return [row for row in pq.read_table(run.folder / "predictions.parquet").to_pylist() if row["split"] == "test"]


def test_runs_continued_or_written_down_on_the_way_have_each_epoch_once(
    run: Run, tiny_config: Tiny, tmp_path: Path
) -> None:
    fit(tiny_config(epochs=2, trainer={"tensorboard": True}), tmp_path / "two")
    longer = fit(tiny_config(epochs=4, marks=[3], trainer={"tensorboard": True}), tmp_path / "four")
    marked = tmp_path / run_name(tiny_config(epochs=3))
    for split in ("train", "val"):
        assert [step for step, _ in curve(longer.folder / f"events-{split}", "loss")] == [1, 2, 3, 4]
        assert [step for step, _ in curve(tmp_path / "two" / f"events-{split}", "loss")] == [1, 2]
        three = curve(run.folder / f"events-{split}", "loss")
        assert (
            three == curve(longer.folder / f"events-{split}", "loss")[:3] == curve(marked / f"events-{split}", "loss")
        )
    assert [curve(marked / "events", tag) for tag in FINAL] == [curve(run.folder / "events", tag) for tag in FINAL]


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
    assert [step for step, _ in curve(tmp_path / "run" / "events-train", "loss")] == [1, 2, 3, 4]
    fit(config, tmp_path / "run")
    assert "2 done before" in (tmp_path / "run" / "train.log").read_text()
    for split in ("train", "val"):
        assert [step for step, _ in curve(tmp_path / "run" / f"events-{split}", "f1_macro")] == [1, 2, 3, 4, 5, 6]
    (tmp_path / "run" / "result.json").unlink()  # killed after all was shown
    fit(config, tmp_path / "run")
    assert len(list((tmp_path / "run").rglob("*tfevents*"))) == 3


def test_a_diverged_run_is_shown_without_its_lost_numbers(tiny_config: Tiny, tmp_path: Path) -> None:
    fit(tiny_config(lr=1e20, epochs=1, trainer={"tensorboard": True}), tmp_path / "run")
    tags = events_of(tmp_path / "run" / "events").Tags()["scalars"]
    assert "test/f1_macro" in tags and "test/loss" not in tags
    assert "loss" not in events_of(tmp_path / "run" / "events-train").Tags()["scalars"]


def test_no_events_where_they_are_not_wanted(tiny_config: Tiny, tmp_path: Path) -> None:
    fit(tiny_config(epochs=1), tmp_path / "run")
    assert not list((tmp_path / "run").rglob("*tfevents*"))
