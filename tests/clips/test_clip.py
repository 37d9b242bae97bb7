from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from audioclf.clips.clip import Clip
from audioclf.clips.table import read_table


def key(source: str, start: float = 30.0, end: float | None = 40.0, clip_id: str = "a") -> str:
    return Clip(clip_id, source, start, end, ("x",), "g").audio_key


def test_audio_has_one_name_however_the_clip_and_its_link_are_written():
    link = "https://www.youtube.com/watch?v=dQw4w9WgXcQ"
    assert key(link, clip_id="a") == key(link, clip_id="b")
    assert key(link) == key("https://youtu.be/dQw4w9WgXcQ") == key(f"{link}&t=12")
    assert key(link).startswith("dQw4w9WgXcQ_30-")


def test_other_segments_and_recordings_have_other_names():
    sources = ("https://h/a.mp3", "https://h/a.mp3?n=2", "https://h/b/a.mp3", "/x/a.mp3", "/y/a.mp3")
    keys = {key(source, start, end) for source in sources for start, end in ((0.0, 1.0), (0.0, None), (0.5, 1.0))}
    assert len(keys) == 15
    assert all(name.startswith("a.mp3_0") for name in keys)


def test_a_table_that_grows_keeps_the_names_of_the_audio_that_is_there(write_file):
    first = "url,start,end,label\nhttps://youtu.be/dQw4w9WgXcQ,30,40,a\n"
    before, _ = read_table(write_file("one.csv", first))
    after, _ = read_table(write_file("two.csv", first + "https://youtu.be/dQw4w9WgXcQ,30,35,b\n"))
    assert before[0].id != after[0].id  # both begin at 30 s
    assert before[0].audio_key == after[0].audio_key


@given(st.text(), st.floats(0, 1e6))
def test_the_name_is_one_safe_file_name(source, start):
    name = key(f"/{source}", start, None)
    assert name.isascii()
    assert Path(name).name == name
    assert not name.startswith(".")
