"""The ``model`` section."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from audioclf.config.section import Section


class AudioClassifierConfig(Section):
    """The lab report's network: fc1, ReLU, fc2."""

    name: Literal["audio_classifier"]
    hidden: int = Field(512, ge=1, description="units of fc1")


class LinearConfig(Section):
    """One linear layer: the cheapest honest baseline."""

    name: Literal["linear"]


ModelConfig = Annotated[AudioClassifierConfig | LinearConfig, Field(discriminator="name")]
