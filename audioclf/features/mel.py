"""Mel-spectrograms: torchaudio as the engine, librosa as the reference.

Both use a centred STFT with a periodic Hann window, zeros beyond the ends, Slaney's mel scale and area
normalisation (librosa's defaults), and a floor of 1e-10 in power (-100 dB), with 0 dB at power 1. They agree to
1e-3 dB above -80 dB. For that the FFT is computed in double precision: in single precision the rounding of a loud
frame's spectrum is up to 0.05 dB in its quiet bands (measured on ESC-10).
"""

from __future__ import annotations

import warnings

import librosa
import numpy as np
import torch
import torchaudio

from audioclf.config import FeaturesConfig, MelConfig
from audioclf.errors import UserError
from audioclf.features.frontend import FrontEnd, centred

POWER_FLOOR = 1e-10  # -100 dB: librosa.power_to_db's amin


class Mel(FrontEnd):
    """What both engines share: the settings, and the rule that gives every clip the same number of frames.

    Args:
        config: the ``features`` section.

    Raises:
        UserError: a mel band is so narrow that it holds no FFT bin.
    """

    version = "1"
    filters: torch.Tensor

    def __init__(self, config: MelConfig) -> None:
        super().__init__()
        self.config = config
        self.sample_rate = config.sample_rate
        self.output_shape = (config.n_mels, config.target_length)
        # librosa's filters: torchaudio's own are computed in float32 and differ by up to 1e-5 (0.004 dB).
        self.register_buffer("filters", torch.from_numpy(mel_filters(config)), persistent=False)

    def fit_length(self, waveform: torch.Tensor) -> torch.Tensor:
        """Waveform ``[n]`` padded with silence at the end, or cropped to its centre, to ``target_length`` frames.

        Padding does not change the frames that are there: beyond its ends a waveform is taken as silent anyway.
        """
        return centred(waveform, samples_needed(self.config))


class TorchaudioMel(Mel):
    """Mel-spectrogram by torchaudio, in batches, on CPU or GPU."""

    def __init__(self, config: MelConfig) -> None:
        super().__init__(config)
        self.spectrogram = torchaudio.transforms.Spectrogram(
            n_fft=config.n_fft,
            hop_length=config.hop_length,
            power=None,  # complex: squaring its parts is four times as fast as torchaudio's abs().pow(2)
            pad_mode="constant",
            wkwargs={"dtype": torch.float64},
        )

    @torch.no_grad()
    def forward(self, waveforms: torch.Tensor) -> torch.Tensor:
        """Waveforms ``[B, n]`` → mel-spectrograms ``[B, n_mels, target_length]``, float32."""
        spectrum = self.spectrogram(waveforms.double())
        power = torch.addcmul(spectrum.real.square(), spectrum.imag, spectrum.imag).float()
        mel = torch.matmul(self.filters, power)
        return 10.0 * torch.log10(mel.clamp(min=POWER_FLOOR)) if self.config.scale == "db" else mel


class LibrosaMel(Mel):
    """The same by librosa, clip by clip on the CPU: the reference that the engine is held against."""

    outside = "librosa computes with NumPy"

    def forward(self, waveforms: torch.Tensor) -> torch.Tensor:
        """Waveforms ``[B, n]`` → mel-spectrograms ``[B, n_mels, target_length]``, float32."""
        config = self.config
        mels = [
            librosa.feature.melspectrogram(
                y=waveform,
                sr=config.sample_rate,
                n_fft=config.n_fft,
                hop_length=config.hop_length,
                n_mels=config.n_mels,
                fmin=config.f_min,
                fmax=config.f_max or config.sample_rate / 2,
                pad_mode="constant",
            )
            for waveform in waveforms.cpu().numpy()
        ]
        if config.scale == "db":
            mels = [librosa.power_to_db(mel, ref=1.0, amin=POWER_FLOOR, top_db=None) for mel in mels]
        return torch.from_numpy(np.stack(mels).astype(np.float32))


def shown_as(config: FeaturesConfig) -> MelConfig:
    """The spectrogram that people are shown of a clip: the model's own features, or the default where those are none."""
    return config if isinstance(config, MelConfig) else MelConfig.model_validate({"name": "mel"})


def samples_needed(config: MelConfig) -> int:
    """The samples of a waveform that give exactly ``target_length`` frames: a centred STFT has 1 + n // hop."""
    return config.target_length * config.hop_length - 1


def mel_filters(config: MelConfig) -> np.ndarray:
    """Slaney mel filters ``[n_mels, 1 + n_fft // 2]``, float32.

    Raises:
        UserError: a band holds no FFT bin, so it would be constant on every clip.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # librosa warns of what is refused below
        filters = librosa.filters.mel(
            sr=config.sample_rate,
            n_fft=config.n_fft,
            n_mels=config.n_mels,
            fmin=config.f_min,
            fmax=config.f_max or config.sample_rate / 2,
            dtype=np.float32,
        )
    empty = int((filters.max(axis=1) == 0).sum())
    if empty:
        raise UserError(
            f"features.n_mels={config.n_mels}: {empty} bands hold no FFT bin at n_fft={config.n_fft} and {config.sample_rate} Hz",
            "fewer bands (features.n_mels) or a longer window (features.n_fft)",
        )
    return np.asarray(filters)
