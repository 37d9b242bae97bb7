"""The command line's side of Hydra: compose, check everything first, and say what is wrong in one line."""

from __future__ import annotations

import functools
import itertools
import re
import shlex
import sys
import traceback
from argparse import Namespace
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NoReturn

from hydra import compose, initialize_config_dir
from hydra._internal.utils import get_args_parser
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob, Override
from hydra.errors import CompactHydraException, HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from rich.text import Text

from audioclf.clips.manifest import read_manifest
from audioclf.clips.splits import fold_numbers
from audioclf.config import Config, check_paths, keys_of, parse_config, unknown_key
from audioclf.console import console, stderr
from audioclf.errors import EXIT_INTERRUPTED, EXIT_USAGE, UserError, nearest, shown
from audioclf.files import write_text
from audioclf.runs.folder import RunFolder
from audioclf.runs.identity import run_name
from audioclf.sweep.record import SWEEPS
from audioclf.sweep.space import axis_of

CHECK_LIMIT = 200  # values of one swept key that are checked before a sweep starts


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
    parsed = _parse(overrides)
    try:
        with initialize_config_dir(str(conf_dir()), version_base="1.3"):
            _check_single(parsed)
            _check_groups(parsed)
            try:
                raw = plain(compose(config_name, overrides=list(overrides)))
            except (HydraException, OmegaConfBaseException):
                groups = [(o.input_line or "").lstrip("+") for o in parsed if _is_group(o)]
                known = sorted(keys_of(plain(compose(config_name, overrides=groups))))
                for override in parsed:
                    _check_key(override, known)
                raise
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError(_first_lines(error), "`python train.py --help` shows groups and keys") from None
    typed = {o.key_or_group: _typed(o) for o in parsed}
    config = parse_config(raw, typed)
    check_paths(config)
    return config


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
    parsed = _parse(overrides)
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
    if config.search.name == "grid":
        for line in swept:
            if _parse([line])[0].is_interval_sweep():
                raise UserError(
                    f"{shown(line)}: an interval; expected values: a,b,c", "add search=optuna to search in it"
                )
    elif swept and find_spec("optuna") is None:
        raise UserError("search=optuna: optuna is not installed", "pip install 'audioclf[search]'")


@contextmanager
def user_errors() -> Iterator[None]:
    """Shows a :class:`UserError` as the line or two that it is and exits with 2; after Ctrl-C, with 130."""
    try:
        yield
    except UserError as error:
        show_error(error)
        sys.exit(EXIT_USAGE)
    except KeyboardInterrupt:
        stderr.print("stopped", markup=False)
        sys.exit(EXIT_INTERRUPTED)


def show_error(error: UserError) -> None:
    """Prints an error for people, on standard error."""
    stderr.print(Text.assemble(("error: ", "bold red"), error.message))
    if error.hint:
        stderr.print(Text.assemble(("hint:  ", "bold"), error.hint))


@functools.cache
def register_resolvers() -> None:
    """Makes ``${run_name:}`` known to Hydra: the folder name that a configuration's identity gives."""

    def resolve(*, _root_: DictConfig) -> str:
        return run_name(parse_config(plain(_root_)))

    OmegaConf.register_new_resolver("run_name", resolve, replace=True)


def _parse(overrides: Sequence[str]) -> list[Override]:
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


def _values(override: Override) -> list[str]:
    """One override line for each value of a swept override, the first :data:`CHECK_LIMIT`; both ends of an interval."""
    swept = override.value()
    if override.is_interval_sweep():
        return [f"{override.get_key_element()}={end}" for end in axis_of(override).ends]
    try:
        if isinstance(swept, Glob):
            values = iter(swept.filter(_options(override.key_or_group)))
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


def _is_group(override: Override) -> bool:
    return (conf_dir() / override.key_or_group).is_dir()


def _options(group: str) -> list[str]:
    """What a group of the configuration can be set to."""
    return sorted(p.stem for p in (conf_dir() / group).glob("*.yaml") if p.stem != "base")


def _check_single(overrides: Sequence[Override]) -> None:
    """Refuses several values for one run."""
    for override in overrides:
        if override.is_sweep_override():
            line = shown(override.input_line or "")
            raise UserError(f"{line}: several values; expected one", "add -m to launch a run for each")


