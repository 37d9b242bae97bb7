"""Composes ``conf/`` with overrides and checks the result, and says what is wrong in one line."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from audioclf.config import Config, check_paths, keys_of, parse_config, unknown_key
from audioclf.errors import UserError, nearest, shown
from audioclf.runs.identity import run_name


def conf_dir() -> Path:
    """The folder of the shipped configuration: beside the package in a checkout, inside it in an installed wheel."""
    package = Path(__file__).resolve().parent
    beside = package.parent / "conf"
    return beside if beside.is_dir() else package / "conf"


def plain(cfg: DictConfig) -> dict[str, Any]:
    """A composed configuration as plain containers, resolved, without Hydra's own part."""
    raw = OmegaConf.to_container(OmegaConf.masked_copy(cfg, [str(k) for k in cfg if k != "hydra"]), resolve=True)
    assert isinstance(raw, dict)
    return {str(key): value for key, value in raw.items()}


def load_config(overrides: Sequence[str] = (), config_name: str = "config") -> Config:
    """Composes ``conf/`` with overrides and checks the result.

    Args:
        overrides: as on the command line, e.g. ``["lr=1e-4", "data=esc10"]``.
        config_name: the file in ``conf/`` to start from.

    Raises:
        UserError: an override or a value that is wrong, or a path that is not there.
    """
    register_resolvers()
    parsed = parse_overrides(overrides)
    try:
        with initialize_config_dir(str(conf_dir()), version_base="1.3"):
            _check_single(parsed)
            _check_groups(parsed)
            try:
                raw = plain(compose(config_name, overrides=list(overrides)))
            except (HydraException, OmegaConfBaseException):
                groups = [(o.input_line or "").lstrip("+") for o in parsed if is_group(o)]
                known = sorted(keys_of(plain(compose(config_name, overrides=groups))))
                for override in parsed:
                    _check_key(override, known)
                raise
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError(first_line(error), "`python train.py --help` shows groups and keys") from None
    typed = {o.key_or_group: as_typed(o) for o in parsed}
    config = parse_config(raw, typed)
    check_paths(config)
    return config


@functools.cache
def register_resolvers() -> None:
    """Makes ``${run_name:}`` known to Hydra: the folder name that a configuration's identity gives."""

    def resolve(*, _root_: DictConfig) -> str:
        return run_name(parse_config(plain(_root_)))

    OmegaConf.register_new_resolver("run_name", resolve, replace=True)


def parse_overrides(overrides: Sequence[str]) -> list[Override]:
    """Overrides as Hydra understands them.

    Raises:
        UserError: one that it does not.
    """
    parser = OverridesParser.create()
    parsed = []
    for text in overrides:
        try:
            override = parser.parse_override(text)
        except (HydraException, ValueError, RecursionError):  # Python refuses numbers of thousands of digits
            override = None
        if override is None or not override.key_or_group:
            hint = "quote values with special characters: 'key=\"value\"'" if "=" in text else None
            raise UserError(f"{shown(text)}: not understood; expected KEY=VALUE", hint)
        parsed.append(override)
    return parsed


def is_group(override: Override) -> bool:
    """Whether it chooses an option of a group, e.g. ``model=linear``."""
    return (conf_dir() / override.key_or_group).is_dir()


def options(group: str) -> list[str]:
    """What a group of the configuration can be set to."""
    return sorted(path.stem for path in (conf_dir() / group).glob("*.yaml") if not is_base(path))


def is_base(path: Path) -> bool:
    """Whether a file of a group is what several of its options share, and none itself."""
    return path.stem == "base" or path.stem.startswith("base_")


def option_content(path: Path) -> DictConfig:
    """A file of a group, with what it is based on."""
    content = OmegaConf.load(path)
    assert isinstance(content, DictConfig)
    below = [name for name in content.pop("defaults", []) if isinstance(name, str) and name != "_self_"]
    merged = OmegaConf.merge(*(option_content(path.with_name(f"{name}.yaml")) for name in below), content)
    assert isinstance(merged, DictConfig)
    return merged


def _check_single(overrides: Sequence[Override]) -> None:
    """Refuses several values for one run."""
    for override in overrides:
        if override.is_sweep_override():
            line = shown(override.input_line or "")
            raise UserError(f"{line}: several values; expected one", "add -m to launch a run for each")


def _check_groups(overrides: Sequence[Override]) -> None:
    """Refuses a choice that a group does not have, and a group's name set apart from its choice."""
    for override in overrides:
        key, value, option = override.key_or_group, as_typed(override), override.value()
        group = key.removesuffix(".name")
        if group != key and (conf_dir() / group).is_dir():
            raise UserError(f"{key}={value}: not to be set; the choice of {group} decides it", f"write {group}={value}")
        if is_group(override) and not override.is_delete() and option not in options(group):
            guess = nearest(str(option), options(group))
            raise UserError(
                f"{group}={value}: no such choice; expected one of {', '.join(options(group))}",
                f"did you mean {group}={guess}?" if guess else None,
            )


def _check_key(override: Override, known: Sequence[str]) -> None:
    """Refuses a key that the chosen groups do not have, and the adding of one that they have."""
    key, value = override.key_or_group, as_typed(override)
    if key not in known:
        raise _unknown(key, value, known)
    if override.is_add():
        raise UserError(f"+{key}={value}: {key} is there already; expected it without +", f"write {key}={value}")


def as_typed(override: Override) -> str:
    """The value of an override as the user typed it."""
    return shown((override.input_line or "").split("=", 1)[-1])


def _unknown(key: str, value: str, known: Sequence[str]) -> UserError:
    """The error for an unknown key; where another option of its group has it, that option is the hint."""
    group, _, leaf = key.partition(".")
    folder = conf_dir() / group
    if leaf and folder.is_dir():
        files = {name: option_content(folder / f"{name}.yaml") for name in options(group)}
        having = [name for name, file in files.items() if leaf in file or OmegaConf.select(file, key) is not None]
        if having:
            chosen = " or ".join(f"{group}={name}" for name in having)
            return UserError(f"{key}={value}: not a key of the chosen {group}", f"{key} belongs to {chosen}: add it")
    return unknown_key(key, value, known)


def first_line(error: Exception) -> str:
    """Hydra's message without its listings of folders and its advice on stack traces."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return shown(lines[0]) if lines else type(error).__name__
