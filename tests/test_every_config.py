"""Every shipped configuration, found by listing conf/, goes through fit, test and predict on tiny data.

A new file in conf/ is tested by itself; a new data source needs a maker of tiny data in ``DATA``, a new
front-end or model its tiny settings in ``FEATURES`` or ``MODELS``.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import pytorch_lightning as pl
import soundfile
import torch
import yaml

from audioclf.compose import conf_dir, is_base, load_config
from audioclf.data import AudioDataModule
from audioclf.runs.identity import run_name
from audioclf.training.fit import fit
from audioclf.training.module import ClassifierModule

NO_CHOICES = {"hydra", "launcher", "search"}  # of the program itself, not of a run


def choices() -> list[str]:
    """Each option of each group, as on the command line."""
    return [
        f"{group.name}={option.stem}"
        for group in sorted(conf_dir().iterdir())
        if group.is_dir() and group.name not in NO_CHOICES
        for option in sorted(group.glob("*.yaml"))
        if not is_base(option)
    ]


# --- tiny data in the publishers' layouts ----------------------------------------------------------------------------


def write_clip(path: Path, number: int, seconds: float = 0.5) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(number).standard_normal(round(seconds * 8_000))
    soundfile.write(path, 0.1 * noise, 8_000, subtype="PCM_16")


def esc(folder: Path, classes: list[str]) -> list[str]:
    """ESC's own layout: audio/<fold>-<source>-<take>-<target>.wav and meta/esc50.csv; two takes of each source."""
    columns = ["filename", "fold", "target", "category", "esc10", "src_file", "take"]
    rows, number = [], 0
    for target, category in enumerate(classes):
        for fold in range(1, 6):
            for take in "AB":
                number += 1
                name = f"{fold}-{1000 * target + fold}-{take}-{target}.wav"
                write_clip(folder / "audio" / name, number)
                rows.append([name, fold, target, category, str(target < 3), 1000 * target + fold, take])
    (folder / "meta").mkdir()
    with (folder / "meta" / "esc50.csv").open("w", newline="") as file:
        csv.writer(file).writerows([columns, *rows])
    return [f"data.root={folder}"]


def table(folder: Path) -> list[str]:
    lines = ["path,start,end,label,annotation"]
    for number in range(15):
        write_clip(folder / f"r{number}.wav", number, seconds=1.2)
        lines += [f"r{number}.wav,{start},{start + 0.5},{'abc'[number % 3]},take {start}" for start in (0, 0.5)]
    (folder / "clips.csv").write_text("\n".join(lines))
    return [f"data.csv={folder / 'clips.csv'}"]


def links(folder: Path) -> list[str]:
    """The same recordings under other names; links themselves are fetched in tests/fetch."""
    table(folder)
    text = (folder / "clips.csv").read_text().replace("path,start,end,label", "file,from,to,sound", 1)
    (folder / "links.csv").write_text(text)
    names = {"path": "file", "start": "from", "end": "to", "label": "sound"}
    return [f"data.csv={folder / 'links.csv'}", *(f"data.columns.{ours}={theirs}" for ours, theirs in names.items())]


def several_labels(folder: Path) -> list[str]:
    """The same table with a second label on two thirds of the clips."""
    table(folder)
    header, *rows = (folder / "clips.csv").read_text().splitlines()
    both = [row.replace(",a,", ",a|b,").replace(",b,", ",b|c,") for row in rows]
    (folder / "clips.csv").write_text("\n".join([header.replace("label", "labels"), *both]))
    return [f"data.csv={folder / 'clips.csv'}", "data.multi_label=keep"]


def folders(folder: Path) -> list[str]:
    for number in range(18):
        write_clip(folder / "abc"[number % 3] / f"{number}.wav", number)
    return [f"data.root={folder}"]


DATA: dict[str, Callable[[Path], list[str]]] = {
    "demo": lambda folder: ["data.num_classes=2", "data.recordings_per_class=4"],
    "esc10": lambda folder: esc(folder, ["dog", "rain", "rooster", "not_in_esc10"]),
    "esc50": lambda folder: esc(folder, ["dog", "rain", "rooster", "not_in_esc10"]),
    "csv": table,
    "links": links,
    "folder": folders,
    "several_labels": several_labels,
}
FOR_LOSS = {"bce": "several_labels"}
CLASSES = {
    "demo": ["alarm_beep", "bell"],
    "esc10": ["dog", "rain", "rooster"],
    "esc50": ["dog", "not_in_esc10", "rain", "rooster"],
    "csv": ["a", "b", "c"],
    "links": ["a", "b", "c"],
    "folder": ["a", "b", "c"],
    "several_labels": ["a", "b", "c"],
}


