"""What TensorBoard shows of a run.

::

    events/        hyper-parameters, final scores of test and val, figures, errors
    events-train/  loss, f1_macro and accuracy of each epoch (of several labels map and auroc)
    events-val/    the same: TensorBoard draws scalars of one name from several folders in one chart

The names are TensorBoard's doing. The HParams tab makes a column of every scalar in the folder of the
hyper-parameters *and below*, so curves lie beside it, else their last epochs would stand where the scores of the
tested weights belong. The Time Series tab gives a curve the hyper-parameters of the folder whose name its own name
begins with, so it can be filtered and sorted by them.

No summary of the whole experiment is written: TensorBoard takes the first that it finds, which one run cannot write
for all. Without one it looks at every run, and puts the hyper-parameters that differ into the first columns.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import numpy.typing as npt
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams

matplotlib.use("Agg")

EVENTS = "events"
FINAL = {"single_label": ("f1_macro", "accuracy", "loss"), "multi_label": ("f1_macro", "map", "loss")}
"""The scores of test and val by task: no more than the HParams tab shows without being asked."""


@dataclass(frozen=True)
class ErrorExample:
    """One confidently wrong prediction.

    Attributes:
        title: what it is and what it was taken for.
        features: the clip's features ``[n_mels, frames]``.
        samples: its audio ``[n]``, float32.
        rate: of the audio, in Hz.
        seconds: length of the spectrogram, in s.
        hertz: lower and upper edge of the mel bands, in Hz.
        unit: of the features, ``dB`` or ``power``.
    """

    title: str
    features: npt.NDArray[np.float32]
    samples: npt.NDArray[np.float32]
    rate: int
    seconds: float
    hertz: tuple[float, float]
    unit: str


class RunBoard:
    """Writes a run's TensorBoard events.

    Events that lie in the folder are removed: a resumed run writes its earlier epochs again from ``metrics.csv``, so
    its curves have neither gaps nor doubled points.

    Args:
        folder: the run's folder.
        earlier: rows of ``metrics.csv`` to write first.
    """

    def __init__(self, folder: Path, earlier: Sequence[Mapping[str, float]] = ()) -> None:
        self._final = folder / EVENTS
        curves = {split: folder / f"{EVENTS}-{split}" for split in ("train", "val")}
        for old in (self._final, *curves.values()):
            shutil.rmtree(old, ignore_errors=True)
        self._curves = {split: SummaryWriter(str(path)) for split, path in curves.items()}
        for row in earlier:
            self.epoch(row)

    def epoch(self, row: Mapping[str, float | int | None]) -> None:
        """Adds one epoch's points; ``row`` is one of ``metrics.csv``."""
        for split, writer in self._curves.items():
            for name, value in row.items():
                if name.startswith(f"{split}_") and value is not None and np.isfinite(value):
                    writer.add_scalar(name.removeprefix(f"{split}_"), value, int(row["epoch"] or 0))
            writer.flush()

    def finish(
        self,
        settings: Mapping[str, Any],
        result: Mapping[str, Any],
        confusion: npt.NDArray[np.int64] | None,
        errors: Sequence[ErrorExample],
    ) -> None:
        """Adds what is known at the end: hyper-parameters, scores, figures and the most confident errors.

        Args:
            settings: hyper-parameters by dotted key.
            result: the content of ``result.json``.
            confusion: of the test split, ``[K, K]``, row true; None where clips have several labels.
            errors: test clips, most confident first.
        """
        step = int(result["selected_epoch"])
        words = {key: str(value).lower() if isinstance(value, bool) else value for key, value in settings.items()}
        _, *session = hparams(words, {})
        with SummaryWriter(str(self._final)) as writer:
            for summary in session:
                writer.file_writer.add_summary(summary)
            # The tab shows the first five columns, by name: train would keep val's F1 out; it has its curve.
            for split in ("test", "val"):
                for name in FINAL[result["task"]]:
                    if result[split][name] is not None:
                        writer.add_scalar(f"{split}/{name}", result[split][name], step)
            if confusion is not None:
                drawn = confusion_figure(confusion, result["data"]["classes"])
                writer.add_figure("test/confusion_matrix", drawn, step)
            else:
                writer.add_figure("test/ap_per_class", ap_figure(result), step)
            writer.add_figure("test/f1_per_class", f1_figure(result), step)
            for i, (error, picture) in enumerate(zip(errors, spectrograms(errors), strict=True), 1):
                tag = f"errors/{i:02d} {error.title}"
                writer.add_image(tag, picture, step, dataformats="HWC")
                writer.add_audio(tag, error.samples[None], step, sample_rate=error.rate)
        self.close()

    def close(self) -> None:
        """Closes the event files."""
        for writer in self._curves.values():
            writer.close()


