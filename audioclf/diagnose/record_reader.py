"""Reader of bare records: a table of predictions, or the few numbers that a report gives.

Predictions, as CSV or Parquet: a row for each clip with a column of true and one of predicted classes (names or indices),
or scores instead (a column for each class, or one of lists); optionally ``split`` and ``group``. Numbers: a table with a
row for each epoch (``epoch,train_loss,test_f1``), rows ``train_loss,0.353,0.086`` or lines
``train_loss = 0.353, 0.086``. Columns are known by the names that people give them; what is not known is passed over.
"""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
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
LISTS = ("logits", "logit", "probabilities", "probability", "probs", "proba", "prob", "scores", "outputs")
"""Columns that may hold all scores of a clip as one list; a column of :data:`PREDICTED` may, too."""
EPOCH = ("epoch", "step", "iteration")
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
PARQUET = b"PAR1"  # how such a file begins
EMPTY = {"", "nan", "null"}
KEY_VALUE = re.compile(r"^\s*([A-Za-z][\w ./-]*?)\s*[=:]\s*(\[?\s*[-+.\d].*|\[?\s*nan.*|\[?\s*inf.*)$", re.IGNORECASE)
WANTED = "a table with columns label and predicted, or with a report's numbers: epoch,train_loss,test_f1"
SHAPE = (
    "predictions: a line `label,predicted`, below it `dog,cat` for each clip; numbers: a line "
    "`epoch,train_loss,test_f1`, below it `1,0.353,0.09` for each epoch, or lines `train_loss = 0.353, 0.086`"
)
NUMBER_ALONE = re.compile(r"(?:^|[\s:=])[-+]?\.?\d")


@dataclass(frozen=True, eq=False)
class Predictions:
    """What was predicted for N clips.

    Attributes:
        targets: true class of each ``[N]``.
        predicted: predicted class of each ``[N]``.
        classes: K names, of all that stand in either column.
        splits: of each clip ``[N]``; all ``""`` where the table does not say.
        groups: the recording of each ``[N]``, as numbers in the order of their names; each clip its own where the table
            does not say.
        known: of ``"split"`` and ``"group"``, those that the table says.
        assumed: what the table does not say and was taken to be so, in words.
    """

    targets: IntArray
    predicted: IntArray
    classes: list[str]
    splits: np.ndarray
    groups: IntArray
    known: frozenset[str]
    assumed: str = ""

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
    content = _content(path)
    if content.startswith(PARQUET):
        table = _parquet(path)
        names = table.column_names
        return _predictions(path, table) if _predicts(names) else _refuse(path, names)
    text = _text(path, content)
    first = next((line for line in text.splitlines() if line.strip() and not line.startswith("#")), "")
    if KEY_VALUE.match(first):
        return _figures(path, _key_values(path, text))
    start = text.index(first)
    delimiter = "\t" if path.suffix == ".tsv" else max(";,\t|", key=first.count)
    cells = _cells(path, first, delimiter)
    names = _names(path, cells)
    if _predicts(names):
        return _predictions(path, _table(path, text, start + len(first), delimiter, names))
    before = text.count("\n", 0, start)
    rows = [(before + line, cells) for line, cells in _rows(path, text[start:], delimiter)]
    if any(measure_of(name) for name in names) or any(_is_pair(cells) for _, cells in rows):
        return _figures(path, _columns(path, rows))
    return _refuse(path, names)


def _predicts(names: Sequence[str]) -> bool:
    """Whether a table of such columns holds true classes and predicted ones, or scores of these."""
    said = bool(_known(names, PREDICTED) or _known(names, LISTS))
    return bool(_known(names, TRUE)) and (said or len(_scores(names)) > 1)


