"""What makes a run another run: the keys that change its numbers, and nothing else."""

import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import BaseModel

from audioclf.compose import conf_dir, is_base, load_config
from audioclf.config import Config, keys_of, parse_config
from audioclf.runs.identity import identity, run_name, swept_settings

WriteFile = Callable[..., Path]
DEFAULTS = load_config().model_dump()

OTHER = {  # another value of every key that can change a number
    "lr": 0.5,
    "epochs": 7,
    "seed": 7,
    "batch_size": 7,
    "sampler": "balanced",
    "data.fold": 2,
    "data.folds": 3,
    "data.val_fraction": 0.3,
    "data.test_fraction": 0.3,
    "data.split_seed": 7,
    "data.on_bad_row": "skip",
    "data.classes": ["bell"],
    "data.multi_label": "first",
    "data.limit_per_class": 7,
    "data.allow_leak": True,
    "data.num_classes": 7,
    "data.recordings_per_class": 7,
    "data.synthesis_seed": 7,
    "features.engine": "librosa",
    "features.sample_rate": 16_000,
    "features.n_fft": 1024,
    "features.hop_length": 256,
    "features.n_mels": 32,
    "features.f_min": 20.0,
    "features.f_max": 8000.0,
    "features.scale": "power",
    "features.target_length": 100,
    "features.normalisation": "none",
    "features.storage": "float16",
    "model.hidden": 7,
    "augment.gain": 6.0,
    "augment.time_shift": 0.5,
    "augment.noise": 0.1,
    "augment.time_mask": 7,
    "augment.freq_mask": 7,
    "augment.mixup": 0.2,
    "loss.label_smoothing": 0.1,
    "loss.class_weights": "balanced",
    "optimizer.weight_decay": 0.1,
    "optimizer.schedule": "cosine",
    "optimizer.warmup": 1.5,
    "trainer.select": "last",
    "trainer.patience": 7,
    "trainer.precision": "bf16-mixed",
    "trainer.accumulate": 7,
    "trainer.gradient_clip": 0.7,
    "trainer.devices": 2,
}
NO_NUMBER = {  # another value of every key that cannot
    "retrain": True,
    "launcher": "ray",
    "marks": [3],
    "search.trials": 3,
    "search.prune": False,
    "search.study": "lr",
    "search.trial": 1,
    "data.ram_budget_gb": 0.0,
    "trainer.accelerator": "cpu",
    "trainer.strategy": "ddp",
    "trainer.checkpoint_every_s": 1.0,
    "trainer.tensorboard": False,
    "trainer.keep_state": False,
    "fetch.enabled": False,
    "fetch.workers": 1,
    "fetch.workers_per_site": 2,
    "fetch.sleep": 0.0,
    "fetch.per_hour": 1,
    "fetch.patience": 0.0,
    "fetch.timeout": 1.0,
    "fetch.max_seconds": 1.0,
    "fetch.max_mb": 1.0,
    "fetch.cookies": "cookies.txt",
    "fetch.proxy": "socks5://127.0.0.1:1080",
    "fetch.allow_private": True,
    "diagnose.budget_minutes": 1.0,
    "diagnose.yamnet": "elsewhere.tflite",
    "paths.cache": "elsewhere",
    "paths.outputs": "elsewhere",
}
NAMES = {"data.name", "features.name", "model.name", "loss.name", "search.name"}  # changed with their group


def config(**groups: dict[str, Any]) -> Config:
    """The default configuration, or one with other groups."""
    return parse_config({**DEFAULTS, **groups})


def changes_of(settings: dict[str, object]) -> Config:
    raw = config().model_dump()
    for key, value in settings.items():
        section, _, name = key.rpartition(".")
        (raw[section] if section else raw)[name] = value
    return parse_config(raw)


def changed(key: str, value: object) -> Config:
    return changes_of({key: value})


def table(path: Path, **settings: object) -> Config:
    return config(data={"name": "csv", "csv": str(path), **settings})


def test_every_key_is_said_to_change_numbers_or_not_to() -> None:
    keys = {key for key in keys_of(DEFAULTS) if not isinstance(DEFAULTS.get(key), dict)}
    assert keys == set(OTHER) | set(NO_NUMBER) | NAMES
    assert not set(OTHER) & set(NO_NUMBER)


@pytest.mark.parametrize("key", OTHER)
def test_a_key_that_can_change_a_number_makes_another_run_in_another_folder(key: str) -> None:
    other = changed(key, OTHER[key])
    assert identity(other) != identity(config())
    assert run_name(other) != run_name(config())


