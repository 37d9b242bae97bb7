"""What a trained model scores: logits of every split, scores with chance floor and interval, and the worst errors."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch

from audioclf.config import SPLITS, Config
from audioclf.data import AudioDataModule
from audioclf.features.extract import load_waveform
from audioclf.features.mel import TorchaudioMel, shown_as
from audioclf.files import replacing
from audioclf.runs.folder import RunFolder
from audioclf.training.module import ClassifierModule
from audioclf.training.task import Task
from audioclf.training.tensorboard import ErrorExample

SHOWN_ERRORS = 10
DIVERGED = 10.0  # times what guessing has: a train loss above it


def predict_splits(module: ClassifierModule, data: AudioDataModule) -> dict[str, torch.Tensor]:
    """Logits ``[N, K]`` of each split, in the order of its clips; the only time that test is looked at."""
    training, device = module.training, module.device
    module.eval()
    with torch.inference_mode():
        logits = {
            name: torch.cat([module(features.to(device)) for features, _, _ in loader]).float().cpu()
            for name, loader in zip(SPLITS, data.predict_dataloader(), strict=True)
        }
    module.train(training)
    return logits


def evaluate(task: Task, data: AudioDataModule, logits: dict[str, torch.Tensor]) -> dict[str, Any]:
    """Scores of every split, and the chance floor and interval of test.

    Args:
        task: with what it learns from val.
        data: the data module after ``setup()``.
        logits: by split, ``[N, K]``.
    """
    targets = {name: data.datasets[name].targets for name in SPLITS}
    content: dict[str, Any] = {"task": task.name, **task.tuned()}
    content |= {name: task.scored(logits[name], targets[name]) for name in SPLITS}
    groups = [clip.group for clip in data.splits.test]
    content["chance"] = task.floor(logits["test"], targets["test"], targets["train"])
    content["interval"] = task.intervals(logits["test"], targets["test"], groups)
    finite_logits = all(bool(part.isfinite().all()) for part in logits.values())
    content["diverged"] = not finite_logits or content["train"]["loss"] > DIVERGED * task.guess
    return content


def write_predictions(task: Task, folder: RunFolder, data: AudioDataModule, logits: dict[str, torch.Tensor]) -> None:
    """Writes ``predictions.parquet``: one row for each clip of each split; where clips have several labels, lists."""
    several = task.name == "multi_label"
    names = ("clip", "group", "split", "target", "label", "predicted", "logits", *(["scores"] if several else []))
    columns: dict[str, list[Any]] = {name: [] for name in names}

    def named(found: list[Any]) -> list[Any]:
        return [[data.classes[k] for k in one] if several else data.classes[one] for one in found]

    for name, part in data.splits.parts().items():
        targets = task.listed(data.datasets[name].targets)
        columns["clip"] += [clip.id for clip in part]
        columns["group"] += [clip.group for clip in part]
        columns["split"] += [name] * len(part)
        columns["target"] += targets
        columns["label"] += named(targets)
        columns["predicted"] += named(task.listed(task.decided(logits[name])))
        columns["logits"] += logits[name].numpy().tolist()
        if several:
            columns["scores"] += task.probabilities(logits[name]).numpy().tolist()
    numbers, words = (pa.list_(kind) if several else kind for kind in (pa.int32(), pa.string()))
    types = {"target": numbers, "label": words, "predicted": words}
    types |= dict.fromkeys(("logits", "scores"), pa.list_(pa.float32()))
    table = pa.table(columns).cast(pa.schema([(name, types.get(name, pa.string())) for name in names]))
    with replacing(folder.predictions) as file:
        pq.write_table(table.replace_schema_metadata({"classes": "\n".join(data.classes)}), file)


def confident_errors(config: Config, task: Task, data: AudioDataModule, logits: torch.Tensor) -> list[ErrorExample]:
    """The test clips that are wrong with the highest probability."""
    wrong = task.mistakes(logits, data.datasets["test"].targets)[:SHOWN_ERRORS]
    mel = shown_as(config.features)
    front_end = TorchaudioMel(mel)

    def spectrogram(i: int) -> torch.Tensor:
        if mel is config.features:
            return data.datasets["test"][i][0][0]
        waveform = load_waveform(data.audio, data.splits.test[i].audio_key, mel.sample_rate)
        features: torch.Tensor = front_end(front_end.fit_length(waveform)[None])
        return features[0]

    return [
        ErrorExample(
            title=f"{what}, {data.splits.test[i].id}",
            features=spectrogram(i).numpy(),
            samples=_heard(data, i).clamp(-1, 1).numpy(),
            rate=data.front_end.sample_rate,
            seconds=mel.seconds,
            hertz=(mel.f_min, mel.f_max or mel.sample_rate / 2),
            unit="dB" if mel.scale == "db" else "power",
        )
        for i, what in wrong
    ]


def _heard(data: AudioDataModule, index: int) -> torch.Tensor:
    """The part of a test clip's waveform that the model is given, without the padding."""
    waveform = load_waveform(data.audio, data.splits.test[index].audio_key, data.front_end.sample_rate)
    return data.front_end.fit_length(waveform)[: len(waveform)]
