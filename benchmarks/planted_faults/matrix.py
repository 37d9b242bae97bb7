"""What the stored lines say: the confusion matrix of verdicts, recall of each fault, false convictions."""

from __future__ import annotations

import csv
import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from audioclf.diagnose.diagnose import healthy as nothing_wrong
from audioclf.diagnose.diagnose import judge
from audioclf.diagnose.verdict import CONVICTED, Gap
from benchmarks.planted_faults.faults import ACCEPTED, FAULTS, LOWERED
from benchmarks.planted_faults.run import Line

console = Console(width=240, soft_wrap=True)  # as wide as the matrix needs, also in a file

UNDETERMINED, NOTHING = "undetermined", "nothing"
PARTS = {(fault.name, fault.severity): fault.parts for fault in FAULTS if fault.parts}


@dataclass(frozen=True)
class Count:
    """So many of so many."""

    hits: int
    total: int

    @property
    def share(self) -> float:
        """Of hits; nan of nothing."""
        return self.hits / self.total if self.total else math.nan

    def __str__(self) -> str:
        low, high = wilson(self.hits, self.total)
        return f"{self.hits}/{self.total} = {self.share:.2f} [{low:.2f}, {high:.2f}]"


def wilson(hits: int, total: int, z: float = 1.96) -> tuple[float, float]:
    """The 95 % interval of a share (Wilson, 1927)."""
    if total == 0:
        return 0.0, 1.0
    share = hits / total
    middle = share + z * z / (2 * total)
    spread = z * math.sqrt(share * (1 - share) / total + z * z / (4 * total * total))
    low, high = ((middle + sign * spread) / (1 + z * z / total) for sign in (-1, 1))
    return max(0.0, low), min(1.0, high)


def judged(line: Line, thresholds: Mapping[str, Any]) -> Line:
    """The line with the verdicts that other thresholds give from the numbers that are stored."""
    gap = Gap(**line["gap"])
    verdicts = judge(line["numbers"], gap, thresholds)
    return line | {
        "verdicts": [[verdict.cause, verdict.status, verdict.share] for verdict in verdicts],
        "healthy": nothing_wrong([verdict for verdict in verdicts if verdict.convicted], gap, thresholds),
    }


def convicted(line: Line) -> list[str]:
    """The causes that are named, the one with the largest share first."""
    named = [(cause, share) for cause, status, share in line["verdicts"] if status in CONVICTED]
    return [cause for cause, _ in sorted(named, key=lambda item: -(item[1] or 0.0))]


def effective(line: Line) -> bool:
    """Whether the planted fault changed test F1 as it should: down, or up where it is a leak."""
    change = line["twin_f1"] - line["f1"]
    return bool((-change if "window_leak" in line["kinds"] else change) >= LOWERED)


def healthy(line: Line) -> bool:
    """Whether a run without a fault is as good as the tuned one: within 0.1 of it, or its interval holds it."""
    low, high = line["interval"]
    return bool(line["f1"] >= line["twin_f1"] - LOWERED or low <= line["twin_f1"] <= high)


def answer(line: Line) -> str:
    """The column of the confusion matrix: the first cause named, else whether the diagnosis says that it cannot tell."""
    named = convicted(line)
    if named:
        return named[0]
    return NOTHING if line.get("healthy") else UNDETERMINED


def right(line: Line, kind: str) -> bool:
    """Whether any of the accepted causes of a planted kind is named."""
    return bool(set(convicted(line)) & set(ACCEPTED[kind]))


def exact(line: Line, kind: str) -> bool:
    """Whether the very cause that was planted is named; an equivalent repair is none."""
    return next(iter(ACCEPTED[kind])) in convicted(line)


def wrong(line: Line) -> list[str]:
    """The causes named that are a right answer to nothing that was planted."""
    accepted = {cause for kind in line["kinds"] for cause in ACCEPTED[kind]}
    return [cause for cause in convicted(line) if cause not in accepted]


def wanted_kinds(line: Line, lines: Sequence[Line]) -> list[str]:
    """The planted kinds that count: of two faults at once, those that lowered F1 alone in the same place too."""
    parts = PARTS.get((line["fault"], line["severity"]), ())
    place = (line["source"], line["fold"], line["seed"])
    alone = {
        f"{other['fault']}-{other['severity']}": effective(other)
        for other in lines
        if (other["source"], other["fold"], other["seed"]) == place and other["kinds"]
    }
    if not parts:
        return list(line["kinds"])
    return [kind for kind, part in zip(line["kinds"], parts, strict=True) if alone.get(part, True)]


