"""Test's labels are named differently from training's."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.optimize import linear_sum_assignment
from sklearn.model_selection import GroupKFold

from audioclf.diagnose import noise, reference
from audioclf.diagnose.pool import Pool
from audioclf.diagnose.probe import Probe
from audioclf.diagnose.trial import Trial, paired
from audioclf.diagnose.verdict import Gap, Limits, Numbers, Verdict
from audioclf.training.scores import IntArray, confusion_matrix, macro_f1

if TYPE_CHECKING:
    from audioclf.diagnose.lab import Lab

PARTS = 10  # of the test recordings: nine find the map, the tenth is scored
FEWEST = 8  # recordings
STAY = 0.5  # clips' worth of preference for a class's own name


class LabelMap(Probe):
    """A one-to-one renaming of the predicted classes, found on some test recordings, raises the score of the others."""

    cause = "label_map"
    title = "test's labels are named differently from training's"
    order = 20

    def examine(self, lab: Lab) -> Numbers:
        """Renames the run's predictions and a cheap probe's, cross-fitted over test recordings."""
        test = lab.test
        if len(set(test.groups)) < FEWEST:
            return {"recordings": len(set(test.groups))}
        kind, trial = noise.strongest(lab)
        columns = [lab.probe_columns(kind, pool) for pool in (lab.pool, test)]
        model = reference.classifier(columns[0].shape[1], len(lab.pool)).fit(columns[0], lab.pool.targets)
        guesses = {"run": lab.predicted(test), "probe": np.asarray(model.predict(columns[1]), dtype=np.int64)}
        lab.keep(Trial("test_probe", test, np.zeros(len(test), np.int64), np.eye(test.num_classes)[guesses["probe"]]))
        effects = {name: renamed_effect(test, guess, list(guesses.values())) for name, guess in guesses.items()}
        numbers: Numbers = {
            "recordings": len(set(test.groups)),
            "development": {"run": lab.base.f1, "probe": trial.f1},
            "effects": effects,
        }
        together = np.concatenate(list(guesses.values()))
        found = renaming(np.concatenate([test.targets] * len(guesses)), together, test.num_classes)
        numbers["renamed"] = [
            [test.classes[i], test.classes[j]]
            for i, j in enumerate(found)
            if i != j and i in together and j in test.targets
        ]
        return numbers

    def judge(self, numbers: Numbers, gap: Gap, limits: Limits) -> Verdict:
        """Convicted where the renamed predictions score on test about what they score on development clips."""
        if "effects" not in numbers:
            return self.undetermined(numbers, f"{numbers['recordings']} test recordings are too few to find a renaming")
        said, named = [], []
        for name, effect in numbers["effects"].items():
            development = numbers["development"][name]
            said.append(
                f"{'the run' if name == 'run' else 'a cheap probe'} scores F1 {effect['before']:.2f} on test and "
                f"{development:.2f} on development clips; with classes renamed {effect['after']:.2f} on other test "
                f"recordings ({effect['gain']:+.2f})"
            )
            if (
                effect["gain"] >= limits["gain"]
                and effect["low"] > 0
                and effect["after"] >= limits["returns"] * development
            ):
                named.append(name)
        if not named:
            return self.cleared(numbers, *said)
        effect = max((numbers["effects"][name] for name in named), key=lambda effect: effect["gain"])
        said.insert(
            0, f"a gain of {effect['gain']:.2f} [{effect['low']:.2f}, {effect['high']:.2f}] on test by renaming"
        )
        pairs = ", ".join(f"{ours} -> {theirs}" for ours, theirs in numbers["renamed"])
        advice = (
            f"make test's labels mean what training's mean; what sounds like the first is called the second: {pairs}"
        )
        return self.convict({**numbers, "effect": effect}, gap, limits, said, advice)


def renamed_effect(test: Pool, predicted: IntArray, guesses: list[IntArray]) -> Numbers:
    """Macro-F1 ``before`` and ``after`` renaming and the ``gain``; where there is one, with its interval."""
    renamed = cross_fitted(test, predicted, guesses)
    before, after = (macro_f1(test.targets, guess, test.num_classes) for guess in (predicted, renamed))
    if after <= before:
        return {"before": before, "after": after, "gain": after - before}
    return paired(test.targets, predicted, renamed, test.groups, test.num_classes)


def renaming(targets: IntArray, predicted: IntArray, num_classes: int) -> IntArray:
    """The class that each predicted one is called, one to one, that makes most clips right ``[K]``."""
    counts = confusion_matrix(targets, predicted, num_classes) + STAY * np.eye(num_classes)
    _, called = linear_sum_assignment(counts.T, maximize=True)
    return np.asarray(called, dtype=np.int64)


def cross_fitted(pool: Pool, predicted: IntArray, guesses: list[IntArray]) -> IntArray:
    """Predictions ``[N]``, renamed by what all guesses ``[N]`` say of the other recordings."""
    renamed = predicted.copy()
    cutter = GroupKFold(min(PARTS, len(set(pool.groups))))
    for others, part in cutter.split(predicted, pool.targets, pool.groups):
        targets = np.concatenate([pool.targets[others]] * len(guesses))
        found = renaming(targets, np.concatenate([guess[others] for guess in guesses]), pool.num_classes)
        renamed[part] = found[predicted[part]]
    return renamed
