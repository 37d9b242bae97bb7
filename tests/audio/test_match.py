import re

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from audioclf.audio.match import LocalPiece, match_files, named_clips
from audioclf.clips.clip import Clip
from audioclf.clips.folder import AUDIO_SUFFIXES
from audioclf.errors import UserError

RATE = 8_000


def clip(id_, start=0.0, end=10.0, group=None):
    return Clip(id_, f"https://host/watch?v={group or id_}", start, end, ("x",), group or id_)


def recording(path, seconds):
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(
        path, np.zeros(round(seconds * RATE), np.int16), RATE, format="WAV" if path.suffix == ".WAV" else None
    )
    return path


IDS = st.text("abYZ019_-", min_size=1, max_size=12)
STARTS = st.integers(0, 500) | st.integers(0, 500_000).map(lambda ms: ms / 1000)


def spellings(start):
    """All ways a start may be written in a name."""
    ways = [f"{start:.3f}", f"{round(start * 1000)}"]
    if float(start).is_integer():
        ways += [f"{start:.0f}", f"{start:.1f}", f"{int(start):06d}"]
    return ways


@given(st.data(), IDS, STARTS, st.booleans())
def test_every_spelling_of_id_and_start_finds_the_clip(data, group, start, with_y):
    one = clip("row7", float(start), start + 10.0, group)
    stem = f"{'Y' if with_y else ''}{group}_{data.draw(st.sampled_from(spellings(start)))}"
    started, exact = named_clips(stem, {group: [one], "row7": [one]})
    assert (started, exact) == ([one], [])


@given(IDS, st.booleans())
def test_a_bare_id_finds_the_clip_without_a_start(group, with_y):
    one = clip("row7", 30.0, 40.0, group)
    assert named_clips(f"{'Y' if with_y else ''}{group}", {group: [one]}) == ([], [one])


@settings(max_examples=200)
@given(st.lists(st.tuples(IDS, st.integers(0, 60)), min_size=1, max_size=6, unique=True), st.data())
def test_a_name_never_finds_a_clip_of_another_recording_or_start(rows, data):
    clips = [clip(f"row{i}", float(start), start + 10.0, group) for i, (group, start) in enumerate(rows)]
    names = {}
    for one in clips:
        names.setdefault(one.group, []).append(one)
    stem = data.draw(st.sampled_from([f"{g}_{s}" for g, s in rows] + [g for g, _ in rows] + [f"Y{g}" for g, _ in rows]))
    started, exact = named_clips(stem, names)
    assert started or exact
    bare = {stem, stem.removeprefix("Y")}
    assert all(one.group in bare for one in exact)
    for one in started:
        assert any(name.startswith(f"{one.group}_") for name in bare)
        written = float(re.sub(r".*_", "", stem))
        assert one.start in (written, written / 1000)


@given(IDS, st.text("abY01_-.", max_size=12))
def test_other_names_find_nothing(group, stem):
    if stem not in (group, f"Y{group}") and not stem.startswith((f"{group}_", f"Y{group}_")):
        assert named_clips(stem, {group: [clip("row7", 30.0, 40.0, group)]}) == ([], [])


def test_seconds_go_before_milliseconds():
    early, late = clip("r1", 1.0, 11.0, "abc"), clip("r2", 1000.0, 1010.0, "abc")
    assert named_clips("abc_1000", {"abc": [early, late]}) == ([late], [])
    assert named_clips("abc_1000", {"abc": [early]}) == ([early], [])


def test_a_known_id_goes_before_a_start_and_a_leading_y():
    whole, cut = clip("abc_30", 5.0), clip("row1", 30.0, 40.0, "abc")
    assert named_clips("abc_30", {"abc_30": [whole], "abc": [cut]}) == ([], [whole])
    yes, no = clip("Yabc", 5.0), clip("abc", 5.0)
    assert named_clips("Yabc", {"Yabc": [yes], "abc": [no]}) == ([], [yes])


