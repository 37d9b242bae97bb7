import numpy as np
import pytest

from audioclf.diagnose.attribution import attribute, waterfall
from audioclf.diagnose.repair import changed
from audioclf.diagnose.trial import bootstrap
from audioclf.diagnose.verdict import Gap, Verdict

TITLES = {"a": "of a", "b": "of b", "data": "of the data"}


def verdict(cause, trial, repair, share=0.5, gain=0.3):
    effect = {"before": 0.2, "after": 0.2 + gain, "gain": gain, "low": 0.1, "high": 0.5, "trials": ["base", trial]}
    numbers = {"effect": effect} | ({"repair": repair} if repair else {})
    return Verdict(cause, "explains", share, (0.2, 0.8), ["."], None, numbers)


@pytest.fixture
def convicted(lab):
    """Two repairs that were tried, and one of the data."""
    lab.trial(changed(lab, "a", {"model.hidden": 64}))
    lab.trial(changed(lab, "b", {"features.normalisation": "global"}))
    return [
        verdict("a", "a", {"model.hidden": 64}),
        verdict("b", "b", {"features.normalisation": "global"}),
        verdict("data", "data", None),
    ]


def test_shares_of_repairs_add_up_to_what_all_of_them_return(lab, convicted):
    shares, trials = attribute(lab, convicted)
    assert set(shares) == {"a", "b"}
    gained = trials[frozenset("ab")].f1 - trials[frozenset()].f1
    assert sum(gain for gain, _ in shares.values()) == pytest.approx(gained)
    for gain, (low, high) in shares.values():
        assert low <= gain <= high


def test_share_of_two_repairs_is_the_mean_of_both_orders(lab, convicted):
    shares, trials = attribute(lab, convicted)
    base, a, b, both = (trials[frozenset(causes)].f1 for causes in ("", "a", "b", "ab"))
    assert shares["a"][0] == pytest.approx(((a - base) + (both - b)) / 2)


def test_nothing_is_divided_where_no_setting_is_repaired(lab, convicted):
    assert attribute(lab, convicted[2:]) == ({}, {})


def test_bootstrap_begins_with_what_was_observed(lab):
    draws = bootstrap(lab.base)
    assert draws[0] == lab.base.f1
    assert np.quantile(draws, 0.01) < lab.base.f1 < np.quantile(draws, 0.99)


def test_steps_go_from_guessing_to_the_best_probe():
    gap = Gap(chance=0.1, test=0.2, base=0.25, probe=0.8, reference=0.8)
    steps = waterfall(
        gap, [verdict("a", "a", {"lr": 1.0}), verdict("data", "data", None)], {"a": (0.2, (0.1, 0.3))}, TITLES
    )
    assert [step.kind for step in steps] == ["level", "level", "gain", "gain", "rest", "level"]
    assert [round(step.value, 2) for step in steps] == [0.1, 0.2, 0.2, 0.3, 0.1, 0.8]


def test_no_step_stands_higher_than_what_was_reached():
    """Causes of the data were not tried together: their gains alone may add up to more than there is to explain."""
    gap = Gap(chance=0.1, test=0.2, base=0.25, probe=0.4, reference=0.5)
    steps = waterfall(gap, [verdict("data", "data", None), verdict("a", "a", {"lr": 1.0})], {}, TITLES)
    assert [step.kind for step in steps] == ["level", "level", "gain", "gain", "level"]
    assert [step.value for step in steps[2:]] == pytest.approx([0.15, 0.15, 0.5])
    assert steps[2].interval == pytest.approx((0.05, 0.25))
