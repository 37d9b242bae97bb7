"""`python -m benchmarks [features|embeddings|step|memory|tables|fetch|compare|predict|sweep ...]`: prints a table; nothing is asserted.

The audio is ESC-10 where it is found ($AUDIOCLF_DATA/esc10 or ../shared/data/esc10), else the demo's recordings.
"""

from __future__ import annotations

import sys

from rich.table import Table

from audioclf.console import console
from benchmarks import embeddings, features, fetch, memory, predict, runs, step, sweep, tables

BENCHMARKS = {
    "features": features.rows,
    "embeddings": embeddings.rows,
    "step": step.rows,
    "memory": memory.rows,
    "tables": tables.rows,
    "fetch": fetch.rows,
    "compare": runs.rows,
    "predict": predict.rows,
    "sweep": sweep.rows,
}
LONG = {"sweep"}  # only when asked for


def main(names: list[str]) -> int:
    """Runs the named benchmarks, or all that take minutes."""
    unknown = [name for name in names if name not in BENCHMARKS]
    if unknown:
        console.print(f"no benchmark {unknown[0]}; there are {', '.join(BENCHMARKS)}", markup=False)
        return 2
    table = Table(title="benchmarks", title_justify="left")
    for column in ("what", "ours", "alternative", "ratio", "target"):
        table.add_column(column, justify="left" if column == "what" else "right")
    for name in names or [name for name in BENCHMARKS if name not in LONG]:
        for row in BENCHMARKS[name]():
            table.add_row(*row)
    console.print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
