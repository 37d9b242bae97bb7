"""`python -m audioclf embed CKPT FILE ...`: sounds as vectors, in a Parquet table and in TensorBoard's projector."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from audioclf.commands.arguments import add_inputs, add_model, split_overrides
from audioclf.console import console, stderr
from audioclf.errors import EXIT_FAILED, EXIT_OK


def add(subparsers: argparse._SubParsersAction[Any]) -> None:
    """Adds the command."""
    parser = subparsers.add_parser(
        "embed",
        help="turn audio files into a trained model's vectors",
        description=(
            "Writes what a trained model makes of sounds, before it decides: a vector for each clip. "
            "Exit code 0: all done; 1: some files could not be used, their rows say why; 2: bad input."
        ),
    )
    add_model(parser)
    add_inputs(parser)
    parser.add_argument(
        "--layer",
        choices=("model", "features"),
        default="model",
        help="model: what its last layer sees; features: what the front-end gives, flattened",
    )
    parser.add_argument(
        "--out", type=Path, default=Path("embeddings.parquet"), metavar="FILE", help="else embeddings.parquet"
    )
    parser.add_argument(
        "--projector", type=Path, metavar="DIR", help="show them in TensorBoard: tensorboard --logdir DIR"
    )
    parser.set_defaults(work=work)


def work(arguments: argparse.Namespace, more: Sequence[str]) -> int:
    """Embeds.

    Raises:
        UserError: a checkpoint or a table that cannot be used, or nothing can be written.
    """
    from audioclf.predict.model import load
    from audioclf.predict.table import EmbeddingTable
    from audioclf.predict.write import counted, opened

    names, overrides = split_overrides([*arguments.inputs, *more])
    model = load(arguments.checkpoint, *overrides, device=arguments.device)
    clips = model.clips(names)
    projector = None
    if arguments.projector is not None:
        from audioclf.predict.projector import Projector

        projector = Projector(arguments.projector, model)
    listener = model.listener(arguments.timeline, arguments.hop, projector.thumbnail if projector else None)
    with (
        opened(arguments.out) as out,
        EmbeddingTable(out, arguments.layer, model.classes) as table,
        counted("embed", len(clips), stderr) as tally,
    ):
        for embedding in model.embeddings(listener.sounds(clips), arguments.layer):
            table.add(embedding)
            tally.add(embedding)
            if projector:
                projector.add(embedding)
    console.print(f"written to {arguments.out}", markup=False, soft_wrap=True)
    if projector:
        console.print(projector.write(), markup=False, soft_wrap=True)
    return EXIT_FAILED if tally.bad else EXIT_OK
