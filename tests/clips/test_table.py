"""Any table of clips: what is read, and what is refused with file, line, column and reason."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from audioclf.clips.clip import Clip
from audioclf.clips.links import recording_id
from audioclf.clips.rows import BadRow
from audioclf.clips.table import Layout, read_table
from audioclf.errors import UserError

WriteFile = Callable[..., Path]
YOUTUBE = "dQw4w9WgXcQ"


@pytest.fixture
def read(write_file: WriteFile) -> Callable[..., list[Clip]]:
    """Reads a table that has no bad rows."""

    def clips_of(text: str | bytes, name: str = "clips.csv") -> list[Clip]:
        clips, bad = read_table(write_file(name, text))
        assert bad == []
        return clips

    return clips_of


Read = Callable[..., list[Clip]]


# --- forms of the file -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("clips.csv", "path,start,label\ndog.wav,1.5,dog\n"),
        ("clips.csv", "path;start;label\ndog.wav;1.5;dog\n"),
        ("clips.tsv", "path\tstart\tlabel\ndog.wav\t1.5\tdog\n"),
        ("clips.csv", "path\tstart\tlabel\ndog.wav\t1.5\tdog\n"),
        ("clips.csv", "\ufeffpath,start,label\ndog.wav,1.5,dog\n"),
        ("clips.csv", '"path","start","label"\r\n"dog.wav","1.5","dog"\r\n'),
        ("clips.csv", " Path , START ,Label\n dog.wav , 1.5 , dog \n"),
        ("clips.csv", "\n,,\npath,start,label\n\n,,\ndog.wav,1.5,dog\n\n\n"),
        ("clips.csv", "start,label,note,path\n1.5,dog,wet,dog.wav"),
        ("clips.csv", "path,start,label,,\ndog.wav,1.5,dog,,\n"),
        ("clips.csv", "path,start,label\ndog.wav,1.5,dog,,\n"),
    ],
    ids=["comma", "semicolon", "tsv", "tab", "bom", "quotes", "spaces", "blank", "order", "unnamed", "empty-extra"],
)
def test_the_form_of_the_table_does_not_matter(name: str, text: str, read: Read, tmp_path: Path) -> None:
    (clip,) = read(text, name)
    assert (clip.source, clip.start, clip.end, clip.labels) == (str(tmp_path / "dog.wav"), 1.5, None, ("dog",))


def test_a_quoted_cell_may_hold_separators_quotes_and_lines(read: Read) -> None:
    first, second = read('path,label,annotation\na.wav,"dog, big","he said ""woof""\ntwice"\nb.wav,cat,\n')
    assert first.labels == ("dog, big",)
    assert first.annotation == 'he said "woof"\ntwice'
    assert second.annotation == ""


def test_a_link_in_the_column_of_paths_is_said_to_be_one(write_file: WriteFile, tmp_path: Path) -> None:
    _, (bad,) = read_table(write_file("t.csv", "path,label\nhttps://x.org/a.wav,dog\n"))
    assert "is a link; expected a file (data.columns.url=COLUMN" in str(bad)
    ((clip,), bad) = read_table(tmp_path / "t.csv", layout=Layout({"url": "path"}))
    assert not bad and clip.source == "https://x.org/a.wav", "as it says"


def test_every_column_reaches_its_field(read: Read, tmp_path: Path) -> None:
    (clip,) = read(
        "path,start,end,label,annotation,split,fold,group,id\nx/dog.wav,1,2.5,dog,a bark,Validation,3,tape 1,my clip\n"
    )
    assert clip == Clip(
        id="my_clip",
        source=str(tmp_path / "x" / "dog.wav"),
        start=1.0,
        end=2.5,
        labels=("dog",),
        group="tape 1",
        annotation="a bark",
        split="val",
        fold=3,
    )


@pytest.mark.parametrize(
    ("cell", "labels"),
    [
        ("dog|cat", ("dog", "cat")),
        ("dog;cat", ("dog", "cat")),
        ('"dog,cat"', ("dog", "cat")),
        ("dog; small | cat", ("dog; small", "cat")),
        ("dog||cat|dog|", ("dog", "cat")),
        ("dog", ("dog",)),
    ],
)
def test_labels_are_split_at_the_first_kind_of_separator(cell: str, labels: tuple[str, ...], read: Read) -> None:
    (clip,) = read(f"path,labels\na.wav,{cell}\n")
    assert clip.labels == labels


# --- sources, groups, ids --------------------------------------------------------------------------------------------


def test_relative_paths_start_from_the_table_or_from_audio_dir(write_file: WriteFile, tmp_path: Path) -> None:
    table = write_file("tables/clips.csv", f"path,label\nx/a.wav,dog\n{tmp_path / 'b.wav'},cat\n")
    beside, _ = read_table(table)
    assert [clip.source for clip in beside] == [str(tmp_path / "tables/x/a.wav"), str(tmp_path / "b.wav")]
    elsewhere, _ = read_table(table, tmp_path / "audio")
    assert [clip.source for clip in elsewhere] == [str(tmp_path / "audio/x/a.wav"), str(tmp_path / "b.wav")]


def test_sources_are_absolute_also_where_the_table_is_named_relatively(
    write_file: WriteFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_file("clips.csv", "path,label\na.wav,dog\n")
    monkeypatch.chdir(tmp_path)
    (clip,), _ = read_table(Path("clips.csv"))
    assert clip.source == str(tmp_path / "a.wav")


@pytest.mark.parametrize(
    ("link", "group"),
    [
        (f"https://www.youtube.com/watch?v={YOUTUBE}", YOUTUBE),
        (f"https://www.youtube.com/watch?list=x&v={YOUTUBE}&t=30s", YOUTUBE),
        (f"https://youtu.be/{YOUTUBE}?t=30", YOUTUBE),
        (f"http://m.youtube.com/watch?v={YOUTUBE}", YOUTUBE),
        (f"https://www.youtube.com/shorts/{YOUTUBE}", YOUTUBE),
        (f"https://www.youtube-nocookie.com/embed/{YOUTUBE}?start=3", YOUTUBE),
        ("https://example.org/a/rain.mp3?key=1#t=30", "https://example.org/a/rain.mp3?key=1"),
        ("https://youtu.be/", "https://youtu.be/"),
        ("https://www.youtube.com/watch?v=", "https://www.youtube.com/watch?v="),
    ],
)
def test_a_link_is_grouped_by_its_recording(link: str, group: str, read: Read) -> None:
    (clip,) = read(f"url,label\n{link},dog\n")
    assert (clip.source, clip.group) == (link, group)
    assert recording_id(link) == group


def test_a_row_with_path_and_url_takes_the_path_and_one_without_takes_the_url(read: Read, tmp_path: Path) -> None:
    here, there = read("path,url,label\na.wav,https://example.org/a.wav,dog\n,https://example.org/b.wav,dog\n")
    assert (here.source, there.source) == (str(tmp_path / "a.wav"), "https://example.org/b.wav")


def test_one_file_has_one_group_however_its_path_is_written(read: Read, tmp_path: Path) -> None:
    clips = read(f"path,start,label\na.wav,0,x\n./a.wav,5,x\n.//a.wav,10,x\n{tmp_path}/a.wav,15,x\n")
    assert {clip.group for clip in clips} == {"a.wav"}
    assert {clip.source for clip in clips} == {str(tmp_path / "a.wav")}


ROWS = [
    "a.wav,0,5,dog",
    "a.wav,5,10,dog",
    "a.flac,0,5,dog",
    "A.wav,0,5,dog",
    "x/a.wav,0,5,dog",
    "x_a.wav,0,5,dog",
    "../a.wav,0,5,cat",
    "é.wav,0,5,cat",
    "ü.wav,0,5,cat",
    ".hidden.wav,0,5,cat",
    "con/../b.wav,0.123456789,5,cat",
    "con/../b.wav,0.123456788,5,cat",
    f"{'long' * 50}.wav,0,5,cat",
    f"{'long' * 51}.wav,0,5,cat",
]


def test_ids_are_unique_whatever_the_case_and_safe_as_file_names(read: Read) -> None:
    ids = [clip.id for clip in read("path,start,end,label\n" + "\n".join(ROWS))]
    assert len({name.lower() for name in ids}) == len(ROWS)
    for name in ids:
        assert set(name) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")
        assert not name.startswith(".")
        assert 0 < len(name) <= 120


def test_ids_and_groups_stay_when_rows_change_places_and_when_the_folder_moves(write_file: WriteFile) -> None:
    def named(table: Path) -> dict[tuple[str, float], tuple[str, str]]:
        clips, _ = read_table(table)
        root = str(table.parent)
        return {(clip.source.removeprefix(root), clip.start): (clip.id, clip.group) for clip in clips}

    header = "path,start,end,label\n"
    here = named(write_file("here/clips.csv", header + "\n".join(ROWS)))
    assert named(write_file("here/turned.csv", header + "\n".join(reversed(ROWS)))) == here
    assert named(write_file("there/clips.csv", header + "\n".join(ROWS))) == here


def test_given_ids_are_kept_and_told_apart_where_two_rows_share_one(read: Read) -> None:
    ids = [clip.id for clip in read("path,label,id\na.wav,dog,one\nb.wav,dog,two\nc.wav,dog,Two\n")]
    assert ids[0] == "one"
    assert ids[1].startswith("two_")
    assert ids[2].startswith("Two_")


# --- bad rows --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("row", "column", "reason"),
    [
        (",,0,5,dog,,", "url", "is empty; expected a value"),
        (".,,0,5,dog,,", "path", "'.' is no file name"),
        ("x/..,,0,5,dog,,", "path", "'x/..' is no file name"),
        (",dog.wav,0,5,dog,,", "url", "'dog.wav' is no link; expected http:// or https://"),
        (",ftp://x.org/a,0,5,dog,,", "url", "'ftp://x.org/a' is no link; expected http:// or https://"),
        (",https://a b,0,5,dog,,", "url", "'https://a b' is no link; expected http:// or https://"),
        (",https://[x,0,5,dog,,", "url", "'https://[x' is no link (Invalid IPv6 URL)"),
        ("b.wav,,0,5,,,", "label", "is empty; expected a value"),
        ("b.wav,,one,5,dog,,", "start", "'one' is no number; expected seconds, e.g. 12.5"),
        ('b.wav,,"1,5",5,dog,,', "start", "'1,5' is no number; expected seconds, e.g. 12.5"),
        ("b.wav,,0:30,5,dog,,", "start", "'0:30' is no number; expected seconds, e.g. 12.5"),
        ("b.wav,,-1,5,dog,,", "start", "-1 is no time; expected seconds >= 0"),
        ("b.wav,,nan,5,dog,,", "start", "nan is no time; expected seconds >= 0"),
        ("b.wav,,0,inf,dog,,", "end", "inf is no time; expected seconds >= 0"),
        ("b.wav,,5,5,dog,,", "end", "5 s is not after start = 5 s"),
        ("b.wav,,5,4,dog,,", "end", "4 s is not after start = 5 s"),
        ("b.wav,,0,5,dog,middle,", "split", "'middle' is no split; expected train, val or test"),
        ("b.wav,,0,5,dog,,0", "fold", "'0' is no fold; expected a whole number from 1"),
        ("b.wav,,0,5,dog,,1.5", "fold", "'1.5' is no fold; expected a whole number from 1"),
        ("b.wav,,0,5,d\x1b[2Jog,,", "label", r"'d\x1b[2Jog' holds control characters; expected one line of text"),
        (",https://x.org/\x1b,0,5,dog,,", "url", r"'https://x.org/\x1b' holds control characters"),
        (f"b.wav,,{'9' * 999}x,5,dog,,", "start", f"'{'9' * 199}..."),
        ("b.wav,,0,5,dog,,,big", "(past the last)", "'big' has no column; expected quotes around values"),
        ("a.wav,,0,5,cat,,", "path", "the same segment stands in line 2"),
        ("./a.wav,,0.0,5.0,cat,,", "path", "the same segment stands in line 2"),
        (f",https://youtu.be/{YOUTUBE},0,5,cat,,", "url", "the same segment stands in line 3"),
    ],
)
def test_a_bad_row_is_kept_out_with_line_column_and_reason(
    row: str, column: str, reason: str, write_file: WriteFile
) -> None:
    good = f"a.wav,,0,5,dog,,\n,https://www.youtube.com/watch?v={YOUTUBE},0,5,dog,,\n"
    table = write_file("clips.csv", f"path,url,start,end,label,split,fold\n{good}\n{row}\nlast.wav,,0,5,dog,,\n")
    clips, bad = read_table(table)
    assert [Path(clip.source).name for clip in clips] == ["a.wav", f"watch?v={YOUTUBE}", "last.wav"]
    (found,) = bad
    assert (found.file, found.line, found.column) == (table, 5, column)
    assert found.reason.startswith(reason)
    assert str(found).startswith(f"{table}:5: column {column}: {reason}")


def test_lines_are_counted_as_an_editor_counts_them(write_file: WriteFile) -> None:
    table = write_file("clips.csv", '\npath,label,annotation\n\na.wav,dog,"one\ntwo\nthree"\nb.wav,,\n')
    _, bad = read_table(table)
    assert bad == [BadRow(table, 7, "label", "is empty; expected a value")]


def test_labels_that_are_only_separators_name_no_class(write_file: WriteFile) -> None:
    _, bad = read_table(write_file("clips.csv", "path,labels\na.wav,|;\nb.wav,||\n"))
    assert [(row.line, row.column, row.reason) for row in bad] == [(3, "labels", "'||' names no class")]


# --- Parquet ---------------------------------------------------------------------------------------------------------


def parquet(table: Path, /, **columns: list[object]) -> Path:
    pq.write_table(pa.table(columns), table)
    return table


def test_parquet_says_what_csv_says(write_file: WriteFile, tmp_path: Path) -> None:
    text = "path,start,end,label,fold,note\na.wav,1.5,3,dog,1,x\nb.wav,0,,cat,,\n"
    table = parquet(
        tmp_path / "clips.bin",  # whatever it is called
        Path=["a.wav", " b.wav "],
        start=[1.5, 0.0],
        end=[3.0, float("nan")],
        label=["dog", "cat"],
        fold=[1, None],
        note=[b"\0", None],
    )
    assert read_table(table) == read_table(write_file("clips.csv", text))


def test_a_list_of_labels_in_parquet_is_taken_item_by_item(tmp_path: Path) -> None:
    labels: list[object] = [["Male speech, man speaking"], ["dog", "cat; small"], []]
    clips, bad = read_table(parquet(tmp_path / "clips.parquet", path=["a", "b", "c"], labels=labels))
    assert [clip.labels for clip in clips] == [("Male speech, man speaking",), ("dog", "cat; small")]
    assert [(row.line, row.column) for row in bad] == [(3, "labels")]


def test_only_the_columns_that_are_needed_are_read_from_parquet(tmp_path: Path) -> None:
    rows = 20
    audio: list[object] = [np.random.default_rng(i).bytes(10_000) for i in range(rows)]
    table = parquet(tmp_path / "t.parquet", path=[f"{i}.wav" for i in range(rows)], label=["x"] * rows, audio=audio)
    content = bytearray(table.read_bytes())
    start = content.index(bytes(audio[3]))  # type: ignore[call-overload]
    content[start - 2000 : start + 2000] = b"\xff" * 4000
    table.write_bytes(content)
    assert len(read_table(table)[0]) == rows


def test_a_cut_parquet_file_is_refused(tmp_path: Path) -> None:
    table = parquet(tmp_path / "clips.parquet", path=["a.wav"], label=["dog"])
    table.write_bytes(table.read_bytes()[:-20])
    with pytest.raises(UserError, match=r"clips.parquet: cannot be read as Parquet: "):
        read_table(table)


# --- bad tables ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "message", "hint"),
    [
        (b"", "empty; expected a header line and a row for each clip", None),
        (b"\n\n  \n,,\n", "empty; expected a header line and a row for each clip", None),
        (b"RIFF\x24\x08\x00\x00WAVEfmt \x10\xff\xfe\n\x80", "not UTF-8 text (", "save the table as CSV UTF-8"),
        (b"\0\0\0\0\0\0", "not text (a zero byte)", "save the table as CSV UTF-8"),
        ("path,label\nä.wav,dog\n".encode("latin-1"), "not UTF-8 text (", "save the table as CSV UTF-8"),
        ("path,label\na.wav,dog\n".encode("utf-16"), "not UTF-8 text (", "save the table as CSV UTF-8"),
        (b'path,label\na.wav,"dog\n', "not a CSV table: unexpected end of data", "check its quotes"),
        (b"path,label,Path\na,b,c\n", "column path stands twice in the header", None),
        (b"pth,label\na.wav,dog\n", "no column path, url or youtube_id; found pth, label", "data.columns.path=pth"),
        (b"file,label\na.wav,dog\n", "no column path, url or youtube_id; found file, label", "path=COLUMN"),
        (b"path,lable\na.wav,dog\n", "no column label or labels; found path, lable", "data.columns.label=lable"),
        (b"a.wav,dog\nb.wav,cat\n", "no column path, url or youtube_id; found a.wav, dog", "path=COLUMN"),
        (b"path,la\x1bbel\na.wav,dog\n", r"found 'path, la\x1bbel'", "data.columns.label='la\\x1bbel'"),
    ],
    ids=[
        *["empty", "blank", "binary", "zeros", "latin-1", "utf-16", "open-quote", "twice", "pth", "file", "lable"],
        *["no-header", "escape"],
    ],
)
def test_a_bad_table_is_refused_with_its_name_and_the_next_thing_to_do(
    content: bytes, message: str, hint: str | None, write_file: WriteFile
) -> None:
    table = write_file("clips.csv", content)
    with pytest.raises(UserError) as caught:
        read_table(table)
    assert caught.value.message.startswith(f"{table}:")
    assert message in caught.value.message
    if hint is None or caught.value.hint is None:
        assert caught.value.hint == hint
    else:
        assert caught.value.hint.endswith(hint)


def test_a_folder_in_place_of_a_table_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cannot be read \(Is a directory\)"):
        read_table(tmp_path)


CELL = st.one_of(
    st.text(alphabet="ab/.\\: |;\t\"'?&=#%[]é\0", max_size=8),
    st.sampled_from(
        ["a.wav", "https://", "http://[", "https://youtu.be/x", "nan", "1e999", "-0", "5", "..", "/", "\r"]
    ),
)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cells=st.lists(st.lists(CELL, min_size=1, max_size=7), max_size=4), separator=st.sampled_from(",;\t"))
def test_no_cell_gives_anything_but_clips_bad_rows_or_a_user_error(
    cells: list[list[str]], separator: str, write_file: WriteFile
) -> None:
    rows = [["path", "url", "start", "end", "labels", "fold"], *cells]
    table = write_file("clips.csv", "\n".join(separator.join(row) for row in rows))
    try:
        clips, bad = read_table(table)
    except UserError as error:
        named = str(error)
        clips, bad = [], []
        assert named.startswith(str(table))
    assert len({clip.id for clip in clips}) == len(clips)
    assert all(clip.labels and clip.group and clip.id for clip in clips)
    assert all(1 < row.line <= 1 + sum(cell.count("\r") + 1 for cells_of in cells for cell in cells_of) for row in bad)
