"""Reader of bare records: a table of predictions, or the few numbers that a report gives.

Predictions: a row for each clip with a column of true and one of predicted classes (names or indices), or one column of
probability for each class; optionally ``split`` and ``group``. Numbers: a table with a row for each epoch
(``epoch,train_loss,test_f1``), or lines ``train_loss = 0.353, 0.086``. Columns are known by the names that people give
them; what is not known is passed over.
"""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv as arrow_csv

from audioclf.clips.rows import SPLIT_NAMES, named_once
from audioclf.errors import UserError, nearest, shown
from audioclf.training.scores import IntArray

TRUE = (
    *("label", "target", "true", "truth", "y_true", "true_label", "true_class", "actual", "ground_truth", "gold", "y"),
    *("class", "labels", "targets", "expected", "target_label", "reference"),
)
PREDICTED = (
    *("predicted", "prediction", "pred", "y_pred", "predictions", "predicted_label", "predicted_class", "y_hat"),
    *("pred_label", "pred_class", "preds", "output", "yhat", "guess"),
)
SPLIT = ("split", "set", "subset", "partition")
GROUP = ("group", "recording", "recording_id", "source", "speaker", "video_id")
SCORE = re.compile(r"^(?:prob|proba|probability|p|scores?|logits?|output)[_ .:\[]+(.+?)\]?$", re.IGNORECASE)
NUMBER_OF_CLASSES = {"num_classes", "n_classes", "classes", "number_of_classes", "class_count", "k"}
MEASURES = {"loss": "loss", "f1": "f1", "fscore": "f1", "accuracy": "accuracy", "acc": "accuracy"}
FILLER = {
    "macro",
    "score",
    "mean",
    "avg",
    "average",
    "epoch",
    "cross",
    "entropy",
    "crossentropy",
    "categorical",
    "sparse",
}
MOST_CLASSES = 2000
EMPTY = {"", "nan", "null"}
KEY_VALUE = re.compile(r"^\s*([A-Za-z][\w ./-]*?)\s*[=:]\s*(\[?\s*[-+.\d].*|\[?\s*nan.*|\[?\s*inf.*)$", re.IGNORECASE)
WANTED = "a table with columns label and predicted, or with a report's numbers: epoch,train_loss,test_f1"


@dataclass(frozen=True, eq=False)
class Predictions:
    """What was predicted for N clips.

    Attributes:
        targets: true class of each ``[N]``.
        predicted: predicted class of each ``[N]``.
        classes: K names, of all that stand in either column.
        splits: of each clip ``[N]``; all ``""`` where the table does not say.
        groups: the recording of each ``[N]``, as numbers; each clip its own where the table does not say.
        known: of ``"split"`` and ``"group"``, those that the table says.
    """

    targets: IntArray
    predicted: IntArray
    classes: list[str]
    splits: np.ndarray
    groups: IntArray
    known: frozenset[str]

    def __len__(self) -> int:
        return len(self.targets)


@dataclass(frozen=True)
class Figures:
    """What a report says of a training.

    Attributes:
        curves: ``{"train_loss": [...], "test_f1": [...]}``, one value or one for each epoch, in their order; losses may
            be nan or infinite.
        num_classes: K, where it is said.
    """

    curves: Mapping[str, list[float]] = field(default_factory=dict)
    num_classes: int | None = None

    def last(self, name: str) -> float | None:
        """The last value of a curve, or None."""
        values = self.curves.get(name)
        return values[-1] if values else None


