"""`python -m benchmarks.planted_faults tune|measure|matrix|train`: how often is a diagnosis right?

tune     folds 1 and 2: runs what is missing, prints the matrix and which numbers separate healthy from planted
measure  folds 3 to 5: only with frozen thresholds; runs what is missing, prints the matrix
matrix   prints from stored lines alone; --thresholds FILE judges them again, nothing is trained
train    folds 1 and 2: plants and trains, diagnoses nothing
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import yaml

from audioclf.console import console
from audioclf.diagnose.verdict import THRESHOLDS
from audioclf.errors import UserError
from benchmarks.planted_faults import matrix, measure, tune
from benchmarks.planted_faults.cases import cases, train
from benchmarks.planted_faults.run import read_lines, run_cases
from benchmarks.planted_faults.tables import SOURCES


def main(words: Sequence[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.planted_faults", description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["tune", "measure", "matrix", "train"])
    parser.add_argument("--work", type=Path, default=Path("outputs/planted_faults"), help="folder of all cases")
    parser.add_argument("--only", nargs="*", default=[], help="beginnings of FAULT-SEVERITY")
    parser.add_argument("--source", nargs="*", default=list(SOURCES), choices=SOURCES)
    parser.add_argument("--folds", nargs="*", type=int, help="fewer of those that the command may see")
    parser.add_argument("--seeds", nargs="*", type=int, default=[0])
    parser.add_argument("--jobs", type=int, default=2, help="cases at the same time, with one thread each")
    parser.add_argument("--thresholds", type=Path, help="judge the stored numbers again with this file")
    parser.add_argument("--lines", type=Path, nargs="*", help="for matrix: files of lines; default: measure.jsonl")
    parser.add_argument("--table", type=Path, help="CSV file for what each case came to")
    args = parser.parse_args(words)
    try:
        return _run(args)
    except UserError as error:
        console.print(f"error: {error}", markup=False)
        return 2


def _run(args: argparse.Namespace) -> int:
    results = args.work / ("measure.jsonl" if args.what in ("measure", "matrix") else "tune.jsonl")
    if args.what == "matrix":
        lines = [line for file in args.lines or [results] for line in read_lines(file)]
    else:
        extra = measure.frozen(THRESHOLDS) if args.what == "measure" else {}
        allowed = measure.FOLDS if args.what == "measure" else tune.FOLDS
        wanted = cases([fold for fold in args.folds or allowed if fold in allowed], args.seeds, args.source, args.only)
        if args.what == "train":
            for case in wanted:
                f1 = [train(each, args.work).result["test"]["f1_macro"] for each in (case, case.twin)]
                console.print(f"{case.name}: test F1 {f1[0]:.2f}, without the fault {f1[1]:.2f}", markup=False)
            return 0
        console.print(f"{len(wanted)} cases {extra}", markup=False)
        lines = run_cases(wanted, args.work, results, args.jobs, extra)
    if args.thresholds:
        thresholds = yaml.safe_load(args.thresholds.read_text(encoding="utf-8"))
        lines = [matrix.judged(line, thresholds) for line in lines]
    matrix.show(matrix.summarise(lines))
    if args.table:
        matrix.write(lines, args.table)
    if args.what == "tune":
        tune.show(lines)
    return 0


if __name__ == "__main__":
    sys.exit(main())
