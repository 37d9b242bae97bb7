"""Where a fetch takes its workers from: this machine, or a Ray cluster."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Protocol

from audioclf.audio.store import AudioStore
from audioclf.cluster import connected
from audioclf.config import FetchConfig, Launcher
from audioclf.fetch.schedule import HERE
from audioclf.fetch.worker import Worker, WorkerHandle


class Crew(Protocol):
    """What workers can be had, and of whom."""

    @property
    def addresses(self) -> Collection[str]:
        """The egress addresses at which workers can be had now; the empty name: whatever it is, all share it."""

    def hire(self, address: str) -> WorkerHandle:
        """A new worker at one of these addresses."""


class LocalCrew:
    """Worker processes of this machine.

    Args:
        config: the ``fetch`` section.
        store: where they commit audio.
    """

    addresses = HERE

    def __init__(self, config: FetchConfig, store: AudioStore) -> None:
        self._config, self._store = config, store

    def hire(self, address: str) -> WorkerHandle:
        """A new worker process."""
        return Worker(self._config, self._store)


@contextmanager
def crew_of(launcher: Launcher, config: FetchConfig, store: AudioStore) -> Iterator[Crew]:
    """The crew that ``launcher`` names; a Ray cluster stays connected for the time of the ``with`` block.

    Raises:
        UserError: Ray is not installed, or its cluster does not answer.
    """
    if launcher != "ray":
        yield LocalCrew(config, store)
        return
    with connected():
        from audioclf.fetch.cluster import ClusterCrew

        yield ClusterCrew(config, store)
