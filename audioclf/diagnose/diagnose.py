"""From a run's folder to a diagnosis: every probe examines, then all are judged together."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from audioclf.console import progress_bar
from audioclf.diagnose.diagnosis import Diagnosis, NotRun
from audioclf.diagnose.lab import Lab, OutOfTime, Run
from audioclf.diagnose.probe import all_probes
from audioclf.diagnose.verdict import Gap, Numbers, Verdict, limits_of

STATUS_ORDER = ("explains", "contributes", "undetermined", "cleared")


def examine(lab: Lab) -> tuple[dict[str, Numbers], dict[str, float], list[NotRun]]:
    """Lets every probe measure.

    Returns:
        What each found, the seconds it took, and what was left out.
    """
    measured: dict[str, Numbers] = {}
    seconds: dict[str, float] = {}
    not_run: list[NotRun] = []
    probes = all_probes()
    with progress_bar("diagnose", len(probes), "probes") as bar:
        for probe in probes:
            bar.advance(0, probe.cause)
            started = time.monotonic()
            try:
                measured[probe.cause] = probe.examine(lab)
            except OutOfTime as stop:
                not_run.append(NotRun(probe.cause, str(stop)))
            seconds[probe.cause] = round(time.monotonic() - started, 2)
            bar.advance(1)
    return measured, seconds, not_run


def judge(measured: Mapping[str, Numbers], gap: Gap, thresholds: Mapping[str, Any] | None = None) -> list[Verdict]:
    """Judges what was measured: a pure function, so that it can be done again from ``diagnosis.json``.

    The reference is the best that any probe or intervention reached.
    """
    reached = [numbers["effect"]["after"] for numbers in measured.values() if numbers.get("effect")]
    gap = replace(gap, reference=max([gap.reference, *reached]))
    verdicts = [
        probe.judge(measured[probe.cause], gap, limits_of(probe.cause, thresholds))
        for probe in all_probes()
        if probe.cause in measured
    ]
    return sorted(verdicts, key=lambda v: (STATUS_ORDER.index(v.status), -(v.share or 0.0)))


def diagnose(run: Run) -> Diagnosis:
    """Diagnoses a finished run; writes ``diagnosis/`` in its folder."""
    shutil.rmtree(run.folder.path / "diagnosis", ignore_errors=True)
    raise NotImplementedError
