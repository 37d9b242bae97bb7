"""What a person names on a command line: files, folders and tables, as clips."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from audioclf.clips.clip import Clip
from audioclf.clips.folder import list_folder
from audioclf.clips.table import UNLABELLED, Layout, read_table

TABLES = frozenset({".csv", ".tsv", ".parquet"})

Refused = tuple[Clip, str]
"""What can be no clip, and why."""


def find_clips(names: Iterable[str | Path]) -> tuple[list[Clip], list[Refused]]:
    """The clips that files, folders (with those below them) and tables hold, in the order in which they are named.

    A file that is not there is a clip, too: what is wrong with it is said in its place.

    Args:
        names: a table ends in .csv, .tsv or .parquet, and is read as ``data=csv`` does, but needs no labels.

    Returns:
        Clips, without labels where none are known, and what cannot be one: bad rows of tables, folders without audio.

    Raises:
        UserError: a table that cannot be read.
    """
    clips: list[Clip] = []
    refused: list[Refused] = []
    for name in names:
        path = Path(name)
        if path.suffix.lower() in TABLES:
            found, bad = read_table(path, layout=Layout(needs_label=False))
            clips += [replace(clip, labels=()) if clip.labels == (UNLABELLED,) else clip for clip in found]
            refused += [(of_file(path), f"bad_row: {row}") for row in bad]
            if not found and not bad:
                refused.append((of_file(path), "empty: a table without rows"))
        elif path.is_dir():
            files = list_folder(path)
            clips += map(of_file, files)
            if not files:
                refused.append((of_file(path), "missing: no audio files in this folder"))
        else:
            clips.append(of_file(path, str(name)))
    return clips, refused


def of_file(path: Path, name: str = "") -> Clip:
    """A whole file as a clip, named as the person named it."""
    name = name or str(path)
    return Clip(id=name, source=name, start=0.0, end=None, labels=(), group=name)
