"""A comparison as files that programs read, and on the console."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from audioclf.compare.axis import interval_text, printable, score_text, short_keys, value_text
from audioclf.compare.comparison import Comparison, Difference, Setting
from audioclf.compare.warnings import listed
from audioclf.console import console
from audioclf.files import cannot_write, write_text

SENTENCES = 8  # on the console, at most
SETTINGS = 8
REASONS = 8  # for passing folders over
INTERVALS = ("val less baseline", "test F1", "val F1")  # columns with one, the last to be left out first
FORMULA = ("=", "+", "-", "@", "\t", "\r")  # what a cell begins with that a spreadsheet calculates


def write_comparison(comparison: Comparison, into: Path) -> None:
    """Writes ``comparison.csv`` (a row for each setting), ``runs.csv``, ``figures/`` and ``comparison.html``.

    The same runs give the same bytes, wherever they lie.

    Args:
        comparison: what to write.
        into: the folder; made where it is not there.

    Raises:
        UserError: the folder cannot be written to.
    """
    from audioclf.compare.figures import write_figures
    from audioclf.compare.html import write_page

    try:
        write_tables(comparison, into)
        write_figures(comparison, into)
        write_page(comparison, into)
    except OSError as error:
        raise cannot_write(f"in {into}", error) from error


def write_tables(comparison: Comparison, into: Path) -> None:
    """Writes ``comparison.csv`` and ``runs.csv``."""
    write_text(into / "comparison.csv", _csv([_setting_row(comparison, one) for one in comparison.settings]))
    write_text(into / "runs.csv", _csv([row for one in comparison.settings for row in _run_rows(one)]))


def print_comparison(comparison: Comparison) -> None:
    """Prints the answer in sentences, the best settings on val, and what to know before believing it."""
    console.print(printable(comparison.title), style="bold", markup=False)
    console.print(_table(comparison))
    if len(comparison.settings) > SETTINGS:
        console.print(
            f"the best {SETTINGS} of {len(comparison.settings)} settings; comparison.csv has all", markup=False
        )
    for sentence in _shortened(comparison):
        _say("-", sentence)
    for warning in comparison.warnings:
        _say("!", warning)
    by_reason: dict[str, list[str]] = {}
    for one in comparison.passed_over:
        by_reason.setdefault(one.reason, []).append(one.path.name)
    for reason, names in list(by_reason.items())[:REASONS]:
        _say("x", f"passed over, {reason}: {listed(names)}")
    if left := sum(map(len, list(by_reason.values())[REASONS:])):
        _say("x", f"passed over: {left} more; comparison.html has all")


def _say(mark: str, sentence: str) -> None:
    """A sentence behind a mark; on a terminal its further lines are indented, in a log it stays on one line."""
    if not console.is_terminal:
        console.print(f"{mark} {printable(sentence)}", markup=False, soft_wrap=True)
        return
    grid = Table.grid(padding=(0, 1))
    grid.add_row(Text(mark), Text(printable(sentence)))
    console.print(grid)


def _shortened(comparison: Comparison) -> list[str]:
    """As many sentences as a person reads at once: the first changes, how many are left out, and all conclusions."""
    changes, conclusions = comparison.sentences[: comparison.changes], comparison.sentences[comparison.changes :]
    room = max(SENTENCES - len(conclusions), 1)
    left = len(changes[room:])
    more = [f"{left} more change{'s' if left > 1 else ''} of one key: comparison.html has all"] if left else []
    return changes[:room] + more + conclusions


def _table(comparison: Comparison) -> Table:
    """The best settings, with as many intervals as fit on a line."""
    unbounded = console.options.update(max_width=10_000)
    for count in range(len(INTERVALS), -1, -1):
        table = _table_with(comparison, INTERVALS[:count])
        if Measurement.get(console, unbounded, table).maximum <= console.width:
            break
    return table


def _table_with(comparison: Comparison, intervals: Sequence[str]) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1), collapse_padding=not intervals)
    short = short_keys(comparison.keys)
    for key in comparison.keys:
        table.add_column(Text(printable(short[key])), justify="right", overflow="fold")
    for column in ("n", "val F1", "test F1", "val less baseline"):
        table.add_column(column, justify="left" if column == "val less baseline" else "right")
    for setting in comparison.settings[:SETTINGS]:
        values = [value_text(setting.values[key], 4) for key in comparison.keys]
        scores = [
            score_text(one.mean) + (f" {interval_text(one.low, one.high)}" if name in intervals else "")
            for name, one in (("val F1", setting.val), ("test F1", setting.test))
        ]
        difference = (
            _difference_text(setting.val_difference, "val less baseline" in intervals)
            if setting is not comparison.baseline
            else "baseline"
        )
        style = "bold" if setting is comparison.selected else ""
        cells = (*values, str(len(setting.runs)), *scores, difference)
        table.add_row(*map(Text, cells), style=style)  # as text: a value may read like rich's markup
    return table


def _difference_text(found: Difference | None, interval: bool) -> str:
    if found is None:
        return "-"
    sign = "+" if found.mean > 0 else ""
    verdict = "" if found.verdict in ("better", "worse") else " noise" if found.verdict == "noise" else " ?"
    return (
        f"{sign}{score_text(found.mean)}" + (f" {interval_text(found.low, found.high)}" if interval else "") + verdict
    )


def _setting_row(comparison: Comparison, setting: Setting) -> dict[str, Any]:
    """A row of ``comparison.csv``; settings are in the order of their val F1."""
    row: dict[str, Any] = {
        "setting": setting.label,
        **{key: setting.values[key] for key in comparison.keys},
        "selected": setting is comparison.selected,
        "baseline": setting is comparison.baseline,
        "runs": len(setting.runs),
        "seeds": setting.seeds,
        "folds": setting.folds,
        "diverged": sum(run.diverged for run in setting.runs),
    }
    for name in ("val", "test", "accuracy", "train"):
        found = asdict(getattr(setting, name))
        row |= {f"{name}_{column}": found[column] for column in ("mean", "sd", "low", "high")}
    for name in ("val_difference", "test_difference"):
        difference: Difference | None = getattr(setting, name)
        content: Mapping[str, Any] = asdict(difference) if difference else {}
        columns = ("mean", "low", "high", "pairs", "verdict", "more_seeds")
        row |= {f"{name}_{column}".removesuffix("_mean"): content.get(column) for column in columns}
    return row


def _run_rows(setting: Setting) -> list[dict[str, Any]]:
    """Rows of ``runs.csv``."""
    return [
        {
            "run": run.folder.name,
            "setting": setting.label,
            "fold": run.fold,
            "seed": run.seed,
            **{name: getattr(run, name) for name in ("train", "val", "test", "accuracy", "diverged", "selected_epoch")},
        }
        for run in setting.runs
    ]


def _csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """CSV with empty cells for what there is not, and none that a spreadsheet would calculate."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows(map(_cell, row) for row in (rows[0], *(row.values() for row in rows)))
    return text.getvalue().encode(errors="replace").decode()  # names on the disk may be no UTF-8


def _cell(value: Any) -> Any:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:.8g}" if math.isfinite(value) else ""
    if isinstance(value, str):
        return f"'{value}" if value.startswith(FORMULA) else value
    return "" if value is None else value
