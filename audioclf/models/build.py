"""From the ``model`` section of the configuration to a network."""

from __future__ import annotations

from torch import nn

from audioclf.config import LinearConfig, ModelConfig
from audioclf.models.audio_classifier import AudioClassifier
from audioclf.models.linear import Linear


def build_model(config: ModelConfig, input_shape: tuple[int, ...], num_classes: int) -> nn.Module:
    """The network that the ``model`` section names, with freshly drawn weights.

    Args:
        config: the ``model`` section.
        input_shape: shape of one clip's features.
        num_classes: classes K.
    """
    if isinstance(config, LinearConfig):
        return Linear(input_shape, num_classes)
    return AudioClassifier(input_shape, num_classes, config.hidden)
