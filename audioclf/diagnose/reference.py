"""Cheap probes: what scikit-learn reads from the same clips and folds, so that a network's F1 has something to be held to."""

from __future__ import annotations

import numpy as np
import torch
from sklearn.decomposition import PCA
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from audioclf.config import Axes
from audioclf.diagnose.pool import Pool
from audioclf.diagnose.trial import Recipe, Trial
from audioclf.training.scores import FloatArray, IntArray

COMPONENTS = 100  # of the flattened features


def pooled(features: torch.Tensor, axes: Axes = ("band", "time")) -> FloatArray:
    """Each band's mean, standard deviation and mean step between frames over time, ``[N, 3 n_mels]``.

    Features without a time axis are taken as they are.
    """
    if axes[-1] != "time" or features.shape[-1] < 2:
        return np.asarray(features.flatten(1).double().numpy())
    flat = features.flatten(1, -2).double()
    steps = flat.diff(dim=-1).abs().mean(-1)
    return np.asarray(torch.cat([flat.mean(-1), flat.std(-1), steps], 1).numpy())


def flattened(features: torch.Tensor) -> FloatArray:
    """What the network sees, ``[N, D]``."""
    return np.asarray(features.flatten(1).numpy())


def classifier(columns: int, clips: int) -> SVC:
    """An RBF support vector machine on standardised columns; many columns are reduced first (PCA)."""
    steps = [StandardScaler()]
    if columns > COMPONENTS * 3:
        steps.append(PCA(min(COMPONENTS, clips - 1), svd_solver="randomized", random_state=0))
    return make_pipeline(*steps, SVC(C=10.0, gamma="scale", class_weight="balanced"))


def score_probe(
    name: str,
    columns: FloatArray,
    pool: Pool,
    fold: IntArray,
    labels: IntArray | None = None,
    train_on: np.ndarray | None = None,
) -> Trial:
    """A cheap probe's trial.

    Args:
        name: of the trial.
        columns: what the probe reads ``[N, D]``.
        pool: the clips.
        fold: the cut that each clip is held out in.
        labels: other labels to train on; None: the given ones.
        train_on: which clips may be trained on, bool ``[N]``; None: all.
    """
    learnt = pool.targets if labels is None else labels
    allowed = np.ones(len(pool), dtype=bool) if train_on is None else train_on
    logits: FloatArray = np.full((len(pool), pool.num_classes), -1e6)
    train: list[float] = []
    for number in sorted(set(fold.tolist())):
        inside, outside = np.flatnonzero((fold != number) & allowed), np.flatnonzero(fold == number)
        known = np.unique(learnt[inside])
        if len(known) < 2:
            logits[np.ix_(outside, known)] = 0.0
            continue
        model = classifier(columns.shape[1], len(inside)).fit(columns[inside], learnt[inside])
        scores = model.decision_function(columns[outside])
        if len(known) == 2:
            scores = np.stack([-scores, scores], 1)
        logits[np.ix_(outside, known)] = scores
        train.append(float((model.predict(columns[inside]) == learnt[inside]).mean()))
    recipe = Recipe(name, train_labels=labels, train_on=train_on)
    return Trial(name, pool, fold, logits, float(np.mean(train)) if train else float("nan"), recipe=recipe)
