import errno
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

import audioclf
from audioclf.audio import AudioStore, Ledger, LedgerRow, State, import_clips, match_files
from audioclf.audio.store import pcm_sha256, read_pcm
from audioclf.clips.clip import Clip
from audioclf.errors import UserError
from audioclf.files import TEMPORARY_SUFFIX

BAD = {
    "empty": "empty",
    "text": "not_audio",
    "half": "partial",
    "nan": "non_finite",
    "one": "too_short",
    "silence": "silent",
    "constant": "silent",
    "vanished": "missing",
    "past": "out_of_range",
    "folder": "unreadable",
}
GOOD = ("eight", "fast", "plain")


@pytest.fixture
def bad_audio(tmp_path, noise, local_clip):
    """A clip of each kind that one meets in the wild, three good ones between them."""
    folder = tmp_path / "source"
    folder.mkdir()
    paths = {name: folder / f"{name}.wav" for name in (*BAD, *GOOD)}
    for name in ("past", "plain", "vanished"):
        soundfile.write(paths[name], noise(1.0), 44_100)
    paths["empty"].write_bytes(b"")
    paths["text"].write_text("this is not a recording")
    soundfile.write(folder / "whole.flac", noise(4.0), 44_100)
    paths["half"] = folder / "half.flac"
    content = (folder / "whole.flac").read_bytes()
    paths["half"].write_bytes(content[: len(content) // 2])
    soundfile.write(paths["nan"], np.full(44_100, np.nan), 44_100, subtype="FLOAT")
    soundfile.write(paths["one"], np.array([0.5]), 44_100)
    soundfile.write(paths["silence"], np.zeros(44_100), 44_100)
    soundfile.write(paths["constant"], np.full(44_100, 0.25), 44_100)
    paths["folder"].mkdir()
    soundfile.write(paths["eight"], np.stack([noise(1.0, seed=i) for i in range(8)], axis=1), 44_100)
    soundfile.write(paths["fast"], noise(1.0, 192_000), 192_000)
    clips = {name: local_clip(path) for name, path in paths.items()}
    clips["past"] = local_clip(paths["past"], 5.0, 6.0)
    paths["vanished"].unlink()
    return clips


def assert_whole(store, ledger, clips):
    """Every row that says ok has a FLAC that decodes to the row's sha256, and nothing half-written lies about."""
    rows = ledger.get_many(clip.audio_key for clip in clips)
    for row in rows.values():
        assert row.state is State.OK
        assert pcm_sha256(read_pcm(store.path(row.key))) == row.sha256
    return rows


def temporary_files(store):
    return list(store.root.rglob(f"*{TEMPORARY_SUFFIX}"))


@pytest.mark.parametrize("workers", [1, 3])
def test_each_bad_file_is_named_and_the_others_go_on(store, ledger, bad_audio, workers):
    link = Clip("link", "https://host/x", 0.0, 10.0, ("x",), "x")
    clips = [*bad_audio.values(), link]
    report = import_clips(clips, store, ledger, workers=workers)
    found = ledger.get_many(clip.audio_key for clip in clips)
    for name, expected in BAD.items():
        row = found[bad_audio[name].audio_key]
        assert (row.failure or row.state) == expected, row
        assert row.message or row.state is State.SILENT
    for name in GOOD:
        assert found[bad_audio[name].audio_key].state is State.OK
    assert link.audio_key not in found
    assert report.states == {State.OK: 3, State.PARTIAL: 1, State.SILENT: 2, State.FAILED: 7}
    assert report.states == ledger.counts()
    assert set(report.failures) == set(BAD.values()) - {"partial", "silent"}
    assert report.pending == [link]
    assert report.rows == {clip: found[clip.audio_key] for clip in bad_audio.values()}
    assert {clip.id for clip, _ in report.unusable} == set(BAD) - {"half"} | {"link"}
    text = "\n".join(report.summary_lines())
    assert "14 clips: 3 ok, 1 partial, 2 silent, 7 failed, 1 pending (13 imported now)" in text
    for name in set(BAD) - {"half"}:
        assert f"  {name}: " in text
    assert not temporary_files(store)
    assert store.path(bad_audio["half"]).exists()
    assert 1.5 < found[bad_audio["half"].audio_key].duration_s < 2.5


def test_a_second_import_does_only_what_is_needed(store, ledger, noise, local_clip, tmp_path):
    clips = []
    for name in ("same", "changed", "source gone", "flac gone", "row gone"):
        soundfile.write(tmp_path / f"{name}.wav", noise(0.5), 44_100)
        clips.append(local_clip(tmp_path / f"{name}.wav"))
    absent = local_clip(tmp_path / "absent.wav")
    first = import_clips([*clips, absent], store, ledger)
    assert first.imported == 6
    again = import_clips([*clips, absent], store, ledger)
    assert again.imported == 1  # the absent one is tried again
    assert again.rows[absent].attempts == 2

    _, changed, source_gone, flac_gone, row_gone = clips
    soundfile.write(changed.source, noise(0.5, seed=1), 44_100)
    Path(source_gone.source).unlink()
    store.path(flac_gone).unlink()
    with Ledger(tmp_path / "other.sqlite") as other:
        others = import_clips([row_gone], store, other)  # killed between FLAC and row
    assert others.imported == 1
    last = import_clips(clips, store, ledger)
    assert last.imported == 2
    assert last.states[State.OK] == 5
    assert last.rows[changed].sha256 != first.rows[changed].sha256
    assert last.rows[changed].attempts == 2
    assert store.path(flac_gone).exists()


def test_a_segment_listed_twice_is_imported_once(store, ledger, noise, local_clip, tmp_path):
    soundfile.write(tmp_path / "a.wav", noise(0.5), 44_100)
    clips = [local_clip(tmp_path / "a.wav", labels=(label,)) for label in ("x", "y")]
    report = import_clips(clips, store, ledger)
    assert report.imported == 1
    assert report.states[State.OK] == 2


def test_clips_are_cut_from_one_recording(store, ledger, noise, local_clip, tmp_path):
    samples = noise(4.0)
    soundfile.write(tmp_path / "a.wav", samples, 44_100)
    clips = [local_clip(tmp_path / "a.wav", float(i), i + 1.0, id=f"a{i}") for i in range(4)]
    import_clips(clips, store, ledger)
    assert np.abs(np.concatenate([store.read(clip) for clip in clips]) - samples).max() <= 2**-15


def test_own_files_serve_clips_whose_sources_are_links(store, ledger, noise, tmp_path):
    folder = tmp_path / "mine"
    folder.mkdir()
    samples = noise(5.0)
    soundfile.write(folder / "Yabc-_1.wav", samples, 44_100)
    soundfile.write(folder / "def_2000.flac", samples[:44_100], 44_100)
    soundfile.write(folder / "stranger.wav", samples, 44_100)
    clips = [Clip(f"{g}.{s}", f"https://host/{g}", s, s + 1.0, ("x",), g) for g, s in [("abc-_1", 3.0), ("def", 2.0)]]
    missing = Clip("ghi.0", "https://host/ghi", 0.0, 1.0, ("x",), "ghi")
    report = import_clips([*clips, missing], store, ledger, files=match_files([*clips, missing], folder))
    assert report.states[State.OK] == 2
    assert report.pending == [missing]
    assert np.abs(store.read(clips[0]) - samples[3 * 44_100 : 4 * 44_100]).max() <= 2**-15
    assert np.abs(store.read(clips[1]) - samples[:44_100]).max() <= 2**-15
    assert report.rows[clips[0]].source == "https://host/abc-_1"
    assert report.summary_lines()[0] == "2 clips have a file, 1 have none; 1 files are not used"
    # What was imported from own files stays when only the table is at hand, and is pending once its audio is lost.
    assert import_clips(clips, store, ledger).imported == 0
    store.path(clips[0]).unlink()
    assert import_clips(clips, store, ledger).pending == [clips[0]]


def test_a_failed_fetch_is_mended_by_an_own_file(store, ledger, noise, tmp_path):
    clip = Clip("abc", "https://host/abc", 0.0, 1.0, ("x",), "abc")
    ledger.put_many([replace(LedgerRow.of(clip, State.FAILED, failure="http"), http_status=404)])
    soundfile.write(tmp_path / "abc.wav", noise(1.0), 44_100)
    assert import_clips([clip], store, ledger).rows[clip].http_status == 404  # without a file it is left alone
    mended = import_clips([clip], store, ledger, files=match_files([clip], tmp_path)).rows[clip]
    assert (mended.state, mended.http_status, mended.attempts) == (State.OK, None, 2)


def test_a_full_disk_stops_the_import_and_keeps_what_is_done(store, ledger, sixty_wavs, local_clip, monkeypatch):
    clips = [local_clip(path) for path in sorted(sixty_wavs.iterdir())]
    real, calls = os.fsync, []

    def fills(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) > 20:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fills)
    with pytest.raises(UserError, match="No space left"):
        import_clips(clips, store, ledger, workers=2)
    assert len(calls) < 40  # stopped, not 40 failures
    assert len(assert_whole(store, ledger, clips)) == 20
    assert not temporary_files(store)
    monkeypatch.undo()
    assert import_clips(clips, store, ledger).imported == 40


SCRIPT = """
import sys
from pathlib import Path
from audioclf.audio import AudioStore, Ledger, import_clips
from audioclf.clips.clip import Clip
root, folder = map(Path, sys.argv[1:])
clips = [Clip(path.stem, str(path), 0.0, None, ("x",), path.stem) for path in sorted(folder.iterdir())]
with Ledger(root / "ledger.sqlite") as ledger:
    print("ready", flush=True)
    sys.stdin.readline()
    import_clips(clips, AudioStore(root / "audio"), ledger, workers=2)
"""


def start_imports(root: Path, folder: Path, number: int = 1) -> list[subprocess.Popen[str]]:
    """Processes that import ``folder``, started together once all of them have loaded."""
    environment = os.environ | {"PYTHONPATH": str(Path(audioclf.__file__).parents[1])}
    command = [sys.executable, "-c", SCRIPT, str(root), str(folder)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    processes = [subprocess.Popen(command, env=environment, text=True, **pipes) for _ in range(number)]
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    return processes


def wait_for_flacs(root: Path, number: int, since_ns: int = 0) -> None:
    """Until so many FLACs have been written since a moment."""
    deadline = time.monotonic() + 30
    while sum(path.stat().st_mtime_ns > since_ns for path in root.rglob("*.flac")) < number:
        assert time.monotonic() < deadline
        time.sleep(0.002)


@pytest.mark.skipif(os.name != "posix", reason="kills with SIGKILL")
@pytest.mark.parametrize("begin", ["with nothing", "over finished ones"])
def test_what_the_ledger_calls_ok_survives_sigkill(tmp_path, sixty_wavs, local_clip, begin):
    folder = shutil.copytree(sixty_wavs, tmp_path / "source")
    clips = [local_clip(path) for path in sorted(folder.iterdir())]
    store, chance = AudioStore(tmp_path / "audio"), random.Random(begin)
    if begin == "over finished ones":
        with Ledger(tmp_path / "ledger.sqlite") as ledger:
            import_clips(clips, store, ledger, workers=2)
        for clip in clips:  # other audio than the FLACs that the ledger vouches for
            samples, rate = soundfile.read(clip.source)
            soundfile.write(clip.source, samples * 0.5, rate)
    seen = 0
    for _ in range(3):  # each goes on where the last was killed
        since_ns = time.time_ns()
        (process,) = start_imports(tmp_path, folder)
        wait_for_flacs(tmp_path, 6, since_ns)
        time.sleep(chance.uniform(0.0, 0.03))
        process.kill()
        process.communicate()
        assert process.returncode == -signal.SIGKILL
        with Ledger(tmp_path / "ledger.sqlite") as ledger:
            rows = assert_whole(store, ledger, clips)
        assert seen <= len(rows) < 60
        seen = len(rows)
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        report = import_clips(clips, store, ledger, workers=2)
        assert report.imported == 60 - seen
        assert len(assert_whole(store, ledger, clips)) == 60
        assert import_clips(clips, store, ledger).imported == 0
    assert not temporary_files(store)


@pytest.mark.skipif(os.name != "posix", reason="sends SIGINT")
def test_ctrl_c_keeps_what_is_finished_and_leaves_nothing_else(tmp_path, sixty_wavs, local_clip):
    clips = [local_clip(path) for path in sorted(sixty_wavs.iterdir())]
    (process,) = start_imports(tmp_path, sixty_wavs)
    wait_for_flacs(tmp_path, 15)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode != 0
    assert "KeyboardInterrupt" in errors
    store = AudioStore(tmp_path / "audio")
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        rows = assert_whole(store, ledger, clips)
    assert 15 <= len(rows) < 60
    assert {path.stem for path in store.root.rglob("*.flac")} == set(rows)
    assert not temporary_files(store)


def test_two_processes_share_a_store(tmp_path, sixty_wavs, local_clip):
    clips = [local_clip(path) for path in sorted(sixty_wavs.iterdir())]
    for process in start_imports(tmp_path, sixty_wavs, number=2):
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        store = AudioStore(tmp_path / "audio")
        assert len(assert_whole(store, ledger, clips)) == 60
        assert import_clips(clips, store, ledger).imported == 0
    assert not temporary_files(store)
