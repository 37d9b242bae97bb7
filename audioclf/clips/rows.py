"""What readers share: rows of a table checked field by field, bad ones kept with file, line, column and reason."""

from __future__ import annotations

import csv
import hashlib
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from audioclf.clips.clip import Clip
from audioclf.config import SPLITS
from audioclf.errors import UserError

SPLIT_NAMES = {name: name for name in SPLITS} | {
    "training": "train",
    "valid": "val",
    "validation": "val",
    "dev": "val",
    "testing": "test",
    "eval": "test",
    "evaluation": "test",
}

EXTRA = "\0extra"  # where cells without a column are kept until a reader refuses them


@dataclass(frozen=True)
class BadRow:
    """A row that cannot be a clip.

    Attributes:
        file: the table.
        line: its line in the file, from 1.
        column: the column at fault.
        reason: the value found and what was expected.
    """

    file: Path
    line: int
    column: str
    reason: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: column {self.column}: {self.reason}"


class RowError(ValueError):
    """A field that cannot be used; carries the column and the reason."""

    def __init__(self, column: str, reason: str) -> None:
        super().__init__(reason)
        self.column, self.reason = column, reason


Row = Mapping[str, str]


def read_rows(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Yields ``(line number, {column: text})`` of a table with a header; the separator is found in the header.

    Column names are lower-cased and stripped, cells stripped; blank lines are passed over.

    Raises:
        UserError: the file cannot be read, is empty, is no text in UTF-8, or names a column twice.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            header = next((line for line in file if line.strip(" \t\r\n,;")), "")
            if not header:
                raise UserError(f"{path}: empty; expected a header line and a row for each clip")
            delimiter = "\t" if path.suffix == ".tsv" else max(",;\t", key=header.count)
            file.seek(0)
            reader = csv.reader(file, delimiter=delimiter, strict=True)
            columns: list[str] = []
            line = 1
            for cells in reader:
                cells = [cell.strip() for cell in cells]
                if any("\0" in cell for cell in cells):
                    raise UserError(f"{path}:{line}: not text (a zero byte)", "save the table as CSV UTF-8")
                if any(cells) and not columns:
                    columns = [name.lower() for name in cells]
                    twice = sorted(name for name, times in Counter(columns).items() if name and times > 1)
                    if twice:
                        raise UserError(f"{path}:{line}: column {twice[0]} stands twice in the header")
                elif any(cells):
                    cells += [""] * (len(columns) - len(cells))
                    row = dict(zip(columns, cells, strict=False))
                    row[EXTRA] = ",".join(cell for cell in cells[len(columns) :] if cell)
                    yield line, row
                line = reader.line_num + 1
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); expected a table of clips") from None
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path}: not UTF-8 text ({error.reason} at byte {error.start})", "save the table as CSV UTF-8"
        ) from None
    except csv.Error as error:
        raise UserError(f"{path}: not a CSV table: {error}", "check its quotes") from None


def need_no_extra(row: Row) -> None:
    """Refuses a row with more cells than the header has: its values would sit in the wrong columns."""
    if row.get(EXTRA):
        raise RowError(
            "(past the last)", f"{row[EXTRA]!r} has no column; expected quotes around values with separators"
        )


def need(row: Row, column: str) -> str:
    """The text of a column that may not be empty."""
    value = row.get(column, "")
    if not value:
        raise RowError(column, "is empty; expected a value")
    return value


def seconds(row: Row, column: str) -> float | None:
    """A time in seconds (>= 0), or None where the cell is empty."""
    text = row.get(column, "")
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        raise RowError(column, f"{text!r} is no number; expected seconds, e.g. 12.5") from None
    if not math.isfinite(value) or value < 0:
        raise RowError(column, f"{text} is no time; expected seconds >= 0")
    return value


def interval(row: Row) -> tuple[float, float | None]:
    """``start`` (0 where empty) and ``end`` (None where empty: to the end of the recording), in seconds."""
    start, end = seconds(row, "start") or 0.0, seconds(row, "end")
    if end is not None and end <= start:
        raise RowError("end", f"{end:g} s is not after start = {start:g} s")
    return start, end


def split_of(row: Row) -> str | None:
    """The split that the row names, or None."""
    text = row.get("split", "").lower()
    if not text:
        return None
    if text not in SPLIT_NAMES:
        raise RowError("split", f"{text!r} is no split; expected train, val or test")
    return SPLIT_NAMES[text]


def fold_of(row: Row) -> int | None:
    """The fold that the row names (>= 1), or None."""
    text = row.get("fold", "")
    if not text:
        return None
    if not text.isdecimal() or int(text) < 1:
        raise RowError("fold", f"{text!r} is no fold; expected a whole number from 1")
    return int(text)


def unique_ids(clips: Sequence[Clip], base: Path) -> list[Clip]:
    """Adds a hash of the segment to ids that several clips share (also where only upper and lower case differ).

    Args:
        clips: no two of the same segment.
        base: the folder that the table's paths start from; the hashes stay when it is moved.
    """
    counts = Counter(clip.id.lower() for clip in clips)
    return [
        replace(clip, id=f"{clip.id}_{short_hash(f'{seen_from(base, clip.source)}|{clip.start}|{clip.end}')}")
        if counts[clip.id.lower()] > 1
        else clip
        for clip in clips
    ]


def seen_from(base: Path, source: str) -> str:
    """A path below ``base`` as the way from there, with ``/``; any other source as it is."""
    return Path(source).relative_to(base).as_posix() if Path(source).is_relative_to(base) else source


def short_hash(text: str) -> str:
    """Eight hex digits that tell texts apart in names."""
    return hashlib.sha256(text.encode()).hexdigest()[:8]
