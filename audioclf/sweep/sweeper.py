"""The sweep behind ``python train.py -m``: plan, prepare the data once, launch what is missing, compare what is there.

Hydra composes the configurations and its launchers run the jobs. What became of a run is read from its folder, so it
does not matter which process or machine trained it, or whether that process lived to tell.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from audioclf.compare.axis import value_text
from audioclf.compose import conf_dir, first_line, plain
from audioclf.config import Config, check_paths, parse_config
from audioclf.console import console, show_error, stderr, user_errors
from audioclf.errors import EXIT_FAILED, UserError
from audioclf.runs.folder import failure_message
from audioclf.sweep.plan import (
    PlannedRun,
    job_of,
    plan,
    sweep_name,
    trajectories,
    varying,
    why_not_shared,
)
from audioclf.sweep.record import SWEEPS, write_sweep
from audioclf.sweep.watch import Watch, stamp

Combination = tuple[str, tuple[str, ...]]
"""Label and overrides of one run, not yet composed."""


class Sweeper(BasicSweeper):
    """Every combination of the values named, each identity once.

    Args:
        max_batch_size: Hydra's; not used.
        params: ``hydra.sweeper.params``: overrides that an experiment brings.
    """

    def sweep(self, arguments: list[str]) -> None:
        """Runs the sweep and prints its comparison.

        Raises:
            SystemExit: 1 where a run failed, 2 where no combination can be run, 130 after Ctrl-C.
        """
        with user_errors():
            combinations, typed = self.combinations(arguments)
            runs, failed = self.planned(combinations)
            keys = varying(runs, typed)
            folder = self.outputs / SWEEPS / sweep_name(runs, keys)
            write_sweep(folder, keys, runs, failed)
            if len(combinations) > len(runs) + len(failed):
                are = "one run" if len(runs) == 1 else f"{len(runs)} different runs"
                console.print(f"{len(combinations)} combinations are {are}", markup=False)
            if note := why_not_shared(runs):
                console.print(note, markup=False)
            failed |= self.execute(runs)
            write_sweep(folder, keys, runs, failed)
            end(folder, runs, failed)

    @property
    def outputs(self) -> Path:
        """The folder of run folders."""
        assert self.config is not None
        folder = Path(str(self.config.hydra.sweep.dir))
        return folder.relative_to(Path.cwd()) if folder.is_relative_to(Path.cwd()) else folder

    def combinations(self, arguments: Sequence[str]) -> tuple[list[Combination], list[str]]:
        """Every combination of a command line's values, and the keys that have several, as typed."""
        assert self.hydra_context is not None
        parser = OverridesParser.create(config_loader=self.hydra_context.config_loader)
        given = parser.parse_overrides([*self._parse_config(), *arguments])
        overrides = list({override.get_key_element(): override for override in given}.values())  # the last one counts
        swept = {override.get_key_element() for override in overrides if override.is_sweep_override()}
        combinations: list[Combination] = []
        for words in self.split_arguments(overrides, None)[0]:
            label = " ".join(_as_written(word) for word in words if word.partition("=")[0] in swept)
            combinations.append((label, tuple(words)))
        keys = [override.key_or_group for override in overrides if override.is_sweep_override()]
        return combinations, [f"{key}.name" if (conf_dir() / key).is_dir() else key for key in keys]

    def compose(self, overrides: Sequence[str]) -> Config:
        """The configuration of one combination.

        Raises:
            UserError: values that do not go together.
        """
        assert self.hydra_context is not None and self.config is not None
        try:
            raw = plain(self.hydra_context.config_loader.load_sweep_config(self.config, list(overrides)))
        except (HydraException, OmegaConfBaseException) as error:
            raise UserError(first_line(error)) from None
        config = parse_config(raw)
        check_paths(config)
        return config

    def planned(self, combinations: Sequence[Combination]) -> tuple[list[PlannedRun], dict[str, str]]:
        """The runs of combinations, and why some of them cannot be.

        Raises:
            UserError: none of them can be.
        """
        composed, failed = [], {}
        first: UserError | None = None
        for label, overrides in combinations:
            try:
                composed.append((label, overrides, self.compose(overrides)))
            except UserError as error:
                failed[label] = str(error)
                first = first or error
        if first is not None and not composed:
            raise first
        return plan(composed, self.outputs), failed

    def execute(self, runs: Sequence[PlannedRun]) -> dict[str, str]:
        """Trains the runs that are not finished.

        Returns:
            Label of each run that failed → why.
        """
        from audioclf.training.fit import finished

        states, failed = self._states(runs)
        ready = [run for run in runs if run.label in states]
        todo = [run for run in ready if run.config.retrain or finished(run.folder, states[run.label]) is None]
        if done := len(ready) - len(todo):
            console.print(f"{done} of {len(runs)} runs are finished already", markup=False)
        for run in todo:
            run.folder.failure.unlink(missing_ok=True)
        with Watch(todo, done) as watch:
            died = self._launch(trajectories(todo))
        for run in todo:
            as_before = run.config.retrain and not watch.is_new(run)
            if as_before or finished(run.folder, states[run.label]) is None:
                failed[run.label] = run.folder.read_failure() or died.get(run.label) or "it ended without a result"
        return failed

    def _states(self, runs: Sequence[PlannedRun]) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
        """Imports, fetches and extracts what the runs need, once for all of them, before the first one starts.

        What fails costs only the runs that need it.

        Returns:
            Label → what a finished run of it has to say of itself; and label → why its data cannot be had.
        """
        from audioclf.training.fit import data_module, state_of

        fingerprints: dict[str, str | Exception] = {}
        states, failed = {}, {}
        for run in runs:
            config = run.config
            wanted = config.data.model_dump_json() + config.features.model_dump_json() + config.paths.cache
            if wanted not in fingerprints:
                try:
                    data = data_module(config)
                    data.prepare_data()
                    fingerprints[wanted] = data.fingerprint
                except Exception as error:
                    fingerprints[wanted] = error
                    show_error(error if isinstance(error, UserError) else UserError(failure_message(error)))
            found = fingerprints[wanted]
            if isinstance(found, Exception):
                if run.folder.read_result() is None:  # what is finished has not failed, whatever became of its data
                    run.folder.write_failure(found)
                failed[run.label] = failure_message(found)
            else:
                states[run.label] = state_of(config, found)
        return states, failed

    def _launch(self, ways: Sequence[Sequence[PlannedRun]]) -> dict[str, str]:
        """Launches a job for each trajectory.

        A worker process that dies may take the launcher's pool with it. Those of its jobs that had begun then get a
        launch of their own, one by one, so that one bad run costs no other; the rest go on together.

        Returns:
            Label of each run whose process died → what the launcher said of it.
        """
        assert self.launcher is not None
        if not ways:
            return {}
        before = {way[-1].label: stamp(way[-1]) for way in ways}
        try:
            self.launcher.launch([job_of(way) for way in ways], initial_job_idx=0)
        except UserError:
            raise
        except Exception as error:  # whatever a launcher's library makes of a dead process
            left = [w for w in ways if not w[-1].folder.failure.exists() and stamp(w[-1]) == before[w[-1].label]]
            if len(ways) == 1:
                return {run.label: f"its process died: {_said(error)}" for run in left[0]} if left else {}
            begun = [way for way in left if way[-1].folder.read_state() is not None] or left
            stderr.print(f"a job's process died ({_said(error)}); what had begun goes on one by one", markup=False)
            died: dict[str, str] = {}
            for way in begun:
                died |= self._launch([way])
            return died | self._launch([way for way in left if way not in begun])
        return {}


