"""Tables of links as they are published: the real ones where they are there, and small ones of each format."""

import csv
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from audioclf.clips.audioset import read_class_labels
from audioclf.clips.clip import Clip
from audioclf.clips.formats import format_of, read_csv
from audioclf.clips.manifest import read_manifest
from audioclf.clips.rows import BadRow
from audioclf.clips.table import UNLABELLED
from audioclf.compose import load_config
from audioclf.config import LinksData
from audioclf.errors import UserError

WriteFile = Callable[..., Path]
A, B, C = "dQw4w9WgXcQ", "--PJHxphWEs", "_aaaaaaaaa-"
CLASSES = 'index,mid,display_name\n0,/m/0bt9lr,"Dog"\n1,/t/dd00003,"Male speech, man speaking"\n'


def links(table: Path, **settings: object) -> LinksData:
    return LinksData.model_validate({"name": "links", "csv": str(table), **settings})


@pytest.fixture
def read(write_file: WriteFile) -> Callable[..., list[Clip]]:
    """Reads a table of links that has no bad rows; AudioSet's classes lie beside it."""
    write_file("class_labels_indices.csv", CLASSES)

    def clips_of(text: str, **settings: object) -> list[Clip]:
        clips, bad, _ = read_csv(links(write_file("links.csv", text), **settings))
        assert bad == []
        return clips

    return clips_of


Read = Callable[..., list[Clip]]


# --- the real ones ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "rows"), [("balanced_train", 22_160), ("eval", 20_371)])
def test_audiosets_tables_are_read_whole(name: str, rows: int, shared_data: Callable[[str], Path]) -> None:
    table = shared_data("audioset") / f"{name}_segments.csv"
    clips, bad, form = read_csv(links(table))
    names = set(read_class_labels(table.parent / "class_labels_indices.csv").values())
    assert (len(clips), bad, form) == (rows, [], "audioset")
    assert len({clip.id.lower() for clip in clips}) == len({clip.group for clip in clips}) == rows
    assert {label for clip in clips for label in clip.labels} == names and len(names) == 527
    if name == "balanced_train":
        assert clips[0] == Clip(f"{B}_30", f"https://www.youtube.com/watch?v={B}", 30.0, 40.0, ("Speech", "Gush"), B)


def test_vggsounds_table_is_read_whole(shared_data: Callable[[str], Path]) -> None:
    clips, bad, form = read_csv(links(shared_data("vggsound") / "vggsound_test.csv"))
    assert (len(clips), bad, form) == (15_446, [], "vggsound")
    assert {clip.split for clip in clips} == {"test"} and len({clip.label for clip in clips}) == 309
    assert all(clip.end == clip.start + 10 for clip in clips)


def test_choosing_two_classes_of_audioset_gives_each_its_own_clips(shared_data: Callable[[str], Path]) -> None:
    table = shared_data("audioset") / "balanced_train_segments.csv"
    with table.open() as file:
        dogs = sum("/m/0bt9lr" in line for line in file)
    chosen = ["data.classes=[Dog,Siren]", "data.multi_label=drop", "data.limit_per_class=1000"]
    manifest = read_manifest(load_config(["data=links", f"data.csv={table}", *chosen]).data, table)
    of_both = manifest.selection.multi_label
    assert sum(clip.label == "Dog" for clip in manifest.clips) == dogs - of_both > 50
    assert {clip.labels for clip in manifest.clips} == {("Dog",), ("Siren",)}
    assert len(manifest.clips) + of_both + manifest.selection.other_classes == 22_160


# --- AudioSet --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        f'# Segments csv created 2017\n# YTID, start_seconds, end_seconds, positive_labels\n{A}, 30.000, 40.000, "/m/0bt9lr,/t/dd00003"\n',
        f'{A},30,40,"/m/0bt9lr,/t/dd00003"\n',
        f'YTID,start_seconds,end_seconds,positive_labels\n{A},30,40,"/m/0bt9lr,/t/dd00003"\n',
    ],
    ids=["as published", "bare", "with a header"],
)
def test_segments_of_audioset_have_their_classes_by_name(text: str, read: Read) -> None:
    names = ("Dog", "Male speech, man speaking")
    assert read(text) == [Clip(f"{A}_30", f"https://www.youtube.com/watch?v={A}", 30.0, 40.0, names, A)]


