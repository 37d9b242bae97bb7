"""The networks: exactly the layers that their names promise, and the shapes that everything else relies on."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from audioclf.compose import load_config
from audioclf.config import AudioClassifierConfig, LinearConfig, TransformersConfig
from audioclf.errors import UserError
from audioclf.models.attention_pool import AttentionPool
from audioclf.models.audio_classifier import AudioClassifier
from audioclf.models.build import build_model
from audioclf.models.cnn import Cnn
from audioclf.models.layer_mix import LayerMix
from audioclf.models.linear import Linear


def test_audio_classifier_has_the_reports_layers_and_no_others() -> None:
    model = AudioClassifier(input_shape=(128, 216), num_classes=10)
    assert {name: type(layer) for name, layer in model.named_children()} == {
        "fc1": nn.Linear,
        "relu": nn.ReLU,
        "fc2": nn.Linear,
    }
    shapes = {name: tuple(value.shape) for name, value in model.named_parameters()}
    assert shapes == {
        "fc1.weight": (512, 128 * 216),
        "fc1.bias": (512,),
        "fc2.weight": (10, 512),
        "fc2.bias": (10,),
    }


def test_audio_classifier_computes_fc2_of_relu_of_fc1_of_the_flattened_features() -> None:
    torch.manual_seed(0)
    model = AudioClassifier(input_shape=(3, 4), num_classes=5, hidden=6)
    features = torch.randn(7, 3, 4)
    by_hand = torch.clamp(features.reshape(7, 12) @ model.fc1.weight.T + model.fc1.bias, min=0)
    assert torch.allclose(model.embed(features), by_hand, atol=1e-6)
    assert torch.allclose(model(features), by_hand @ model.fc2.weight.T + model.fc2.bias, atol=1e-6)
    assert model.embed(features).shape == (7, 6) and (model.embed(features) >= 0).all()
    assert model(features).shape == (7, 5)


def test_linear_is_one_layer_on_the_flattened_features() -> None:
    model = Linear((3, 4), num_classes=5)
    features = torch.randn(7, 3, 4)
    assert [name for name, _ in model.named_parameters()] == ["fc.weight", "fc.bias"]
    assert torch.equal(model.embed(features), features.reshape(7, 12))
    assert torch.allclose(model(features), features.reshape(7, 12) @ model.fc.weight.T + model.fc.bias, atol=1e-6)


@pytest.mark.parametrize(
    ("config", "kind"),
    [
        (AudioClassifierConfig(name="audio_classifier", hidden=9), AudioClassifier),
        (LinearConfig(name="linear"), Linear),
    ],
)
def test_the_configuration_chooses_the_network(
    config: AudioClassifierConfig | LinearConfig, kind: type[nn.Module]
) -> None:
    model = build_model(config, (3, 4), num_classes=5)
    assert type(model) is kind and model(torch.randn(2, 3, 4)).shape == (2, 5)
    if isinstance(model, AudioClassifier):
        assert model.fc1.out_features == 9


# --- models for spectrograms and sequences ---------------------------------------------------------------------------


def test_cnn_halves_bands_and_frames_and_doubles_channels_as_long_as_it_can() -> None:
    torch.manual_seed(0)
    model = Cnn((16, 40), num_classes=5, width=4, blocks=6)  # 16 bands are halved four times
    convolutions = [layer for layer in model.blocks if isinstance(layer, nn.Conv2d)]
    assert [layer.out_channels for layer in convolutions] == [4, 8, 16, 32, 64, 128]
    features = torch.randn(3, 16, 40)
    assert model.blocks(features[:, None]).shape == (3, 128, 1, 1)
    assert model.embed(features).shape == (3, 128) and model(features).shape == (3, 5)


def test_cnn_pools_the_mean_over_bands_and_the_mean_plus_maximum_over_time() -> None:
    torch.manual_seed(0)
    model = Cnn((16, 40), num_classes=5, width=4, blocks=2).eval()
    features = torch.randn(3, 16, 40)
    found = model.blocks(features[:, None])
    by_hand = found.mean(2).mean(2) + found.mean(2).max(2).values
    assert found.shape == (3, 8, 4, 10) and torch.allclose(model.embed(features), by_hand, atol=1e-6)
    assert torch.allclose(model(features), by_hand @ model.fc.weight.T + model.fc.bias, atol=1e-5)


def test_attention_pool_is_the_mean_of_moments_as_each_head_weighs_them() -> None:
    torch.manual_seed(0)
    model = AttentionPool((6, 9), num_classes=5, hidden=8, heads=2).eval()
    features = torch.randn(3, 6, 9)
    weights = model.attention(features)
    assert weights.shape == (3, 9, 2) and torch.allclose(weights.sum(1), torch.ones(3, 2), atol=1e-6)
    moments = torch.clamp(features.transpose(1, 2) @ model.project.weight.T + model.project.bias, min=0)
    halves = [(moments[:, :, 4 * h : 4 * h + 4] * weights[:, :, h : h + 1]).sum(1) for h in (0, 1)]
    assert torch.allclose(model.embed(features), torch.cat(halves, 1), atol=1e-6)
    assert model(features).shape == (3, 5)
    shuffled = features[:, :, torch.randperm(9)]
    assert torch.allclose(model(features), model(shuffled), atol=1e-5), "it knows no order"


def test_layers_are_mixed_with_weights_that_are_learnt() -> None:
    torch.manual_seed(0)
    features = TransformersConfig.model_validate({"name": "transformers", "layer": "all"})
    model = build_model(LinearConfig(name="linear"), (4, 6), num_classes=5, features=features)
    assert isinstance(model, LayerMix) and isinstance(model.model, Linear)
    layers = torch.randn(3, 4, 6)
    assert torch.allclose(model.embed(layers), layers.mean(1), atol=1e-6), "at first all weigh the same"
    target = layers[:, 2] @ model.model.fc.weight.T.detach() + model.model.fc.bias.detach()
    optimizer = torch.optim.Adam([model.scores], lr=0.3)
    for _ in range(100):
        optimizer.zero_grad()
        (model(layers) - target).square().mean().backward()
        optimizer.step()
    weights = model.weights.detach()
    assert float(weights[2]) > 0.95 and float(weights.sum()) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("overrides", "message", "hint"),
    [
        (
            ["model=cnn", "features=yamnet"],
            "model=cnn: features=yamnet gives [dim]; expected [band, time]",
            "features=mel",
        ),
        (["model=cnn", "features=waveform"], "model=cnn: features=waveform gives [sample]", "features=mel"),
        (
            ["model=attention_pool", "features=yamnet"],
            "model=attention_pool: features=yamnet gives [dim]; expected [band, time] or [dim, time]",
            "keeps its sequence",
        ),
        (
            ["model=finetune", "model.bundle=HUBERT_BASE"],
            "model=finetune: features=mel gives [band, time]; expected [sample]",
            "features=waveform",
        ),
        (["model=finetune", "features=waveform"], "model: expected one encoder: model.bundle=NAME", None),
        (["model=attention_pool", "model.heads=3"], "model: heads=3 do not divide hidden=256", None),
    ],
)
def test_models_that_do_not_fit_are_refused_before_anything_is_loaded(
    overrides: list[str], message: str, hint: str | None
) -> None:
    with pytest.raises(UserError) as caught:
        load_config(overrides)
    assert caught.value.message.startswith(message) and (hint or "") in (caught.value.hint or "")


def test_models_fit_the_sequences_and_layers_of_front_ends() -> None:
    load_config(["model=attention_pool", "features=yamnet", "features.pool=sequence"])
    load_config(["model=attention_pool", "features=transformers", "features.pool=sequence", "features.layer=all"])
    load_config(["model=linear", "features=transformers", "features.layer=all"])
