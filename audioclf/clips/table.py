"""Reader for any table of clips.

Columns: ``path``, ``url`` or ``youtube_id``; ``label`` (one class name, taken as it is) or ``labels`` (several,
separated by ``|``, ``;`` or ``,``: the first of these that occurs in the cell); optionally ``start`` and ``end`` in
seconds, ``annotation``, ``split``, ``fold``, ``group`` and ``id``. Other columns are passed over.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from urllib.parse import urlsplit

from audioclf.clips.clip import Clip, safe_name
from audioclf.clips.links import is_url, recording_id, youtube_link
from audioclf.clips.parquet import is_parquet, parquet_columns, read_parquet
from audioclf.clips.rows import (
    BadRow,
    Row,
    RowError,
    fold_of,
    interval,
    named_once,
    need,
    need_no_extra,
    pick,
    printable,
    read_cells,
    seen_from,
    short_hash,
    split_of,
    unique_ids,
)
from audioclf.errors import UserError, nearest, shown

SOURCES = ("path", "url", "youtube_id")  # where several are filled, the first is taken
COLUMNS = (*SOURCES, "start", "end", "label", "labels", "annotation", "split", "fold", "group", "id")
UNLABELLED = "unlabelled"
"""The one label of clips whose table has no column of classes: they can be fetched, but not trained on."""


def as_it_is(label: str) -> str:
    """The label that a cell names: itself."""
    return label


@dataclass(frozen=True)
class Layout:
    """How a table says what a clip is.

    Attributes:
        columns: our name → the table's, where they differ.
        header: what the columns of a table without a header line are called; None: its first line says it.
        comments: lines that begin with ``#`` and a space are none of the table.
        separators: of several labels in a cell; the first that occurs in it.
        label_of: the label that a part of a cell names.
        needs_label: a table without a column of classes is refused; else its clips are :data:`UNLABELLED`.
        clip_seconds: length of a clip where there is a column of starts and none of ends; None: to the end [s].
        captions: rows of one segment are one clip with several annotations, a line each.
    """

    columns: Mapping[str, str] = field(default_factory=dict)
    header: Sequence[str] | None = None
    comments: bool = False
    separators: str = "|;,"
    label_of: Callable[[str], str] = as_it_is
    needs_label: bool = True
    clip_seconds: float | None = None
    captions: bool = False


def read_table(
    table: Path, audio_dir: Path | None = None, layout: Layout | None = None
) -> tuple[list[Clip], list[BadRow]]:
    """Reads a table of clips.

    Args:
        table: CSV (comma or semicolon) or TSV, UTF-8; or Parquet.
        audio_dir: what relative paths start from; None: the table's folder.
        layout: how the table is written; None: a header with our own names.

    Returns:
        The clips in the table's order, and the rows that cannot be clips.

    Raises:
        UserError: the table is unreadable, or lacks a column that no row can do without.
    """
    layout = layout or Layout()
    base = (audio_dir or table.parent).absolute()
    columns = _find_columns(table, layout)
    clip_of = _reader(base, columns, layout)
    clips: list[Clip] = []
    lines = array("q")  # of the clips
    bad: list[BadRow] = []
    places: dict[tuple[str, float, float | None], int] = {}
    for line, row in _rows(table, columns, layout):
        try:
            recording, clip = clip_of(row)
            place = places.setdefault((recording, clip.start, clip.end), len(clips))
            if place == len(clips):
                clips.append(clip)
                lines.append(line)
            elif layout.captions and clip.labels == clips[place].labels:
                both = "\n".join(filter(None, (clips[place].annotation, clip.annotation)))
                clips[place] = replace(clips[place], annotation=both)
            else:
                raise RowError(_source_column(row), f"the same segment stands in line {lines[place]}")
        except RowError as error:
            bad.append(BadRow(table, line, columns.get(error.column, error.column), error.reason))
    del places  # which is large where the table is, as is what unique_ids needs
    return unique_ids(clips, base), bad


def header_of(table: Path) -> list[str]:
    """The cells of a table's first line, or the names of a Parquet table's columns; lower-cased.

    Raises:
        UserError: the table cannot be read, or names a column twice.
    """
    if is_parquet(table):
        return named_once(table, 1, parquet_columns(table))
    return named_once(table, *next(read_cells(table)))


def _find_columns(table: Path, layout: Layout) -> dict[str, str]:
    """Our name → the table's, for the columns that there are."""
    header = layout.header or header_of(table)
    there = shown(", ".join(header))
    columns = {}
    claimed = {theirs.lower().strip() for ours, theirs in layout.columns.items() if ours in SOURCES}
    for ours in COLUMNS:
        theirs = layout.columns.get(ours, ours).lower().strip()
        if ours in SOURCES and ours not in layout.columns and theirs in claimed:
            continue  # another kind of source stands in the column that is called so
        if theirs in header:
            columns[ours] = theirs
        elif ours in layout.columns:
            guess = nearest(theirs, header)
            raise UserError(
                f"{table}:1: no column {shown(theirs)} (data.columns.{ours}); found {there}",
                f"did you mean data.columns.{ours}={shown(guess)}?" if guess else None,
            )
    for names in (SOURCES, ("label", "labels") if layout.needs_label else ()):
        if names and not any(name in columns for name in names):
            name, guess = next(((n, g) for n in names if (g := nearest(n, header))), (names[0], None))
            wanted = f"{', '.join(names[:-1])} or {names[-1]}"
            hint = f"name it so, or say data.columns.{name}={shown(guess or 'COLUMN')}"
            raise UserError(f"{table}:1: no column {wanted}; found {there}", hint)
    return columns


