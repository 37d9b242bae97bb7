"""The tables that faults are planted into: rows of a CSV file, and the recordings that they name."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

from audioclf.clips.manifest import read_manifest
from audioclf.clips.splits import split_clips
from audioclf.compose import load_config
from audioclf.files import write_text

Waveform = NDArray[np.float64]

CHECKOUT = Path(__file__).parents[2]
SOURCES = ("esc10", "demo")
FOLDS = 5


@dataclass(frozen=True)
class Row:
    """One line of a table.

    Attributes:
        id: of the clip.
        path: of its file.
        start: in seconds.
        end: in seconds; None: to the file's end.
        labels: class names, the one that is trained on first.
        split: train, val or test.
        group: the recording.
    """

    id: str
    path: Path
    start: float
    end: float | None
    labels: tuple[str, ...]
    split: str
    group: str

    @property
    def label(self) -> str:
        """The first label."""
        return self.labels[0]


def source_overrides(source: str) -> list[str]:
    """What names a source on the command line: ESC-10 lies in $AUDIOCLF_DATA, else in ../shared/data."""
    if source == "demo":
        return ["data=demo"]
    root = Path(os.environ.get("AUDIOCLF_DATA") or CHECKOUT.parent / "shared" / "data") / source
    return [f"data={source}", f"data.root={root.absolute()}"]


def source_rows(source: str, fold: int, cache: Path, overrides: Sequence[str] = ()) -> list[Row]:
    """The rows of a source without a fault, in the splits that audioclf gives it.

    Args:
        source: ``esc10`` (its five official folds) or ``demo`` (five grouped folds, made by audioclf).
        fold: that test is, from 1.
        cache: where the demo's recordings lie.
        overrides: more settings of the source, e.g. ``data.num_classes=4``.
    """
    config = load_config([*source_overrides(source), f"data.fold={fold}", *overrides])
    parts = split_clips(read_manifest(config.data, cache).clips, config.data).parts()
    return [
        Row(clip.id, Path(clip.source), clip.start, clip.end, clip.labels, split, clip.group)
        for split, clips in parts.items()
        for clip in clips
    ]


def write_rows(rows: Sequence[Row], table: Path) -> None:
    """Writes a table as a user would: path, start, end, labels, split, group, id."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["path", "start", "end", "labels", "split", "group", "id"])
    for row in rows:
        end = "" if row.end is None else row.end
        writer.writerow([row.path, row.start, end, "|".join(row.labels), row.split, row.group, row.id])
    write_text(table, text.getvalue())


def read_sound(row: Row) -> tuple[Waveform, int]:
    """A row's samples ``[n]``, mono, in [-1, 1], and their rate in Hz."""
    with soundfile.SoundFile(row.path) as file:
        rate = file.samplerate
        file.seek(round(row.start * rate))
        count = -1 if row.end is None else round((row.end - row.start) * rate)
        return file.read(count, dtype="float64", always_2d=True).mean(1), rate


def write_sound(file: Path, samples: Waveform, rate: int) -> Path:
    """Writes samples ``[n]`` in [-1, 1] as a 16-bit WAV file; louder ones are cut."""
    file.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(file, np.clip(samples, -1, 1), rate, subtype="PCM_16")
    return file


def level(samples: Waveform) -> float:
    """Root mean square in dB below full scale."""
    return float(10 * np.log10(np.mean(samples**2) + 1e-20))