@pytest.mark.parametrize("key", NO_NUMBER)
def test_a_key_that_cannot_change_a_number_is_no_part_of_the_identity(key: str) -> None:
    other = changed(key, NO_NUMBER[key])
    assert other != config()
    assert identity(other) == identity(config())
    assert run_name(other) == run_name(config())


def test_another_choice_of_a_group_makes_another_run() -> None:
    assert identity(config(model={"name": "linear"})) != identity(config())


def test_how_a_value_is_written_does_not_matter() -> None:
    spellings = ["lr=1e-4", "++lr=0.0001"]
    assert len({run_name(load_config([spelling])) for spelling in spellings}) == 1


def test_close_learning_rates_have_folders_of_their_own() -> None:
    close = [changed("lr", lr) for lr in (1e-4, 1.000001e-4, 1.0000001e-4)]
    assert len({run_name(one) for one in close}) == 3


def test_the_identity_is_a_sha256_and_the_same_in_every_process() -> None:
    digest = identity(config())
    assert len(digest) == 64
    assert set(digest) <= set("0123456789abcdef")
    assert digest == identity(parse_config(config().model_dump()))


# --- the folder's name -----------------------------------------------------------------------------------------------


def test_the_folder_name_says_what_a_person_looks_for(write_file: WriteFile) -> None:
    one = table(write_file("clips.csv", "path,label\n"), fold=2)
    assert run_name(one).startswith("csv.fold2-mel-audio_classifier-lr3e-5-epochs50-seed0-")
    assert run_name(one).endswith(f"-{identity(one)[:12]}")
    assert run_name(one).count("fold") == 1
    assert run_name(config(model={"name": "linear"})).startswith("demo-mel-linear-lr3e-5-epochs50-seed0-")


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        *(("lr", lr, f"lr{said}") for lr, said in ((1e-4, "1e-4"), (1e-2, "1e-2"), (0.1, "0.1"), (0.015, "0.015"))),
        *(("lr", lr, f"lr{said}") for lr, said in ((1.0, "1"), (20000.0, "20000"), (1e6, "1e6"))),
        ("lr", 0.000123456789, "lr1.23457e-4"),
        ("features.n_mels", 32, "n_mels32"),
        ("features.f_max", 8000.0, "f_max8000"),
        ("features.normalisation", "none", "normalisation_none"),
        ("model.hidden", 128, "hidden128"),
        ("optimizer.schedule", "cosine", "schedule_cosine"),
        ("optimizer.weight_decay", 1e-4, "weight_decay1e-4"),
        ("data.allow_leak", True, "allow_leak_true"),
        ("data.limit_per_class", 10, "limit_per_class10"),
        ("data.classes", ["dog bark", "siren"], "classes_dog_bark.siren"),
        ("data.classes", ["a" * 50], "classes_" + "a" * 32),
    ],
)
def test_the_folder_name_says_what_is_not_the_default(key: str, value: object, said: str) -> None:
    name = run_name(changed(key, value))
    assert f"-{said}-" in name
    usual = set(run_name(config()).split("-")[:-1])
    others = set(name.replace(f"-{said}-", "-", 1).split("-")[:-1]) - usual
    assert not others, f"{name}: says more"


def test_a_key_whose_last_word_another_key_has_is_said_in_full(write_file: WriteFile) -> None:
    columns = {"fold": "part", "label": "sound"}
    links = config(data={"name": "links", "csv": str(write_file("links.csv", "url,sound,part\n")), "columns": columns})
    assert "-label_sound-data.columns.fold_part-" in run_name(links)


def test_a_name_that_would_be_too_long_leaves_out_whole_keys() -> None:
    settings = {"data.classes": ["a" * 40], "data.limit_per_class": 10**6, "data.synthesis_seed": 10**6}
    name = run_name(changes_of(settings | {"features.n_mels": 10**6, "loss.label_smoothing": 1e-4}))
    said = [f"classes_{'a' * 32}", "limit_per_class1000000", "synthesis_seed1000000", "n_mels1000000"]
    assert all(f"-{one}-" in name for one in said[:2])
    assert 130 < len(name) <= 150
    assert set(name.split("-")[:-1]) <= {*run_name(config()).split("-"), *said}


def test_a_loss_other_than_cross_entropy_is_said(tmp_path: Path) -> None:
    focal = config(loss={"name": "focal", "gamma": 0.5})
    assert "-audio_classifier-focal-lr3e-5-" in run_name(focal) and "gamma0.5" in run_name(focal)


