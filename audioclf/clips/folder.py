"""Reader for a folder per class: ``root/<class>/**/<file>``, or ``root/<split>/<class>/**/<file>``."""

from __future__ import annotations

from pathlib import Path

from audioclf.clips.clip import Clip, safe_name
from audioclf.clips.rows import SPLIT_NAMES, BadRow, unique_ids
from audioclf.errors import UserError

_ENDINGS = "aac aif aiff au caf flac m4a mka mkv mov mp3 mp4 oga ogg opus w64 wav webm wma"
AUDIO_SUFFIXES = frozenset(f".{ending}" for ending in _ENDINGS.split())


def list_folder(root: Path) -> list[Path]:
    """The audio files below ``root`` by their endings, sorted; hidden ones are passed over."""
    files = (p for p in root.rglob("*") if p.suffix.lower() in AUDIO_SUFFIXES and p.is_file())
    return sorted(p for p in files if not any(part.startswith(".") for part in p.relative_to(root).parts))


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
