"""`python -m audioclf export CKPT`: a trained model as ONNX, for programs without PyTorch."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from audioclf.commands.arguments import add_checkpoint
from audioclf.console import console
from audioclf.errors import EXIT_OK, UserError


def add(subparsers: argparse._SubParsersAction[Any]) -> None:
    """Adds the command."""
    parser = subparsers.add_parser(
        "export",
        help="write a trained model as ONNX, checked against PyTorch",
        description=(
            "Writes a trained model as ONNX, with its front-end inside where that can be: waveforms [B, n] to logits "
            "[B, K]. What onnxruntime computes is compared with PyTorch before the file gets its name. "
            "Exit code 0: written; 2: it cannot be, or bad input."
        ),
    )
    add_checkpoint(parser)
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="features.weights=PATH")
    parser.add_argument("--out", type=Path, metavar="FILE", help="else model.onnx in the run's folder")
    parser.set_defaults(work=work)


def work(arguments: argparse.Namespace, more: Sequence[str]) -> int:
    """Exports.

    Raises:
        UserError: a checkpoint that cannot be used, no ONNX packages, or what comes out is not what PyTorch computes.
    """
    from audioclf.predict.export import export
    from audioclf.predict.inputs import is_said
    from audioclf.predict.model import load

    overrides = [*arguments.overrides, *more]
    for word in filter(is_said, overrides):
        raise UserError(f"{word}: export reads no tables", "predict and embed take it")
    model = load(arguments.checkpoint, *overrides, device="cpu")
    place = arguments.checkpoint
    beside = place / "model.onnx" if place.is_dir() else place.with_suffix(".onnx")
    for line in export(model, arguments.out or beside):
        console.print(line, markup=False, soft_wrap=True)
    return EXIT_OK
