"""A worker: a process that fetches one recording after another, and may be killed at any moment.

Extraction runs strangers' pages through yt-dlp, decoding runs strangers' bytes through C: either may hang, crash or eat
the memory. In a process of its own that costs one clip. It is started as a plain program and not by ``multiprocessing``,
which would import the caller's main module again.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING

from audioclf.audio.store import AudioStore
from audioclf.clips.clip import Clip
from audioclf.config import FetchConfig
from audioclf.errors import UserError, shown
from audioclf.fetch.failures import Fault, Reason, classify
from audioclf.fetch.recording import Outcome, Recording

if TYPE_CHECKING:
    from audioclf.fetch.session import Session

MEMORY_BYTES = (3 << 29, 4 << 30)  # of data, at least and at most: a clip of an hour takes 3 GB while it is resampled
START_LIMIT_S = 120.0  # imports on a busy machine with a cold disk
GRACE_S = 15.0  # the worker keeps its own limits; the parent kills what does not

_START = """import sys
parent, package = sys.argv[1:]
package in sys.path or sys.path.insert(0, package)  # the caller's audioclf, wherever it comes from
from audioclf.fetch.worker import serve
serve(int(parent))"""
READY = "ready"
_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def limit_s(config: FetchConfig) -> float:
    """How long a worker may be at one clip, in seconds."""
    return 4 * config.max_seconds + GRACE_S  # extraction and cut, each twice where the address expired


class WorkerDied(Exception):
    """The process is gone, or was killed because it overran its time; ``fault`` says which."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.message)
        self.fault = fault


class WorkerHandle(ABC):
    """A worker as the one who gives it work knows it, wherever it runs.

    Args:
        connection: to the worker, which sends each clip's outcome, then None for a recording that is done.
        limit_s: without an answer for so long, it is taken for stuck.

    Attributes:
        address: the egress address that sites see it under; empty: this machine's, or that of all machines.
        recording: what it is at.
        unanswered: clips of the recording, by audio key; the first one is in flight.
        ready: whether it has started.
    """

    address = ""

    def __init__(self, connection: Connection, limit_s: float) -> None:
        self.connection = connection
        self.recording: Recording | None = None
        self.unanswered: dict[str, Clip] = {}
        self._error: UserError | None = None
        self.ready = False
        self._heard = time.monotonic()
        self._limit_s = limit_s

    def submit(self, recording: Recording) -> None:
        """Gives an idle worker a recording; the answers are read by ``receive``."""
        self.recording, self.unanswered = recording, {clip.audio_key: clip for clip in recording.clips}
        self._heard = time.monotonic()
        with contextlib.suppress(OSError):  # it died while it was idle: receive says so
            self.connection.send(recording)

    def receive(self) -> list[Outcome]:
        """The outcomes that have come; afterwards ``recording`` is None where it is done.

        Raises:
            WorkerDied: the process is gone or overran its time; it is killed.
            UserError: what every recording would meet, e.g. a full disk or an unreadable cookies file.
        """
        outcomes: list[Outcome] = []
        try:
            while self.connection.poll():
                message = self.connection.recv()
                self._heard = time.monotonic()
                if isinstance(message, UserError):
                    self._error = message
                    break
                if isinstance(message, Outcome):
                    outcomes.append(message)
                    self.unanswered.pop(message.clip.audio_key, None)
                elif message == READY:
                    self.ready = True
                else:
                    self.recording = None
        except (EOFError, OSError):
            # What it said before it died goes first: the next call finds it gone.
            if self.recording is not None and not outcomes:
                raise self._died() from None
        if self._error is not None and not outcomes:
            raise self._error
        if self.recording is not None and time.monotonic() > self.deadline and not outcomes:
            self.kill()
            what = f"no answer within {self._limit_s:.0f} s; the worker was stopped"
            raise WorkerDied(Fault(Reason.TOO_SLOW, what))
        return outcomes

    @property
    def deadline(self) -> float:
        """When it will be taken for stuck; on the clock of ``time.monotonic``."""
        return self._heard + (self._limit_s if self.ready else START_LIMIT_S)

    @abstractmethod
    def kill(self) -> None:
        """Ends the worker and all that it started; returns when it is gone."""

    @abstractmethod
    def _died(self) -> WorkerDied:
        """Why nothing comes from it any more; it is killed."""


