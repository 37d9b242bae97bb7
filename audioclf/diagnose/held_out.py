"""Retrainings that are scored on the run's own test clips, when the question is what else could be learnt from."""

from __future__ import annotations

from typing import Literal

import numpy as np

from audioclf.data import epoch_seed
from audioclf.diagnose.lab import Lab
from audioclf.diagnose.pool import Pool
from audioclf.diagnose.reference import classifier
from audioclf.diagnose.repair import Repair
from audioclf.diagnose.trial import Recipe, Trial, effect, folds_of, predict, train_once
from audioclf.diagnose.verdict import Numbers
from audioclf.training.scores import FloatArray, IntArray

Learner = Literal["network", "probe"]
LEARNERS: dict[Learner, str] = {"network": "the run's setting", "probe": "a support vector machine on pooled features"}
"""What is trained, in words (:mod:`audioclf.diagnose.reference`)."""

HIDDEN, LEAKY_FOLDS = 0.1, 4  # of the other clips share a recording with test: test is cut into so many parts at least


def score_test(
    lab: Lab,
    name: str,
    allowed: np.ndarray,
    *,
    learner: Learner = "network",
    folds: int = 1,
    repeats: int = 1,
    overrides: Repair | None = None,
) -> Trial:
    """Trains on some of all clips and scores test, each recording of it by a model that has not seen it.

    Args:
        lab: the bench.
        name: of the trial, which is written down; made once.
        allowed: which clips of ``lab.whole`` may be trained on, bool ``[N]``; test clips among them are, while the
            other folds of test are scored.
        learner: what is trained.
        folds: parts that test is cut into, by recordings; more where test shares many with the other splits.
        repeats: trainings with other seeds; each scores all of test.
        overrides: what is changed of the run's setting (of a network).

    Returns:
        A trial of the test clips, one repeat after another, so that an interval over recordings draws all repeats of
        a clip together.

    Raises:
        OutOfTime: it would not end within the budget.
    """
    if name in lab.trials:
        return lab.trials[name]
    whole, test, config = lab.whole, lab.test, Recipe(name, overrides or {}).config(lab.config)
    groups, places = np.asarray(whole.groups), np.flatnonzero(np.asarray(whole.split) == "test")
    rest = ~np.isin(np.arange(len(whole)), places)
    if np.isin(groups[rest], groups[places]).mean() >= HIDDEN:  # leaks: leave out a part of the rest at a time
        folds = max(folds, LEAKY_FOLDS)
    fold = folds_of(test, folds) if folds > 1 else np.zeros(len(test), dtype=np.int64)
    if learner == "network":
        steps = lab.config.epochs * -(-int(allowed.sum()) // lab.config.batch_size)
        lab.afford(name, repeats * folds * steps * lab.step_s)
    logits = np.zeros((repeats, len(test), whole.num_classes))
    for repeat in range(repeats):
        for number in sorted(set(fold.tolist())):
            here = fold == number
            inside = np.flatnonzero(allowed & ~np.isin(groups, groups[places[here]]))
            if len(inside) == 0:
                continue
            if learner == "network":
                seed = epoch_seed(lab.config.seed, 2_000_000 + 1000 * repeat + number) % 2**31
                module = train_once(config, whole, inside, whole.targets, seed)
                logits[repeat, here] = predict(module, test.features[here])
            else:
                columns = lab.probe_columns("pooled", whole)
                logits[repeat, here] = read(columns[inside], whole.targets[inside], columns[places[here]], whole)
    repeated = test.take(np.tile(np.arange(len(test)), repeats))
    found = np.nan_to_num(logits.reshape(-1, whole.num_classes), posinf=1e30, neginf=-1e30)
    return lab.keep(Trial(name, repeated, np.tile(fold, repeats), found))


def lend(lab: Lab, name: str, lent: np.ndarray, *, folds: int, repeats: int, level: float) -> Numbers:
    """What more clips would give: trains with clips of val and test that are lent to the training split, and without.

    Args:
        lab: the bench.
        name: of the trials.
        lent: clips of ``lab.whole`` that are lent, bool ``[N]``.
        folds: parts of test; each is scored with the others lent.
        repeats: of the network.
        level: of the interval: the surer of two effects is taken.

    Returns:
        ``effect`` on test, by the run's setting or by the cheap probe, whichever shows it more surely; ``learner``:
        which of them.
    """
    train = in_split(lab, "train")
    found: dict[Learner, Numbers] = {}
    for learner in LEARNERS:
        turns = repeats if learner == "network" else 1
        before = score_test(lab, f"test_from_train_{learner}_{turns}", train, learner=learner, repeats=turns)
        after = score_test(lab, f"{name}_{learner}", train | lent, learner=learner, folds=folds, repeats=turns)
        found[learner] = effect(before, after, level)
    best = max(LEARNERS, key=lambda learner: found[learner]["low"])
    return {"effect": found[best], "learner": LEARNERS[best]}


def in_split(lab: Lab, *names: str) -> np.ndarray:
    """Which clips of ``lab.whole`` are in a split, bool ``[N]``."""
    return np.isin(lab.whole.split, names)


def read(columns: FloatArray, targets: IntArray, others: FloatArray, pool: Pool) -> FloatArray:
    """What a cheap probe that is trained on some clips' columns ``[N, D]`` predicts for others, one-hot ``[M, K]``."""
    if len(np.unique(targets)) < 2:
        return np.zeros((len(others), pool.num_classes))
    model = classifier(columns.shape[1], len(columns)).fit(columns, targets)
    return np.asarray(np.eye(pool.num_classes)[model.predict(others)])
