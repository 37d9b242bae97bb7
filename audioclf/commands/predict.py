"""`python -m audioclf predict CKPT FILE ...`: classes of sounds, as lines."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from audioclf.commands.arguments import add_inputs, add_model, at_least_one, split_overrides
from audioclf.console import stderr
from audioclf.errors import EXIT_FAILED, EXIT_OK


def add(subparsers: argparse._SubParsersAction[Any]) -> None:
    """Adds the command."""
    parser = subparsers.add_parser(
        "predict",
        help="say what is heard in audio files, by a trained model",
        description=(
            "Says which classes a trained model hears in files. One line for each class that is shown of each clip, or "
            "of each window of a timeline. "
            "Exit code 0: all predicted; 1: some files could not be used, their lines say why; 2: bad input."
        ),
    )
    add_model(parser)
    add_inputs(parser)
    parser.add_argument(
        "--top", type=at_least_one, default=1, metavar="K", help="classes shown of each, the best first; else 1"
    )
    parser.add_argument("--format", choices=("csv", "jsonl"), default="csv", help="csv; or a JSON object a line")
    parser.add_argument("--out", type=Path, metavar="FILE", help="file to write to; else standard output")
    parser.set_defaults(work=work)


def work(arguments: argparse.Namespace, more: Sequence[str]) -> int:
    """Predicts.

    Raises:
        UserError: a checkpoint or a table that cannot be used, or nothing can be written.
    """
    from audioclf.predict.model import load
    from audioclf.predict.write import counted, header, line_of, opened

    names, overrides = split_overrides([*arguments.inputs, *more])
    model = load(arguments.checkpoint, *overrides, device=arguments.device)
    clips = model.clips(names)
    listener = model.listener(arguments.timeline, arguments.hop)
    try:
        with opened(arguments.out) as out, counted("predict", len(clips), _bar_console(arguments)) as tally:
            out.write(header(arguments.format))
            for prediction in model.predictions(listener.sounds(clips), arguments.top):
                out.write(line_of(prediction, arguments.format))
                out.flush()  # who reads a pipe sees a window when it is predicted
                tally.add(prediction)
    except BrokenPipeError:  # whoever reads has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_OK
    return EXIT_FAILED if tally.bad else EXIT_OK


def _bar_console(arguments: argparse.Namespace) -> Console:
    """Where progress is shown: not on a terminal that the lines themselves go to."""
    return Console(quiet=True) if arguments.out is None and sys.stdout.isatty() else stderr
