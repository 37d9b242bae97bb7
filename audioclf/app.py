"""What Hydra calls: trains one composed configuration, alone or as a job of a sweep."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import NoReturn

from hydra.core.hydra_config import HydraConfig
from hydra.errors import CompactHydraException
from hydra.types import RunMode
from omegaconf import DictConfig

from audioclf.compose import plain
from audioclf.config import check_paths, parse_config
from audioclf.console import console, show_error, stderr
from audioclf.errors import EXIT_INTERRUPTED, EXIT_USAGE, UserError
from audioclf.runs.folder import RunFolder, failure_message
from audioclf.sweep.record import SWEEPS


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
        run = fit(config, folder, tell=lambda line: console.print(line, markup=False, soft_wrap=True))
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
        if config.search.study is not None:
            from audioclf.sweep.study import fit_trial

            return fit_trial(config, folder, folder.parent / SWEEPS / config.search.study)
        return float(fit(config, folder).result["val"]["f1_macro"])
    except (Interrupted, KeyboardInterrupt) as stop:
        _interrupted(folder, stop)
    except Exception as error:
        RunFolder(folder).write_failure(error)
        raise CompactHydraException(failure_message(error)) from None  # which every launcher can send home


def _interrupted(folder: Path, stop: BaseException) -> NoReturn:
    _remove_if_empty(folder)
    stderr.print(f"{str(stop) or 'stopped'}; the same command continues: {_command()}", markup=False)
    sys.exit(EXIT_INTERRUPTED)


def _remove_if_empty(folder: Path) -> None:
    """Removes the folder that Hydra made for a run of which nothing came."""
    if folder.is_dir() and not any(folder.iterdir()) and folder.resolve() != Path.cwd():
        folder.rmdir()


def _relative(folder: Path) -> Path:
    """A folder as people type it: relative where it lies below the current one."""
    return folder.relative_to(Path.cwd()) if folder.is_relative_to(Path.cwd()) else folder


def _command() -> str:
    return shlex.join(["python", Path(sys.argv[0]).name, *sys.argv[1:]])
