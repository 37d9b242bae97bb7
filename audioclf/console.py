"""What a person sees while work goes on: one console, one kind of progress bar."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Column
from rich.text import Text

from audioclf.errors import EXIT_INTERRUPTED, EXIT_USAGE, UserError

# emoji=False: a place in a table such as "clips.csv:100:" would lose its line number to a pictogram
console = Console(highlight=False, emoji=False, soft_wrap=False)
stderr = Console(stderr=True, highlight=False, emoji=False, soft_wrap=True)

WIDE = 100  # columns; below it numbers take the bar's place
LOG_EVERY_S = 10.0  # between progress lines where there is no terminal to redraw


class ProgressBar:
    """One line of progress: a bar on a terminal, a line every ten seconds in a log file.

    Args:
        title: what is being done, e.g. ``"import"``.
        total: how many units there are.
        unit: the name of one unit, for the rate (``"clips"`` shows as clips/s).
        done: units done before, which count for the bar but not for the rate.
        on: where lines are printed where there is no bar.
    """

    def __init__(
        self, title: str, total: int, unit: str, progress: Progress | None, done: int = 0, on: Console = console
    ) -> None:
        self.title, self.total, self.unit, self._on = title, total, unit, on
        self.done = self._before = done
        self._progress = progress
        self._started = self._spoke = time.monotonic()
        self._task = progress.add_task(title, total=total, completed=done, note="") if progress else None

    def advance(self, n: int = 1, note: str = "") -> None:
        """Counts ``n`` more units as done; ``note`` stands at the end of the line."""
        self.done += n
        elapsed = max(time.monotonic() - self._started, 1e-9)
        rate = max(self.done - self._before, 1e-9) / elapsed
        text = f"{rate:.1f} {self.unit}/s {note}".rstrip()
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, completed=self.done, note=text)
        elif time.monotonic() - self._spoke >= LOG_EVERY_S:
            self._spoke = time.monotonic()
            eta = f", {(self.total - self.done) / rate:.0f} s to go" if self.done > self._before else ""
            self._on.print(f"{self.title}: {self.done}/{self.total}, {text}{eta}", markup=False, soft_wrap=True)


@contextmanager
def progress_bar(title: str, total: int, unit: str, done: int = 0, on: Console = console) -> Iterator[ProgressBar]:
    """A progress bar for the time of a ``with`` block; gone from the terminal when the block ends."""
    if not on.is_terminal:
        yield ProgressBar(title, total, unit, None, done, on)
        return
    wide = on.width >= WIDE
    columns = [
        TextColumn("{task.description} {task.completed:.0f}/{task.total:.0f}", table_column=Column(no_wrap=True)),
        *([BarColumn(bar_width=None)] if wide else []),
        TimeRemainingColumn(table_column=Column(no_wrap=True)),
        TextColumn("{task.fields[note]}", table_column=Column(no_wrap=wide)),
    ]
    with Progress(*columns, console=on, transient=True) as progress:
        yield ProgressBar(title, total, unit, progress, done)


@contextmanager
def user_errors() -> Iterator[None]:
    """Shows a :class:`UserError` as the line or two that it is and exits with 2; after Ctrl-C, with 130."""
    try:
        yield
    except UserError as error:
        show_error(error)
        sys.exit(EXIT_USAGE)
    except KeyboardInterrupt:
        stderr.print("stopped", markup=False)
        sys.exit(EXIT_INTERRUPTED)


def show_error(error: UserError) -> None:
    """Prints an error for people, on standard error."""
    stderr.print(Text.assemble(("error: ", "bold red"), error.message))
    if error.hint:
        stderr.print(Text.assemble(("hint:  ", "bold"), error.hint))
