"""Parquet tables, read a batch at a time and only the columns that are asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from audioclf.errors import UserError, shown

_MAGIC = b"PAR1"  # the first bytes of every Parquet file, by its specification
_BATCH = 8192  # rows


def is_parquet(path: Path) -> bool:
    """Whether the file begins as Parquet does, whatever it is called; no where it cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(len(_MAGIC)) == _MAGIC
    except OSError:
        return False


def parquet_columns(path: Path) -> list[str]:
    """The names of the columns, as they are written.

    Raises:
        UserError: the file is no whole Parquet table.
    """
    try:
        return list(pq.read_schema(path).names)
    except (OSError, pa.ArrowException) as error:
        raise _unreadable(path, error) from None


def read_parquet(path: Path, columns: Mapping[str, str]) -> Iterator[tuple[int, dict[str, str]]]:
    """Yields ``(row number from 1, {our name: text})``; other columns, audio among them, are not even decoded.

    Numbers are written as short as they go, an absent value is empty, and the items of a list are joined by ``|``.

    Args:
        path: the table.
        columns: our name → the column's.

    Raises:
        UserError: the file is no whole Parquet table.
    """
    number = 0
    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(_BATCH, columns=sorted(set(columns.values()))):
                values = [map(_text, batch.column(theirs).to_pylist()) for theirs in columns.values()]
                for cells in zip(*values, strict=True):
                    number += 1
                    yield number, dict(zip(columns, cells, strict=True))
    except (OSError, pa.ArrowException) as error:
        raise _unreadable(path, error) from None


def _text(value: object) -> str:
    if isinstance(value, str):
        return value.strip()
    if value is None or value != value:  # NaN, which is how pandas says that there is nothing
        return ""
    if isinstance(value, list):
        return "".join(f"{_text(item)}|" for item in value)  # also after a single one: it may hold another separator
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _unreadable(path: Path, error: Exception) -> UserError:
    return UserError(f"{path}: cannot be read as Parquet: {shown(str(error).partition(chr(10))[0])}")
