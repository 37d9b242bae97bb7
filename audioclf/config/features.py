"""The ``features`` section: what turns a waveform into what a model sees."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from audioclf.config.section import Section

Axes = tuple[Literal["layer", "band", "dim", "time", "sample"], ...]
"""What the axes of one clip's features are: ``("band", "time")`` of a spectrogram, ``("dim",)`` of an embedding,
``("dim", "time")`` of a sequence of them, ``("layer", ...)`` where each layer of an encoder has its own."""


class MelConfig(Section):
    """Mel-spectrogram ``[n_mels, target_length]``.

    A clip is padded with silence at its end, or cropped to its centre, to ``target_length`` frames before the
    transform.
    """

    name: Literal["mel"]
    engine: Literal["torchaudio", "librosa"] = "torchaudio"
    sample_rate: int = Field(22_050, ge=1_000, le=44_100, description="[Hz]; at most the audio store's 44,100 Hz")
    n_fft: int = Field(2048, ge=16, description="window and FFT length [samples]")
    hop_length: int = Field(512, ge=1, description="[samples]")
    n_mels: int = Field(64, ge=1, description="mel bands")
    f_min: float = Field(0.0, ge=0, description="lower edge of the lowest band [Hz]")
    f_max: float | None = Field(
        None, gt=0, description="upper edge of the highest band [Hz]; null: half the sample rate"
    )
    scale: Literal["db", "power"] = Field("db", description="db: 10 log10(max(power, 1e-10)); power: as it is")
    target_length: int = Field(216, ge=1, description="[frames]; 216 frames of 512 samples at 22,050 Hz are 5.0 s")
    normalisation: Literal["none", "global", "per_band"] = Field(
        "per_band", description="statistics of the training split"
    )
    storage: Literal["float32", "float16"] = Field("float32", description="how features lie on disk")

    @model_validator(mode="after")
    def _frequencies(self) -> MelConfig:
        nyquist = self.sample_rate / 2
        if self.f_max is not None and self.f_max > nyquist:
            raise ValueError(f"f_max={self.f_max:g} Hz is above half the sample rate ({nyquist:g} Hz)")
        if self.f_min >= (self.f_max or nyquist):
            raise ValueError(f"f_min={self.f_min:g} Hz is not below f_max={self.f_max or nyquist:g} Hz")
        if self.storage == "float16" and self.scale == "power":
            raise ValueError(
                "storage=float16 holds no powers (they span more than its range); expected scale=db or float32"
            )
        if self.hop_length > self.n_fft:
            raise ValueError(f"hop_length={self.hop_length} leaves gaps between windows of n_fft={self.n_fft} samples")
        return self

    @property
    def axes(self) -> Axes:
        """What the axes of one clip's features are."""
        return ("band", "time")

    @property
    def seconds(self) -> float:
        """Of a clip that reach the model, in s."""
        return self.target_length * self.hop_length / self.sample_rate


class WaveformConfig(Section):
    """The waveform itself ``[samples]``: what a model that brings its own encoder is trained on."""

    name: Literal["waveform"]
    sample_rate: int = Field(16_000, ge=1_000, le=44_100, description="[Hz]; what the encoder expects")
    seconds: float = Field(5.0, gt=0, description="of a clip that reach the model [s]; shorter ones get silence")
    normalisation: Literal["none", "global"] = "none"
    storage: Literal["float32", "float16"] = Field("float16", description="how waveforms lie on disk")

    @property
    def axes(self) -> Axes:
        """What the axes of one clip's features are."""
        return ("sample",)


FeaturesConfig = Annotated[MelConfig | WaveformConfig, Field(discriminator="name")]