def confusion_figure(confusion: npt.NDArray[np.int64], classes: Sequence[str]) -> Figure:
    """The confusion matrix, rows in shares of the true class, cells with counts."""
    size = max(4.0, 0.45 * len(classes) + 2.0)
    figure = Figure(figsize=(min(size, 24), min(size, 24)), layout="constrained")
    axes = figure.add_subplot()
    shares = confusion / np.maximum(confusion.sum(1, keepdims=True), 1)
    axes.imshow(shares, vmin=0, vmax=1, cmap="Blues")
    if len(classes) <= 30:
        for i, j in np.argwhere(confusion > 0):
            axes.text(
                j, i, str(confusion[i, j]), ha="center", va="center", color="white" if shares[i, j] > 0.5 else "black"
            )
    axes.set_xticks(range(len(classes)), classes, rotation=60, ha="right", rotation_mode="anchor", parse_math=False)
    axes.set_yticks(range(len(classes)), classes, parse_math=False)
    axes.set(xlabel="predicted", ylabel="true", title="test: clips")
    return figure


def f1_figure(result: Mapping[str, Any]) -> Figure:
    """Test F1 of each class, lowest first, with the macro average and the chance floor."""
    floor = max(result["chance"][name] for name in ("majority", "stratified", "permutation"))
    return _per_class(result["test"]["per_class"], "f1", "F1", ("macro-F1", result["test"]["f1_macro"]), floor)


def ap_figure(result: Mapping[str, Any]) -> Figure:
    """Average precision on test of each class, lowest first, with its mean and the chance floor."""
    mean = ("mAP", result["test"]["map"])
    return _per_class(result["test"]["per_class"], "ap", "average precision", mean, result["chance"]["map"])


def _per_class(
    values: Mapping[str, Mapping[str, Any]], name: str, words: str, mean: tuple[str, float], floor: float
) -> Figure:
    known = {label: scores for label, scores in values.items() if scores[name] is not None}
    per_class = sorted(known.items(), key=lambda item: item[1][name])
    names = [f"{label} ({scores['support']})" for label, scores in per_class]
    figure = Figure(figsize=(7, min(max(3.0, 0.32 * len(names) + 1.2), 40)), layout="constrained")
    axes = figure.add_subplot()
    axes.barh(range(len(names)), [scores[name] for _, scores in per_class], color="#4878cf")
    axes.set_yticks(range(len(names)), names, parse_math=False)
    axes.axvline(mean[1], color="black", label=f"{mean[0]} {mean[1]:.2f}")
    axes.axvline(floor, color="crimson", linestyle="--", label=f"chance floor {floor:.2f}")
    axes.set(xlim=(0, 1), xlabel=f"test {words}", title=f"test {words} per class (clips)")
    axes.legend(loc="lower right")
    return figure


def spectrograms(errors: Sequence[ErrorExample]) -> Iterator[npt.NDArray[np.uint8]]:
    """Pictures ``[height, width, 3]`` of clips' mel-spectrograms over seconds, all on one colour scale.

    Axes and colour bar are drawn once and the clips painted into them: drawn anew for each, they would take longer than
    all else that a run does at its end.
    """
    if not errors:
        return
    first = errors[0]
    bands = len(first.features)
    levels = np.concatenate([error.features[np.isfinite(error.features)] for error in errors])
    scale = Normalize(levels.min(initial=np.inf), levels.max(initial=-np.inf)) if len(levels) else Normalize(0, 1)
    figure = Figure(figsize=(7, 3))
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_axes((0.09, 0.17, 0.77, 0.76))
    axes.set(xlim=(0, first.seconds), ylim=(0, bands), xlabel="time [s]")
    axes.set_ylabel(f"mel band ({first.hertz[0]:.0f}-{first.hertz[1]:.0f} Hz)")
    bar = figure.add_axes((0.88, 0.17, 0.02, 0.76))
    figure.colorbar(ScalarMappable(scale, "magma"), cax=bar, label=first.unit)
    canvas.draw()
    empty = np.asarray(canvas.buffer_rgba())[:, :, :3]
    left, bottom, right, top = np.rint(axes.get_window_extent().extents).astype(int)
    rows = len(empty) - np.arange(bottom + 1, top)[::-1]
    columns = np.arange(left + 1, right)
    for error in errors:
        band = np.linspace(bands, 0, len(rows), endpoint=False).astype(int).clip(0, bands - 1)
        frame = np.linspace(0, error.features.shape[1], len(columns), endpoint=False).astype(int)
        painted = matplotlib.colormaps["magma"](scale(error.features[np.ix_(band, frame)]), bytes=True)
        picture = empty.copy()
        picture[np.ix_(rows, columns)] = painted[:, :, :3]
        yield picture
