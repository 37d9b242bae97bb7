"""From the ``features`` section of the configuration to a front-end."""

from __future__ import annotations

from audioclf.config import FeaturesConfig, WaveformConfig
from audioclf.features.frontend import FrontEnd
from audioclf.features.mel import LibrosaMel, TorchaudioMel
from audioclf.features.waveform import Waveform


def build_front_end(config: FeaturesConfig) -> FrontEnd:
    """The front-end that the ``features`` section names.

    Raises:
        UserError: settings that leave a mel band without any FFT bin.
    """
    if isinstance(config, WaveformConfig):
        return Waveform(config)
    return LibrosaMel(config) if config.engine == "librosa" else TorchaudioMel(config)
