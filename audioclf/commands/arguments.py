"""Arguments that the commands share."""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from audioclf.audio.store import Pcm
    from audioclf.predict.model import Model
    from audioclf.predict.sounds import Listener

OVERRIDE = re.compile(r"(?:features|model)\.[A-Za-z_.]+=")


def add_model(parser: argparse.ArgumentParser) -> None:
    """The model and where it computes."""
    parser.add_argument("checkpoint", type=Path, metavar="CKPT", help="a run's folder, or its checkpoints/model.ckpt")
    parser.add_argument(
        "--device", default="auto", metavar="NAME", help="cpu, cuda, cuda:1 ...; auto: a GPU where there is one"
    )


def add_inputs(parser: argparse.ArgumentParser) -> None:
    """What is heard, and how."""
    parser.add_argument(
        "inputs",
        nargs="+",
        metavar="FILE",
        help="audio files, folders with audio files, tables of clips (.csv, .tsv, .parquet); and, where weights of the "
        "front-end lie elsewhere now, features.weights=PATH",
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


def listener_of(arguments: argparse.Namespace, model: Model, picture: Callable[[Pcm], Any] | None = None) -> Listener:
    """What hears the inputs for a model; a hop asks for a timeline.

    Args:
        arguments: of :func:`add_inputs`.
        model: what it hears for.
        picture: makes each clip's picture.
    """
    from audioclf.predict.sounds import Listener

    timeline = arguments.timeline or arguments.hop is not None
    return Listener(model.front_end, timeline=timeline, hop_s=arguments.hop, picture=picture)


def positive(text: str) -> float:
    """A number of seconds > 0."""
    value = float(text)
    if not (math.isfinite(value) and value > 0):
        raise ValueError
    return value


def at_least_one(text: str) -> int:
    """A whole number >= 1."""
    value = int(text)
    if value < 1:
        raise ValueError
    return value


def split_overrides(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Inputs, and overrides of the model's settings."""
    overrides = [word for word in words if OVERRIDE.match(word)]
    return [word for word in words if word not in overrides], overrides
