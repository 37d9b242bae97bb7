"""What names weights is their content: in a run's identity, its name and the feature store's key."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from audioclf.compose import load_config
from audioclf.config import Config
from audioclf.errors import UserError
from audioclf.features.frontend import front_end_settings
from audioclf.runs.identity import identity, run_name, swept_settings
from audioclf.weights import _digest_of_file, content_of, digest, is_at_hand, weights_file


def yamnet(weights: object, *more: str) -> Config:
    return load_config(["features=yamnet", f"features.weights={weights}", *more])


def test_a_path_is_no_identity_but_the_files_content_is(write_file: Callable[..., Path]) -> None:
    one, same, other = write_file("a.tflite", "1"), write_file("b/c.tflite", "1"), write_file("other.tflite", "2")
    first, moved, changed = yamnet(one), yamnet(same), yamnet(other)
    assert identity(first) == identity(moved) != identity(changed)
    assert run_name(first) == run_name(moved) != run_name(changed)
    assert "weights" not in run_name(first)
    keys = [front_end_settings(config.features, "1") for config in (first, moved, changed)]
    assert keys[0] == keys[1] != keys[2]
    settings = [swept_settings(config)["features.weights"] for config in (first, moved, changed)]
    assert settings[0] == settings[1] == f"sha256:{digest(one)}" != settings[2]
    before = identity(first)
    one.write_text("22")
    assert identity(first) != before


def test_a_url_and_the_file_that_it_leads_to_are_one_identity(write_file: Callable[..., Path]) -> None:
    path = write_file("a.tflite", "1")
    url = yamnet("https://example.org/a.tflite", f"features.sha256={digest(path)}")
    assert identity(url) == identity(yamnet(path))
    assert identity(load_config(["features=yamnet"])) != identity(url)


def test_a_folder_is_named_by_what_is_read_of_it_and_the_hub_by_name_and_revision(tmp_path: Path) -> None:
    def model(name: str, *more: str) -> str:
        return identity(load_config(["features=transformers", f"features.model={name}", *more]))

    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text("{}")
        (tmp_path / name / "model.safetensors").write_text("weights")
    (tmp_path / "two" / ".gitattributes").write_text("no part of it")
    assert model(f"{tmp_path}/one") == model(f"{tmp_path}/two")
    (tmp_path / "two" / "config.json").write_text("{ }")
    assert model(f"{tmp_path}/one") != model(f"{tmp_path}/two")
    hub = [model("a/b"), model("a/c"), model("a/b", "features.revision=v1")]
    assert len(set(hub)) == 3
    assert "a_b" in run_name(load_config(["features=transformers", "features.model=a/b"]))


def test_what_a_training_left_below_a_folder_is_no_part_of_it_but_a_sentence_encoders_modules_are(
    write_file: Callable[..., Path], tmp_path: Path
) -> None:
    def left(name: str, content: str) -> str:
        write_file(f"model/{name}", content)
        return digest(tmp_path / "model")

    first = left("config.json", "{}")
    assert left("checkpoint-100/optimizer.pt", "1") == left("1_Pooling/config.json", '{"pooling_mode": "cls"}') == first
    named = left("modules.json", '[{"path": ""}, {"path": "1_Pooling"}, {"path": "../other"}, {"path": "2_Normalize"}]')
    assert left("1_Pooling/config.json", '{"pooling_mode": "mean"}') != named
    for malformed in ('{"a": 1}', "[1]", "no JSON", "\0"):
        assert left("modules.json", malformed) not in (first, named), "what loads the model says what is wrong"


def test_a_folder_of_a_sentence_encoder_is_named_as_it_was_before(write_file: Callable[..., Path]) -> None:
    """Else every run on one would train anew."""
    contents = {"1_Pooling/config.json": "{}", "config.json": "{}", "modules.json": '[{"path": "1_Pooling"}]'}
    for name, content in contents.items():
        path = write_file(f"model/{name}", content)
    lines = [f"{name} {hashlib.sha256(content.encode()).hexdigest()}\n" for name, content in contents.items()]
    assert digest(path.parent) == hashlib.sha256("".join(lines).encode()).hexdigest()


@pytest.mark.parametrize("name", ["model", "model/config.json"])
def test_weights_that_may_not_be_read_are_named(
    write_file: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    folder = write_file("model/config.json", "{}").parent

    def refused(path: Path, *words: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "iterdir" if name == "model" else "open", refused)
    with pytest.raises(UserError, match=f"{name}: cannot be read: Permission denied") as error:
        content_of(str(folder))
    assert error.value.hint is not None and "permissions" in error.value.hint


@pytest.mark.parametrize("weights", ["a" * 300, "nul\0"])
def test_what_can_be_no_path_is_no_file(weights: str) -> None:
    assert content_of(weights) == weights and not is_at_hand(weights, None)
    with pytest.raises(UserError, match="no such file"):
        weights_file("features.weights", weights, None)


def test_a_file_is_hashed_once(write_file: Callable[..., Path]) -> None:
    path = write_file("a.tflite", "1")
    digest(path)
    misses = _digest_of_file.cache_info().misses
    for _ in range(3):
        identity(yamnet(path))
    assert _digest_of_file.cache_info().misses == misses


def test_an_identity_loads_no_large_library(checkout: Path) -> None:
    script = (
        "import sys; from audioclf.compose import load_config; from audioclf.runs.identity import identity\n"
        "identity(load_config(['features=transformers']))\n"
        "print([name for name in ('torch', 'transformers', 'torchaudio', 'ai_edge_litert') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=checkout, capture_output=True, text=True, timeout=60)
    assert done.stdout == "[]\n", done.stderr


@pytest.mark.parametrize("features", ["yamnet", "torchaudio_bundle"])
def test_weights_that_are_not_there_are_said_at_once(features: str) -> None:
    with pytest.raises(
        UserError, match=r"features.weights=/nowhere/x: no such file; expected the weights of features="
    ):
        load_config([f"features={features}", "features.weights=/nowhere/x"])
