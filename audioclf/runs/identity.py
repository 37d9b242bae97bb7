"""A run's identity: the hash of what can change its numbers, and the folder name that comes of it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel

from audioclf.clips.manifest import fingerprint
from audioclf.config import Config


def identity(config: Config) -> str:
    """The identity of a run: sha256 (hex) of the resolved configuration and of what its table of clips says.

    Left out is what cannot change a number: paths, checkpoint intervals, accelerator and the like
    (:data:`audioclf.config.NOT_IDENTITY`). Paths of data are replaced by the content of the table they lead to.

    Raises:
        UserError: the table cannot be read.
    """
    content = {"config": _essential(config), "table": fingerprint(config.data)}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def run_name(config: Config) -> str:
    """A folder name that says what a person looks for first and ends in the identity, so that no two runs share it."""
    data = config.data.name + (f".fold{config.data.fold}" if config.data.fold is not None else "")
    parts = [
        data,
        config.features.name,
        config.model.name,
        f"lr{config.lr:g}",
        f"epochs{config.epochs}",
        f"seed{config.seed}",
        identity(config)[:12],
    ]
    return "-".join(parts)


def _essential(section: BaseModel) -> dict[str, Any]:
    """A section's values without those marked as no part of the identity, recursively."""
    content = {}
    for name, field in type(section).model_fields.items():
        extra = field.json_schema_extra
        if isinstance(extra, dict) and extra.get("identity") is False:
            continue
        value = getattr(section, name)
        content[name] = _essential(value) if isinstance(value, BaseModel) else value
    return content


def swept_settings(config: Config) -> dict[str, Any]:
    """Hyper-parameters by dotted key, as simple values: what comparisons and TensorBoard's HParams tab list."""
    return dict(_flatten(_essential(config)))


def _flatten(content: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in content.items():
        if isinstance(value, dict):
            yield from _flatten(value, f"{prefix}{key}.")
        elif isinstance(value, list):
            yield f"{prefix}{key}", f"[{','.join(map(str, value))}]"
        else:
            yield f"{prefix}{key}", "null" if value is None else value
