"""The networks: exactly the layers that their names promise, and the shapes that everything else relies on."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from audioclf.config import AudioClassifierConfig, LinearConfig
from audioclf.models.audio_classifier import AudioClassifier
from audioclf.models.build import build_model
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
