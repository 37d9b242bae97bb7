"""A comparison in plain sentences."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from audioclf.compare.axis import in_order, score_text, short_keys, value_text
from audioclf.compare.comparison import Comparison, Difference, Estimate, Setting
from audioclf.compare.warnings import listed

MANY = 5  # comparisons from which it is said that some intervals err
OTHER_KEYS = 3  # named at most, of those that a change leaves alone


def sentences(comparison: Comparison, rivals: Sequence[Setting]) -> tuple[list[str], list[str]]:
    """What the comparison says.

    Args:
        comparison: whose own sentences are not read.
        rivals: settings that are not told apart from the selected one on val, best first.

    Returns:
        What a change of one key from the baseline does, the largest change of each key first; and what follows: the
        selected setting with its test score, its rivals, and what it brings over the baseline on test.
    """
    words = _Words(comparison)
    return words.changes(), words.conclusions(rivals)


class _Words:
    """Sentences about the settings of one comparison."""

    def __init__(self, comparison: Comparison) -> None:
        self.comparison = comparison
        self.short = short_keys(comparison.keys)

    def changes(self) -> list[str]:
        """A sentence for each setting that differs from the baseline in one key; the largest change of each key first."""
        comparison, base = self.comparison, self.comparison.baseline
        first: list[str] = []
        others_of_key: list[str] = []
        for key in comparison.keys:
            changed = [s for s in comparison.settings if self._differing(s) == [key]]
            others = [k for k in comparison.keys if k != key]
            where = f" (at {self.name(base, others)})" if 0 < len(others) <= OTHER_KEYS else ""
            largest = max(changed, key=_size, default=None)
            for setting in sorted(changed, key=lambda s: in_order(s.values[key])):
                ours, theirs = self.name(setting, [key]), self.name(base, [key])
                sentence = self._difference(ours, theirs, setting.val_difference, "val", where)
                (first if setting is largest else others_of_key).append(sentence)
        return first + others_of_key

    def conclusions(self, rivals: Sequence[Setting]) -> list[str]:
        """What is selected, what it scores on test, and how sure that is."""
        comparison, best, base = self.comparison, self.comparison.selected, self.comparison.baseline
        found = []
        compared = len(comparison.settings) - 1
        unknown = compared and all(_unknown(s.val_difference) for s in comparison.settings if s is not base)
        if unknown or (not compared and len(best.runs) == 1):
            found.append("one seed: how much is noise cannot be told; add seed=0,1,2")
        name = f"selected on val: {self.name(best)}: " if compared else ""
        found.append(
            f"{name}val F1 {score_text(best.val.mean)}, test F1 {_with_interval(best.test)} "
            f"over {_repetitions(best)}; chance {score_text(comparison.chance)}"
        )
        if best.folds > 1:
            found.append(_cross_validated(best))
        if rivals and not unknown:
            names = [self.name(setting) for setting in rivals]
            found.append(
                f"not told apart on val from the selected setting ({len(rivals)} of {compared}): {listed(names)}"
            )
        if best is not base:
            found.append(
                self._difference(self.name(best), f"the baseline {self.name(base)}", best.test_difference, "test", "")
            )
        if compared >= MANY and not unknown:
            found.append(f"{compared} comparisons: of every 20 intervals, one is expected to miss the truth")
        return found

    def name(self, setting: Setting, keys: Sequence[str] | None = None) -> str:
        """``lr=1e-4 epochs=10``; of some keys alone where they are named."""
        chosen = self.comparison.keys if keys is None else keys
        return " ".join(f"{self.short[key]}={value_text(setting.values[key], 4)}" for key in chosen) or setting.label

    def _differing(self, setting: Setting) -> list[str]:
        return [k for k in self.comparison.keys if setting.values[k] != self.comparison.baseline.values[k]]

    def _difference(self, ours: str, theirs: str, found: Difference | None, split: str, where: str) -> str:
        if found is None:
            return f"{ours} against {theirs}{where}: no fold that both have"
        if found.verdict == "better":
            return f"{ours} beats {theirs} by {_gap(found.mean, found.low, found.high)} on {split}{where}"
        if found.verdict == "worse":
            return f"{ours} loses to {theirs} by {_gap(-found.mean, -found.high, -found.low)} on {split}{where}"
        if found.low == found.high == 0:
            return f"{ours} against {theirs}{where}: the same on {split}"
        if found.verdict == "unknown":
            return f"{ours} against {theirs}{where}: {_signed(found.mean)} on {split}; one seed, it may be noise"
        gap = f"{_signed(found.mean)} [{_close(found.low)}, {_close(found.high)}]"
        return f"{ours} against {theirs}{where}: within noise on {split}, {gap}{self._advice(found)}"

    def _advice(self, found: Difference) -> str:
        gap = _close(abs(found.mean))
        if found.more_seeds is not None:
            s = "s" if found.more_seeds > 1 else ""
            return f"; about {found.more_seeds} more seed{s} would settle a gap of {gap}"
        if all(setting.seeds == 1 for setting in self.comparison.settings):
            return "; more seeds would tell more"
        return f"; seeds alone would not settle a gap of {gap}" if found.mean else ""


def _cross_validated(setting: Setting) -> str:
    """Means over folds with the standard deviation between folds, as benchmarks report them."""

    def score(kind: str) -> str:
        by_fold: dict[int | None, list[float]] = {}
        for run in setting.runs:
            by_fold.setdefault(run.fold, []).append(getattr(run, kind))
        means = [float(np.mean(values)) for values in by_fold.values()]
        return f"{score_text(float(np.mean(means)))} ± {score_text(float(np.std(means, ddof=1)))}"

    return f"cross-validated over {setting.folds} folds: accuracy {score('accuracy')}, macro-F1 {score('test')} (sd over folds)"


def _repetitions(setting: Setting) -> str:
    """``3 seeds x 5 folds``; runs where folds have different seeds."""
    seeds, folds = setting.seeds, setting.folds
    if len(setting.runs) != seeds * folds:
        return f"{len(setting.runs)} runs"
    parts = [f"{seeds} seed{'s' if seeds > 1 else ''}"] + ([f"{folds} folds"] if folds > 1 else [])
    return " x ".join(parts)


def _size(setting: Setting) -> float:
    """How far a setting is from the baseline on val."""
    return abs(setting.val_difference.mean) if setting.val_difference is not None else -1.0


def _unknown(found: Difference | None) -> bool:
    return found is None or found.verdict == "unknown"


def _with_interval(found: Estimate) -> str:
    return f"{score_text(found.mean)} [{score_text(found.low)}, {score_text(found.high)}]"


def _gap(mean: float, low: float, high: float) -> str:
    return f"{_close(mean)} [{_close(low)}, {_close(high)}]"


def _close(value: float) -> str:
    """As :func:`score_text`, with more digits where two would read as nothing: ``.004``."""
    if value == 0 or abs(value) >= 0.005 or not math.isfinite(value):
        return score_text(value)
    sign, digits = "\N{MINUS SIGN}" if value < 0 else "", max(3, -math.floor(math.log10(abs(value))))
    return f"{sign}{abs(value):.{digits}f}".replace("0.", ".", 1)


def _signed(value: float) -> str:
    return ("+" if value > 0 else "") + _close(value)
