"""Test sounds different from training: another microphone, level or file format."""

from __future__ import annotations

from typing import TYPE_CHECKING

import librosa
import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from audioclf.config import MelConfig
from audioclf.diagnose.held_out import in_split, score_test
from audioclf.diagnose.probe import Probe
from audioclf.diagnose.trial import Trial, effect, level_of, predict
from audioclf.diagnose.verdict import Gap, Limits, Numbers, Verdict, change_of
from audioclf.features.mel import POWER_FLOOR
from audioclf.features.normalise import scales
from audioclf.training.scores import FloatArray, IntArray

if TYPE_CHECKING:
    from audioclf.diagnose.lab import Lab

FOLDS = 5
APART = 0.85  # AUC from which test can be told from the rest: healthy up to 0.6, 20 dB quieter 0.92, low-passed 1.0
DEAF = 15.0  # a band this much weaker than the best one is named [dB]


class Shift(Probe):
    """A classifier that tells test from development by sound alone, whatever the class, shows that they differ.

    Whether that costs F1 is shown in two ways: test's bands brought to the training's mean and deviation, scored by the
    run's own weights (only the sounds change); and training that has heard half of test's recordings, scored on the
    other half. Both ways leave a wrong label map as it is where test sounds like training.
    """

    cause = "shift"
    title = "test sounds different from training"
    order = 25

    def examine(self, lab: Lab) -> Numbers:
        """Tells test from development; where that is easy, aligns test, and trains on half of it."""
        whole, test = lab.whole, lab.test
        is_test = in_split(lab, "test")
        auc, told = told_apart(lab.probe_columns("pooled", whole), is_test, whole.targets, whole.groups)
        lab.note("sounds_like_test", [float(value) for value in told])
        lab.note("band_db", band_levels(lab.spectrograms(lab.everything), lab.mel).tolist())
        bands = (band_levels(lab.spectrograms(part), lab.mel).mean(0) for part in (test, lab.pool))
        missing = next(bands) - next(bands)
        numbers: Numbers = {
            "nominated": bool(auc >= APART),
            "auc": auc,
            "band_hz": centres(lab.mel).round(1).tolist(),
            "band_db": missing.round(2).tolist(),
        }
        if numbers["nominated"]:
            zeros = np.zeros(len(test), dtype=np.int64)
            run = lab.keep(Trial("test_run", test, zeros, predict(lab.module, test.features)))
            matched = predict(lab.module, aligned(test.features, lab.pool.features))
            aligned_run = lab.keep(Trial("test_aligned", test, zeros, matched))
            before = score_test(lab, "test_from_development", ~is_test)
            after = score_test(lab, "test_from_half_of_test", np.ones_like(is_test), folds=2)
            level = level_of(2)
            numbers["aligned"], numbers["heard"] = effect(run, aligned_run, level), effect(before, after, level)
            numbers["effect"] = max(numbers["aligned"], numbers["heard"], key=lambda found: found["gain"])
        return numbers

    def judge(self, numbers: Numbers, gap: Gap, limits: Limits) -> Verdict:
        """By the better of the two repairs."""
        said = f"test is told from the other clips by sound with AUC {numbers['auc']:.2f} (0.5: not at all)"
        if not numbers["nominated"]:
            return self.cleared(numbers, said)
        aligned_by, heard = numbers["aligned"], numbers["heard"]
        evidence = [
            f"test's bands brought to the level of training's: {change_of(aligned_by)} on test",
            f"trained on half of test's recordings too, scored on the other half: {change_of(heard)}",
            *differences(numbers["band_hz"], numbers["band_db"]),
            said,
        ]
        mend = (
            "record, scale and encode test as training was (level, sample rate, file format), "
            "or put recordings like test's into training"
        )
        return self.convict(numbers, gap, limits, evidence, mend)


def told_apart(
    columns: FloatArray, is_test: np.ndarray, targets: IntArray, groups: list[str]
) -> tuple[float, FloatArray]:
    """How well test is told from the rest, out of fold by recordings; each class weighs the same on both sides.

    A domain classifier (Ben-David et al., "Analysis of representations for domain adaptation", 2006), weighted so
    that other class shares in test are no shift of the sounds.

    Args:
        columns: what it reads ``[N, D]``.
        is_test: bool ``[N]``.
        targets: classes ``[N]``; one that is on one side only has no weight.
        groups: recordings, N of them.

    Returns:
        Area under the ROC curve, 0.5 where they sound alike (and where there are too few recordings to tell), and
        each clip's decision value ``[N]``.
    """
    weight = np.zeros(len(columns))
    for target in np.unique(targets):
        sides = [(targets == target) & (is_test == side) for side in (False, True)]
        if all(side.any() for side in sides):
            for side in sides:
                weight[side] = 1 / side.sum()
    told = np.zeros(len(columns))
    names = np.asarray(groups)
    folds = min(FOLDS, len(np.unique(names[is_test])), len(np.unique(names[~is_test])))
    if folds < 2 or not weight.any():
        return 0.5, told
    weight *= len(weight) / weight.sum()
    for inside, outside in StratifiedGroupKFold(folds, shuffle=True, random_state=0).split(columns, is_test, names):
        counted = inside[weight[inside] > 0]
        if len(np.unique(is_test[counted])) == 2:
            model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=300))
            model.fit(columns[counted], is_test[counted], logisticregression__sample_weight=weight[counted])
            told[outside] = model.decision_function(columns[outside])
    return float(roc_auc_score(is_test, told, sample_weight=weight)), told


def aligned(features: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """Features ``[N, *shape]`` with the mean and standard deviation per band of others; labels are not used."""
    over = (0, features.ndim - 1) if features.ndim > 2 else (0,)
    mean, std = features.mean(over, keepdim=True), features.std(over, keepdim=True)
    return (features - mean) / scales(std, mean) * like.std(over, keepdim=True) + like.mean(over, keepdim=True)


def band_levels(features: torch.Tensor, config: MelConfig) -> FloatArray:
    """Mean level of each clip's bands ``[N, n_mels]``, in dB."""
    decibel = features if config.scale == "db" else 10 * features.clamp(min=POWER_FLOOR).log10()
    return np.asarray(decibel.double().mean(2).numpy())


def centres(config: MelConfig) -> FloatArray:
    """Centre frequency of each band ``[n_mels]``, in Hz."""
    top = config.f_max or config.sample_rate / 2
    return np.asarray(librosa.mel_frequencies(config.n_mels + 2, fmin=config.f_min, fmax=top)[1:-1])


def differences(hertz: list[float], decibel: list[float]) -> list[str]:
    """What test lacks, in words: bands that are much weaker than the best one, and the level of the rest."""
    difference = np.asarray(decibel)
    deaf = difference < difference.max() - DEAF
    rest = float(np.median(difference[~deaf]))
    sentences = [f"test is {abs(rest):.0f} dB {'quieter' if rest < 0 else 'louder'} than the other clips"]
    if deaf.any():
        low, high = np.asarray(hertz)[deaf][[0, -1]]
        weaker = float(np.median(difference[deaf]))
        sentences = [f"in test the bands from {low:.0f} to {high:.0f} Hz are {-weaker:.0f} dB weaker", *sentences]
    return sentences
