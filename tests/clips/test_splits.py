"""Who trains and who tests: no recording on two sides, classes in proportion, the same parts every time."""

import random
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audioclf.clips.clip import Clip
from audioclf.clips.splits import Splits, split_clips
from audioclf.config import Data
from audioclf.errors import UserError


def clip(name: str, label: str, group: str, split: str | None = None, fold: int | None = None) -> Clip:
    return Clip(f"{name}", f"{group}.wav", 0.0, None, (label,), group, split=split, fold=fold)


def table(classes: int, recordings: int, clips_each: int = 2) -> list[Clip]:
    """A balanced table: ``recordings`` a class, each with ``clips_each`` clips."""
    return [
        clip(f"class{c}_tape{r}_{i}", f"class{c}", f"class{c} tape{r}")
        for c in range(classes)
        for r in range(recordings)
        for i in range(clips_each)
    ]


def ids(clips: Iterable[Clip]) -> list[str]:
    return [clip.id for clip in clips]


def groups(clips: Iterable[Clip]) -> set[str]:
    return {clip.group for clip in clips}


def named(splits: Splits) -> dict[str, list[str]]:
    return {name: ids(part) for name, part in splits.parts().items()}


def refusal(clips: Sequence[Clip], data: Data | None = None) -> UserError:
    with pytest.raises(UserError) as caught:
        split_clips(clips, data or Data())
    return caught.value


# --- our own splits --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("test_fraction", [0.1, 0.2, 0.3, 0.4])
@pytest.mark.parametrize("val_fraction", [0.1, 0.25])
def test_each_part_has_its_share_of_every_class(test_fraction: float, val_fraction: float) -> None:
    splits = split_clips(table(3, 40), Data(test_fraction=test_fraction, val_fraction=val_fraction))
    for label in ("class0", "class1", "class2"):
        train, val, test = (sum(clip.label == label for clip in part) for part in splits.parts().values())
        assert test == pytest.approx(80 * test_fraction, abs=4)
        assert val == pytest.approx((80 - test) * val_fraction, abs=4)
        assert train + val + test == 80


def test_another_split_seed_gives_another_split_and_the_same_one_the_same() -> None:
    clips = table(3, 12)
    parts = [named(split_clips(clips, Data(split_seed=seed))) for seed in (0, 0, 1)]
    assert parts[0] == parts[1]
    assert parts[0]["test"] != parts[2]["test"]


def test_the_rule_says_how_the_parts_were_made() -> None:
    clips = table(2, 12)
    assert split_clips(clips, Data()).rule == "test 20% by recording, val 20% of the rest by recording"
    rule = split_clips(clips, Data(fold=2, folds=3)).rule
    assert rule == "grouped fold 2 of 3, val 20% of the rest by recording"


@pytest.mark.parametrize("folds", [2, 3, 5, 10])
def test_own_folds_hold_every_clip_exactly_once(folds: int) -> None:
    clips = table(3, 10)
    tests = [split_clips(clips, Data(fold=fold, folds=folds)).test for fold in range(1, folds + 1)]
    assert sorted(name for part in tests for name in ids(part)) == sorted(ids(clips))
    assert max(Counter(group for part in tests for group in groups(part)).values()) == 1
    assert all({clip.label for clip in part} == {"class0", "class1", "class2"} for part in tests)


# --- published splits and folds --------------------------------------------------------------------------------------


def with_folds(clips: Sequence[Clip]) -> list[Clip]:
    """The same clips with folds 1 to 4 by recording, as a publisher gives them."""
    order = sorted(groups(clips))
    return [replace(clip, fold=1 + order.index(clip.group) % 4) for clip in clips]


def with_splits(clips: Sequence[Clip], names: Sequence[str]) -> list[Clip]:
    order = sorted(groups(clips))
    return [replace(clip, split=names[order.index(clip.group) % len(names)]) for clip in clips]


@pytest.mark.parametrize("fold", [1, 2, 3, 4])
def test_a_published_fold_is_the_test_split_and_val_comes_from_the_others(fold: int) -> None:
    clips = with_folds(table(2, 12))
    splits = split_clips(clips, Data(fold=fold))
    assert sorted(ids(splits.test)) == sorted(clip.id for clip in clips if clip.fold == fold)
    assert not groups(splits.val) & groups(splits.train)
    assert 4 <= len(splits.val) <= 12


