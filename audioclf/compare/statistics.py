"""Means, intervals and differences of a score over seeds, folds and recordings.

A score varies for two reasons that cross one another: which recordings were in the split, and which seed (initial
weights, order of batches) the run had. The variance of a mean over n seeds is

    V = S / n + C

S is the variance between seeds, within folds and pooled over them. C is what all seeds share, because all are scored on
the same recordings: the bootstrap variance of their mean over recordings, less R / n, with R the part of S that
recordings make by meeting each seed differently. Drawing seeds *and* recordings, as a plain hierarchical bootstrap
does, counts R twice, and draws from 3 seeds as though there were no others (factor (n - 1) / n, and no t).

The interval is mean +- t(df) sqrt(V) with Satterthwaite's df = V^2 / ((S / n)^2 / df_S): few seeds widen it where seeds
matter. This is the analysis of multi-reader, multi-case studies: Obuchowski and Rockette (Commun. Stat. Simul. 24,
1995) with the degrees of freedom of Hillis (Stat. Med. 26, 2007); seeds are the readers, recordings the cases. Beyond
it, S enters V as max(S, R): two or three seeds agree by luck too often, and R is known from many recordings. It is most
of S in practice (Jordan, "On the variance of neural network training", 2023). tests/compare/test_statistics.py has
the coverage.

Where every fold has one run, folds take the seeds' place: S then holds seeds, recordings and training sets. Training
sets of folds overlap, so S is somewhat too small (Nadeau and Bengio, Mach. Learn. 52, 2003). Where folds have several
seeds, the training sets are taken as they are.

No library at hand has this: ``scipy.stats.bootstrap`` and ``arch`` draw one kind of thing, statsmodels has no scores
that are not sums over clips; MRMCaov has it, for R. The t quantiles are SciPy's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from audioclf.compare.comparison import Difference, Estimate, FloatArray
from audioclf.compare.read import Repetition
from audioclf.training.scores import LEVEL

POWER = 0.8  # share of repetitions in which the seeds that are advised would settle a gap that is there
MOST_SEEDS = 1000  # more are never advised
FEWEST_FOLDS = 3  # that tell noise with one seed


@dataclass(frozen=True)
class Sample:
    """One score of the runs of a setting.

    Attributes:
        repetitions: fold and seed of each run, n of them.
        values: the score ``[n]``.
        draws: the same on each draw of recordings ``[n, DRAWS]``; the draws are the same for all runs.
    """

    repetitions: list[Repetition]
    values: FloatArray
    draws: FloatArray

    def take(self, repetitions: Sequence[Repetition]) -> Sample:
        """The runs of some repetitions, in that order."""
        rows = [self.repetitions.index(one) for one in repetitions]
        return Sample(list(repetitions), self.values[rows], self.draws[rows])


@dataclass(frozen=True)
class _Noise:
    """What a mean's interval is made of.

    Attributes:
        seeds: variance of the mean from seed to seed, max(S, R) / n; 0 where it is unknown.
        measured: S / n; ``df`` its degrees of freedom, 0 where it is unknown.
        recordings: variance that more seeds do not lessen, C.
        spread: standard deviation between runs, sqrt(S).
    """

    seeds: float
    measured: float
    df: float
    recordings: float
    spread: float = math.nan

    def half_width(self, probability: float = (1 + LEVEL) / 2) -> float:
        """t(df) sqrt(V), the quantile at ``probability``."""
        variance = self.seeds + self.recordings
        if variance == 0:
            return 0.0
        df = math.inf if self.measured == 0 else variance**2 / (self.measured**2 / self.df)
        return float(stats.t.ppf(probability, df)) * math.sqrt(variance)

    def with_seeds(self, seeds: int, instead_of: float) -> _Noise:
        """The same with another number of seeds in each fold."""
        fewer, df = instead_of / seeds, self.df * (seeds - 1) / (instead_of - 1)
        return _Noise(self.seeds * fewer, self.measured * fewer, df, self.recordings, self.spread)


def estimate(sample: Sample, bounds: tuple[float, float] = (0.0, 1.0)) -> Estimate:
    """Mean over folds of the mean over seeds, with sd and 95 % interval.

    With a single run the interval holds the recordings alone, and sd is NaN.

    Args:
        sample: the score of each run.
        bounds: the score's range, which the interval does not leave.
    """
    mean = _mean(sample.values, sample.repetitions)
    noise = _noise([sample], _mean(sample.draws.T, sample.repetitions))
    low, high = _interval(mean, noise, bounds)
    return Estimate(float(mean), noise.spread, low, high, len(sample.values))


def difference(setting: Sample, baseline: Sample) -> Difference | None:
    """A setting less the baseline, in the folds that both have.

    Runs of the same fold and seed are paired. Where too few are, but both sides have seeds enough to know their own
    noise, the seeds are taken as independent; the recordings are the same either way. None where no fold is shared.
    """
    pairs = [one for one in setting.repetitions if one in set(baseline.repetitions)]
    folds = {fold for fold, _ in setting.repetitions} & {fold for fold, _ in baseline.repetitions}
    if not folds:
        return None
    ours, theirs = (s.take([one for one in s.repetitions if one[0] in folds]) for s in (setting, baseline))
    if pairs and (tells_noise(pairs) or not (tells_noise(ours.repetitions) and tells_noise(theirs.repetitions))):
        a, b = setting.take(pairs), baseline.take(pairs)
        parts = [Sample(pairs, a.values - b.values, a.draws - b.draws)]
        mean, draws = _mean(parts[0].values, pairs), _mean(parts[0].draws.T, pairs)
    else:
        pairs, parts = [], [ours, theirs]
        mean = _mean(ours.values, ours.repetitions) - _mean(theirs.values, theirs.repetitions)
        draws = _mean(ours.draws.T, ours.repetitions) - _mean(theirs.draws.T, theirs.repetitions)
    known = all(tells_noise(part.repetitions) for part in parts)
    noise = _noise(parts, draws)
    low, high = _interval(mean, noise, (-1.0, 1.0))
    value = float(mean)
    if not known:
        return Difference(value, low, high, len(pairs), "unknown")
    if low > 0 or high < 0:
        return Difference(value, low, high, len(pairs), "better" if low > 0 else "worse")
    seeds = min(len(part.values) / _folds(part.repetitions) for part in parts)
    return Difference(value, low, high, len(pairs), "noise", _more_seeds(value, noise, seeds))


def _mean(values: FloatArray, repetitions: Sequence[Repetition]) -> FloatArray:
    """Mean over folds of the mean over seeds, of the last axis."""
    member = _membership(repetitions)
    return np.asarray((values @ member.T / member.sum(1)).mean(-1))


def _noise(parts: Sequence[Sample], mean_draws: FloatArray) -> _Noise:
    """Noise of the mean of one sample, or of the difference of the means of two.

    Args:
        parts: the samples.
        mean_draws: the mean, or the difference, on each draw.
    """
    seeds = measured = shared = squares = 0.0
    spread = math.nan
    for part in parts:
        member = _membership(part.repetitions)
        if (member.sum(1) == 1).all():  # one run in each fold: folds take the seeds' place
            member = np.ones((1, len(part.values)))
        df = int(member.sum() - len(member))
        if df == 0:
            continue
        weight = float((1 / _membership(part.repetitions).sum(1)).mean()) / _folds(part.repetitions)  # S -> S / n
        between = float(_variance_within(part.values, member, df))
        by_recordings = float(_variance_within((part.draws - part.draws.mean(1, keepdims=True)).T, member, df).mean())
        seeds += max(between, by_recordings) * weight
        measured += between * weight
        squares += (between * weight) ** 2 / df
        shared += by_recordings * weight
        spread = math.sqrt(between)
    recordings = max(float(mean_draws.var()) - shared, 0.0)
    return _Noise(seeds, measured, measured**2 / squares if squares else 0.0, recordings, spread)


def _variance_within(values: FloatArray, member: FloatArray, df: int) -> FloatArray:
    """Variance of the last axis within the rows of ``member``, pooled."""
    means = (values @ member.T / member.sum(1)) @ member
    return np.asarray(((values - means) ** 2).sum(-1) / df)


def _membership(repetitions: Sequence[Repetition]) -> FloatArray:
    """``[folds, n]`` with a 1 where a run is of a fold."""
    folds = [fold for fold, _ in repetitions]
    return np.array([[float(fold == one) for fold in folds] for one in dict.fromkeys(folds)])


def _folds(repetitions: Sequence[Repetition]) -> int:
    return len({fold for fold, _ in repetitions})


def tells_noise(repetitions: Sequence[Repetition]) -> bool:
    """Whether runs show how much is noise: there are two of a fold, or one of each of three folds."""
    folds = _folds(repetitions)
    return len(repetitions) > folds or folds >= FEWEST_FOLDS


def _interval(mean: FloatArray, noise: _Noise, bounds: tuple[float, float]) -> tuple[float, float]:
    half = noise.half_width()
    return max(float(mean) - half, bounds[0]), min(float(mean) + half, bounds[1])


def _more_seeds(gap: float, noise: _Noise, seeds: float) -> int | None:
    """How many more seeds in each fold would settle a gap of this size in :data:`POWER` of repetitions, or None."""
    if seeds <= 1 or gap == 0 or noise.seeds == 0:
        return None

    def settles(number: int) -> bool:
        then = noise.with_seeds(number, seeds)
        return then.half_width() + then.half_width(POWER) <= abs(gap)

    if not settles(MOST_SEEDS):
        return None
    few, enough = math.ceil(seeds), MOST_SEEDS
    while enough - few > 1:
        middle = (few + enough) // 2
        few, enough = (few, middle) if settles(middle) else (middle, enough)
    return max(enough - math.floor(seeds), 1)
