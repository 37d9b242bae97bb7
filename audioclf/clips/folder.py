"""Reader for a folder per class: ``root/<class>/**/<file>``, or ``root/<split>/<class>/**/<file>``."""

from __future__ import annotations

import os
from pathlib import Path

from audioclf.clips.clip import Clip, safe_name
from audioclf.clips.rows import SPLIT_NAMES, BadRow, unique_ids
from audioclf.errors import UserError

_SUFFIXES = "3gp aac aif aiff amr au avi caf flac m4a m4v mka mkv mov mp2 mp3 mp4 mpeg mpg oga ogg opus ts w64 wav weba"
AUDIO_SUFFIXES = frozenset(f".{name}" for name in [*_SUFFIXES.split(), "webm", "wma", "wv"])


def list_folder(root: Path) -> list[Path]:
    """The audio files below ``root`` by their suffixes, sorted; hidden ones are passed over, links are followed."""
    found: list[Path] = []
    seen: set[Path] = set()  # a link to a folder above it would go round for ever
    for folder, folders, files in os.walk(root, followlinks=True):
        real = Path(folder).resolve()
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        paths = (Path(folder, name) for name in files if not name.startswith("."))
        found += [path for path in paths if path.suffix.lower() in AUDIO_SUFFIXES and path.is_file()]
    return sorted(found)


def read_folder(root: Path) -> tuple[list[Clip], list[BadRow]]:
    """Reads a folder per class; every audio file is one clip and its own group.

    Folders named train, val (or valid, validation, dev) and test at the top fix the splits. Files that are cut from
    one recording cannot be known here: a table with a ``group`` column (``data=csv``) says so.

    Raises:
        UserError: no audio file in any class folder.
    """
    root = root.absolute()
    files = list_folder(root)
    tops = {p.relative_to(root).parts[0].lower() for p in files if p.parent != root}
    with_splits = bool(tops) and tops <= set(SPLIT_NAMES)
    depth = 2 if with_splits else 1
    clips = []
    for path in files:
        parts = path.relative_to(root).parts
        if len(parts) <= depth:
            continue  # a file beside the class folders has no class
        name = path.relative_to(root).as_posix()
        clips.append(
            Clip(
                id=safe_name(name.replace(".", "_")),
                source=str(path),
                start=0.0,
                end=None,
                labels=(parts[depth - 1],),
                split=SPLIT_NAMES[parts[0].lower()] if with_splits else None,
                group=name,
            )
        )
    if not clips:
        raise UserError(f"{root}: no audio files in class folders; expected {root.name}/<class>/<file>", None)
    return unique_ids(clips, root), []