def test_without_data_fold_the_first_published_fold_is_the_test_split() -> None:
    clips = with_folds(table(2, 12))
    assert named(split_clips(clips, Data())) == named(split_clips(clips, Data(fold=1)))


def test_a_published_split_is_kept() -> None:
    clips = with_splits(table(2, 12), ["train", "train", "val", "test"])
    splits = split_clips(clips, Data())
    for name, part in splits.parts().items():
        assert sorted(ids(part)) == sorted(clip.id for clip in clips if clip.split == name)
    assert splits.rule == "published split"


def test_val_is_taken_from_train_where_none_is_published() -> None:
    clips = with_splits(table(2, 12), ["train", "train", "train", "test"])
    splits = split_clips(clips, Data())
    assert sorted(ids(splits.test)) == sorted(clip.id for clip in clips if clip.split == "test")
    assert splits.val
    assert not groups(splits.val) & groups(splits.train)


@pytest.mark.parametrize(
    ("clips", "data", "message"),
    [
        (with_folds(table(2, 12)), Data(fold=7), "data.fold=7: no such fold; expected one of 1, 2, 3, 4"),
        (table(2, 12), Data(fold=6), "data.fold=6: no such fold; expected 1 to data.folds=5"),
        (with_splits(table(2, 12), ["train", "test"]), Data(fold=1), "data.fold=1: the table fixes the splits"),
        ([*with_folds(table(2, 12)), *table(3, 12)[-2:]], Data(), "some rows name a fold and some do not (e.g. class2"),
        ([*with_splits(table(2, 9), ["train", "test"]), clip("x", "a", "x")], Data(), "some rows name a split and"),
        (with_splits(table(2, 12), ["train", "val"]), Data(), "no clips in the test split"),
        (with_splits(table(2, 12), ["val", "test"]), Data(), "no clips in the train split"),
    ],
)
def test_what_the_table_does_not_give_is_refused(clips: list[Clip], data: Data, message: str) -> None:
    assert refusal(clips, data).message.startswith(message)


# --- the leak guard --------------------------------------------------------------------------------------------------

LEAKY_FOLDS = [*with_folds(table(2, 12)), clip("again", "class0", "class0 tape0", fold=2)]
LEAKY_SPLITS = [
    *with_splits(table(2, 12), ["train", "train", "val", "test"]),
    clip("again", "class0", "class0 tape0", split="test"),
]


@pytest.mark.parametrize("clips", [LEAKY_FOLDS, LEAKY_SPLITS], ids=["folds", "splits"])
def test_a_recording_on_both_sides_is_refused_and_named(clips: list[Clip]) -> None:
    error = refusal(clips)
    assert error.message.startswith("1 recordings sit in more than one split (class0 tape0)")
    assert error.hint is not None
    assert "data.allow_leak=true" in error.hint


@pytest.mark.parametrize("clips", [LEAKY_FOLDS, LEAKY_SPLITS], ids=["folds", "splits"])
def test_who_insists_gets_a_split_that_is_marked(clips: list[Clip]) -> None:
    assert split_clips(clips, Data(allow_leak=True)).leaks == ["class0 tape0"]


def test_a_recording_in_train_and_val_alone_is_a_leak_too() -> None:
    clips = [*with_splits(table(2, 12), ["train", "val", "test"]), clip("again", "class0", "class0 tape0", split="val")]
    assert refusal(clips).message.startswith("1 recordings sit in more than one split (class0 tape0)")


def test_one_recording_with_two_classes_stays_on_one_side() -> None:
    clips = [*table(2, 12), *(clip(f"both{i}", f"class{i % 2}", "class0 tape0") for i in range(6))]
    splits = split_clips(clips, Data())
    assert sum("class0 tape0" in groups(part) for part in splits.parts().values()) == 1


