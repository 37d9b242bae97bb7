"""Arguments that the commands share."""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Sequence
from pathlib import Path

from audioclf.files import exists

OVERRIDE = re.compile(r"[A-Za-z_]+(?:\.[A-Za-z_]+)*=")


def add_checkpoint(parser: argparse.ArgumentParser) -> None:
    """The model."""
    parser.add_argument("checkpoint", type=Path, metavar="CKPT", help="a run's folder, or its checkpoints/model.ckpt")


def add_model(parser: argparse.ArgumentParser) -> None:
    """The model and where it computes."""
    add_checkpoint(parser)
    parser.add_argument(
        "--device", default="auto", metavar="NAME", help="cpu, cuda, cuda:1 ...; auto: a GPU where there is one"
    )


def add_inputs(parser: argparse.ArgumentParser) -> None:
    """What is heard, and how."""
    parser.add_argument(
        "inputs",
        nargs="+",
        metavar="FILE",
        help="audio files, folders with audio files, tables of clips (.csv, .tsv, .parquet); and KEY=VALUE of what is not "
        "as in training: data.audio_dir=DIR (what a table's paths start from), data.columns.path=NAME, "
        "features.weights=PATH, paths.cache=DIR (where the audio of links was fetched)",
    )
    parser.add_argument(
        "--timeline",
        action="store_true",
        help="each recording in windows of the model's length; else only files longer than ten minutes",
    )
    parser.add_argument(
        "--hop",
        type=positive,
        metavar="S",
        help="a timeline with so much from one window to the next [s]; else a window's length",
    )


def positive(text: str) -> float:
    """A number of seconds > 0.

    Raises:
        ArgumentTypeError: it is none.
    """
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value > 0):
        raise argparse.ArgumentTypeError(f"{text!r}: expected seconds > 0")
    return value


def at_least_one(text: str) -> int:
    """A whole number >= 1.

    Raises:
        ArgumentTypeError: it is none.
    """
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a whole number of at least 1")
    return int(text)


def split_overrides(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Inputs, and overrides of the model's settings: ``KEY=VALUE``, where no file is called so."""
    overrides = [word for word in words if OVERRIDE.match(word) and not exists(Path(word))]
    return [word for word in words if word not in overrides], overrides
