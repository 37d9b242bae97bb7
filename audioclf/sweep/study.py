"""The trials of a search: what Optuna proposes and learns, in an SQLite file that several processes share.

A trial belongs to the process that holds the lock of its name. The system takes the lock from a process that dies, so
that a trial without an owner is known at once, and taken up again with the same values.
"""

from __future__ import annotations

import contextlib
import datetime
import functools
import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from filelock import FileLock, Timeout
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial, Trial, TrialState

from audioclf.config import Config
from audioclf.runs.folder import RunFolder
from audioclf.sweep.space import Axis, Choice

FILE = "study.sqlite"
NAME = "search"
BUSY_S = 120.0
"""How long a write waits for those of other processes; SQLite's own 5 s are too few for many jobs."""
ETA = 3
"""Of the trials that reach a rung, one in so many goes on to the next, so many times as many epochs later."""
RUNGS = 2
"""Rungs on the way to all epochs: at a ninth and a third of them."""


@dataclass(frozen=True)
class Claimed:
    """A trial that is this process's to run.

    Attributes:
        number: from 0.
        values: key of each axis → what Optuna proposes.
    """

    number: int
    values: dict[str, Any]


class Study:
    """A search's trials.

    Args:
        folder: the search's; made where it is missing.
        axes: what is searched in.
        first_rung: the epoch at which trials are first compared and given up; None: never.

    Attributes:
        folder: the search's.
        prunes: whether trials may be given up.
        lock: held while trials are proposed, and while files are written from all of them.
    """

    def __init__(self, folder: Path, axes: Sequence[Axis], first_rung: int | None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.prunes = folder, first_rung is not None
        self._distributions = {axis.key: _distribution(axis) for axis in axes}
        self.lock = FileLock(folder / ".study.lock")
        self._owned: dict[int, FileLock] = {}
        self._started = datetime.datetime.now()
        with self.lock:
            self._study = optuna.create_study(
                storage=_storage(folder / FILE),
                study_name=NAME,
                direction="maximize",
                sampler=_SeededTPE(),
                load_if_exists=True,
            )
            self._study.set_user_attr("first_rung", first_rung)

    @property
    def trials(self) -> list[FrozenTrial]:
        """Those that count, by number: not those that were tried again, nor what a kill left half proposed."""
        facts = self.facts
        return [trial for trial in self._whole() if "again" not in facts.get(trial.number, {})]

    @property
    def facts(self) -> dict[int, dict[str, Any]]:
        """What was noted of trials, by number."""
        return {int(number): facts for number, facts in self._study.user_attrs.items() if number.isdigit()}

    @property
    def best(self) -> FrozenTrial | None:
        """The finished trial of the highest objective, the earliest of several."""
        complete = [trial for trial in self.trials if trial.state == TrialState.COMPLETE]
        return max(complete, key=lambda trial: trial.value or 0.0, default=None)

    def claim(self, wanted: int, total: int) -> list[Claimed]:
        """Trials to run next: those whose process died, then those that failed before now, then new ones.

        Args:
            wanted: at most so many.
            total: of the whole search, whichever processes run them.
        """
        with self.lock:
            self._clear_up()
            trials = self.trials
            claimed = [t.number for t in trials if t.state == TrialState.RUNNING and self._own(t.number, wanted)]
            left = total - len(trials)
            while len(claimed) < wanted and left > 0:
                number = self._study.ask(self._distributions).number
                self._own(number, wanted)
                claimed.append(number)
                left -= 1
            params = {trial.number: trial.params for trial in self.trials}
        return [Claimed(number, dict(params[number])) for number in claimed]

    def note(self, number: int, **facts: Any) -> None:
        """Writes facts beside a trial, in the study's file."""
        self._study.set_user_attr(str(number), self.facts.get(number, {}) | facts)

    def tell(self, number: int, objective: float | None, why: str | None = None) -> FrozenTrial:
        """Ends a trial, unless its job gave it up, and gives the trial as it stands then.

        Args:
            number: of the trial.
            objective: to be maximised; None (or NaN): it failed.
            why: it failed.
        """
        good = objective is not None and math.isfinite(objective)
        if not good and not self._find(number).state.is_finished():
            self.note(number, error=why or "its objective is no number")
        state = TrialState.COMPLETE if good else TrialState.FAIL
        self._study.tell(number, objective if good else None, state=state, skip_if_finished=True)
        lock = self._owned.pop(number)
        lock.release()
        with contextlib.suppress(OSError):
            Path(lock.lock_file).unlink()
        return self._find(number)

    def _find(self, number: int) -> FrozenTrial:
        return self._study.get_trials(deepcopy=False)[number]

    def _own(self, number: int, most: int) -> bool:
        """Makes a trial this process's, where it is nobody's and this process has not enough."""
        lock = FileLock(self.folder / f".trial{number}.lock")
        if number in self._owned or len(self._owned) >= most:
            return False
        try:
            lock.acquire(timeout=0)
        except Timeout:
            return False
        self._owned[number] = lock
        return True

    def _whole(self) -> list[FrozenTrial]:
        """The trials that have all their values."""
        return [t for t in self._study.get_trials(deepcopy=False) if t.params.keys() == self._distributions.keys()]

    def _clear_up(self) -> None:
        """Ends what a kill left half proposed, and queues what failed before this process began."""
        whole = {trial.number for trial in self._whole()}
        for trial in self._study.get_trials(deepcopy=False, states=[TrialState.RUNNING]):
            if trial.number not in whole:  # only who holds the lock proposes
                self._study.tell(trial.number, state=TrialState.FAIL)
        for trial in self.trials:
            ended = trial.datetime_complete
            if trial.state == TrialState.FAIL and ended is not None and ended < self._started:
                self.note(trial.number, again=True)
                self._study.enqueue_trial(trial.params)


class Prune:
    """Asked after each epoch whether to give a trial up: ASHA, asynchronous successive halving.

    At each rung a trial goes on where it is among the best third of those that came that far (L. Li et al., A System for
    Massively Parallel Hyperparameter Tuning, 2020). Its value there is what it would score if it ended there. No rung is
    judged twice, also where the run was resumed in between.

    Args:
        folder: of the search.
        number: of the trial.
        run: its run.
        best: whether a run scores its best epoch's val macro-F1; else its last one's.
    """

    def __init__(self, folder: Path, number: int, run: RunFolder, best: bool) -> None:
        study = optuna.load_study(study_name=NAME, storage=_storage(folder / FILE), sampler=RandomSampler())
        first = study.user_attrs["first_rung"]
        study.pruner = optuna.pruners.SuccessiveHalvingPruner(min_resource=first, reduction_factor=ETA)
        self._study, self._run, self._best = study, run, best
        self._rungs = [first * ETA**n for n in range(RUNGS)]
        frozen = study.get_trials(deepcopy=False)[number]
        self._reported = set(frozen.intermediate_values)
        self.over = frozen.state.is_finished()
        self._trial = None if self.over else Trial(study, frozen._trial_id)

    def __call__(self, epochs: int, f1: float) -> bool:
        """Whether to give the run up after so many epochs; the trial ends with a yes."""
        assert self._trial is not None
        for rung in [rung for rung in self._rungs if rung <= epochs]:
            if rung not in self._reported:
                self._trial.report(self._value(rung, f1), rung)
                self._reported.add(rung)
            elif rung < epochs:
                continue
            if self._trial.should_prune():
                self._study.tell(self._trial.number, state=TrialState.PRUNED)
                return True
        return False

    def _value(self, rung: int, f1: float) -> float:
        curve = [row["val_f1_macro"] for row in self._run.read_metrics()[:rung]] or [f1]
        curve = [0.0 if math.isnan(value) else value for value in curve]
        return max(curve) if self._best else curve[-1]


def fit_trial(config: Config, folder: Path, study: Path) -> float:
    """Trains a trial's run, or gives it up on the way.

    Args:
        config: of the run; ``search.trial`` names the trial.
        folder: the run's.
        study: folder of the search.

    Returns:
        Val macro-F1; NaN where the trial was given up.
    """
    from audioclf.training.fit import Pruned, fit

    assert config.search.trial is not None
    prune = Prune(study, config.search.trial, RunFolder(folder), config.trainer.select == "best")
    try:
        return math.nan if prune.over else float(fit(config, folder, prune).result["val"]["f1_macro"])
    except Pruned:
        return math.nan


class _SeededTPE(BaseSampler):
    """Optuna's TPE (S. Watanabe, 2023), its random numbers a function of the trial's number.

    So a search that was stopped proposes what an uninterrupted one does, and two processes never propose the same.
    Running trials count as bad ones (``constant_liar``), so that those at the same time lie apart.
    """

    def __init__(self) -> None:
        self._number = -1
        self._tpe = TPESampler()

    def _of(self, trial: FrozenTrial) -> TPESampler:
        if trial.number != self._number:
            seed = int(np.random.SeedSequence(trial.number).generate_state(1)[0])
            self._number, self._tpe = trial.number, TPESampler(seed=seed, constant_liar=True)
        return self._tpe

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """The keys that are proposed together."""
        return self._of(trial).infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Their values."""
        return self._of(trial).sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """The value of a key by itself."""
        return self._of(trial).sample_independent(study, trial, param_name, param_distribution)


def _distribution(axis: Axis) -> BaseDistribution:
    if isinstance(axis, Choice):
        return CategoricalDistribution(axis.values)
    if axis.whole:
        return IntDistribution(int(axis.low), int(axis.high), log=axis.log, step=int(axis.step or 1))
    return FloatDistribution(axis.low, axis.high, log=axis.log, step=axis.step)


@functools.lru_cache(maxsize=1)
def _storage(path: Path) -> optuna.storages.RDBStorage:
    """The study's file, opened once in a process."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.filterwarnings("ignore", module=r"optuna\..*")
    return optuna.storages.RDBStorage(f"sqlite:///{path}", engine_kwargs={"connect_args": {"timeout": BUSY_S}})
