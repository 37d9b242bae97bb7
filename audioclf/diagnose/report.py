"""A diagnosis for people on the console, and as the files that stay."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from audioclf.compare.axis import printable
from audioclf.console import console
from audioclf.diagnose.diagnosis import Diagnosis
from audioclf.diagnose.verdict import Gap, Verdict
from audioclf.files import cannot_write, write_text

if TYPE_CHECKING:
    from audioclf.diagnose.lab import Lab


def write_diagnosis(diagnosis: Diagnosis, folder: Path, lab: Lab | None = None) -> Path:
    """Writes ``diagnosis.json`` and ``diagnosis.html``.

    Args:
        diagnosis: what to write.
        folder: where.
        lab: the run that it is about; without it the page has no curves, figures and sounds.

    Returns:
        The page.

    Raises:
        UserError: the folder cannot be written to.
    """
    from audioclf.diagnose.page import page  # matplotlib takes a second

    path = folder / "diagnosis.html"
    try:
        content = json.dumps(diagnosis.to_dict(), indent=2, allow_nan=False)
        write_text(folder / "diagnosis.json", content + "\n")
        write_text(path, page(diagnosis, lab))
    except OSError as error:
        raise cannot_write(f"in {folder}", error) from error
    return path


def print_diagnosis(diagnosis: Diagnosis) -> None:
    """Prints the answer: what lowers the F1 and by how much, what cannot be told, what to do, and where the files are."""
    _say(diagnosis.summary, style="bold")
    for line in scores(diagnosis.gap):
        _say(line)
    if diagnosis.convicted:
        console.print(_convicted(diagnosis))
    else:
        _say(_nothing(diagnosis))
    for verdict in diagnosis.symptoms:
        _say(f"symptom: {verdict.evidence[0]}")
    _list("not told from the evidence", _undetermined(diagnosis))
    if unmentioned := [v.cause.replace("_", " ") for v in diagnosis.unmentioned]:
        _say(f"the record says nothing of: {', '.join(unmentioned)}")
    if cleared := [v.cause.replace("_", " ") for v in diagnosis.verdicts if v.status == "cleared"]:
        _say(f"looked for and not found: {', '.join(cleared)}")
    _list("not run", [f"{title(diagnosis, one.cause)}: {one.why}" for one in diagnosis.not_run])
    _list("to do", (todo for verdict in diagnosis.convicted if (todo := sentence_of(verdict))))
    if diagnosis.command:
        mended = diagnosis.facts.get("mended")
        reached = f" (out of fold F1 {f1_text(mended['f1'])})" if mended and mended["f1"] is not None else ""
        _say(f"to mend it{reached}:", style="bold")
        console.print(f"  {printable(diagnosis.command)}", markup=False, soft_wrap=True)  # whole: it is copied
        for why in (mended or {}).get("why", ()):
            _say(f"  {why}")
    for line in beyond(diagnosis):
        _say(line)
    where = Path(diagnosis.run)
    written = (where if where.is_dir() else where.parent) / "diagnosis.html"
    if written.exists():
        content = "figures, errors to listen to, all numbers" if diagnosis.gap else "as a page, with all numbers"
        console.print(f"{content}: {written}", markup=False, soft_wrap=True)


def title(diagnosis: Diagnosis, cause: str) -> str:
    """A cause in words."""
    return printable(diagnosis.titles.get(cause, cause.replace("_", " ")))


def share_text(verdict: Verdict) -> str:
    """The share of the gap with its interval, in percent: ``94 % [81, 100]``; a dash where nothing was mended."""
    if verdict.share is None or not math.isfinite(verdict.share):
        return "–"
    said = f"{percent(verdict.share)} %"
    if verdict.interval is None:
        return said
    low, high = verdict.interval
    return f"{said} [{percent(low)}, {percent(high)}]"


def percent(share: float) -> str:
    """A share as a whole number of percent, with a typographic minus."""
    return f"{round(100 * share)}".replace("-", "−")


def f1_text(score: float) -> str:
    """An F1 as evidence has it: ``0.63``; a typographic minus, a dash for none."""
    return f"{score:.2f}".replace("-", "−").replace("−0.00", "0.00") if math.isfinite(score) else "–"


def scores(gap: Gap | None) -> list[str]:
    """What there is to explain, in a sentence; none for a bare record."""
    if gap is None:
        return []
    reached = f", the best reached {f1_text(gap.reference)}" if gap.reference > max(gap.probe, gap.base) else ""
    return [
        f"test F1 {f1_text(gap.test)}; the same setting out of fold {f1_text(gap.base)}, "
        f"the best cheap probe {f1_text(gap.probe)}{reached}, guessing {f1_text(gap.chance)}"
    ]


def headroom(gap: Gap | None) -> str | None:
    """How far the best that was reached lies above the run, where it is worth a word."""
    if gap is None or gap.size < 0.01:
        return None
    than = "this run" if gap.test <= gap.base else "its setting out of fold"
    return f"{f1_text(gap.reference)} can be reached on the same clips, {f1_text(gap.size)} above {than}"


def beyond(diagnosis: Diagnosis) -> list[str]:
    """What a frozen embedding would bring, where it was tried and is worth a word."""
    found = next((v.numbers.get("embedding") for v in diagnosis.verdicts if v.cause == "features_weak"), None)
    if not found or found["gain"] < 0.05 or found["low"] <= 0:
        return []
    return [
        f"beyond that: from a frozen embedding (YAMNet) a cheap probe reads F1 {f1_text(found['after'])} out of fold; "
        "features=yamnet model=linear trains on it"
    ]


def sentence_of(verdict: Verdict) -> str | None:
    """What to do about a cause, where no change of settings mends it."""
    return verdict.next if isinstance(verdict.next, str) else None


def _nothing(diagnosis: Diagnosis) -> str:
    """What is said where no cause is named."""
    if not diagnosis.healthy:
        return "No cause can be named."
    more = headroom(diagnosis.gap)
    return "No cause of a low F1 was found." + (f" Headroom: {more}." if more else "")


def _convicted(diagnosis: Diagnosis) -> Table:
    """The causes that are named, with their strongest evidence."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("of the gap, alone" if len(diagnosis.convicted) > 1 else "of the gap", no_wrap=True)
    table.add_column("the F1 is low because", overflow="fold")
    for verdict in diagnosis.convicted:
        cause = (title(diagnosis, verdict.cause), "bold" if verdict.status == "explains" else "")
        table.add_row(
            Text(share_text(verdict)), Text.assemble(cause, *(f"\n{printable(one)}" for one in verdict.evidence[:1]))
        )
    return table


def _undetermined(diagnosis: Diagnosis) -> Iterable[str]:
    unmentioned = diagnosis.unmentioned
    for verdict in diagnosis.verdicts:
        if verdict.status == "undetermined" and verdict not in unmentioned and verdict not in diagnosis.symptoms:
            evidence = f": {verdict.evidence[0]}" if verdict.evidence else ""
            yield f"{title(diagnosis, verdict.cause)}{evidence}"


def _list(heading: str, items: Iterable[str]) -> None:
    """Items below a heading, each behind a dash, its further lines indented; nothing where there are none."""
    grid = Table.grid(padding=(0, 1))
    grid.add_column()
    grid.add_column(overflow="fold")
    for item in items:
        grid.add_row("-", Text(printable(item)))
    if grid.row_count:
        _say(f"{heading}:", style="bold")
        console.print(grid)


def _say(sentence: str, style: str = "") -> None:
    console.print(printable(sentence), markup=False, style=style)
