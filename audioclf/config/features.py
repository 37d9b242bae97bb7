"""The ``features`` section: what turns a waveform into what a model sees."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from audioclf.config.section import CONTENT, NOT_IDENTITY, Section

Axes = tuple[Literal["layer", "band", "dim", "time", "sample"], ...]
"""What the axes of one clip's features are: ``("band", "time")`` of a spectrogram, ``("dim",)`` of an embedding,
``("dim", "time")`` of a sequence of them, ``("layer", ...)`` where each layer of an encoder has its own."""

Pool = Literal["mean", "max", "mean_max", "sequence"]
"""What becomes of an embedding's time axis: its mean, its maximum, both (twice as long), or nothing."""


class _Mel(Section):
    """The settings of a mel-spectrogram."""

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
    def _frequencies(self) -> Self:
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
    def seconds(self) -> float:
        """Of a clip that reach the model, in s."""
        return self.target_length * self.hop_length / self.sample_rate


class MelConfig(_Mel):
    """Mel-spectrogram ``[n_mels, target_length]``.

    A clip is padded with silence at its end, or cropped to its centre, to ``target_length`` frames before the
    transform.
    """

    name: Literal["mel"]

    @property
    def axes(self) -> Axes:
        """What the axes of one clip's features are."""
        return ("band", "time")


class WaveformConfig(Section):
    """The waveform itself ``[samples]``: what a model that brings its own encoder is trained on."""

    name: Literal["waveform"]
    sample_rate: int = Field(16_000, ge=1_000, le=48_000, description="[Hz]; what the encoder expects")
    seconds: float = Field(5.0, gt=0, description="of a clip that reach the model [s]; shorter ones get silence")
    normalisation: Literal["none", "global"] = "none"
    storage: Literal["float32", "float16"] = Field("float16", description="how waveforms lie on disk")

    @property
    def axes(self) -> Axes:
        """What the axes of one clip's features are."""
        return ("sample",)


class _Embedding(Section):
    """What embeddings by pretrained models have in common."""

    pool: Pool = Field("mean", description="over time; sequence: all of it, [dim, time]")
    seconds: float = Field(5.0, gt=0, description="of a clip that reach the model [s]; shorter ones get silence")
    normalisation: Literal["none", "global", "per_band"] = Field(
        "per_band", description="statistics of the training split; per_band: one for each dimension"
    )
    storage: Literal["float32", "float16"] = Field("float32", description="how embeddings lie on disk")

    @property
    def _time_axes(self) -> Axes:
        return ("dim", "time") if self.pool == "sequence" else ("dim",)


class _Yamnet(_Embedding):
    """The settings of YAMNet."""

    weights: str = Field(
        "https://huggingface.co/thelou1s/yamnet/resolve/e90ce378296ec8c5130f2bbceed762a2b0d383c5/"
        "lite-model_yamnet_classification_tflite_1.tflite",
        json_schema_extra=CONTENT,
        description="LiteRT model: a path, or a URL with sha256",
    )
    sha256: str | None = Field(
        "10c95ea3eb9a7bb4cb8bddf6feb023250381008177ac162ce169694d05c317de",
        pattern="^[0-9a-f]{64}$",
        json_schema_extra=NOT_IDENTITY,
        description="of the file that a URL names; not looked at where weights is a path",
    )


class YamnetConfig(_Yamnet):
    """Embeddings by YAMNet, trained on AudioSet: 1,024 numbers for each window of 0.975 s."""

    name: Literal["yamnet"]
    normalisation: Literal["none", "global", "per_band"] = Field(
        "global", description="one mean and deviation for all: dimensions that hardly ever speak stay quiet"
    )

    @property
    def axes(self) -> Axes:
        """What the axes of one clip's features are."""
        return self._time_axes


class _Layered(_Embedding):
    """The settings of an encoder that has layers to choose from."""

    layer: Annotated[int, Field(ge=-1)] | Literal["all"] = Field(
        -1, description="number from 1, -1: the last; all: each, which the model learns to weigh"
    )

    @property
    def axes(self) -> Axes:
        """What the axes of one clip's features are."""
        return ("layer", *self._time_axes) if self.layer == "all" else self._time_axes


class _TorchaudioBundle(_Layered):
    """The settings of a torchaudio pipeline."""

    bundle: str = Field("WAV2VEC2_BASE", description="name of a Wav2Vec2Bundle in torchaudio.pipelines")
    weights: str | None = Field(
        None, json_schema_extra=CONTENT, description="its file of weights; null: torch hub's cache, or the download"
    )


class TorchaudioBundleConfig(_TorchaudioBundle):
    """Hidden states of a torchaudio pipeline: wav2vec 2.0, HuBERT, WavLM."""

    name: Literal["torchaudio_bundle"]


class _Transformers(_Layered):
    """The settings of an audio encoder of transformers."""

    model: str = Field(
        "MIT/ast-finetuned-audioset-10-10-0.4593", json_schema_extra=CONTENT, description="name on the hub, or a folder"
    )
    revision: str | None = Field(None, description="commit, tag or branch on the hub; null: its main branch")


class TransformersConfig(_Transformers):
    """Hidden states of any audio encoder of transformers: AST, wav2vec 2.0, HuBERT, WavLM, Whisper, CLAP."""

    name: Literal["transformers"]


class TextEncoder(Section):
    """What turns an annotation into numbers."""

    model: str = Field(
        "sentence-transformers/all-MiniLM-L6-v2", json_schema_extra=CONTENT, description="name on the hub, or a folder"
    )
    revision: str | None = Field(None, description="commit, tag or branch on the hub; null: its main branch")


class _WithText(Section):
    """What front-ends that read annotations have in common."""

    text: TextEncoder

    @property
    def axes(self) -> Axes:
        """What the axes of one clip's features are."""
        return ("dim",)


class TextConfig(_WithText):
    """The clips' annotations through a sentence encoder; no audio."""

    name: Literal["text"]
    normalisation: Literal["none", "global", "per_band"] = Field(
        "per_band", description="statistics of the training split; per_band: one for each dimension"
    )
    storage: Literal["float32", "float16"] = Field("float32", description="how embeddings lie on disk")

    @property
    def seconds(self) -> float:
        """Of a clip that reach the model: none, in s."""
        return 0.0


class MelTextConfig(_WithText, _Mel):
    """A mel-spectrogram, flattened, and behind it the annotation's embedding."""

    name: Literal["mel+text"]


class YamnetTextConfig(_WithText, _Yamnet):
    """YAMNet's embedding, flattened, and behind it the annotation's."""

    name: Literal["yamnet+text"]


class TorchaudioBundleTextConfig(_WithText, _TorchaudioBundle):
    """Hidden states of a torchaudio pipeline, flattened, layers and all, and behind them the annotation's embedding."""

    name: Literal["torchaudio_bundle+text"]


class TransformersTextConfig(_WithText, _Transformers):
    """Hidden states of an audio encoder of transformers, flattened, and behind them the annotation's embedding."""

    name: Literal["transformers+text"]


AudioTextConfig = MelTextConfig | YamnetTextConfig | TorchaudioBundleTextConfig | TransformersTextConfig
"""Features of the audio and of the annotation, one behind the other."""

FeaturesConfig = Annotated[
    MelConfig
    | WaveformConfig
    | YamnetConfig
    | TorchaudioBundleConfig
    | TransformersConfig
    | TextConfig
    | AudioTextConfig,
    Field(discriminator="name"),
]