def _refuse(path: Path, names: Sequence[str]) -> NoReturn:
    true, predicted, said = _known(names, TRUE), _known(names, PREDICTED), shown(", ".join(names))
    if true or predicted:
        missing, found = ("predicted", true[0]) if true else ("label", predicted[0])
        raise UserError(f"{path}:1: a column {found} and no column {missing}; found {said}", f"expected {WANTED}")
    guess = next((n for n in names if nearest(n, ("label", "target", "predicted"))), None)
    hint = f"rename {shown(guess)}; expected {WANTED}" if guess else SHAPE
    raise UserError(f"{path}:1: neither predictions nor a report's numbers; found {said}", hint)


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


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); expected {WANTED}") from None


def _text(path: Path, content: bytes) -> str:
    if re.search(rb"[\x00-\x08\x0e-\x1a]", content) and not content.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise UserError(f"{path}: binary, not text; expected {WANTED}", SHAPE)
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path}: not UTF-8 text ({error.reason} at byte {error.start})", "save it as CSV UTF-8"
        ) from None
    if not text.strip():
        raise UserError(f"{path}: empty; expected {WANTED}", SHAPE)
    if path.suffix == ".json" or _is_json(text) or _is_json(text.lstrip().splitlines()[0]):
        raise UserError(f"{path}: JSON; expected {WANTED}", SHAPE)
    return text


def _is_json(text: str) -> bool:
    try:
        return text.lstrip()[:1] in ("{", "[") and json.loads(text) is not None
    except (ValueError, RecursionError):
        return False


def _cells(path: Path, line: str, delimiter: str) -> list[str]:
    try:
        return [cell.strip() for cell in next(csv.reader([line], delimiter=delimiter, strict=True))]
    except csv.Error as error:
        raise UserError(f"{path}:1: not a CSV table: {error}", "check its quotes") from None


def _rows(path: Path, text: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Line, from 1, and cells of each row that is not empty."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells):
                yield reader.line_num, [cell.strip() for cell in cells]
    except csv.Error as error:
        raise UserError(f"{path}:{reader.line_num}: not a CSV table: {error}", "check its quotes") from None


def _names(path: Path, cells: Sequence[str]) -> list[str]:
    """Columns' names, lower-cased, with ``_`` for spaces, ``-`` and ``/``; those of scores as they are: these end in a class."""
    cells = [cell or f"column {place}" for place, cell in enumerate(cells, 1)]
    names = named_once(path, 1, [re.sub(r"[\s/-]+", "_", cell) for cell in cells])
    return [cell if SCORE.match(cell) else name for cell, name in zip(cells, names, strict=True)]


def _table(path: Path, text: str, start: int, delimiter: str, names: Sequence[str]) -> pa.Table:
    """All cells below the header as text without spaces around them.

    Args:
        path: for errors.
        text: of the file.
        start: where the header ends.
        delimiter: between cells.
        names: of the columns.
    """
    wrong: list[str] = []

    def refuse(row: arrow_csv.InvalidRow) -> str:
        wrong.append(f"{row.actual_columns} cells where the header has {row.expected_columns}: {shown(row.text)}")
        return "skip"

    body = text[start:]
    if not body.strip():
        raise UserError(f"{path}: a header and no rows; expected {WANTED}", SHAPE)
    try:
        table = arrow_csv.read_csv(
            io.BytesIO(body.encode()),
            arrow_csv.ReadOptions(column_names=names),
            arrow_csv.ParseOptions(delimiter=delimiter, newlines_in_values=True, invalid_row_handler=refuse),
            arrow_csv.ConvertOptions(column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False),
        )
    except pa.ArrowInvalid as error:
        raise UserError(f"{path}: not a CSV table: {shown(error)}", "check its quotes") from None
    if wrong:
        ragged = (line for line, cells in _rows(path, body, delimiter) if len(cells) != len(names))
        line = text.count("\n", 0, start) + next(ragged, 1)
        raise UserError(f"{path}:{line}: a row has {wrong[0]}", "put quotes around values with separators")
    if not len(table):
        raise UserError(f"{path}: a header and no rows; expected {WANTED}", SHAPE)
    columns = [pc.utf8_trim_whitespace(column) for column in table.columns]
    return pa.table(columns, names)


def _parquet(path: Path) -> pa.Table:
    """A Parquet table with all cells as text, lists as ``[0.1, 0.2]``; what has no text is left out."""
    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"{path}: not a Parquet table: {shown(error)}; expected {WANTED}") from None
    if not len(table):
        raise UserError(f"{path}: no rows; expected {WANTED}", SHAPE)
    found = {}
    for name, column in zip(_names(path, table.column_names), table.columns, strict=True):
        if pa.types.is_list(column.type) or pa.types.is_fixed_size_list(column.type):
            cells = pa.array([str(cell) if cell else "" for cell in column.to_pylist()], pa.string())
        elif pa.types.is_nested(column.type) or pa.types.is_binary(column.type):
            continue
        else:
            cells = pc.fill_null(pc.cast(column, pa.string()), "")
        found[name] = pc.utf8_trim_whitespace(cells)
    return pa.table(found)


