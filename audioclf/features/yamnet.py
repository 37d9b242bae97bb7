"""Embeddings by YAMNet (M. Plakal and D. Ellis, 2020), run by LiteRT, 8-bit integers and all."""

from __future__ import annotations

import os
import sys
import tempfile
import threading
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch

from audioclf.config import YamnetConfig
from audioclf.errors import UserError, shown
from audioclf.features.embedding import pooled
from audioclf.features.frontend import FrontEnd, centred
from audioclf.weights import needs, weights_file

RATE = 16_000  # Hz
WINDOW = 15_600  # samples: 0.975 s
HOP = WINDOW // 2
DIM = 1024
EMBEDDING = "layer28/reduce_mean"  # ending of the tensor's name
OWN = "leave features.weights out: YAMNet's own are downloaded"
GREETING = b"INFO: Created TensorFlow Lite XNNPACK delegate"


class Yamnet(FrontEnd):
    """1,024 numbers for each window of 0.975 s, every 0.4875 s; what is behind the last whole window gets silence.

    Args:
        config: the ``features`` section.
    """

    version = "1"
    sample_rate = RATE
    outside = "LiteRT runs it"

    def __init__(self, config: YamnetConfig) -> None:
        super().__init__()
        self.config = config
        samples = max(round(config.seconds * RATE), WINDOW)
        self.windows = 1 + -(-(samples - WINDOW) // HOP)
        self.output_shape = {"sequence": (DIM, self.windows), "mean_max": (2 * DIM,)}.get(config.pool, (DIM,))
        self._own = threading.local()

    def fit_length(self, waveform: torch.Tensor) -> torch.Tensor:
        """Waveform ``[n]`` padded with silence at the end, or cropped to its centre, to a whole number of windows."""
        return centred(centred(waveform, round(self.config.seconds * RATE)), WINDOW + (self.windows - 1) * HOP)

    def heard(self) -> int:
        """Without the silence that fills the last window."""
        return round(self.config.seconds * RATE)

    def forward(self, waveforms: torch.Tensor) -> torch.Tensor:
        """Waveforms ``[B, n]`` → embeddings ``[B, *output_shape]``, float32, on the CPU.

        Windows of digital silence, which is what short clips are padded with, are left out of means and maxima.
        """
        features = []
        for windows in waveforms.detach().cpu().unfold(1, WINDOW, HOP):
            if self.config.pool != "sequence" and (sounding := windows.any(1)).any():
                windows = windows[sounding]
            states = torch.from_numpy(np.stack([self._embed(window) for window in windows.numpy()], 1))
            features.append(pooled(states, self.config.pool))
        return torch.stack(features)

    def _embed(self, window: np.ndarray) -> np.ndarray:
        """One window ``[15600]`` → its embedding ``[1024]``; LiteRT takes no batches of this model."""
        if not hasattr(self._own, "model"):  # an interpreter is one thread's
            self._own.model = Model(weights_file("features.weights", self.config.weights, self.config.sha256))
        embedding: np.ndarray = self._own.model(window)
        return embedding

    def __getstate__(self) -> dict[str, Any]:
        """Without the interpreters, which stay in their process."""
        return {**self.__dict__, "_own": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """With none yet."""
        self.__dict__.update(state, _own=threading.local())


class Model:
    """YAMNet's file in an interpreter of one thread.

    Args:
        path: the file.

    Raises:
        UserError: LiteRT is not installed, or the file holds another model.
    """

    def __init__(self, path: Path) -> None:
        litert = needs("ai_edge_litert.interpreter", "yamnet", "features=yamnet")
        try:
            with _without_greeting(), warnings.catch_warnings():  # filters, too, are the process's: in the lock
                warnings.simplefilter("ignore")  # it takes the reading of an inner tensor for debugging
                self.interpreter = litert.Interpreter(str(path), num_threads=1, experimental_preserve_all_tensors=True)
                self.interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            raise UserError(
                f"features.weights={path}: no LiteRT model: {shown(error)}; expected YAMNet's", OWN
            ) from error
        (given,) = self.interpreter.get_input_details()
        inner = [part for part in self.interpreter.get_tensor_details() if part["name"].endswith(EMBEDDING)]
        if tuple(given["shape"]) != (WINDOW,) or [part["shape"].prod() for part in inner] != [DIM]:
            raise UserError(
                f"features.weights={path}: another model; expected YAMNet's, which takes {WINDOW} samples "
                f"and has a tensor {EMBEDDING} of {DIM} numbers",
                OWN,
            )
        self.input, self.output = given["index"], inner[0]["index"]
        self.scale, self.zero = inner[0]["quantization"]

    def __call__(self, window: np.ndarray) -> np.ndarray:
        """One window ``[15600]`` at 16 kHz → its embedding ``[1024]``, float32."""
        self.interpreter.set_tensor(self.input, window)
        self.interpreter.invoke()
        found: np.ndarray = self.interpreter.get_tensor(self.output).reshape(-1).astype(np.float32)
        if self.scale:  # of integers: x = scale * (q - zero)
            found = np.float32(self.scale) * (found - np.float32(self.zero))
        return found


@contextmanager
def _without_greeting() -> Iterator[None]:
    """Without the line that each interpreter's C++ writes to the process's stderr; for one thread at a time.

    Where there is no stderr, or no temporary folder, that line is no reason to stop: it stays.
    """
    with _greeted, ExitStack() as stack:
        with suppress(OSError, AttributeError, ValueError):
            stack.enter_context(_stderr_sifted())
        yield


@contextmanager
def _stderr_sifted() -> Iterator[None]:
    """Keeps the process's stderr in a file, and passes on what is no greeting."""
    with tempfile.TemporaryFile() as kept:
        sys.stderr.flush()
        stderr = os.dup(2)
        try:
            os.dup2(kept.fileno(), 2)
            yield
        finally:
            os.dup2(stderr, 2)
            with suppress(OSError):  # nobody reads it any more
                kept.seek(0)
                for line in kept:
                    if not line.startswith(GREETING):
                        os.write(stderr, line)
            os.close(stderr)


_greeted = threading.Lock()  # there is one stderr
