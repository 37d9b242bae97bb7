"""A configuration as the command that composes it."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from audioclf.compose import load_config
from audioclf.config import Config
from audioclf.runs.identity import short

GROUPS = ("data", "features", "model", "loss")
NOT_TYPED = ("marks", "retrain", "search.study", "search.trial", "search.name", "launcher", "fetch.enabled")
"""Keys that a sweep or a search sets for its runs."""
BARE = re.compile(r"(?!(?:null|true|false|nan|inf)$)[A-Za-z/.][A-Za-z0-9_./-]*", re.IGNORECASE)
"""Texts that Hydra's grammar takes without quotes, and that are no number or word of its own."""


def overrides_of(config: Config) -> list[str]:
    """The overrides that compose a configuration: its choices, and each key that is not as they have it.

    Args:
        config: any; keys that a sweep or a search sets for its runs are left out.
    """
    content = config.model_dump()
    choices = [f"{group}={content[group]['name']}" for group in GROUPS]
    needed = [f"data.{key}={value!s}" for key, value in content["data"].items() if key in ("csv", "root") and value]
    plain = dict(_flat(_composed([*choices, *map(_quoted, needed)])))
    defaults = _composed([])
    said = [
        word for group, word in zip(GROUPS, choices, strict=True) if defaults[group]["name"] != content[group]["name"]
    ]
    found = dict(_flat(content))
    for key in NOT_TYPED:
        found.pop(key, None)
    changed = [f"{key}={hydra_value(value)}" for key, value in found.items() if plain.get(key, _MISSING) != value]
    paths = [f"{key}={hydra_value(found[key])}" for key in ("data.csv", "data.root") if found.get(key) is not None]
    return [*said, *(word for word in paths if word not in changed), *changed]


def train_command(config: Config, repair: Sequence[str] = ()) -> str:
    """``python train.py ...`` that trains a configuration with a repair's overrides.

    Args:
        config: the run's.
        repair: overrides; they replace the configuration's own.
    """
    replaced = {word.partition("=")[0] for word in repair}
    words = [word for word in overrides_of(config) if word.partition("=")[0] not in replaced]
    return shlex.join(["python", "train.py", *words, *repair])


def hydra_value(value: Any) -> str:
    """A value as Hydra's grammar reads it back."""
    if value is None:
        return "null"
    if isinstance(value, str):
        return value if BARE.fullmatch(value) else _in_quotes(value)
    if isinstance(value, list):
        return "[" + ",".join(map(hydra_value, value)) + "]"
    if isinstance(value, float):
        return short(value) if float(short(value)) == value else repr(value)
    return json.dumps(value)


def _in_quotes(text: str) -> str:
    """Backslashes stand for themselves but before a quote, and at the end."""
    escaped = re.sub(r'(\\*)"', lambda found: found[1] * 2 + '\\"', text)
    escaped = re.sub(r"\\+$", lambda found: found[0] * 2, escaped)
    return f'"{escaped}"'


_MISSING = object()


def _quoted(word: str) -> str:
    key, _, value = word.partition("=")
    return f"{key}={hydra_value(value)}"


def _composed(overrides: list[str]) -> dict[str, Any]:
    return load_config(overrides).model_dump()


def _flat(content: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in content.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        elif key != "name":
            yield f"{prefix}{key}", value
