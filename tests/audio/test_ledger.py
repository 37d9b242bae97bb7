import sqlite3
import threading
import time
from dataclasses import replace

import pytest

from audioclf.audio.ledger import _SCHEMA, SCHEMA_VERSION, Ledger, LedgerRow, State
from audioclf.clips.clip import Clip
from audioclf.errors import UserError

CLIP = Clip("a", "https://host/a", 1.5, 11.5, ("x",), "a")
ROW = LedgerRow.of(CLIP, State.OK)


def test_a_row_comes_back_as_it_was_put(ledger):
    row = LedgerRow(
        CLIP.audio_key,
        "a",
        "https://host/a",
        1.5,
        None,
        State.FAILED,
        failure="http",
        http_status=429,
        attempts=3,
        next_retry=1e9,
        sha256="00",
        duration_s=2.5,
        source_size=2**40,
        source_mtime_ns=2**60 + 1,
        tool_versions="tools",
        message="words",
    )
    ledger.put_many([ROW, row])  # the second replaces the first
    back = ledger.get_many([CLIP.audio_key])[CLIP.audio_key]
    assert back.updated > 1e9
    assert replace(back, updated=0.0) == row
    assert isinstance(back.state, State)


def test_pending_clips_have_no_row_and_counts_name_every_state(ledger):
    ledger.put_many([ROW, replace(ROW, key="b", state=State.SILENT)])
    assert ledger.get_many(["absent"]) == {}
    assert ledger.counts() == {State.OK: 1, State.PARTIAL: 0, State.SILENT: 1, State.FAILED: 0}


def test_deleted_rows_are_pending_again(ledger):
    ledger.put_many([ROW, replace(ROW, key="b")])
    ledger.delete_many([ROW.key, "absent"])
    assert list(ledger.get_many([ROW.key, "b"])) == ["b"]


def test_more_keys_than_sqlite_takes_variables(ledger):
    ledger._db.setlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER, 32_766)  # SQLite's default; some builds take more
    ledger.put_many(replace(ROW, key=str(i)) for i in range(0, 40_000, 200))
    assert len(ledger.get_many(str(i) for i in range(40_000))) == 200


def test_put_many_is_one_transaction(ledger):
    with pytest.raises(UserError):
        ledger.put_many([ROW, replace(ROW, key=None)])  # type: ignore[arg-type]
    assert ledger.get_many([ROW.key]) == {}


def test_rows_survive_closing(tmp_path):
    path = tmp_path / "new" / "folder" / "ledger.sqlite"
    with Ledger(path) as ledger:
        ledger.put_many([ROW])
    with Ledger(path) as ledger:
        assert ROW.key in ledger.get_many([ROW.key])


def test_a_newer_ledger_is_refused(tmp_path):
    path = tmp_path / "ledger.sqlite"
    Ledger(path).close()
    with sqlite3.connect(path) as db:
        db.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    with pytest.raises(UserError, match=f"{path} has ledger version {SCHEMA_VERSION + 1}") as caught:
        Ledger(path)
    assert "update audioclf" in (caught.value.hint or "")


@pytest.mark.parametrize("content", [b"clip,label\n" * 200, b"x"])
def test_a_file_that_is_no_database_is_refused_and_kept(tmp_path, content):
    path = tmp_path / "ledger.sqlite"
    path.write_bytes(content)
    with pytest.raises(UserError, match="not an audioclf ledger") as caught:
        Ledger(path)
    assert str(path) in caught.value.message
    assert "move the file away" in (caught.value.hint or "")
    assert path.read_bytes() == content


def test_another_programs_database_is_refused(tmp_path):
    path = tmp_path / "ledger.sqlite"
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE bookmarks (x)")
    with pytest.raises(UserError, match="another program"):
        Ledger(path)


def test_a_folder_in_its_place_is_an_error_for_the_user(tmp_path):
    with pytest.raises(UserError, match=str(tmp_path)):
        Ledger(tmp_path)


def test_a_new_ledger_waits_for_another_process_that_makes_it(tmp_path):
    path, errors = tmp_path / "ledger.sqlite", []

    def open_it() -> None:
        try:
            Ledger(path).close()
        except BaseException as error:
            errors.append(error)

    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    thread = threading.Thread(target=open_it)
    thread.start()
    time.sleep(0.1)
    other.execute(_SCHEMA)
    other.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
    other.execute("COMMIT")
    thread.join()
    other.close()
    assert not errors


def test_many_open_a_new_ledger_at_once_and_write(tmp_path):
    path, errors = tmp_path / "ledger.sqlite", []
    start = threading.Barrier(8)

    def work(n: int) -> None:
        try:
            start.wait()
            with Ledger(path) as ledger:
                for i in range(20):
                    ledger.put_many([replace(ROW, key=f"{n}-{i}")])
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    with Ledger(path) as ledger:
        assert ledger.counts()[State.OK] == 160
