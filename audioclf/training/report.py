"""What a person reads at the end of a run."""

from __future__ import annotations

import math
from typing import Any

from rich.box import HEAVY_HEAD, SIMPLE_HEAD
from rich.table import Table

from audioclf.clips.annotations import GivenAway
from audioclf.clips.select import Selection
from audioclf.config import SPLITS
from audioclf.console import console
from audioclf.training.fit import Run

_CLASSES_SHOWN = 40
CHANCE_P = 0.05  # above it, shuffled predictions do as well too often for the score to mean anything


def print_run(run: Run) -> None:
    """Prints a finished run: scores of each split, chance floor, interval, worst class, and where everything is."""
    result = run.result
    data = result["data"]
    for line in _data_lines(data):
        console.print(line, markup=False)
    console.print(_table(result))
    test = result["test"]
    for line in [*_score_lines(result), *_remarks(result)]:
        console.print(line, markup=False)
    worst, scores = min(((n, s) for n, s in test["per_class"].items() if s["support"]), key=lambda item: item[1]["f1"])
    console.print(f"worst class: {worst}, F1 {scores['f1']:.3f} ({scores['support']} test clips)", markup=False)
    picked = f"best val {'mAP' if _several(result) else 'F1'}" if result["select"] == "best" else "the last"
    done = result.get("trained_epochs", result["epochs"])
    early = f", stopped early: {result['epochs']} were asked for" if done < result["epochs"] else ""
    console.print(f"tested weights: epoch {result['selected_epoch']} of {done} ({picked}){early}", markup=False)
    if run.reused:
        console.print("finished before, nothing was trained now; retrain=true trains it again", markup=False)
    console.print(f"written to {run.folder}", markup=False, soft_wrap=True)
    figures = "average precisions" if _several(result) else "confusion matrix"
    console.print(f"curves, {figures}, errors: tensorboard --logdir {run.folder.parent}", markup=False, soft_wrap=True)


def _several(result: dict[str, Any]) -> bool:
    return bool(result["task"] == "multi_label")


def _score_lines(result: dict[str, Any]) -> list[str]:
    """Test scores with interval and chance floor."""
    chance, several = result["chance"], _several(result)

    def score(name: str, key: str) -> str:
        low, high = result["interval"][key]
        return f"test {name} {result['test'][key]:.3f}, 95 % interval [{low:.3f}, {high:.3f}] over recordings"

    constant = "every label" if several else "majority"
    lines = [
        f"{score('F1', 'f1_macro')}; chance floor: {constant} {chance['majority']:.3f}, "
        f"stratified {chance['stratified']:.3f}, own predictions shuffled {chance['permutation']:.3f}"
    ]
    if several:
        lines.append(f"{score('mAP', 'map')}; chance floor: own scores shuffled {chance['map']:.3f}")
        rare = [name for name, part in result["val"]["per_class"].items() if not part["support"]]
        untuned = f"; of {len(rare)} without val clips by the other classes, e.g. {rare[0]}" if rare else ""
        lines.append(f"decided at each class's threshold, tuned on val{untuned}")
    return lines


def _data_lines(data: dict[str, Any]) -> list[str]:
    name = (
        f"{data['name']} (SYNTHETIC recordings: for trying things out, not for conclusions)"
        if data["synthetic"]
        else data["name"] + (f" (format {data['format']})" if data["format"] else "")
    )
    lines = [
        f"{name}: {data['clips']} clips of {data['groups']} recordings, {len(data['classes'])} classes; {data['split_rule']}"
    ]
    coverage = data["coverage"]
    if coverage["usable"] < coverage["rows"]:
        reasons = ", ".join(f"{len(ids)} {reason}" for reason, ids in sorted(data["skipped"].items()))
        lines.append(
            f"coverage: {coverage['usable']} of {coverage['rows']} rows have usable audio; left out: {reasons}"
        )
        if coverage["retriable"]:
            lines.append(
                f"  {coverage['retriable']} can be tried again: `python -m audioclf fetch` with the same data keys"
            )
        thin = [(c, n) for c, n in coverage["per_class"].items() if n["usable"] < n["rows"]]
        thin.sort(key=lambda item: item[1]["usable"] / item[1]["rows"])
        shares = [f"{c} {n['usable']}/{n['rows']}" for c, n in thin[:_CLASSES_SHOWN]]
        more = f" and {len(thin) - _CLASSES_SHOWN} more (result.json has all)" if thin[_CLASSES_SHOWN:] else ""
        lines.append(f"  by class: {', '.join(shares)}{more}")
    if data["bad_rows"]:
        lines.append(f"{len(data['bad_rows'])} bad rows skipped, e.g. {data['bad_rows'][0]}")
    lines += Selection(**data["selection"]).lines()
    if data["partial"]:
        lines.append(f"{data['partial']} clips are shorter than asked and used as they are")
    return lines


def _table(result: dict[str, Any]) -> Table:
    leaky = " (LEAKY: recordings in several splits)" if result["data"]["leaky"] else ""
    narrow = console.width < 70
    table = Table(
        title=f"macro averages over classes{leaky}", title_justify="left", box=SIMPLE_HEAD if narrow else HEAVY_HEAD
    )
    table.padding = (0, 0) if narrow else (0, 1)
    table.add_column("split", no_wrap=True)
    last = {"mAP": "map", "AUROC": "auroc"} if _several(result) else {"accuracy": "accuracy"}
    shown = {"precision": "precision_macro", "recall": "recall_macro", "F1": "f1_macro", **last, "loss": "loss"}
    for column in ("clips", *shown):
        table.add_column(column, justify="right", no_wrap=True)
    for split in SPLITS:
        row = result[split]
        values = [row[key] for key in shown.values()]
        cells = ["-" if value is None else f"{value:.3f}" for value in values]
        table.add_row(
            split, str(result["data"]["splits"][split]["clips"]), *cells, style="bold" if split == "test" else ""
        )
    return table


def _remarks(result: dict[str, Any]) -> list[str]:
    remarks = []
    if result["diverged"]:
        loss, guess = result["train"]["loss"], math.log(2 if _several(result) else len(result["data"]["classes"]))
        found = "some outputs are not finite numbers"
        if loss is not None and loss > guess:
            found = f"train loss {loss:.3g}, guessing has {guess:.3g}"
        remarks.append(f"training DIVERGED: {found}; lower lr")
    if result["chance"]["permutation_p"] > CHANCE_P:
        remarks.append(
            f"this is not told apart from chance: shuffled predictions do as well in {result['chance']['permutation_p']:.0%} of draws"
        )
    for split in SPLITS:
        missing = result[split]["classes_without_support"]
        if missing:
            some = "1 class has" if missing == 1 else f"{missing} classes have"
            remarks.append(f"{some} no {split} clips, and no part in its averages")
    given = result["data"].get("annotations")
    if given and given["named"]:
        remarks.append(f"{GivenAway(**given).sentence}: the model may read the label there")
    return remarks
