"""Predictions as lines: CSV, one for each class that is shown, or JSON, one for each clip or window."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Literal

from rich.console import Console

from audioclf.console import ProgressBar, progress_bar, stderr
from audioclf.errors import UserError
from audioclf.files import cannot_write, replacing
from audioclf.predict.model import Answer, Prediction
from audioclf.predict.sounds import CROPPED

COLUMNS = ("clip", "file", "start", "end", "rank", "class", "score", "predicted", "status", "reason")

Format = Literal["csv", "jsonl"]


@contextmanager
def opened(out: Path | None) -> Iterator[BinaryIO]:
    """A file that is there whole or not at all; standard output where none is named.

    Raises:
        UserError: it cannot be written.
    """
    if out is None:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    if out.is_dir():
        raise UserError(f"{out}: a folder; expected a file's name", f"--out {out / 'predictions.csv'}")
    try:
        with replacing(out) as file:
            yield file
    except BrokenPipeError:
        raise
    except OSError as error:
        raise cannot_write(str(out), error) from error


def header(form: Format) -> bytes:
    """What comes before the first line."""
    return _csv([COLUMNS]) if form == "csv" else b""


def line_of(prediction: Prediction, form: Format) -> bytes:
    """A prediction's lines, UTF-8; a file name that is none keeps its bytes in CSV."""
    start, end = _seconds(prediction.start), _seconds(prediction.end)
    clip = "" if prediction.clip == prediction.file else prediction.clip
    if form == "csv":
        before = (clip, prediction.file, start, end)
        after = (prediction.status, prediction.reason)
        rows = [
            (*before, rank, score.name, f"{score.score:.6f}", int(score.predicted), *after)
            for rank, score in enumerate(prediction.top, 1)
        ]
        return _csv(rows or [(*before, "", "", "", "", *after)])
    content = {
        "clip": clip,
        "file": prediction.file,
        "start": start,
        "end": end,
        "status": prediction.status,
        "reason": prediction.reason,
        "top": [
            {"class": score.name, "score": round(score.score, 6), "predicted": score.predicted}
            for score in prediction.top
        ],
    }
    return (json.dumps(content, allow_nan=False) + "\n").encode()


@contextmanager
def counted(title: str, clips: int, on: Console) -> Iterator[Tally]:
    """Counts answers as they come, with a progress bar; in the end a line says what became of them.

    Args:
        title: what is being done.
        clips: how many there are.
        on: where progress is shown.
    """
    with progress_bar(title, clips, "clips", on=on) as bar:
        tally = Tally(bar)
        yield tally
    stderr.print(tally.line(), markup=False)


class Tally:
    """Counts answers by their status, for the last line that a person sees, and for the exit code.

    Args:
        bar: shows them.
    """

    def __init__(self, bar: ProgressBar) -> None:
        self.counts = Counter[str]()
        self._bar, self._first = bar, ""
        self._clip: tuple[str, str] | None = None  # of the last answer
        self._heard = True  # whether anything of that clip was of use
        self._useless = 0  # clips before it that were of none
        self._cropped = 0  # of which only the middle was heard

    def add(self, answer: Answer) -> None:
        """Counts one."""
        self.counts[answer.status] += 1
        if not answer.usable and not self._first:
            self._first = answer.reason if answer.file in answer.reason else f"{answer.file}: {answer.reason}"
        clip = (answer.file, answer.clip)
        if clip != self._clip:
            self._useless += not self._heard
            self._bar.advance(self._clip is not None)  # the one before has ended
            self._clip, self._heard = clip, False
        self._heard |= answer.usable
        self._bar.advance(0, "" if answer.end is None else f"{answer.end:.0f} s of {Path(answer.file).name}")
        self._cropped += CROPPED in answer.reason

    @property
    def bad(self) -> bool:
        """Whether a clip was of no use, or broke off; silence within a recording is no fault of it."""
        return bool(self.counts["failed"]) or self._useless > 0 or not self._heard

    def line(self) -> str:
        """E.g. ``14 ok, 1 silent, 1 failed; of 3 only the middle counts (...); not of use, the first: ...``."""
        words = ", ".join(f"{count} {status}" for status, count in self.counts.items()) or "nothing to do"
        if self._cropped:
            words += f"; of {self._cropped} {CROPPED} (--timeline hears all)"
        return f"{words}; not of use, the first: {self._first}" if self._first else words


def _csv(rows: Sequence[Sequence[object]]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode("utf-8", "surrogateescape")


def _seconds(value: float | None) -> float | None:
    """To a tenth of a millisecond, so that 0.1 + 0.2 reads as people write it."""
    return None if value is None else round(value, 4)
