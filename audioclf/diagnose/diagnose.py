"""From a run's folder to a diagnosis: every probe examines, then all are judged together."""

from __future__ import annotations

import functools
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from audioclf import __version__
from audioclf.console import ProgressBar, progress_bar
from audioclf.diagnose.attribution import Combinations, Shares, attribute, together, waterfall
from audioclf.diagnose.command import train_command
from audioclf.diagnose.diagnosis import Diagnosis, NotRun
from audioclf.diagnose.lab import Lab, OutOfTime
from audioclf.diagnose.preflight import preflight
from audioclf.diagnose.probe import Probe, all_probes
from audioclf.diagnose.repair import LONG, words
from audioclf.diagnose.report import write_diagnosis
from audioclf.diagnose.run import Run
from audioclf.diagnose.trial import Recipe
from audioclf.diagnose.verdict import STATUS_ORDER, Gap, Numbers, Verdict, limits_of
from audioclf.runs.identity import short

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
    shutil.rmtree(lab.folder, ignore_errors=True)  # what a stopped diagnosis left
    measured, seconds, not_run = examine(lab)
    gap = final_gap(lab.gap, measured)
    verdicts = judge(measured, gap)
    convicted = [verdict for verdict in verdicts if verdict.convicted]
    started = time.monotonic()
    shares: Shares = {}
    trials: Combinations = {}
    with progress_bar("mend", 2, "steps") as bar:
        lab.tell = functools.partial(_note, bar, "repairs together")
        try:
            shares, trials = attribute(lab, convicted)
        except OutOfTime as stop:
            not_run.append(NotRun("attribution", str(stop)))
        bar.advance(1)
        repair, mended = _repair(lab, convicted, trials)
    titles = {probe.cause: probe.title for probe in all_probes()}
    seconds["attribution"] = round(time.monotonic() - started, 2)
    lab.write()
    for name in ("diagnosis.json", "diagnosis.html"):  # an earlier one must not outlive the files that it rests on
        (run.folder.path / name).unlink(missing_ok=True)
    lab.publish()
    diagnosis = Diagnosis(
        run=str(run.folder.path),
        summary=summary(convicted, verdicts, gap, titles, trials, not_run),
        healthy=healthy(convicted, gap) and not not_run,
        verdicts=verdicts,
        gap=gap,
        steps=waterfall(gap, convicted, shares, titles),
        command=train_command(lab.config, repair) if repair else None,
        not_run=not_run,
        seconds=seconds,
        facts=_facts(lab) | {"mended": mended},
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
    with progress_bar("diagnose", 1 + len(probes), "steps") as bar:

        def begin(name: str) -> float:
            lab.tell = functools.partial(_note, bar, name)
            bar.advance(0, name)
            return time.monotonic()

        started = begin("the run's own setting")
        _ = lab.base, lab.best_probe  # what all are held against, so no probe's time
        seconds["base"] = round(time.monotonic() - started, 2)
        bar.advance(1)
        for probe in probes:
            started = begin(probe.cause.replace("_", " "))
            try:
                measured[probe.cause] = probe.examine(lab)
            except OutOfTime as stop:
                not_run.append(NotRun(probe.cause, str(stop)))
            seconds[probe.cause] = round(time.monotonic() - started, 2)
            bar.advance(1)
    return measured, seconds, not_run


def _note(bar: ProgressBar, name: str, said: str) -> None:
    bar.advance(0, f"{name}: {said}")


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


def summary(
    convicted: Sequence[Verdict],
    verdicts: Sequence[Verdict],
    gap: Gap,
    titles: Mapping[str, str],
    trials: Combinations | None = None,
    not_run: Sequence[NotRun] = (),
) -> str:
    """One or two sentences: what it is, that nothing is wrong, or that it cannot be told."""
    missed = [titles.get(one.cause, one.cause) for one in not_run if one.cause != "attribution"]
    more = f" Not tried for want of time: {'; '.join(missed)}; give diagnose.budget_minutes more." if missed else ""
    if not convicted:
        unsure = [titles[v.cause] for v in verdicts if v.status == "undetermined" and v.numbers.get("nominated")]
        observed = f"F1 is {gap.observed:.2f}" + (" on test" if gap.test <= gap.base else " out of fold")
        if gap.size >= limits_of("all")["unexplained"]:
            suspects = f" Suspected, not shown: {'; '.join(unsure)}." if unsure else ""
            tried = "" if missed else ", and no repair that was tried returns what is missing"
            return (
                f"Undetermined: {observed}, {gap.reference:.2f} was reached (a cheap probe out of fold: "
                f"{gap.probe:.2f}){tried}.{suspects}{more}"
            )
        if not healthy(convicted, gap):
            return (
                f"Undetermined: {observed}, guessing has {gap.chance:.2f}, and a cheap probe reads no more out of fold "
                f"({gap.probe:.2f}): too few clips to tell, or nothing to learn."
            )
        return f"Nothing that was looked for is wrong: test F1 {gap.test:.2f}.{more}"
    both = [v for v in convicted if v.cause in SCALE]
    one_disease = len(both) == len(SCALE)
    causes = [
        titles[v.cause] + (f" ({v.share:.0%} of the gap)" if v.share is not None else "")
        for v in convicted
        if not (one_disease and v in both)
    ]
    sentence = ""
    if one_disease:
        share = _joint_share(trials or {}, gap)
        causes.insert(0, "the steps are too large for the input" + (f" ({share:.0%} of the gap)" if share else ""))
        alone = _joined([f"{titles[v.cause]} (mended alone: {v.share:.0%})" for v in both])
        cure = "either repair mends most of it" if all(v.status == "explains" for v in both) else "mend both"
        sentence = f" That is one disease of two: {alone}; {cure}."
    explained = one_disease or any(v.status == "explains" for v in convicted)
    return (
        f"Test F1 is {gap.test:.2f}, {'mainly' if explained else 'partly'} because {_joined(causes)}.{sentence}{more}"
    )


def _joint_share(trials: Combinations, gap: Gap) -> float | None:
    """The share of the gap that both repairs of the scale return together."""
    before, after = trials.get(frozenset()), trials.get(frozenset(SCALE))
    if before is None or after is None or gap.size <= 0:
        return None
    return min((after.f1 - before.f1) / gap.size, 1.0)


def _joined(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else ", ".join(words[:-1]) + " and " + words[-1]


def _repair(lab: Lab, convicted: Sequence[Verdict], trials: Combinations) -> tuple[list[str], dict[str, Any] | None]:
    """The overrides that repair the convicted settings: those of the best combination that was tried, trained long.

    Returns:
        The overrides, none where no setting is convicted; and the reasons for what was added (``why``), with what they
        score together out of fold (``f1``) and the name of that ``trial``: None where no time was left.
    """
    untried = [w for v in convicted if isinstance(v.next, list) and not v.numbers.get("repair") for w in v.next]
    repairs = {v.cause: v.numbers["repair"] for v in convicted if v.numbers.get("repair")}
    if not repairs:
        return untried, None
    tried = [causes for causes in trials if causes]
    best = max(tried, key=lambda causes: (trials[causes].f1, -len(causes))) if tried else frozenset(repairs)
    joint = together(lab, [repair for cause, repair in repairs.items() if cause in best])
    why = [f"lr={short(joint['lr'])}: its first step suits inputs of that size"] if "lr" in joint else []
    if SCALE & best:  # smaller steps need more of them
        joint["epochs"] = max(LONG, lab.config.epochs, joint.get("epochs", 0))
        why.append(f"epochs={joint['epochs']}: smaller steps need more of them")
    if lab.config.trainer.select == "last":
        joint["trainer.select"] = "best"
        why.append("trainer.select=best: the weights of the best epoch on val")
    mended: dict[str, Any] = {"why": why, "trial": None, "f1": None}
    try:
        trial = lab.trial(Recipe("mended", joint))
        mended |= {"trial": trial.name, "f1": trial.f1}
    except OutOfTime:
        pass
    return [*words(joint), *untried], mended


def _facts(lab: Lab) -> dict[str, Any]:
    """What a report shows beside the verdicts."""
    result = lab.run.result
    return {
        "identity": result["identity"],
        "version": __version__,
        "scores": {split: result[split]["f1_macro"] for split in ("train", "val", "test")},
        "interval": result["interval"]["f1_macro"],
        "out_of_fold": {"f1": lab.base.f1, "train_f1": lab.base.train_f1},
        "probes": {name: trial.f1 for name, trial in lab.trials.items() if name.startswith("probe_")},
        "clips": {"development": len(lab.pool), "test": len(lab.test)},
        "folds": lab.fold_count,
        "passes": lab.passes,
        "trials": {name: trial.f1 for name, trial in lab.trials.items()},
        "preflight": [asdict(check) for check in preflight(lab)],
        "seconds": round(time.monotonic() - lab.started, 1),
    }
