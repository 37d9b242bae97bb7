"""From the folders of runs to a comparison: which setting is best on val, by how much, and what it is worth on test."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from audioclf.compare.axis import short_keys
from audioclf.compare.comparison import Comparison, Setting
from audioclf.compare.importance import importance
from audioclf.compare.sentences import sentences
from audioclf.compare.settings import choose_baseline, group, labels, varying_keys
from audioclf.compare.statistics import difference
from audioclf.compare.study import read_study
from audioclf.compare.warnings import warnings


def compare(folders: Sequence[Path], baseline: Mapping[str, str] | None = None) -> Comparison:
    """Compares the finished runs below folders; trains nothing.

    Selection, and the order of the settings, look at val alone.

    Args:
        folders: each a run, a sweep's folder, or a folder of runs.
        baseline: keys and values, as on a command line, of the setting that the others are compared with. By default
            the first setting of a sweep; without a sweep the one with most runs, and of those the one with the lowest
            values.

    Raises:
        UserError: nothing can be compared, or no setting has the baseline's values.
    """
    study = read_study(folders)
    keys = varying_keys(study.runs, study.keys)
    groups = group(study, keys)
    base = choose_baseline(groups, study, baseline or {})
    of_label = dict(zip(labels(groups), groups, strict=True))
    settings = {label: one.setting(label, base) for label, one in of_label.items()}
    ranked = sorted(settings.values(), key=lambda setting: (-setting.val.mean, of_label[setting.label].order))
    selected = ranked[0]
    best = of_label[selected.label]
    comparison = Comparison(
        title=_title(study.runs[0].data, keys, ranked),
        data=study.runs[0].data,
        keys=keys,
        settings=ranked,
        selected=selected,
        baseline=next(setting for label, setting in settings.items() if of_label[label] is base),
        sentences=[],
        warnings=warnings(study, keys, ranked),
        passed_over=study.passed_over,
        classes=list(study.runs[0].classes),
        class_scores=best.class_scores(),
        baseline_class_scores=base.class_scores(),
        confusion=best.confusion(),
        chance=float(np.mean([run.chance for run in best.runs])),
        importance=importance(ranked),
    )
    to_best = {setting.label: difference(best.val, of_label[setting.label].val) for setting in ranked[1:]}
    rivals = [s for s in ranked[1:] if (found := to_best[s.label]) is None or found.verdict in ("noise", "unknown")]
    changes, conclusions = sentences(comparison, rivals)
    return replace(comparison, sentences=changes + conclusions, changes=len(changes))


def _title(data: str, keys: Sequence[str], settings: Sequence[Setting]) -> str:
    """``36 runs of esc10: lr x epochs, 3 seeds``."""
    runs = sum(len(setting.runs) for setting in settings)
    seeds = len({run.seed for setting in settings for run in setting.runs})
    folds = len({run.fold for setting in settings for run in setting.runs})
    of_each = [f"{seeds} seed{'s' if seeds > 1 else ''}"] + ([f"{folds} folds"] if folds > 1 else [])
    names = " x ".join(short_keys(keys).values())
    return f"{runs} run{'s' if runs > 1 else ''} of {data}: {names + ', ' if names else ''}{' x '.join(of_each)}"
