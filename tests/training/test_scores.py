"""Honest numbers: equal to scikit-learn's, a chance floor that is one, and an interval over recordings."""

import warnings

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sklearn

from audioclf.training.scores import chance, confusion_matrix, interval, macro_f1, scores

IntArray = npt.NDArray[np.int64]
EXACT = 1e-12


@st.composite
def predictions(draw: st.DrawFn) -> tuple[IntArray, IntArray, int]:
    """Targets and predictions ``[N]`` of up to 6 classes, some of which occur on one side or on none."""
    classes = draw(st.integers(1, 6))
    pairs = draw(st.lists(st.tuples(st.integers(0, classes - 1), st.integers(0, classes - 1)), min_size=1, max_size=40))
    targets, predicted = np.array(pairs, dtype=np.int64).T
    return targets, predicted, classes


# --- scikit-learn ----------------------------------------------------------------------------------------------------


@given(case=predictions())
def test_the_confusion_matrix_is_scikit_learns(case: tuple[IntArray, IntArray, int]) -> None:
    targets, predicted, classes = case
    with warnings.catch_warnings(action="ignore"):
        expected = sklearn.confusion_matrix(targets, predicted, labels=range(classes))
    np.testing.assert_array_equal(confusion_matrix(targets, predicted, classes), expected)


@settings(max_examples=50)
@given(case=predictions())
def test_every_score_is_scikit_learns_with_absent_classes(case: tuple[IntArray, IntArray, int]) -> None:
    targets, predicted, classes = case
    found = scores(confusion_matrix(targets, predicted, classes))
    there = np.unique(targets)
    with warnings.catch_warnings(action="ignore"):
        per_class = sklearn.precision_recall_fscore_support(targets, predicted, labels=range(classes), zero_division=0)
        macro = sklearn.precision_recall_fscore_support(
            targets, predicted, labels=there, zero_division=0, average="macro"
        )
        weighted = sklearn.f1_score(targets, predicted, zero_division=0, average="weighted")
    for ours, theirs in zip((found.precision, found.recall, found.f1, found.support), per_class, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=EXACT)
    ours = (found.precision_macro, found.recall_macro, found.f1_macro)
    np.testing.assert_allclose(ours, macro[:3], atol=EXACT)
    assert found.f1_weighted == pytest.approx(weighted, abs=EXACT)
    assert found.accuracy == pytest.approx(sklearn.accuracy_score(targets, predicted), abs=EXACT)
    micro = sklearn.f1_score(targets, predicted, average="micro")
    assert found.accuracy == pytest.approx(micro, abs=EXACT)
    assert found.classes_without_support == classes - len(there)
    assert macro_f1(targets, predicted, classes) == pytest.approx(found.f1_macro, abs=EXACT)


def test_perfect_predictions_on_two_of_five_classes_score_1_and_say_that_three_are_absent() -> None:
    targets = np.array([0, 0, 3, 3])
    found = scores(confusion_matrix(targets, targets, 5))
    assert (found.f1_macro, found.precision_macro, found.recall_macro, found.accuracy) == (1.0, 1.0, 1.0, 1.0)
    assert found.classes_without_support == 3


def test_a_class_that_is_only_predicted_costs_the_others_their_recall_and_is_not_averaged() -> None:
    targets, predicted = np.array([0, 0, 1, 1]), np.array([0, 2, 1, 1])
    found = scores(confusion_matrix(targets, predicted, 3))
    assert found.f1_macro == pytest.approx((2 / 3 + 1) / 2)
    assert found.support.tolist() == [2, 2, 0]


def test_an_empty_split_scores_0() -> None:
    found = scores(np.zeros((3, 3), dtype=np.int64))
    assert (found.f1_macro, found.accuracy, found.f1_weighted) == (0.0, 0.0, 0.0)


@given(case=predictions(), seed=st.integers(0, 1000))
def test_a_weight_counts_a_clip_so_many_times(case: tuple[IntArray, IntArray, int], seed: int) -> None:
    targets, predicted, classes = case
    times = np.random.default_rng(seed).integers(0, 4, len(targets))
    repeated = macro_f1(np.repeat(targets, times), np.repeat(predicted, times), classes)
    assert macro_f1(targets, predicted, classes, times.astype(np.float64)) == pytest.approx(repeated, abs=EXACT)


# --- the chance floor ------------------------------------------------------------------------------------------------

BALANCED = np.repeat(np.arange(10), 8)  # ESC-10's test fold: 10 classes x 8 clips


def test_a_constant_predictor_on_ten_balanced_classes_scores_018() -> None:
    constant = np.full_like(BALANCED, 4)
    assert macro_f1(BALANCED, constant, 10) == pytest.approx(2 / 11 / 10)
    floor = chance(BALANCED, constant, BALANCED, 10)
    assert floor.majority == pytest.approx(0.018, abs=0.0005)
    assert floor.permutation == pytest.approx(0.018, abs=0.0005)  # shuffling a constant changes nothing
    assert floor.permutation_p == 1.0