@pytest.fixture(scope="module")
def data_for(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], list[str]]:
    """Overrides that point a data source to tiny data, made once for each."""
    made: dict[str, list[str]] = {}

    def make(name: str) -> list[str]:
        assert name in DATA, f"data={name} is new: say in {Path(__file__).name} how tiny data for it is made"
        if name not in made:
            source = "csv" if name == "several_labels" else name
            made[name] = [f"data={source}", *DATA[name](tmp_path_factory.mktemp(name))]
        return made[name]

    return make


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder for all runs: choices that make the same run (those that are the default) train it once."""
    return tmp_path_factory.mktemp("outputs")


MEL = ("sample_rate=8000", "n_fft=512", "hop_length=256", "n_mels=8", "target_length=20")
FEATURES: dict[str, list[str]] = {
    "mel": [f"features.{word}" for word in MEL],
    "waveform": ["features.sample_rate=8000", "features.seconds=0.5"],
    "yamnet": ["features.weights={yamnet}", "features.seconds=0.975"],
    "torchaudio_bundle": ["features.bundle=TINY", "features.weights={bundle}", "features.seconds=0.5"],
    "transformers": ["features.model={ast}", "features.seconds=0.5"],
    "text": ["features.text.model={bert}"],
    "mel+text": ["features.text.model={bert}", *(f"features.{word}" for word in MEL)],
    "torchaudio_bundle+text": [
        *("features.text.model={bert}", "features.bundle=TINY", "features.weights={bundle}", "features.seconds=0.5"),
    ],
    "transformers+text": [
        *("features.text.model={bert}", "features.model={ast}", "features.seconds=0.5", "features.layer=all"),
    ],
    "yamnet+text": ["features.text.model={bert}", "features.weights={yamnet}", "features.seconds=0.975"],
}
MODELS: dict[str, list[str]] = {
    "audio_classifier": ["model.hidden=16"],
    "linear": [],
    "cnn": ["model.width=4", "model.blocks=2"],
    "attention_pool": ["model.hidden=16"],
    "finetune": ["model.bundle=TINY", "model.weights={bundle}"],
}
OF_EXPERIMENT = {"experiment=cnn": "cnn", "experiment=yamnet": "linear"}


@pytest.fixture(scope="module")
def features_for(request: pytest.FixtureRequest, shared_data: Callable[[str], Path]) -> Callable[[str], list[str]]:
    """Overrides that make a front-end small: of pretrained ones, a model with random weights."""

    def make(name: str) -> list[str]:
        where: dict[str, Path] = {}
        if "yamnet" in name:
            where["yamnet"] = shared_data("models/yamnet.tflite")
        if "bundle" in name or name == "finetune":
            where["bundle"] = request.getfixturevalue("tiny_bundle")[1]
        if "text" in name or "transformers" in name:
            where |= request.getfixturevalue("tiny_encoders")
        return [word.format(**where) for word in (FEATURES | MODELS)[name]]

    return make


@pytest.mark.parametrize("choice", [*choices(), "features.engine=librosa"])
def test_configuration_goes_through_fit_test_and_predict(
    choice: str,
    data_for: Callable[[str], list[str]],
    features_for: Callable[[str], list[str]],
    tiny_cache: Path,
    outputs: Path,
    tmp_path: Path,
) -> None:
    group, _, option = choice.partition("=")
    data = option if group == "data" else FOR_LOSS.get(option, "csv")
    overrides = [*data_for(data), *([choice] if group != "data" else []), f"paths.cache={tiny_cache}"]
    if choice == "model=finetune":
        overrides += ["features=waveform", "features.seconds=0.5", "epochs=2"]
    elif group != "experiment":  # an experiment's own settings stand
        overrides += [*features_for(option if group == "features" else "mel"), "epochs=2"]
    if choice == "experiment=yamnet":
        overrides += features_for("yamnet")
    model = option if group == "model" else OF_EXPERIMENT.get(choice, "audio_classifier")
    overrides += features_for(model)
    config = load_config(overrides)
    run = fit(config, outputs / run_name(config))

    assert run.result["data"]["classes"] == CLASSES[data]
    check_folder(run.folder, run.result)

    module = ClassifierModule.load_from_checkpoint(run.folder / "checkpoints" / "model.ckpt")
    served = AudioDataModule(config.data, config.features, batch_size=5, cache=config.paths.cache)
    trainer = pl.Trainer(
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=tmp_path,
    )
    (found,) = trainer.test(module, served, verbose=False)
    loss = [] if choice == "loss=focal" else ["loss"]  # result.json has the plain one
    for name in (*loss, "f1_macro", "accuracy"):
        assert found[f"test/{name}"] == pytest.approx(run.result["test"][name], abs=1e-5)
    batches = trainer.predict(module, served)
    assert batches is not None
    logits = torch.cat([batch for part in batches for batch in part])
    assert logits.shape == (run.result["data"]["clips"], len(CLASSES[data])) and logits.isfinite().all()
    saved = pq.read_table(run.folder / "predictions.parquet").column("logits").to_pylist()
    np.testing.assert_allclose(logits.numpy(), np.array(saved), rtol=1e-4, atol=1e-4)


def check_folder(folder: Path, result: dict[str, Any]) -> None:
    """A finished run's folder is complete and holds finite numbers only."""
    text = (folder / "result.json").read_text()
    saved = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} in result.json"))
    assert saved == result
    assert saved["status"] == "finished" and len(saved["identity"]) == 64
    assert {"lr", "epochs", "seed", "chance", "interval", "data"} <= saved.keys()
    for split in ("train", "val", "test"):
        names = ("loss", "accuracy", "precision_macro", "recall_macro", "f1_macro", "f1_micro", "f1_weighted")
        assert all(math.isfinite(saved[split][name]) for name in names)
        assert all(0 <= saved[split][name] <= 1 for name in names[1:])
        assert list(saved[split]["per_class"]) == saved["data"]["classes"]
        assert saved["data"]["splits"][split]["clips"] > 0 and saved["data"]["splits"][split]["groups"] > 0
    assert all(0 <= saved["chance"][name] <= 1 for name in ("majority", "stratified", "permutation"))
    low, high = saved["interval"]["f1_macro"]
    assert 0 <= low <= high <= 1
    assert saved["data"]["skipped"] == {} and saved["data"]["leaky"] is False
    assert saved["data"]["synthetic"] is (saved["data"]["name"] == "demo")

    config = yaml.safe_load((folder / "config.yaml").read_text())
    assert (config["lr"], config["epochs"], config["seed"]) == (saved["lr"], saved["epochs"], saved["seed"])
    environment = json.loads((folder / "environment.json").read_text())
    assert environment["identity"] == saved["identity"] and environment["packages"]["torch"]
    assert {"git", "python", "platform", "cpu_count", "seed"} <= environment.keys()

    with (folder / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["epoch"]) for row in rows] == list(range(1, saved["epochs"] + 1))
    for row in rows:
        assert {"train_loss", "train_f1_macro", "val_loss", "val_f1_macro"} <= row.keys()
        assert all(math.isfinite(float(value)) for value in row.values())
    table_of = pq.read_table(folder / "predictions.parquet").to_pydict()
    assert len(table_of["clip"]) == len(set(table_of["clip"])) == saved["data"]["clips"]
    assert {name: table_of["split"].count(name) for name in ("train", "val", "test")} == {
        name: part["clips"] for name, part in saved["data"]["splits"].items()
    }
    assert np.isfinite(np.array(table_of["logits"])).all()

    kept = ["last.ckpt"] if config["trainer"]["keep_state"] else []  # low_f1 keeps no state
    for name in (f"checkpoints/{name}" for name in ("model.ckpt", *kept)):
        assert "state_dict" in torch.load(folder / name, weights_only=True)
    for where in ("events", "events-train", "events-val"):
        assert len(list((folder / where).glob("events.out.tfevents.*"))) == 1
    assert "finished in" in (folder / "train.log").read_text()
    assert not list(folder.rglob("*.tmp"))


def test_every_group_has_choices_and_no_other_folder_is_in_conf() -> None:
    groups = {choice.partition("=")[0] for choice in choices()}
    assert groups == {"data", "features", "model", "augment", "loss", "trainer", "experiment"}


def test_the_lab_reports_settings_are_what_its_experiment_sets() -> None:
    config = load_config(["experiment=lab_report"])
    assert (config.lr, config.epochs, config.features.normalisation, config.features.scale) == (1e-2, 3, "none", "db")
    assert config.model.name == "audio_classifier" and config.trainer.select == "last"
