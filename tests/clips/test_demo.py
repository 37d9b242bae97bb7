"""The demo data set: the same bytes each time, sound audio under every label, nothing half-written."""

from __future__ import annotations

import csv
import os
import random
import re
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

import audioclf
from audioclf.clips.clip import Clip, safe_name
from audioclf.clips.demo import MAX_CLASSES, Recording, read_demo, write_demo
from audioclf.clips.synthesis import SAMPLE_RATE, SOUNDS
from audioclf.errors import UserError

PER_CLASS = 2
FRAME = SAMPLE_RATE // 20  # 50 ms


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Table of a small set with every class."""
    return write_demo(tmp_path_factory.mktemp("demo"), num_classes=MAX_CLASSES, recordings_per_class=PER_CLASS)


@pytest.fixture(scope="module")
def clips(demo: Path) -> list[Clip]:
    return read_demo(demo)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Recordings without a sound, for tests that look at the folder only."""
    monkeypatch.setattr(Recording, "render", lambda self: np.zeros(100, dtype=np.int16))


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix != ".tmp"}


def levels(wave: np.ndarray) -> np.ndarray:
    """RMS of each 50 ms in dB."""
    frames = wave[: len(wave) // FRAME * FRAME].reshape(-1, FRAME)
    return 10 * np.log10((frames**2).mean(axis=1) + 1e-12)


def of_recording(clips: list[Clip]) -> dict[str, list[Clip]]:
    groups: dict[str, list[Clip]] = {}
    for clip in clips:
        groups.setdefault(clip.source, []).append(clip)
    return groups


# --- what is in it ---------------------------------------------------------------------------------------------------


def test_recordings_are_long_mono_16_bit_flac_neither_silent_nor_clipped(clips: list[Clip]) -> None:
    for source in of_recording(clips):
        info = soundfile.info(source)
        assert (info.format, info.subtype, info.channels, info.samplerate) == ("FLAC", "PCM_16", 1, SAMPLE_RATE)
        assert 32 <= info.duration <= 36
        wave, _ = soundfile.read(source)
        assert -18.1 <= 20 * np.log10(np.abs(wave).max()) <= -8.9
        assert abs(wave.mean()) < 0.01


def test_segments_lie_inside_their_recording_and_do_not_overlap(clips: list[Clip]) -> None:
    for source, segments in of_recording(clips).items():
        assert len(segments) == 3
        edges = [0.0, *(edge for clip in segments for edge in (clip.start, clip.end)), soundfile.info(source).duration]
        assert np.all(np.diff(edges) >= 0.2), source
        assert all(4.6 <= round(clip.end - clip.start, 3) <= 5.0 for clip in segments)


def test_positions_and_durations_vary(clips: list[Clip]) -> None:
    assert len({clip.start for clip in clips}) > 0.9 * len(clips)
    assert len({round(clip.end - clip.start, 3) for clip in clips}) > 0.5 * len(clips)


def test_every_label_is_heard_above_the_background(clips: list[Clip]) -> None:
    for source, segments in of_recording(clips).items():
        wave, rate = soundfile.read(source)
        outside = np.ones(len(wave), dtype=bool)
        for clip in segments:
            outside[int(clip.start * rate) : int(clip.end * rate) + rate // 2] = False
        background = np.median(levels(wave[outside]))
        assert background > -80, f"digital silence in {source}"
        for clip in segments:
            loudest = levels(wave[int(clip.start * rate) : int(clip.end * rate)]).max()
            assert loudest > background + 8, clip.id


def test_no_two_recordings_are_the_same(clips: list[Clip]) -> None:
    waves = [soundfile.read(source, frames=4 * SAMPLE_RATE)[0] for source in of_recording(clips)]
    waves = [wave / np.linalg.norm(wave) for wave in waves]  # nor the same but for their level
    likeness = np.abs(np.corrcoef(waves))[np.triu_indices(len(waves), 1)]
    assert likeness.max() < 0.5


def test_clips_of_one_recording_resemble_each_other(clips: list[Clip]) -> None:
    """What makes a split by clip leak: the mean spectrum of a clip is nearer to its recording's than to its class's."""

    def spectrum(clip: Clip) -> np.ndarray:
        wave, _ = soundfile.read(clip.source, start=int(clip.start * SAMPLE_RATE), frames=4 * SAMPLE_RATE)
        return np.log(np.abs(np.fft.rfft(wave[: 86 * 1024].reshape(86, 1024))).mean(axis=0) + 1e-9)

    within, across = [], []
    for label in SOUNDS:
        takes = [clip for clip in clips if clip.label == label]
        spectra = [spectrum(clip) for clip in takes]
        for i, a in enumerate(takes):
            for j in range(i):
                distance = np.linalg.norm(spectra[i] - spectra[j])
                (within if a.group == takes[j].group else across).append(distance)
    assert np.mean(within) < 0.6 * np.mean(across)


@pytest.mark.parametrize("label", SOUNDS)
def test_no_take_is_silent_however_short(label: str) -> None:
    for seed in range(15):
        rng = np.random.default_rng(seed)
        wave = SOUNDS[label](rng)(rng, int(0.4 * SAMPLE_RATE))
        assert wave.shape == (int(0.4 * SAMPLE_RATE),)
        assert np.isfinite(wave).all()
        assert levels(wave).max() > -40, seed


# --- the same bytes each time ----------------------------------------------------------------------------------------


def test_same_arguments_same_bytes_and_no_recording_depends_on_the_size_of_the_set(demo: Path, tmp_path: Path) -> None:
    once = contents(write_demo(tmp_path / "once", num_classes=2, recordings_per_class=1).parent)
    again = contents(write_demo(tmp_path / "again", num_classes=2, recordings_per_class=1).parent)
    assert once == again
    larger = contents(demo.parent)
    recordings = [name for name in once if name.endswith(".flac")]
    assert len(recordings) == 2
    assert all(once[name] == larger[name] for name in recordings)


def test_another_seed_is_another_set(clips: list[Clip]) -> None:
    recording = Recording("bird", 1, seed=1)
    assert recording.id not in {clip.group for clip in clips}
    assert not np.array_equal(recording.render()[:1000], Recording("bird", 1, seed=0).render()[:1000])


# --- the table -------------------------------------------------------------------------------------------------------


def test_table_is_in_audiosets_format_and_says_that_it_is_synthetic(demo: Path) -> None:
    first, second, *rows = demo.read_text().splitlines()
    count = MAX_CLASSES * PER_CLASS
    assert first.startswith(f"# num_ytids={count}, num_segs={3 * count}, num_unique_labels={MAX_CLASSES}, ")
    assert "synthetic" in first
    assert second == "# YTID, start_seconds, end_seconds, positive_labels"
    assert len(rows) == 3 * count
    for row in rows:
        assert re.fullmatch(r'synthetic_\w+,\d+\.\d{3},\d+\.\d{3},"[a-z_]+"', row), row
    ids = {row[0] for row in csv.reader(rows)}
    assert ids == {path.stem for path in demo.parent.glob("*.flac")}
    assert "synthesised" in (demo.parent / "README.md").read_text()


def test_read_demo_gives_valid_clips(demo: Path, clips: list[Clip]) -> None:
    assert len(clips) == 3 * PER_CLASS * MAX_CLASSES == len({clip.id for clip in clips})
    for clip in clips:
        assert Path(clip.source).is_absolute()
        assert Path(clip.source) == demo.parent / f"{clip.group}.flac"
        assert clip.id == f"{clip.group}_{round(clip.start * 1000)}" == safe_name(clip.id)
        assert clip.labels == (clip.label,)
        assert f"_{clip.label}_" in clip.group
        assert (clip.split, clip.fold) == (None, None)
    assert [clip.label for clip in clips[:: 3 * PER_CLASS]] == list(SOUNDS)
    assert clips[1].annotation == "synthetic alarm beep, take 2"


def test_read_demo_makes_a_relative_path_absolute(demo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(demo.parent)
    assert Path(read_demo(Path(demo.name))[0].source).is_absolute()


@pytest.mark.parametrize(
    "row", ["a,1.0,2.0", "a,x,2.0,rain", "a,2.0,1.0,rain", ",1.0,2.0,rain", "a,nan,2.0,rain", "a,1.0,inf,rain"]
)
def test_read_demo_names_the_line_that_is_no_segment(row: str, tmp_path: Path) -> None:
    table = tmp_path / "segments.csv"
    table.write_text(f"# one\n# two\nb,0.0,1.0,rain\n{row}\n")
    with pytest.raises(UserError, match="line 4"):
        read_demo(table)


def test_read_demo_without_a_table(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot read"):
        read_demo(tmp_path / "segments.csv")


# --- writing ---------------------------------------------------------------------------------------------------------


def test_a_complete_set_is_left_alone_and_instant(demo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {path: path.stat().st_mtime_ns for path in demo.parent.iterdir()}
    monkeypatch.setattr(Recording, "render", lambda self: pytest.fail("rendered again"))
    started = time.perf_counter()
    assert write_demo(demo.parent, num_classes=MAX_CLASSES, recordings_per_class=PER_CLASS) == demo
    assert time.perf_counter() - started < 0.5
    assert {path: path.stat().st_mtime_ns for path in demo.parent.iterdir()} == before


def test_a_lost_recording_is_made_again_and_a_larger_set_keeps_the_smaller_ones(tmp_path: Path) -> None:
    small = contents(write_demo(tmp_path, num_classes=2, recordings_per_class=1).parent)
    lost, kept = sorted(tmp_path.glob("*.flac"))
    lost.unlink()
    written = kept.stat().st_mtime_ns
    write_demo(tmp_path, num_classes=2, recordings_per_class=1)
    assert contents(tmp_path) == small
    table = write_demo(tmp_path, num_classes=3, recordings_per_class=1)
    assert len(read_demo(table)) == 9
    assert kept.stat().st_mtime_ns == written


def test_a_table_of_someone_else_is_not_overwritten(tmp_path: Path) -> None:
    table = tmp_path / "segments.csv"
    theirs = "# num_ytids=1\n# YTID, start_seconds, end_seconds, positive_labels\nx,0,1,y\n"
    table.write_text(theirs)
    with pytest.raises(UserError, match="would be overwritten"):
        write_demo(tmp_path, num_classes=2, recordings_per_class=1)
    assert contents(tmp_path) == {"segments.csv": theirs.encode()}


@pytest.mark.usefixtures("quick")
def test_a_readme_of_someone_else_stays(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("mine")
    write_demo(tmp_path, num_classes=2, recordings_per_class=1)
    assert (tmp_path / "README.md").read_text() == "mine"


@pytest.mark.parametrize(
    "arguments", [{"num_classes": 1}, {"num_classes": MAX_CLASSES + 1}, {"recordings_per_class": 0}, {"seed": -1}]
)
def test_numbers_out_of_range_are_refused(arguments: dict[str, int], tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"{next(iter(arguments))}="):
        write_demo(tmp_path / "demo", **arguments)
    assert not (tmp_path / "demo").exists()


def test_a_folder_that_cannot_be_written_is_the_users_to_mend(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write"):
        write_demo(tmp_path / "file" / "demo")


def test_a_failing_disk_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(UserError, match="No space left"):
        write_demo(tmp_path, num_classes=2, recordings_per_class=1)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("quick")
def test_old_temporary_files_go_and_young_ones_stay(tmp_path: Path) -> None:
    old, young = tmp_path / "a.flac.00000000-1.tmp", tmp_path / "b.flac.00000000-1.tmp"
    for path in (old, young):
        path.write_bytes(b"half a recording")
    os.utime(old, (time.time() - 7200,) * 2)
    write_demo(tmp_path, num_classes=2, recordings_per_class=1)
    assert not old.exists()
    assert young.exists()


SLOW_DISK = """
    import sys, time
    from pathlib import Path
    from audioclf.clips.demo import write_demo

    class Slow:  # writes one half, waits, writes the other: any moment is likely to lie in the middle of a file
        def __init__(self, file): self.file = file
        def __enter__(self): return self
        def __exit__(self, *_): self.file.close()
        def __getattr__(self, name): return getattr(self.file, name)
        def write(self, content):
            self.file.write(content[:len(content) // 2])
            self.file.flush()
            time.sleep(0.1)
            self.file.write(content[len(content) // 2:])

    opened = Path.open
    Path.open = lambda path, mode="r", **k: Slow(opened(path, mode)) if "b" in mode else opened(path, mode, **k)
    write_demo(Path(sys.argv[1]), num_classes=3, recordings_per_class=2)
"""


def test_a_killed_run_leaves_no_partial_file_and_the_next_completes_it(demo: Path, tmp_path: Path) -> None:
    complete, folder = contents(demo.parent), tmp_path / "demo"
    environment = os.environ | {"PYTHONPATH": str(Path(audioclf.__file__).parents[1])}
    for _ in range(3):
        command = [sys.executable, "-c", textwrap.dedent(SLOW_DISK), str(folder)]
        with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL) as process:
            known = set(folder.glob("*")) | set(folder.glob(".*"))
            while process.poll() is None and set(folder.glob("*")) | set(folder.glob(".*")) <= known:
                time.sleep(0.005)
            delay = random.uniform(0, 0.4)
            time.sleep(delay)
            process.kill()
        assert process.returncode == -signal.SIGKILL
        found = contents(folder)
        assert "segments.csv" not in found
        for name, content in found.items():
            assert content == complete[name], f"{name} is partial, killed {delay:.3f} s after the first file"

    clips = read_demo(write_demo(folder, num_classes=3, recordings_per_class=2))
    assert len(clips) == 18
    found = contents(folder)
    assert len(found) == 6 + 2
    assert all(content == complete[name] for name, content in found.items() if name != "segments.csv")