def test_a_name_in_place_of_a_mid_is_taken_as_it_is(read: Read) -> None:
    (clip,) = read(f'{A},0,10,"Purr,/m/0bt9lr"\n')
    assert clip.labels == ("Purr", "Dog")


def test_bad_segments_are_kept_out_with_line_column_and_reason(write_file: WriteFile) -> None:
    write_file("class_labels_indices.csv", CLASSES)
    rows = [f"{A},0,10,/m/0bt9lr", "# c", f"{B},0,10,/m/xyz", "#NAME?,0,10,Dog", f"{C},9,8,Dog", f"{C},x,8,Dog"]
    table = write_file("t.csv", "# head\n\n" + "\n".join([*rows, f"{C},0,1", f"{A},0.0,10,Dog", f"{B},0,1,a,b"]))
    clips, bad, form = read_csv(links(table))
    assert (form, [clip.group for clip in clips]) == ("audioset", [A])
    no_id = "'#NAME?' is no YouTube id; expected 11 letters, digits, - or _"
    assert bad == [
        BadRow(table, 5, "positive_labels", f"/m/xyz is no class of {table.parent / 'class_labels_indices.csv'}"),
        BadRow(table, 6, "ytid", no_id),
        BadRow(table, 7, "end_seconds", "8 s is not after start = 9 s"),
        BadRow(table, 8, "start_seconds", "'x' is no number; expected seconds, e.g. 12.5"),
        BadRow(table, 9, "positive_labels", "is empty; expected a value"),
        BadRow(table, 10, "ytid", "the same segment stands in line 3"),
        BadRow(table, 11, "(past the last)", "'b' has no column; expected quotes around values with separators"),
    ]


def test_mids_without_a_list_of_classes_are_refused_with_where_to_name_it(write_file: WriteFile) -> None:
    table = write_file("alone/t.csv", f"{A},0,10,/m/0bt9lr\n")
    with pytest.raises(UserError) as caught:
        read_csv(links(table))
    assert "mids like /m/0bt9lr" in caught.value.message
    assert caught.value.hint is not None and caught.value.hint.startswith("data.class_labels=FILE")
    listed = write_file("classes.csv", CLASSES)
    assert read_csv(links(table, class_labels=str(listed)))[0][0].label == "Dog"
    with pytest.raises(UserError, match=r"t.csv:2: expected the columns mid and display_name"):
        read_csv(links(table, class_labels=str(write_file("t.csv", "a,b\n1,2\n"))))


# --- VGGSound and AudioCaps ------------------------------------------------------------------------------------------


def test_rows_of_vggsound_have_a_split_and_the_length_that_is_asked(read: Read) -> None:
    first, second = read(f'{A},30,"railroad car, train wagon",train\n{B},0,dog,test\n', clip_seconds=2.5)
    assert (first.labels, first.split, first.start, first.end) == (("railroad car, train wagon",), "train", 30.0, 32.5)
    assert (second.id, second.group, second.split, second.end) == (f"{B}_0", B, "test", 2.5)


def test_a_start_at_which_the_clip_has_no_length_is_a_bad_row(write_file: WriteFile) -> None:
    table = write_file("t.csv", f"{A},0,dog,test\n{B},1e99,dog,test\n")
    _, bad, _ = read_csv(links(table))
    assert bad == [BadRow(table, 2, "start", "1e+99 is no time: 10 s after it is the same number")]


CAPTIONS = f'audiocap_id,youtube_id,start_time,caption\n7,{A},30,"a dog, barking"\n8,{A},30,woof\n9,{A},40,\n'