def read_record(path: Path) -> Predictions | Figures:
    """Reads a record of either kind.

    Raises:
        UserError: the file is no text, no table, or lacks what makes it one or the other.
    """
    text = _text(path)
    first = next((line for line in text.splitlines() if line.strip() and not line.startswith("#")), "")
    if KEY_VALUE.match(first):
        return _figures(path, _key_values(path, text))
    table = _table(path, text, first)
    names = table.column_names
    if {"metric", "value"} <= set(names) or {"key", "value"} <= set(names):
        keys = table["metric" if "metric" in names else "key"].to_pylist()
        pairs: dict[str, list[str]] = {}
        for key, value in zip(keys, table["value"].to_pylist(), strict=True):
            pairs.setdefault(key, []).append(value)
        return _figures(path, pairs)
    true, predicted = _known(names, TRUE), _known(names, PREDICTED)
    scores = [name for name in names if SCORE.match(name) and name not in predicted]
    if true and (predicted or len(scores) > 1):
        return _predictions(path, table, true, predicted, scores)
    if any(measure_of(name) for name in names):
        return _figures(path, {name: table[name].to_pylist() for name in names})
    said = shown(", ".join(names))
    if true or predicted:
        missing, found = ("predicted", true[0]) if true else ("label", predicted[0])
        raise UserError(f"{path}:1: a column {found} and no column {missing}; found {said}", f"expected {WANTED}")
    guess = next((n for n in names if nearest(n, ("label", "target", "predicted"))), None)
    hint = f"rename {shown(guess)}; " if guess else ""
    raise UserError(f"{path}:1: neither predictions nor a report's numbers; found {said}", f"{hint}expected {WANTED}")


def measure_of(name: str) -> str | None:
    """What a column or key measures: ``"train_loss"``, ``"test_f1"``, ``"val_f1_weighted"``; None: nothing known.

    Where no split is named it is ``"_loss"``; :func:`_figures` decides.
    """
    tokens = re.findall(r"[a-z]+\d*", name.lower())
    splits = {SPLIT_NAMES.get(token) or ("train" if token == "tr" else None) for token in tokens} - {None}
    measures = {MEASURES[token] for token in tokens if token in MEASURES}
    kinds = [token for token in tokens if token in ("micro", "weighted")]
    rest = [t for t in tokens if t not in MEASURES and t not in FILLER and t not in kinds and t not in SPLIT_NAMES]
    if len(measures) != 1 or len(splits) > 1 or set(rest) - {"tr"}:
        return None
    return "_".join([str(splits.pop()) if splits else "", measures.pop(), *kinds])


# --- text and tables -------------------------------------------------------------------------------------------------


def _text(path: Path) -> str:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); expected {WANTED}") from None
    if b"\0" in content:
        hint = (
            "a run's own folder: python -m audioclf diagnose RUN"
            if path.suffix == ".parquet"
            else "save it as CSV UTF-8"
        )
        raise UserError(f"{path}: not text (a zero byte)", hint)
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path}: not UTF-8 text ({error.reason} at byte {error.start})", "save it as CSV UTF-8"
        ) from None
    if not text.strip():
        raise UserError(f"{path}: empty; expected {WANTED}")
    return text


def _table(path: Path, text: str, header: str) -> pa.Table:
    """All cells as text without spaces around them; names lower-cased, with ``_`` for spaces, ``-`` and ``/``.

    Columns of scores keep their names: these end in a class.
    """
    delimiter = "\t" if path.suffix == ".tsv" else max(",;\t|", key=header.count)
    try:
        cells = next(csv.reader([header], delimiter=delimiter, strict=True))
    except csv.Error as error:
        raise UserError(f"{path}:1: not a CSV table: {error}", "check its quotes") from None
    cells = [cell.strip() or f"column {place}" for place, cell in enumerate(cells, 1)]
    names = named_once(path, 1, [re.sub(r"[\s/-]+", "_", cell) for cell in cells])
    names = [cell if SCORE.match(cell) else name for cell, name in zip(cells, names, strict=True)]
    wrong: list[str] = []

    def refuse(row: arrow_csv.InvalidRow) -> str:
        line = shown(row.text)
        wrong.append(f"{row.actual_columns} cells where the header has {row.expected_columns}: {line}")
        return "skip"

    body = text[text.index(header) + len(header) :]
    if not body.strip():
        raise UserError(f"{path}: a header and no rows; expected {WANTED}")
    try:
        table = arrow_csv.read_csv(
            io.BytesIO(body.encode()),
            arrow_csv.ReadOptions(column_names=names),
            arrow_csv.ParseOptions(delimiter=delimiter, newlines_in_values=True, invalid_row_handler=refuse),
            arrow_csv.ConvertOptions(column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False),
        )
    except pa.ArrowInvalid as error:
        raise UserError(f"{path}: not a CSV table: {shown(error)}", "check its quotes") from None
    if wrong and len(names) == 1:
        raise UserError(f"{path}: no table, and no lines KEY = VALUE", f"expected {WANTED}")
    if wrong:
        raise UserError(f"{path}: a row has {wrong[0]}", "put quotes around values with separators")
    if not len(table):
        raise UserError(f"{path}: a header and no rows; expected {WANTED}")
    columns = [pc.utf8_trim_whitespace(column) for column in table.columns]
    return pa.table(columns, names)


