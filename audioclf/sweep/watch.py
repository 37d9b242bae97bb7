"""Says how a sweep gets on: a line for each run that ends, whichever process trains it."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from audioclf.console import console
from audioclf.sweep.plan import PlannedRun

EVERY_S = 0.5


class Watch:
    """Looks at the folders of runs for the time of a ``with`` block, and afterwards knows which of them ended.

    Args:
        runs: those that are to be trained.
        done: how many of the sweep's runs were finished before.
    """

    def __init__(self, runs: Sequence[PlannedRun], done: int = 0) -> None:
        self.total = done + len(runs)
        self.ended = done
        self._before = {run.label: stamp(run) for run in runs}
        self._pending = list(runs)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look_on, daemon=True)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()
        self._look()

    def is_new(self, run: PlannedRun) -> bool:
        """Whether the run's ``result.json`` was written since the watch began."""
        return stamp(run) not in (None, self._before[run.label])

    def _look_on(self) -> None:
        while not self._over.wait(EVERY_S):
            self._look()

    def _look(self) -> None:
        for run in list(self._pending):
            result = run.folder.read_result() if self.is_new(run) else None
            if result is not None:
                self._pending.remove(run)
                self.ended += 1
                say(self.ended, self.total, run.label, f"val F1 {short(result['val']['f1_macro'])}")


def say(ended: int, total: int, label: str, what: str) -> None:
    """A line for something that ended: ``[ 7/30] lr=1e-4: val F1 .812``; without a label where there is but one."""
    said = f"{label}: {what}" if label else what
    console.print(f"[{ended:>{len(str(total))}}/{total}] {said}", markup=False, soft_wrap=True)


def short(f1: float) -> str:
    """An F1 as people write it: ``.812``."""
    return f"{f1:.3f}".removeprefix("0")


def stamp(run: PlannedRun) -> tuple[int, int] | None:
    """What tells a run's ``result.json`` from another that takes its place; None where there is none."""
    try:
        found = Path(run.folder.path / "result.json").stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns
