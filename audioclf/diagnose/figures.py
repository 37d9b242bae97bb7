"""The figures of a diagnosis: where the F1 went, learning curves, confidences, levels, clips and confusions.

Drawn like those of a comparison: ink on paper with one accent, which a page shows in light and dark.
"""

from __future__ import annotations

import math
import textwrap
from typing import TYPE_CHECKING, Any

import matplotlib
import numpy as np
import pyarrow.parquet as pq
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from audioclf.compare.axis import shortened
from audioclf.compare.figures import (
    ACCENT,
    INK,
    LONGEST_NAME,
    MOST_BARS,
    MUTED,
    RULE,
    STYLE,
    WIDTH,
    Drawing,
    confusions,
)
from audioclf.config import SPLITS
from audioclf.diagnose.report import f1_text
from audioclf.training.scores import FloatArray, IntArray, confusion_matrix

if TYPE_CHECKING:
    from audioclf.diagnose.diagnosis import Diagnosis, Step
    from audioclf.diagnose.lab import Lab

LEVELS = "rms_db"  # column of diagnosis/clips.parquet, dBFS
LOG_LOSS_FROM = 30.0  # largest over smallest loss from which its scale is logarithmic
TICKS = {0.0: "0", 0.2: "0.2", 0.4: "0.4", 0.6: "0.6", 0.8: "0.8", 1.0: "1"}
SOLID: Any = {"facecolor": ACCENT, "alpha": 0.7}
OUTLINE: Any = {"facecolor": "none", "edgecolor": MUTED, "linewidth": 0.8}
HATCHED: Any = OUTLINE | {"hatch": "////"}


def draw(diagnosis: Diagnosis, lab: Lab | None = None) -> list[Drawing]:
    """The figures that have something to show, in the order in which they are read.

    Args:
        diagnosis: what was concluded.
        lab: the run it is about; without it there are the waterfall, and the confusions that a record holds.
    """
    with matplotlib.rc_context(STYLE):
        made = [waterfall(diagnosis.steps)]
        if lab is None and diagnosis.facts.get("confusion"):
            counts, where = np.asarray(diagnosis.facts["confusion"]), diagnosis.facts["split"]
            made.append(confusions(counts, diagnosis.facts["classes"], f"Confusions on {where}"))
        if lab is not None:
            targets, logits = read_test(lab)
            made += [
                curves(lab),
                confusion(targets, logits, lab.data.classes),
                confidence(targets, logits),
                clips_per_class(lab),
                levels(lab),
            ]
    return [drawing for drawing in made if drawing is not None]


def read_test(lab: Lab) -> tuple[IntArray, FloatArray]:
    """Targets ``[N]`` and logits ``[N, K]`` of all test clips, from ``predictions.parquet``."""
    table = pq.read_table(
        lab.run.folder.predictions, columns=["target", "logits"], filters=[("split", "=", "test")]
    ).to_pydict()
    logits = np.asarray(table["logits"], dtype=np.float64).reshape(-1, len(lab.data.classes))
    return np.asarray(table["target"], dtype=np.int64), np.nan_to_num(logits, posinf=1e30, neginf=-1e30)


def log_softmax(logits: FloatArray) -> FloatArray:
    """Logarithms of the probabilities ``[N, K]`` that logits stand for."""
    shifted = logits - logits.max(1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(1, keepdims=True)))


def waterfall(steps: list[Step]) -> Drawing | None:
    """Where the F1 went: levels stand on 0, what each repair returns floats on what is below, the rest is hatched."""
    if not steps:
        return None
    figure = Figure(figsize=(WIDTH, 0.6 + 0.38 * len(steps)), layout="constrained")
    axes = figure.add_subplot()
    at = 0.0
    for row, step in enumerate(steps):
        level = step.kind == "level"
        start, end = (0.0, step.value) if level else (at, at + step.value)
        fill = OUTLINE if level else HATCHED if step.kind == "rest" else SOLID
        axes.barh(row, end - start, 0.58, left=start, **fill)
        right = max(start, end)
        if step.interval is not None:
            low, high = (end - step.value + value for value in step.interval)
            axes.hlines(row, low, high, color=INK, linewidth=0.9)
            right = max(right, high)
        if row:
            axes.vlines(at, row - 0.71, row - 0.29, color=MUTED, linewidth=0.6)
        sign = "+" if not level and step.value > 0 else ""
        fell = f", below {steps[row - 1].name}" if level and row and step.value < at - 0.005 else ""
        axes.text(right + 0.015, row, f"{sign}{f1_text(step.value)}{fell}", va="center", color=INK, size=8)
        at = end
    axes.set_yticks(range(len(steps)), [_wrapped(step.name) for step in steps])
    axes.set(xlim=(0, 1.08), ylim=(len(steps) - 0.5, -0.5), xlabel="macro-F1")
    _across(axes)
    caption = "Solid: what mending a cause returns; hatched: what nothing explains; whiskers: 95 % interval."
    return Drawing("waterfall", "Where the F1 went", caption, figure)


