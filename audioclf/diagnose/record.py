"""A diagnosis of a bare record: predictions, or the few numbers of a report, without the run behind them.

What the record tells by itself is told: scores with chance floor and interval, collapsed predictions, a label map that
fits better, a train F1 too low for overfitting. What takes a retraining, the features or the audio is undetermined, with
what is missing.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import linear_sum_assignment

from audioclf.config import SPLITS
from audioclf.diagnose.diagnosis import WITHOUT, Diagnosis
from audioclf.diagnose.probe import all_probes
from audioclf.diagnose.probes.collapsed import Collapsed
from audioclf.diagnose.record_reader import Figures, Predictions, read_record
from audioclf.diagnose.trial import paired
from audioclf.diagnose.verdict import (
    STATUS_ORDER,
    Gap,
    Limits,
    Numbers,
    Status,
    Verdict,
    limits_of,
    share_of,
    status_of,
)
from audioclf.files import cannot_write, write_text
from audioclf.training.scores import IntArray, chance, confusion_matrix, interval, macro_f1, scores

MOST_DRAWN = 10_000  # rows behind chance floor and intervals: more take minutes and change little
MOST_SHOWN = 40  # classes of a confusion matrix that is kept
PARTS = 4  # of which three choose a label map that the fourth is scored with
EVERYTHING = "all rows"  # what is scored where no split is said
UNEQUAL = 2  # times as many clips as the rarest class has: from there on, unequal classes are what is asked about
SEPARATOR = re.compile(r"\s*[;|,]\s*")  # between several labels in one cell


MISSING = {
    "classes": "the number of classes",
    "predictions": "the predictions (label and predicted of each clip, with its split)",
    "train": "the train F1",
    "val": "the val F1 of each epoch",
    "settings": "the settings (lr, normalisation, epochs, sizes)",
    "table": "the table of clips (label, split and recording of each)",
    "clips": "the clips themselves",
}
NEEDS: Mapping[str, Sequence[str]] = {
    "lr_too_high": ("settings", "clips"),
    "no_normalisation": ("settings", "clips"),
    "undertrained": ("val", "settings", "clips"),
    "overfitting": ("train", "val", "clips"),
    "model_too_small": ("train", "settings", "clips"),
    "no_signal": ("predictions", "clips"),
    "label_noise": ("predictions", "clips"),
    "multi_label": ("table", "clips"),
    "label_map": ("predictions",),
    "shift": ("table", "clips"),
    "class_imbalance": ("table", "clips"),
    "rare_classes": ("table", "clips"),
    "too_few_clips": ("table", "clips"),
    "features_weak": ("settings", "clips"),
    "bad_clips": ("clips",),
    "leakage": ("table", "clips"),
    "metric": ("classes", "predictions"),
    "collapsed": ("predictions",),
}
"""What each cause cannot be told without."""

TRAIN = ["python train.py data=csv data.csv=TABLE", "python -m audioclf diagnose outputs/RUN"]
PREDICT = ["python -m audioclf diagnose --from-csv predictions.csv"]
TRAIN_IT = ", then ".join(TRAIN)
GIVE_PREDICTIONS = f"{PREDICT[0]} (columns label, predicted, split, group)"


@dataclass
class Found:
    """What a record tells.

    Attributes:
        opening: of the summary: the score, and what it is worth.
        best: whether the score is the highest that there is.
        doubt: why such a score may yet mislead, in words.
        blamed: whether overfitting may be thought to lower the score.
        has: of :data:`MISSING`, what the record holds.
        verdicts: of the causes that it says something about.
        facts: for the report.
    """

    opening: str = ""
    best: bool = False
    doubt: str = ""
    blamed: bool = False
    has: set[str] = field(default_factory=set)
    verdicts: dict[str, Verdict] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)

    def say(self, cause: str, status: Status, evidence: Sequence[str], numbers: Numbers | None = None) -> None:
        """Adds a verdict without a share: the gap is not known."""
        self.verdicts[cause] = Verdict(cause, status, None, None, list(evidence), None, numbers or {})

    def missing(self, cause: str) -> list[str]:
        """What a cause cannot be told without and the record does not hold, in words."""
        return [_brief(MISSING[thing]) for thing in NEEDS.get(cause, ("clips",)) if thing not in self.has]


def diagnose_record(path: Path, thresholds: Mapping[str, Any] | None = None) -> Diagnosis:
    """Diagnoses a bare record.

    Args:
        path: predictions as CSV or Parquet, or a CSV or lines ``KEY = VALUE`` with a report's numbers.
        thresholds: the content of ``thresholds.yaml``; None: the shipped file.

    Raises:
        UserError: it is neither.
    """
    record = read_record(path)
    limits = limits_of("record", thresholds)
    titles = {probe.cause: probe.title for probe in all_probes()}
    is_table = isinstance(record, Predictions)
    found = _from_predictions(record, limits) if isinstance(record, Predictions) else _from_figures(record, limits)
    healthy = found.best and not found.doubt
    causes = [*NEEDS, *(cause for cause in titles if cause not in NEEDS)]
    verdicts = [_whole(cause, found) for cause in causes]
    if healthy:
        verdicts = [verdict for verdict in verdicts if verdict.status == "cleared"]
    convicted = [verdict for verdict in verdicts if verdict.convicted]
    missing = [words for thing, words in MISSING.items() if thing not in found.has]
    lacking = f" Missing: {', '.join(map(_brief, missing))}."
    if healthy:
        verdict, lacking = "There is nothing to explain.", ""
    elif found.best:
        verdict = f"No score is higher, but {found.doubt}."
    elif convicted:
        why = "; ".join(
            f"{titles.get(verdict.cause, verdict.cause)} ({verdict.share:.0%} of the gap to a perfect F1 of 1)"
            for verdict in convicted
        )
        verdict = f"The F1 is low because {why}; what else lowers it cannot be told from the record."
    else:
        verdict = f"Why it is not higher cannot be told from {'predictions' if is_table else 'these numbers'} alone"
        verdict += ", nor whether it is overfitting." if found.blamed else "."
    ways = {} if is_table else {"with the label, prediction, split and recording of each clip": PREDICT}
    more = {"missing": missing, "to_get_it": ways | {"with the clips themselves": TRAIN}}

    def rank(verdict: Verdict) -> tuple[Any, ...]:
        told = verdict.cause in found.verdicts
        first = told and verdict.cause == "multi_label"  # what a label is decides how all else is read
        return STATUS_ORDER.index(verdict.status), not told, not first

    return Diagnosis(
        run=str(path),
        summary=f"{found.opening} {verdict}{lacking}",
        healthy=healthy,
        verdicts=sorted(verdicts, key=rank),
        gap=None,
        steps=[],
        command=None,
        not_run=[],
        seconds={},
        facts=found.facts if healthy else {**found.facts, **more},
        titles={cause: titles.get(cause, cause) for cause in causes},
    )


def write_record(diagnosis: Diagnosis) -> tuple[Path, Path]:
    """Writes ``NAME.diagnosis.json`` and ``NAME.diagnosis.html`` beside a record ``NAME.csv``.

    Returns:
        Both files.

    Raises:
        UserError: its folder cannot be written to.
    """
    from audioclf.diagnose.page import page  # matplotlib takes a second

    numbers, shown = (Path(diagnosis.run).with_suffix(f".diagnosis{suffix}") for suffix in (".json", ".html"))
    try:
        write_text(numbers, json.dumps(diagnosis.to_dict(), indent=2, allow_nan=False) + "\n")
        write_text(shown, page(diagnosis))
    except OSError as error:
        raise cannot_write(f"in {numbers.parent}", error) from error
    return numbers, shown


def _brief(words: str) -> str:
    """Without what stands in brackets."""
    return words.split(" (")[0]


def _whole(cause: str, found: Found) -> Verdict:
    """What was found of a cause, with what is missing where it is undetermined."""
    verdict = found.verdicts.get(cause) or Verdict(cause, "undetermined", None, None, [], None)
    if verdict.status != "undetermined":
        return verdict
    missing = found.missing(cause)
    evidence = [*verdict.evidence, *([WITHOUT + ", ".join(missing)] if missing else [])]
    clips = NEEDS.get(cause, ("clips",))
    get = TRAIN_IT if "clips" in clips else GIVE_PREDICTIONS if missing else None
    return Verdict(
        cause, "undetermined", verdict.share, verdict.interval, evidence, verdict.next or get, verdict.numbers
    )


# --- a report's numbers ----------------------------------------------------------------------------------------------


def _from_figures(record: Figures, limits: Limits) -> Found:
    found = Found(facts={"record": "a report's numbers", **{name: list(v) for name, v in record.curves.items()}})
    if record.num_classes is not None:
        found.has.add("classes")
        found.facts["num_classes"] = record.num_classes
    if "train_f1" in record.curves or "train_accuracy" in record.curves:
        found.has.add("train")
    if len(record.curves.get("val_f1", [])) > 1:
        found.has.add("val")
    _score(record, found)
    losses = record.curves.get("train_loss", [])
    rising = _rise(losses, record.num_classes)
    if rising is not None:
        found.say("lr_too_high", "undetermined", [f"{rising}: steps that are too large do that, a suspicion only"])
        found.say("no_normalisation", "undetermined", ["inputs that are too large make steps too large"])
    where = "test" if {"test_f1", "test_accuracy"} & set(record.curves) else "val"
    kind = next((k for k in ("f1", "accuracy") if {f"train_{k}", f"{where}_{k}"} <= set(record.curves)), "f1")
    here, train = record.last(f"{where}_{kind}"), record.last(f"train_{kind}")
    _fit(found, train, here, kind.replace("f1", "F1"), limits, where)
    overfitting = found.verdicts["overfitting"]
    if overfitting.status == "undetermined":
        overfitting.evidence.append(_peak(record.curves.get("val_f1", [])))
        if rising is not None and math.isfinite(losses[-1]):
            overfitting.evidence.append(f"{rising}, while overfitting lowers it")
    if losses and "undertrained" not in found.verdicts:
        said = f"{len(losses)} epoch{'s' if len(losses) > 1 else ''}, train loss {losses[-1]:g} at the end"
        found.say("undertrained", "undetermined", [f"{said}: whether more epochs help is not in it"])
    return found


def _score(record: Figures, found: Found) -> None:
    """What the test score is worth, beside guessing."""
    f1, classes = record.last("test_f1"), record.num_classes
    if f1 is None:
        found.opening = "The record has no test F1."
        found.say("metric", "undetermined", ["no test F1"])
        return
    if classes is not None and f1 > 2 / classes:
        worth = f"is above what guessing evenly among {classes} classes scores ({1 / classes:.2g})"
    elif classes is not None:
        worth = f"may be chance: guessing evenly among {classes} classes scores about {1 / classes:.2g}"
    elif f1 > 0.6:
        worth = "is above chance: guessing evenly scores at most 0.5, with 2 classes"
    else:
        worth = (
            f"may be chance: guessing evenly among K classes scores about 1/K, which it is for K = {_classes_of(f1)}"
        )
    found.opening, found.best = f"Test F1 {f1:g} {worth}.", f1 == 1
    found.say(
        "metric",
        "undetermined",
        [
            f"test F1 {f1:g} {worth}",
            "which average it is (macro, micro, weighted), and whether over the whole split or batch by batch, is not said",
        ],
    )


def _classes_of(f1: float) -> str:
    """The numbers of classes for which guessing scores as much: a few test clips lower the mean by up to a tenth."""
    low, high = (max(2, round(share / max(f1, 1e-3))) for share in (0.9, 1.0))
    return str(low) if low == high else f"{low} or {high}" if high == low + 1 else f"{low} to {high}"


def _rise(losses: Sequence[float], classes: int | None) -> str | None:
    """A train loss that ends far above where it was, in words."""
    if not losses:
        return None
    last, epochs = losses[-1], len(losses)
    bad = next((i for i, loss in enumerate(losses, 1) if not math.isfinite(loss)), None)
    if bad is not None:
        return f"the train loss is no finite number in epoch {bad}"
    least = min(losses)
    if last > 1.5 * least:
        return f"the train loss rose from {least:g} (epoch {losses.index(least) + 1}) to {last:g} (epoch {epochs})"
    if classes is not None and last > 1.5 * math.log(classes):
        return f"the train loss is {last:g} at the end, guessing has {math.log(classes):.3g} (ln {classes})"
    return None


def _peak(val: Sequence[float]) -> str:
    """Whether val F1 fell from its peak, in words."""
    if len(val) < 2:
        return "the val F1 of each epoch is missing: overfitting lowers it from its peak"
    best = max(val)
    epoch = list(val).index(best) + 1
    return (
        f"val F1 {best:.2f} at its peak (epoch {epoch}), {val[-1]:.2f} at the end: regularising would have to be tried"
    )


def _fit(found: Found, train: float | None, here: float | None, kind: str, limits: Limits, where: str = "test") -> None:
    """What the train score says of overfitting, of the model's size and of the length of training.

    Args:
        found: takes the verdicts.
        train: the train score; None where it is missing.
        here: of a split that was not trained on, likewise.
        kind: what they are.
        limits: of a record.
        where: that split, or :data:`EVERYTHING`.
    """
    numbers = {"train": train, where: here}
    said = f"{where} {kind} {here:.2f}" if here is not None else ""
    top = here is not None and here > 1 - limits["train_gap"]
    if where == EVERYTHING:
        unsaid = "which rows were trained on is not said: a column split would tell their F1 from that of the others"
        found.say("overfitting", "undetermined", [unsaid])
    elif top:
        high = f"{said}: overfitting needs one on train that is far above it"
        found.say("overfitting", "cleared", [high], numbers)
    elif train is None:
        than = f"far above the {here:.3g} of {where}" if here is not None else f"that is high while {where}'s is low"
        found.say("overfitting", "undetermined", [f"the train {kind} is missing: overfitting needs one {than}"])
    elif here is None:
        evidence = f"train {kind} {train:.2f}, and no other is in it: overfitting needs one that is low"
        found.say("overfitting", "undetermined", [evidence], numbers)
    elif train - here < limits["train_gap"] or train < limits["train_low"]:
        low = f"train {kind} {train:.2f}, {where} {here:.2f}: overfitting needs a high one on train"
        found.say("overfitting", "cleared", [low], numbers)
    else:
        gap = f"train {kind} {train:.2f}, {where} {here:.2f}: a gap alone proves nothing, healthy runs have one of 0.3 and more"
        found.say("overfitting", "undetermined", [gap], numbers)
    found.blamed = found.verdicts["overfitting"].status == "undetermined" and not top
    if train is not None and train >= limits["learnt"]:
        for cause in ("undertrained", "model_too_small"):
            found.say(cause, "cleared", [f"train {kind} {train:.2f}: the training clips are learnt"], numbers)


# --- predictions -----------------------------------------------------------------------------------------------------


def _from_predictions(record: Predictions, limits: Limits) -> Found:
    classes, sizes = len(record.classes), {name: int((record.splits == name).sum()) for name in SPLITS}
    name = next((name for name in ("test", "val", "train") if sizes[name]), "")
    here, train = record.splits == name, record.splits == "train"
    targets, predicted = record.targets[here], record.predicted[here]
    learnt_from = record.targets[train] if train.any() else targets
    drawn = _drawn(record.groups[here])
    few, guesses = targets[drawn], predicted[drawn]
    groups = [
        f"{group:09d}" for group in record.groups[here][drawn]
    ]  # drawn in the order of their names, as in training
    floor = chance(few, guesses, learnt_from, classes)
    counts = confusion_matrix(targets, predicted, classes)
    score = scores(counts)
    f1, level = score.f1_macro, max(floor.majority, floor.stratified, floor.permutation)
    off = f1 - macro_f1(few, guesses, classes)  # 0 but where rows were drawn
    low, high = (min(max(end + off, 0.0), 1.0) for end in interval(few, guesses, groups, classes))
    told = floor.permutation_p <= limits["chance_p"]
    where = name or EVERYTHING
    found = Found(has={"classes", "predictions"})
    if train.any() and name != "train":
        found.has.add("train")
    worth = f"guessing scores {level:.2f}" if told else f"that is not told apart from chance ({level:.2f})"
    found.opening = (
        f"Macro-F1 {f1:.2f} [{low:.2f}, {high:.2f}] on {where} ({len(targets)} clips, {classes} classes); {worth}."
    )
    if record.assumed:
        found.opening += f" Taken to be so: {record.assumed}."
    found.best = f1 == 1
    if name == "train":
        found.doubt = "no clip of it was held out of training"
    elif not told:
        found.doubt = f"{len(targets)} clips are too few to tell it from chance"
    found.facts = {
        "record": "predictions",
        "split": where,
        "classes": record.classes,
        "clips": {split: number for split, number in sizes.items() if number} or {"": len(record)},
        "f1_macro": f1,
        "interval": [low, high],
        "accuracy": score.accuracy,
        "f1_weighted": score.f1_weighted,
        "chance": asdict(floor),
        **({"drawn": len(drawn)} if len(drawn) < len(targets) else {}),
        "f1_by_class": dict(zip(record.classes, score.f1.tolist(), strict=True)),
        "confusion": counts.tolist() if classes <= MOST_SHOWN else None,
    }
    _metric(found, record, score.support, told, floor.permutation_p)
    if told and low > level:
        found.say("no_signal", "cleared", [f"macro-F1 {f1:.2f} [{low:.2f}, {high:.2f}], guessing scores {level:.2f}"])
    _collapsed(found, record, targets, predicted)
    if not _several(found, record, few, guesses, groups, limits):
        _label_map(found, record, few, guesses, groups, limits)
    if name != "train":
        before = macro_f1(record.targets[train], record.predicted[train], classes) if train.any() else None
        _fit(found, before, f1, "F1", limits, where)
    _counts(found, record, learnt_from, train.any())
    if train.any() and name != "train":
        _shared(found, record, here, train)
    return found


def _drawn(groups: IntArray) -> IntArray:
    """Places of at most :data:`MOST_DRAWN` rows, recordings one after another in random order."""
    _, group = np.unique(groups, return_inverse=True)
    rank = np.random.default_rng(0).permutation(group.max() + 1)[group]
    return np.sort(np.argsort(rank, kind="stable")[:MOST_DRAWN])


def _metric(found: Found, record: Predictions, support: IntArray, told: bool, p: float) -> None:
    """What makes the score itself doubtful."""
    facts = found.facts
    said = f"macro-F1 {facts['f1_macro']:.2f}, weighted {facts['f1_weighted']:.2f}, accuracy {facts['accuracy']:.2f}"
    doubts = []
    if not told:
        doubts.append(f"shuffled predictions score as much in {p:.0%} of draws")
    absent = [label for label, number in zip(record.classes, support, strict=True) if not number]
    if absent:
        doubts.append(f"{len(absent)} predicted classes never are the true one, e.g. {absent[0]}: not in the average")
    found.say("metric", "undetermined" if doubts else "cleared", [*doubts, said])


def _collapsed(found: Found, record: Predictions, targets: IntArray, predicted: IntArray) -> None:
    counts = np.bincount(predicted, minlength=len(record.classes))
    numbers: Numbers = {
        "symptom": True,
        "class": record.classes[int(counts.argmax())],
        "share": float(counts.max() / len(predicted)),
        "true_share": float(np.bincount(targets).max() / len(targets)),
        "predicted_classes": int((counts > 0).sum()),
        "classes": len(record.classes),
    }
    no_gap = Gap(0.0, 0.0, 0.0, 0.0, 0.0)
    found.verdicts["collapsed"] = Collapsed().judge(numbers, no_gap, limits_of("collapsed"))


def _against_one(effect: Numbers, limits: Limits) -> tuple[Status, float, tuple[float, float]]:
    """Status, share and its interval: the best within reach is not known; with 1 in its place the share is the least."""
    most = Gap(0.0, effect["before"], effect["before"], 1.0, 1.0)
    return status_of(effect, most, limits), *share_of(effect, most)


def _gained(effect: Numbers) -> str:
    return (
        f"F1 {effect['before']:.2f} -> {effect['after']:.2f}, {effect['gain']:+.2f} "
        f"[{effect['low']:+.2f}, {effect['high']:+.2f}] of the {1 - effect['before']:.2f} to a perfect F1 of 1"
    )


def _several(
    found: Found, record: Predictions, targets: IntArray, predicted: IntArray, groups: list[str], limits: Limits
) -> bool:
    """Whether cells hold several labels (``dog;cat``); what counting any of them as right returns.

    A name with a separator is suspected only where a part of it stands elsewhere too: ``rain, heavy`` may be one class.
    """
    parts = [frozenset(SEPARATOR.split(name)) for name in record.classes]
    times = Counter(part for names in parts for part in names)
    mixed = np.array([len(names) > 1 and any(times[part] > 1 for part in names) for names in parts])
    if not mixed.any():
        return False
    either = np.array([not parts[i].isdisjoint(parts[j]) for i, j in zip(targets, predicted, strict=True)])
    counted = either & (mixed[targets] | mixed[predicted])
    effect = paired(targets, predicted, np.where(counted, targets, predicted), groups, len(record.classes))
    status, share, around = _against_one(effect, limits)
    example = record.classes[int(mixed.argmax())]
    evidence = [
        f"{mixed[targets].sum()} of {len(targets)} clips have several labels in one cell, e.g. {example}",
        f"counting any of them as right: {_gained(effect)}",
    ]
    todo = (
        "score each label by itself, or keep the clips with one label: read as one class, "
        f"{example} is right only where all of it is predicted"
    )
    if status == "cleared":
        status = "undetermined"
    found.verdicts["multi_label"] = Verdict("multi_label", status, share, around, evidence, todo, {"effect": effect})
    found.say("label_map", "undetermined", [f"classes like {example} are several in one: no one-to-one map of names"])
    return True


def _label_map(
    found: Found, record: Predictions, targets: IntArray, predicted: IntArray, groups: list[str], limits: Limits
) -> None:
    """Whether other names for the predicted classes fit better, each clip renamed as other recordings say."""
    classes = len(record.classes)
    names, group = np.unique(groups, return_inverse=True)
    part = np.random.default_rng(0).permutation(len(names))[group] % PARTS
    renamed = predicted.copy()
    for number in range(PARTS):
        others = part != number
        best = _best_map(targets[others], predicted[others], classes)
        renamed[~others] = best[predicted[~others]]
    effect = paired(targets, predicted, renamed, groups, classes)
    status, share, around = _against_one(effect, limits)
    few = len(targets) < limits["clips_a_class"] * len(np.unique(targets))
    if few or (status == "cleared" and effect["high"] >= limits["least_gain"]):
        status = "undetermined"
    if record.assumed and status != "cleared":  # it may be what was assumed that is wrong
        status = "undetermined"
    best = _best_map(targets, predicted, classes)
    pairs = [f"{record.classes[i]} -> {record.classes[j]}" for i, j in enumerate(best) if i != j]
    said = f"other names for the predicted classes: {_gained(effect)}; each clip renamed as other recordings say"
    numbers: Numbers = {"effect": effect, "map": best.tolist()}
    if status not in ("explains", "contributes"):
        found.say("label_map", status, [said, *([record.assumed] if record.assumed else [])], numbers)
        return
    more = f" and {len(pairs) - 6} more" if len(pairs) > 6 else ""
    mend = f"compare the order of class names in training and in scoring: predicted {', '.join(pairs[:6])}{more}"
    found.verdicts["label_map"] = Verdict("label_map", status, share, around, [said], mend, numbers)


def _best_map(targets: IntArray, predicted: IntArray, classes: int) -> IntArray:
    """The one-to-one map ``[K]`` from predicted to true classes that is right most often; of equals, names as they are."""
    counts = confusion_matrix(targets, predicted, classes).T + 0.5 * np.eye(classes)
    return np.asarray(linear_sum_assignment(counts, maximize=True)[1], dtype=np.int64)


def _counts(found: Found, record: Predictions, targets: IntArray, of_training: bool) -> None:
    """How many clips the classes have, in training where that is known."""
    counts = np.bincount(targets, minlength=len(record.classes))
    there = np.flatnonzero(counts)
    rarest, most = there[counts[there].argmin()], there[counts[there].argmax()]
    said = f"classes have {counts[rarest]} ({record.classes[rarest]}) to {counts[most]} ({record.classes[most]}) clips"
    if counts[rarest] == counts[most]:
        said = f"each class that is there has {counts[most]} clips"
    said += " in training" if of_training else "; training's are not in the record"
    asked = "class_imbalance" if counts[most] >= UNEQUAL * counts[rarest] else "too_few_clips"
    found.say(asked, "undetermined", [said])


def _shared(found: Found, record: Predictions, here: np.ndarray, train: np.ndarray) -> None:
    """What the scored clips gain whose recordings were trained on."""
    if "group" not in record.known:
        return
    seen = here & np.isin(record.groups, record.groups[train])
    if not seen.any():
        said = "none by the column of recordings; the same sound under two names takes the audio, which is missing"
        found.say("leakage", "undetermined", [said])
        return
    said = f"{seen.sum()} of {here.sum()} scored clips are of recordings that stand in train, too"
    found.doubt = found.doubt or said
    if (here & ~seen).any():
        ours, theirs = (
            macro_f1(record.targets[mask], record.predicted[mask], len(record.classes)) for mask in (seen, here & ~seen)
        )
        said += f": F1 {ours:.2f} on these, {theirs:.2f} on the others"
    found.say("leakage", "undetermined", [said])
