import os
import shutil
import sqlite3
import tempfile
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from audioclf.audio.ledger import _MIGRATIONS, LEDGER, SCHEMA_VERSION, Ledger, LedgerRow, Site, State
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
        access="0123-4567",
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


VERSION_1 = """
CREATE TABLE clips (
    key TEXT PRIMARY KEY NOT NULL, clip_id TEXT NOT NULL, source TEXT NOT NULL, start_s REAL NOT NULL, end_s REAL,
    state TEXT NOT NULL, failure TEXT, http_status INTEGER, attempts INTEGER NOT NULL, next_retry REAL,
    sha256 TEXT, duration_s REAL, source_size INTEGER, source_mtime_ns INTEGER,
    tool_versions TEXT NOT NULL, message TEXT NOT NULL, updated REAL NOT NULL
) WITHOUT ROWID
"""


@pytest.fixture
def version_1(tmp_path):
    """A ledger as audioclf made it before it fetched, with one row."""
    path = tmp_path / "old.sqlite"
    with sqlite3.connect(path) as db:
        db.execute(VERSION_1)
        values = ("k", "a", "a.wav", 0.0, 5.0, "ok", None, None, 1, None, "00", 5.0, 9, 8, "tools", "", 1e9)
        db.execute(f"INSERT INTO clips VALUES ({', '.join('?' * len(values))})", values)
        db.execute("PRAGMA user_version = 1")
        db.execute("PRAGMA journal_mode = WAL")
    db.close()
    return path


def test_an_older_ledger_is_brought_up_to_date_and_keeps_its_rows(version_1):
    for _ in range(2):
        with Ledger(version_1) as ledger:
            row = ledger.get_many(["k"])["k"]
            assert (row.state, row.sha256, row.updated, row.access) == (State.OK, "00", 1e9, None)
            assert ledger.get_sites() == []
    with Ledger(version_1) as ledger:
        ledger.put_many([replace(ROW, access="x")])
        assert ledger.get_many([ROW.key])[ROW.key].access == "x"


def test_bringing_up_to_date_is_one_transaction(version_1):
    with sqlite3.connect(version_1) as db:
        db.execute("CREATE TABLE sites (of, another, shape)")  # so that the last statement fails
    db.close()
    with pytest.raises(UserError):
        Ledger(version_1)
    with sqlite3.connect(version_1) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (1,)
        assert "access" not in [column[1] for column in db.execute("PRAGMA table_info(clips)")]
    db.close()


def test_many_open_an_older_ledger_at_once(version_1):
    errors = at_once(8, lambda n: Ledger(version_1).close())
    assert not errors


def test_rows_are_streamed_and_may_be_written_meanwhile(ledger):
    keys = [str(i) for i in range(25_000)]
    ledger.put_many(replace(ROW, key=key) for key in keys[::100])
    taken = []

    def asked():
        for key in keys:
            taken.append(key)
            yield key

    rows = ledger.rows(asked())
    first = next(rows)
    assert len(taken) < len(keys)  # not all keys, let alone rows, are held
    ledger.put_many([replace(first, failure="x")])
    assert len(list(rows)) == 249


def test_a_site_comes_back_as_it_was_put_and_outlives_the_process(tmp_path):
    blocked = Site("youtube.com", 2e9, "rate_limited", "HTTP Error 429: Too Many Requests", 1e9)
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        ledger.put_site(Site("youtube.com", 1.0, "captcha", "old", 2.0))
        ledger.put_site(Site("b.example"))
        ledger.put_site(blocked)
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        assert sorted(ledger.get_sites(), key=lambda site: site.site) == [Site("b.example"), blocked]


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
    other.execute(_MIGRATIONS[0])
    other.execute("PRAGMA user_version = 1")
    other.execute("COMMIT")
    thread.join()
    other.close()
    assert not errors


def test_many_open_a_new_ledger_at_once_and_write(tmp_path):
    path = tmp_path / "ledger.sqlite"

    def work(n: int) -> None:
        with Ledger(path) as ledger:
            for i in range(20):
                ledger.put_many([replace(ROW, key=f"{n}-{i}")])

    assert not at_once(8, work)
    with Ledger(path) as ledger:
        assert ledger.counts()[State.OK] == 160


def at_once(threads, work):
    """Runs ``work(0)``, ``work(1)``, ... in threads that start together; the errors there were."""
    errors, start = [], threading.Barrier(threads)

    def run(n: int) -> None:
        try:
            start.wait()
            work(n)
        except BaseException as error:
            errors.append(error)

    running = [threading.Thread(target=run, args=(n,)) for n in range(threads)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    return errors


@pytest.fixture
def unwritable():
    """A folder with a ledger that this process may read and not write."""
    root = os.geteuid() == 0  # who may write anywhere: become nobody
    folder = Path(tempfile.mkdtemp())
    with Ledger(folder / LEDGER) as ledger:
        ledger.put_many([ROW])
    folder.chmod(0o555)
    if root:
        os.seteuid(65_534)
    yield folder
    if root:
        os.seteuid(0)
    folder.chmod(0o755)
    shutil.rmtree(folder)


def test_a_ledger_is_read_where_nothing_can_be_written(unwritable):
    with pytest.raises(UserError):
        Ledger(unwritable / LEDGER)
    with Ledger(unwritable / LEDGER, read_only=True) as ledger:
        assert ledger.get_many([ROW.key]).keys() == {ROW.key}
        with pytest.raises(UserError):
            ledger.put_many([ROW])


def test_reading_sees_what_another_process_has_written_so_far_and_changes_nothing(tmp_path, version_1):
    with Ledger(tmp_path / LEDGER) as writer:
        writer.put_many([ROW])
        with Ledger(tmp_path / LEDGER, read_only=True) as reader:
            assert ROW.key in reader.get_many([ROW.key])
            writer.put_many([replace(ROW, key="later")])
            assert "later" in reader.get_many(["later"])
    before = version_1.read_bytes()
    with pytest.raises(UserError, match="has ledger version 1; expected 2"):
        Ledger(version_1, read_only=True)
    assert version_1.read_bytes() == before
    with pytest.raises(UserError):
        Ledger(tmp_path / "none.sqlite", read_only=True)
