"""Importance: what moves val F1 comes first, what does not is no more than the seed."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace

from audioclf.compare.comparison import Comparison
from audioclf.compare.importance import importance

Make = Callable[..., Comparison]
AXES = {"lr": (1e-2, 1e-3, 1e-4), "epochs": (5, 20), "model.hidden": (64, 512), "loss.name": ("cross_entropy",)}


def test_keys_that_matter_stand_before_those_that_do_not(make_comparison: Make) -> None:
    shares = {share.key: share for share in make_comparison(AXES, seeds=3, folds=2, curves=False).importance}
    assert list(shares)[:2] == ["lr", "epochs"]
    assert shares["lr"].mean > 0.4 > 0.05 > shares["model.hidden"].mean  # hidden units change nothing in that study
    assert shares["model.hidden"].mean < 2 * max(shares["seed"].mean, shares["fold"].mean)


def test_what_does_not_vary_is_left_out(make_comparison: Make) -> None:
    keys = {share.key for share in make_comparison(AXES, seeds=1, curves=False).importance}
    assert keys == {"lr", "epochs", "model.hidden"}


def test_the_order_of_settings_changes_nothing(make_comparison: Make) -> None:
    settings = make_comparison(AXES, curves=False).settings
    shuffled = random.Random(0).sample(settings, len(settings))
    assert importance(shuffled) == importance(settings)


def test_values_of_any_kind_are_ranked(make_comparison: Make) -> None:
    axes = {"lr": (1e-2, 1e-4), "features.normalisation": ("none", "per_band", 3, "null", True)}
    shares = {share.key: share.mean for share in make_comparison(axes, curves=False).importance}
    assert shares["lr"] > shares["features.normalisation"] > shares["seed"]


def test_too_little_to_learn_from_gives_nothing(make_comparison: Make) -> None:
    assert make_comparison({"lr": (1e-2, 1e-3, 1e-4, 1e-5, 1e-6)}, curves=False).importance == []
    settings = make_comparison(AXES, curves=False).settings
    same = [replace(setting, runs=[replace(run, val=0.5) for run in setting.runs]) for setting in settings]
    assert importance(same) == []
    assert importance([replace(setting, values={}) for setting in settings]) == []
