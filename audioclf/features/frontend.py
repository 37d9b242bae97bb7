"""The front-end: what turns a waveform into a fixed-size array, and the one interface all of them share."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from audioclf.config import FeaturesConfig
from audioclf.weights import identified


class FrontEnd(nn.Module):
    """Turns waveforms into features; nothing in it is learnt from the data.

    Attributes:
        version: raised whenever the same waveform would give other features; part of the feature store's key.
        sample_rate: rate of the waveforms it takes, in Hz.
        output_shape: shape of one clip's features.
        heavy: a large network: on a GPU one batch at a time, while the next clips are decoded; else a clip for each core.
        reads_text: it reads annotations, so that a waveform alone does not do.
        outside: why it cannot be part of an exported graph; empty where that has to be tried.
    """

    version: str
    sample_rate: int
    output_shape: tuple[int, ...]
    heavy: bool = False
    reads_text: bool = False
    outside: str = ""

    def fit_length(self, waveform: torch.Tensor) -> torch.Tensor:
        """Pads or crops one waveform ``[n]`` to the number of samples that every clip of a batch has."""
        raise NotImplementedError

    def heard(self) -> int:
        """Samples of a clip that reach the features, at most; longer clips are cropped to their centre."""
        return self.fit_length(torch.zeros(1)).shape[-1]

    def forward(self, waveforms: torch.Tensor) -> torch.Tensor:
        """Features ``[B, *output_shape]``, float32, of waveforms ``[B, n]`` that :meth:`fit_length` made."""
        raise NotImplementedError

    def of_clips(self, waveforms: torch.Tensor, texts: Sequence[str]) -> torch.Tensor:
        """Features ``[B, *output_shape]`` of B clips, with what was written about each, for those that read it."""
        features: torch.Tensor = self(waveforms)
        return features


def centred(waveform: torch.Tensor, samples: int) -> torch.Tensor:
    """Waveform ``[n]`` padded with silence at its end, or cropped to its centre, to ``[samples]``."""
    surplus = waveform.shape[-1] - samples
    if surplus > 0:
        return waveform[surplus // 2 :][:samples]
    return torch.nn.functional.pad(waveform, (0, -surplus))


def front_end_settings(config: FeaturesConfig, version: str) -> dict[str, Any]:
    """What decides the features of a waveform: the resolved settings, of weights the content, and the version.

    What is learnt later is no part of it.
    """
    settings = identified(config)
    del settings["normalisation"]  # learnt from the training split; lives in the run
    return {**settings, "version": version}


def settings_hash(settings: dict[str, Any]) -> str:
    """A short stable name for front-end settings."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]
