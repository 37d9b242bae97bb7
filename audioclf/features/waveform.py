"""The waveform itself, for models that bring their own encoder."""

from __future__ import annotations

import torch

from audioclf.config import WaveformConfig
from audioclf.features.frontend import FrontEnd, centred


class Waveform(FrontEnd):
    """Leaves the waveform as it is.

    Args:
        config: the ``features`` section.
    """

    version = "1"

    def __init__(self, config: WaveformConfig) -> None:
        super().__init__()
        self.sample_rate = config.sample_rate
        self.samples = round(config.seconds * config.sample_rate)
        self.output_shape = (self.samples,)

    def fit_length(self, waveform: torch.Tensor) -> torch.Tensor:
        """Waveform ``[n]`` padded with silence at the end, or cropped to its centre."""
        return centred(waveform, self.samples)

    def forward(self, waveforms: torch.Tensor) -> torch.Tensor:
        """Waveforms ``[B, n]``, unchanged."""
        return waveforms
