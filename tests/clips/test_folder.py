"""A folder per class, with or without split folders above them."""

from collections.abc import Callable
from pathlib import Path

import pytest

from audioclf.clips.folder import read_folder
from audioclf.errors import UserError

WriteFile = Callable[..., Path]


@pytest.fixture
def tree(write_file: WriteFile, tmp_path: Path) -> Callable[..., Path]:
    """Makes empty files below a folder: nothing is decoded when a folder is read."""

    def make(*names: str, root: str = "clips") -> Path:
        for name in names:
            write_file(f"{root}/{name}")
        return tmp_path / root

    return make


Tree = Callable[..., Path]


def test_the_folder_is_the_class_and_every_file_its_own_group(tree: Tree) -> None:
    root = tree("dog/1.wav", "dog/2.FLAC", "cat/1.ogg")
    clips, bad = read_folder(root)
    assert bad == []
    assert [(clip.id, clip.label, clip.group, clip.source) for clip in clips] == [
        ("cat_1_ogg", "cat", "cat/1.ogg", str(root / "cat/1.ogg")),
        ("dog_1_wav", "dog", "dog/1.wav", str(root / "dog/1.wav")),
        ("dog_2_FLAC", "dog", "dog/2.FLAC", str(root / "dog/2.FLAC")),
    ]
    assert {(clip.start, clip.end, clip.split, clip.fold) for clip in clips} == {(0.0, None, None, None)}


def test_folders_below_a_class_belong_to_it(tree: Tree) -> None:
    clips, _ = read_folder(tree("dog/tape 1/a.wav", "dog/tape 2/deep/a.wav", "cat/a.wav"))
    assert [(clip.label, clip.group) for clip in clips] == [
        ("cat", "cat/a.wav"),
        ("dog", "dog/tape 1/a.wav"),
        ("dog", "dog/tape 2/deep/a.wav"),
    ]


@pytest.mark.parametrize(
    ("name", "split"), [("train", "train"), ("Training", "train"), ("valid", "val"), ("dev", "val"), ("test", "test")]
)
def test_split_folders_at_the_top_fix_the_split(name: str, split: str, tree: Tree) -> None:
    clips, _ = read_folder(tree(f"{name}/dog/1.wav", "test/cat/1.wav"))
    assert {(clip.label, clip.split) for clip in clips} == {("dog", split), ("cat", "test")}


def test_folders_without_audio_beside_the_split_folders_change_nothing(tree: Tree) -> None:
    clips, _ = read_folder(tree("train/dog/1.wav", "test/dog/2.wav", "licences/dog.txt", "notes.md"))
    assert {(clip.label, clip.split) for clip in clips} == {("dog", "train"), ("dog", "test")}


def test_a_class_may_be_called_train_where_others_are_not_splits(tree: Tree) -> None:
    clips, _ = read_folder(tree("train/1.wav", "airplane/1.wav"))
    assert {(clip.label, clip.split) for clip in clips} == {("train", None), ("airplane", None)}


def test_hidden_stray_and_other_files_are_passed_over(tree: Tree) -> None:
    root = tree("dog/1.wav", "dog/.1.wav", "dog/.cache/2.wav", ".git/3.wav", "stray.wav", "dog/notes.txt", "cat/4")
    clips, _ = read_folder(root)
    assert [clip.group for clip in clips] == ["dog/1.wav"]


def test_a_hidden_folder_above_the_root_hides_nothing(tree: Tree) -> None:
    clips, _ = read_folder(tree("dog/1.wav", root=".data/clips"))
    assert len(clips) == 1


def test_ids_are_unique_also_for_names_that_become_the_same(tree: Tree) -> None:
    names = [
        "dog/é.wav",
        "dog/ü.wav",
        "dog/a b.wav",
        "dog/a_b.wav",
        "dog/A_b.wav",
        "dog_a/b.wav",
        f"cat/{'l' * 200}.wav",
    ]
    clips, _ = read_folder(tree(*names, f"cat/{'l' * 201}.wav"))
    assert len({clip.id.lower() for clip in clips}) == len(names) + 1
    assert len({clip.group for clip in clips}) == len(names) + 1


def test_ids_stay_when_the_folder_moves(tree: Tree) -> None:
    names = ["dog/é.wav", "dog/ü.wav", "dog/1.wav"]
    here, _ = read_folder(tree(*names, root="here"))
    there, _ = read_folder(tree(*names, root="there"))
    assert [clip.id for clip in here] == [clip.id for clip in there]


@pytest.mark.parametrize("names", [(), ("stray.wav",), ("dog/notes.txt",), ("train/1.wav", "test/2.wav")])
def test_a_folder_without_clips_in_class_folders_is_refused(names: tuple[str, ...], tree: Tree, tmp_path: Path) -> None:
    root = tree(*names)
    root.mkdir(exist_ok=True)
    with pytest.raises(UserError, match="no audio files in class folders; expected clips/<class>/<file>"):
        read_folder(root)


def test_class_folders_that_are_links_are_followed_and_loops_end(tmp_path, write_wav):
    write_wav("elsewhere/dogs/1.wav")
    write_wav("data/cat/1.wav")
    (tmp_path / "data" / "dog").symlink_to(tmp_path / "elsewhere" / "dogs")
    (tmp_path / "data" / "cat" / "up").symlink_to(tmp_path / "data")
    clips, _ = read_folder(tmp_path / "data")
    assert sorted((clip.label, clip.group) for clip in clips) == [("cat", "cat/1.wav"), ("dog", "dog/1.wav")]
