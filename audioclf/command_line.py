"""The words after ``python train.py``: what they stand for, and whether all that they launch can be."""

from __future__ import annotations

import itertools
import re
from argparse import Namespace
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from hydra._internal.utils import get_args_parser
from hydra.core.override_parser.types import Glob, Override
from hydra.errors import HydraException
from omegaconf import OmegaConf

from audioclf.clips.manifest import read_manifest
from audioclf.clips.splits import fold_numbers
from audioclf.compose import conf_dir, load_config, options, parse_overrides
from audioclf.config import Config
from audioclf.errors import UserError, shown
from audioclf.runs.identity import REPETITIONS, run_name
from audioclf.sweep.space import axis_of

CHECK_LIMIT = 200  # values of one swept key that are checked before a sweep starts


def spell_out(argv: Sequence[str]) -> list[str]:
    """``fold=all`` as the folds of the data, and ``fold`` as the short word for ``data.fold``.

    Raises:
        UserError: several folds for one run, or data that has none.
    """
    words = [re.sub(r"^fold=", "data.fold=", word) for word in argv]
    everything = {"data.fold=all", "data.folds=all"} & set(words)
    if not everything:
        return words
    rest = [word for word in words if word not in everything]
    args = get_args_parser().parse_args(rest)
    if not _is_sweep(args):
        raise UserError("fold=all: several values; expected one", "add -m to launch a run for each")
    _, first, _ = _axes(args)
    config = load_config(first, args.config_name or "config")
    folds = fold_numbers(read_manifest(config.data, Path(config.paths.cache)).clips, config.data)
    return [*rest, f"data.fold={','.join(map(str, folds))}"]


def check_command_line(argv: Sequence[str]) -> None:
    """Checks every configuration that a command line launches, before Hydra makes a folder for any of them.

    A sweep is checked one key at a time (its other keys at their first values), so the cost is the sum of the axes
    and not their product. Help and information flags pass unchecked.

    Raises:
        UserError: the first configuration that is wrong.
    """
    args = get_args_parser().parse_args(list(argv))
    if args.help or args.hydra_help or args.info is not None or args.shell_completion:
        return
    name = args.config_name or "config"
    overrides, first, axes = _axes(args)
    config = _check_run(first, name)
    _check_search(config, [overrides[i] for i in axes])
    for i, values in axes.items():
        for value in values[1:]:
            _check_run([*first[:i], value, *first[i + 1 :]], name)


def _axes(args: Namespace) -> tuple[list[str], list[str], dict[int, list[str]]]:
    """The command line's overrides without Hydra's own; the same with the first of several values; the axes by place."""
    overrides = [o for o in args.overrides if not re.match(r"^[+~]*hydra[./=]", o)]
    parsed = parse_overrides(overrides)
    axes = {i: _values(o) for i, o in enumerate(parsed) if o.is_sweep_override()} if _is_sweep(args) else {}
    return overrides, [axes[i][0] if i in axes else line for i, line in enumerate(overrides)], axes


def _is_sweep(args: Namespace) -> bool:
    """Whether several runs are wanted: by ``-m``, or because the experiment named is a sweep."""
    experiments = [conf_dir() / f"{word.replace('=', '/')}.yaml" for word in args.overrides if "experiment=" in word]
    modes = [OmegaConf.select(OmegaConf.load(file), "hydra.mode") for file in experiments if file.is_file()]
    return args.multirun or "MULTIRUN" in modes


def _check_run(overrides: Sequence[str], config_name: str) -> Config:
    """Checks the configuration, and that its run can be named: its table of clips is there and readable."""
    config = load_config(overrides, config_name)
    run_name(config)
    return config


def _check_search(config: Config, swept: Sequence[str]) -> None:
    """Refuses an interval where nothing searches in it, and a search where Optuna is missing."""
    searched = config.search.name != "grid"
    for line in swept:
        override = parse_overrides([line])[0]
        if override.is_interval_sweep() and not (searched and override.key_or_group not in REPETITIONS):
            hint = "seeds and folds are repetitions of every trial" if searched else "add search=optuna to search in it"
            raise UserError(f"{shown(line)}: an interval; expected values: a,b,c", hint)
    if searched and swept and find_spec("optuna") is None:
        raise UserError("search=optuna: optuna is not installed", "pip install 'audioclf[search]'")


def _values(override: Override) -> list[str]:
    """One override line for each value of a swept override, the first :data:`CHECK_LIMIT`; both ends of an interval."""
    swept = override.value()
    if override.is_interval_sweep():
        return [f"{override.get_key_element()}={end}" for end in axis_of(override).ends]
    try:
        if isinstance(swept, Glob):
            values = iter(swept.filter(options(override.key_or_group)))
        else:
            values = override.sweep_string_iterator()
        lines = [f"{override.get_key_element()}={value}" for value in itertools.islice(values, CHECK_LIMIT)]
    except (HydraException, ValueError):
        lines = []
    if not lines:
        raise UserError(
            f"{shown(override.input_line or '')}: nothing to sweep over",
            "expected values: a,b,c or range(START,STOP)",
        )
    return lines
