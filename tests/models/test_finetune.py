"""Fine-tuning: what is frozen and when, at which rate each layer learns, and a checkpoint that needs no weights folder."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from torch import nn

from audioclf.compose import load_config
from audioclf.config import Config
from audioclf.data import AudioDataModule
from audioclf.errors import UserError
from audioclf.models.finetune import Finetune
from audioclf.runs.folder import RunFolder
from audioclf.training.fit import fit
from audioclf.training.module import ClassifierModule
from audioclf.training.optimizers import build_optimizer

Make = Callable[..., Config]
CLASSES = ["a", "b", "c"]


@pytest.fixture(scope="module")
def finetune(tones: Path, tiny_cache: Path, tiny_encoders: dict[str, Path], tiny_bundle: tuple[str, Path]) -> Make:
    """A configuration that fine-tunes a small encoder: ``finetune("wav2vec2", "model.unfreeze_layers=1")``."""

    def make(encoder: str, *more: str) -> Config:
        name, weights = tiny_bundle
        which = (
            [f"model.bundle={name}", f"model.weights={weights}"]
            if encoder == "bundle"
            else [f"model.model={tiny_encoders[encoder]}"]
        )
        data = [f"data.csv={tones}", f"paths.cache={tiny_cache}", "data=csv"]
        run = ["lr=1e-2", "epochs=3", "batch_size=8", "trainer.tensorboard=false", "trainer.accelerator=cpu"]
        return load_config([*data, *run, "features=waveform", "features.seconds=0.3", "model=finetune", *which, *more])

    return make


def module_of(config: Config) -> ClassifierModule:
    torch.manual_seed(0)
    return ClassifierModule(config.model_dump(), CLASSES, (4800,))


def trained(module: nn.Module) -> set[str]:
    return {name for name, weight in module.named_parameters() if weight.requires_grad}


@pytest.mark.parametrize("encoder", ["wav2vec2", "bundle"])
def test_first_the_layer_behind_the_encoder_is_trained_alone_then_the_upper_layers(
    finetune: Make, encoder: str
) -> None:
    module = module_of(finetune(encoder, "model.unfreeze_epoch=2", "model.unfreeze_layers=1"))
    model = module.model
    assert isinstance(model, Finetune)
    module.train()
    for epoch in (0, 1):
        module.start_epoch(epoch)
        assert trained(model) == {"fc.weight", "fc.bias"}
        assert not any(part.training for part in model.encoder.modules()) and model.dropout.training
    module.start_epoch(2)
    upper = {id(weight) for weight in model.encoder.blocks[-1].parameters()}
    assert {id(weight) for weight in model.encoder.parameters() if weight.requires_grad} == upper
    assert model.encoder.blocks[-1].training and not model.encoder.blocks[0].training
    module.eval()
    assert not any(part.training for part in model.modules())
    whole = module_of(finetune(encoder, "model.unfreeze_epoch=0")).model
    assert all(weight.requires_grad for weight in whole.parameters())


def test_frozen_batch_norms_keep_their_statistics(finetune: Make) -> None:
    module = module_of(finetune("clap", "features.sample_rate=48000"))
    module.train()
    norms = [part for part in module.model.modules() if isinstance(part, nn.BatchNorm2d)]
    before = [norm.running_mean.clone() for norm in norms]
    module.start_epoch(0)
    module.training_loss(torch.randn(4, 4800), torch.tensor([0, 1, 2, 0]))
    assert norms and all(torch.equal(norm.running_mean, mean) for norm, mean in zip(norms, before, strict=True))


def test_each_layer_learns_more_slowly_than_the_one_above_it(finetune: Make) -> None:
    config = finetune("wav2vec2", "model.layer_decay=0.5")
    model = module_of(config).model
    optimizer, _ = build_optimizer(model, config, 1)
    rate = {id(weight): group["lr"] for group in optimizer.param_groups for weight in group["params"]}
    assert rate.keys() == {id(weight) for weight in model.parameters()}
    assert {rate[id(weight)] for weight in model.fc.parameters()} == {0.01}
    for depth, block in enumerate(reversed(list(model.encoder.blocks)), 1):
        assert {rate[id(weight)] for weight in block.parameters()} == {0.01 * 0.5**depth}
    assert min(rate.values()) == 0.01 * 0.5**3, "what is below the layers"


@pytest.mark.parametrize("encoder", ["wav2vec2", "bundle", "ast"])
def test_a_checkpoint_gives_the_runs_logits_without_the_encoders_folder(
    finetune: Make, tmp_path: Path, encoder: str
) -> None:
    config = finetune(encoder, "trainer.select=last")
    run = fit(config, tmp_path / "run")
    table = pq.read_table(run.folder / "predictions.parquet").to_pydict()
    saved = [logits for logits, split in zip(table["logits"], table["split"], strict=True) if split == "test"]
    data = AudioDataModule(config.data, config.features, cache=config.paths.cache)
    data.setup()
    checkpoint = torch.load(run.folder / "checkpoints" / "model.ckpt", weights_only=True)
    settings = checkpoint["hyper_parameters"]["config"]["model"]
    settings |= {"model": "gone"} if encoder != "bundle" else {"weights": "gone"}
    torch.save(checkpoint, tmp_path / "alone.ckpt")

    module = ClassifierModule.load_from_checkpoint(tmp_path / "alone.ckpt").eval()
    with torch.no_grad():
        logits = module(data.datasets["test"].features).numpy()
    np.testing.assert_allclose(logits, np.array(saved), atol=1e-5)
    if encoder == "bundle":  # in a fresh process torchaudio has no such bundle
        np.save(tmp_path / "features.npy", data.datasets["test"].features.numpy())
        program = (
            "import sys, numpy, torch; from audioclf.training.module import ClassifierModule\n"
            "module = ClassifierModule.load_from_checkpoint(sys.argv[1], map_location='cpu').eval()\n"
            "numpy.save(sys.argv[3], module(torch.from_numpy(numpy.load(sys.argv[2]))).detach().numpy())\n"
        )
        arguments = [str(tmp_path / name) for name in ("alone.ckpt", "features.npy", "logits.npy")]
        subprocess.run([sys.executable, "-c", program, *arguments], check=True)
        np.testing.assert_allclose(np.load(tmp_path / "logits.npy"), np.array(saved), atol=1e-5)


def test_stages_and_random_layers_are_the_same_in_a_continued_run(finetune: Make, tmp_path: Path) -> None:
    for path, epochs in (("runs/two", 2), ("runs/four", 4), ("alone/four", 4)):
        fit(finetune("wav2vec2", f"epochs={epochs}", "augment.time_shift=0.3"), tmp_path / path)
    assert "2 done before" in (tmp_path / "runs" / "four" / "train.log").read_text()
    ours, theirs = (RunFolder(tmp_path / where / "four") for where in ("runs", "alone"))
    assert ours.metrics_csv.read_bytes() == theirs.metrics_csv.read_bytes()
    both = [torch.load(folder.model_checkpoint, weights_only=True)["state_dict"] for folder in (ours, theirs)]
    assert all(torch.equal(both[0][key], both[1][key]) for key in both[0])


def test_waveforms_that_the_encoder_does_not_take_are_refused(finetune: Make) -> None:
    with pytest.raises(UserError, match=r"features.sample_rate=8000 Hz: the encoder takes 16000 Hz"):
        module_of(finetune("wav2vec2", "features.sample_rate=8000"))
    with pytest.raises(UserError, match=r"features.seconds=30: the encoder reads"):
        module_of(finetune("ast", "features.seconds=30"))


def test_what_is_no_encoder_cannot_be_fine_tuned(finetune: Make, tmp_path: Path) -> None:
    import transformers

    heads = {f"{side}_{name}": 2 for side in ("encoder", "decoder") for name in ("layers", "attention_heads")}
    sizes = {"hidden_size": 16, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32}
    transformers.SpeechT5Model(transformers.SpeechT5Config(**sizes, **heads)).save_pretrained(tmp_path)
    transformers.SpeechT5FeatureExtractor().save_pretrained(tmp_path)
    with pytest.raises(UserError, match=r"^model\.model=.*: no encoder that gives hidden states: ") as error:
        module_of(finetune("wav2vec2", f"model.model={tmp_path}"))
    assert error.value.hint is not None and "take an encoder" in error.value.hint
