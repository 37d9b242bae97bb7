"""The manifest: one way to read every format, bad rows counted, labels made single by a stated rule."""

from collections.abc import Callable
from pathlib import Path

import pytest

from audioclf.clips.manifest import class_names, count_by_label, fingerprint, read_manifest
from audioclf.config import CsvData, Data, EscData, FolderData, LinksData
from audioclf.errors import UserError

WriteFile = Callable[..., Path]
GOOD = "path,end,label\na.wav,5,dog\nb.wav,5,cat\n"


def csv(table: Path, **settings: object) -> CsvData:
    return CsvData.model_validate({"name": "csv", "csv": str(table), **settings})


def refusal(data: CsvData, cache: Path) -> UserError:
    with pytest.raises(UserError) as caught:
        read_manifest(data, cache)
    return caught.value


# --- every format ----------------------------------------------------------------------------------------------------


def test_each_format_gives_a_manifest_of_its_table(write_file: WriteFile, tmp_path: Path) -> None:
    table = write_file("clips.csv", GOOD)
    write_file("folder/dog/1.wav")
    esc = write_file("esc/meta.csv", "filename,fold,category,src_file\n1.wav,1,dog,7\n")
    expected: list[tuple[Data, Path, int]] = [
        (csv(table), table, 2),
        (FolderData(name="folder", root=str(tmp_path / "folder")), tmp_path / "folder", 1),
        (EscData(name="esc10", root=str(tmp_path / "esc")), esc, 1),
    ]
    for data, named, clips in expected:
        manifest = read_manifest(data, tmp_path / "cache")  # type: ignore[arg-type]
        assert (manifest.table, len(manifest.clips), manifest.synthetic) == (named, clips, False)
        assert manifest.bad_rows == []
    assert not (tmp_path / "cache").exists()


def test_audio_dir_reaches_the_reader(write_file: WriteFile, tmp_path: Path) -> None:
    manifest = read_manifest(csv(write_file("clips.csv", GOOD), audio_dir=str(tmp_path / "audio")), tmp_path)
    assert manifest.clips[0].source == str(tmp_path / "audio" / "a.wav")


def test_the_label_map_is_sorted_and_counts_go_with_it(write_file: WriteFile, tmp_path: Path) -> None:
    table = write_file("clips.csv", "path,label\n1.wav,dog\n2.wav,cat\n3.wav,Dog\n4.wav,dog\n")
    clips = read_manifest(csv(table), tmp_path).clips
    assert class_names(clips) == ["Dog", "cat", "dog"]
    assert count_by_label(clips) == {"Dog": 1, "cat": 1, "dog": 2}


# --- bad rows --------------------------------------------------------------------------------------------------------


def test_a_bad_row_stops_the_reading_with_its_place(write_file: WriteFile, tmp_path: Path) -> None:
    table = write_file("clips.csv", GOOD + "c.wav,0,dog\n")
    error = refusal(csv(table), tmp_path)
    assert error.message == f"{table}:4: column end: 0 s is not after start = 0 s"
    assert error.hint == "mend the table, or go on without: data.on_bad_row=skip"


def test_of_many_bad_rows_five_are_shown_and_the_rest_counted(write_file: WriteFile, tmp_path: Path) -> None:
    table = write_file("clips.csv", GOOD + "".join(f"c{i}.wav,0,dog\n" for i in range(8)))
    lines = refusal(csv(table), tmp_path).message.splitlines()
    assert [line.split(":")[1] for line in lines[:5]] == ["4", "5", "6", "7", "8"]
    assert lines[5:] == ["and 3 more bad rows"]


def test_skipped_rows_are_left_out_and_listed(write_file: WriteFile, tmp_path: Path) -> None:
    table = write_file("clips.csv", GOOD + "c.wav,0,dog\nd.wav,x,dog\n")
    manifest = read_manifest(csv(table, on_bad_row="skip"), tmp_path)
    assert [Path(clip.source).name for clip in manifest.clips] == ["a.wav", "b.wav"]
    assert [(row.line, row.column) for row in manifest.bad_rows] == [(4, "end"), (5, "end")]


@pytest.mark.parametrize("text", ["path,label\n", "path,label\n,dog\n"], ids=["only a header", "only bad rows"])
def test_a_table_without_a_usable_row_is_refused(text: str, write_file: WriteFile, tmp_path: Path) -> None:
    table = write_file("clips.csv", text)
    error = refusal(csv(table, on_bad_row="skip"), tmp_path)
    assert error.message == f"{table}: no clips in it; expected at least one usable row"


