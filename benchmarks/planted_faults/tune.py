"""Folds 1 and 2: what each number of each probe is on healthy runs and on planted faults, for people to set thresholds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from rich.box import SIMPLE
from rich.table import Table
from sklearn.metrics import roc_auc_score

from benchmarks.planted_faults.faults import ACCEPTED
from benchmarks.planted_faults.matrix import console, effective, healthy
from benchmarks.planted_faults.run import Line

FOLDS = (1, 2)
LEAST_AUC = 0.8


def separations(lines: Sequence[Line], cause: str) -> list[tuple[str, float, list[float], list[float]]]:
    """How far each number of a probe tells healthy runs from those with its fault.

    Returns:
        (name, area under the ROC curve either way, values on healthy runs, values on planted ones), best first.
    """
    kinds = {kind for kind, accepted in ACCEPTED.items() if next(iter(accepted)) == cause}
    fine = [line for line in lines if not line["kinds"] and healthy(line)]
    ill = [line for line in lines if kinds & set(line["kinds"]) and effective(line)]
    found = []
    values = [[dict(flat(line["numbers"].get(cause, {}))) for line in part] for part in (fine, ill)]
    for name in sorted({name for part in values for numbers in part for name in numbers}):
        without, planted = ([numbers[name] for numbers in part if name in numbers] for part in values)
        if without and planted:
            area = roc_auc_score([0] * len(without) + [1] * len(planted), [*without, *planted])
            found.append((name, max(area, 1 - area), without, planted))
    return sorted(found, key=lambda item: -item[1])


def show(lines: Sequence[Line]) -> None:
    """Prints the numbers that separate, for each cause."""
    for cause in sorted({cause for line in lines for cause in line["numbers"]}):
        table = Table(title=cause, title_justify="left", box=SIMPLE)
        for column in ("number", "AUC", "healthy: n", "min", "median", "max", "planted: n", "min", "median", "max"):
            table.add_column(column, justify="left" if column == "number" else "right")
        for name, area, without, planted in separations(lines, cause):
            if area >= LEAST_AUC:
                table.add_row(name, f"{area:.2f}", *_spread(without), *_spread(planted))
        if table.row_count:
            console.print(table)


def flat(numbers: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    """The plain numbers of nested mappings, with dotted names; truth values are 0 and 1."""
    for name, value in numbers.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{name}.")
        elif isinstance(value, bool | int | float):
            yield f"{prefix}{name}", float(value)


def _spread(values: Sequence[float]) -> list[str]:
    return [str(len(values)), *(f"{value:.3g}" for value in np.quantile(values, [0, 0.5, 1]))]
