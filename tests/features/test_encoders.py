"""Pretrained encoders, on small ones with random weights that are loaded by the same code as the hub's."""

from __future__ import annotations

import hashlib
import http.server
import json
import os
import pickle
import shutil
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from audioclf.config import TextEncoder, TorchaudioBundleConfig, TransformersConfig
from audioclf.errors import UserError
from audioclf.features import embedding, text
from audioclf.features.build import build_front_end
from audioclf.features.embedding import loaded
from audioclf.features.encoders import (
    BundleEncoder,
    Kept,
    TransformersEncoder,
    bare_encoder,
    build_encoder,
    file_beside,
    states_of_silence,
)
from audioclf.weights import content_of

KINDS = ("ast", "wav2vec2", "whisper", "clap", "bundle")
RATES = {"clap": 48_000}


@pytest.fixture
def config(tiny_encoders: dict[str, Path], tiny_bundle: tuple[str, Path]) -> Callable[..., Any]:
    """The section of a small encoder: ``config("ast", layer=1)``."""

    def make(kind: str, **keys: Any) -> TorchaudioBundleConfig | TransformersConfig:
        keys = {"seconds": 0.5, **keys}
        if kind == "bundle":
            name, weights = tiny_bundle
            return TorchaudioBundleConfig(
                **{"name": "torchaudio_bundle", "bundle": name, "weights": str(weights), **keys}
            )
        return TransformersConfig(**{"name": "transformers", "model": str(tiny_encoders[kind]), **keys})

    return make