def _known(names: Sequence[str], aliases: Iterable[str]) -> list[str]:
    return [alias for alias in aliases if alias in names]


def _scores(names: Sequence[str]) -> list[str]:
    """Columns with the score of one class each."""
    return [name for name in names if SCORE.match(name) and name not in PREDICTED]


# --- predictions -----------------------------------------------------------------------------------------------------


def _predictions(path: Path, table: pa.Table) -> Predictions:
    names = table.column_names
    where, theirs = _guesses(path, table)
    candidates = [(name, _column(path, table, name)) for name in _known(names, TRUE)]
    name, ours = max(candidates, key=lambda item: len(set(theirs[1]) & set(item[1][1])))
    theirs = _thresholded(ours[1], theirs)
    assumed = ""
    if not set(theirs[1]) & set(ours[1]):
        theirs = _by_alphabet(path, name, where, ours[1], theirs)
        assumed = f"{where} has numbers, read as places among the {len(ours[1])} names of {name} in alphabetical order"
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
    if column := _known(names, SPLIT):
        codes, labels = _column(path, table, column[0])
        bad = [label for label in labels if label.lower() not in SPLIT_NAMES]
        if bad:
            raise UserError(
                f"{path}: column {column[0]}: {shown(bad[0])} is no split; expected train, val or test",
                f"rename the column {column[0]} or leave it out: then all rows are scored together",
            )
        splits = np.array([SPLIT_NAMES[label.lower()] for label in labels])[codes]
        known.add("split")
    if column := _known(names, GROUP):
        codes, labels = _column(path, table, column[0])
        groups = np.unique(labels, return_inverse=True)[1][codes]  # drawn in the same order as where a run is scored
        known.add("group")
    return Predictions(targets, guesses, classes, splits, groups.astype(np.int64), frozenset(known), assumed)


def _guesses(path: Path, table: pa.Table) -> tuple[str, tuple[IntArray, list[str]]]:
    """What was predicted, and the column that says so: a class, a list of scores, or a column for each class."""
    names = table.column_names
    for name in [*_known(names, PREDICTED), *_known(names, LISTS)]:
        if str(table[name][0]).startswith(("[", "(")):
            return name, _argmax_of_lists(path, table, name)
        if name in PREDICTED:
            return name, _column(path, table, name)
    if scores := _scores(names):
        return "predictions", _argmax(path, table, scores)
    raise UserError(f"{path}:1: a column {_known(names, LISTS)[0]} without lists and no column predicted", SHAPE)


def _by_alphabet(
    path: Path, name: str, where: str, ours: Sequence[str], theirs: tuple[IntArray, list[str]]
) -> tuple[IntArray, list[str]]:
    """Predicted indices by the names that they stand for where classes are numbered in alphabetical order."""
    codes, labels = theirs
    names = sorted(ours)
    apart = (
        f"{path}: columns {name} and {where} have no class in common: {shown(ours[0])}, ... and {shown(labels[0])}, ..."
    )
    if any(map(_is_number, ours)) or not all(label.isascii() and label.isdigit() for label in labels):
        raise UserError(apart, "give both as names or both as indices")
    most = max(map(int, labels))
    if most >= len(names):
        raise UserError(f"{apart}; {most} is none of {len(names)} names", f"give {where} as names")
    return codes, [names[int(label)] for label in labels]


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