def test_the_captions_of_a_segment_are_its_annotation(read: Read) -> None:
    first, second = read(CAPTIONS)
    assert (first.annotation, first.start, first.end, first.group) == ("a dog, barking\nwoof", 30.0, 40.0, A)
    assert (second.annotation, second.start, second.labels) == ("", 40.0, (UNLABELLED,))


def test_captions_with_a_column_of_classes_are_labelled(read: Read) -> None:
    text = f"youtube_id,start_time,caption,sound\n{A},30,woof,dog\n{A},30,bark,dog\n{B},0,purr,cat\n"
    clips = read(text, columns={"label": "Sound "})
    assert [(clip.labels, clip.annotation) for clip in clips] == [(("dog",), "woof\nbark"), (("cat",), "purr")]


def test_one_segment_with_two_classes_is_a_bad_row_also_among_captions(write_file: WriteFile) -> None:
    table = write_file("t.csv", f"youtube_id,start_time,caption,label\n{A},30,woof,dog\n{A},30,purr,cat\n")
    clips, bad, _ = read_csv(links(table))
    assert len(clips) == 1
    assert bad == [BadRow(table, 3, "youtube_id", "the same segment stands in line 2")]


# --- columns of any name ---------------------------------------------------------------------------------------------


def test_columns_are_found_by_the_names_that_the_user_gives(read: Read) -> None:
    text = f"ID,Link,from,to,sound,url\n1,https://youtu.be/{A},1,2.5,dog,junk\n"
    names = {"url": "link", "start": "from", "end": "to", "label": "sound", "annotation": "id"}
    assert read(text, columns=names) == [Clip("1", f"https://youtu.be/{A}", 1.0, 2.5, ("dog",), A, annotation="1")]


def test_a_column_of_bare_ids_gives_links_to_the_videos(read: Read) -> None:
    whole, cut = read(f"video,label,start,end\n{A},dog,,\n{B},cat,3,\n", columns={"youtube_id": "video"})
    assert (whole.source, whole.start, whole.end) == (f"https://www.youtube.com/watch?v={A}", 0.0, None)
    assert (cut.source, cut.start, cut.end) == (f"https://www.youtube.com/watch?v={B}", 3.0, None)


def test_starts_without_a_column_of_ends_have_the_length_that_is_asked(read: Read) -> None:
    (clip,) = read("url,start,label\nhttps://x.org/a,2,dog\n", clip_seconds=4.0)
    assert (clip.start, clip.end) == (2.0, 6.0)
    (clip,) = read("url,label\nhttps://x.org/a,dog\n", clip_seconds=4.0)
    assert (clip.start, clip.end) == (0.0, None)


@pytest.mark.parametrize(
    ("columns", "message", "hint"),
    [
        ({"url": "lnk"}, "no column lnk (data.columns.url); found link, sound", "did you mean data.columns.url=link?"),
        ({"url": "zzz"}, "no column zzz (data.columns.url); found link, sound", None),
        ({"label": "sound"}, "no column path, url or youtube_id; found link, sound", "data.columns.path=COLUMN"),
    ],
)
def test_a_column_that_is_not_there_is_refused_with_the_nearest(
    columns: dict[str, str], message: str, hint: str | None, write_file: WriteFile
) -> None:
    with pytest.raises(UserError) as caught:
        read_csv(links(write_file("t.csv", "link,sound\nhttps://x.org/a,dog\n"), columns=columns))
    assert message in caught.value.message
    assert caught.value.hint == hint or (hint is not None and str(caught.value.hint).endswith(hint))


@pytest.mark.parametrize("reader", ["links", "csv"])
def test_the_command_line_names_columns(reader: str, write_file: WriteFile) -> None:
    table = write_file("t.csv", f"link,sound\nhttps://youtu.be/{A},dog\n")
    overrides = [f"data={reader}", f"data.csv={table}", "data.columns.url=link", "data.columns.label=sound"]
    manifest = read_manifest(load_config(overrides).data, table)
    assert [(clip.group, clip.label) for clip in manifest.clips] == [(A, "dog")]
    with pytest.raises(UserError) as caught:
        load_config([*overrides, "data.columns.lable=sound"])
    assert caught.value.hint == "did you mean data.columns.label?"


