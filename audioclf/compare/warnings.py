"""What a person must know before believing a comparison."""

from __future__ import annotations

from collections.abc import Sequence

from audioclf.compare.axis import is_number, short_keys, short_text, value_text
from audioclf.compare.comparison import Setting
from audioclf.compare.study import Study

SEEDS = 3  # fewer do not tell noise well
SHOWN = 3  # of a list, in a sentence


def warnings(study: Study, keys: Sequence[str], ranked: Sequence[Setting]) -> list[str]:
    """One sentence for each thing that weakens the comparison, the weightiest first.

    Args:
        study: the runs.
        keys: that vary.
        ranked: the settings, best val F1 first.
    """
    return [
        *_data(study, keys),
        *_failed(study),
        *_diverged(keys, ranked),
        *_at_chance(study, keys, ranked),
        *_repetitions(ranked),
        *([] if study.pruned else _edges(keys, ranked)),  # a search looked beyond, and gave up what it found there
    ]


def listed(words: Sequence[str], shown: int = SHOWN) -> str:
    """``a; b; c and 4 more``."""
    more = len(words) - shown
    return "; ".join(words[:shown]) + (f" and {more} more" if more > 0 else "")


def _data(study: Study, keys: Sequence[str]) -> list[str]:
    found = []
    if any(run.synthetic for run in study.runs):
        found.append("SYNTHETIC recordings: for trying things out, not for conclusions")
    if leaky := sum(run.leaky for run in study.runs):
        found.append(
            f"LEAKY: in {leaky} of {len(study.runs)} runs recordings sit in several splits; their F1 is too high"
        )
    if changed := [key for key in keys if key.startswith("data.")]:
        found.append(f"settings differ in {', '.join(changed)}: they may have been scored on different clips")
    return found


def _failed(study: Study) -> list[str]:
    if not study.failed:
        return []
    names = [f"{name}: {error.splitlines()[0] if error else ''}" for name, error in study.failed]
    return [f"{len(names)} {_runs(len(names))} failed, not counted: {listed(names)}"]


def _diverged(keys: Sequence[str], ranked: Sequence[Setting]) -> list[str]:
    counts = [(sum(run.diverged for run in setting.runs), setting) for setting in ranked]
    names = [f"{_name(setting, keys)} ({count} of {len(setting.runs)})" for count, setting in counts if count]
    total = sum(count for count, _ in counts)
    return [f"{total} {_runs(total)} diverged and count all the same: {listed(names)}"] if total else []


def _at_chance(study: Study, keys: Sequence[str], ranked: Sequence[Setting]) -> list[str]:
    """Settings of which no run does better than its chance floor: there the spread of seeds is no noise of learning."""
    floor = {run.row.folder: run.chance for run in study.runs}
    lost = [_name(s, keys) for s in ranked if all(run.test <= floor[run.folder] for run in s.runs)]
    if not lost:
        return []
    what = "a setting" if len(lost) == 1 else f"{len(lost)} settings"
    return [f"no run of {what} scores above its chance floor on test: {listed(lost)}"]


def _repetitions(ranked: Sequence[Setting]) -> list[str]:
    found = []
    most = max(setting.seeds for setting in ranked)
    if most < SEEDS and (most > 1 or any(setting.folds > 1 for setting in ranked)):  # else a sentence says it
        found.append(f"{most} seed{'s' if most > 1 else ''}: fewer than {SEEDS} tell noise badly; add seed=0,1,2")
    have = {setting.label: {(run.fold, run.seed) for run in setting.runs} for setting in ranked}
    if len({frozenset(one) for one in have.values()}) > 1:
        counts = sorted({len(one) for one in have.values()})
        runs = f"from {counts[0]} to {counts[-1]} runs" if len(counts) > 1 else "the same number of runs"
        folds = len({frozenset(fold for fold, _ in one) for one in have.values()}) > 1
        found.append(
            f"settings have {runs}, not all of the same {'folds and ' if folds else ''}seeds: "
            "differences use what both sides have"
        )
    return found


def _edges(keys: Sequence[str], ranked: Sequence[Setting]) -> list[str]:
    """Where the selected value is the last of its axis, a better one may lie beyond."""
    found = []
    for key, name in short_keys(keys).items():
        values = {setting.values[key] for setting in ranked}
        best = ranked[0].values[key]
        if len(values) < 2 or not all(is_number(value) for value in values):
            continue
        if best == min(values):
            found.append(f"{name}={value_text(best)} is the lowest of the sweep: add lower ones")
        elif best == max(values):
            found.append(f"{name}={value_text(best)} is the highest of the sweep: add higher ones")
    return found


def _name(setting: Setting, keys: Sequence[str]) -> str:
    """The setting as the sentences name it: ``lr=1e-4 n_mels=64``."""
    return short_text(setting, keys, short_keys(keys)) or setting.label


def _runs(count: int) -> str:
    return "run" if count == 1 else "runs"
