"""Embeddings in TensorBoard's projector: points with labels, and the clips' spectrograms as their pictures."""

from __future__ import annotations

import shutil
from pathlib import Path

import matplotlib
import numpy as np
import numpy.typing as npt
import torch
from torch.utils.tensorboard import SummaryWriter

from audioclf.audio.store import Pcm
from audioclf.errors import UserError
from audioclf.features.extract import as_waveform
from audioclf.features.mel import TorchaudioMel, shown_as
from audioclf.files import cannot_write
from audioclf.predict.model import Embedding, Model

POINTS = 8_000  # what a browser turns round without stuttering; of more, evenly spread ones are shown
PIXELS = 64  # of a thumbnail, each way: with POINTS of them the sprite stays within the 8,192 that browsers take
RANGE_DB = 80.0  # below a clip's loudest moment all is black
CONFIG = "projector_config.pbtxt"
SUFFIX = ".projector"  # of its events file

Thumbnail = npt.NDArray[np.uint8]
"""``[PIXELS, PIXELS, 3]``."""


class Projector:
    """Collects embeddings and writes them for TensorBoard.

    Args:
        folder: to write to: new or empty, or of an earlier projector, which is replaced.
        model: whose they are.

    Raises:
        UserError: the folder holds something else.
    """

    def __init__(self, folder: Path, model: Model) -> None:
        if folder.exists() and not folder.is_dir():
            raise UserError(f"--projector {folder}: a file; expected a folder")
        if folder.is_dir() and any(folder.iterdir()) and not (folder / CONFIG).exists():
            raise UserError(f"--projector {folder}: holds something else; expected a new folder", "name another")
        self.folder = folder
        shown = shown_as(model.module.config.features)
        self._mel = TorchaudioMel(shown.model_copy(update={"scale": "db"}))
        self._rows: list[tuple[list[str], npt.NDArray[np.float32], Thumbnail]] = []
        self._seen, self._step = 0, 1

    def thumbnail(self, pcm: Pcm) -> Thumbnail:
        """A sound's spectrogram as a small picture: time to the right, low frequencies below, black to light."""
        waveform = self._mel.fit_length(as_waveform(pcm, self._mel.sample_rate))
        mel = self._mel(waveform[None])[None]
        small = torch.nn.functional.interpolate(mel, (PIXELS, PIXELS), mode="area")[0, 0].flip(0)
        level = ((small - small.max()) / RANGE_DB + 1).clamp(0, 1)
        painted: Thumbnail = matplotlib.colormaps["magma"](level.numpy(), bytes=True)[:, :, :3]
        return painted

    def add(self, embedding: Embedding) -> None:
        """Takes one more; what could not be heard is passed over."""
        if embedding.vector is None:
            return
        if self._seen % self._step == 0:
            label = ", ".join(embedding.labels) or "?"
            row = [label, embedding.clip, f"{embedding.start:.3f}"]
            self._rows.append(([_cell(text) for text in row], embedding.vector, embedding.picture))
            if len(self._rows) > POINTS:  # every other one, from here on as well
                self._rows, self._step = self._rows[::2], 2 * self._step
        self._seen += 1

    def write(self) -> str:
        """Writes them; a line for people.

        Raises:
            UserError: nothing to show, or the folder cannot be written.
        """
        if not self._rows:
            raise UserError(f"--projector {self.folder}: no sound could be embedded", "see the table's reasons")
        rows, vectors, pictures = zip(*self._rows, strict=True)
        images = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float() / 255
        try:
            self._clean()
            with SummaryWriter(str(self.folder), filename_suffix=SUFFIX) as writer:
                writer.add_embedding(
                    torch.from_numpy(np.stack(vectors)),
                    metadata=list(rows),
                    label_img=images,
                    tag="embeddings",
                    metadata_header=["label", "clip", "start"],
                )
        except OSError as error:
            raise cannot_write(f"in {self.folder}", error) from error
        some = "" if self._step == 1 else f" of {self._seen}"
        return f"{len(rows)}{some} points: tensorboard --logdir {self.folder}, then Projector"

    def _clean(self) -> None:
        """Removes what an earlier projector wrote here, and nothing else."""
        (self.folder / CONFIG).unlink(missing_ok=True)
        shutil.rmtree(self.folder / "00000", ignore_errors=True)  # of step 0
        for events in self.folder.glob(f"*{SUFFIX}"):
            events.unlink()


def _cell(text: str) -> str:
    """Without what would begin another cell or row."""
    return " ".join(text.split()).encode("utf-8", "replace").decode() or "?"