def _argmax_of_lists(path: Path, table: pa.Table, name: str) -> tuple[IntArray, list[str]]:
    """The place of the highest score of each clip, of cells such as ``[0.1, 0.9]``."""
    rows = [re.split(r"[,;\s]+", cell.strip("[]() \t")) for cell in table[name].to_pylist()]
    width = len(rows[0])
    for number, row in enumerate(rows, 1):
        if len(row) != width or width < 2 or not all(map(_is_number, row)) or "nan" in map(str.lower, row):
            found = shown(table[name][number - 1])
            wanted = f"a list of {width} numbers" if width > 1 else "a list with a number for each class"
            raise UserError(f"{path}: row {number}: column {name}: {found}; expected {wanted}")
    return np.array(rows, dtype=np.float64).argmax(1).astype(np.int64), [str(i) for i in range(width)]


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
            raise UserError(
                f"{path}:{number}: {shown(line.strip())}: expected KEY = VALUE, as in the lines before", SHAPE
            )
        values = re.split(r"[,;\s]+", value.strip(" \t[]()"))
        if _is_figure(key):
            _check_numbers(path, number, key.strip(), values)
        pairs.setdefault(key.strip(), []).extend(values)
    return pairs


def _columns(path: Path, rows: Sequence[tuple[int, list[str]]]) -> dict[str, list[str]]:
    """Cells by column; a row that is a figure's name with its values counts as a column of them."""
    columns: dict[str, list[str]] = {}
    names: list[str] = []
    for line, cells in rows:
        if _is_pair(cells):
            columns.setdefault(cells[0], []).extend(cell for cell in cells[1:] if cell)
        elif not names:
            if any(_is_figure(cell) and NUMBER_ALONE.search(cell) for cell in cells):
                raise UserError(f"{path}:{line}: {shown(' '.join(cells))}: a line of a log; expected {WANTED}", SHAPE)
            names = _names(path, cells)
            epoch = next((name for name in names if name in EPOCH), names[0])
            per_epoch = any(map(measure_of, names))
            columns |= {name: [] for name in names if name not in columns}
        elif per_epoch:  # else rows of names and values, of which this one is not known
            if len(cells) != len(names):
                said = f"a row has {len(cells)} cells where the header has {len(names)}: {shown(','.join(cells))}"
                raise UserError(f"{path}:{line}: {said}", SHAPE)
            for name, cell in zip(names, cells, strict=True):
                if cell.lower() in SPLIT_NAMES:
                    raise UserError(
                        f"{path}:{line}: {name}: {cell}; expected one row for each epoch",
                        "give each split its own columns: epoch,train_loss,val_loss",
                    )
                if name == epoch or measure_of(name):
                    _check_numbers(path, line, name, [cell])
                columns[name].append(cell)
    return columns


def _is_figure(name: str) -> bool:
    """Whether a name is that of a figure that is read."""
    return measure_of(name) is not None or re.sub(r"\W+", "_", name.strip().lower()) in NUMBER_OF_CLASSES


def _is_pair(cells: Sequence[str]) -> bool:
    """Whether a row is a figure's name with its values."""
    values = [cell for cell in cells[1:] if cell]
    return bool(values) and _is_figure(cells[0]) and all(_is_number(cell.rstrip("% ")) for cell in values)


def _check_numbers(path: Path, line: int, name: str, cells: Sequence[str]) -> None:
    for cell in cells:
        if cell and not _is_number(cell.rstrip("% ")):
            raise UserError(f"{path}:{line}: {shown(name)}: {shown(cell)}; expected a number", SHAPE)


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
        raise UserError(f"{path}: no loss and no score in it; expected {WANTED}", SHAPE)
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