def _known(names: Sequence[str], aliases: Iterable[str]) -> list[str]:
    return [alias for alias in aliases if alias in names]


# --- predictions -----------------------------------------------------------------------------------------------------


def _predictions(
    path: Path, table: pa.Table, true: Sequence[str], predicted: Sequence[str], scores: Sequence[str]
) -> Predictions:
    theirs = _column(path, table, predicted[0]) if predicted else _argmax(path, table, scores)
    said = set(theirs[1])
    candidates = [(name, _column(path, table, name)) for name in true]
    name, ours = max(candidates, key=lambda item: len(said & set(item[1][1])))
    where = predicted[0] if predicted else "predictions"
    theirs = _thresholded(ours[1], theirs)
    if not said & set(ours[1]) and not set(theirs[1]) & set(ours[1]):
        raise UserError(
            f"{path}: columns {name} and {where} have no class in common: {shown(ours[1][0])}, ... and {shown(theirs[1][0])}, ...",
            "give both as names or both as indices",
        )
    classes = _sorted({*ours[1], *theirs[1]})
    if len(set(ours[1])) < 2:
        raise UserError(f"{path}: column {name}: 1 class ({shown(ours[1][0])}); expected at least 2")
    if len(classes) > MOST_CLASSES or (len(classes) > 50 and len(classes) > len(table) / 2):
        raise UserError(
            f"{path}: columns {name} and {where} have {len(classes)} different values in {len(table)} rows; expected classes"
        )
    index = {label: i for i, label in enumerate(classes)}
    targets, guesses = (np.array([index[label] for label in labels])[codes] for codes, labels in (ours, theirs))
    splits, groups = np.full(len(table), ""), np.arange(len(table))
    known = set()
    if column := _known(table.column_names, SPLIT):
        codes, labels = _column(path, table, column[0])
        bad = [label for label in labels if label.lower() not in SPLIT_NAMES]
        if bad:
            raise UserError(f"{path}: column {column[0]}: {shown(bad[0])} is no split; expected train, val or test")
        splits = np.array([SPLIT_NAMES[label.lower()] for label in labels])[codes]
        known.add("split")
    if column := _known(table.column_names, GROUP):
        groups, _ = _column(path, table, column[0])
        known.add("group")
    return Predictions(targets, guesses, classes, splits, groups.astype(np.int64), frozenset(known))


def _column(path: Path, table: pa.Table, name: str) -> tuple[IntArray, list[str]]:
    """A column as places in the list of its values, and these; numbers as ``1``, also where they stand as ``1.0``."""
    encoded = table[name].combine_chunks().dictionary_encode()
    labels, codes = encoded.dictionary.to_pylist(), encoded.indices.to_numpy()
    for place, label in enumerate(labels):
        if label.lower() in EMPTY:
            row = int(np.flatnonzero(codes == place)[0]) + 1
            raise UserError(f"{path}: row {row}: column {name}: {label or 'is empty'!s}; expected a class")
    whole = [re.fullmatch(r"([-+]?\d+)(\.0*)?", label) for label in labels]
    if all(whole):
        labels = [str(int(found[1])) for found in whole if found]
    again = {label: i for i, label in enumerate(dict.fromkeys(labels))}
    return np.array([again[label] for label in labels], dtype=np.int64)[codes], list(again)


def _argmax(path: Path, table: pa.Table, scores: Sequence[str]) -> tuple[IntArray, list[str]]:
    """The class of the highest score, of columns such as ``prob_dog``."""
    columns = [_numbers(path, name, table[name].to_pylist()) for name in scores]
    values = np.array(columns)
    if np.isnan(values).any():
        column, row = (int(place[0]) for place in np.nonzero(np.isnan(values)))
        raise UserError(f"{path}: row {row + 1}: column {scores[column]}: no number; expected a probability or a logit")
    names = [found[1] for name in scores if (found := SCORE.match(name))]
    return values.argmax(0).astype(np.int64), names


