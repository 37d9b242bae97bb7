"""From a run's folder to a diagnosis: every probe examines, then all are judged together."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from audioclf.console import progress_bar
from audioclf.diagnose.attribution import Shares, attribute, together, waterfall
from audioclf.diagnose.command import train_command
from audioclf.diagnose.diagnosis import Diagnosis, NotRun
from audioclf.diagnose.lab import Lab, OutOfTime, Run
from audioclf.diagnose.preflight import preflight
from audioclf.diagnose.probe import Probe, all_probes
from audioclf.diagnose.repair import LONG, words
from audioclf.diagnose.report import write_diagnosis
from audioclf.diagnose.verdict import Gap, Numbers, Verdict, limits_of

STATUS_ORDER = ("explains", "contributes", "undetermined", "cleared")
SCALE = {
    "lr_too_high",
    "no_normalisation",
}  # one disease: steps too large for the input's scale; either repair cures it


def diagnose(run: Run, budget_s: float | None = None, page: bool = True) -> Diagnosis:
    """Diagnoses a finished run; writes what it was judged by to ``diagnosis/`` in its folder.

    Args:
        run: the run.
        budget_s: seconds that retraining may take; None: the configuration's ``diagnose.budget_minutes``.
        page: whether ``diagnosis.json`` and ``diagnosis.html`` are written.

    Raises:
        UserError: its table or audio is gone or changed.
    """
    lab = Lab(run, run.config.diagnose.budget_minutes * 60 if budget_s is None else budget_s)
    for name in ("diagnosis.json", "diagnosis.html"):  # an earlier one must not outlive the files that it rests on
        (run.folder.path / name).unlink(missing_ok=True)
    shutil.rmtree(lab.folder, ignore_errors=True)
    measured, seconds, not_run = examine(lab)
    gap = final_gap(lab.gap, measured)
    verdicts = judge(measured, gap)
    convicted = [verdict for verdict in verdicts if verdict.convicted]
    started = time.monotonic()
    shares: Shares = {}
    try:
        shares, _ = attribute(lab, convicted)
    except OutOfTime as stop:
        not_run.append(NotRun("attribution", str(stop)))
    seconds["attribution"] = round(time.monotonic() - started, 2)
    titles = {probe.cause: probe.title for probe in all_probes()}
    repair = _repair(lab, convicted)
    lab.write()
    diagnosis = Diagnosis(
        run=str(run.folder.path),
        summary=summary(convicted, verdicts, gap, titles),
        healthy=healthy(convicted, gap),
        verdicts=verdicts,
        gap=gap,
        steps=waterfall(gap, convicted, shares, titles),
        command=train_command(lab.config, repair) if repair else None,
        not_run=not_run,
        seconds=seconds,
        facts=_facts(lab),
        titles=titles,
        repair=repair,
    )
    if page:
        write_diagnosis(diagnosis, run.folder.path, lab)
    return diagnosis


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
            bar.advance(0, probe.title)
            started = time.monotonic()
            try:
                measured[probe.cause] = probe.examine(lab)
            except OutOfTime as stop:
                not_run.append(NotRun(probe.cause, str(stop)))
            seconds[probe.cause] = round(time.monotonic() - started, 2)
            bar.advance(1)
    return measured, seconds, not_run


def final_gap(gap: Gap, measured: Mapping[str, Numbers]) -> Gap:
    """The gap to the best that any probe or intervention reached; what was only estimated raises no reference."""
    effects = [numbers["effect"] for numbers in measured.values() if numbers.get("effect")]
    reached = [effect["after"] for effect in effects if not effect.get("estimated")]
    return replace(gap, reference=max([gap.reference, *reached]))


def judge(measured: Mapping[str, Numbers], gap: Gap, thresholds: Mapping[str, Any] | None = None) -> list[Verdict]:
    """Judges what was measured: a pure function, so that it can be done again from ``diagnosis.json``.

    Args:
        measured: each probe's numbers.
        gap: of :func:`final_gap`.
        thresholds: the content of another ``thresholds.yaml``; None: the shipped one.
    """
    verdicts = [_judged(probe, measured, gap, thresholds) for probe in all_probes() if probe.cause in measured]
    return sorted(verdicts, key=lambda v: (STATUS_ORDER.index(v.status), -(v.share or 0.0)))


def _judged(probe: Probe, measured: Mapping[str, Numbers], gap: Gap, thresholds: Mapping[str, Any] | None) -> Verdict:
    return probe.judge(measured[probe.cause], gap, limits_of(probe.cause, thresholds))


def healthy(convicted: Sequence[Verdict], gap: Gap, thresholds: Mapping[str, Any] | None = None) -> bool:
    """Whether nothing is convicted, no gap is left unexplained, and anything is better than guessing."""
    limits = limits_of("all", thresholds)
    learnt = gap.reference - gap.chance >= limits["least_gain"]
    return learnt and not convicted and gap.size < limits["unexplained"]


def summary(convicted: Sequence[Verdict], verdicts: Sequence[Verdict], gap: Gap, titles: Mapping[str, str]) -> str:
    """One or two sentences: what it is, that nothing is wrong, or that it cannot be told."""
    if not convicted:
        unsure = [titles[v.cause] for v in verdicts if v.status == "undetermined"]
        if gap.size >= limits_of("all")["unexplained"]:
            suspects = f" Suspected, not shown: {'; '.join(unsure)}." if unsure else ""
            return (
                f"Undetermined: F1 is {gap.observed:.2f}, a cheap probe reads {gap.reference:.2f} from the same clips, "
                f"and no repair that was tried returns what is missing.{suspects}"
            )
        if not healthy(convicted, gap):
            return (
                f"Undetermined: F1 is {gap.observed:.2f}, guessing has {gap.chance:.2f}, and a cheap probe reads no more "
                f"from the same clips ({gap.reference:.2f}): too few clips to tell, or nothing to learn."
            )
        return f"Nothing that was looked for is wrong: test F1 {gap.test:.2f}."
    causes = [titles[v.cause] + (f" ({v.share:.0%} of the gap)" if v.share is not None else "") for v in convicted]
    explained = any(v.status == "explains" for v in convicted)
    sentence = f"Test F1 is {gap.test:.2f}, {'mainly' if explained else 'partly'} because {_joined(causes)}."
    scale = [v for v in convicted if v.cause in SCALE]
    if len(scale) == len(SCALE):
        cure = "either repair mends most of it" if all(v.status == "explains" for v in scale) else "mend both"
        sentence += (
            f" That {_joined([titles[v.cause] for v in scale])} is one disease, steps too large for the input: {cure}."
        )
    return sentence


def _joined(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else ", ".join(words[:-1]) + " and " + words[-1]


def _repair(lab: Lab, convicted: Sequence[Verdict]) -> list[str]:
    """The overrides that repair every convicted setting; none where no setting is convicted."""
    repairs = [v.numbers["repair"] for v in convicted if v.numbers.get("repair")]
    untried = [w for v in convicted if isinstance(v.next, list) and not v.numbers.get("repair") for w in v.next]
    if not repairs:
        return untried
    joint = together(lab, repairs)
    if SCALE & {v.cause for v in convicted}:  # smaller steps need more of them
        joint["epochs"] = max(LONG, lab.config.epochs, joint.get("epochs", 0))
    if lab.config.trainer.select == "last":
        joint["trainer.select"] = "best"
    return [*words(joint), *untried]


def _facts(lab: Lab) -> dict[str, Any]:
    """What a report shows beside the verdicts."""
    result = lab.run.result
    return {
        "scores": {split: result[split]["f1_macro"] for split in ("train", "val", "test")},
        "interval": result["interval"]["f1_macro"],
        "out_of_fold": {"f1": lab.base.f1, "train_f1": lab.base.train_f1},
        "probes": {name: trial.f1 for name, trial in lab.trials.items() if name.startswith("probe_")},
        "clips": {"development": len(lab.pool), "test": len(lab.test)},
        "folds": lab.fold_count,
        "trials": {name: trial.f1 for name, trial in lab.trials.items()},
        "preflight": [asdict(check) for check in preflight(lab)],
        "seconds": round(time.monotonic() - lab.started, 1),
    }
