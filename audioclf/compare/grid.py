"""The settings as a plane and as lines: heatmap of two hyper-parameters, parallel coordinates of all."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from audioclf.compare.axis import Axis, score_text, short_keys, short_text, shortened, value_text
from audioclf.compare.comparison import Comparison, Setting
from audioclf.compare.figures import ACCENT, INK, MUTED, PAPER, WIDTH, Drawing, shade
from audioclf.compare.importance import NOISE

MOST_PANELS = 6
MOST_STEPS = 10  # values of a key that stand alone; more are put together in ranges
MOST_AXES = 12
HALF_TITLE = 24  # characters above a panel of half the width


def heatmap(comparison: Comparison) -> Drawing | None:
    """Val F1 over lr and epochs, or over the two keys that matter most; a panel for each value of the others."""
    if len(comparison.settings) < 2 or not comparison.keys:
        return None
    axes_of = {key: Axis(key, comparison.settings) for key in comparison.keys}
    across, down = _plane(comparison, axes_of)
    others = [key for key in comparison.keys if key not in (across, down)]
    panels = _panels(comparison, others)
    columns, rows = _Steps(axes_of[across]), _Steps(axes_of[down]) if down else None
    height = len(rows.names) if rows else 1
    wide = 2 if len(panels) > 1 and max(map(len, panels)) <= HALF_TITLE else 1
    deep = math.ceil(len(panels) / wide)
    figure = Figure(figsize=(WIDTH, 0.75 + deep * (0.42 * height + 0.35)), layout="constrained")
    drawn = figure.subplots(deep, wide, sharex=True, sharey=True, squeeze=False).ravel()
    means = [setting.val.mean for setting in comparison.settings]
    for axes, (title, settings) in zip(drawn, panels.items(), strict=False):
        axes.set_title(shortened(title, HALF_TITLE if wide == 2 else 2 * HALF_TITLE))
        cells: dict[tuple[int, int], Setting] = {}
        for setting in sorted(settings, key=lambda s: -s.val.mean):
            place = columns.place(setting), rows.place(setting) if rows else 0
            cells.setdefault(place, setting)
        amounts = np.array([(setting.val.mean - min(means)) / (np.ptp(means) or 1) for setting in cells.values()])
        colours = shade(axes, [x for x, _ in cells], [y for _, y in cells], amounts)
        for ((x, y), setting), colour in zip(cells.items(), colours, strict=True):
            style: dict[str, Any] = {"color": colour, "ha": "center", "va": "center"}
            axes.text(x, y + 0.13, score_text(setting.val.mean), weight="bold", **style)
            axes.text(x, y - 0.25, f"n {setting.val.n}", size=6.5, **style)
            for marked, line in ((comparison.selected, "solid"), (comparison.baseline, (0, (2, 1.2)))):
                if setting is marked:
                    frame: Any = {"fill": False, "edgecolor": INK, "linewidth": 1.8, "linestyle": line}
                    axes.add_patch(Rectangle((x - 0.46, y - 0.44), 0.92, 0.88, **frame))
        axes.set(xlim=(-0.5, len(columns.names) - 0.5), ylim=(-0.5, height - 0.5))
        axes.set_xticks(range(len(columns.names)), columns.names, **columns.slant)
        axes.set_yticks(range(height) if rows else [], rows.names if rows else [])
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
    for axes in drawn[len(panels) :]:
        axes.set_visible(False)
    figure.supxlabel(f"{shortened(across, 40)}  (cells: val F1, n runs)", size=8.5, color=MUTED)
    if down:
        figure.supylabel(shortened(down, 30), size=8.5, color=MUTED)
    caption = "Mean over seeds and folds; n: runs. Solid frame: selected; dashed: baseline."
    if (len(panels) == 1 and others) or columns.ranges or (rows and rows.ranges):
        caption += " Several settings share a cell: it shows the best of them, which flatters cells of many."
    title = (
        f"Val F1 by {shortened(down, 30)} and {shortened(across, 30)}" if down else f"Val F1 by {shortened(across, 30)}"
    )
    return Drawing("heatmap", title, caption, figure)


class _Steps:
    """The values of a key as the steps of a heatmap, in ranges of about equally many values where there are many."""

    def __init__(self, axis: Axis) -> None:
        parts = [list(part) for part in np.array_split(np.arange(len(axis.values)), min(len(axis.values), MOST_STEPS))]
        self.axis, self.ranges = axis, (many := len(parts) < len(axis.values))
        texts = [
            [shortened(value_text(axis.values[i], 2 if many else 5), 16) for i in (part[0], part[-1])] for part in parts
        ]
        self.names = [low if low == high else f"{low} … {high}" for low, high in texts]
        self._step = {i: step for step, part in enumerate(parts) for i in part}
        long = max(map(len, self.names)) * len(self.names) > 42
        self.slant: dict[str, Any] = {"rotation": 40, "ha": "right", "rotation_mode": "anchor"} if long else {}

    def place(self, setting: Setting) -> int:
        return self._step[self.axis.rank(setting.values.get(self.axis.key))]


def _plane(comparison: Comparison, axes: dict[str, Axis]) -> tuple[str, str | None]:
    """The keys across and down: epochs and lr where both vary, else the most important, those of numbers first."""
    if {"lr", "epochs"} <= set(comparison.keys):
        return "epochs", "lr"
    ranks = {share.key: rank for rank, share in enumerate(comparison.importance) if share.key not in NOISE}
    keys = sorted(comparison.keys, key=lambda key: (not axes[key].numeric, ranks.get(key, len(ranks))))
    first = [*keys, None][:2]
    if "epochs" in first:  # time runs to the right
        first.sort(key=lambda key: key != "epochs")
    return str(first[0]), first[1]


def _panels(comparison: Comparison, others: Sequence[str]) -> dict[str, list[Setting]]:
    """The settings by what else varies, or all in one where that would be too many panels."""
    panels: dict[str, list[Setting]] = {}
    for setting in comparison.settings:
        panels.setdefault(short_text(setting, others, short_keys(comparison.keys)), []).append(setting)
    return dict(sorted(panels.items())) if len(panels) <= MOST_PANELS else {"": list(comparison.settings)}


def parallel(comparison: Comparison) -> Drawing | None:
    """One line a setting through its values to its val F1, the better the stronger."""
    settings = comparison.settings
    if len(settings) < 2 or not comparison.keys:
        return None
    ranks = {share.key: rank for rank, share in enumerate(comparison.importance)}
    keys = comparison.keys
    if len(keys) > MOST_AXES:
        keys = sorted(keys, key=lambda key: ranks.get(key, len(ranks)))[:MOST_AXES]
    scales = [Axis(key, settings) for key in keys]
    means = np.array([setting.val.mean for setting in settings])
    low, high = math.floor(means.min() * 20) / 20, math.ceil(means.max() * 20) / 20
    high = high if high > low else low + 0.05
    figure = Figure(figsize=(max(WIDTH, 0.95 * (len(keys) + 1)), 3.0), layout="constrained")
    axes = figure.add_subplot()
    thin = min(1.0, (60 / len(settings)) ** 0.5)
    for i in range(len(settings) - 1, -1, -1):
        setting = settings[i]
        ys = [scale.position(setting.values.get(scale.key)) for scale in scales] + [(means[i] - low) / (high - low)]
        amount = (means[i] - means.min()) / (np.ptp(means) or 1)
        style: dict[str, Any] = {
            "color": ACCENT,
            "alpha": (0.15 + 0.6 * amount**2) * thin,
            "linewidth": 0.4 + 0.5 * thin,
        }
        if setting is comparison.selected:
            style = {"color": ACCENT, "linewidth": 2.4}
        elif setting is comparison.baseline:
            style = {"color": INK, "linewidth": 1.4, "linestyle": (0, (3, 2))}
        axes.plot(range(len(ys)), ys, gid=f"setting-{i}", **style)
    for x, scale in enumerate(scales):
        _scale(axes, x, _ticks(scale))
    steps = [step for step in MaxNLocator(6).tick_values(low, high) if low <= step <= high]
    _scale(axes, len(scales), [((step - low) / (high - low), score_text(float(step))) for step in steps])
    names = [shortened(name, 16) for name in short_keys(keys).values()]
    axes.set_xticks(range(len(names) + 1), [*names, "val F1"], weight="bold")
    axes.set(xlim=(-0.25, len(names) + 0.3), ylim=(-0.04, 1.04), yticks=[])
    axes.tick_params(axis="x", length=0, pad=6)
    axes.spines[:].set_visible(False)
    caption = "One line a setting, the stronger the better its val F1. Thick: selected; dashed: baseline."
    if len(keys) < len(comparison.keys):
        caption += f" The {len(keys)} most important of {len(comparison.keys)} keys."
    return Drawing("parallel", "All settings", caption, figure)


def _ticks(scale: Axis) -> list[tuple[float, str]]:
    """Places and names of some values of an axis, far enough apart to be read."""
    ticks: list[tuple[float, str]] = []
    for value in scale.values:
        place = scale.position(value)
        if not ticks or place - ticks[-1][0] >= 0.07:
            ticks.append((place, shortened(value_text(value, 3), 14)))
    return ticks


def _scale(axes: Axes, x: int, ticks: Sequence[tuple[float, str]]) -> None:
    axes.plot([x, x], [0, 1], color=MUTED, linewidth=0.8, zorder=3)
    for place, text in ticks:
        axes.plot([x - 0.015, x + 0.015], [place, place], color=MUTED, linewidth=0.8, zorder=3)
        halo = {"facecolor": PAPER, "edgecolor": "none", "alpha": 0.75, "pad": 0.8}
        axes.text(x + 0.04, place, text, size=7, va="center", zorder=4, bbox=halo)
