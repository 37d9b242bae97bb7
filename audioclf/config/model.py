"""The ``model`` section."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from audioclf.config.section import CONTENT, Section


class Model(Section):
    """What every model has.

    Attributes:
        axes: of the features that it takes, without "layer"; empty: any.
        fits: the front-ends that give such features, in words.
    """

    axes: ClassVar[tuple[tuple[str, ...], ...]] = ()
    fits: ClassVar[str] = ""


class AudioClassifierConfig(Model):
    """The lab report's network: fc1, ReLU, fc2."""

    name: Literal["audio_classifier"]
    hidden: int = Field(512, ge=1, description="units of fc1")


class LinearConfig(Model):
    """One linear layer: the cheapest honest baseline."""

    name: Literal["linear"]


class CnnConfig(Model):
    """A small convolutional network for mel-spectrograms."""

    axes: ClassVar = (("band", "time"),)
    fits: ClassVar = "features=mel"

    name: Literal["cnn"]
    width: int = Field(16, ge=1, description="channels of the first block; each further block doubles them")
    blocks: int = Field(4, ge=1, le=8, description="of convolution, batch norm, ReLU and pooling")
    dropout: float = Field(0.2, ge=0, lt=1, description="share of the embedding that is dropped in training")


class AttentionPoolConfig(Model):
    """A sequence, weighed by attention."""

    axes: ClassVar = (("band", "time"), ("dim", "time"))
    fits: ClassVar = "features=mel, or a front-end that keeps its sequence"

    name: Literal["attention_pool"]
    hidden: int = Field(256, ge=1, description="units before pooling, divided among the heads")
    heads: int = Field(4, ge=1, description="each attends to moments of its own")
    dropout: float = Field(0.2, ge=0, lt=1, description="share of the embedding that is dropped in training")

    @model_validator(mode="after")
    def _divided(self) -> AttentionPoolConfig:
        if self.hidden % self.heads:
            raise ValueError(f"heads={self.heads} do not divide hidden={self.hidden}")
        return self


class FinetuneConfig(Model):
    """A pretrained encoder, trained further on waveforms: first the layer behind it alone, then it too."""

    axes: ClassVar = (("sample",),)
    fits: ClassVar = "features=waveform"

    name: Literal["finetune"]
    bundle: str | None = Field(None, description="name of a Wav2Vec2Bundle in torchaudio.pipelines; or model")
    weights: str | None = Field(
        None,
        json_schema_extra=CONTENT,
        description="the bundle's file of weights; null: torch hub's cache, or the download",
    )
    model: str | None = Field(
        None, json_schema_extra=CONTENT, description="of transformers: name on the hub, or a folder; or bundle"
    )
    revision: str | None = Field(None, description="commit, tag or branch on the hub; null: its main branch")
    unfreeze_epoch: int = Field(
        1, ge=0, description="epochs in which the encoder is frozen, before it is trained too; 0: from the beginning"
    )
    unfreeze_layers: int | None = Field(
        None, ge=1, description="its last layers, which are trained then; null: all of it"
    )
    layer_decay: float = Field(
        0.8, gt=0, le=1, description="lr of a layer, as a multiple of that of the layer above it"
    )
    dropout: float = Field(0.1, ge=0, lt=1, description="share of the embedding that is dropped in training")

    @model_validator(mode="after")
    def _one_encoder(self) -> FinetuneConfig:
        if (self.bundle is None) == (self.model is None):
            raise ValueError(
                "expected one encoder: model.bundle=NAME of torchaudio, or model.model=NAME of transformers"
            )
        if self.weights is not None and self.bundle is None:
            raise ValueError("weights is of a bundle; expected model.bundle=NAME with it")
        return self


ModelConfig = Annotated[
    AudioClassifierConfig | LinearConfig | CnnConfig | AttentionPoolConfig | FinetuneConfig,
    Field(discriminator="name"),
]
