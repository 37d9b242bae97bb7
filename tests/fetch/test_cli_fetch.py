"""`python -m audioclf fetch` and `python train.py` on links, as processes: exit codes, Ctrl-C, kill -9."""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from audioclf.audio.ledger import Ledger, LedgerRow, Site
from audioclf.audio.store import AudioStore, pcm_sha256, read_pcm
from audioclf.cli import main
from audioclf.clips.clip import Clip
from audioclf.clips.manifest import read_manifest
from audioclf.config import CsvData
from audioclf.errors import EXIT_INTERRUPTED, EXIT_OK, EXIT_RETRY_LATER, EXIT_USAGE

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")

TABLE = ["data=csv", "data.csv=links.csv"]
QUICK = ["fetch.allow_private=true", "fetch.sleep=0", "fetch.per_hour=null", "fetch.workers_per_site=8"]
FAULTS = {  # kind -> what its clips are in the end
    "404": "not_found",
    "503": "ok",
    "html": "no_media",
    "no-ranges": "ok",
    "cut": "ok",
}


def write_table(folder: Path, rows: list[tuple[str, float, str]]) -> list[Clip]:
    """``links.csv`` of (url, start, label), a second each; its clips."""
    lines = ["url,start,end,label", *(f"{url},{start},{start + 1},{label}" for url, start, label in rows)]
    (folder / "links.csv").write_text("\n".join(lines))
    data = CsvData.model_validate({"name": "csv", "csv": str(folder / "links.csv")})
    return read_manifest(data, folder).clips


def processes_in(folder: Path) -> list[str]:
    """Command lines of processes whose working directory the folder is: a command that was started there and all that it started."""
    found = []
    for cwd in Path("/proc").glob("[0-9]*/cwd"):
        try:
            if cwd.readlink() == folder and (command := (cwd.parent / "cmdline").read_text()):
                found.append(f"{cwd.parent.name} {command.replace(chr(0), ' ')}")
        except OSError:
            continue
    return found


def rows_of(folder: Path, clips: list[Clip]) -> dict[Clip, LedgerRow]:
    with Ledger(folder / "cache" / "ledger.sqlite") as ledger:
        found = ledger.get_many(clip.audio_key for clip in clips)
    return {clip: found[clip.audio_key] for clip in clips if clip.audio_key in found}


