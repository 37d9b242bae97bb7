"""What a person names on a command line: files, folders and tables, as clips."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from audioclf.clips.clip import Clip
from audioclf.clips.folder import list_folder
from audioclf.clips.formats import read_csv
from audioclf.clips.rows import BadRow
from audioclf.clips.table import UNLABELLED, header_of
from audioclf.config import Columns, Config, CsvData, LinksData
from audioclf.errors import UserError, nearest, shown

TABLES = frozenset({".csv", ".tsv", ".parquet"})
KEYS = ("data.audio_dir", "data.columns.COLUMN", "paths.cache")
"""What may be said anew of a trained model's tables."""

_SAID = re.compile(r"(data\.audio_dir|data\.columns\.\w*|paths\.cache)=(.*)", re.DOTALL)


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
        audio_dir: what relative paths start from; None: of the run's own table as in training, of others their folder.
        columns: our name → the tables', beyond those of training, which hold where a table has them.
    """

    data: CsvData | LinksData
    cache: Path
    audio_dir: Path | None = None
    columns: dict[str, str] = field(default_factory=dict)

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
        tables = cls(data, Path(config.paths.cache))
        for word in overrides:
            key, _, value = word.partition("=")
            ours = key.rpartition(".")[2]
            if key == "data.audio_dir":
                tables = replace(tables, audio_dir=_folder(key, value))
            elif key == "paths.cache":
                tables = replace(tables, cache=_folder(key, value))
            elif ours in Columns.model_fields:
                tables.columns[ours] = value
            else:
                known = list(Columns.model_fields)
                guess = nearest(ours, known)
                raise UserError(
                    f"{shown(word)}: no such column; expected one of {', '.join(known)}",
                    f"did you mean data.columns.{guess}?" if guess else None,
                )
        return tables

    def read(self, table: Path) -> tuple[list[Clip], list[BadRow]]:
        """The clips of a table, :data:`UNLABELLED` where it says no class, and its bad rows.

        Raises:
            UserError: a table that cannot be read, or lacks a column.
        """
        own, columns = _same(table, self.data.csv), self.data.columns.given()
        changes: dict[str, object] = {"csv": str(table)}
        if not own:
            if columns:
                header = header_of(table)
                columns = {ours: theirs for ours, theirs in columns.items() if theirs.lower().strip() in header}
            changes["audio_dir"] = None
            if isinstance(self.data, LinksData):
                changes["format"] = "auto"
                if self.data.class_labels is not None and not Path(self.data.class_labels).is_file():
                    changes["class_labels"] = None
        if self.audio_dir is not None:
            changes["audio_dir"] = str(self.audio_dir)
        changes["columns"] = Columns.model_validate(columns | self.columns)
        clips, bad, _ = read_csv(self.data.model_copy(update=changes), needs_label=False)
        return clips, bad


def is_said(override: str) -> bool:
    """Whether an override is of how tables are read, one of :data:`KEYS`."""
    return _SAID.fullmatch(override) is not None


def find_clips(names: Iterable[str | Path], tables: Tables) -> list[Clip | Refused]:
    """The clips that files, folders (with those below them) and tables hold, in the order in which they are named.

    A file that is not there is a clip, too: what is wrong with it is said in its place.

    Args:
        names: a table ends in .csv, .tsv or .parquet; it needs no labels.
        tables: how those are read.

    Returns:
        Clips, without labels where none are known; behind a table's clips its bad rows; folders without audio.

    Raises:
        UserError: a table that cannot be read.
    """
    found: list[Clip | Refused] = []
    for name in names:
        path = Path(name)
        if path.suffix.lower() in TABLES:
            clips, bad = tables.read(path)
            found += [replace(clip, labels=()) if clip.labels == (UNLABELLED,) else clip for clip in clips]
            found += [Refused(of_file(path), f"bad_row: {row}") for row in bad]
            if not clips and not bad:
                found.append(Refused(of_file(path), "empty: a table without rows"))
        elif path.is_dir():
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


def _folder(key: str, value: str) -> Path:
    if not Path(value).is_dir():
        raise UserError(f"{key}={shown(value)}: no such folder")
    return Path(value)


def _same(table: Path, other: str) -> bool:
    """Whether two paths lead to one file."""
    try:
        return table.samefile(other)
    except OSError:
        return False
