"""Reader for ESC-10 and ESC-50 (K. J. Piczak, "ESC: Dataset for Environmental Sound Classification", 2015).

Either layout: ``meta.csv`` beside ``audio/``, or the publisher's ``meta/esc50.csv``. Columns: filename, fold, target,
category, src_file, take, and esc10 in the publisher's table.
"""

from __future__ import annotations

from pathlib import Path

from audioclf.clips.clip import Clip, safe_name
from audioclf.clips.rows import BadRow, RowError, fold_of, need, read_rows
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
        f"{root}: neither meta.csv nor meta/esc50.csv in it", "data.root=DIR names the folder that holds audio/"
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
    for line, row in read_rows(table):
        if not {"filename", "fold", "category", "src_file"} <= set(row):
            raise UserError(f"{table}:1: not an ESC table; expected the columns filename, fold, category, src_file")
        if esc10_only and row.get("esc10", "true").lower() != "true":
            continue
        try:
            name = need(row, "filename")
            if Path(name).name != name:
                raise RowError("filename", f"{name!r} is no file name")
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
        except RowError as error:
            bad.append(BadRow(table, line, error.column, error.reason))
    return clips, bad
