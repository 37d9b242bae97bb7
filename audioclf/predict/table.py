"""Embeddings as a Parquet table, a few thousand rows in memory at a time."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import Any, BinaryIO, Self

import pyarrow as pa
import pyarrow.parquet as pq

from audioclf.predict.model import Embedding, Layer

ROWS = 2_000  # of one row group

SCHEMA = pa.schema(
    [
        ("clip", pa.string()),
        ("file", pa.string()),
        ("start", pa.float64()),
        ("end", pa.float64()),
        ("labels", pa.list_(pa.string())),
        ("status", pa.string()),
        ("reason", pa.string()),
        ("embedding", pa.list_(pa.float32())),
    ]
)


class EmbeddingTable:
    """Writes embeddings, one row each; a context manager. Of what could not be heard, the embedding is null.

    Args:
        out: where to.
        layer: what the vectors are; it stands in the table's metadata.
        classes: the label map, likewise.
    """

    def __init__(self, out: BinaryIO, layer: Layer, classes: Sequence[str]) -> None:
        schema = SCHEMA.with_metadata({"layer": layer, "classes": "\n".join(classes)})
        self._writer = pq.ParquetWriter(out, schema)
        self._rows: list[dict[str, Any]] = []

    def add(self, embedding: Embedding) -> None:
        """Adds a row."""
        self._rows.append(
            {
                "clip": _text(embedding.clip),
                "file": _text(embedding.file),
                "start": embedding.start,
                "end": embedding.end,
                "labels": list(embedding.labels),
                "status": embedding.status,
                "reason": _text(embedding.reason),
                "embedding": embedding.vector,
            }
        )
        if len(self._rows) == ROWS:
            self._flush()

    def _flush(self) -> None:
        self._writer.write_table(pa.Table.from_pylist(self._rows, schema=self._writer.schema))
        self._rows = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if kind is None:
            self._flush()
        self._writer.close()


def _text(text: str) -> str:
    """A file's name that is no UTF-8, as far as Parquet can hold it."""
    return text.encode("utf-8", "replace").decode() if not text.isprintable() else text