def noise(clips: int, samples: int) -> torch.Tensor:
    return 0.1 * torch.randn(clips, samples, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("kind", KINDS)
def test_each_layer_gives_a_state_and_a_clips_states_do_not_depend_on_its_neighbours(
    config: Callable[..., Any], kind: str
) -> None:
    encoder = build_encoder(config(kind))
    assert encoder.sample_rate == RATES.get(kind, 16_000) and len(encoder.blocks) == 2 and not encoder.training
    waveforms = noise(3, encoder.sample_rate // 2) * torch.tensor([[1.0], [0.1], [5.0]])
    with torch.no_grad():
        together, alone = encoder(waveforms), encoder(waveforms[1:2])
    assert len(together) == 2 and all(state.shape == together[0].shape for state in together)
    assert together[0].shape[0] == 3 and together[0].shape[2] == 16
    for both, one in zip(together, alone, strict=True):
        torch.testing.assert_close(both[1:2], one, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(together[-1][0], together[-1][1])


def by_transformers(folder: str, waveforms: torch.Tensor) -> torch.Tensor:
    """The last hidden state, as transformers gives it without us."""
    from transformers import AutoFeatureExtractor, AutoModel

    model, extractor = AutoModel.from_pretrained(folder).eval(), AutoFeatureExtractor.from_pretrained(folder)
    given = extractor(list(waveforms.numpy()), sampling_rate=16_000, return_tensors="pt")["input_values"]
    with torch.no_grad():
        state: torch.Tensor = model(given).last_hidden_state
    return state


def test_the_last_state_is_the_models_own(config: Callable[..., Any]) -> None:
    waveforms = noise(2, 8_000)
    with torch.no_grad():
        found = build_encoder(config("wav2vec2"))(waveforms)[-1]
    torch.testing.assert_close(found, by_transformers(config("wav2vec2").model, waveforms))


@pytest.mark.parametrize("normalise", [True, False])
def test_waveforms_are_normalised_in_pytorch_as_the_extractor_would(
    config: Callable[..., Any], normalise: bool
) -> None:
    encoder = build_encoder(config("wav2vec2"))
    assert isinstance(encoder, TransformersEncoder)
    encoder.extractor.do_normalize = normalise
    waveforms = (0.01 + noise(4, 80_000)) * torch.tensor([[10.0], [1.0], [1e-3], [0.0]])
    expected = encoder.extractor(list(waveforms.numpy()), sampling_rate=16_000, return_tensors="pt")["input_values"]
    torch.testing.assert_close(encoder._inputs(waveforms), {"input_values": expected}, rtol=1e-6, atol=1e-6)
    assert encoder._inputs(waveforms.to("meta"))["input_values"].is_meta, "nothing leaves the device"


@pytest.mark.parametrize(
    ("samples", "moments"), [(400, 1), (1_999, 1), (2_000, 2), (4_800, 3), (8_000, 5), (10_240, 5)]
)
def test_asts_states_are_of_the_clips_moments_and_not_of_the_silence_behind_it(
    config: Callable[..., Any], samples: int, moments: int
) -> None:
    """Patches of 16 frames, one every 10; 1,999 samples are 10 frames of 25 ms, one every 10 ms, and 2,000 are 11."""
    encoder, waveforms = build_encoder(config("ast")), noise(2, samples)
    with torch.no_grad():
        states = encoder(waveforms)
    two_bands = by_transformers(config("ast").model, waveforms)[:, 2:].reshape(2, 2, 5, 16)
    assert {tuple(state.shape) for state in states} == {(2, moments, 16)}
    torch.testing.assert_close(states[-1], two_bands.mean(1)[:, :moments])


@pytest.mark.parametrize("kind", ["ast", "bundle"])
def test_other_states_than_a_checkpoint_was_trained_on_are_refused(
    config: Callable[..., Any], kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(BundleEncoder, "version", "2")  # as AST's has been raised
    architecture = build_encoder(config(kind)).architecture
    assert bare_encoder(architecture).architecture == architecture
    unversioned = {key: value for key, value in architecture.items() if key != "version"}
    for old in (architecture | {"version": "0"}, unversioned):
        with pytest.raises(
            UserError, match=r"trained on states of version [01]; this audioclf makes version 2"
        ) as error:
            bare_encoder(old)
        assert error.value.hint


def test_whispers_states_are_of_the_clip_and_not_of_the_silence_behind_it(config: Callable[..., Any]) -> None:
    encoder = build_encoder(config("whisper"))
    with torch.no_grad():
        assert encoder(noise(1, 8_000))[-1].shape[1] == 25  # of 100 for 2 s


def test_claps_states_are_not_drawn_at_random(config: Callable[..., Any], tmp_path: Path) -> None:
    """Its extractor calls one clip of a batch, any, longer than it is, which a model with fusion reads otherwise."""
    folder = tmp_path / "clap"
    shutil.copytree(config("clap").model, folder)
    settings = json.loads((folder / "preprocessor_config.json").read_text())
    (folder / "preprocessor_config.json").write_text(json.dumps(settings | {"truncation": "fusion"}))
    encoder = TransformersEncoder.load(str(folder))
    for seed in range(4):
        np.random.seed(seed)
        assert encoder._inputs(noise(3, 24_000))["is_longer"].tolist() == [[False]] * 3


def test_weights_can_be_trained_through(config: Callable[..., Any]) -> None:
    """model=finetune does."""
    for kind in KINDS:
        encoder = build_encoder(config(kind))
        encoder(noise(2, encoder.sample_rate // 2))[-1].mean().backward()
        assert any(weight.grad is not None and weight.grad.any() for weight in encoder.blocks.parameters())


@pytest.mark.parametrize("kind", ["wav2vec2", "bundle"])
def test_layers_and_pools(config: Callable[..., Any], kind: str) -> None:
    def features(**keys: Any) -> torch.Tensor:
        section = config(kind, **keys)
        front_end = build_front_end(section)
        found = front_end(front_end.fit_length(noise(1, 9_000)[0])[None])
        assert tuple(found.shape[1:]) == front_end.output_shape and len(section.axes) == found.ndim - 1
        return found[0]

    every = features(layer="all", pool="sequence")
    assert every.shape[:2] == (2, 16) and every.shape[2] > 50
    for number in (1, 2):
        torch.testing.assert_close(features(layer=number, pool="sequence"), every[number - 1])
    last = every[-1]
    torch.testing.assert_close(features(), last.mean(-1))
    torch.testing.assert_close(features(pool="max"), last.amax(-1))
    torch.testing.assert_close(features(pool="mean_max"), torch.cat([last.mean(-1), last.amax(-1)]))
    torch.testing.assert_close(features(layer="all"), every.mean(-1))
    for number in (0, 3):
        with pytest.raises(UserError, match=f"features.layer={number}: no such layer; expected 1 to 2"):
            features(layer=number)


def test_a_sweep_over_stored_features_loads_no_encoder(
    config: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = build_front_end(config("ast"))
    loaded.cache_clear()
    again = build_front_end(config("ast"))
    assert (again.output_shape, again.sample_rate) == (first.output_shape, first.sample_rate) == ((16,), 16_000)
    assert loaded.cache_info().misses == 0


# --- threads: those of the extraction all ask for the encoder at once ----------------------------------------------------


def at_once(work: Callable[[], Any], threads: int = 4) -> list[Any]:
    """What threads get that start together."""
    barrier = threading.Barrier(threads)

    def run(_: int) -> Any:
        barrier.wait()
        return work()

    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(run, range(threads)))


@pytest.mark.parametrize("kind", ["bundle", "ast", "bert"])
def test_threads_that_ask_at_once_share_one_encoder(
    config: Callable[..., Any], tiny_encoders: dict[str, Path], kind: str
) -> None:
    one, section = (
        (text, TextEncoder(model=str(tiny_encoders["bert"]))) if kind == "bert" else (embedding, config(kind))
    )
    one.loaded.cache_clear()
    found = at_once(lambda: one.loaded(section))
    assert all(encoder is found[0] for encoder in found) and one.loaded.cache_info().misses == 1


@pytest.mark.parametrize("kind", ["bundle", "ast"])
def test_threads_that_load_leave_what_is_of_the_process_as_it_was(config: Callable[..., Any], kind: str) -> None:
    from transformers.utils import logging

    stdout, level = sys.stdout, logging.get_verbosity()
    for _ in range(3):
        at_once(lambda: build_encoder(config(kind)))
    assert sys.stdout is stdout and logging.get_verbosity() == level


def test_models_used_in_turn_are_loaded_once() -> None:
    asked: list[str] = []
    kept = Kept(lambda name: asked.append(name) or name)
    assert [kept(name) for name in "ababab"] == list("ababab") and asked == ["a", "b"]
    kept("c")
    assert kept("b") == "b" and kept("a") == "a" and asked == ["a", "b", "c", "a"], "but not every one is kept"


@pytest.mark.parametrize(
    ("kind", "keys", "message"),
    [
        ("ast", {"seconds": 3.0}, "features.seconds=3: this encoder reads 0.64 s at most"),
        ("whisper", {"seconds": 2.5}, "reads 2 s at most"),
        ("clap", {"seconds": 2.5}, "reads 2 s at most"),
        ("wav2vec2", {"seconds": 0.001}, "features.seconds=0.001: too short for features.model="),
        ("ast", {"seconds": 0.01}, "features.seconds=0.01: too short for features.model="),
        ("bundle", {"seconds": 0.001}, "features.seconds=0.001: too short for features.bundle=TINY"),
        ("bundle", {"bundle": "TINI"}, "features.bundle=TINI: no such bundle; expected one of HUBERT_ASR_LARGE, "),
        ("bundle", {"weights": "/nowhere/tiny.pth"}, "features.weights=/nowhere/tiny.pth: no such file"),
        ("ast", {"model": "/nowhere/model"}, "features.model=/nowhere/model: cannot be loaded"),
    ],
)
def test_what_cannot_be_embedded_is_the_users_to_mend(
    config: Callable[..., Any], kind: str, keys: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message) as error:
        build_front_end(config(kind, **keys))
    assert error.value.hint


def test_clap_names_a_layer_to_choose(tmp_path: Path, config: Callable[..., Any]) -> None:
    import transformers

    folder = tmp_path / "clap"
    shutil.copytree(config("clap").model, folder)
    settings = transformers.AutoConfig.from_pretrained(folder)
    settings.audio_config.depths, settings.audio_config.num_attention_heads = [1, 1, 1], [2, 2, 2]
    transformers.ClapModel(settings).save_pretrained(folder)
    with pytest.raises(
        UserError, match=r"layer=all: this encoder's layers differ in size \(\[dim, time\]: 16 × "
    ) as error:
        build_front_end(config("clap", model=str(folder), layer="all"))
    assert error.value.hint == "write features.layer=-1, the last, or a number from 1 to 3"
    assert build_front_end(config("clap", model=str(folder), layer=2)).output_shape == (32,)


# --- of the many models there are, not all are encoders -----------------------------------------------------------------


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders of small models that take waveforms and are no encoders."""
    import transformers

    root, sizes = tmp_path_factory.mktemp("others"), {"upsampling_ratios": [4, 2], "codebook_size": 8}
    heads = {f"{side}_{name}": 2 for side in ("encoder", "decoder") for name in ("layers", "attention_heads")}
    made = {
        "encodec": (
            transformers.EncodecModel(
                transformers.EncodecConfig(num_filters=4, hidden_size=16, codebook_dim=16, num_lstm_layers=1, **sizes)
            ),
            transformers.EncodecFeatureExtractor(),
        ),
        "dac": (
            transformers.DacModel(
                transformers.DacConfig(
                    **{"encoder_hidden_size": 8, "decoder_hidden_size": 32, "downsampling_ratios": [2, 4]},
                    **{"n_codebooks": 2, "codebook_dim": 4},
                    **sizes,
                )
            ),
            transformers.DacFeatureExtractor(),
        ),
        "speecht5": (
            transformers.SpeechT5Model(
                transformers.SpeechT5Config(hidden_size=16, encoder_ffn_dim=32, decoder_ffn_dim=32, **heads)
            ),
            transformers.SpeechT5FeatureExtractor(),
        ),
        "univnet": (
            transformers.UnivNetModel(transformers.UnivNetConfig(model_hidden_channels=8, model_in_channels=8)),
            transformers.UnivNetFeatureExtractor(),
        ),
    }
    for name, parts in made.items():
        for part in parts:
            part.save_pretrained(root / name)
    return {name: root / name for name in made}


@pytest.mark.parametrize("name", ["encodec", "dac", "speecht5", "univnet"])
@pytest.mark.parametrize("seconds", [1.0, 0.001])
def test_what_is_no_encoder_is_named_whatever_the_length(
    others: dict[str, Path], config: Callable[..., Any], name: str, seconds: float
) -> None:
    with pytest.raises(UserError, match=rf"features\.model=.*{name}: no encoder that gives hidden states: ") as error:
        build_front_end(config("ast", model=str(others[name]), seconds=seconds))
    assert error.value.hint is not None and "take an encoder" in error.value.hint


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes."),
    ],
)
def test_an_encoder_that_does_not_fit_into_memory_is_one_nevertheless(
    config: Callable[..., Any], error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forward(encoder: Any, waveforms: torch.Tensor) -> Any:
        raise error

    monkeypatch.setattr(BundleEncoder, "forward", forward)
    encoder = build_encoder(config("bundle"))
    with pytest.raises(UserError, match=r"features\.bundle=TINY: 0\.5 s do not fit into memory: ") as refused:
        states_of_silence(encoder, 8_000)
    assert refused.value.hint == "free memory, or take fewer seconds or a smaller encoder"


# --- weights never run code ---------------------------------------------------------------------------------------------


class Malicious:
    """What an attacker puts into a checkpoint: unpickling it makes a file."""

    def __init__(self, victim: Path) -> None:
        self.victim = victim

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.victim,)


def test_a_checkpoint_that_runs_code_is_refused_and_runs_none(config: Callable[..., Any], tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    for name, save in (("a.pth", lambda path: torch.save(Malicious(victim), path)), ("b.pth", _pickle(victim))):
        save(tmp_path / name)
        with pytest.raises(UserError, match="no weights of it"):
            BundleEncoder.load("TINY", str(tmp_path / name))
    folder = tmp_path / "model"
    shutil.copytree(config("wav2vec2").model, folder)
    weights = TransformersEncoder.load(str(folder)).model.state_dict()
    (folder / "model.safetensors").unlink()
    for content in (Malicious(victim), weights | {"another": Malicious(victim)}):
        for save in (torch.save, _old, lambda it, path: path.write_bytes(pickle.dumps(it))):
            save(content, folder / "pytorch_model.bin")
            with pytest.raises(UserError, match=r"model: its pickled weights hold something else than tensors"):
                TransformersEncoder.load(str(folder))
    assert not victim.exists()
    pickle.loads(pickle.dumps(Malicious(victim)))
    assert victim.exists(), "the attack would have worked"


def _old(content: Any, path: Path) -> None:
    torch.save(content, path, _use_new_zipfile_serialization=False)


def _pickle(victim: Path) -> Callable[[Path], Any]:
    return lambda path: path.write_bytes(pickle.dumps(Malicious(victim)))


@pytest.mark.parametrize("save", [torch.save, _old])
def test_tensors_alone_may_be_pickled_and_give_the_numbers_of_safetensors(
    config: Callable[..., Any], tmp_path: Path, save: Callable[[Any, Path], None]
) -> None:
    from safetensors.torch import load_file

    folder = tmp_path / "model"
    shutil.copytree(config("wav2vec2").model, folder)
    old = {"parametrizations.weight.original0": "weight_g", "parametrizations.weight.original1": "weight_v"}
    weights = {}
    for name, weight in load_file(folder / "model.safetensors").items():  # as models of some years ago call them
        found = next((word for word in old if word in name), None)
        weights[name.replace(found, old[found]) if found else name] = weight
    (folder / "model.safetensors").unlink()
    before = content_of(str(folder))
    save(weights, folder / "pytorch_model.bin")
    assert content_of(str(folder)) != before, "they are part of what the folder is named by"
    with torch.no_grad():
        found, expected = (
            TransformersEncoder.load(where)(noise(2, 8_000)) for where in (str(folder), config("wav2vec2").model)
        )
    assert all(torch.equal(*pair) for pair in zip(found, expected, strict=True))
    (folder / "pytorch_model.bin").write_bytes(b"no weights")
    with pytest.raises(UserError, match=r"features\.model=.*model: "):
        TransformersEncoder.load(str(folder))


def test_a_model_with_its_own_code_is_not_run(config: Callable[..., Any], tmp_path: Path) -> None:
    folder, victim = tmp_path / "model", tmp_path / "victim"
    shutil.copytree(config("wav2vec2").model, folder)
    settings = json.loads((folder / "config.json").read_text())
    settings |= {"model_type": "mine", "auto_map": {"AutoConfig": "mine.Mine", "AutoModel": "mine.Mine"}}
    (folder / "config.json").write_text(json.dumps(settings))
    (folder / "mine.py").write_text(f"open({str(victim)!r}, 'w')\nclass Mine: pass\n")
    with pytest.raises(UserError, match="cannot be loaded"):
        TransformersEncoder.load(str(folder))
    assert not victim.exists()


def test_missing_weights_are_not_drawn_at_random(config: Callable[..., Any], tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = tmp_path / "model"
    shutil.copytree(config("ast").model, folder)
    weights = load_file(folder / "model.safetensors")
    lost = next(name for name in weights if "layer" in name and name.endswith("weight"))
    del weights[lost]
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(UserError, match="1 weights are missing") as error:
        TransformersEncoder.load(str(folder))
    assert error.value.hint is not None and "features.model=NAME_OR_FOLDER" in error.value.hint


# --- the hubs -------------------------------------------------------------------------------------------------------------


def test_a_bundle_comes_from_torch_hubs_cache_and_a_failed_download_says_what_to_do(
    tiny_bundle: tuple[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from torchaudio import pipelines

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(pipelines.TINY, "_path", "https://127.0.0.1:9/tiny.pth")
    place = tmp_path / "hub" / "checkpoints" / "tiny.pth"
    with pytest.raises(UserError, match="its weights cannot be downloaded") as error:
        BundleEncoder.load("TINY")
    assert capsys.readouterr() == ("", "downloading TINY from https://127.0.0.1:9/tiny.pth ...\n")
    assert error.value.hint is not None
    assert all(
        word in error.value.hint for word in ("https://127.0.0.1:9/tiny.pth", str(place), "features.weights=FILE")
    )
    shutil.copyfile(tiny_bundle[1], place)
    assert len(BundleEncoder.load("TINY").blocks) == 2 and capsys.readouterr() == ("", "")


def test_a_bundle_is_downloaded_once_whatever_the_threads_and_nothing_is_said_on_stdout(
    tiny_bundle: tuple[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from torchaudio import pipelines

    asked: list[str] = []

    def download(url: str, path: str, *_: Any, **__: Any) -> None:
        asked.append(url)
        time.sleep(0.1)
        shutil.copyfile(tiny_bundle[1], path)

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(pipelines.TINY, "_path", "https://example.org/once.pth")
    monkeypatch.setattr(torch.hub, "download_url_to_file", download)
    assert [len(encoder.blocks) for encoder in at_once(lambda: BundleEncoder.load("TINY"))] == [2] * 4
    assert asked == ["https://example.org/once.pth"]
    assert capsys.readouterr() == ("", "downloading TINY from https://example.org/once.pth ...\n")


def test_weights_of_a_bundle_that_cannot_be_read_are_no_failed_download(
    tiny_bundle: tuple[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    place = tmp_path / "hub" / "checkpoints" / "tiny.pth"
    place.parent.mkdir(parents=True)
    place.write_bytes(b"broken")
    with pytest.raises(UserError, match=f"TINY: no weights of it in {place}: ") as error:
        BundleEncoder.load("TINY")
    assert error.value.hint == f"remove {place}: it is downloaded anew"

    def refused(path: Path, **_: Any) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(torch, "load", refused)
    with pytest.raises(UserError, match=f"TINY: no weights of it in {tiny_bundle[1]}: .*Permission denied") as error:
        BundleEncoder.load("TINY", str(tiny_bundle[1]))
    assert error.value.hint is not None and "features.weights=FILE names it elsewhere" in error.value.hint


@pytest.mark.parametrize("model", ["/nowhere/model", "./model", "../model", "some/where/model", "~/model"])
def test_a_path_that_leads_nowhere_is_not_asked_of_the_hub(
    config: Callable[..., Any], model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(UserError, match=f"features.model={model}: cannot be loaded") as error:
        TransformersEncoder.load(model)
    assert error.value.hint is not None and error.value.hint.endswith("files in that folder")
    assert capsys.readouterr().err == ""


def test_the_hub_is_not_asked_where_that_is_switched_off(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(urllib.request, "urlopen", lambda *_, **__: pytest.fail("asked"))
    for load in (
        lambda: TransformersEncoder.load("someone/any", "v1"),
        lambda: file_beside("modules.json", "someone/any", "v1", "features"),
    ):
        with pytest.raises(UserError, match=r"features\.model=someone/any: cannot be loaded: ") as error:
            load()
        assert error.value.hint is not None and "https://huggingface.co/someone/any/tree/v1" in error.value.hint
    assert capsys.readouterr().err == ""


@pytest.fixture
def asked() -> list[str]:
    """What the hub below was asked for."""
    return []


@pytest.fixture
def hub(tiny_encoders: dict[str, Path], tmp_path: Path, asked: list[str]) -> Iterator[str]:
    """A server on this machine that answers as the model hub does, with someone/tiny, someone/text, and someone/old, of pickled weights."""
    from safetensors.torch import load_file

    folders = {"tiny": tiny_encoders["ast"], "old": tmp_path / "old", "text": tmp_path / "text"}
    shutil.copytree(folders["tiny"], folders["old"])
    torch.save(load_file(folders["old"] / "model.safetensors"), folders["old"] / "pytorch_model.bin")
    (folders["old"] / "model.safetensors").unlink()
    shutil.copytree(tiny_encoders["bert"], folders["text"])
    (folders["text"] / "modules.json").write_text('[{"path": "1_Pooling", "type": "Pooling"}]')
    (folders["text"] / "1_Pooling").mkdir()
    (folders["text"] / "1_Pooling" / "config.json").write_text('{"pooling_mode": "cls"}')

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.answer(False)

        def do_GET(self) -> None:
            self.answer(True)

        def answer(self, body: bool) -> None:
            asked.append(self.path)
            name, _, file = self.path.removeprefix("/someone/").partition("/resolve/main/")
            path = folders.get(name, tmp_path) / (file or "nothing")
            found = path.is_file()
            content = path.read_bytes() if found else b"{}"
            if self.path.startswith("/api/models/someone/") and self.path.count("/") == 4:
                found, content = True, b'{"id": "someone/any", "private": false}'
            self.send_response(200 if found else 404)
            self.send_header("X-Repo-Commit", "a" * 40)
            self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
            self.send_header("Content-Length", str(len(content)))
            if not found:
                self.send_header("X-Error-Code", "EntryNotFound")
            self.end_headers()
            if body:
                self.wfile.write(content)

        def log_message(self, *words: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


LOAD = """
import sys
from audioclf.errors import UserError
from audioclf.features.encoders import TransformersEncoder
for name in sys.argv[1:]:
    try:
        print(len(TransformersEncoder.load(name).blocks), "layers")
    except UserError as error:
        print(error.message, "HINT", error.hint)
"""


def test_a_model_of_the_hub_is_downloaded_once_and_then_works_offline(
    hub: str, asked: list[str], tmp_path: Path, checkout: Path
) -> None:
    def load(endpoint: str, *names: str) -> list[str]:
        environment = os.environ | {"HF_ENDPOINT": endpoint, "HF_HOME": str(tmp_path), "HF_HUB_DISABLE_XET": "1"}
        command = [sys.executable, "-c", LOAD, *names]
        done = subprocess.run(command, cwd=checkout, env=environment, capture_output=True, text=True, timeout=120)
        return (done.stdout + done.stderr).splitlines()

    says = ["downloading someone/tiny from the hub ...", "downloading someone/old from the hub ..."]
    assert load(hub, "someone/tiny", "someone/old") == ["2 layers", "2 layers", *says], "said once for all its files"
    assert asked and not any("/commits/" in path for path in asked), "no service is asked to convert weights"
    for folder in tmp_path.glob("**/.no_exist"):  # as where another program filled the cache
        shutil.rmtree(folder)
    *cached, absent, says = load("http://127.0.0.1:9", "someone/tiny", "someone/old", "someone/else")
    assert cached == ["2 layers", "2 layers"] and says == "downloading someone/else from the hub ..."
    assert absent.startswith("features.model=someone/else: cannot be loaded: ") and "refused" in absent, absent
    assert "HINT download the files of https://huggingface.co/someone/else/tree/main by hand into a folder" in absent


EMBED = """
import shutil, sys
from pathlib import Path
from huggingface_hub import constants
from audioclf.config import TextEncoder
from audioclf.errors import UserError
from audioclf.features.text import Sentences

def embed():
    try:
        sentences = Sentences(TextEncoder(model="someone/text"))
        print("first" if sentences.first else "mean", sentences(["an oak"])[0, :4].tolist())
    except UserError as error:
        print(error.message, "HINT", error.hint)

embed()
hub = Path(constants.HF_HUB_CACHE)
for folder in (*hub.glob("**/.no_exist"), *hub.glob("**/1_Pooling")):  # as where another program filled the cache
    shutil.rmtree(folder)
constants.HF_HUB_OFFLINE = sys.argv[1] == "offline"
embed()
constants.HF_HUB_OFFLINE = False
embed()
"""


def test_an_embedding_does_not_depend_on_whether_the_hub_answers(hub: str, tmp_path: Path, checkout: Path) -> None:
    def embed(endpoint: str, second: str) -> list[str]:
        environment = os.environ | {"HF_ENDPOINT": endpoint, "HF_HOME": str(tmp_path), "HF_HUB_DISABLE_XET": "1"}
        command = [sys.executable, "-c", EMBED, second]
        done = subprocess.run(command, cwd=checkout, env=environment, capture_output=True, text=True, timeout=60)
        return done.stdout.splitlines()

    first, offline, again = embed(hub, "offline")
    assert first.startswith("first [") and again == first, "by the first token, as the folder says"
    cached, *unknown = embed("http://127.0.0.1:9", "online")
    assert cached == first, "of the cache, even that there is no sentence_bert_config.json"
    for refused in (offline, *unknown):
        assert refused.startswith("features.text.model=someone/text: cannot be loaded: 1_Pooling/config.json: "), (
            refused
        )
        assert "HINT download the files of https://huggingface.co/someone/text/tree/main by hand" in refused
