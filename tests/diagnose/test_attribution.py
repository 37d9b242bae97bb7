import numpy as np
import pytest

from audioclf.diagnose.attribution import attribute, waterfall
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
    from audioclf.diagnose.repair import repaired

    repaired(lab, "a", {"model.hidden": 64})
    repaired(lab, "b", {"features.normalisation": "global"})
    return [
        verdict("a", "a", {"model.hidden": 64}),
        verdict("b", "b", {"features.normalisation": "global"}),
        verdict("data", "data", None),
    ]


def test_shares_of_repairs_add_up_to_what_all_of_them_return(lab, convicted):
    shares, whole = attribute(lab, convicted)
    assert set(shares) == {"a", "b"}
    assert sum(gain for gain, _ in shares.values()) == pytest.approx(whole.f1 - lab.as_long.f1)
    for gain, (low, high) in shares.values():
        assert low <= gain <= high


def test_share_of_two_repairs_is_the_mean_of_both_orders(lab, convicted):
    shares, whole = attribute(lab, convicted)
    base, a, b, both = (trial.f1 for trial in (lab.as_long, lab.trials["a"], lab.trials["b"], whole))
    assert shares["a"][0] == pytest.approx(((a - base) + (both - b)) / 2)


def test_nothing_is_divided_where_no_setting_is_repaired(lab, convicted):
    assert attribute(lab, convicted[2:]) == ({}, None)


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


def test_repairs_that_return_more_than_the_gap_leave_no_rest():
    gap = Gap(chance=0.1, test=0.2, base=0.25, probe=0.4, reference=0.4)
    steps = waterfall(gap, [verdict("data", "data", None)], {}, TITLES)
    assert [step.kind for step in steps] == ["level", "level", "gain", "level"]
    assert steps[-1].value == pytest.approx(0.5)