def _rows(table: Path, columns: Mapping[str, str], layout: Layout) -> Iterator[tuple[int, Row]]:
    """The rows under our names, without the header."""
    if is_parquet(table):
        written = {name.lower(): name for name in parquet_columns(table)}
        yield from read_parquet(table, {ours: written[theirs] for ours, theirs in columns.items()})
        return
    rows = read_cells(table, comments=layout.comments)
    header = list(layout.header or named_once(table, *next(rows)))
    places = {ours: header.index(theirs) for ours, theirs in columns.items()}
    for line, cells in rows:
        if layout.header is None or cells[0].lower() != header[0]:  # some copies of such tables were given a header
            yield line, pick(cells, places, len(header))


def _reader(base: Path, columns: Mapping[str, str], layout: Layout) -> Callable[[Row], tuple[str, Clip]]:
    """What makes of a row its recording's id and its clip."""
    length = layout.clip_seconds if "start" in columns and "end" not in columns else None
    labelled = "label" in columns or "labels" in columns

    @lru_cache(maxsize=65_536)  # rows share their labels, which counts in tables of millions of rows
    def one(text: str) -> tuple[str, ...]:
        return (printable("label", text),)

    @lru_cache(maxsize=65_536)
    def named(part: str) -> str:
        return printable("labels", layout.label_of(part))

    @lru_cache(maxsize=65_536)
    def several(text: str) -> tuple[str, ...]:
        separator = next((s for s in layout.separators if s in text), layout.separators[0])
        parts = [part.strip() for part in text.split(separator)]
        labels = tuple(dict.fromkeys([named(part) for part in parts if part]))
        if not labels:
            raise RowError("labels", f"{text!r} names no class")
        return labels

    def labels_of(row: Row) -> tuple[str, ...]:
        if row.get("label"):
            return one(row["label"])
        return several(need(row, "labels" if "labels" in row else "label")) if labelled else (UNLABELLED,)

    def clip_of(row: Row) -> tuple[str, Clip]:
        need_no_extra(row)
        recording, source, group, name = _source(row, base)
        start, end = interval(row, length)
        if start or end is not None:
            name += f"_{start:g}"
        return recording, Clip(
            id=safe_name(row.get("id") or name),
            source=source,
            start=start,
            end=end,
            labels=labels_of(row),
            annotation=row.get("annotation", ""),
            split=split_of(row),
            fold=fold_of(row),
            group=printable("group", row.get("group") or group),
        )

    return clip_of


def _source_column(row: Row) -> str:
    """The column that says where the recording is: the first that is filled, else the last that there is."""
    there = ""
    for name in SOURCES:
        if name in row:
            there = name
            if row[name]:
                break
    return there


def _source(row: Row, base: Path) -> tuple[str, str, str, str]:
    """The recording's id, its source, its group and the beginning of its clips' ids."""
    column = _source_column(row)
    text = need(row, column)
    if column == "path":
        if is_url(text):
            raise RowError(
                column, f"{text!r} is a link; expected a file (data.columns.url=COLUMN names a column of links)"
            )
        path = base / text
        if path == base or path.name == "..":
            raise RowError(column, f"{text!r} is no file name")
        source = str(path)
        group = seen_from(base, source)  # however the row writes the path
        return source, source, group, str(Path(group).with_suffix("")) if path.is_relative_to(base) else path.stem
    try:
        if column == "youtube_id":
            return text, youtube_link(text), text, text
        if not re.match(r"^https?://[^\s]+$", printable(column, text), re.IGNORECASE):
            raise RowError(column, f"{text!r} is no link; expected http:// or https://")
        recording = recording_id(text)
        if not is_url(recording):
            return recording, text, recording, recording
        return recording, text, recording, f"{Path(urlsplit(recording).path).stem or 'link'}_{short_hash(recording)}"
    except RowError:
        raise
    except ValueError as error:
        reason = str(error) if column == "youtube_id" else f"{text!r} is no link ({error})"
        raise RowError(column, reason) from None