# --- several labels --------------------------------------------------------------------------------------------------

SEVERAL = "path,labels\na.wav,dog|cat\nb.wav,cat\nc.wav,cat|dog|rain\n"


def test_clips_with_several_labels_are_refused_unless_a_rule_is_chosen(write_file: WriteFile, tmp_path: Path) -> None:
    error = refusal(csv(write_file("clips.csv", SEVERAL)), tmp_path)
    assert error.message == "2 of 3 clips have several labels, e.g. a: dog, cat; expected one label a clip"
    assert error.hint is not None
    assert "data.multi_label=first" in error.hint
    assert "data.multi_label=drop" in error.hint


@pytest.mark.parametrize(
    ("rule", "labels"),
    [
        ("first", [("dog",), ("cat",), ("cat",)]),
        ("most_specific", [("dog",), ("cat",), ("rain",)]),
        ("drop", [("cat",)]),
    ],
    ids=["first", "most_specific", "drop"],
)
def test_several_labels_are_made_one_by_the_rule_and_counted(
    rule: str, labels: list[tuple[str, ...]], write_file: WriteFile, tmp_path: Path
) -> None:
    manifest = read_manifest(csv(write_file("clips.csv", SEVERAL), multi_label=rule), tmp_path)
    assert [clip.labels for clip in manifest.clips] == labels
    assert manifest.selection.multi_label == 2


def test_a_table_of_which_nothing_is_left_is_refused(write_file: WriteFile, tmp_path: Path) -> None:
    table = write_file("clips.csv", "path,labels\na.wav,dog|cat\n")
    assert "no clips in it" in refusal(csv(table, multi_label="drop"), tmp_path).message


# --- the fingerprint -------------------------------------------------------------------------------------------------


def test_the_fingerprint_sees_what_the_table_says_and_not_where_it_lies(write_file: WriteFile) -> None:
    here = fingerprint(csv(write_file("here/clips.csv", GOOD)))
    assert fingerprint(csv(write_file("there/other.csv", GOOD))) == here
    assert fingerprint(csv(write_file("here/clips.csv", GOOD.replace("cat", "cow")))) != here


def test_the_fingerprint_of_a_folder_sees_files_that_come_go_and_change_size(
    write_file: WriteFile, tmp_path: Path
) -> None:
    def print_of(name: str = "here") -> str:
        return fingerprint(FolderData(name="folder", root=str(tmp_path / name)))

    for name in ("here", "there"):
        write_file(f"{name}/dog/1.wav", "abc")
        write_file(f"{name}/cat/1.wav", "abc")
    first = print_of()
    assert print_of("there") == first
    write_file("here/notes.txt")
    write_file("here/dog/.hidden.wav")
    assert print_of() == first
    write_file("here/dog/1.wav", "abcd")
    grown = print_of()
    write_file("here/dog/2.wav")
    assert len({first, grown, print_of()}) == 3


def test_the_fingerprint_of_esc_is_its_table(write_file: WriteFile, tmp_path: Path) -> None:
    def print_of() -> str:
        return fingerprint(EscData(name="esc10", root=str(tmp_path / "esc")))

    write_file("esc/meta.csv", "one")
    first = print_of()
    write_file("esc/meta.csv", "two")
    assert print_of() != first


def test_the_fingerprint_of_a_segment_table_sees_its_list_of_classes(write_file: WriteFile) -> None:
    def print_of(name: str, **settings: object) -> str:
        table = write_file(f"{name}/t.csv", 'dQw4w9WgXcQ,0,10,"/m/1"\n')
        return fingerprint(LinksData.model_validate({"name": "links", "csv": str(table), **settings}))

    bare = print_of("bare")
    write_file("here/class_labels_indices.csv", "index,mid,display_name\n0,/m/1,Dog\n")
    here = print_of("here")
    other = write_file("other.csv", "index,mid,display_name\n0,/m/1,Cat\n")
    assert len({bare, here, print_of("here", class_labels=str(other))}) == 3
    assert print_of("here", format="columns") == bare  # where it is not read, it does not count
    assert print_of("there", class_labels=str(other.parent / "here" / "class_labels_indices.csv")) == here


def test_a_table_that_cannot_be_read_is_a_users_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read"):
        fingerprint(csv(tmp_path))
