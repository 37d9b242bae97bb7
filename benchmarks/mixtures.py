"""`python -m benchmarks.mixtures FOLDER`: pairs of ESC-10's clips that sound at once, with both labels in the table.

Mixed are clips of two classes of one official fold, whole recordings with one another, and each clip once: half as
many clips, and folds stay apart. ESC-10 lies in $AUDIOCLF_DATA/esc10 or ../shared/data/esc10.
"""

from __future__ import annotations

import csv
import io
import sys
from pathlib import Path

import numpy as np

from audioclf.clips.manifest import read_manifest
from audioclf.compose import load_config
from audioclf.console import console
from audioclf.files import write_text
from benchmarks.planted_faults.changes import mix_pairs
from benchmarks.planted_faults.tables import Row, source_overrides

SEED = 0  # of who is mixed with whom


def write_mixtures(folder: Path) -> Path:
    """Writes the sounds and their table, ``FOLDER/clips.csv``: path, labels, fold, group, id."""
    clips = read_manifest(load_config(source_overrides("esc10")).data, folder).clips
    rows = [  # what is mixed stays in its split: here the fold
        Row(clip.id, Path(clip.source), clip.start, clip.end, clip.labels, str(clip.fold), clip.group) for clip in clips
    ]
    mixed = mix_pairs(rows, np.random.default_rng(SEED), folder / "audio", both_labels=True)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["path", "labels", "fold", "group", "id"])
    for row in mixed:
        writer.writerow([row.path.relative_to(folder), "|".join(row.labels), row.split, row.group, row.id])
    table = folder / "clips.csv"
    write_text(table, text.getvalue())
    return table


def main(words: list[str]) -> int:
    """Writes the mixtures into the folder that is named."""
    if len(words) != 1 or words[0].startswith("-"):
        console.print(f"usage: {(__doc__ or '').splitlines()[0]}", markup=False)
        return 0 if words in (["-h"], ["--help"]) else 2
    table = write_mixtures(Path(words[0]))
    console.print(f"{table}: {len(table.read_text().splitlines()) - 1} mixtures", markup=False, soft_wrap=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