# --- which format it is ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "form"),
    [
        (f"# YTID\n{A},0,10,x\n", "audioset"),
        (f"bad row,0,10,x\n{A},0,10,x\n", "audioset"),
        (f"{A},0,dog,test\n", "vggsound"),
        (f"{A},0,dog\n{B},0,dog,train\n", "vggsound"),
        (CAPTIONS, "audiocaps"),
        (CAPTIONS.replace("youtube_id", "video"), "columns"),
        (f"youtube_id,start,end,label\n{A},0,10,dog\n", "columns"),
        (f"youtube_id,start,label,split\n{A},0,dog,test\n", "columns"),
        ("url,label\nhttps://x.org/a,dog\n", "columns"),
    ],
)
def test_the_format_is_seen_from_the_first_rows(text: str, form: str, write_file: WriteFile) -> None:
    table = write_file("t.csv", text)
    assert format_of(links(table)) == form
    assert format_of(links(table, format="vggsound")) == "vggsound"


def test_the_manifest_says_which_format_it_was(write_file: WriteFile, tmp_path: Path) -> None:
    assert read_manifest(links(write_file("t.csv", CAPTIONS)), tmp_path).format == "audiocaps"


def test_naming_the_source_column_settles_the_format(write_file: WriteFile) -> None:
    table = write_file("t.csv", CAPTIONS)
    assert format_of(links(table, columns={"youtube_id": "youtube_id"})) == "columns"
    assert format_of(links(table, columns={"label": "caption"})) == "audiocaps"


def test_columns_of_a_table_without_a_header_are_refused(write_file: WriteFile) -> None:
    data = links(write_file("t.csv", f"{A},0,dog,test\n"), format="vggsound", columns={"url": "link"})
    with pytest.raises(UserError, match=r"^data.columns.url=link: tables of format vggsound have no header"):
        read_csv(data)


CELL = st.one_of(
    st.text(alphabet="ab/.#: |;,\t\"'?=é\0\x1b\r\n", max_size=8),
    st.sampled_from(
        [A, B, A.lower(), "/m/0bt9lr", "/m/x", "0", "10", "nan", "1e999", "1e99", "-1", "train", "# ", "youtube_id"]
    ),
)


@settings(max_examples=120, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.lists(st.lists(CELL, min_size=1, max_size=5), max_size=5),
    head=st.sampled_from(["", "# c\n", f"{A},0,10,Dog\n", f"{A},0,dog,train\n", CAPTIONS, "path,label\n"]),
    form=st.sampled_from(["auto", "audioset", "vggsound", "audiocaps", "columns"]),
    quoted=st.booleans(),
)
def test_no_cell_gives_anything_but_clips_bad_rows_or_a_user_error(
    rows: list[list[str]], head: str, form: str, quoted: bool, write_file: WriteFile
) -> None:
    write_file("class_labels_indices.csv", CLASSES)
    table = write_file("t.csv")
    with table.open("w", newline="") as file:
        file.write(head)
        if quoted:
            csv.writer(file).writerows(rows)
        else:
            file.writelines(",".join(row) + "\n" for row in rows)
    try:
        clips, bad, _ = read_csv(links(table, format=form))
    except UserError as error:
        refused = str(error)
        clips, bad = [], []
        assert refused.replace("\n", "").isprintable()
    assert len({clip.id.lower() for clip in clips}) == len(clips)
    for clip in clips:
        assert clip.id and clip.group and clip.labels and (clip.end is None or 0 <= clip.start < clip.end)
        assert all(label.isprintable() for label in (*clip.labels, clip.group))
    assert all(str(row).isprintable() for row in bad)