class Worker(WorkerHandle):
    """A worker process of this machine.

    Args:
        config: the ``fetch`` section.
        store: where it commits audio; the ledger stays with the parent.
    """

    def __init__(self, config: FetchConfig, store: AudioStore) -> None:
        ours, theirs = socket.socketpair()
        # What Python says if the process cannot even start; closed by kill.
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115
        package = str(Path(__file__).resolve().parents[2])
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-c", _START, str(os.getpid()), package],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=self._errors,
                env=os.environ | dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1"),
                process_group=0,  # Ctrl-C is the parent's, and a JavaScript runtime below it is killed with it
            )
        super().__init__(Connection(ours.detach()), limit_s(config))
        self.connection.send((config.model_dump(), str(store.root)))

    @property
    def pid(self) -> int:
        """Its process id, and that of its process group."""
        return self._process.pid

    def kill(self) -> None:
        """Ends the process and all that it started; returns when it is gone."""
        if self._process.returncode is None:  # once it has been waited for, its number may be another's
            with contextlib.suppress(
                ProcessLookupError, PermissionError
            ):  # macOS: PermissionError for a zombie's group
                os.killpg(self.pid, signal.SIGKILL)
            self._process.wait()
        self.connection.close()
        self._errors.close()

    def _died(self) -> WorkerDied:
        self._errors.seek(0, os.SEEK_END)
        self._errors.seek(max(self._errors.tell() - 2000, 0))
        said = self._errors.read().decode(errors="replace").strip().splitlines()
        self.kill()
        if not self.ready:
            raise RuntimeError(f"a fetch worker cannot start: {shown(said[-1]) if said else 'it says nothing'}")
        status = self._process.returncode
        how = f"signal {signal.Signals(-status).name}" if status < 0 else f"status {status}"
        return WorkerDied(
            Fault(Reason.CRASHED, shown(f"the worker died over it ({how}) {' '.join(said[-1:])}".strip()))
        )


def serve(parent: int) -> None:
    """The worker process: takes recordings from standard input, which is a socket, and answers each clip's outcome."""
    connection = Connection(os.dup(0))
    with Path(os.devnull).open("rb") as nothing:
        os.dup2(nothing.fileno(), 0)  # a JavaScript runtime below us must not read along
    _be_a_good_child(parent)
    try:
        section, root = connection.recv()
        config = FetchConfig(**section)
        _limit_memory(memory_limit(config.workers))
        _fetch_all(connection, config, AudioStore(Path(root)))
    except (EOFError, BrokenPipeError, ConnectionResetError):  # the parent is gone
        sys.exit(0)


def _fetch_all(connection: Connection, config: FetchConfig, store: AudioStore) -> None:
    from audioclf.fetch.session import Session

    try:
        with Session(config) as session:
            connection.send(READY)
            while True:
                recording: Recording = connection.recv()
                for outcome in _outcomes(recording, session, store):
                    connection.send(outcome)
                connection.send(None)
    except UserError as error:
        connection.send(error)


def _outcomes(recording: Recording, session: Session, store: AudioStore) -> Iterator[Outcome]:
    """One for each clip, whatever happens short of a store that cannot be written."""
    from audioclf.fetch.cut import fetch_recording

    left = {clip.audio_key: clip for clip in recording.clips}
    fault = Fault(Reason.UNKNOWN, "the fetcher gave no answer")
    try:
        for outcome in fetch_recording(recording, session, store):
            left.pop(outcome.clip.audio_key, None)
            yield outcome
    except UserError:
        raise
    except Exception as error:  # memory, or a mistake of ours: it costs this recording, not the others
        fault = classify(error, at_media=False)
    yield from (Outcome(clip, fault=fault) for clip in left.values())


def _be_a_good_child(parent: int) -> None:
    """Dies with its parent, leaves Ctrl-C to it, and takes no disk for a core dump."""
    import resource

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it died before that was set; elsewhere its end is seen on the socket
            sys.exit(0)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def memory_limit(workers: int) -> int:
    """Bytes of data that one of ``workers`` may hold: together they leave half of the machine's memory to others."""
    machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    least, most = MEMORY_BYTES
    return min(max(machine // 2 // workers, least), most)


def _limit_memory(limit: int) -> None:
    """Data and not address space, of which a JavaScript runtime reserves far more than it uses."""
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    if hard == resource.RLIM_INFINITY or hard > limit:
        resource.setrlimit(resource.RLIMIT_DATA, (limit, hard))
