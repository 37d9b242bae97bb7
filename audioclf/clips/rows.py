"""What readers share: rows of a table checked field by field, bad ones kept with file, line, column and reason."""

from __future__ import annotations

import csv
import hashlib
import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from audioclf.clips.clip import Clip
from audioclf.config import SPLITS
from audioclf.errors import UserError, shown

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

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")  # what a terminal may take for a command


@dataclass(frozen=True)
class BadRow:
    """A row that cannot be a clip.

    Attributes:
        file: the table.
        line: its line in the file, or its row where the file has no lines (Parquet); from 1.
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
    """A field that cannot be used; carries the column and the reason, cut where the cell is long."""

    def __init__(self, column: str, reason: str) -> None:
        super().__init__(reason)
        self.column, self.reason = column, shown(reason)


Row = Mapping[str, str]


def read_rows(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Yields ``(line number, {column: text})`` of a table with a header; column names are lower-cased.

    Raises:
        UserError: as :func:`read_cells`, or the header names a column twice.
    """
    rows = read_cells(path)
    names = named_once(path, *next(rows))
    columns = {name: place for place, name in enumerate(names)}
    for line, cells in rows:
        yield line, pick(cells, columns, len(names))


def read_cells(path: Path, *, comments: bool = False) -> Iterator[tuple[int, list[str]]]:
    """Yields ``(line number, cells)`` of a CSV or TSV file, its header included; the separator is found in the header.

    Cells are stripped; blank lines are passed over.

    Args:
        path: the table.
        comments: pass over lines that begin with ``#`` and a space, and take quotes also after a separator and a space, as in
            AudioSet's tables.

    Raises:
        UserError: the file cannot be read, is empty, or is no text in UTF-8.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            header = next((line for line in _text(file, path, comments) if line.strip(" \t\r\n,;")), "")
            delimiter = "\t" if path.suffix == ".tsv" else max(",;\t", key=header.count)
            file.seek(0)
            lines = _text(file, path, comments)
            reader = csv.reader(lines, delimiter=delimiter, strict=True, skipinitialspace=comments)
            line, empty = 1, True
            for cells in reader:
                cells = [cell.strip() for cell in cells]
                if any(cells):
                    empty = False
                    yield line, cells
                line = reader.line_num + 1
            if empty:
                raise UserError(f"{path}: empty; expected a header line and a row for each clip")
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); expected a table of clips") from None
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path}: not UTF-8 text ({error.reason} at byte {error.start})", "save the table as CSV UTF-8"
        ) from None
    except csv.Error as error:
        raise UserError(f"{path}: not a CSV table: {error}", "check its quotes") from None


def _text(file: Iterable[str], path: Path, comments: bool) -> Iterator[str]:
    """The lines of a text file, comments made blank so that the rest keep their numbers."""
    for number, line in enumerate(file, start=1):
        if "\0" in line:
            raise UserError(f"{path}:{number}: not text (a zero byte)", "save the table as CSV UTF-8")
        yield "\n" if comments and line.startswith("# ") else line


def named_once(path: Path, line: int, header: Sequence[str]) -> list[str]:
    """The names of a header, lower-cased.

    Raises:
        UserError: one stands twice.
    """
    columns = [name.lower() for name in header]
    twice = sorted(name for name, times in Counter(columns).items() if name and times > 1)
    if twice:
        raise UserError(f"{path}:{line}: column {shown(twice[0])} stands twice in the header")
    return columns


def pick(cells: Sequence[str], columns: Mapping[str, int], width: int) -> dict[str, str]:
    """The cells at the places that ``columns`` names; what lies past ``width`` is kept under :data:`EXTRA`."""
    there = len(cells)
    row = {name: cells[place] if place < there else "" for name, place in columns.items()}
    if there > width:
        row[EXTRA] = ",".join(cell for cell in cells[width:] if cell)
    return row


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


def printable(column: str, text: str) -> str:
    """``text`` as it is.

    Raises:
        RowError: it holds control characters: it is going to be printed.
    """
    if _CONTROL.search(text):
        raise RowError(column, f"{text!r} holds control characters; expected one line of text")
    return text


def seconds(row: Row, column: str) -> float | None:
    """A time in seconds (>= 0), or None where the cell is empty."""
    text = row.get(column, "")
    if not text:
        return None
    try:
        value = _number(text)
    except ValueError:
        raise RowError(column, f"{text!r} is no number; expected seconds, e.g. 12.5") from None
    if not math.isfinite(value) or value < 0:
        raise RowError(column, f"{text} is no time; expected seconds >= 0")
    return value


@lru_cache(maxsize=4096)
def _number(text: str) -> float:
    """The number in a cell; rows that say the same share it, which counts in tables of millions of rows."""
    return float(text)


def interval(row: Row, length: float | None = None) -> tuple[float, float | None]:
    """``start`` (0 where empty) and ``end`` (None where empty: to the end of the recording), in seconds.

    Args:
        row: the row.
        length: of the clip, where the table has no ends [s].
    """
    start, end = seconds(row, "start") or 0.0, seconds(row, "end")
    if length is not None:
        end = start + length
        if end == start:
            raise RowError("start", f"{start:g} is no time: {length:g} s after it is the same number")
    elif end is not None and end <= start:
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
