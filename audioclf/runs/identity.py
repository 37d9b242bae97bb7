"""A run's identity: the hash of what can change its numbers, and the folder name that comes of it."""

from __future__ import annotations

import functools
import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from audioclf.clips.manifest import fingerprint
from audioclf.config import CONTENT, Config
from audioclf.weights import identified, is_url

LONGEST_NAME = 150
"""Characters of a run's name: file systems end at 255 bytes, and a lock's name is longer."""
LONGEST_VALUE = 32
"""Characters of a text in a run's name, so that a list of classes leaves room for what comes after it."""

REPETITIONS = ("seed", "data.fold")
"""Keys that make another repetition of a setting, not another setting."""


def identity(config: Config) -> str:
    """The identity of a run: sha256 (hex) of the resolved configuration, of its weights and of its table of clips.

    Left out is what cannot change a number: paths, checkpoint intervals, accelerator and the like
    (:data:`audioclf.config.NOT_IDENTITY`). Paths of data are replaced by the content of the table they lead to, and
    paths of weights by a digest of the files.

    Raises:
        UserError: the table cannot be read.
    """
    content = {"config": identified(config), "table": fingerprint(config.data)}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def trajectory(config: Config) -> str:
    """The same for runs that differ in ``epochs`` alone and so pass through the same weights, epoch by epoch.

    Where the learning rate's schedule depends on ``epochs``, a run may stop before them, or several devices train it
    (which write nothing down on the way), no other run has it.
    """
    return identity(config.model_copy(update={"epochs": 1}) if shares_epochs(config) else config)


def shares_epochs(config: Config) -> bool:
    """Whether a run of more epochs begins with this one."""
    trainer = config.trainer
    return config.optimizer.schedule == "constant" and trainer.patience is None and trainer.devices == 1


def run_name(config: Config) -> str:
    """A folder name that says what a person looks for, and ends in the identity, so that no two runs share it.

    Said are data (and fold), front-end, model and any loss but cross-entropy, then every key that has no default (lr,
    epochs, seed) or another value than its default, e.g.
    ``esc10.fold1-mel-audio_classifier-lr3e-5-epochs50-seed0-n_mels32-3fa9c1d20b7e``: at most :data:`LONGEST_NAME`
    characters of ``A-Z a-z 0-9 . _ -``. What would be longer is not said, last keys first.
    """
    data = config.data.name + (f".fold{config.data.fold}" if config.data.fold is not None else "")
    said = [_said(key, value) for key, value in _unusual(config) if key != "data.fold"]
    loss = [] if config.loss.name == "cross_entropy" else [config.loss.name]
    parts = [data, config.features.name, config.model.name, *loss, *said]
    end = f"-{identity(config)[:12]}"
    while len("-".join(parts) + end) > LONGEST_NAME and len(parts) > 1:
        parts.pop()
    return "-".join(parts)[: LONGEST_NAME - len(end)] + end


def _unusual(section: BaseModel, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted key and value of what is part of the identity and not at its default; names of choices left out."""
    for name, field in _fields(type(section)):
        value = getattr(section, name)
        if isinstance(value, BaseModel):
            yield from _unusual(value, f"{prefix}{name}.")
        elif field.json_schema_extra == CONTENT and isinstance(value, str) and (is_url(value) or Path(value).exists()):
            continue  # a path names no weights; the name ends in what does
        elif name != "name" and (field.is_required() or value != field.get_default(call_default_factory=True)):
            yield f"{prefix}{name}", value


def _said(key: str, value: Any) -> str:
    """A key and its value as a part of a folder name: ``lr3e-5``, ``n_mels32``, ``schedule_cosine``."""
    leaf = key.rpartition(".")[2]
    name = leaf if _leaves()[leaf] == 1 else key
    if isinstance(value, int | float) and not isinstance(value, bool):
        return f"{name}{short(value)}"
    text = ".".join(value) if isinstance(value, list) else value if isinstance(value, str) else json.dumps(value)
    return f"{name}_{re.sub(r'[^A-Za-z0-9._]+', '_', text)[:LONGEST_VALUE]}"


def short(value: float) -> str:
    """A number as people write it: ``3e-5``, ``1e-2``, ``0.25``, ``8000``; what is no integer, to 6 digits."""
    if isinstance(value, int):
        return str(value)
    plain = f"{value:g}"
    digits, _, power = f"{value:.5e}".partition("e")
    scientific = f"{digits.rstrip('0').rstrip('.')}e{int(power)}"
    return plain if 0.1 <= abs(value) < 1e6 or len(plain) < len(scientific) else scientific


@functools.cache
def _leaves() -> Counter[str]:
    """How many keys of the schema, whichever choices are made, end in a name."""
    return Counter(key.rpartition(".")[2] for key in set(_schema_keys(Config)))


def _schema_keys(section: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Every dotted key that some configuration has; once for each choice that has it."""
    for name, field in section.model_fields.items():
        kinds = get_args(field.annotation) or (field.annotation,)
        sections = [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)]
        if not sections:
            yield f"{prefix}{name}"
        for below in sections:
            yield from _schema_keys(below, f"{prefix}{name}.")


def _fields(section: type[BaseModel]) -> Iterator[tuple[str, FieldInfo]]:
    """A section's fields without those marked as no part of the identity."""
    for name, field in section.model_fields.items():
        extra = field.json_schema_extra
        if not (isinstance(extra, dict) and extra.get("identity") is False):
            yield name, field


def swept_settings(config: Config) -> dict[str, Any]:
    """Hyper-parameters by dotted key, as simple values: what comparisons and TensorBoard's HParams tab list."""
    return dict(_flatten(identified(config)))


def _flatten(content: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in content.items():
        if isinstance(value, dict):
            yield from _flatten(value, f"{prefix}{key}.")
        elif isinstance(value, list):
            yield f"{prefix}{key}", f"[{','.join(map(str, value))}]"
        else:
            yield f"{prefix}{key}", "null" if value is None else value