def curves(lab: Lab) -> Drawing | None:
    """Macro-F1 and loss of the run by epoch, with the setting's F1 out of fold where it was trained again."""
    rows = lab.run.metrics
    if not rows:
        return None
    epochs = [row["epoch"] for row in rows]
    figure = Figure(figsize=(WIDTH, 2.3), layout="constrained")
    panels = dict(zip(("f1_macro", "loss"), figure.subplots(1, 2), strict=True))
    marker = "." if len(rows) == 1 else None  # a line of one point is none
    for metric, axes in panels.items():
        for split, line, colour in (("train", (0, (3, 1.5)), INK), ("val", "solid", ACCENT)):
            values = [row[f"{split}_{metric}"] for row in rows]
            axes.plot(epochs, values, color=colour, linestyle=line, linewidth=1.3, marker=marker, label=split)
        selected = lab.run.result["selected_epoch"]
        axes.plot([selected], [0], "|", color=INK, transform=axes.get_xaxis_transform(), clip_on=False)
        axes.grid(axis="y", color=RULE, linewidth=0.4)
    caption = "Tick at the foot: the epoch whose weights were tested. Train is collected while the weights change."
    if "base" in lab.trials:
        curve = lab.trials["base"].curve
        panels["f1_macro"].plot(list(curve), list(curve.values()), ":", color=MUTED, linewidth=1.4, label="out of fold")
        caption += " Out of fold: the same setting, trained again on train and val, each clip scored by a model that had not seen it."
    panels["f1_macro"].set(ylim=(0, 1), title="macro-F1", xlabel="epoch")
    panels["f1_macro"].set_yticks(list(TICKS), list(TICKS.values()))
    _loss(panels["loss"], [row[f"{split}_loss"] for row in rows for split in ("train", "val")], len(lab.data.classes))
    figure.legend(*panels["f1_macro"].get_legend_handles_labels(), loc="outside lower left", ncols=3, handlelength=2)
    return Drawing("curves", "Learning curves", caption, figure)


def _loss(axes: Axes, losses: list[float], num_classes: int) -> None:
    """The loss panel: its scale, and the loss of guessing."""
    guess = math.log(num_classes)
    axes.axhline(guess, color=MUTED, linewidth=0.8)
    finite = [loss for loss in losses if math.isfinite(loss) and loss > 0]
    if finite and max(finite) / min(finite) > LOG_LOSS_FROM:
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter("")
    else:
        axes.set_ylim(bottom=0)
    axes.set(title="loss", xlabel="epoch")  # the line is named above: within the panel a curve would run through it
    axes.set_title(f"— guessing: ln {num_classes} = {guess:.2f}", loc="right", color=MUTED, size=7.5)


def confusion(targets: IntArray, logits: FloatArray, classes: list[str]) -> Drawing | None:
    """The run's test clips: rows are what they are, columns what they were taken for."""
    counts = confusion_matrix(targets, logits.argmax(1), len(classes))
    return confusions(counts, classes, "Confusions on test")


