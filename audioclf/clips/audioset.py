"""AudioSet's classes: its tables name them by mids, a list beside the tables says what a mid is called."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from audioclf.clips.rows import RowError, read_rows
from audioclf.errors import UserError

CLASS_LABELS = "class_labels_indices.csv"

_MID = re.compile(r"/[a-z]+/\w+")  # /m/09x0r, /t/dd00088


def read_class_labels(path: Path) -> dict[str, str]:
    """Mid → display name.

    Args:
        path: CSV with the columns ``mid`` and ``display_name``, as AudioSet publishes it.

    Raises:
        UserError: the file cannot be read, or is no such list.
    """
    names: dict[str, str] = {}
    for line, row in read_rows(path):
        if not row.get("mid") or not row.get("display_name"):
            raise UserError(f"{path}:{line}: expected the columns mid and display_name, both filled")
        names[row["mid"]] = row["display_name"]
    return names


def display_names(table: Path, class_labels: Path | None) -> Callable[[str], str]:
    """What turns a mid of a segment table into the class's display name.

    What does not look like a mid is taken for a name already. A mid that the list does not have makes its row a bad
    one: kept as it is, it would be a class of its own beside the one that it means.

    Args:
        table: of segments, for messages.
        class_labels: AudioSet's list of classes, or None where there is none.

    Raises:
        UserError: the list cannot be read; or, from what is returned, there is no list and a mid to be looked up.
    """
    names = {} if class_labels is None else read_class_labels(class_labels)

    def name_of(label: str) -> str:
        if not _MID.fullmatch(label):
            return label
        if class_labels is None:
            raise UserError(
                f"{table}: its classes are mids like {label}, and there is no {CLASS_LABELS} beside it to name them",
                f"data.class_labels=FILE says where AudioSet's {CLASS_LABELS} is",
            )
        if label not in names:
            raise RowError("labels", f"{label} is no class of {class_labels}")
        return names[label]

    return name_of