def test_guessing_ten_balanced_classes_scores_about_a_tenth() -> None:
    rng = np.random.default_rng(1)
    guesses = [macro_f1(BALANCED, rng.integers(10, size=80), 10) for _ in range(3000)]
    floor = chance(BALANCED, rng.integers(10, size=80), BALANCED, 10)
    assert 0.09 < np.mean(guesses) < 0.10
    assert floor.stratified == pytest.approx(np.mean(guesses), abs=0.004)


def test_the_stratified_floor_has_the_class_shares_of_the_training_split() -> None:
    targets = np.repeat([0, 1], 50)
    train = np.repeat([0, 1], [90, 10])
    # Drawing class 0 with p = .9: F1 of class 0 about 2 x .45 / (.5 + .9), of class 1 about 2 x .05 / (.5 + .1).
    assert chance(targets, targets, train, 2).stratified == pytest.approx((0.9 / 1.4 + 0.1 / 0.6) / 2, abs=0.01)


def test_the_majority_floor_predicts_the_training_splits_most_frequent_class() -> None:
    targets = np.repeat([0, 1], [30, 70])
    train = np.repeat([0, 1], [90, 10])
    assert chance(targets, targets, train, 2).majority == pytest.approx(2 * 30 / (30 + 100) / 2)


def test_a_perfect_run_is_told_apart_from_chance_and_a_guessing_one_is_not() -> None:
    rng = np.random.default_rng(0)
    assert chance(BALANCED, BALANCED, BALANCED, 10).permutation_p == pytest.approx(1 / 1001)
    p_values = [chance(BALANCED, rng.integers(10, size=80), BALANCED, 10, seed).permutation_p for seed in range(4)]
    assert np.mean(p_values) > 0.1


def test_chance_is_the_same_for_the_same_seed() -> None:
    predicted = np.roll(BALANCED, 5)
    assert chance(BALANCED, predicted, BALANCED, 10, 3) == chance(BALANCED, predicted, BALANCED, 10, 3)
    assert chance(BALANCED, predicted, BALANCED, 10, 3) != chance(BALANCED, predicted, BALANCED, 10, 4)


# --- the interval ----------------------------------------------------------------------------------------------------


def simulated(
    rng: np.random.Generator, recordings: int, each: int, right: float
) -> tuple[IntArray, IntArray, list[str]]:
    """Clips of 4 classes whose recordings are right or wrong as a whole, with probability ``right``."""
    targets = np.repeat(np.arange(recordings) % 4, each)
    wrong = np.repeat(rng.random(recordings) > right, each)
    predicted = np.where(wrong, (targets + rng.integers(1, 4, len(targets))) % 4, targets)
    return targets, predicted, [f"tape {i // each}" for i in range(len(targets))]


def test_the_interval_holds_the_score_and_is_the_same_for_the_same_seed() -> None:
    targets, predicted, groups = simulated(np.random.default_rng(0), 60, 3, 0.7)
    low, high = interval(targets, predicted, groups, 4)
    assert 0 < low < macro_f1(targets, predicted, 4) < high < 1
    assert interval(targets, predicted, groups, 4) == (low, high)
    assert interval(targets, predicted, groups, 4, seed=1) != (low, high)


def test_the_interval_does_not_depend_on_how_recordings_are_called() -> None:
    targets, predicted, groups = simulated(np.random.default_rng(0), 60, 3, 0.7)
    renamed = [f"{int(name.split()[1]):03d}" for name in groups]
    low, high = interval(targets, predicted, groups, 4)
    assert interval(targets, predicted, renamed, 4) == pytest.approx((low, high), abs=0.02)


def test_clips_that_agree_within_recordings_give_a_wider_interval() -> None:
    targets, predicted, groups = simulated(np.random.default_rng(0), 40, 8, 0.7)
    by_recording = interval(targets, predicted, groups, 4)
    by_clip = interval(targets, predicted, [str(i) for i in range(len(targets))], 4)
    assert by_recording[1] - by_recording[0] > 1.8 * (by_clip[1] - by_clip[0])


def test_the_interval_covers_the_true_score_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    many = simulated(rng, 100_000, 1, 0.7)
    truth = macro_f1(many[0], many[1], 4)
    covered = 0
    for _ in range(25):
        targets, predicted, groups = simulated(rng, 100, 2, 0.7)
        low, high = interval(targets, predicted, groups, 4)
        covered += low <= truth <= high
    assert covered >= 21  # 24 of 25 expected


def test_a_perfect_and_a_single_recording_have_an_interval_without_width() -> None:
    assert interval(BALANCED, BALANCED, [str(i) for i in range(80)], 10) == (1.0, 1.0)
    targets, predicted = np.array([0, 1, 1]), np.array([0, 0, 1])
    low, high = interval(targets, predicted, ["one"] * 3, 2)
    assert low == high == pytest.approx(macro_f1(targets, predicted, 2))
