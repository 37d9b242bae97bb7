import socket
import sqlite3
import ssl
from datetime import date
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace

import pytest

from audioclf import doctor as module
from audioclf.audio.ledger import Ledger, LedgerRow, State
from audioclf.clips.clip import Clip
from audioclf.console import console
from audioclf.doctor import (
    Check,
    Verdict,
    check_certificates,
    check_cookies,
    check_disk,
    check_ejs,
    check_extra,
    check_js_runtime,
    check_ledger,
    check_pyav,
    check_python,
    check_torch,
    check_ytdlp,
    doctor,
)
from audioclf.errors import EXIT_FAILED, EXIT_OK, UserError

COOKIES = "# Netscape HTTP Cookie File\n\n.host.example\tTRUE\t/\tTRUE\t2147483647\tSID\tsecret-value\n"


@pytest.fixture
def no_network(monkeypatch):
    def refuse(*_):
        raise AssertionError("the network was touched")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.fixture
def scripts(monkeypatch, tmp_path):
    """An empty folder in place of the one where Python's programs lie and of the PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setattr("sysconfig.get_path", lambda name: str(folder))
    return folder


def program(path: Path, prints: str) -> None:
    path.write_text(f"#!/bin/sh\necho '{prints}'\n")
    path.chmod(0o755)


@pytest.mark.parametrize("width", [40, 60, 120])
def test_the_table_reads_well_at_any_width_and_the_network_is_left_alone(
    no_network, capsys, monkeypatch, tmp_path, width
):
    monkeypatch.setattr(console, "_width", width)
    monkeypatch.setattr(module, "check_ytdlp", lambda: check_ytdlp("2020.01.01"))
    assert doctor([f"paths.cache={tmp_path / 'cache'}"]) == EXIT_OK  # a warning is no failure
    table, _, mend = capsys.readouterr().out.partition("\nto mend:\n")
    assert all(len(line) <= width for line in table.splitlines())
    first_words = [line.split()[0] for line in table.splitlines() if not line.startswith(" ")]
    assert len(first_words) == 14
    assert set(first_words) <= set(Verdict)
    assert "  yt-dlp: python -m pip install -U yt-dlp\n" in mend  # in one piece, however narrow
    assert not (tmp_path / "cache").exists()


def test_something_missing_ends_with_1_and_the_key_that_mends_it(capsys, tmp_path):
    assert doctor([f"paths.cache={tmp_path}", "fetch.cookies=gone.txt"]) == EXIT_FAILED
    out = capsys.readouterr().out
    assert "missing" in out
    assert "  cookies: export them anew" in out


def test_a_wrong_override_is_the_users_error():
    with pytest.raises(UserError, match=r"fetch\.cookie"):
        doctor(["fetch.cookie=x"])


@pytest.mark.parametrize(
    ("installed", "verdict", "says"),
    [
        ("2026.10.26", Verdict.OK, "15 days old"),
        ("2026.09.11", Verdict.OK, "60 days old"),
        ("2026.09.10", Verdict.WARNING, "61 days old: stale"),
        ("2026.10.26.232950", Verdict.OK, "15 days old"),  # a nightly build
        ("2026.11.11", Verdict.OK, "0 days old"),  # our clock is behind
    ],
)
def test_yt_dlp_is_stale_after_60_days(installed, verdict, says):
    check = check_ytdlp(installed, date(2026, 11, 10))
    assert (check.verdict, check.found) == (verdict, f"{installed}, {says}")
    assert check.mend == ("python -m pip install -U yt-dlp" if verdict is Verdict.WARNING else "")


def test_the_installed_yt_dlp_is_looked_at():
    assert check_ytdlp().found.startswith(version("yt-dlp"))


def test_without_a_js_runtime_youtube_is_said_to_lack_it(scripts):
    assert check_js_runtime() == Check(
        "JS runtime", Verdict.WARNING, "none; YouTube needs deno", "python -m pip install deno"
    )


@pytest.mark.parametrize(("prints", "verdict"), [("deno 2.9.8 (stable)", Verdict.OK), ("deno 1.40.0", Verdict.WARNING)])
def test_a_js_runtime_beside_python_is_found_and_asked_its_version(scripts, prints, verdict):
    program(scripts / "deno", prints)
    check = check_js_runtime()
    assert check.verdict is verdict
    assert prints.split()[1] in check.found


def test_scripts_of_another_release_than_yt_dlps_are_a_warning(monkeypatch):
    wanted = check_ejs().mend.partition("==")[2] or version("yt-dlp-ejs")
    for installed, verdict in ((wanted, Verdict.OK), ("0.0.1", Verdict.WARNING)):
        monkeypatch.setattr(module, "version", lambda name, installed=installed: installed)
        assert check_ejs().verdict is verdict
    assert check_ejs().mend == f"python -m pip install yt-dlp-ejs=={wanted}"


@pytest.mark.parametrize(
    ("running", "verdict"), [((3, 10, 9), "missing"), ((3, 11, 0), "ok"), ((3, 13, 2), "ok"), ((3, 14, 0), "missing")]
)
def test_python_is_one_that_the_packages_run_on(running, verdict):
    assert check_python(running).verdict == verdict


def test_https_can_be_checked_and_is_said_to_where_it_cannot(monkeypatch, write_file):
    assert check_certificates().verdict is Verdict.OK
    monkeypatch.setattr("certifi.where", lambda: str(write_file("empty.pem")))
    monkeypatch.setattr(ssl.SSLContext, "load_verify_locations", lambda *_, **__: None)
    assert check_certificates().verdict is Verdict.MISSING


def test_an_absent_decoder_is_named(monkeypatch):
    assert check_pyav().verdict is Verdict.OK
    monkeypatch.setattr("av.codecs_available", {"aac", "mp3", "vorbis"})
    check = check_pyav()
    assert check.verdict is Verdict.MISSING
    assert "without opus" in check.found


def test_torch_and_torchaudio_of_two_releases_are_an_error(monkeypatch):
    assert check_torch().verdict is Verdict.OK
    monkeypatch.setattr("torch.__version__", "2.12.0+cu130")
    check = check_torch()
    assert check.verdict is Verdict.MISSING
    assert check.mend == 'python -m pip install "torchaudio==2.12.*"'


@pytest.mark.parametrize(("free", "verdict"), [(50e9, "ok"), (2e9, "warning"), (5e7, "missing")])
def test_little_room_is_said(monkeypatch, tmp_path, free, verdict):
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=free))
    check = check_disk(tmp_path / "not" / "yet")
    assert check.verdict == verdict
    assert f"over {free // 882_000:,.0f} clips of 10 s" in check.found


def test_a_file_in_the_caches_place_is_an_error(write_file):
    assert check_disk(write_file("cache") / "below").verdict is Verdict.MISSING


def test_the_ledger_is_opened_and_counted(tmp_path):
    path = tmp_path / "ledger.sqlite"
    assert check_ledger(path).found == "none yet"
    assert not path.exists()
    with Ledger(path) as ledger:
        ledger.put_many([LedgerRow.of(Clip("a", "https://host/a", 0, 1, ("x",), "a"), State.OK)])
    assert check_ledger(path) == Check("ledger", Verdict.OK, "1 ok")
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    check = check_ledger(path)
    assert check.verdict is Verdict.MISSING
    assert "update audioclf" in check.mend


def test_cookies_are_counted_and_never_shown(write_file):
    check = check_cookies(str(write_file("cookies.txt", COOKIES)))
    assert check.verdict is Verdict.OK
    assert check.found.startswith("1 in ")
    assert "secret" not in repr(check)


@pytest.mark.parametrize(
    "content", ["", "{}", "# Netscape HTTP Cookie File\n", COOKIES.partition("\n")[2], b"\xff\xfe"]
)
def test_a_file_that_holds_no_cookies_is_an_error_that_shows_nothing_of_it(write_file, content):
    check = check_cookies(str(write_file("cookies.txt", content)))
    assert check.verdict is Verdict.MISSING
    assert check.mend
    assert "secret" not in repr(check)


def test_cookies_are_read_as_fetching_reads_them(write_file, monkeypatch):
    path = write_file("cookies.txt", COOKIES)
    monkeypatch.setenv("HOME", str(path.parent))
    assert check_cookies("~/cookies.txt").verdict is Verdict.OK
    path.write_text(COOKIES + "host.example\tTRUE\t/\tFALSE\t0\ta\tb\n")  # refused by the session
    assert check_cookies(str(path)).verdict is Verdict.MISSING


@pytest.mark.parametrize("path", ["gone.txt", "a\0b", ".", "~no-such-user/cookies.txt"])
def test_cookies_that_cannot_be_read_are_an_error(path):
    assert check_cookies(path).verdict is Verdict.MISSING


@pytest.mark.parametrize(
    ("error", "verdict"), [(ImportError("no av"), Verdict.MISSING), (AttributeError("moved"), Verdict.WARNING)]
)
def test_a_check_that_fails_itself_stops_no_other(error, verdict):
    def fails():
        raise error

    check = module._guarded("PyAV", fails)
    assert check.verdict is verdict
    assert check.mend == ("python -m pip install --force-reinstall av" if verdict is Verdict.MISSING else "")


def test_an_extra_that_is_not_installed_is_named_and_no_fault():
    assert check_extra("YAMNet", "yamnet", "no-such-package") == Check(
        "YAMNet", Verdict.OK, "not installed; pip install 'audioclf[yamnet]'"
    )
    assert check_extra("pytest", "any", "pytest").found.startswith("pytest ")
