"""What a fetch did, and what is left for a later one."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from audioclf.errors import EXIT_OK, EXIT_RETRY_LATER
from audioclf.fetch.failures import FailureClass, class_of
from audioclf.fetch.pace import Block
from audioclf.fetch.status import Status, when

MB = 1e6


@dataclass
class FetchReport:
    """The outcome of one call of ``fetch_clips``.

    Attributes:
        fetched: clips whose audio came now.
        failed: clips that failed now, by the class of their last failure.
        received: bytes.
        seconds: of wall time, waiting included.
        blocks: sites that are left alone, and why.
        status: of the whole table afterwards.
    """

    fetched: int = 0
    failed: dict[FailureClass, int] = field(default_factory=dict)
    received: int = 0
    seconds: float = 0.0
    blocks: dict[str, Block] = field(default_factory=dict)
    status: Status = field(default_factory=Status)

    @property
    def tried(self) -> bool:
        """Whether any clip was asked for."""
        return bool(self.fetched or self.failed)

    @property
    def exit_code(self) -> int:
        """0: nothing is left to try; 75: something can be tried later."""
        return EXIT_RETRY_LATER if self.status.open else EXIT_OK

    def summary_lines(self) -> list[str]:
        """The outcome for people, a few lines whatever the number of clips."""
        lines = []
        if self.tried:
            failed = f", {sum(self.failed.values())} failed" if self.failed else ""
            lines.append(f"fetched {self.fetched} clips{failed}: {self.received / MB:.1f} MB in {self.seconds:.0f} s")
        return [*lines, *self.status.lines(), *block_lines(self.blocks)]


def block_lines(blocks: Mapping[str, Block]) -> list[str]:
    """Which sites are left alone, until when and why, for people."""
    lines = []
    for site, block in blocks.items():
        until = "" if math.isinf(block.until) else f" until {when(block.until).removeprefix('at ')}"
        lines.append(f"{site} is left alone{until}: {block.reason}: {block.message}")
        if class_of(block.reason) is FailureClass.ENVIRONMENT:
            lines.append("  `python -m audioclf doctor` says what is missing and how to mend it")
    return lines
