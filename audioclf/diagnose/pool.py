"""The clips that a diagnosis works on, with their features."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from audioclf.clips.clip import Clip
from audioclf.training.scores import IntArray


@dataclass(frozen=True, eq=False)
class Pool:
    """Some clips of a run's data.

    Attributes:
        clips: N of them.
        split: ``train``, ``val`` or ``test``, of each.
        features: ``[N, *shape]`` as the front-end gave them.
        targets: class index of each ``[N]``.
        groups: the recording of each; copies and overlapping windows under other names are one recording here.
        classes: the label map, K names.
    """

    clips: list[Clip]
    split: list[str]
    features: torch.Tensor
    targets: IntArray
    groups: list[str]
    classes: list[str]

    def __len__(self) -> int:
        return len(self.clips)

    @property
    def ids(self) -> list[str]:
        """The clips' ids."""
        return [clip.id for clip in self.clips]

    @property
    def num_classes(self) -> int:
        """Classes K of the label map."""
        return len(self.classes)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one clip's features."""
        return tuple(self.features.shape[1:])

    def counts(self) -> IntArray:
        """Clips of each class ``[K]``."""
        return np.bincount(self.targets, minlength=self.num_classes).astype(np.int64)

    def take(self, where: np.ndarray) -> Pool:
        """Some of the clips: their places, or a mask ``[N]``."""
        places = np.flatnonzero(where) if where.dtype == bool else where
        return Pool(
            [self.clips[i] for i in places],
            [self.split[i] for i in places],
            self.features[places],
            self.targets[places],
            [self.groups[i] for i in places],
            self.classes,
        )