def _thresholded(true: Sequence[str], column: tuple[IntArray, list[str]]) -> tuple[IntArray, list[str]]:
    """Probabilities of class 1, as a network with one output gives them, as classes 0 and 1."""
    codes, labels = column
    if not set(true) <= {"0", "1"} or set(labels) <= {"0", "1"}:
        return column
    try:
        values = np.array([float(label) for label in labels])
    except ValueError:
        return column
    if not ((values >= 0) & (values <= 1)).all():
        return column
    return (values >= 0.5).astype(np.int64)[codes], ["0", "1"]


def _sorted(labels: Iterable[str]) -> list[str]:
    """Numbers by size, names by the alphabet."""
    return sorted(labels, key=lambda label: (0, int(label), "") if re.fullmatch(r"[-+]?\d+", label) else (1, 0, label))


# --- a report's numbers ----------------------------------------------------------------------------------------------


def _key_values(path: Path, text: str) -> dict[str, list[str]]:
    """Lines ``train_loss = 0.353, 0.086`` as keys and values."""
    pairs: dict[str, list[str]] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        key, mark, value = re.match(r"^([^=:]*)([=:]?)(.*)$", line).groups()  # type: ignore[union-attr]
        if not mark:
            raise UserError(f"{path}:{number}: {shown(line.strip())}: expected KEY = VALUE, as in the lines before")
        pairs.setdefault(key.strip(), []).extend(re.split(r"[,;\s]+", value.strip(" \t[]()")))
    return pairs


def _figures(path: Path, columns: Mapping[str, Sequence[str]]) -> Figures:
    named: dict[str, list[float]] = {}
    num_classes = None
    for name, cells in columns.items():
        measure = measure_of(name)
        if measure is not None:
            named[measure] = [value for value in _measured(path, name, cells, "loss" in measure) if value is not None]
        elif re.sub(r"\W+", "_", name.lower()) in NUMBER_OF_CLASSES and cells and cells[-1]:
            value = _numbers(path, name, cells[-1:])[0]
            if not (value >= 2 and value == int(value)):
                raise UserError(f"{path}: {shown(name)}: {shown(cells[-1])}; expected a number of classes, 2 or more")
            num_classes = int(value)
    curves = {}
    for measure, values in named.items():
        split, _, kind = measure.partition("_")
        if not split:  # as Keras names them: of training where another is of val, or where it is a loss
            split = "train" if f"val_{kind}" in named or kind in ("loss", "accuracy") else "test"
        if values and f"{split}_{kind}" not in curves:
            curves[f"{split}_{kind}"] = values
    if not curves:
        raise UserError(f"{path}: no loss and no score in it", f"expected {WANTED}")
    return Figures(curves, num_classes)


def _measured(path: Path, name: str, cells: Sequence[str], loss: bool) -> list[float | None]:
    """Numbers of a column; empty cells are None. Scores lie within [0, 1]; losses may be nan or infinite."""
    found: list[float | None] = []
    for cell in cells:
        if not cell:
            found.append(None)
            continue
        percent = cell.endswith("%")
        value = _numbers(path, name, [cell.rstrip("% ")])[0] / (100 if percent else 1)
        if loss:
            found.append(value)
        elif math.isnan(value):
            found.append(None)
        elif not 0 <= value <= 1:
            raise UserError(
                f"{path}: {shown(name)}: {shown(cell)}; expected a score from 0 to 1", "or write it with a %"
            )
        else:
            found.append(value)
    return found


def _numbers(path: Path, name: str, cells: Sequence[str]) -> list[float]:
    try:
        return [float(cell.replace(",", ".")) for cell in cells]
    except ValueError:
        wrong = next(cell for cell in cells if not _is_number(cell))
        raise UserError(f"{path}: {shown(name)}: {shown(wrong) or 'empty'}; expected a number") from None


def _is_number(cell: str) -> bool:
    try:
        float(cell.replace(",", "."))
    except ValueError:
        return False
    return True
