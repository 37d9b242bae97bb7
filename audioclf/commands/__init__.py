"""The commands that use a trained model; their arguments stand beside their work, which loads torch."""

from __future__ import annotations

import argparse
from typing import Any

from audioclf.commands import embed, export, predict

NAMES = ("predict", "embed", "export")


def add(subparsers: argparse._SubParsersAction[Any]) -> None:
    """Adds them to the program's commands; each sets ``work``, called with its arguments and the words left over."""
    for command in (predict, embed, export):
        command.add(subparsers)