@dataclass(frozen=True)
class Summary:
    """What the benchmark is about.

    Attributes:
        confusion: planted label → answer → cases.
        recall: planted label → causes named of causes planted.
        by_fault: the same of all severities of a fault.
        exact: the same as ``by_fault``, where an equivalent repair does not count.
        first: cases of a fault whose first named cause is right: extra wrong ones before it count as a miss.
        false: convictions of healthy runs.
        accused: of what healthy runs were convicted.
        wrong: causes named of faulty runs that are no right answer.
        faulty: how many faulty runs there are.
        without_effect: planted cases that did not change F1 enough to count.
        dropped: runs without a fault that are not as good as the tuned one.
    """

    confusion: dict[str, Counter[str]]
    recall: dict[str, Count]
    by_fault: dict[str, Count]
    exact: dict[str, Count]
    first: dict[str, Count]
    false: Count
    accused: Counter[str]
    wrong: Counter[str]
    faulty: int
    without_effect: list[str]
    dropped: list[str]


def macro(counts: Mapping[str, Count]) -> float:
    """Mean over faults, each counting the same; nan of nothing."""
    shares = [count.share for count in counts.values() if count.total]
    return sum(shares) / len(shares) if shares else math.nan


def summarise(lines: Sequence[Line]) -> Summary:
    """Counts the lines."""
    confusion: dict[str, Counter[str]] = defaultdict(Counter)
    hits: dict[str, list[bool]] = defaultdict(list)
    by_fault: dict[str, list[bool]] = defaultdict(list)
    very: dict[str, list[bool]] = defaultdict(list)
    first: dict[str, list[bool]] = defaultdict(list)
    false: list[bool] = []
    accused: Counter[str] = Counter()
    others: Counter[str] = Counter()
    faulty = 0
    without_effect, dropped = [], []
    for line in lines:
        label = f"{line['fault']}-{line['severity']}"
        if not line["kinds"]:
            if not healthy(line):
                dropped.append(line["case"])
                continue
            confusion["none"][answer(line)] += 1
            false.append(bool(convicted(line)))
            accused.update(convicted(line))
        elif not effective(line):
            without_effect.append(line["case"])
        else:
            confusion[label][answer(line)] += 1
            named = [right(line, kind) for kind in wanted_kinds(line, lines)]
            hits[label] += named
            by_fault[line["fault"]] += named
            very[line["fault"]] += [exact(line, kind) for kind in wanted_kinds(line, lines)]
            others.update(wrong(line))
            faulty += 1
            if kinds := wanted_kinds(line, lines):
                first[line["fault"]].append(any(answer(line) in ACCEPTED[kind] for kind in kinds))
    return Summary(
        dict(confusion),
        *(
            {name: Count(sum(named), len(named)) for name, named in found.items()}
            for found in (hits, by_fault, very, first)
        ),
        Count(sum(false), len(false)),
        accused,
        others,
        faulty,
        without_effect,
        dropped,
    )


COLUMNS = ("case", "fault", "severity", "f1", "twin_f1", "answer", "convicted", "code_sha256")


def write(lines: Sequence[Line], path: Path) -> None:
    """Writes what each case came to as a table: :data:`COLUMNS`."""
    with path.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(COLUMNS)
        for line in sorted(lines, key=lambda line: str(line["case"])):
            found = {"answer": answer(line), "convicted": " ".join(convicted(line))}
            found |= {name: f"{line[name]:.3f}" for name in ("f1", "twin_f1")}
            found["code_sha256"] = str(line.get("code_sha256", ""))[:12]
            table.writerow([found.get(name, line.get(name)) for name in COLUMNS])


def show(summary: Summary) -> None:
    """Prints it."""
    answers = {answer for row in summary.confusion.values() for answer in row}
    columns = [*sorted(answers - {UNDETERMINED, NOTHING}), UNDETERMINED, NOTHING]
    table = Table(title="planted (rows) and named first (columns)", title_justify="left", box=SIMPLE)
    table.add_column("planted")
    for name in columns:
        table.add_column("\n".join(name.split("_")), justify="right")
    table.add_column("named among all", justify="right")
    for label, row in summary.confusion.items():
        recall = summary.recall.get(label)
        table.add_row(label, *(str(row[name] or ".") for name in columns), str(recall) if recall else "")
    console.print(table)
    for fault, count in summary.by_fault.items():
        very = summary.exact[fault]
        console.print(
            f"recall of {fault}: {count}; by its own name {very}; named first {summary.first.get(fault)}", markup=False
        )
    console.print(
        f"macro-recall over {len(summary.by_fault)} faults: {macro(summary.by_fault):.3f}; "
        f"by its own name {macro(summary.exact):.3f}; named first {macro(summary.first):.3f}",
        markup=False,
    )
    console.print(
        f"causes named of {summary.faulty} faulty runs that were not planted: {summary.wrong.total()} "
        f"{dict(summary.wrong)}",
        markup=False,
    )
    console.print(f"healthy runs convicted of anything: {summary.false} {dict(summary.accused)}", markup=False)
    for title, names in (
        ("planted, but F1 did not change by 0.1", summary.without_effect),
        ("not as good as the tuned run, so not counted as healthy", summary.dropped),
    ):
        console.print(f"{title}: {len(names)} {', '.join(names)}", markup=False)
