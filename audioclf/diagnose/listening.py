"""What a person listens to: the test clips that the run got most wrong, as the model saw them and as they sound."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib.image
import numpy as np
import soundfile
import soxr
import torch

from audioclf.clips.clip import Clip
from audioclf.config import FeaturesConfig
from audioclf.diagnose.figures import log_softmax
from audioclf.diagnose.lab import Lab
from audioclf.training.scores import FloatArray

RATE = 22_050  # Hz, of what is listened to
LONGEST_S = 8.0  # that is listened to, so that a page stays small


@dataclass(frozen=True, eq=False)
class Mistake:
    """A test clip that was taken for another class.

    Attributes:
        clip: which.
        taken_for: the predicted class.
        sure: probability of that class.
            loss=float(-right[i]),
            features=shown[place],
    """

    clip: Clip
    taken_for: str
    sure: float
    loss: float
    features: torch.Tensor


def worst_mistakes(lab: Lab, most: int) -> list[Mistake]:
    """The test clips on which the run's loss is highest, of those that it got wrong; highest first."""
    pool = lab.test
    if not len(pool):
        return []
    logits = np.stack([lab.predictions[clip.id] for clip in pool.clips]).astype(np.float64)
    chances = log_softmax(np.nan_to_num(logits, posinf=1e30, neginf=-1e30))
    predicted, right = chances.argmax(1), chances[np.arange(len(pool)), pool.targets]
    wrong = np.flatnonzero(predicted != pool.targets)
    wrong = wrong[np.argsort(right[wrong], kind="stable")][:most]
    shown = lab.spectrograms(pool.take(wrong))
    return [
        Mistake(
            clip=pool.clips[i],
            taken_for=pool.classes[predicted[i]],
            sure=float(np.exp(chances[i].max())),
            loss=float(-right[i]),
            features=shown[place],
        )
        for place, i in enumerate(wrong)
    ]


def spectrograms(features: Sequence[torch.Tensor]) -> list[bytes | None]:
    """Features ``[bands, frames]`` as PNG, low bands below, all on one scale; None where they have another shape."""
    planes = [one.float().numpy() for one in features if one.ndim == 2]
    if not planes:
        return [None] * len(features)
    low, high = np.percentile(np.nan_to_num(np.stack(planes)), [1, 99.5])

    def picture(plane: FloatArray) -> bytes:
        buffer = io.BytesIO()
        matplotlib.image.imsave(
            buffer, plane, vmin=low, vmax=max(high, low + 1e-9), cmap="magma", origin="lower", format="png"
        )
        return buffer.getvalue()

    return [picture(one.float().numpy()) if one.ndim == 2 else None for one in features]


def sound(lab: Lab, clip: Clip) -> bytes | None:
    """The part of a clip that the model sees, as MP3: mono, 22,050 Hz, at most 8 s; None where its file is gone."""
    samples = lab.samples(clip)
    if samples is None or not len(samples):
        return None
    heard = seen_part(samples, lab.rate, lab.config.features)
    heard = soxr.resample(heard, lab.rate, RATE, quality="HQ")[: int(LONGEST_S * RATE)]
    buffer = io.BytesIO()
    soundfile.write(buffer, np.clip(heard, -1, 1), RATE, format="MP3", subtype="MPEG_LAYER_III")
    return buffer.getvalue()


def seen_part(samples: FloatArray, rate: int, config: FeaturesConfig) -> FloatArray:
    """The samples ``[n]`` that reach the model: the middle of a clip that is longer than they take, else all."""
    seen = round(config.seconds * rate)
    return samples[max(len(samples) - seen, 0) // 2 :][:seen]
