"""What a trained model scores: logits of every split, scores with chance floor and interval, and the worst errors."""

from __future__ import annotations

import math
from dataclasses import asdict
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
from audioclf.training.scores import LEVEL, IntArray, chance, confusion_matrix, interval, scores
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


def evaluate(data: AudioDataModule, logits: dict[str, torch.Tensor]) -> dict[str, Any]:
    """Scores of every split, and the chance floor and interval of test.

    Args:
        data: the data module after ``setup()``.
        logits: by split, ``[N, K]``.
    """
    content: dict[str, Any] = {}
    targets = {name: data.datasets[name].targets for name in SPLITS}
    for name in SPLITS:
        found = scores(confusion_of(data, logits, name))
        content[name] = {
            "loss": float(torch.nn.functional.cross_entropy(logits[name], targets[name])),
            "accuracy": found.accuracy,
            "precision_macro": found.precision_macro,
            "recall_macro": found.recall_macro,
            "f1_macro": found.f1_macro,
            "f1_micro": found.accuracy,
            "f1_weighted": found.f1_weighted,
            "classes_without_support": found.classes_without_support,
            "per_class": {
                label: {
                    "precision": float(found.precision[i]),
                    "recall": float(found.recall[i]),
                    "f1": float(found.f1[i]),
                    "support": int(found.support[i]),
                }
                for i, label in enumerate(data.classes)
            },
        }
    test, predicted = targets["test"].numpy(), logits["test"].argmax(1).numpy()
    groups = [clip.group for clip in data.splits.test]
    classes = len(data.classes)
    content["chance"] = asdict(chance(test, predicted, targets["train"].numpy(), classes))
    content["interval"] = {"f1_macro": list(interval(test, predicted, groups, classes)), "level": LEVEL}
    finite_logits = all(bool(part.isfinite().all()) for part in logits.values())
    content["diverged"] = not finite_logits or content["train"]["loss"] > DIVERGED * math.log(classes)
    return content


def write_predictions(folder: RunFolder, data: AudioDataModule, logits: dict[str, torch.Tensor]) -> None:
    """Writes ``predictions.parquet``: one row for each clip of each split."""
    columns: dict[str, list[Any]] = {
        n: [] for n in ("clip", "group", "split", "target", "label", "predicted", "logits")
    }
    for name, part in data.splits.parts().items():
        targets = data.datasets[name].targets.tolist()
        columns["clip"] += [clip.id for clip in part]
        columns["group"] += [clip.group for clip in part]
        columns["split"] += [name] * len(part)
        columns["target"] += targets
        columns["label"] += [data.classes[t] for t in targets]
        columns["predicted"] += [data.classes[p] for p in logits[name].argmax(1).tolist()]
        columns["logits"] += logits[name].numpy().tolist()
    table = pa.table(columns).cast(
        pa.schema(
            [(n, pa.string()) for n in ("clip", "group", "split")]
            + [
                ("target", pa.int32()),
                ("label", pa.string()),
                ("predicted", pa.string()),
                ("logits", pa.list_(pa.float32())),
            ]
        )
    )
    with replacing(folder.predictions) as file:
        pq.write_table(table.replace_schema_metadata({"classes": "\n".join(data.classes)}), file)


def confusion_of(data: AudioDataModule, logits: dict[str, torch.Tensor], name: str) -> IntArray:
    """The confusion matrix ``[K, K]`` of one split, row true, column predicted."""
    predicted = logits[name].argmax(1).numpy()
    return confusion_matrix(data.datasets[name].targets.numpy(), predicted, len(data.classes))


def confident_errors(config: Config, data: AudioDataModule, logits: torch.Tensor) -> list[ErrorExample]:
    """The test clips that are wrong with the highest probability."""
    targets = data.datasets["test"].targets
    confidence, predicted = logits.softmax(1).max(1)
    wrong = [i for i in confidence.argsort(descending=True).tolist() if predicted[i] != targets[i]][:SHOWN_ERRORS]
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
            title=f"{data.splits.test[i].label} taken for {data.classes[int(predicted[i])]} ({confidence[i]:.2f}), {data.splits.test[i].id}",
            features=spectrogram(i).numpy(),
            samples=_heard(data, i).clamp(-1, 1).numpy(),
            rate=data.front_end.sample_rate,
            seconds=mel.seconds,
            hertz=(mel.f_min, mel.f_max or mel.sample_rate / 2),
            unit="dB" if mel.scale == "db" else "power",
        )
        for i in wrong
    ]


def _heard(data: AudioDataModule, index: int) -> torch.Tensor:
    """The part of a test clip's waveform that the model is given, without the padding."""
    waveform = load_waveform(data.audio, data.splits.test[index].audio_key, data.front_end.sample_rate)
    return data.front_end.fit_length(waveform)[: len(waveform)]
