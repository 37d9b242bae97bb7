"""Worker processes: they fetch, they can be killed, and they never outlive their parent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

import pytest

from audioclf.audio.store import AudioStore
from audioclf.clips.clip import Clip
from audioclf.config import FetchConfig
from audioclf.errors import UserError
from audioclf.fetch import worker as worker_module
from audioclf.fetch.failures import Reason
from audioclf.fetch.recording import Outcome, Recording
from audioclf.fetch.worker import MEMORY_BYTES, Worker, WorkerDied, memory_limit

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")


def config_of(**changes: Any) -> FetchConfig:
    return FetchConfig.model_validate({"allow_private": True, "timeout": 60.0} | changes)


def recording_of(url: str, clips: int = 1) -> Recording:
    return Recording(url, "x", tuple(Clip(f"c{i}", url, 2.0 * i, 2.0 * i + 1, ("a",), "g") for i in range(clips)))


def is_there(pid: int) -> bool:
    """Whether a process runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def eventually(done: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 30
    while not done() and time.monotonic() < deadline:
        time.sleep(0.01)
    return done()


def all_of(worker: Worker, at_most_s: float = 30) -> list[Outcome]:
    """What a worker says until its recording is done."""
    outcomes: list[Outcome] = []
    for _ in range(10):
        if worker.recording is not None:
            wait([worker.connection], at_most_s)
            outcomes += worker.receive()
    assert worker.recording is None
    return outcomes


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Worker]]:
    started: list[Worker] = []

    def new(**changes: Any) -> Worker:
        started.append(Worker(config_of(**changes), AudioStore(tmp_path / "audio")))
        return started[-1]

    yield new
    for worker in started:
        if not worker.connection.closed:
            worker.kill()


def test_a_worker_fetches_one_recording_after_another_within_its_limits(
    start: Callable[..., Worker], media: Any, media_server: Any, tmp_path: Path
) -> None:
    worker = start()
    worker.submit(recording_of(media_server.url(media("opus")), clips=2))
    first = all_of(worker)
    assert [outcome.clip.id for outcome in first] == ["c0", "c1"] and not worker.unanswered
    for outcome in first:
        assert outcome.row is not None and AudioStore(tmp_path / "audio").path(outcome.clip).exists()
    worker.submit(recording_of(media_server.url(media("opus"), "410")))
    (second,) = all_of(worker)
    assert second.fault is not None and second.fault.reason is Reason.NOT_FOUND

    limits = " ".join(Path(f"/proc/{worker.pid}/limits").read_text().split())
    allowed = memory_limit(FetchConfig().workers)
    assert MEMORY_BYTES[0] <= allowed <= MEMORY_BYTES[1]
    assert memory_limit(256) == MEMORY_BYTES[0]
    assert f"Max data size {allowed}" in limits and "Max core file size 0" in limits
    assert "libtorch" not in Path(f"/proc/{worker.pid}/maps").read_text(), "half a second and 300 MB for nothing"
    assert os.getpgid(worker.pid) == worker.pid, "Ctrl-C in the terminal would reach it"
    worker.kill()
    assert not is_there(worker.pid)


def test_a_worker_that_dies_says_so_of_the_clip_in_flight(
    start: Callable[..., Worker], media: Any, media_server: Any
) -> None:
    url = media_server.url(media("opus"), "stall")
    worker = start()
    worker.submit(recording_of(url, clips=2))
    assert eventually(lambda: bool(media_server.requests(url)))
    assert worker.receive() == []
    os.kill(worker.pid, signal.SIGSEGV)
    with pytest.raises(WorkerDied, match="signal SIGSEGV") as death:
        all_of(worker)
    assert death.value.fault.reason is Reason.CRASHED and next(iter(worker.unanswered.values())).id == "c0"


def test_a_worker_that_hangs_is_killed(start: Callable[..., Worker], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_module, "GRACE_S", 0.0)
    worker = start(max_seconds=0.05)
    assert eventually(lambda: worker.receive() == [] and worker.ready)
    os.kill(worker.pid, signal.SIGSTOP)
    worker.submit(recording_of("http://127.0.0.1:9/x"))
    with pytest.raises(WorkerDied, match="no answer within") as death:
        all_of(worker, at_most_s=0.3)
    assert death.value.fault.reason is Reason.TOO_SLOW and not is_there(worker.pid)


def test_a_worker_dies_with_its_parent(media: Any, media_server: Any, tmp_path: Path) -> None:
    url = media_server.url(media("opus"), "stall")
    program = f"""if True:
        import sys, time
        from tests_of_worker import config_of, recording_of
        from audioclf.audio.store import AudioStore
        from audioclf.fetch.worker import Worker
        worker = Worker(config_of(), AudioStore({str(tmp_path)!r}))
        worker.submit(recording_of({url!r}))
        print(worker.pid, flush=True)
        time.sleep(600)
    """
    (tmp_path / "tests_of_worker.py").write_text(Path(__file__).read_text())
    with subprocess.Popen([sys.executable, "-c", program], cwd=tmp_path, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert eventually(lambda: bool(media_server.requests(url))), "the worker is in the middle of something"
        assert is_there(pid)
        parent.kill()
    assert eventually(lambda: not is_there(pid))


def test_what_every_recording_would_meet_is_the_users_to_mend(start: Callable[..., Worker], tmp_path: Path) -> None:
    worker = start(cookies=str(tmp_path / "none.txt"))
    worker.submit(recording_of("http://127.0.0.1:9/x"))
    with pytest.raises(UserError, match=r"fetch\.cookies"):
        all_of(worker)


def test_a_worker_that_cannot_start_is_no_clips_fault(
    start: Callable[..., Worker], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_module, "_START", "import sys; sys.exit('no such \\x1b[31mlibrary')")
    worker = start()
    worker.submit(recording_of("http://127.0.0.1:9/x"))
    with pytest.raises(RuntimeError, match=r"cannot start: .*no such") as refusal:
        all_of(worker)
    assert "\x1b" not in str(refusal.value)


def test_a_process_that_is_gone_is_not_killed_again_for_its_number_may_be_anothers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = Worker(config_of(), AudioStore(tmp_path))
    worker.kill()
    monkeypatch.setattr(os, "killpg", lambda *_: pytest.fail("killed a stranger"))
    worker.kill()
