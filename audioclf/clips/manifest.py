"""The manifest: a table of clips, what was left out of it, and how it is read from each format."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from audioclf.clips.clip import Clip
from audioclf.clips.demo import GENERATOR_VERSION, read_demo, write_demo
from audioclf.clips.esc import esc_table, read_esc
from audioclf.clips.folder import list_folder, read_folder
from audioclf.clips.formats import class_labels_of, format_of, read_csv
from audioclf.clips.rows import BadRow
from audioclf.clips.select import Selection, select
from audioclf.config import CsvData, DataConfig, DemoData, EscData, FolderData, LinksData
from audioclf.errors import UserError

SHOWN_ROWS = 5  # bad rows named in an error before "and N more"


@dataclass(frozen=True)
class Manifest:
    """A table of clips as it was read.

    Attributes:
        clips: in the table's order, ids unique, one label each unless ``data.multi_label=keep``.
        table: the file or folder that was read.
        bad_rows: rows left out, with the reason.
        selection: how many clips were left out or made single-label, and by which rule.
        format: the published format that a table of links was found to have; empty for other sources.
        synthetic: whether the recordings are synthesised.
    """

    clips: list[Clip]
    table: Path
    bad_rows: list[BadRow] = field(default_factory=list)
    selection: Selection = field(default_factory=Selection)
    format: str = ""
    synthetic: bool = False

    def lines(self) -> list[str]:
        """What was read and what was left out, for people."""
        form = f" (format {self.format})" if self.format else ""
        lines = [f"{self.table}{form}: {len(self.clips)} clips"]
        if self.bad_rows:
            lines.append(f"{len(self.bad_rows)} bad rows skipped, e.g. {self.bad_rows[0]}")
        return lines + self.selection.lines()


def read_manifest(data: DataConfig, cache: Path) -> Manifest:
    """Reads the clips that the ``data`` section names and chooses; the demo's recordings are synthesised first.

    Args:
        data: the ``data`` section of the configuration.
        cache: folder for the demo's recordings.

    Raises:
        UserError: a table that cannot be read, a bad row (unless ``data.on_bad_row=skip``), a class of ``data.classes``
            that it does not have, clips with several labels (unless ``data.multi_label`` says what to do), or no clips
            at all.
    """
    bad: list[BadRow] = []
    form = ""
    if isinstance(data, DemoData):
        table = write_demo(
            cache
            / "demo"
            / f"{data.num_classes}x{data.recordings_per_class}-seed{data.synthesis_seed}-v{GENERATOR_VERSION}",
            num_classes=data.num_classes,
            recordings_per_class=data.recordings_per_class,
            seed=data.synthesis_seed,
        )
        clips = read_demo(table)
    elif isinstance(data, EscData):
        table = esc_table(Path(data.root))
        clips, bad = read_esc(Path(data.root), esc10_only=data.name == "esc10")
    elif isinstance(data, CsvData | LinksData):
        table = Path(data.csv)
        clips, bad, form = read_csv(data)
    else:
        table = Path(data.root)
        clips, bad = read_folder(table)
    if bad and data.on_bad_row == "error":
        more = f"\nand {len(bad) - SHOWN_ROWS} more bad rows" if len(bad) > SHOWN_ROWS else ""
        raise UserError(
            "\n".join(map(str, bad[:SHOWN_ROWS])) + more, "mend the table, or go on without: data.on_bad_row=skip"
        )
    if clips:
        clips, selection = select(clips, data)
    if not clips:
        raise UserError(f"{table}: no clips in it; expected at least one usable row")
    return Manifest(clips, table, bad, selection, form, isinstance(data, DemoData))


def fingerprint(data: DataConfig) -> str:
    """A hash of what the table says, cheap enough for a run's name: the table's bytes, or the folder's listing.

    For AudioSet's tables the list that names the classes is part of it.

    It sees other rows, labels and files; it does not see audio that changed under an unchanged name. That is seen
    later by the run's data fingerprint, which holds the hash of every clip's samples.
    """
    if isinstance(data, DemoData):
        return GENERATOR_VERSION
    if isinstance(data, FolderData):
        root = Path(data.root)
        listing = "\n".join(f"{p.relative_to(root).as_posix()} {p.stat().st_size}" for p in list_folder(root))
        return hashlib.sha256(listing.encode()).hexdigest()
    files = [esc_table(Path(data.root)) if isinstance(data, EscData) else Path(data.csv)]
    if isinstance(data, LinksData):
        names = class_labels_of(data, format_of(data))
        files += [names] if names else []
    return "+".join(map(_sha256, files))


def _sha256(table: Path) -> str:
    try:
        with table.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UserError(f"{table}: cannot be read ({error.strerror}); expected a table of clips") from None


def class_names(clips: Sequence[Clip]) -> list[str]:
    """The label map: the labels that occur, sorted; a class's index is its place in this list."""
    return sorted({label for clip in clips for label in clip.labels})


def count_by_label(clips: Sequence[Clip]) -> dict[str, int]:
    """Clips per class, sorted by class name; a clip of several classes counts in each."""
    return dict(sorted(Counter(label for clip in clips for label in clip.labels).items()))
