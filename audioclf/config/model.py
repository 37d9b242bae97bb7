"""The ``model`` section."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from audioclf.config.section import Section


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


ModelConfig = Annotated[
    AudioClassifierConfig | LinearConfig | CnnConfig | AttentionPoolConfig, Field(discriminator="name")
]
