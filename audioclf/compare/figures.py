"""The figures of a comparison, each in ink on paper with one accent, and shades of it for more and less.

Shades are opacities of the accent, so that they read in grey and for every kind of colour vision, and so that the page
can show the same drawing in light and dark: it replaces the five colours by its own.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PatchCollection
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from audioclf.compare.axis import printable, score_text, shortened
from audioclf.compare.comparison import ClassScore, Comparison, FloatArray, IntArray
from audioclf.compare.importance import NOISE
from audioclf.files import replacing

INK, MUTED, RULE, PAPER, ACCENT = "#1b1d20", "#6b7178", "#d8dbde", "#fffffe", "#0b6574"
WIDTH = 4.2  # in: fits a phone without shrinking its letters, and half a laptop
STYLE: Any = {
    "font.size": 8.5,
    "font.family": "sans-serif",
    "text.color": INK,
    "axes.titlesize": 8.5,
    "axes.titlelocation": "left",
    "axes.labelcolor": MUTED,
    "axes.edgecolor": RULE,
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.unicode_minus": True,
    "figure.facecolor": PAPER,
    "xtick.color": RULE,
    "ytick.color": RULE,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "legend.frameon": False,
    "hatch.linewidth": 0.6,
    "svg.fonttype": "none",
    "text.parse_math": False,  # $ and _ in names are letters
}
NAMES = ("heatmap", "parallel", "curves", "per_class", "confusion", "importance")
"""The figures, in the order in which they are read."""
MOST_BARS, MOST_CELLS, COUNTED_CELLS = 50, 50, 30
LONGEST_NAME = 26  # characters of a class in a figure


@dataclass(frozen=True)
class Drawing:
    """A figure with its words.

    Attributes:
        name: of its file.
        title: what it shows.
        caption: how to read it, and what was left out.
        figure: the drawing.
    """

    name: str
    title: str
    caption: str
    figure: Figure

    def svg(self) -> str:
        """The drawing as SVG, the same for the same drawing."""
        buffer = io.BytesIO()
        self._save(buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
        return buffer.getvalue().decode()

    def png(self) -> bytes:
        """The drawing as PNG, 160 dots an inch."""
        buffer = io.BytesIO()
        self._save(buffer, format="png", dpi=160, metadata={"Software": None})
        return buffer.getvalue()

    def _save(self, buffer: io.BytesIO, **options: Any) -> None:
        with matplotlib.rc_context({**STYLE, "svg.hashsalt": self.name}), warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Glyph .* missing")  # a class may be named in any script
            if self.figure.get_layout_engine() is not None:  # once: it takes longer than the drawing
                self.figure.draw_without_rendering()
                self.figure.set_layout_engine("none")
            self.figure.savefig(buffer, **options)


def draw(comparison: Comparison, names: Collection[str] = NAMES) -> list[Drawing]:
    """The figures of those names that have something to show, in the order in which they are read."""
    from audioclf.compare import curves, grid  # they draw with what is above

    makers = (grid.heatmap, grid.parallel, curves.curves, per_class, confusion, importance_bars)
    with matplotlib.rc_context(STYLE):
        made = [maker(comparison) for name, maker in zip(NAMES, makers, strict=True) if name in names]
    return [drawing for drawing in made if drawing is not None]


def write_figures(comparison: Comparison, into: Path) -> dict[str, Path]:
    """Writes each figure as SVG and PNG.

    Args:
        comparison: what to show.
        into: the folder below which ``figures/`` is made; figures that an earlier comparison left there and that now
            have nothing to show are removed.

    Returns:
        The SVG files by name, of heatmap, parallel, curves, per_class, confusion and importance.
    """
    folder, written = into / "figures", {}
    for drawing in draw(comparison):
        for suffix, content in ((".svg", drawing.svg().encode()), (".png", drawing.png())):
            with replacing(folder / (drawing.name + suffix)) as file:
                file.write(content)
        written[drawing.name] = folder / f"{drawing.name}.svg"
    for name in set(NAMES) - set(written):
        for suffix in (".svg", ".png"):
            (folder / (name + suffix)).unlink(missing_ok=True)
    return written


def per_class(comparison: Comparison) -> Drawing | None:
    """Test F1 of each class with its interval, the selected setting's beside the baseline's."""
    scores = sorted(comparison.class_scores, key=lambda score: (-_finite(score.f1.mean), score.name))
    if not scores:
        return None
    shown = scores[-MOST_BARS:]
    both = comparison.selected.values != comparison.baseline.values and bool(comparison.baseline_class_scores)
    others = {score.name: score for score in comparison.baseline_class_scores} if both else {}
    figure = Figure(
        figsize=(WIDTH, 0.75 + (0.3 if both and len(shown) <= 20 else 0.2) * len(shown)), layout="constrained"
    )
    axes = figure.add_subplot()
    rows = np.arange(len(shown))[::-1]
    shift = 0.18 if both else 0.0
    _bars(axes, rows + shift, shown, ACCENT, "selected")
    if both:
        _bars(axes, rows - shift, [others.get(score.name, score) for score in shown], MUTED, "baseline")
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, borderpad=0.2, handlelength=1.2)
    names = [f"{shortened(score.name, LONGEST_NAME)} ({score.support})" for score in shown]
    axes.set_yticks(rows, names)
    axes.set(xlim=(0, 1), ylim=(-0.6, len(shown) - 0.4), xlabel="test F1")
    _score_axis(axes)
    caption = "Whiskers: 95 % interval. In brackets: test clips."
    if len(shown) < len(scores):
        caption = f"The {len(shown)} lowest of {len(scores)} classes; the list below has all. " + caption
    return Drawing("per_class", "Test F1 of each class", caption, figure)


def _bars(axes: Axes, rows: Any, scores: list[ClassScore], colour: str, label: str) -> None:
    height = 0.32 if colour == MUTED else 0.34
    means = np.array([score.f1.mean for score in scores])
    low, high = (np.array([getattr(score.f1, end) for score in scores]) for end in ("low", "high"))
    fill: Any = (
        {"facecolor": ACCENT, "alpha": 0.7}
        if colour == ACCENT
        else {"facecolor": "none", "edgecolor": MUTED, "linewidth": 0.8}
    )
    axes.barh(rows, np.nan_to_num(means), height, label=label, **fill)
    axes.hlines(rows, low, high, color=INK, linewidth=0.9)


def confusion(comparison: Comparison) -> Drawing | None:
    """The selected setting's test clips."""
    return confusions(comparison.confusion, comparison.classes, "Confusions of the selected setting on test")