def wait_until(done: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_plan_fetch_status_and_train_from_links(
    launch: Callable[..., Any], media: Any, media_server: Any, tmp_path: Path
) -> None:
    """The way of a person with a table of links; training is one command, the others only tell more."""
    urls = [media_server.url(media("opus")) for _ in range(14)]
    rows = [(url, float(i if i % 2 else i + 15), "ab"[i % 2]) for i, url in enumerate(urls)]
    gone = media_server.url(media("opus"), "404")
    write_table(tmp_path, [*rows, (gone, 1.0, "a")])
    asked = len(media_server.requests())
    plan = launch("-m", "audioclf", "fetch", "--plan", *TABLE, cwd=tmp_path)
    assert plan.wait() == EXIT_OK, plan.printed
    assert "15 clips of 15 recordings to fetch; 0 need no fetching" in plan.printed
    assert "15 recordings at 127.0.0.1" in plan.printed and "time: about" in plan.printed

    small = [
        *("features.sample_rate=8000", "features.n_fft=512", "features.hop_length=256", "features.n_mels=8"),
        *("features.target_length=20", "model.hidden=16", "epochs=1", "lr=1e-3", "trainer.tensorboard=false"),
    ]
    offline = launch("train.py", *TABLE, *small, *QUICK, "fetch.enabled=false", cwd=tmp_path)
    assert offline.wait() == EXIT_USAGE and "15 not fetched" in offline.printed
    assert "python -m audioclf fetch" in offline.printed and len(media_server.requests()) == asked

    command = ["data=links", "data.csv=links.csv", *QUICK, "fetch.workers=2", "hydra.run.dir=run"]
    trained = launch("train.py", *command, *small, cwd=tmp_path)
    assert trained.wait() == EXIT_OK, trained.printed
    data = json.loads((tmp_path / "run" / "result.json").read_text())["data"]
    assert data["coverage"] == {
        "rows": 15,
        "usable": 14,
        "retriable": 1,
        "per_class": {"a": {"rows": 8, "usable": 7}, "b": {"rows": 7, "usable": 7}},
    }
    assert list(data["skipped"]) == ["not_found (dead)"]
    assert "1 can be tried again: `python -m audioclf fetch` with the same data keys" in trained.printed
    assert "coverage: 14 of 15 rows" in trained.printed and "a 7/8" in trained.printed
    asked = len(media_server.requests())

    again = launch("-m", "audioclf", "fetch", "data=links", *QUICK, "data.csv=links.csv", cwd=tmp_path)
    assert again.wait() == EXIT_RETRY_LATER and "15 clips: 14 ok, 1 failed" in again.printed
    status = launch("-m", "audioclf", "fetch", *TABLE, "--status", *QUICK, cwd=tmp_path)
    assert status.wait() == EXIT_OK and "1 dead: 1 not_found" in status.printed
    failures = (tmp_path / "cache" / "failures.csv").read_text().splitlines()
    assert len(failures) == 2 and gone in failures[1] and ",not_found,dead,404,1," in failures[1]
    assert len(media_server.requests()) == asked, "none of this asks the network"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--retry", "ded", *TABLE], "did you mean --retry dead?"),
        (["--retry", "", *TABLE], "no such class of failure"),
        (["--plan", "--status", *TABLE], "not allowed with"),
        (["data=csv", "data.csv=none.csv"], "data.csv=none.csv: no such file"),
        (["data=csv", "data.csv=local.csv"], "local.csv: no links in it"),
        ([], "data=demo: makes its own recordings"),
        ([*TABLE, "fetch.workers=0"], "fetch.workers=0"),
        ([*TABLE, "--now"], "--now"),
    ],
)
def test_bad_input_is_said_in_a_line_or_two_with_exit_code_2(
    launch: Callable[..., Any], tmp_path: Path, arguments: list[str], said: str
) -> None:
    write_table(tmp_path, [("https://127.0.0.1:9/x", 0, "a")])
    (tmp_path / "local.csv").write_text("path,label\na.wav,a\n")
    process = launch("-m", "audioclf", "fetch", *arguments, cwd=tmp_path)
    assert process.wait() == EXIT_USAGE
    assert said in process.printed and "Traceback" not in process.printed
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("workers", [2, pytest.param(8, marks=pytest.mark.slow)])
def test_as_many_recordings_as_workers_are_under_way_and_ctrl_c_ends_them_and_keeps_what_is_done(
    workers: int, launch: Callable[..., Any], media: Any, media_server: Any, tmp_path: Path
) -> None:
    stalled = [media_server.url(media("opus"), "stall") for _ in range(workers + 1)]
    clips = write_table(tmp_path, [(url, 1.0, "a") for url in (media_server.url(media("opus")), *stalled)])
    process = launch("-m", "audioclf", "fetch", *TABLE, *QUICK, f"fetch.workers={workers}", cwd=tmp_path)

    def under_way() -> int:
        return sum(any(entry["ended"] is None for entry in media_server.requests(url)) for url in stalled)

    wait_until(lambda: under_way() == workers)
    assert len(processes_in(tmp_path)) == workers + 1 and not media_server.requests(stalled[-1])
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait() == EXIT_INTERRUPTED, process.printed
    assert "the same command continues" in process.printed and "Traceback" not in process.printed
    assert processes_in(tmp_path) == [] and list(rows_of(tmp_path, clips)) == clips[:1]