def test_names_and_lengths_decide_the_cut(tmp_path):
    clips = [clip(f"c{i}", 30.0, 40.0, f"g{i}") for i in range(7)]
    cut = recording(tmp_path / "deep" / "er" / "g0_30000.WAV", 9.0)  # a name with a start: cut, whatever its length
    as_long = recording(tmp_path / "Yg1.flac", 9.95)
    whole = recording(tmp_path / "g2.wav", 62.0)
    just = recording(tmp_path / "c3.wav", 40.0)  # the clip's own id
    unclear = recording(tmp_path / "g4.wav", 20.0)
    broken = tmp_path / "g5.mp3"
    broken.write_bytes(b"no audio")
    notes = tmp_path / "g6.txt"
    notes.write_text("not audio by name")
    recording(tmp_path / ".hidden" / "g6.wav", 62.0)
    recording(tmp_path / "._g6.wav", 62.0)
    match = match_files(clips, tmp_path)
    assert match.pieces == {
        clips[0]: LocalPiece(cut, 0.0, 10.0),
        clips[1]: LocalPiece(as_long, 0.0, 10.0),
        clips[2]: LocalPiece(whole, 30.0, 40.0),
        clips[3]: LocalPiece(just, 30.0, 40.0),
        clips[5]: LocalPiece(broken, 30.0, 40.0),  # fails by name when it is decoded
    }
    assert match.unmatched == [clips[4], clips[6]]
    assert match.unused == match.unclear == [unclear]
    lines = match.summary_lines()
    assert lines[0] == "5 clips have a file, 2 have none; 1 files are not used"
    assert str(unclear) in lines[1]


def test_open_ends(tmp_path):
    clips = [clip("a", 3.0, None), clip("b", 3.0, None)]
    whole, cut = recording(tmp_path / "a.wav", 9.0), recording(tmp_path / "b_3.wav", 6.0)
    pieces = match_files(clips, tmp_path).pieces
    assert pieces == {clips[0]: LocalPiece(whole, 3.0, None), clips[1]: LocalPiece(cut, 0.0, None)}


def test_one_recording_serves_all_its_clips(tmp_path):
    clips = [clip(f"r{start}", float(start), start + 10.0, "g") for start in (0, 20, 50)]
    whole = recording(tmp_path / "g.wav", 45.0)
    match = match_files(clips, tmp_path)
    assert match.pieces == {c: LocalPiece(whole, c.start, c.end) for c in clips[:2]}
    assert match.unmatched == [clips[2]]


def test_a_short_file_from_the_beginning_is_taken(tmp_path):
    short = recording(tmp_path / "a.wav", 7.0)
    assert match_files([clip("a")], tmp_path).pieces == {clip("a"): LocalPiece(short, 0.0, 10.0)}


@pytest.mark.parametrize("starts", [(0, 20), (20, 50)])
def test_a_cut_that_could_be_several_clips_is_not_taken(tmp_path, starts):
    clips = [clip(f"r{start}", float(start), start + 10.0, "g") for start in starts]
    path = recording(tmp_path / "g.wav", 10.0)
    match = match_files(clips, tmp_path)
    assert match.pieces == {}
    assert match.unclear == [path]
    own = recording(tmp_path / "r20.wav", 10.0)  # an id names one clip
    assert match_files(clips, tmp_path).pieces == {clips[starts.index(20)]: LocalPiece(own, 0.0, 10.0)}


def test_several_files_for_a_clip_are_told_and_the_choice_is_fixed(tmp_path):
    one = clip("r", 30.0, 40.0, "g")
    whole, b = recording(tmp_path / "g.wav", 60.0), recording(tmp_path / "b" / "g_30.wav", 10.0)
    a = recording(tmp_path / "a" / "Yg_30.flac", 10.0)
    match = match_files([one], tmp_path)
    assert match.pieces == {one: LocalPiece(a, 0.0, 10.0)}
    assert match.ambiguous == [(one, [a, b, whole])]
    assert match.unused == [b, whole]
    assert f"  r: 3 files, {a} taken" in match.summary_lines()


def test_a_folder_is_needed(tmp_path):
    with pytest.raises(UserError, match="is no folder"):
        match_files([], tmp_path / "absent")


def test_extensions_are_lower_case_with_a_dot():
    assert {".wav", ".mp3", ".m4a", ".webm", ".opus", ".mp4"} <= AUDIO_SUFFIXES
    assert all(re.fullmatch(r"\.[a-z0-9]+", extension) for extension in AUDIO_SUFFIXES)
