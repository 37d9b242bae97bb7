"""The ``augment`` section: how training clips are varied; every key is off unless it is set."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from pydantic import Field

from audioclf.config.section import Section


class AugmentConfig(Section):
    """Random variations of training clips, drawn anew in each epoch; val and test never see them.

    Attributes:
        needs: axes of features of which an augmentation needs one to make sense; noise and mixup make sense of any.
    """

    needs: ClassVar[dict[str, tuple[str, ...]]] = {
        "gain": ("band", "sample"),
        "time_shift": ("time", "sample"),
        "time_mask": ("time",),
        "freq_mask": ("band",),
    }

    gain: float = Field(0.0, ge=0, le=60, description="louder or softer by at most this [dB]")
    time_shift: float = Field(
        0.0, ge=0, le=1, description="moved in time by at most this share of the clip, around its end"
    )
    noise: float = Field(
        0.0, ge=0, description="white noise, at most this multiple of the clip's own standard deviation"
    )
    time_mask: int = Field(
        0, ge=0, description="SpecAugment: two stretches of at most this length are blanked [frames]"
    )
    freq_mask: int = Field(0, ge=0, description="SpecAugment: two ranges of at most this width are blanked [bands]")
    mixup: float = Field(
        0.0, ge=0, description="alpha of mixup's Beta distribution: clips are mixed in pairs, labels too"
    )

    @property
    def on(self) -> Iterator[str]:
        """The keys that are set."""
        return (name for name in type(self).model_fields if getattr(self, name))