def confusions(counts: IntArray, classes: list[str], title: str) -> Drawing | None:
    """Clips by class ``[K, K]``: rows are what they are, columns what they were taken for."""
    if counts.sum() == 0:
        return None
    wrong = counts - np.diag(np.diag(counts))
    caption = "Rows: what a clip is; columns: what it was taken for; shade: share of the row. " + _mistakes(
        wrong, classes
    )
    shown = np.arange(len(classes))
    if len(classes) > MOST_CELLS:
        shown = np.sort(np.argsort(-(wrong.sum(0) + wrong.sum(1)), kind="stable")[:COUNTED_CELLS])
        caption = f"The {len(shown)} of {len(classes)} classes with the most mistakes. " + caption
    counts, total = counts[np.ix_(shown, shown)], counts.sum(1)[shown]
    k = len(shown)
    size = max(WIDTH, 0.19 * k + 1.3) if k > 14 else WIDTH
    figure = Figure(figsize=(size, size), layout="constrained")
    axes = figure.add_subplot(aspect="equal")
    is_, taken = np.nonzero(counts)
    colours = shade(axes, taken, is_, counts[is_, taken] / total[is_])
    if k <= COUNTED_CELLS:
        for i, j, colour in zip(is_, taken, colours, strict=True):
            text = str(counts[i, j])
            axes.text(float(j), float(i), text, ha="center", va="center", color=colour, size=7.5 if k <= 14 else 5.5)
    names = [shortened(classes[i], LONGEST_NAME) for i in shown]
    small: Any = {"size": 8 if k <= 14 else 6.5}
    axes.set_xticks(range(k), names, rotation=60, ha="right", rotation_mode="anchor", **small)
    axes.set_yticks(range(k), names, **small)
    axes.set(xlim=(-0.5, k - 0.5), ylim=(k - 0.5, -0.5), xlabel="taken for", ylabel="is")
    axes.tick_params(length=0)
    return Drawing("confusion", title, caption, figure)


def _mistakes(wrong: Any, classes: list[str]) -> str:
    """The three most frequent confusions in words."""
    places = [divmod(int(i), len(classes)) for i in np.argsort(-wrong, axis=None, kind="stable")[:3]]
    words = [f"{printable(classes[i])} for {printable(classes[j])} ({wrong[i, j]})" for i, j in places if wrong[i, j]]
    return f"Most often taken: {', '.join(words)}." if words else "No clip was taken for another class."


def importance_bars(comparison: Comparison) -> Drawing | None:
    """The share of the variance of val F1 that goes with each hyper-parameter."""
    if not comparison.importance:
        return None
    shares = comparison.importance[:20]
    figure = Figure(figsize=(WIDTH, 0.6 + 0.24 * len(shares)), layout="constrained")
    axes = figure.add_subplot()
    for row, share in enumerate(reversed(shares)):
        noise = share.key in NOISE
        fill: Any = {"facecolor": "none", "edgecolor": MUTED, "hatch": "////"} if noise else {"facecolor": ACCENT}
        axes.barh(row, share.mean, 0.6, linewidth=0.8, **fill)
        axes.hlines(row, max(share.mean - share.sd, 0), min(share.mean + share.sd, 1), color=INK, linewidth=0.9)
    names = [shortened(share.key, LONGEST_NAME) for share in reversed(shares)]
    axes.set_yticks(range(len(shares)), names)
    axes.set(xlim=(0, 1), xlabel="share of the variance of val F1")
    _score_axis(axes)
    caption = (
        "Share of the variance of val F1 that goes with a key, alone and together with others, so shares overlap "
        "(random forest, permutation). Hatched: noise; a key that gets no more than the seed is not told apart from it."
    )
    return Drawing("importance", "What the differences go with", caption, figure)


def shade(axes: Axes, x: Any, y: Any, amount: FloatArray) -> list[str]:
    """Draws cells of one unit around points in the accent, from hardly there (0) to full (1).

    Returns:
        The colours of text that can be read on them.
    """
    alpha = 0.06 + 0.94 * amount
    cells = [Rectangle((i - 0.49, j - 0.49), 0.98, 0.98) for i, j in zip(x, y, strict=True)]
    axes.add_collection(PatchCollection(cells, facecolor=ACCENT, alpha=alpha, linewidth=0))
    return [PAPER if a > 0.76 else INK for a in alpha]  # there both have the same contrast to it


def _score_axis(axes: Axes) -> None:
    ticks = (0, 0.2, 0.4, 0.6, 0.8, 1)
    axes.set_xticks(ticks, ["0", *(score_text(tick)[:2] for tick in ticks[1:-1]), "1"])
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", color=RULE, linewidth=0.6)
    axes.set_axisbelow(True)


def _finite(value: float) -> float:
    return value if np.isfinite(value) else -1.0