def end(folder: Path, runs: Sequence[PlannedRun], failed: dict[str, str]) -> None:
    """Prints and writes the comparison of a sweep, and what failed.

    Args:
        folder: the sweep's.
        runs: all of its runs.
        failed: label of each run, or of each combination that cannot be one → why.

    Raises:
        SystemExit: 1 where a run failed, or nothing can be compared.
    """
    from audioclf.compare.compare import compare
    from audioclf.compare.tables import print_comparison, write_comparison

    try:
        comparison = compare([folder])
        write_comparison(comparison, folder)
        print_comparison(comparison)
        console.print(f"written to {folder}", markup=False, soft_wrap=True)
    except UserError as error:
        show_error(error)
        if not failed:
            sys.exit(EXIT_FAILED)
    for label, why in failed.items():
        stderr.print(f"failed: {label}: {why}" if label else f"failed: {why}", markup=False)
    if failed:
        names = {run.label: run.folder for run in runs}
        traces = [names[label].failure for label in failed if label in names and names[label].failure.exists()]
        if traces:
            stderr.print(f"traceback: {traces[0]}", markup=False, soft_wrap=True)
        total = len(names.keys() | failed.keys())
        stderr.print(f"{len(failed)} of {total} runs failed; the same command tries them again", markup=False)
        sys.exit(EXIT_FAILED)


def _as_written(word: str) -> str:
    """A word of the command line with its number as people write it: ``lr=1e-5``, where Hydra has ``lr=1e-05``."""
    key, _, value = word.partition("=")
    try:
        number = float(value) if {".", "e"} & set(value) else None
    except ValueError:
        number = None
    return word if number is None else f"{key}={value_text(number, 12)}"


def _said(error: Exception) -> str:
    """The first sentence of a library's error."""
    lines = (line.strip() for line in str(error).splitlines())
    return next((line.partition(". ")[0].rstrip(".") for line in lines if line), type(error).__name__)