@pytest.mark.parametrize(
    ("recordings", "clips_each", "workers", "kills"),
    [(12, 5, 2, 3), pytest.param(200, 5, 4, 10, marks=[pytest.mark.slow, pytest.mark.timeout(1800)])],
)
def test_kill_9_at_any_moment_loses_nothing_and_repeats_nothing(
    recordings: int,
    clips_each: int,
    workers: int,
    kills: int,
    launch: Callable[..., Any],
    media: Any,
    media_server: Any,
    tmp_path: Path,
) -> None:
    moments = random.Random(0)
    faulty = dict(zip(range(1, recordings, 10), list(FAULTS) * recordings, strict=False))
    rows, states = [], list[str]()
    for number in range(recordings):
        kind = faulty.get(number, "")
        once = {"times": 1} if FAULTS.get(kind) == "ok" and kind != "no-ranges" else {}
        url = media_server.url(media("opus"), kind, **once)
        rows += [(url, 1.0 + 5 * i, "a") for i in range(clips_each)]
        states += [FAULTS.get(kind, "ok")] * clips_each
    clips = write_table(tmp_path, rows)
    expected = dict(zip(clips, states, strict=True))
    store = AudioStore(tmp_path / "cache" / "audio")
    command = ("-m", "audioclf", "fetch", *TABLE, *QUICK, f"fetch.workers={workers}", "fetch.patience=20")

    def stored() -> int:
        return sum(1 for _ in store.root.glob("??/*.flac"))

    def requests() -> Counter[str]:
        return Counter(entry["path"].partition("n=")[2].partition("&")[0] for entry in media_server.requests())

    def check() -> set[str]:
        """Every row is right and every recording whose clips are all there, by its number on the server."""
        found = rows_of(tmp_path, clips) if (tmp_path / "cache" / "ledger.sqlite").exists() else {}
        open_recordings = {clip.source for clip in clips if clip not in found or not found[clip].state.usable}
        for clip, row in found.items():
            if row.state.usable:
                assert pcm_sha256(read_pcm(store.path(clip))) == row.sha256
                assert row.state == "ok" and row.duration_s == pytest.approx(1, abs=0.001)
        complete = {clip.source for clip in clips} - open_recordings
        return {source.partition("n=")[2].partition("&")[0] for source in complete}

    for _ in range(kills):
        complete, before = check(), requests()
        target = stored() + moments.randint(0, max(len(clips) // kills - 1, 1))
        process = launch(*command, cwd=tmp_path)
        wait_until(lambda process=process, target=target: not process.running or stored() > target, 600)
        time.sleep(moments.uniform(0, 0.1))
        process.kill()
        wait_until(lambda: not processes_in(tmp_path))
        after = requests()
        assert all(after[number] == before[number] for number in complete), "fetched again what was there"

    complete, before = check(), requests()
    last = launch(*command, cwd=tmp_path)
    assert last.wait(900) == (EXIT_RETRY_LATER if "not_found" in states else EXIT_OK), last.printed
    after = requests()
    assert all(after[number] == before[number] for number in complete)
    check()
    found = rows_of(tmp_path, clips)
    assert {clip: row.failure or row.state.value for clip, row in found.items()} == expected, last.printed
    assert stored() == states.count("ok") and not [*(tmp_path / "cache").rglob("*.tmp")]
    assert {
        path.name for path in (tmp_path / "cache").iterdir() if path.suffix not in {".sqlite-shm", ".sqlite-wal"}
    } == {*("audio", "ledger.sqlite", ".ledger.sqlite.fetch.lock", ".fetch-notice", "failures.csv")}
    assert processes_in(tmp_path) == []


def test_plan_and_status_tell_what_was_left_out_and_which_site_is_left_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table, cache = tmp_path / "links.csv", tmp_path / "cache"
    table.write_text("url,start,end,labels\nhttps://x.org/a,0,1,a|b\nhttps://x.org/b,5,1,a\n")
    with Ledger(cache / "ledger.sqlite") as ledger:
        ledger.put_site(Site("x.org", time.time() + 7200, "rate_limited", "slow down"))
        ledger.put_site(Site("y.org", time.time() - 1, "rate_limited", "slow down"))
    command = ["data=links", f"data.csv={table}", f"paths.cache={cache}", "data.on_bad_row=skip"]
    for look in ("--plan", "--status"):
        assert main(["fetch", look, *command]) == EXIT_OK
        printed = capsys.readouterr().out
        assert f"{table} (format columns): 1 clips" in printed and "1 bad rows skipped, e.g. " in printed
        assert "1 clips with several labels: the first label was kept" in printed
        assert "x.org is left alone until" in printed and "y.org" not in printed
    assert main(["fetch", "--plan", "--retry", "session", *command]) == EXIT_OK
    assert "left alone" not in capsys.readouterr().out
