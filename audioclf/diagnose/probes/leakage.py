"""Recordings sit in train and in test: the F1 is too high."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

import numpy as np

from audioclf.data import epoch_seed
from audioclf.diagnose.probe import Probe
from audioclf.diagnose.reference import classifier
from audioclf.diagnose.trial import Trial, folds_of, paired, predict, train_once
from audioclf.diagnose.verdict import Gap, Limits, Numbers, Status, Verdict
from audioclf.training.scores import IntArray, macro_f1

if TYPE_CHECKING:
    from audioclf.diagnose.lab import Lab

SMALLEST = 0.03  # share of the test clips: fewer cannot raise F1 by what counts
FOLDS = 3
SHOWN = 5


class Leakage(Probe):
    """Trains again without what test shares with train: what the F1 loses is not knowledge of new recordings."""

    cause = "leakage"
    title = "recordings sit in train and in test"
    order = 15

    def examine(self, lab: Lab) -> Numbers:
        """Looks for recordings on both sides, and measures what they add to the F1 of test."""
        everything, recording = lab.everything, lab.recordings
        split = np.array(everything.split)
        of = {name: {recording[i] for i in np.flatnonzero(split == name)} for name in ("train", "val", "test")}
        known = np.array([name in of["train"] for name in lab.test.groups])
        foreign = [(i, j) for i, j in lab.twins if split[i] != split[j]]
        lab.note("recording", recording)
        lab.note(
            "in_train", [part != "train" and name in of["train"] for part, name in zip(split, recording, strict=True)]
        )
        predicted = lab.predicted(lab.test)
        numbers: Numbers = {
            "marked": bool(lab.run.result["data"]["leaky"]),
            "reported": float(lab.run.result["test"]["f1_macro"]),
            "test_clips": len(lab.test),
            "with_twin": int(known.sum()),
            "val_with_twin": sum(recording[i] in of["train"] for i in np.flatnonzero(split == "val")),
            "pairs": len(lab.twins),
            "pairs_across": len(foreign),
            "examples": [[everything.ids[i], everything.ids[j]] for i, j in foreign[:SHOWN]],
            "nominated": float(known.mean()) >= SMALLEST,
        }
        for name, some in (("f1_with", known), ("f1_without", ~known)):
            numbers[name] = macro_f1(lab.test.targets[some], predicted[some], lab.test.num_classes)
        if numbers["nominated"]:
            numbers["probe_inflation"] = inflation(lab, "probe")
            numbers["inflation"] = inflation(lab, "network")
            numbers["honest"] = numbers["reported"] - numbers["inflation"]["gain"]
        return numbers

    def judge(self, numbers: Numbers, gap: Gap, limits: Limits) -> Verdict:
        """By what the twins of the test clips add: the share is of what the reported F1 has above chance."""
        marked = " (the run is marked leaky)" if numbers["marked"] else ""
        said = f"{numbers['with_twin']} of {numbers['test_clips']} test clips share a recording with train{marked}"
        if not numbers["nominated"]:
            evidence = [said]
            if numbers["val_with_twin"]:
                evidence.append(f"{numbers['val_with_twin']} clips of val do: its F1 is too high")
            return self.cleared(numbers, *evidence)
        found, read = numbers["inflation"], numbers["probe_inflation"]
        above = max(numbers["reported"] - gap.chance, 1e-9)
        share, low, high = (float(np.clip(found[key] / above, -1, 1)) for key in ("gain", "low", "high"))
        evidence = [_said("this setting", found), _said("the cheap probe", read), said]
        if numbers["examples"]:
            evidence.append("e.g. {} and {} share sound".format(*numbers["examples"][0]))
        known = numbers["with_twin"] / numbers["test_clips"]
        status: Status
        if _proven(found, limits) and share >= limits["contributes"]:
            status = "explains" if share >= limits["explains"] else "contributes"
            first = f"the reported F1 of {numbers['reported']:.2f} is too high: on new recordings about {numbers['honest']:.2f}"
        elif _proven(read, limits) or known >= limits["certain"]:
            status = "contributes"
            first = f"the reported F1 of {numbers['reported']:.2f} is no F1 of new recordings, though twins add little to it"
        else:
            status = "undetermined" if known >= limits["many"] else "cleared"
            return Verdict(self.cause, status, share, (low, high), evidence, None, numbers)
        mend = (
            "give the clips of one recording one group (the table's column group; the column recording of "
            "diagnosis/clips.parquet has it) and train again with data.allow_leak=false"
        )
        return Verdict(self.cause, status, share, (low, high), [first, *evidence], mend, numbers)


def _proven(found: Mapping[str, float], limits: Limits) -> bool:
    return found["gain"] >= limits["least_gain"] and found["low"] > 0


def _said(who: str, found: Mapping[str, float]) -> str:
    return (
        f"{who}: F1 {found['before']:.2f} trained without what test shares, {found['after']:.2f} without as many other "
        f"clips, {found['gain']:+.2f} [{found['low']:+.2f}, {found['high']:+.2f}]"
    )


def inflation(lab: Lab, learner: Literal["network", "probe"]) -> Numbers:
    """What the twins of the test clips add to the F1 of test, paired over its clips.

    Test is cut into folds of recordings, and each fold is scored by a model that was not given its twins (``before``):
    so only a part of train is left out at a time. The control (``after``) loses as many clips of each class, whole
    recordings again.

    Args:
        lab: the run.
        learner: its own setting, or the cheap probe, which learns recordings more readily.
    """
    test, whole = lab.test, lab.whole
    folds = min(FOLDS, len(set(test.groups)), int(test.counts().max()))
    fold = folds_of(test, folds) if folds > 1 else np.zeros(len(test), dtype=np.int64)
    if learner == "network":
        lab.afford("training without leaks", 2 * lab.cost_s(lab.config.epochs, folds=FOLDS + 1))
    columns = lab.probe_columns("pooled", whole) if learner == "probe" else None
    split, names = np.array(whole.split), np.array(whole.groups)
    train, tested = np.flatnonzero(split == "train"), np.flatnonzero(split == "test")
    logits = np.zeros((2, len(test), test.num_classes), dtype=np.float32)
    for number in sorted(set(fold.tolist())):
        scored = np.flatnonzero(fold == number)
        twin = np.isin(names[train], names[tested[scored]])
        other = _as_many(whole.targets[train], names[train], twin)
        for place, inside in enumerate((train[~twin], train[~other])):
            if len(set(whole.targets[inside].tolist())) < 2:
                continue
            if columns is None:
                seed = epoch_seed(lab.config.seed, number) % 2**31
                module = train_once(lab.config, whole, inside, whole.targets, seed)
                logits[place, scored] = predict(module, test.features[scored])
            else:
                model = classifier(columns.shape[1], len(inside)).fit(columns[inside], whole.targets[inside])
                logits[place, scored, model.predict(columns[tested[scored]])] = 1.0
    clean, control = (
        lab.keep(Trial(f"{learner}_{name}", test, fold, np.nan_to_num(values)))
        for name, values in zip(("without_twins", "with_twins"), logits, strict=True)
    )
    found = paired(test.targets, clean.predicted, control.predicted, test.groups, test.num_classes)
    return {"trials": [clean.name, control.name], **found}


def _as_many(targets: IntArray, recordings: np.ndarray, twin: np.ndarray) -> np.ndarray:
    """As many clips of each class as ``twin`` marks ``[N]``: other ones, whole recordings in a random order."""
    _, recording = np.unique(recordings, return_inverse=True)
    rank = np.random.default_rng(0).permutation(len(targets))[recording]
    chosen = np.zeros(len(targets), dtype=bool)
    for label in np.unique(targets[twin]):
        of_class = np.flatnonzero(targets == label)
        order = of_class[np.lexsort((rank[of_class], twin[of_class]))]  # twins go last
        chosen[order[: int(twin[of_class].sum())]] = True
    return chosen
