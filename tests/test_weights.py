"""What names weights is their content: in a run's identity, its name and the feature store's key."""

from __future__ import annotations

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
from audioclf.weights import _digest_of_file, digest


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
