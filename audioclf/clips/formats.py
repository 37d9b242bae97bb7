"""Tables by the ``data`` section: our own columns, named ones, or as AudioSet, VGGSound and AudioCaps publish them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from pathlib import Path

from audioclf.clips.audioset import CLASS_LABELS, display_names
from audioclf.clips.clip import Clip
from audioclf.clips.links import youtube_link
from audioclf.clips.parquet import is_parquet
from audioclf.clips.rows import SPLIT_NAMES, BadRow, read_cells
from audioclf.clips.table import SOURCES, Layout, header_of, read_table
from audioclf.config import CsvData, LinksData
from audioclf.errors import UserError

AUDIOSET = ("ytid", "start_seconds", "end_seconds", "positive_labels")
VGGSOUND = ("youtube_id", "start", "label", "split")
LOOKED_AT = 5  # rows, of which one may be bad
AUDIOCAPS = {"youtube_id": "youtube_id", "start": "start_time", "annotation": "caption"}


def read_csv(data: CsvData | LinksData, *, needs_label: bool = True) -> tuple[list[Clip], list[BadRow], str]:
    """Reads the table that the ``data`` section names.

    Args:
        data: the section.
        needs_label: whether ``data=csv`` refuses a table without a column of classes, as ``data=links`` never does.

    Returns:
        The clips in the table's order, the rows that cannot be clips, and the published format that a table of links has.

    Raises:
        UserError: the table is unreadable, not of the format that ``data.format`` says, or lacks a column.
    """
    form, layout = "", Layout(data.columns.given(), needs_label=needs_label)
    if isinstance(data, LinksData):
        form = format_of(data)
        layout = layout_of(data, form)
    clips, bad = read_table(Path(data.csv), Path(data.audio_dir) if data.audio_dir else None, layout)
    return clips, bad, form


def format_of(data: LinksData) -> str:
    """``data.format``, or for ``auto`` the format that the table's first lines have.

    AudioSet: no header, and an id, two numbers and labels in a row. VGGSound: no header, and an id, a number, a label
    and a split. AudioCaps: a header with youtube_id, start_time and caption. Else, and wherever ``data.columns`` says
    which column is the source, the columns are taken by their names.

    Raises:
        UserError: the table cannot be read.
    """
    if data.format != "auto":
        return data.format
    table, given = Path(data.csv), data.columns.given()
    if any(name in given for name in SOURCES):
        return "columns"
    if not given and not is_parquet(table):
        first = [cells for _, cells in itertools.islice(read_cells(table, comments=True), LOOKED_AT)]
        has_header = not any(map(_is_number, first[0]))
        if tuple(name.lower() for name in first[0]) == AUDIOSET or (not has_header and any(map(_is_audioset, first))):
            return "audioset"
        if not has_header and any(map(_is_vggsound, first)):
            return "vggsound"
    return "audiocaps" if set(AUDIOCAPS.values()) <= set(header_of(table)) else "columns"


def layout_of(data: LinksData, form: str) -> Layout:
    """How a table of that format is written.

    Raises:
        UserError: ``data.columns`` for a format whose tables have no header, or AudioSet's list of classes is unreadable.
    """
    given = data.columns.given()
    if form in ("audioset", "vggsound") and given:
        key, value = next(iter(given.items()))
        raise UserError(
            f"data.columns.{key}={value}: tables of format {form} have no header to look it up in",
            "data.format=columns reads any table with a header",
        )
    if form == "audioset":
        columns = dict(zip(("youtube_id", "start", "end", "labels"), AUDIOSET, strict=True))
        names = display_names(Path(data.csv), class_labels_of(data, form))
        return Layout(columns, AUDIOSET, comments=True, separators=",", label_of=names)
    if form == "vggsound":
        return Layout(header=VGGSOUND, clip_seconds=data.clip_seconds)
    captions = form == "audiocaps"
    return Layout(
        (AUDIOCAPS if captions else {}) | given,
        needs_label=False,
        clip_seconds=data.clip_seconds,
        captions=captions,
    )


def class_labels_of(data: LinksData, form: str) -> Path | None:
    """The list that names AudioSet's classes: ``data.class_labels``, or the one beside the table where there is one."""
    if form != "audioset":
        return None
    path = Path(data.class_labels) if data.class_labels else Path(data.csv).parent / CLASS_LABELS
    return path if data.class_labels or path.is_file() else None


def _is_audioset(cells: Sequence[str]) -> bool:
    return len(cells) == len(AUDIOSET) and _is_id(cells[0]) and _is_number(cells[1]) and _is_number(cells[2])


def _is_vggsound(cells: Sequence[str]) -> bool:
    return (
        len(cells) == len(VGGSOUND)
        and _is_id(cells[0])
        and _is_number(cells[1])
        and not _is_number(cells[2])
        and cells[3].lower() in SPLIT_NAMES
    )


def _is_id(text: str) -> bool:
    try:
        youtube_link(text)
    except ValueError:
        return False
    return True


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False
