"""The commands beside training: `python -m audioclf import DIR data=csv data.csv=TABLE`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from audioclf import __version__
from audioclf.app import load_config, user_errors
from audioclf.config import DemoData
from audioclf.console import console, stderr
from audioclf.errors import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_OK, UserError


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command.

    Returns:
        0: done; 1: some files could not be taken; 2: bad input (raised as SystemExit); 130: stopped by Ctrl-C.
    """
    parser = argparse.ArgumentParser(prog="audioclf", description="From a table of links to an F1 you can trust.")
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    take = commands.add_parser(
        "import",
        help="take audio that you already hold into the clips of a table",
        description=(
            "Takes audio files of DIR into the clips of a table, through the same checks as everything else. "
            "File names: <id>.*, Y<id>.*, <id>_<start>.*, where id is the clip's or the recording's id."
        ),
    )
    take.add_argument("dir", type=Path, metavar="DIR", help="folder with audio files, searched with its subfolders")
    take.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="as for train.py, e.g. data=csv data.csv=TABLE")
    arguments = parser.parse_args(argv)
    with user_errors():
        try:
            return import_folder(arguments.dir, arguments.overrides)
        except KeyboardInterrupt:
            stderr.print("stopped; what was finished is kept, the same command continues", markup=False)
            return EXIT_INTERRUPTED
    raise AssertionError("unreachable")


def import_folder(folder: Path, overrides: Sequence[str]) -> int:
    """Takes a folder's audio into the clips that the configuration's ``data`` section names.

    Raises:
        UserError: a folder that is not there, or none of its files belongs to a clip.
    """
    from audioclf.audio.importer import import_clips
    from audioclf.audio.ledger import Ledger
    from audioclf.audio.match import match_files
    from audioclf.audio.store import AudioStore
    from audioclf.clips.manifest import read_manifest

    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; expected one with audio files")
    config = load_config(overrides)
    if isinstance(config.data, DemoData):
        raise UserError("data=demo: makes its own recordings; expected a table of yours", "add data=csv data.csv=TABLE")
    cache = Path(config.paths.cache)
    manifest = read_manifest(config.data, cache)
    files = match_files(manifest.clips, folder)
    if not files.pieces:
        example = manifest.clips[0]
        raise UserError(
            f"{folder}: no file in it is named after a clip of {manifest.table}",
            f"expected names like {example.id}.wav or Y{example.group}.wav",
        )
    with Ledger(cache / "ledger.sqlite") as ledger:
        report = import_clips(list(files.pieces), AudioStore(cache / "audio"), ledger, files=files)
    for line in report.summary_lines():
        console.print(line, markup=False)
    return EXIT_OK if not report.unusable else EXIT_FAILED


if __name__ == "__main__":
    sys.exit(main())
