"""Many cases trained and diagnosed, one JSON line each, so that a killed benchmark goes on where it was."""

from __future__ import annotations

import gc
import json
import multiprocessing
import os
import time
import traceback
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from audioclf.diagnose.diagnose import diagnose
from audioclf.diagnose.run import read_run
from audioclf.runs.folder import finite
from benchmarks.planted_faults.cases import Case, train

BUDGET_S = 600.0
RETRIES = ("error",)  # a line with one of these keys is no answer: the case is tried again

Line = dict[str, Any]
"""What is known of a case: its place, scores, what each probe measured, verdicts, seconds."""


def run_case(case: Case, work: Path, extra: Mapping[str, Any] | None = None, overrides: Sequence[str] = ()) -> Line:
    """Plants, trains and diagnoses one case; what fails is written down.

    Args:
        case: which.
        work: folder of all cases.
        extra: written into the line as well.
        overrides: more settings.
    """
    line: Line = {
        "case": case.name,
        "source": case.source,
        "fold": case.fold,
        "seed": case.seed,
        "fault": case.fault.name,
        "severity": case.fault.severity,
        "kinds": list(case.fault.kinds),
        **(extra or {}),
    }
    started = time.monotonic()
    try:
        twin = train(case.twin, work, overrides).result
        run = train(case, work, overrides)
        line |= {"f1": run.result["test"]["f1_macro"], "interval": run.result["interval"]["f1_macro"]}
        line |= {"val": run.result["val"]["f1_macro"], "train": run.result["train"]["f1_macro"]}
        line |= {"twin": case.twin.name, "twin_f1": twin["test"]["f1_macro"], "train_s": time.monotonic() - started}
        started = time.monotonic()
        found = diagnose(read_run(run.folder), BUDGET_S, page=False)
        line |= {
            "healthy": found.healthy,
            "gap": None if found.gap is None else asdict(found.gap),
            "numbers": {verdict.cause: verdict.numbers for verdict in found.verdicts},
            "verdicts": [[verdict.cause, verdict.status, verdict.share] for verdict in found.verdicts],
            "not_run": [left_out.cause for left_out in found.not_run],
            "seconds": dict(found.seconds),
            "diagnose_s": time.monotonic() - started,
        }
    except Exception as error:  # one case that fails must not cost the others
        line["error"] = f"{type(error).__name__}: {error}\n{traceback.format_exc()}"
    gc.collect()
    return dict(finite(line))


def run_cases(
    cases: Sequence[Case], work: Path, results: Path, jobs: int = 2, extra: Mapping[str, Any] | None = None
) -> list[Line]:
    """Runs the cases that have no line yet, beside one another; each line is appended as soon as it is there.

    Returns:
        The lines of ``cases``, those found included.
    """
    results.parent.mkdir(parents=True, exist_ok=True)
    done = {line["case"] for line in _of(read_lines(results), extra)}
    todo = [case for case in cases if case.name not in done]
    os.environ["OMP_NUM_THREADS"] = "1"  # of the processes that are started below
    started = time.monotonic()
    with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn"), _one_thread) as pool:
        # The first case of a source imports its audio; the others would do the same at the same time.
        firsts = list({case.source: case for case in todo}.values())
        for first in [pool.submit(train, case.twin, work) for case in firsts]:
            first.result()
        futures = [pool.submit(run_case, case, work, extra) for case in todo]
        for number, future in enumerate(as_completed(futures), 1):
            line = future.result()
            with results.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
            print(f"{number}/{len(todo)} {time.monotonic() - started:.0f} s {said(line)}", flush=True)
    wanted = {case.name for case in cases}
    return [line for line in _of(read_lines(results), extra) if line["case"] in wanted]


def _of(lines: list[Line], extra: Mapping[str, Any] | None) -> list[Line]:
    """The lines that say the same of thresholds and code."""
    return [line for line in lines if all(line.get(key) == value for key, value in (extra or {}).items())]


def said(line: Line) -> str:
    """A line for people."""
    if "error" in line:
        return f"{line['case']}: {line['error'].splitlines()[0]}"
    convicted = [cause for cause, status, _ in line["verdicts"] if status in ("explains", "contributes")]
    return (
        f"{line['case']}: F1 {line['f1']:.2f} of {line['twin_f1']:.2f}: {', '.join(convicted) or 'nothing'} "
        f"({line['diagnose_s']:.0f} s)"
    )


def read_lines(results: Path) -> list[Line]:
    """The last good line of each case; torn ones and errors are passed over."""
    lines: dict[str, Line] = {}
    for text in results.read_text(encoding="utf-8").splitlines() if results.exists() else []:
        try:
            line = json.loads(text)
        except ValueError:
            continue
        if not any(key in line for key in RETRIES):
            lines[line["case"]] = line
    return list(lines.values())


def _one_thread() -> None:
    torch.set_num_threads(1)
