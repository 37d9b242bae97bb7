"""``diagnose --fix``: trains what a diagnosis proposes, and shows what it brought."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from rich.table import Table

from audioclf import __version__
from audioclf.compose import load_config
from audioclf.config import SPLITS, Config
from audioclf.console import console
from audioclf.diagnose.command import overrides_of
from audioclf.diagnose.diagnosis import Diagnosis
from audioclf.diagnose.run import Run
from audioclf.diagnose.trial import paired
from audioclf.diagnose.verdict import Numbers
from audioclf.files import write_text
from audioclf.runs.identity import run_name
from audioclf.training.fit import Run as Trained
from audioclf.training.fit import fit


@dataclass(frozen=True)
class Fixed:
    """A repaired run beside the one that it repairs.

    Attributes:
        before: the run that was diagnosed.
        after: the repaired run.
        test: macro-F1 on the test clips ``before`` and ``after``, ``gain``, and its interval ``low``, ``high``.
    """

    before: Run
    after: Trained
    test: Numbers


def fix(run: Run, diagnosis: Diagnosis) -> Fixed | None:
    """Trains the repaired run beside the diagnosed one, as ``diagnosis.command`` would; writes ``diagnosis/fixed.json``.

    Returns:
        Both; None where no change of settings was proposed.
    """
    if not diagnosis.repair:
        return None
    config = repaired_config(run.config, diagnosis.repair)
    after = fit(config, run.folder.path.absolute().parent / run_name(config))
    fixed = Fixed(run, after, _compared(run.folder.path, after.folder, run.result))
    content = {
        "run": after.folder.name,
        "repair": diagnosis.repair,
        "f1_macro": {split: [result[split]["f1_macro"] for result in (run.result, after.result)] for split in SPLITS},
        "test": fixed.test,
    }
    write_text(run.folder.path / "diagnosis" / "fixed.json", json.dumps(content, indent=2) + "\n")
    return fixed


def diagnosed(run: Run) -> Diagnosis | None:
    """An earlier diagnosis of the very run by the same version, which need not be made again before it is mended."""
    try:
        content = json.loads((run.folder.path / "diagnosis.json").read_text(encoding="utf-8"))
        found = Diagnosis.from_dict(content)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    same = found.facts.get("identity") == run.result["identity"] and found.facts.get("version") == __version__
    return found if same and not found.not_run else None


def repaired_config(config: Config, repair: list[str]) -> Config:
    """A configuration with overrides in the place of its own."""
    replaced = {word.partition("=")[0] for word in repair}
    return load_config([w for w in overrides_of(config) if w.partition("=")[0] not in replaced] + repair)


def print_fixed(fixed: Fixed) -> None:
    """Prints macro-F1 of each split before and after, and whether test's gain is more than chance."""
    before, after = fixed.before.result, fixed.after.result
    table = Table(title="macro-F1, before and after", title_justify="left")
    for column in ("split", "before", "after", "gain"):
        table.add_column(column, justify="left" if column == "split" else "right")
    for split in SPLITS:
        first, second = before[split]["f1_macro"], after[split]["f1_macro"]
        table.add_row(split, f"{first:.3f}", f"{second:.3f}", f"{second - first:+.3f}")
    console.print(table)
    test = fixed.test
    console.print(
        f"test F1 {test['before']:.3f} -> {test['after']:.3f}: {test['gain']:+.3f}, "
        f"95 % interval [{test['low']:+.3f}, {test['high']:+.3f}] over recordings",
        markup=False,
    )
    console.print(f"written to {fixed.after.folder}", markup=False, soft_wrap=True)
    console.print(f"what is left: python -m audioclf diagnose {fixed.after.folder}", markup=False, soft_wrap=True)


def _compared(before: Path, after: Path, result: Any) -> Numbers:
    tables = [_test(folder) for folder in (before, after)]
    (clips, targets, groups, first), (_, _, _, second) = tables
    classes = result["data"]["classes"]
    order = {clip: i for i, clip in enumerate(tables[1][0])}
    return paired(targets, first, second[[order[clip] for clip in clips]], groups, len(classes))


def _test(folder: Path) -> tuple[list[str], np.ndarray, list[str], np.ndarray]:
    table = pq.read_table(folder / "predictions.parquet", filters=[("split", "=", "test")])
    predicted = np.array([int(np.argmax(logits)) for logits in table["logits"].to_pylist()], dtype=np.int64)
    targets = table["target"].to_numpy().astype(np.int64)
    return table["clip"].to_pylist(), targets, table["group"].to_pylist(), predicted
