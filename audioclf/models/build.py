"""From the ``model`` section of the configuration to a network."""

from __future__ import annotations

from torch import nn

from audioclf.config import AttentionPoolConfig, Axes, CnnConfig, LinearConfig, ModelConfig
from audioclf.models.attention_pool import AttentionPool
from audioclf.models.audio_classifier import AudioClassifier
from audioclf.models.cnn import Cnn
from audioclf.models.layer_mix import LayerMix
from audioclf.models.linear import Linear


def build_model(
    config: ModelConfig, input_shape: tuple[int, ...], num_classes: int, axes: Axes | None = None
) -> nn.Module:
    """The network that the ``model`` section names, with freshly drawn weights.

    Args:
        config: the ``model`` section.
        input_shape: shape of one clip's features.
        num_classes: classes K.
        axes: of the features; where the first one is "layer", the network is given a learnt mixture of the layers.
    """
    if axes and axes[0] == "layer":
        return LayerMix(input_shape, lambda shape: build_model(config, shape, num_classes))
    if isinstance(config, CnnConfig):
        return Cnn(input_shape, num_classes, config.width, config.blocks, config.dropout)
    if isinstance(config, AttentionPoolConfig):
        return AttentionPool(input_shape, num_classes, config.hidden, config.heads, config.dropout)
    if isinstance(config, LinearConfig):
        return Linear(input_shape, num_classes)
    return AudioClassifier(input_shape, num_classes, config.hidden)
