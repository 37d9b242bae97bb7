"""From the ``model`` section of the configuration to a network."""

from __future__ import annotations

from typing import Any

from torch import nn

from audioclf.config import (
    AttentionPoolConfig,
    CnnConfig,
    FeaturesConfig,
    FinetuneConfig,
    LinearConfig,
    ModelConfig,
    TorchaudioBundleConfig,
    TransformersConfig,
    WaveformConfig,
)
from audioclf.errors import UserError
from audioclf.features.encoders import Encoder, bare_encoder, build_encoder
from audioclf.models.attention_pool import AttentionPool
from audioclf.models.audio_classifier import AudioClassifier
from audioclf.models.cnn import Cnn
from audioclf.models.finetune import Finetune
from audioclf.models.layer_mix import LayerMix
from audioclf.models.linear import Linear


def build_model(
    config: ModelConfig,
    input_shape: tuple[int, ...],
    num_classes: int,
    features: FeaturesConfig | None = None,
    encoder: dict[str, Any] | None = None,
) -> nn.Module:
    """The network that the ``model`` section names, with freshly drawn weights.

    Args:
        config: the ``model`` section.
        input_shape: shape of one clip's features.
        num_classes: classes K.
        features: the ``features`` section; where their first axis is "layer", the network is given a learnt mixture of
            the layers.
        encoder: the architecture of the encoder that is fine-tuned, from a checkpoint, which has its weights, too; None:
            the pretrained one.

    Raises:
        UserError: an encoder that cannot be loaded, or takes other waveforms.
    """
    if features is not None and features.axes[0] == "layer":
        return LayerMix(input_shape, lambda shape: build_model(config, shape, num_classes))
    if isinstance(config, CnnConfig):
        return Cnn(input_shape, num_classes, config.width, config.blocks, config.dropout)
    if isinstance(config, AttentionPoolConfig):
        return AttentionPool(input_shape, num_classes, config.hidden, config.heads, config.dropout)
    if isinstance(config, FinetuneConfig):
        assert isinstance(features, WaveformConfig)
        part = _pretrained(config, features) if encoder is None else bare_encoder(encoder)
        return Finetune(input_shape, num_classes, part, config)
    if isinstance(config, LinearConfig):
        return Linear(input_shape, num_classes)
    return AudioClassifier(input_shape, num_classes, config.hidden)


def _pretrained(config: FinetuneConfig, features: WaveformConfig) -> Encoder:
    if config.model is not None:
        settings = {"name": "transformers", "model": config.model, "revision": config.revision}
        found = build_encoder(TransformersConfig.model_validate(settings), "model")
    else:
        settings = {"name": "torchaudio_bundle", "bundle": config.bundle, "weights": config.weights}
        found = build_encoder(TorchaudioBundleConfig.model_validate(settings), "model")
    if found.sample_rate != features.sample_rate:
        raise UserError(
            f"features.sample_rate={features.sample_rate} Hz: the encoder takes {found.sample_rate} Hz",
            f"write features.sample_rate={found.sample_rate}",
        )
    longest = found.longest
    if longest is not None and features.seconds * features.sample_rate > longest:
        most = longest / features.sample_rate
        raise UserError(
            f"features.seconds={features.seconds:g}: the encoder reads {most:g} s; expected no more",
            f"write features.seconds={most:g}",
        )
    return found
