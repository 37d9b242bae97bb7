"""The feature store: one array file for each clip, named by its audio and its front-end, never half-written."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from audioclf.features.frontend import settings_hash
from audioclf.files import remove_stale, replacing, write_text


class FeatureStore:
    """Features on disk: ``root/<front-end hash>/config.json`` and ``root/<front-end hash>/<ab>/<audio sha256>.npy``.

    The name holds all that decides the content, so an array is never stale: other audio or other settings have
    another name. Clips with the same audio share one array.

    Args:
        root: folder of all front-ends.
        settings: what decides the features (:func:`audioclf.features.frontend.front_end_settings`).
        shape: shape of one clip's features.
        dtype: ``"float32"`` or ``"float16"``, on disk; readers always give float32.
    """

    def __init__(self, root: Path, settings: dict[str, Any], shape: tuple[int, ...], dtype: str) -> None:
        self.folder = root / settings_hash(settings)
        self.settings, self.shape, self.dtype = settings, shape, np.dtype(dtype)

    def path(self, sha256: str) -> Path:
        """Where the features of a clip with this audio are or would be."""
        return self.folder / sha256[:2] / f"{sha256}.npy"

    def __contains__(self, sha256: str) -> bool:
        """Whether whole features are there: the file's size is checked, so that a torn one is made again."""
        try:
            size = self.path(sha256).stat().st_size
        except FileNotFoundError:
            return False
        return size == self._file_size

    def write(self, sha256: str, features: np.ndarray) -> None:
        """Stores features of :attr:`shape`; they are there whole or not at all, whenever the process is killed.

        Raises:
            ValueError: another shape, or values that are not finite.
        """
        features = features.astype(self.dtype)
        if features.shape != self.shape or not np.isfinite(features).all():
            raise ValueError(f"features {features.shape} for {sha256} are not finite arrays of {self.shape}")
        path = self.path(sha256)
        with replacing(path) as file:
            np.lib.format.write_array(file, features, version=(1, 0))

    def read(self, sha256: str) -> np.ndarray:
        """The features of one clip, float32.

        Raises:
            FileNotFoundError: they were never extracted.
            ValueError: the file holds something else.
        """
        features = np.load(self.path(sha256), allow_pickle=False)
        if features.shape != self.shape:
            raise ValueError(f"{self.path(sha256)}: {features.shape}, expected {self.shape}")
        return np.asarray(features, dtype=np.float32)

    def read_all(self, sha256s: Sequence[str]) -> torch.Tensor:
        """The features of many clips as one tensor ``[N, *shape]``, float32, filled in place."""
        features = torch.empty((len(sha256s), *self.shape))
        for i, sha256 in enumerate(sha256s):
            features[i] = torch.from_numpy(self.read(sha256))
        return features

    def begin(self) -> None:
        """Makes the folder, says in it what the features are, and removes what a killed extraction left half-written."""
        remove_stale(self.folder, "??/*.npy")
        remove_stale(self.folder)
        if not (self.folder / "config.json").exists():
            write_text(self.folder / "config.json", json.dumps(self.settings, indent=2, sort_keys=True) + "\n")

    @property
    def _file_size(self) -> int:
        return _npy_size(self.shape, self.dtype.str)


class JoinedStore:
    """Two feature stores read as one: a clip's features in both, flattened, one behind the other.

    Args:
        audio: features of the clips' audio.
        text: of their annotations.
    """

    def __init__(self, audio: FeatureStore, text: FeatureStore) -> None:
        self.audio, self.text = audio, text

    @property
    def folder(self) -> Path:
        """Where the features of the audio are."""
        return self.audio.folder

    def read_all(self, keys: Sequence[str]) -> torch.Tensor:
        """The features of many clips ``[N, dim]``, float32; a key is ``AUDIO+TEXT``, the keys of both stores."""
        pairs = [key.split("+") for key in keys]
        audio, text = (
            store.read_all([pair[i] for pair in pairs]).flatten(1) for i, store in enumerate((self.audio, self.text))
        )
        return torch.cat([audio, text], 1)


def _npy_size(shape: tuple[int, ...], dtype: str) -> int:
    """Bytes of a version 1.0 ``.npy`` file of this shape and type."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": dtype, "fortran_order": False, "shape": shape})
    return len(header.getvalue()) + int(np.prod(shape)) * np.dtype(dtype).itemsize
