"""Which hyper-parameters the differences in val F1 go with.

A random forest learns val F1 from the hyper-parameters, seed and fold of each run; then one column at a time is
shuffled. Half of the R² that is lost is the column's *total* share of the variance, alone and together with others: the
total Sobol index (Gregorutti, Michel & Saint-Pierre 2017, "Correlation and variable importance in random forests";
Bénard, Da Veiga & Scornet 2022, "Mean decrease accuracy for random forests"). So shares overlap where keys act
together and may sum to more than 1. It is exact for independent columns, as those of a grid are; a search that homes
in on good values ties them together, and its shares are rougher.

Functional ANOVA (Hutter, Hoos & Leyton-Brown 2014) shares out the same forest's variance, but to each key alone, and lr
and epochs make up for one another. Seed and fold stand in the list as a yardstick: a forest also learns noise, and a
key that gets no more than the seed is not told apart from it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.ensemble import RandomForestRegressor
from sklearn.inspection import permutation_importance

from audioclf.compare.axis import in_order
from audioclf.compare.comparison import FloatArray, Importance, Setting

FEWEST_SETTINGS = 6
NOISE = ("seed", "fold")
"""Keys of the list that are no hyper-parameters."""
TREES = 60
SHUFFLES = 10


def importance(settings: Sequence[Setting]) -> list[Importance]:
    """The total share of the variance of val F1 that goes with each hyper-parameter that varies.

    Args:
        settings: all settings of a study, in any order.

    Returns:
        Largest first, ``seed`` and ``fold`` among them where they vary; shares in 0..1, ``sd`` over shuffles. Empty
        where there are fewer than 6 settings, no key varies, or all runs have the same val F1.
    """
    if len(settings) < FEWEST_SETTINGS:
        return []
    columns = _columns(settings)
    val = np.array([run.val for setting in settings for run in setting.runs])
    if not set(columns) - set(NOISE) or np.ptp(val) == 0:
        return []
    order = np.lexsort([val, *columns.values()])  # the same answer in whatever order the settings come
    table, val = np.column_stack(list(columns.values()))[order], val[order]
    forest = RandomForestRegressor(TREES, max_features=0.7, random_state=0).fit(table, val)
    found = permutation_importance(forest, table, val, scoring="r2", n_repeats=SHUFFLES, random_state=0)
    shares = np.clip(found.importances / 2, 0, 1)
    made = [Importance(key, float(row.mean()), float(row.std())) for key, row in zip(columns, shares, strict=True)]
    return sorted(made, key=lambda share: -share.mean)


def _columns(settings: Sequence[Setting]) -> dict[str, FloatArray]:
    """One column a key that varies, a row a run: the rank of its value, which is all that a tree looks at."""
    values: dict[str, list[Any]] = {
        key: [setting.values.get(key) for setting in settings for _ in setting.runs]
        for key in sorted({key for setting in settings for key in setting.values})
    }
    values["seed"] = [run.seed for setting in settings for run in setting.runs]
    values["fold"] = [run.fold for setting in settings for run in setting.runs]
    columns = {}
    for key, column in values.items():
        ranks = {value: rank for rank, value in enumerate(sorted(set(column), key=in_order))}
        if len(ranks) > 1:
            columns[key] = np.array([ranks[value] for value in column], float)
    return columns