def _check_groups(overrides: Sequence[Override]) -> None:
    """Refuses a choice that a group does not have, and a group's name set apart from its choice."""
    for override in overrides:
        key, value, option = override.key_or_group, _typed(override), override.value()
        group = key.removesuffix(".name")
        if group != key and (conf_dir() / group).is_dir():
            raise UserError(f"{key}={value}: not to be set; the choice of {group} decides it", f"write {group}={value}")
        if _is_group(override) and not override.is_delete() and option not in _options(group):
            guess = nearest(str(option), _options(group))
            raise UserError(
                f"{group}={value}: no such choice; expected one of {', '.join(_options(group))}",
                f"did you mean {group}={guess}?" if guess else None,
            )


def _check_key(override: Override, known: Sequence[str]) -> None:
    """Refuses a key that the chosen groups do not have, and the adding of one that they have."""
    key, value = override.key_or_group, _typed(override)
    if key not in known:
        raise _unknown(key, value, known)
    if override.is_add():
        raise UserError(f"+{key}={value}: {key} is there already; expected it without +", f"write {key}={value}")


def _typed(override: Override) -> str:
    """The value of an override as the user typed it."""
    return shown((override.input_line or "").split("=", 1)[-1])


def _unknown(key: str, value: str, known: Sequence[str]) -> UserError:
    """The error for an unknown key; where another option of its group has it, that option is the hint."""
    group, _, leaf = key.partition(".")
    folder = conf_dir() / group
    if leaf and folder.is_dir():
        files = {path.stem: OmegaConf.load(path) for path in sorted(folder.glob("*.yaml")) if path.stem != "base"}
        having = [name for name, file in files.items() if leaf in file or OmegaConf.select(file, key) is not None]
        if having:
            options = " or ".join(f"{group}={name}" for name in having)
            return UserError(f"{key}={value}: not a key of the chosen {group}", f"{key} belongs to {options}: add it")
    return unknown_key(key, value, known)


def _first_lines(error: Exception) -> str:
    """Hydra's message without its listings of folders and its advice on stack traces."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return shown(lines[0]) if lines else type(error).__name__


def run_task(cfg: DictConfig) -> float | None:
    """Hydra's task: trains one composed configuration and prints its table.

    Returns:
        The val macro-F1, for sweepers that search.

    Raises:
        SystemExit: 2 for a user's mistake, 130 after Ctrl-C.
    """
    from audioclf.training.fit import Interrupted, fit
    from audioclf.training.report import print_run

    hydra_config = HydraConfig.get()
    folder = _relative(Path(hydra_config.runtime.output_dir))
    if hydra_config.mode == RunMode.MULTIRUN:
        return _run_job(cfg, folder)
    try:
        config = parse_config(plain(cfg))
        check_paths(config)
        run = fit(config, folder)
    except UserError as error:
        _remove_if_empty(folder)
        show_error(error)
        sys.exit(EXIT_USAGE)
    except (Interrupted, KeyboardInterrupt) as stop:
        _interrupted(folder, stop)
    print_run(run)
    return float(run.result["val"]["f1_macro"])


def _run_job(cfg: DictConfig, folder: Path) -> float:
    """One job of a sweep: what it has to say stands in its folder, since nobody may see what it prints.

    Raises:
        CompactHydraException: the run failed, which ``failure.txt`` explains; the other jobs go on.
    """
    from audioclf.training.fit import Interrupted, fit

    try:
        config = parse_config(plain(cfg))
        console.quiet = config.launcher != "basic"  # progress bars of several processes would mix
        if config.search.study is not None:
            from audioclf.sweep.study import fit_trial

            return fit_trial(config, folder, folder.parent / SWEEPS / config.search.study)
        return float(fit(config, folder).result["val"]["f1_macro"])
    except (Interrupted, KeyboardInterrupt) as stop:
        _interrupted(folder, stop)
    except Exception as error:
        message = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
        write_text(RunFolder(folder).failure, f"{message}\n\n{traceback.format_exc()}")
        raise CompactHydraException(message) from None  # which every launcher can send home


def _interrupted(folder: Path, stop: BaseException) -> NoReturn:
    _remove_if_empty(folder)
    stderr.print(f"{str(stop) or 'stopped'}; the same command continues: {_command()}", markup=False)
    sys.exit(EXIT_INTERRUPTED)


def _remove_if_empty(folder: Path) -> None:
    """Removes the folder that Hydra made for a run of which nothing came."""
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()


def _relative(folder: Path) -> Path:
    """A folder as people type it: relative where it lies below the current one."""
    return folder.relative_to(Path.cwd()) if folder.is_relative_to(Path.cwd()) else folder


def _command() -> str:
    return shlex.join(["python", Path(sys.argv[0]).name, *sys.argv[1:]])