def test_the_schemas_defaults_are_those_of_conf(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """So what is not the schema's default is what somebody set."""
    for name in ("AUDIOCLF_CACHE", "AUDIOCLF_OUTPUTS"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "clips.csv").write_text("path,label\n")
    paths = {name: [f"data.csv={tmp_path / 'clips.csv'}"] for name in ("csv", "links")}
    paths |= {name: [f"data.root={tmp_path}"] for name in ("esc10", "esc50", "folder")}
    paths["finetune"] = ["features=waveform", "model.bundle=WAV2VEC2_BASE"]
    checked = set()
    for group in ("data", "features", "model", "loss", "trainer"):
        for path in (conf_dir() / group).glob("*.yaml"):
            if not is_base(path):
                needed = paths.get(path.stem, []) if group in ("data", "model") else []
                needed = ["data.multi_label=keep"] if path.stem == "bce" else needed
                choice = load_config([f"{group}={path.stem}", *needed])
                differing = dict(other_than_default(choice))
                if path.stem == "finetune":
                    assert differing.pop("model.bundle") == "WAV2VEC2_BASE", "no default: typed"
                if path.stem == "bce":
                    assert differing.pop("data.multi_label") == "keep"
                if path.stem.startswith("esc"):
                    assert differing.pop("data.fold") == 1, "said in the name beside the data"
                assert not differing, f"{group}={path.stem}"
                checked.add(path.stem)
    assert checked > {"demo", "links", "mel", "linear"}


def other_than_default(section: BaseModel, prefix: str = "") -> Iterator[tuple[str, object]]:
    for name, field in type(section).model_fields.items():
        value = getattr(section, name)
        if isinstance(value, BaseModel):
            yield from other_than_default(value, f"{prefix}{name}.")
        elif not field.is_required() and value != field.get_default(call_default_factory=True):
            yield f"{prefix}{name}", value


TEXT = st.text(min_size=1, max_size=300)
ANY = {
    "lr": st.floats(min_value=0, exclude_min=True, allow_infinity=False),
    "epochs": st.integers(min_value=1, max_value=10**200),
    "seed": st.integers(min_value=0, max_value=2**32 - 1),
    "data.fold": st.none() | st.integers(min_value=1, max_value=10**200),
    "data.classes": st.none() | st.lists(TEXT, min_size=1, max_size=30),
    "data.allow_leak": st.booleans(),
    "features.n_mels": st.integers(min_value=1, max_value=10**200),
    "features.f_max": st.floats(min_value=1, max_value=11_025),
    "optimizer.weight_decay": st.floats(min_value=0, allow_infinity=False),
    "model.hidden": st.integers(min_value=1, max_value=10**9),
}


@example([{"data.fold": 10**180}, {"data.fold": 10**180 + 1}])
@given(st.lists(st.fixed_dictionaries({}, optional=ANY), min_size=2, max_size=4))
def test_names_are_short_safe_stable_and_one_for_each_identity(settings: list[dict[str, Any]]) -> None:
    configs = [changes_of(setting) for setting in settings]
    names = [run_name(one) for one in configs]
    for one, name in zip(configs, names, strict=True):
        assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*-[0-9a-f]{12}", name)
        assert len(name) <= 150
        assert run_name(parse_config(json.loads(one.model_dump_json()))) == name
    assert len(set(names)) == len({name.lower() for name in names}) == len({identity(one) for one in configs})


# --- the data --------------------------------------------------------------------------------------------------------


def test_a_table_that_says_something_else_makes_another_run(write_file: WriteFile) -> None:
    before = identity(table(write_file("clips.csv", "path,label\na.wav,dog\n")))
    assert identity(table(write_file("clips.csv", "path,label\na.wav,cat\n"))) != before


def test_moving_the_data_makes_no_other_run(write_file: WriteFile, tmp_path: Path) -> None:
    here = write_file("here/clips.csv", "path,label\na.wav,dog\n")
    write_file("here/esc/meta.csv", "filename,fold,category,src_file\n")
    write_file("here/tree/dog/a.wav", "abc")

    def identities(root: Path) -> list[str]:
        return [
            identity(table(root / "clips.csv")),
            identity(table(root / "clips.csv", audio_dir=str(root))),
            identity(config(data={"name": "esc10", "root": str(root / "esc"), "fold": 1})),
            identity(config(data={"name": "folder", "root": str(root / "tree")})),
        ]

    before = identities(here.parent)
    shutil.move(here.parent, tmp_path / "there")
    assert identities(tmp_path / "there") == before
    assert len(set(before)) == 3  # audio_dir is a path as well


# --- what TensorBoard lists ------------------------------------------------------------------------------------------


def test_swept_settings_are_flat_simple_and_without_paths() -> None:
    settings = swept_settings(config())
    assert settings["lr"] == 3e-5
    assert settings["features.f_max"] == "null"
    assert settings["model.name"] == "audio_classifier"
    assert set(settings) == set(OTHER) | NAMES - {"search.name"}
    assert all(isinstance(value, bool | int | float | str) for value in settings.values())
