"""What a person names on a command line: files, folders and tables, as clips."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from audioclf.clips.clip import Clip
from audioclf.clips.folder import list_folder
from audioclf.clips.formats import read_csv
from audioclf.clips.rows import BadRow
from audioclf.clips.table import UNLABELLED, header_of
from audioclf.config import Columns, Config, CsvData, LinksData
from audioclf.errors import UserError, nearest, shown
from audioclf.files import is_dir, is_file

TABLES = frozenset({".csv", ".tsv", ".parquet"})
AUDIO_DIR, CACHE, COLUMNS = "data.audio_dir", "paths.cache", "data.columns."
KEYS = (AUDIO_DIR, f"{COLUMNS}COLUMN", CACHE)
"""What may be said anew of a trained model's tables."""


@dataclass(frozen=True)
class Refused:
    """What can be no clip.

    Attributes:
        clip: what was named, as if it were one.
        reason: why it is none.
    """

    clip: Clip
    reason: str


@dataclass(frozen=True)
class Tables:
    """How tables are read: as the run's own was.

    Attributes:
        data: the run's ``data`` section where it was a table, else that of any.
        cache: where audio that is linked to was fetched.
        said: key → value of what is otherwise than in training, those of :data:`KEYS`; None: as audioclf would have it.
    """

    data: CsvData | LinksData
    cache: Path
    said: Mapping[str, str | None] = field(default_factory=dict)

    @classmethod
    def of(cls, config: Config, overrides: Sequence[str]) -> Tables:
        """As a run read them, but for what is said anew.

        Args:
            config: the run's.
            overrides: words for which :func:`is_said` holds, e.g. ``data.audio_dir=DIR``.

        Raises:
            UserError: no such column of ours.
        """
        data = config.data
        if not isinstance(data, CsvData | LinksData):
            data = CsvData.model_validate({"name": "csv", "csv": ""})
        said: dict[str, str | None] = {}
        for word in overrides:
            key, value = key_and_value(word)
            column = key.removeprefix(COLUMNS)
            if column != key and column not in Columns.model_fields:
                known = list(Columns.model_fields)
                guess = nearest(column, known)
                raise UserError(
                    f"{shown(word)}: no such column; expected one of {', '.join(known)}",
                    f"did you mean {COLUMNS}{guess}?" if guess else None,
                )
            said[key] = None if value == "null" else value
        for key, what in ((AUDIO_DIR, "what a table's paths start from"), (CACHE, "where audio was fetched")):
            folder = said.get(key)
            if folder is not None and not is_dir(Path(folder)):
                raise UserError(f"{key}={shown(folder)}: no such folder; expected {what}")
        return cls(data, Path(said.get(CACHE) or config.paths.cache), said)

    def read(self, table: Path) -> tuple[list[Clip], list[BadRow]]:
        """The clips of a table, :data:`UNLABELLED` where it says no class, and its bad rows.

        Raises:
            UserError: a table that cannot be read, or lacks a column.
        """
        columns: dict[str, str | None] = dict(self.data.columns.given())
        changes: dict[str, object] = {"csv": str(table)}
        if not _same(table, self.data.csv):
            if columns:
                header = header_of(table)
                columns = {ours: theirs for ours, theirs in columns.items() if str(theirs).lower().strip() in header}
            changes |= {"audio_dir": None, "format": "auto"}
            labels = getattr(self.data, "class_labels", None)
            changes["class_labels"] = labels if labels and is_file(Path(labels)) else None
        if AUDIO_DIR in self.said:
            changes["audio_dir"] = self.said[AUDIO_DIR]
        columns |= {key.removeprefix(COLUMNS): value for key, value in self.said.items() if key.startswith(COLUMNS)}
        changes["columns"] = Columns.model_validate(columns)
        known = {key: value for key, value in changes.items() if key in type(self.data).model_fields}
        clips, bad, _ = read_csv(self.data.model_copy(update=known), needs_label=False)
        return clips, bad


def key_and_value(override: str) -> tuple[str, str]:
    """Of ``KEY=VALUE``, without the quotes that Hydra wants around some values."""
    key, _, value = override.partition("=")
    return key, re.sub(r"""^(['"])(.*)\1$""", r"\2", value, flags=re.DOTALL)


def is_said(override: str) -> bool:
    """Whether an override is of how tables are read, one of :data:`KEYS`."""
    key = override.partition("=")[0]
    return key in (AUDIO_DIR, CACHE) or key.startswith(COLUMNS)


def find_clips(names: Iterable[str | Path], tables: Tables, *, reads_text: bool = False) -> list[Clip | Refused]:
    """The clips that files, folders (with those below them) and tables hold, in the order in which they are named.

    A file that is not there is a clip, too: what is wrong with it is said in its place.

    Args:
        names: a table ends in .csv, .tsv or .parquet; it needs no labels.
        tables: how those are read.
        reads_text: whether clips of tables need annotations.

    Returns:
        Clips, without labels where none are known; behind a table's clips its bad rows; folders without audio.

    Raises:
        UserError: a table that cannot be read, or has no annotations where they are needed.
    """
    found: list[Clip | Refused] = []
    for name in names:
        path = Path(name)
        if path.suffix.lower() in TABLES:
            clips, bad = tables.read(path)
            if reads_text and clips and not any(clip.annotation for clip in clips):
                raise UserError(
                    f"{path}: no annotations; the model reads them: expected a text for each clip",
                    f"{COLUMNS}annotation=COLUMN says where they are",
                )
            found += [replace(clip, labels=()) if clip.labels == (UNLABELLED,) else clip for clip in clips]
            found += [Refused(of_file(path), f"bad_row: {row}") for row in bad]
            if not clips and not bad:
                found.append(Refused(of_file(path), "empty: a table without rows"))
        elif is_dir(path):
            files = list_folder(path)
            found += map(of_file, files)
            if not files:
                found.append(Refused(of_file(path), "missing: no audio files in this folder"))
        else:
            found.append(of_file(path, str(name)))
    return found


def of_file(path: Path, name: str = "") -> Clip:
    """A whole file as a clip, named as the person named it."""
    name = name or str(path)
    return Clip(id=name, source=name, start=0.0, end=None, labels=(), group=name)


def _same(table: Path, other: str) -> bool:
    """Whether two paths lead to one file."""
    try:
        return table.samefile(other)
    except OSError:
        return False
