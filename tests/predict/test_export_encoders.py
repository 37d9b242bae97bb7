"""ONNX of pretrained encoders: inside the file, fine-tuned or as a front-end, where nothing computes in NumPy."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from audioclf import load
from audioclf.compose import load_config
from audioclf.errors import UserError
from audioclf.predict.export import export
from audioclf.predict.model import Model
from audioclf.training.fit import fit


@pytest.fixture(scope="module")
def encoders(tiny_encoders: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The small encoders, and small relatives of wav2vec 2.0 with other masks and attention."""
    import transformers

    root, base = (
        tmp_path_factory.mktemp("relatives"),
        transformers.AutoConfig.from_pretrained(tiny_encoders["wav2vec2"]),
    )
    names = ("conv_dim", "conv_stride", "conv_kernel", "num_conv_pos_embeddings", "num_conv_pos_embedding_groups")
    sizes = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
    same = {name: getattr(base, name) for name in (*names, *sizes)}
    layered = {"feat_extract_norm": "layer", "do_stable_layer_norm": True}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        made = {
            "hubert": transformers.HubertModel(transformers.HubertConfig(**same)),
            "wavlm": transformers.WavLMModel(transformers.WavLMConfig(**same)),
            "large": transformers.Wav2Vec2Model(transformers.Wav2Vec2Config(**same, **layered)),
        }
    for name, network in made.items():
        network.save_pretrained(root / name)
        transformers.Wav2Vec2FeatureExtractor(
            do_normalize=name != "wavlm", return_attention_mask=name == "large"
        ).save_pretrained(root / name)
    return tiny_encoders | {name: root / name for name in made}


@pytest.fixture
def trained(
    encoders: dict[str, Path], tiny_bundle: tuple[str, Path], tones: Path, tiny_cache: Path, tmp_path: Path
) -> Callable[..., Model]:
    """A model that one epoch trained: ``trained("features=waveform", "model=finetune", ...)``."""

    def make(*words: str) -> Model:
        where = {**encoders, "bundle": tiny_bundle[1]}
        data = [f"data.csv={tones}", f"paths.cache={tiny_cache}", "data=csv", "features.seconds=0.3"]
        run = ["epochs=1", "batch_size=8", "trainer.tensorboard=false", "trainer.accelerator=cpu"]
        config = load_config([*data, *run, *(word.format(**where) for word in words)])
        return load(fit(config, tmp_path / "run").folder, device="cpu")

    return make


FINETUNE = ("features=waveform", "model=finetune", "model.unfreeze_epoch=0")


@pytest.mark.parametrize(
    "words",
    [
        (*FINETUNE, "model.model={wav2vec2}"),
        (*FINETUNE, "model.model={wavlm}"),
        ("features=transformers", "features.model={hubert}", "features.layer=all"),
        ("features=transformers", "features.model={large}", "features.pool=sequence", "model=attention_pool"),
        ("features=torchaudio_bundle", "features.bundle=TINY", "features.weights={bundle}", "features.layer=1"),
    ],
    ids=lambda words: "-".join(word.partition("=")[2].strip("{}") for word in words),
)
def test_waveforms_go_in_and_the_models_logits_come_out(
    trained: Callable[..., Model], tmp_path: Path, words: tuple[str, ...]
) -> None:
    import onnxruntime

    model = trained(*words)
    lines = export(model, tmp_path / "m.onnx")
    assert len(lines) == 2 and "waveforms [B, 4800] at 16000 Hz to logits [B, 3]" in lines[0], lines
    session = onnxruntime.InferenceSession(tmp_path / "m.onnx")
    noise = 0.1 * torch.randn(5, 4_800, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = model.module(model.front_end(noise)).numpy()
    (found,) = session.run(None, {"waveforms": noise.numpy()})
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["ast", "whisper"])
def test_a_spectrogram_in_numpy_stays_outside_and_says_so(
    trained: Callable[..., Model], tmp_path: Path, name: str
) -> None:
    first, second, _ = export(trained("features=transformers", f"features.model={{{name}}}"), tmp_path / "m.onnx")
    assert "the front-end transformers cannot go inside (" in first, first
    assert "FeatureExtractor computes its spectrogram in NumPy, where ONNX cannot follow)" in first
    assert "features [B, 16] to logits [B, 3]" in second


def test_what_is_fine_tuned_on_a_spectrogram_in_numpy_is_refused(trained: Callable[..., Model], tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"m\.onnx: cannot be exported: ASTFeatureExtractor computes its") as error:
        export(trained(*FINETUNE, "model.model={ast}"), tmp_path / "m.onnx")
    assert error.value.hint is not None and "predict" in error.value.hint and not (tmp_path / "m.onnx").exists()
