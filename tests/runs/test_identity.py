"""What makes a run another run: the keys that change its numbers, and nothing else."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from audioclf.app import load_config
from audioclf.config import Config, keys_of, parse_config
from audioclf.runs.identity import identity, run_name, swept_settings

WriteFile = Callable[..., Path]
DEFAULTS = load_config().model_dump()

OTHER = {  # another value of every key that can change a number
    "lr": 0.5,
    "epochs": 7,
    "seed": 7,
    "batch_size": 7,
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
    "loss.label_smoothing": 0.1,
    "optimizer.weight_decay": 0.1,
    "optimizer.schedule": "cosine",
    "trainer.select": "last",
}
NO_NUMBER = {  # another value of every key that cannot
    "retrain": True,
    "launcher": "ray",
    "marks": [3],
    "search.trials": 3,
    "data.ram_budget_gb": 0.0,
    "trainer.accelerator": "cpu",
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
    "paths.cache": "elsewhere",
    "paths.outputs": "elsewhere",
}
NAMES = {"data.name", "features.name", "model.name", "loss.name", "search.name"}  # changed with their group


def config(**groups: dict[str, Any]) -> Config:
    """The default configuration, or one with other groups."""
    return parse_config({**DEFAULTS, **groups})


def changed(key: str, value: object) -> Config:
    raw = config().model_dump()
    section, _, name = key.rpartition(".")
    (raw[section] if section else raw)[name] = value
    return parse_config(raw)


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


def test_the_folder_name_says_what_a_person_looks_for(write_file: WriteFile) -> None:
    one = table(write_file("clips.csv", "path,label\n"), fold=2)
    assert run_name(one) == f"csv.fold2-mel-audio_classifier-lr3e-05-epochs50-seed0-{identity(one)[:12]}"
    assert run_name(config()).startswith("demo-mel-audio_classifier-")


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
    assert set(settings) == set(OTHER) | NAMES
    assert all(isinstance(value, bool | int | float | str) for value in settings.values())
