"""Reader for ESC-10 and ESC-50 (K. J. Piczak, "ESC: Dataset for Environmental Sound Classification", 2015).

Either layout: ``meta.csv`` beside ``audio/``, or the publisher's ``meta/esc50.csv``. Columns: filename, fold, target,
category, src_file, take, and esc10 in the publisher's table.
"""

from __future__ import annotations

from pathlib import Path

from audioclf.clips.clip import Clip, safe_name
from audioclf.clips.rows import BadRow, RowError, fold_of, need, read_rows, unique_ids
from audioclf.errors import UserError


def esc_table(root: Path) -> Path:
    """The table of an ESC folder.

    Raises:
        UserError: there is none.
    """
    for name in ("meta.csv", "meta/esc50.csv", "meta/esc10.csv"):
        if (root / name).is_file():
            return root / name
    raise UserError(
        f"data.root={root}: neither meta.csv nor meta/esc50.csv in it; expected ESC-10 or ESC-50",
        "data.root=DIR names the folder that holds audio/",
    )


def read_esc(root: Path, *, esc10_only: bool) -> tuple[list[Clip], list[BadRow]]:
    """Reads the official folds; the source recording is the group.

    Args:
        root: folder with ``audio/`` and the table.
        esc10_only: where the table marks the ten classes of ESC-10, take only those.

    Raises:
        UserError: no table, or one without ESC's columns.
    """
    table = esc_table(root)
    clips: list[Clip] = []
    bad: list[BadRow] = []
    lines: dict[str, int] = {}
    for line, row in read_rows(table):
        if not {"filename", "fold", "category", "src_file"} <= set(row):
            raise UserError(f"{table}:1: not an ESC table; expected the columns filename, fold, category, src_file")
        if esc10_only and row.get("esc10", "true").lower() != "true":
            continue
        try:
            name = need(row, "filename")
            if Path(name).name != name:
                raise RowError("filename", f"{name!r} is no file name")
            if name in lines:
                raise RowError("filename", f"the same file stands in line {lines[name]}")
            clips.append(
                Clip(
                    id=safe_name(Path(name).stem),
                    source=str((root / "audio" / name).absolute()),
                    start=0.0,
                    end=None,
                    labels=(need(row, "category"),),
                    fold=fold_of(row),
                    group=need(row, "src_file"),
                )
            )
            lines[name] = line
        except RowError as error:
            bad.append(BadRow(table, line, error.column, error.reason))
    return unique_ids(clips, root.absolute()), bad
