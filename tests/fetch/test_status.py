"""What became of a table: counts for people, the file of failures, and that neither trusts strangers' texts."""

from __future__ import annotations

import csv
import io
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from audioclf.audio.ledger import Ledger, LedgerRow, State
from audioclf.audio.store import AudioStore
from audioclf.clips.clip import Clip
from audioclf.config import FetchConfig
from audioclf.errors import EXIT_OK, EXIT_RETRY_LATER, UserError
from audioclf.fetch import status as status_module
from audioclf.fetch.failures import FailureClass, Fault, Reason
from audioclf.fetch.pace import Block
from audioclf.fetch.report import FetchReport
from audioclf.fetch.retry import access_of, failed_row
from audioclf.fetch.status import Status, look_up, when, write_failures
from audioclf.files import temporary_name

ACCESS = access_of(FetchConfig.model_validate({}))


def clip_of(number: int, label: str = "dog", source: str = "https://x.org/{}") -> Clip:
    return Clip(f"c{number}", source.format(number), 1, 2.5, (label,), f"g{number}")


@pytest.fixture
def store(tmp_path: Path) -> AudioStore:
    return AudioStore(tmp_path / "audio")


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        yield ledger


def put_audio(store: AudioStore, ledger: Ledger, clip: Clip, state: State = State.OK) -> None:
    store.path(clip).parent.mkdir(parents=True, exist_ok=True)
    store.path(clip).write_bytes(b"")
    ledger.put_many([LedgerRow.of(clip, state)])


def put_failure(ledger: Ledger, clip: Clip, reason: Reason, message: str = "no", times: int = 1) -> LedgerRow:
    row = None
    for _ in range(times):
        row = failed_row(clip, Fault(reason, message), row, time.time(), ACCESS)
    assert row is not None
    ledger.put_many([row])
    return row


def test_every_clip_is_counted_by_state_reason_class_and_label(store: AudioStore, ledger: Ledger) -> None:
    clips = [clip_of(i, "dog" if i < 6 else "[red]cat") for i in range(10)]
    put_audio(store, ledger, clips[0])
    put_audio(store, ledger, clips[1], State.PARTIAL)
    put_audio(store, ledger, clips[2], State.SILENT)
    later = put_failure(ledger, clips[3], Reason.REMOVED)
    put_failure(ledger, clips[4], Reason.GEO)
    put_failure(ledger, clips[5], Reason.TIMEOUT, times=99)
    soon = put_failure(ledger, clips[6], Reason.TIMEOUT)
    put_audio(store, ledger, clips[7])
    store.path(clips[7]).unlink()
    local = Clip("local", "a.wav", 0, 1, ("dog",), "a")

    found = Status.of([*clips, local], store, ledger, ACCESS)
    assert found.states == {"ok": 1, "partial": 1, "silent": 1, "failed": 4, "pending": 4}
    assert found.reasons == {"removed": 1, "geo": 1, "timeout": 2} and found.usable == 2
    kinds = {FailureClass.TRANSIENT: 2, FailureClass.DEAD: 1, FailureClass.CONDITIONAL: 1}
    assert found.failure_classes == kinds
    assert found.labels["dog"] == {"usable": 2, "failed": 4, "pending": 1}
    assert found.labels["[red]cat"] == {"failed": 1, "pending": 3}
    assert found.open == 5, "3 never tried or lost, 1 to be confirmed, 1 soon; geo and the hopeless one are final"
    assert soon.next_retry == found.next_retry and later.next_retry is not None
    text = "\n".join(found.lines())
    assert "11 clips: 1 ok, 1 partial, 1 silent, 4 failed, 4 pending" in text
    assert "2 transient: 2 timeout" in text and "5 left to try" in text


def test_the_exit_code_says_whether_anything_is_left_to_try(store: AudioStore, ledger: Ledger) -> None:
    clips = [clip_of(0), clip_of(1)]
    put_audio(store, ledger, clips[0])
    put_failure(ledger, clips[1], Reason.GEO)
    done = FetchReport(status=Status.of(clips, store, ledger, ACCESS))
    assert done.exit_code == EXIT_OK
    other_access = access_of(FetchConfig.model_validate({"proxy": "http://127.0.0.1:1"}))
    assert FetchReport(status=Status.of(clips, store, ledger, other_access)).exit_code == EXIT_RETRY_LATER
    put_failure(ledger, clips[1], Reason.TIMEOUT)
    assert FetchReport(status=Status.of(clips, store, ledger, ACCESS)).exit_code == EXIT_RETRY_LATER


