"""ESC-10 and ESC-50: the real ESC-10 where it is there, and the publisher's layout made on the spot."""

from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path

import pytest

from audioclf.clips.esc import esc_table, read_esc
from audioclf.clips.splits import split_clips
from audioclf.config import Data
from audioclf.errors import UserError

WriteFile = Callable[..., Path]
HEADER = "filename,fold,target,category,esc10,src_file,take\n"
ROWS = [
    "1-100032-A-0.wav,1,0,dog,True,100032,A",
    "1-100038-A-14.wav,1,14,chirping_birds,False,100038,A",
    "2-100210-A-36.wav,2,36,vacuum_cleaner,False,100210,A",
    "2-100210-B-0.wav,2,0,dog,True,100210,B",
]


@pytest.fixture
def published(write_file: WriteFile, tmp_path: Path) -> Path:
    """A folder in the publisher's layout."""
    write_file("esc/meta/esc50.csv", HEADER + "\n".join(ROWS))
    return tmp_path / "esc"


# --- the real one ----------------------------------------------------------------------------------------------------


@pytest.fixture
def esc10(shared_data: Callable[[str], Path]) -> Path:
    return shared_data("esc10")


def test_esc10_has_400_clips_in_ten_classes_and_five_folds(esc10: Path) -> None:
    clips, bad = read_esc(esc10, esc10_only=True)
    assert bad == []
    assert set(Counter(clip.label for clip in clips).values()) == {40}
    assert Counter(clip.fold for clip in clips) == dict.fromkeys(range(1, 6), 80)
    assert len({clip.label for clip in clips}) == 10
    assert len({clip.id for clip in clips}) == len({clip.audio_key for clip in clips}) == 400
    assert all(Path(clip.source).is_file() and clip.end is None for clip in clips)


def test_no_source_recording_of_esc10_crosses_folds(esc10: Path) -> None:
    folds = defaultdict(set)
    for clip in read_esc(esc10, esc10_only=True)[0]:
        folds[clip.group].add(clip.fold)
    assert max(map(len, folds.values())) == 1
    assert len(folds) < 400  # some recordings gave several clips


@pytest.mark.parametrize("fold", range(1, 6))
def test_an_official_fold_of_esc10_is_the_test_split(fold: int, esc10: Path) -> None:
    clips, _ = read_esc(esc10, esc10_only=True)
    splits = split_clips(clips, Data(fold=fold))
    assert splits.rule == f"published fold {fold} of 5, val 20% of the rest by recording"
    assert {clip.id for clip in splits.test} == {clip.id for clip in clips if clip.fold == fold}
    assert len(splits.train) + len(splits.val) == 320
    assert 56 <= len(splits.val) <= 72
    assert {clip.label for clip in splits.val} == {clip.label for clip in splits.train}


# --- the publisher's layout ------------------------------------------------------------------------------------------


def test_esc50_takes_every_row_of_the_published_table(published: Path) -> None:
    clips, bad = read_esc(published, esc10_only=False)
    assert bad == []
    first = clips[0]
    assert (first.id, first.label, first.fold, first.group) == ("1-100032-A-0", "dog", 1, "100032")
    assert first.source == str(published / "audio" / "1-100032-A-0.wav")
    assert [clip.group for clip in clips] == ["100032", "100038", "100210", "100210"]


def test_esc10_takes_the_marked_rows_of_the_published_table(published: Path) -> None:
    clips, _ = read_esc(published, esc10_only=True)
    assert [clip.id for clip in clips] == ["1-100032-A-0", "2-100210-B-0"]


def test_meta_csv_beside_audio_comes_first(published: Path, write_file: WriteFile) -> None:
    assert esc_table(published) == published / "meta" / "esc50.csv"
    write_file("esc/meta.csv", HEADER + ROWS[0])
    assert esc_table(published) == published / "meta.csv"


@pytest.mark.parametrize(
    ("row", "column", "reason"),
    [
        (",1,0,dog,True,1,A", "filename", "is empty; expected a value"),
        ("../a.wav,1,0,dog,True,1,A", "filename", "'../a.wav' is no file name"),
        ("a.wav,six,0,dog,True,1,A", "fold", "'six' is no fold; expected a whole number from 1"),
        ("a.wav,1,0,,True,1,A", "category", "is empty; expected a value"),
        ("a.wav,1,0,dog,True,,A", "src_file", "is empty; expected a value"),
        (ROWS[0], "filename", "the same file stands in line 2"),
    ],
)
def test_a_bad_row_is_kept_out_with_line_column_and_reason(
    row: str, column: str, reason: str, published: Path, write_file: WriteFile
) -> None:
    write_file("esc/meta/esc50.csv", HEADER + "\n".join([*ROWS, row]))
    clips, bad = read_esc(published, esc10_only=False)
    assert len(clips) == len(ROWS)
    assert [(found.line, found.column, found.reason) for found in bad] == [(6, column, reason)]


def test_a_table_of_another_kind_is_refused(published: Path, write_file: WriteFile) -> None:
    table = write_file("esc/meta.csv", "path,label\na.wav,dog\n")
    with pytest.raises(UserError) as caught:
        read_esc(published, esc10_only=False)
    assert str(caught.value) == f"{table}:1: not an ESC table; expected the columns filename, fold, category, src_file"


def test_a_folder_without_a_table_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"data\.root=.*: neither meta\.csv nor meta/esc50\.csv in it"):
        read_esc(tmp_path, esc10_only=False)
