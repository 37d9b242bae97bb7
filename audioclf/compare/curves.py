"""Learning curves: one row a setting, so that each is read alone and all on the same scale."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from audioclf.compare.axis import short_keys, short_text, shortened
from audioclf.compare.comparison import Comparison, FloatArray, RunRow, Setting
from audioclf.compare.figures import ACCENT, INK, MUTED, RULE, WIDTH, Drawing
from audioclf.runs.folder import RunFolder

MOST_SETTINGS = 6
LOG_LOSS_FROM = 30.0  # largest over smallest loss from which its scale is logarithmic
METRICS = {"f1_macro": "macro-F1", "loss": "loss"}

Curve = dict[str, FloatArray]  # column of metrics.csv -> [epochs, 3]: lowest, mean and highest over runs


def curves(comparison: Comparison) -> Drawing | None:
    """Train and val, macro-F1 and loss, of the selected setting, the baseline and the next best."""
    settings = shown_settings(comparison)
    found = [(setting, read_curve(setting.runs)) for setting in settings]
    if not any(curve for _, curve in found):
        return None
    short = short_keys(comparison.keys)
    figure = Figure(figsize=(WIDTH, 0.5 + 1.25 * len(found)), layout="constrained")
    grid = figure.subplots(len(found), 2, sharex=True, sharey="col", squeeze=False)
    for (setting, curve), row in zip(found, grid, strict=True):
        role = {id(comparison.baseline): "baseline", id(comparison.selected): "selected"}.get(id(setting), "")
        words = ": ".join(filter(None, (role, short_text(setting, comparison.keys, short))))
        row[0].set_title(shortened(words, 52), weight="bold" if role else "normal")
        for axes, metric in zip(row, METRICS, strict=True):
            if not curve:
                axes.text(0.5, 0.5, "no metrics.csv", color=MUTED, ha="center", va="center", transform=axes.transAxes)
            for _, other in found:
                if other is not curve and other:
                    axes.plot(other["epoch"][:, 1], other[f"val_{metric}"][:, 1], color=RULE, linewidth=0.8, zorder=1)
            if curve:
                _draw(axes, curve, metric, ACCENT if setting is comparison.selected else INK)
                _dots(axes, setting.runs, curve, metric)
            axes.grid(axis="y", color=RULE, linewidth=0.4, alpha=0.6)
    for axes, words in zip(grid[-1], METRICS.values(), strict=True):
        axes.set_xlabel(f"{words} by epoch")
    grid[0, 0].set_ylim(bottom=0)
    _loss_scale(grid[0, 1], [curve for _, curve in found])
    caption = (
        "Solid: val; dashed: train (collected while the weights change); band: lowest to highest run; grey: the other "
        "rows' val; ticks at the foot: the epochs whose weights were tested. Settings that differ in epochs alone share a row."
    )
    return Drawing("curves", "Learning curves", caption, figure)


def shown_settings(comparison: Comparison) -> list[Setting]:
    """The selected setting, the baseline and the next best, of those that share a trajectory only one."""
    shown: list[Setting] = []
    for setting in (comparison.selected, comparison.baseline, *comparison.settings):
        if any(setting is other for other in shown):
            continue
        if len(shown) < 2 or not any(_without_epochs(setting) == _without_epochs(other) for other in shown):
            shown.append(setting)
        if len(shown) == MOST_SETTINGS:
            break
    return shown


def read_curve(runs: Sequence[RunRow]) -> Curve:
    """The runs' ``metrics.csv`` by epoch; empty where no run has one that can be read."""
    values: dict[str, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    for run in runs:
        try:
            rows = RunFolder(run.folder).read_metrics()
            for row in rows:
                for split in ("train", "val"):
                    for metric in METRICS:
                        values[f"{split}_{metric}"][int(row["epoch"])].append(row[f"{split}_{metric}"])
        except (OSError, ValueError, KeyError, TypeError):  # absent, torn or no file of ours: a curve less
            continue
    if not values:
        return {}
    epochs = sorted(set().union(*values.values()))
    curve = {key: np.array([_band(by_epoch.get(epoch, [])) for epoch in epochs]) for key, by_epoch in values.items()}
    return {"epoch": np.repeat(np.array(epochs, float)[:, None], 3, axis=1), **curve}


def _band(values: list[float]) -> tuple[float, float, float]:
    finite = [value for value in values if np.isfinite(value)]
    return (min(finite), sum(finite) / len(finite), max(finite)) if finite else (np.nan,) * 3


def _draw(axes: Axes, curve: Curve, metric: str, colour: str) -> None:
    epochs = curve["epoch"][:, 1]
    marker = "." if len(epochs) == 1 else None  # a line of one point is none
    for split, style in (("train", (0, (3, 1.5))), ("val", "solid")):
        low, mean, high = curve[f"{split}_{metric}"].T
        axes.fill_between(epochs, low, high, color=colour, alpha=0.16, linewidth=0, zorder=2)
        axes.plot(epochs, mean, color=colour, linestyle=style, linewidth=1.3, marker=marker, markersize=3, zorder=3)


def _dots(axes: Axes, runs: Sequence[RunRow], curve: Curve, metric: str) -> None:
    """Ticks on the epoch axis where runs were tested."""
    for epoch in {run.selected_epoch for run in runs}:
        axes.plot(
            [epoch], [0], "|", color=INK, markersize=6, transform=axes.get_xaxis_transform(), clip_on=False, zorder=4
        )


def _loss_scale(axes: Axes, curves: list[Curve]) -> None:
    losses = np.concatenate([curve[f"{split}_loss"].ravel() for curve in curves if curve for split in ("train", "val")])
    losses = losses[np.isfinite(losses) & (losses > 0)]
    if len(losses) and losses.max() / losses.min() > LOG_LOSS_FROM:
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter("")
    elif len(losses):
        axes.set_ylim(bottom=0)


def _without_epochs(setting: Setting) -> dict[str, object]:
    return {key: value for key, value in setting.values.items() if key != "epochs"}
