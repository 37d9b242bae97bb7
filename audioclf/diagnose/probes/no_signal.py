"""The labels have nothing to do with the sounds."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from audioclf.diagnose import reference
from audioclf.diagnose.pool import Pool
from audioclf.diagnose.probe import Probe
from audioclf.diagnose.trial import Trial, known
from audioclf.diagnose.verdict import Gap, Limits, Numbers, Verdict
from audioclf.training.scores import FloatArray, IntArray

if TYPE_CHECKING:
    from audioclf.diagnose.lab import Lab

FEW = 200  # development clips below which test is looked at, too
PERMUTATIONS = 5, 19  # a first look; where it does not decide, in all
CLEAR = 6.0  # standard deviations above permuted labels that need no second look


class NoSignal(Probe):
    """A label permutation test (Ojala and Garriga, 2010): do cheap probes learn more from the labels than from shuffled ones?"""

    cause = "no_signal"
    title = "the labels have nothing to do with the sounds"
    order = 10

    def examine(self, lab: Lab) -> Numbers:
        """Trains the cheap probes on permuted labels, the next probe only where the first found nothing."""
        pool = lab.pool if len(lab.pool) >= FEW else lab.whole
        tests: dict[str, Numbers] = {}
        for kind in ("pooled", "audio"):
            tests[kind] = permutation_test(lab, lab.cheap(kind, pool), lab.probe_columns(kind, pool))
            if tests[kind]["deviations"] >= CLEAR:
                break
        clips = int(known(pool, lab.cheap("pooled", pool).fold).sum())
        return {"clips": clips, "classes": pool.num_classes, "tests": tests}

    def judge(self, numbers: Numbers, gap: Gap, limits: Limits) -> Verdict:
        """Convicted only where there were clips enough and no probe did better than on permuted labels."""
        tests = numbers["tests"]
        best = max(tests.values(), key=lambda test: test["deviations"])
        evidence = [
            f"a cheap probe of the {'audio' if kind == 'audio' else 'features'} scores F1 {test['f1']:.2f}, "
            f"on permuted labels {test['permuted']:.2f} (at most {test['highest']:.2f} of {test['permutations']}): "
            + (
                f"p = {test['p']:.2f}"
                if test["permutations"] >= PERMUTATIONS[-1]
                else f"{test['deviations']:.0f} standard deviations"
            )
            for kind, test in tests.items()
        ]
        if best["deviations"] >= limits["deviations"]:
            return self.cleared(numbers, *evidence)
        nothing = all(
            test["p"] > limits["p"] and test["f1"] - test["permuted"] < limits["excess"] for test in tests.values()
        )
        if numbers["clips"] >= limits["clips"] and nothing:
            advice = "check the table: do the links, the start times and the labels belong together?"
            return Verdict(self.cause, "explains", 1.0, None, evidence, advice, numbers)
        return self.undetermined(
            numbers, *evidence, f"{numbers['clips']} clips of classes with other recordings cannot decide it"
        )


def permutation_test(lab: Lab, trial: Trial, columns: FloatArray) -> Numbers:
    """A cheap probe against itself on permuted labels.

    Args:
        lab: keeps the trials on permuted labels.
        trial: the probe's, on the given labels.
        columns: what it reads ``[N, D]``.

    Returns:
        ``f1``; ``permuted``, mean on permuted labels; ``highest`` of them; ``deviations``, how many standard
        deviations the given labels are above; ``p``; ``permutations``.
    """
    rng = np.random.default_rng(0)
    scores: list[float] = []
    deviations = 0.0
    for most in PERMUTATIONS:
        while len(scores) < most:
            pool = replace(trial.pool, targets=permuted(trial.pool, rng))
            name = f"{trial.name}_permuted_{len(scores) + 1}"
            scores.append(lab.keep(reference.score_probe(name, columns, pool, trial.fold)).f1)
        deviations = (trial.f1 - float(np.mean(scores))) / max(float(np.std(scores, ddof=1)), 1e-3)
        if deviations >= CLEAR:
            break
    return {
        "f1": trial.f1,
        "permuted": float(np.mean(scores)),
        "highest": float(max(scores)),
        "deviations": deviations,
        "p": (1 + sum(score >= trial.f1 for score in scores)) / (1 + len(scores)),
        "permutations": len(scores),
    }


def permuted(pool: Pool, rng: np.random.Generator) -> IntArray:
    """Labels ``[N]`` dealt anew in whole runs of a recording, so that recordings stay (nearly) of one class."""
    _, group = np.unique(np.asarray(pool.groups), return_inverse=True)
    there, dealt = (np.argsort(rng.permutation(group.max() + 1)[group], kind="stable") for _ in range(2))
    labels = np.empty_like(pool.targets)
    labels[there] = pool.targets[dealt]
    return labels
