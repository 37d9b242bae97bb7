"""One case: a fault planted in one fold of one source, trained."""

from __future__ import annotations

import itertools
import shutil
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from audioclf.compose import load_config
from audioclf.config import Config
from audioclf.training.fit import Run, data_module, fit
from benchmarks.planted_faults.faults import BASE, FAULTS, HEALTHY, HIDDEN, TUNED, Fault
from benchmarks.planted_faults.tables import SOURCES, source_rows, write_rows


@dataclass(frozen=True)
class Case:
    """A fault in one place.

    Attributes:
        source: ``esc10`` or ``demo``.
        fold: that is test, from 1.
        seed: of the network's weights and of the fault's draws.
        fault: what is planted.
    """

    source: str
    fold: int
    seed: int
    fault: Fault

    @property
    def name(self) -> str:
        """Names its folders: ``esc10-f1-s0-lr_high-x100``."""
        return f"{self.source}-f{self.fold}-s{self.seed}-{self.fault.label}"

    @property
    def twin(self) -> Case:
        """The same without the fault."""
        return Case(self.source, self.fold, self.seed, self.fault.twin or TUNED)


def cases(
    folds: Sequence[int],
    seeds: Sequence[int] = (0,),
    sources: Sequence[str] = SOURCES,
    only: Sequence[str] = (),
) -> list[Case]:
    """All cases of some folds, healthy ones first.

    Args:
        folds: from 1.
        seeds: of each.
        sources: ``esc10``, ``demo``.
        only: beginnings of faults' labels; empty: all.
    """

    def wanted(fault: Fault) -> bool:
        return not only or any(fault.label.startswith(word) for word in only)

    chosen = [fault for fault in (*HEALTHY, *FAULTS) if wanted(fault)]
    places = itertools.product(chosen, sources, folds, seeds)
    return [Case(source, fold, seed, fault) for fault, source, fold, seed in places]


def plant(case: Case, work: Path, overrides: Sequence[str] = ()) -> Config:
    """Writes a case's table and sounds, and gives its settings.

    Args:
        case: what to plant.
        work: folder of all cases.
        overrides: more settings, of the source as well.
    """
    fault, cache = case.fault, work / "cache"
    folder = work / "tables" / (case.name if fault.changes else f"{case.source}-f{case.fold}")
    table = folder / "clips.csv"
    if not table.exists():
        of_source = [word for word in overrides if word.startswith("data.")]
        rows = source_rows(case.source, case.fold, cache, of_source)
        rng = np.random.default_rng([zlib.crc32(case.source.encode()), case.fold, case.seed])
        for change in fault.changes:
            rows = change(rows, rng, folder / "audio")
        write_rows(rows, table)  # last: a table that is there is whole
    hidden = [] if any(word.startswith("model=") for word in fault.overrides) else [HIDDEN]
    own_cache = work / "caches" / case.name
    place = own_cache if fault.scrambles else cache
    others = [word for word in overrides if not word.startswith("data.")]
    return load_config(
        [
            *("data=csv", f"data.csv={table.absolute()}", f"paths.cache={place.absolute()}", f"seed={case.seed}"),
            *(*BASE, *hidden, *others, *fault.overrides),
        ]
    )


def train(case: Case, work: Path, overrides: Sequence[str] = ()) -> Run:
    """Plants and trains a case, or finds it trained."""
    config, path = plant(case, work, overrides), work / "runs" / case.name
    if case.fault.scrambles and not (path / "result.json").exists():
        scramble(config, case.seed)
    return fit(config, path)


def scramble(config: Config, seed: int) -> None:
    """Makes the features of a cache anew and permutes each clip's within itself, on the disk."""
    shutil.rmtree(Path(config.paths.cache) / "features", ignore_errors=True)
    data = data_module(config)
    data.prepare_data()
    store, rng = data.feature_store, np.random.default_rng(seed)
    assert data.prepared is not None
    for sha256 in sorted({str(row.sha256) for row in data.prepared.rows.values()}):
        store.write(sha256, rng.permutation(store.read(sha256).ravel()).reshape(store.shape))