# --- small tables ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("clips", "data", "message"),
    [
        (table(1, 1), Data(), "1 recording cannot give a test split; expected at least 2"),
        ([*table(2, 8), clip("x", "rare", "x")], Data(), "class rare has one recording"),
        ([*table(2, 8), *(clip(f"x{i}", "rare", "x") for i in range(9))], Data(), "class rare has one recording"),
        (table(2, 2, 1), Data(), "class class0 has one recording"),
        (table(2, 2), Data(fold=1), "5 folds need as many recordings; there are 4"),
        (table(3, 2, 1), Data(fold=1), "5 folds need as many clips of a class; no class has them"),
        (
            [*with_splits(table(2, 8), ["train", "val", "test"]), clip("x", "rare", "x", split="test")],
            Data(),
            "class rare has no training clips",
        ),
    ],
)
def test_too_little_to_learn_from_is_refused_in_words(clips: list[Clip], data: Data, message: str) -> None:
    assert refusal(clips, data).message.startswith(message)


def test_three_recordings_a_class_are_enough() -> None:
    splits = split_clips(table(2, 3), Data())
    assert all(part for part in splits.parts().values())
    assert {clip.label for clip in splits.train} == {"class0", "class1"}


# --- whatever the table ----------------------------------------------------------------------------------------------


@st.composite
def tables(draw: st.DrawFn, least: int = 1, mixed: bool = True) -> list[Clip]:
    """Up to 4 classes with ``least`` to 14 recordings each, 1 to 4 clips a recording, labels mixed within some."""
    clips = []
    classes = draw(st.integers(1, 4))
    for c in range(classes):
        for r in range(draw(st.integers(least, 14))):
            for i in range(draw(st.integers(1, 4))):
                label = draw(st.integers(0, classes - 1)) if mixed and draw(st.integers(0, 9)) == 0 else c
                clips.append(clip(f"{c}-{r}-{i}", f"class{label}", f"{c}-{r}"))
    return draw(st.permutations(clips)) if len(clips) < 20 else clips


SETTINGS = st.builds(
    Data,
    fold=st.sampled_from([None, 1, 2]),
    folds=st.integers(2, 6),
    val_fraction=st.sampled_from([0.05, 0.1, 0.2, 0.3, 0.49]),
    test_fraction=st.sampled_from([0.05, 0.1, 0.2, 0.3, 0.49]),
    split_seed=st.integers(0, 3),
)


@settings(max_examples=40)
@given(clips=tables(), data=SETTINGS)
def test_a_split_is_whole_grouped_and_learnable_or_refused(clips: list[Clip], data: Data) -> None:
    try:
        splits = split_clips(clips, data)
    except UserError:
        return
    parts = list(splits.parts().values())
    assert sorted(name for part in parts for name in ids(part)) == sorted(ids(clips))
    assert all(parts)
    assert sum(len(groups(part)) for part in parts) == len(groups(clips))
    assert {clip.label for clip in splits.train} == {clip.label for clip in clips}
    assert splits.leaks == []


@settings(max_examples=15)
@given(clips=tables(), data=SETTINGS, seed=st.integers(0, 99))
def test_the_order_of_the_rows_does_not_matter(clips: list[Clip], data: Data, seed: int) -> None:
    def outcome(rows: Sequence[Clip]) -> object:
        try:
            return named(split_clips(rows, data))
        except UserError as error:
            return str(error)

    assert outcome(random.Random(seed).sample(clips, len(clips))) == outcome(clips)


@settings(max_examples=20)
@given(
    clips=tables(least=10, mixed=False),
    data=SETTINGS.filter(lambda data: data.test_fraction >= 0.2 <= data.val_fraction),
)
def test_classes_with_ten_recordings_stand_in_every_part(clips: list[Clip], data: Data) -> None:
    splits = split_clips(clips, data)
    for part in splits.parts().values():
        assert {clip.label for clip in part} == {clip.label for clip in clips}


def test_copies_and_pieces_of_one_file_leak_whatever_their_group_says():
    def clip(i: int, source: str, split: str) -> Clip:
        return Clip(f"c{i}", source, float(i), i + 1.0, ("ab"[i % 2],), f"group{i}", split=split)

    parts = ["train", "train", "train", "train", "val", "val", "test", "test"]
    clips = [clip(i, f"{i}.wav", split) for i, split in enumerate(parts)]
    data = Data()
    assert split_clips(clips, data).leaks == []
    with pytest.raises(UserError, match=r"\(group0, group6\)"):
        split_clips([*clips[:6], clip(6, "0.wav", "test"), clips[7]], data)
    with pytest.raises(UserError, match=r"\(group1, group7\)"):
        split_clips(clips, data, {"c1": "same", "c7": "same", "c2": "other"})
