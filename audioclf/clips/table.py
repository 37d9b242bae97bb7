"""Reader for any table of clips.

Columns: ``path`` or ``url``; ``label`` (one class name, taken as it is) or ``labels`` (several, separated by ``|``,
``;`` or ``,``: the first of these that occurs in the cell); optionally ``start`` and ``end`` in seconds,
``annotation``, ``split``, ``fold``, ``group`` and ``id``. Other columns are passed over.
"""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import urlsplit

from audioclf.clips.clip import Clip, is_url, safe_name
from audioclf.clips.links import recording_id
from audioclf.clips.rows import (
    EXTRA,
    BadRow,
    Row,
    RowError,
    fold_of,
    interval,
    need,
    need_no_extra,
    read_rows,
    seen_from,
    short_hash,
    split_of,
    unique_ids,
)
from audioclf.errors import UserError, nearest

COLUMNS = ("path", "url", "start", "end", "label", "labels", "annotation", "split", "fold", "group", "id")


def read_table(table: Path, audio_dir: Path | None = None) -> tuple[list[Clip], list[BadRow]]:
    """Reads a table of clips.

    Args:
        table: CSV (comma or semicolon) or TSV, UTF-8, with a header.
        audio_dir: what relative paths start from; None: the table's folder.

    Returns:
        The clips in the table's order, and the rows that cannot be clips.

    Raises:
        UserError: the table is unreadable, or lacks a column that no row can do without.
    """
    base = (audio_dir or table.parent).absolute()
    clips: list[Clip] = []
    bad: list[BadRow] = []
    lines: dict[tuple[str, float, float | None], int] = {}
    checked = False
    for line, row in read_rows(table):
        if not checked:
            _check_columns(table, row)
            checked = True
        try:
            clip = _clip(row, base)
            segment = (recording_id(clip.source), clip.start, clip.end)
            if segment in lines:
                raise RowError(
                    "path" if row.get("path") else "url", f"the same segment stands in line {lines[segment]}"
                )
        except RowError as error:
            bad.append(BadRow(table, line, error.column, error.reason))
            continue
        lines[segment] = line
        clips.append(clip)
    return unique_ids(clips, base), bad


def _check_columns(table: Path, row: Row) -> None:
    for pair in (("path", "url"), ("label", "labels")):
        if not any(name in row for name in pair):
            columns = [name for name in row if name != EXTRA]
            guess = nearest(pair[0], columns) or nearest(pair[1], columns)
            raise UserError(
                f"{table}:1: no column {pair[0]} or {pair[1]}; found {', '.join(columns)}",
                f"rename the column {guess} to {pair[0]}" if guess else f"add a column {pair[0]}",
            )


def _clip(row: Row, base: Path) -> Clip:
    need_no_extra(row)
    if row.get("path"):
        path = base / row["path"]
        if path == base or path.name == "..":
            raise RowError("path", f"{row['path']!r} is no file name")
        source = str(path)
        group = seen_from(base, source)  # however the row writes the path
        name = str(Path(group).with_suffix("")) if path.is_relative_to(base) else path.stem
    else:
        source = need(row, "url" if "url" in row else "path")
        if not re.match(r"^https?://[^\s]+$", source, re.IGNORECASE):
            raise RowError("url", f"{source!r} is no link; expected http:// or https://")
        try:
            group = recording_id(source)
        except ValueError as error:
            raise RowError("url", f"{source!r} is no link ({error})") from None
        name = group if not is_url(group) else f"{Path(urlsplit(group).path).stem or 'link'}_{short_hash(group)}"
    start, end = interval(row)
    if start or end is not None:
        name += f"_{start:g}"
    labels = _labels(row)
    return Clip(
        id=safe_name(row.get("id") or name),
        source=source,
        start=start,
        end=end,
        labels=labels,
        annotation=row.get("annotation", ""),
        split=split_of(row),
        fold=fold_of(row),
        group=row.get("group") or group,
    )


def _labels(row: Row) -> tuple[str, ...]:
    if row.get("label"):
        return (row["label"],)
    text = need(row, "labels" if "labels" in row else "label")
    separator = next((s for s in "|;," if s in text), "|")
    labels = tuple(dict.fromkeys(part.strip() for part in text.split(separator) if part.strip()))
    if not labels:
        raise RowError("labels", f"{text!r} names no class")
    return labels
