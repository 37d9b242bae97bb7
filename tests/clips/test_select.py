"""Choosing clips: classes, one label of several, a limit per class, and the count of what each touched."""

from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audioclf.clips.clip import Clip
from audioclf.clips.select import RULES, Selection, select
from audioclf.config import Data
from audioclf.errors import UserError


def clip(name: str, *labels: str, group: str | None = None, split: str | None = None, fold: int | None = None) -> Clip:
    return Clip(name, f"{group or name}.wav", 0.0, None, labels, group or name, split=split, fold=fold)


TABLE = [
    clip("a", "Dog", "Outside"),
    clip("b", "Outside", "Siren", "Dog"),
    clip("c", "Outside"),
    clip("d", "Siren"),
    clip("e", "Animal", "Dog"),
    clip("f", "Animal"),
    clip("g", "Animal", "Cat"),
]


def labels(clips: Sequence[Clip]) -> dict[str, tuple[str, ...]]:
    return {clip.id: clip.labels for clip in clips}


def selected(**settings: object) -> tuple[dict[str, tuple[str, ...]], Selection]:
    clips, selection = select(TABLE, Data.model_validate(settings))
    return labels(clips), selection


# --- classes ---------------------------------------------------------------------------------------------------------


def test_other_classes_go_before_the_rule_for_several_labels_is_asked() -> None:
    chosen, selection = selected(classes=["Siren", "Dog"], multi_label="drop")
    assert chosen == {"a": ("Dog",), "d": ("Siren",), "e": ("Dog",)}
    assert selection == Selection(other_classes=3, narrowed=3, multi_label=1, rule="drop")


def test_one_class_needs_no_rule() -> None:
    chosen, selection = selected(classes=["Dog"])
    assert chosen == dict.fromkeys("abe", ("Dog",))
    assert (selection.other_classes, selection.narrowed, selection.multi_label) == (4, 3, 0)


def test_an_unknown_class_is_refused_with_the_nearest() -> None:
    with pytest.raises(UserError) as caught:
        selected(classes=["Dogg", "Xyz"])
    assert caught.value.message == "data.classes: no clip of the table is labelled Dogg (and 1 more)"
    assert caught.value.hint == "did you mean Dog?"
    with pytest.raises(UserError) as caught:
        selected(classes=["12345"])
    assert caught.value.hint == "its classes are Dog (3), Outside (3), Animal (3), Siren (2), Cat (1)"


def test_the_order_of_the_classes_makes_no_other_configuration() -> None:
    assert Data.model_validate({"classes": ["b", "a", "b"]}) == Data.model_validate({"classes": ["a", "b"]})


# --- several labels --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        (
            "first",
            {"a": "Dog", "b": "Outside", "c": "Outside", "d": "Siren", "e": "Animal", "f": "Animal", "g": "Animal"},
        ),
        (
            "most_specific",
            {"a": "Dog", "b": "Siren", "c": "Outside", "d": "Siren", "e": "Animal", "f": "Animal", "g": "Cat"},
        ),
        ("drop", {"c": "Outside", "d": "Siren", "f": "Animal"}),
    ],
)
def test_each_rule_makes_one_label_of_several(rule: str, expected: dict[str, str]) -> None:
    chosen, selection = selected(multi_label=rule)
    assert chosen == {name: (label,) for name, label in expected.items()}
    assert selection == Selection(multi_label=4, rule=rule)


def test_the_most_specific_label_is_the_rarest_of_the_whole_table() -> None:
    """Of the chosen clips as many are Dogs as Animals; in the table there are fewer Dogs."""
    table = [clip("a", "Animal", "Dog"), clip("b", "Animal", "Cat"), clip("c", "Animal")]
    clips, _ = select(table, Data.model_validate({"classes": ["Animal", "Dog"], "multi_label": "most_specific"}))
    assert labels(clips) == {"a": ("Dog",), "b": ("Animal",), "c": ("Animal",)}


def test_labels_with_escapes_are_not_printed_raw() -> None:
    with pytest.raises(UserError) as caught:
        select([clip("a", "\x1b[2J", "b")], Data.model_validate({}))
    assert caught.value.message.isprintable()


# --- the limit -------------------------------------------------------------------------------------------------------

MANY = [
    clip(f"{label}{recording}_{take}", label, group=f"{label}{recording}")
    for label in ("x", "y")
    for recording in range(12)
    for take in range(3)
]


def limited(clips: Sequence[Clip], limit: int, seed: int = 0) -> list[Clip]:
    return select(list(clips), Data.model_validate({"limit_per_class": limit, "split_seed": seed}))[0]


def test_a_limit_holds_for_each_class_and_counts_what_it_leaves_out() -> None:
    rare = [*MANY, clip("z", "z")]
    clips, selection = select(rare, Data.model_validate({"limit_per_class": 5}))
    assert Counter(clip.label for clip in clips) == {"x": 5, "y": 5, "z": 1}
    assert selection.over_limit == 62
    assert [c for c in rare if c in clips] == clips


@pytest.mark.parametrize("limit", [1, 5, 12, 17, 24, 30, 36, 99])
def test_a_limit_takes_as_many_recordings_as_there_are(limit: int) -> None:
    for label in ("x", "y"):
        takes = Counter(clip.group for clip in limited(MANY, limit) if clip.label == label)
        assert len(takes) == min(limit, 12)
        assert max(takes.values()) - min(takes.values()) <= 1


def test_a_limit_takes_from_published_parts_in_proportion() -> None:
    folds = [clip(f"f{i}", "x", fold=i % 5 + 1) for i in range(40)]
    assert Counter(c.fold for c in limited(folds, 10)) == {1: 2, 2: 2, 3: 2, 4: 2, 5: 2}
    splits = [clip(f"s{i}", "x", split="test" if i < 10 else "train") for i in range(100)]
    assert Counter(c.split for c in limited(splits, 20)) == {"train": 18, "test": 2}


def test_another_seed_takes_others_and_not_simply_the_first() -> None:
    taken = [frozenset(c.id for c in limited(MANY, 6, seed)) for seed in range(3)]
    assert len(set(taken)) == 3
    assert frozenset(c.id for c in MANY if c.label == "x" and c in MANY[:6]) not in taken


@given(st.permutations(MANY), st.integers(1, 35), st.integers(1, 35))
def test_what_is_taken_does_not_depend_on_the_order_and_a_larger_limit_only_adds(
    clips: list[Clip], one: int, other: int
) -> None:
    few, many = sorted((one, other))
    taken = {c.id for c in limited(clips, few)}
    assert taken == {c.id for c in limited(MANY, few)}
    assert taken <= {c.id for c in limited(clips, many)}


# --- what is said ----------------------------------------------------------------------------------------------------


def test_each_setting_that_touched_a_clip_has_its_line() -> None:
    assert Selection().lines() == []
    assert Selection(3, 4, 5, "first", 6).lines() == [
        "3 clips of other classes left out (data.classes)",
        "4 clips kept without their labels of other classes (data.classes)",
        "5 clips with several labels: the first label was kept (data.multi_label=first)",
        "6 clips above the limit left out (data.limit_per_class)",
    ]
    assert all(len(Selection(multi_label=1, rule=rule).lines()) == 1 for rule in RULES)
