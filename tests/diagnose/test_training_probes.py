"""Causes that lie in how a run was trained: each is planted in a small run of the demo."""

import pytest

from audioclf.diagnose.diagnose import final_gap
from audioclf.diagnose.lab import Lab
from audioclf.diagnose.probes.collapsed import Collapsed
from audioclf.diagnose.probes.lr_too_high import LrTooHigh
from audioclf.diagnose.probes.model_too_small import ModelTooSmall
from audioclf.diagnose.probes.no_normalisation import NoNormalisation
from audioclf.diagnose.probes.overfitting import Overfitting
from audioclf.diagnose.probes.undertrained import Undertrained
from audioclf.diagnose.run import read_run
from audioclf.diagnose.verdict import Gap, limits_of

ALL = (LrTooHigh, NoNormalisation, Undertrained, Overfitting, ModelTooSmall)
GAP = Gap(chance=0.1, test=0.3, base=0.3, probe=0.8, reference=0.8)


@pytest.fixture
def diagnosed(train):
    """Trains a run with a fault, and lets a probe look at it: ``diagnosed(LrTooHigh, "lr=3")`` → its verdict."""

    def verdict_of(kind, *words):
        lab = Lab(read_run(train(*words)), budget_s=120)
        numbers = kind().examine(lab)
        return kind().judge(numbers, final_gap(lab.gap, {kind.cause: numbers}), limits_of(kind.cause))

    return verdict_of


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (LrTooHigh, ["lr=0.1", "features.normalisation=none", "epochs=12"]),
        (NoNormalisation, ["lr=0.1", "features.normalisation=none", "epochs=12"]),
        (Undertrained, ["lr=1e-7", "epochs=1"]),
        (ModelTooSmall, ["model.hidden=1", "epochs=20"]),
    ],
)
def test_planted_cause_is_named_and_the_repair_is_written_down(diagnosed, kind, words):
    verdict = diagnosed(kind, *words)
    assert verdict.convicted, verdict
    assert verdict.share is not None and verdict.share > 0.15
    assert verdict.next and all("=" in word for word in verdict.next)


def test_healthy_run_is_convicted_of_nothing(lab):
    for kind in ALL:
        numbers = kind().examine(lab)
        verdict = kind().judge(numbers, final_gap(lab.gap, {kind.cause: numbers}), limits_of(kind.cause))
        assert verdict.status == "cleared", verdict


def test_a_distance_between_train_and_test_alone_is_no_overfitting():
    numbers = {"nominated": False, "train_f1": 1.0, "peak": 0.6, "peak_epoch": 40, "last": 0.59, "last_epoch": 50}
    assert Overfitting().judge(numbers, GAP, limits_of("overfitting")).status == "cleared"


def test_a_train_f1_that_is_low_clears_overfitting():
    verdict = Overfitting().judge({"nominated": False, "train_f1": 0.13, "last": 0.05}, GAP, limits_of("overfitting"))
    assert verdict.status == "cleared" and "0.13" in verdict.evidence[0]


def test_falling_curve_with_a_repair_that_works_is_overfitting():
    numbers = {
        "nominated": True,
        "train_f1": 1.0,
        "peak": 0.6,
        "peak_epoch": 5,
        "last": 0.3,
        "last_epoch": 50,
        "effect": {"before": 0.3, "after": 0.6, "gain": 0.3, "low": 0.2, "high": 0.4},
        "repair": {"trainer.select": "best"},
    }
    verdict = Overfitting().judge(numbers, GAP, limits_of("overfitting"))
    assert verdict.status == "explains" and verdict.share == pytest.approx(0.6)
    assert verdict.next == ["trainer.select=best"]


@pytest.mark.parametrize(
    ("gain", "low", "status"),
    [
        (0.30, 0.10, "explains"),
        (0.10, 0.02, "contributes"),
        (0.30, -0.05, "undetermined"),  # large, and perhaps nothing
        (0.03, -0.05, "undetermined"),  # small, and perhaps not
        (-0.05, -0.2, "cleared"),  # too small to matter, for sure
    ],
)
def test_status_follows_share_interval_and_least_gain(gain, low, status):
    effect = {"before": 0.3, "after": 0.3 + gain, "gain": gain, "low": low, "high": gain + 0.1}
    numbers = {"nominated": True, "jump": 100.0, "lr": 1.0, "effect": effect, "repair": {"lr": 0.01}}
    verdict = LrTooHigh().judge(numbers, GAP, limits_of("lr_too_high"))
    assert verdict.status == status
    assert (verdict.next is None) == (status in ("cleared", "undetermined"))


def test_one_class_for_everything_is_a_symptom_and_convicts_nobody():
    numbers = {"class": "sea", "share": 0.9, "true_share": 0.1, "predicted_classes": 2, "classes": 10}
    assert Collapsed().judge(numbers, GAP, limits_of("collapsed")).status == "undetermined"
    assert Collapsed().judge(numbers | {"true_share": 0.85}, GAP, limits_of("collapsed")).status == "cleared"
