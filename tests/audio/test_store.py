import errno
import os
import subprocess
import sys
import threading
import time
from dataclasses import replace

import numpy as np
import pytest
import soundfile

from audioclf.audio.decode import AudioError, Decoded, Failure
from audioclf.audio.ledger import State
from audioclf.audio.store import CANONICAL_RATE, AudioStore, pcm_sha256, read_pcm, to_pcm
from audioclf.clips.clip import Clip
from audioclf.errors import UserError
from audioclf.files import TEMPORARY_SUFFIX, _machine

CLIP = Clip("a", "https://host/a", 0.0, 1.0, ("x",), "a")


def decoded(samples, asked_s=1.0, note=""):
    return Decoded(samples.astype(np.float32), CANONICAL_RATE, asked_s, 48_000, 2, "decoder 1", note)


def test_what_is_written_is_read(store, noise):
    samples = noise(1.0)
    row = store.write(CLIP, decoded(samples))
    path = store.path(CLIP)
    assert path.parent.parent == store.root
    assert path.name == f"{CLIP.audio_key}.flac"
    assert CLIP.audio_key.rpartition("-")[2].startswith(path.parent.name)
    info = soundfile.info(path)
    assert (info.samplerate, info.channels, info.format, info.subtype) == (44_100, 1, "FLAC", "PCM_16")
    for handle in (CLIP, CLIP.audio_key):
        read = store.read(handle)
        assert read.dtype == np.float32
        assert np.abs(read - samples).max() <= 2**-16
    assert (row.key, row.clip_id, row.state, row.duration_s) == (CLIP.audio_key, "a", State.OK, 1.0)
    assert "decoder 1" in row.tool_versions
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_sha256_is_of_the_samples_whatever_the_encoder_wrote(store, noise):
    row = store.write(CLIP, decoded(noise(1.0)))
    path = store.path(CLIP)
    before = path.read_bytes()
    soundfile.write(path, read_pcm(path), CANONICAL_RATE, subtype="PCM_16", compression_level=0)
    assert path.read_bytes() != before
    assert pcm_sha256(read_pcm(path)) == row.sha256 == pcm_sha256(to_pcm(noise(1.0)))


def test_full_scale_does_not_wrap():
    assert to_pcm(np.array([1.0, -1.0, 32767 / 32768], np.float32)).tolist() == [32767, -32768, 32767]


def test_a_clip_with_a_hole_is_partial(store, noise):
    whole = decoded(noise(1.0), note="0.500 s are missing within it")
    row = store.write(CLIP, replace(whole, missing_s=0.5))
    assert (row.state, row.message) == (State.PARTIAL, whole.note)
    assert store.write(CLIP, replace(whole, missing_s=0.01)).state is State.OK


@pytest.mark.parametrize("level", [0.0, 0.25, 1e-6])
def test_equal_samples_are_silent(store, level):
    assert store.write(CLIP, decoded(np.full(44_100, level))).state is State.SILENT


def test_the_faintest_sound_is_not_silent(store):
    samples = np.zeros(44_100)
    samples[7] = 1 / 32768
    assert store.write(CLIP, decoded(samples)).state is State.OK


@pytest.mark.parametrize(("asked_s", "state"), [(1.019, State.OK), (1.021, State.PARTIAL), (0.979, State.PARTIAL)])
def test_20_ms_divide_ok_from_partial(store, noise, asked_s, state):
    row = store.write(CLIP, decoded(noise(1.0), asked_s, note="broke off"))
    assert row.state is state
    assert row.duration_s == 1.0
    assert row.message == ("broke off" if state is State.OK else f"1.000 s of {asked_s:.3f} s; broke off")


def test_another_rate_is_a_programming_error(store, noise):
    with pytest.raises(ValueError, match="expected 44100 Hz"):
        store.write(CLIP, Decoded(noise(1.0), 16_000, 1.0, 16_000, 1, ""))


def test_a_reader_sees_the_old_or_the_new_audio_never_a_part(store, noise):
    versions = [noise(1.0, seed=seed) for seed in (1, 2)]
    sums = {store.write(CLIP, decoded(samples)).sha256 for samples in versions}
    writing = threading.Thread(target=lambda: [store.write(CLIP, decoded(samples)) for samples in versions * 15])
    writing.start()
    reads = 0
    while writing.is_alive() or not reads:
        assert pcm_sha256(read_pcm(store.path(CLIP))) in sums
        reads += 1
    writing.join()


def test_absent_and_damaged_files_are_typed(store, noise):
    with pytest.raises(AudioError, match="fetch or import") as caught:
        store.read(CLIP)
    assert caught.value.failure == Failure.MISSING
    store.write(CLIP, decoded(noise(1.0)))
    path = store.path(CLIP)
    content = path.read_bytes()
    for damaged in (content[: len(content) // 2], content[:100], b"", b"text"):
        path.write_bytes(damaged)
        with pytest.raises(AudioError) as caught:
            store.read(CLIP)
        assert caught.value.failure == Failure.TRUNCATED
    soundfile.write(path, noise(1.0), 22_050)
    with pytest.raises(AudioError, match="22050 Hz"):
        store.read(CLIP)


def test_clean_removes_what_dead_processes_left_and_nothing_else(store):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    folder = store.root / "ab"
    folder.mkdir(parents=True)
    old = time.time() - 7200

    def leave(machine, pid, written=None):
        path = folder / f"k.flac.{machine}-{pid}{TEMPORARY_SUFFIX}"
        path.write_bytes(b"")
        if written:
            os.utime(path, (written, written))
        return path

    dead, ours, elsewhere = leave(_machine(), gone.pid), leave(_machine(), os.getpid()), leave("0000000x", gone.pid)
    old_elsewhere, flac = leave("0000000y", 1, old), folder / "k.flac"
    flac.write_bytes(b"")
    assert store.clean() == 2
    assert not dead.exists()
    assert not old_elsewhere.exists()
    assert ours.exists()
    assert elsewhere.exists()
    assert flac.exists()
    assert AudioStore(store.root / "absent").clean() == 0


def test_a_full_disk_is_the_users_and_leaves_nothing(store, noise, monkeypatch):
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match="No space left") as caught:
        store.write(CLIP, decoded(noise(1.0)))
    assert "make room" in (caught.value.hint or "")
    assert not [path for path in store.root.rglob("*") if path.is_file()]
