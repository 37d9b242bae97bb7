"""From the ``features`` section of the configuration to a front-end, and to where its features lie."""

from __future__ import annotations

from pathlib import Path

from audioclf.config import (
    AudioTextConfig,
    FeaturesConfig,
    MelConfig,
    TextConfig,
    TorchaudioBundleConfig,
    TransformersConfig,
    WaveformConfig,
    YamnetConfig,
)
from audioclf.features.embedding import HiddenStates
from audioclf.features.frontend import FrontEnd, front_end_settings
from audioclf.features.mel import LibrosaMel, TorchaudioMel
from audioclf.features.store import FeatureStore, JoinedStore
from audioclf.features.text import Annotations, WithText
from audioclf.features.waveform import Waveform
from audioclf.features.yamnet import Yamnet


def build_front_end(config: FeaturesConfig) -> FrontEnd:
    """The front-end that the ``features`` section names.

    Raises:
        UserError: settings that leave a mel band without any FFT bin, or a pretrained model that cannot be had.
    """
    if isinstance(config, AudioTextConfig):
        audio, text = parts(config)
        return WithText(build_front_end(audio), Annotations(text))
    if isinstance(config, TextConfig):
        return Annotations(config)
    if isinstance(config, TorchaudioBundleConfig | TransformersConfig):
        return HiddenStates(config)
    if isinstance(config, YamnetConfig):
        return Yamnet(config)
    if isinstance(config, WaveformConfig):
        return Waveform(config)
    return LibrosaMel(config) if config.engine == "librosa" else TorchaudioMel(config)


def build_store(root: Path, config: FeaturesConfig, front_end: FrontEnd) -> FeatureStore | JoinedStore:
    """Where the features lie that a front-end makes; features of audio and text lie apart, as those of either alone.

    Args:
        root: folder of all front-ends.
        config: the ``features`` section.
        front_end: of it.
    """
    if isinstance(config, AudioTextConfig):
        assert isinstance(front_end, WithText)
        audio, text = parts(config)
        return JoinedStore(_store(root, audio, front_end.audio), _store(root, text, front_end.text))
    return _store(root, config, front_end)


def _store(root: Path, config: FeaturesConfig, front_end: FrontEnd) -> FeatureStore:
    settings = front_end_settings(config, front_end.version)
    return FeatureStore(root, settings, front_end.output_shape, config.storage)


AudioConfig = MelConfig | YamnetConfig | TorchaudioBundleConfig | TransformersConfig
AUDIO: dict[str, type[AudioConfig]] = {
    "mel+text": MelConfig,
    "yamnet+text": YamnetConfig,
    "torchaudio_bundle+text": TorchaudioBundleConfig,
    "transformers+text": TransformersConfig,
}
"""The audio's part of features of audio and text."""


def parts(config: AudioTextConfig) -> tuple[AudioConfig, TextConfig]:
    """The two front-ends that features of audio and text are made by, as if each were alone."""
    content = config.model_dump(exclude={"name", "text"})
    return (
        AUDIO[config.name].model_validate({"name": config.name.partition("+")[0], **content}),
        TextConfig(name="text", text=config.text, normalisation=config.normalisation, storage=config.storage),
    )