def test_rows_are_looked_up_in_chunks_and_in_order(
    store: AudioStore, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(status_module, "_CHUNK", 4)
    clips = [clip_of(i) for i in range(11)]
    for clip in clips[::2]:
        put_failure(ledger, clip, Reason.REMOVED)
    found = list(look_up(iter([*clips, clips[0]]), store, ledger))
    assert [known.clip for known in found] == [*clips, clips[0]], "also a segment that stands there twice"
    assert [known.row is not None for known in found] == [i % 2 == 0 for i in range(11)] + [True]


def test_the_table_by_class_of_sound_fits_a_narrow_terminal_and_shows_the_worst_first(
    store: AudioStore, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    clips = [clip_of(i, f"{'a very long class of sound, ' * 3}{i % 50}") for i in range(100)]
    for clip in clips:
        if clip.label.endswith("7"):
            put_failure(ledger, clip, Reason.REMOVED)
        else:
            put_audio(store, ledger, clip)
    out = io.StringIO()
    monkeypatch.setattr(status_module, "console", Console(file=out, width=50))
    Status.of(clips, store, ledger, ACCESS).print()
    lines = out.getvalue().splitlines()
    assert max(map(len, lines)) <= 50 and "and 10 more classes of sound" in out.getvalue()
    rows = [line.split() for line in lines if "a very" in line]
    assert [row[-4:] for row in rows[:5]] == [["0", "2", "0", "0"]] * 5 and rows[5][-1] == "100"


def test_failures_csv_has_a_row_for_each_failure_and_nothing_else(
    store: AudioStore, ledger: Ledger, tmp_path: Path
) -> None:
    clips = [clip_of(i) for i in range(4)]
    put_audio(store, ledger, clips[0])
    dead = put_failure(ledger, clips[1], Reason.REMOVED, 'gone, "for good"')
    put_failure(ledger, clips[2], Reason.GEO)
    assert write_failures(tmp_path / "failures.csv", clips, store, ledger) == 2
    with (tmp_path / "failures.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["clip_id"] for row in rows] == ["c1", "c2"]
    first = rows[0]
    assert first["url"] == "https://x.org/1" and (first["start"], first["end"]) == ("1", "2.5")
    assert (first["reason"], first["class"], first["attempts"]) == ("removed", "dead", "1")
    assert first["message"] == 'gone, "for good"' and first["label"] == "dog"
    assert dead.next_retry is not None
    assert first["next_retry"] == time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime(dead.next_retry))
    assert rows[1]["next_retry"] == ""


def test_what_a_killed_process_left_of_failures_csv_is_removed(
    store: AudioStore, ledger: Ledger, tmp_path: Path
) -> None:
    path = tmp_path / "failures.csv"
    killed = subprocess.Popen(["true"])
    killed.wait()
    left = temporary_name(path).name.replace(f"-{os.getpid()}", f"-{killed.pid}")
    (tmp_path / left).write_text("half")
    write_failures(path, [], store, ledger)
    assert path.exists()
    assert not (tmp_path / left).exists()


@given(text=st.text(max_size=30), lead=st.sampled_from(["", "=", "+", "-", "@", "\t", "\r", "\x1b[31m"]))
def test_no_cell_of_failures_csv_is_a_formula_or_moves_a_terminal(
    text: str, lead: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("wild")
    wild = (lead + text).encode(errors="replace").decode()
    clip = Clip("c", f"https://x.org/{wild}", 0, 1, (wild or "x",), "g", annotation=wild)
    with Ledger(folder / "ledger.sqlite") as ledger:
        ledger.put_many([LedgerRow.of(clip, State.FAILED, failure=Reason.UNKNOWN, message=wild)])
        write_failures(folder / "failures.csv", [clip], AudioStore(folder), ledger)
    with (folder / "failures.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))
    assert len(rows) == 2 and len(rows[1]) == len(rows[0]) == 11
    for cell in rows[1]:
        assert not cell.startswith(("=", "+", "-", "@", "\t", "\r")) and "\x1b" not in cell


def test_a_report_says_what_came_and_which_sites_are_left_alone_until_when() -> None:
    now = time.time()
    blocks = {
        "a.org": Block(now + 3600, Reason.RATE_LIMITED, "HTTP Error 429"),
        "b.org": Block(float("inf"), Reason.NO_JS_RUNTIME, "No supported JavaScript runtime"),
    }
    report = FetchReport(3, {FailureClass.DEAD: 2}, 1_500_000, 12.0, blocks)
    text = "\n".join(report.summary_lines())
    assert "fetched 3 clips, 2 failed: 1.5 MB in 12 s" in text
    assert f"a.org is left alone until {when(now + 3600).removeprefix('at ')}: rate_limited: HTTP Error 429" in text
    assert "b.org is left alone: no_js_runtime" in text and "python -m audioclf doctor" in text


def test_a_file_of_failures_that_cannot_be_written_is_said_in_a_line(
    store: AudioStore, ledger: Ledger, tmp_path: Path
) -> None:
    (tmp_path / "failures.csv").mkdir()
    with pytest.raises(UserError, match=r"cannot write .*failures.csv: Is a directory"):
        write_failures(tmp_path / "failures.csv", [], store, ledger)
    assert not [*tmp_path.glob("*.tmp")]