def confidence(targets: IntArray, logits: FloatArray) -> Drawing | None:
    """How sure the run was of its test predictions, of the right and of the wrong ones."""
    if not len(targets):
        return None
    sure, right = np.exp(log_softmax(logits).max(1)), logits.argmax(1) == targets
    figure, axes = _histogram()
    bins = np.linspace(0, 1, 21)
    _bars(axes, {"right": sure[right], "wrong": sure[~right]}, bins)
    axes.set(xlim=(0, 1), xlabel="probability of the predicted class", ylabel="test clips")
    axes.set_xticks(list(TICKS), list(TICKS.values()))
    said = [
        f"{name} {f1_text(float(values.mean()))}"
        for name, values in (("right", sure[right]), ("wrong", sure[~right]))
        if len(values)
    ]
    caption = f"Mean probability: {', '.join(said)}. A model that knows when it errs is less sure where it is wrong."
    return Drawing("confidence", "How sure it was", caption, figure)


def levels(lab: Lab) -> Drawing | None:
    """The loudness of all clips; near-silent ones stand far to the left."""
    if LEVELS not in lab.columns:
        return None
    level = np.array([np.nan if value is None else value for value in lab.columns[LEVELS]], dtype=np.float64)
    test = np.array([split == "test" for split in lab.everything.split])
    known = np.isfinite(level)
    if not known.any():
        return None
    figure, axes = _histogram()
    low, high = 5 * np.floor(level[known].min() / 5), 5 * np.ceil(level[known].max() / 5)
    bins = np.arange(low, max(high, low + 5) + 1e-9, max(5 * round((high - low) / 100), 2.5))
    _bars(axes, {"train and val": level[known & ~test], "test": level[known & test]}, bins)
    axes.set(xlabel="level (dBFS)", ylabel="clips")
    return Drawing(
        "levels", "How loud the clips are", "Root mean square of each clip's samples; 0 dBFS: full scale.", figure
    )


def clips_per_class(lab: Lab) -> Drawing:
    """Clips of each class in each split, the rarest first."""
    classes = lab.data.classes
    counts = {
        name: np.bincount(lab.data.datasets[name].targets.numpy(), minlength=len(classes)) for name in SPLITS
    }  # of all clips, also where the bench holds a draw
    order = np.argsort(counts["train"], kind="stable")[:MOST_BARS]
    figure = Figure(figsize=(WIDTH, 0.85 + 0.2 * len(order)), layout="constrained")
    axes = figure.add_subplot()
    left = np.zeros(len(order))
    fills: list[Any] = [SOLID, {"facecolor": ACCENT, "alpha": 0.3}, OUTLINE]
    for (name, count), fill in zip(counts.items(), fills, strict=True):
        axes.barh(range(len(order)), count[order], 0.66, left=left, label=name, **fill)
        left += count[order]
    axes.set_yticks(range(len(order)), [shortened(classes[i], LONGEST_NAME) for i in order])
    axes.set(ylim=(len(order) - 0.5, -0.5), xlabel="clips")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0)
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=3, borderpad=0.2, handlelength=1.2)
    fewest, most = int(counts["train"].min()), int(counts["train"].max())
    caption = f"The rarest class has {fewest} training clips, the most frequent {most}."
    if len(order) < len(classes):
        caption += f" Shown: the {len(order)} rarest of {len(classes)} classes."
    return Drawing("clips", "Clips of each class", caption, figure)


def _histogram() -> tuple[Figure, Axes]:
    figure = Figure(figsize=(WIDTH, 2.3), layout="constrained")
    axes = figure.add_subplot()
    axes.grid(axis="y", color=RULE, linewidth=0.4)
    axes.set_axisbelow(True)
    axes.yaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    return figure, axes


def _bars(axes: Axes, groups: dict[str, FloatArray], bins: FloatArray) -> None:
    """Two histograms over one another: the first filled, the second an outline that shades nothing."""
    (first, one), (second, two) = groups.items()
    axes.hist(one, bins.tolist(), label=f"{first} ({len(one)})", **SOLID)
    axes.hist(two, bins.tolist(), label=f"{second} ({len(two)})", histtype="step", color=INK, linewidth=1.2)
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, borderpad=0.2, handlelength=1.2)


def _wrapped(name: str) -> str:
    """A name in lines that leave room for what it names."""
    return "\n".join(textwrap.wrap(shortened(name, 3 * LONGEST_NAME), LONGEST_NAME))


def _across(axes: Axes) -> None:
    axes.set_xticks(list(TICKS), list(TICKS.values()))
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", color=RULE, linewidth=0.6)
    axes.set_axisbelow(True)
