"""``search=optuna``: a sweep that proposes its settings one after another, each by what the earlier ones scored on val.

A trial is one setting with all its seeds and folds. Its runs are runs like any other: in the same folders, trained
once, resumed where they stopped.
"""

from __future__ import annotations

import hashlib
import math
import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override

from audioclf.compose import conf_dir
from audioclf.config import Config
from audioclf.console import console, user_errors
from audioclf.errors import UserError
from audioclf.files import write_text
from audioclf.runs.folder import RunFolder, to_json
from audioclf.runs.identity import REPETITIONS, identity, run_name, swept_settings
from audioclf.sweep.plan import PlannedRun
from audioclf.sweep.record import LAYOUT, SWEEPS
from audioclf.sweep.space import Axis, Choice, Interval, axis_of, words
from audioclf.sweep.sweeper import Combination, Sweeper, end
from audioclf.sweep.watch import say, short

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

    from audioclf.sweep.study import Claimed, Study

AT_ONCE = 3
"""At most the n-th part of the trials runs at the same time: what is proposed all at once learns from nothing."""
NOT_TYPED = ("launcher", "search", "retrain")
"""Keys that the command of the best trial goes without."""


class Search(Sweeper):
    """Settings proposed by Optuna's TPE, those without prospects given up early by ASHA.

    Attributes:
        axes: what is searched in.
        repetitions: label and command line of each seed and fold, with some value of each axis.
        keys: the axes' keys as settings have them.
        typed: the command line without axes.
        plain: the same without what only a search needs.
    """

    axes: list[Axis]
    repetitions: list[Combination]
    keys: list[str]
    typed: list[str]
    plain: list[str]

    def sweep(self, arguments: list[str]) -> None:
        """Runs the search until it has its trials, and prints their comparison.

        Raises:
            SystemExit: 1 where a run failed, 2 for a user's mistake.
        """
        with user_errors():
            self._search(arguments)

    def _search(self, arguments: Sequence[str]) -> None:
        from audioclf.sweep.study import Study

        self._read(arguments)
        firsts = [self.compose(line) for _, line in self.repetitions]
        config = firsts[0]
        settings = swept_settings(config)
        self.axes = [
            axis.real() if isinstance(axis, Interval) and isinstance(settings.get(key), float) else axis
            for key, axis in zip(self.keys, self.axes, strict=True)
        ]
        rung = self._first_rung(config)
        folder = self.outputs / SWEEPS / self._name(firsts, rung)
        study = Study(folder, self.axes, rung)
        ran: list[PlannedRun] = []
        failed: dict[str, str] = {}
        while claimed := study.claim(self._at_once(config), config.search.trials):
            trained = self._train(study, claimed)
            ran += [run for runs, _ in trained.values() for run in runs]
            for number, (runs, why) in trained.items():
                told = study.tell(number, None if why else _objective(runs), next(iter(why.values()), None))
                if told.state.name == "FAIL":
                    failed |= why
                place = [trial.number for trial in study.trials].index(number) + 1
                say(place, config.search.trials, study.facts[number]["label"], _outcome(told, len(runs)))
            self._write(study)
        self._write(study)
        try:
            end(folder, ran, failed)
        finally:
            self._summarise(study)

    # ----- what is searched in ---------------------------------------------------------------------------------------

    def _read(self, arguments: Sequence[str]) -> None:
        """Splits a command line into axes, repetitions and the rest.

        Raises:
            UserError: there is nothing to search in.
        """
        assert self.hydra_context is not None
        parser = OverridesParser.create(config_loader=self.hydra_context.config_loader)
        typed = {o.get_key_element(): o for o in parser.parse_overrides(list(arguments))}
        brought = {o.get_key_element(): o for o in parser.parse_overrides(self._parse_config())}
        swept = [o for o in (brought | typed).values() if _is_axis(o)]
        if not swept:
            raise UserError(
                "search=optuna: nothing to search in; expected an interval or several values of a key other than seed and fold",
                "python train.py -m search=optuna 'lr=interval(1e-5,1e-1)'",
            )
        self.axes = [axis_of(override) for override in swept]
        names = [override.key_or_group for override in swept]
        self.keys = [f"{name}.name" if (conf_dir() / name).is_dir() else name for name in names]
        rest = [o for o in typed.values() if not _is_axis(o)]
        self.typed = [o.input_line or "" for o in rest]
        self.plain = [
            o.input_line or ""
            for o in rest
            if not o.is_hydra_override() and o.key_or_group.partition(".")[0] not in NOT_TYPED
        ]
        self.params = {key: value for key, value in self.params.items() if key not in names}
        some = [f"{axis.key}={axis.ends[0]}" for axis in self.axes]
        self.repetitions, _ = self.combinations([*self.typed, *some])

    def _first_rung(self, config: Config) -> int | None:
        """The epoch at which trials are first compared and given up, or None where none is to be; says why not."""
        from audioclf.sweep.study import ETA, RUNGS

        values = {
            key: axis.values if isinstance(axis, Choice) else axis.ends
            for key, axis in zip(self.keys, self.axes, strict=True)
        }
        epochs = max(map(int, values.get("epochs", [str(config.epochs)])))
        first = math.ceil(epochs / int(ETA**RUNGS))
        schedules = values.get("optimizer.schedule", (config.optimizer.schedule,))
        if not config.search.prune or first == epochs:
            return None
        if len(self.repetitions) > 1:
            console.print("trials of several seeds or folds are trained to their end (no pruning)", markup=False)
            return None
        if "epochs" in values and set(schedules) != {"constant"}:
            console.print(
                "optimizer.schedule depends on epochs, which differ: trials are trained to their end (no pruning)",
                markup=False,
            )
            return None
        return first

    def _name(self, firsts: Sequence[Config], rung: int | None) -> str:
        """The folder of the same search: of the same axes, data, settings, repetitions and pruning."""
        said = [*sorted(map(identity, firsts)), *sorted(map(repr, self.axes)), str(rung)]
        leaves = [key.removesuffix(".name").rpartition(".")[2] for key in self.keys]
        digest = hashlib.sha256("\n".join(said).encode()).hexdigest()
        return "-".join([firsts[0].data.name, "optuna", *leaves[:6], digest[:8]])

    def _at_once(self, config: Config) -> int:
        """How many trials run at the same time."""
        jobs = int(getattr(self.launcher, "at_once", 1))
        return min(math.ceil(jobs / len(self.repetitions)), math.ceil(config.search.trials / AT_ONCE))

    # ----- trials ----------------------------------------------------------------------------------------------------

    def _train(self, study: Study, claimed: Sequence[Claimed]) -> dict[int, tuple[list[PlannedRun], dict[str, str]]]:
        """Trains the runs of trials.

        Returns:
            Number of each trial → its runs, and label of each run without a result → why.
        """
        from audioclf.training.fit import finished

        trials: dict[int, tuple[list[PlannedRun], dict[str, str]]] = {}
        for trial in claimed:
            label = " ".join(words(self.axes, trial.values))
            study.note(trial.number, label=label)
            try:
                runs = [self._run(study, trial, label, repetition) for repetition in self.repetitions]
                settings = {key: runs[0].settings.get(key, "null") for key in self.keys}
                study.note(trial.number, runs=[run.folder.path.name for run in runs], settings=settings)
                trials[trial.number] = runs, {}
            except UserError as error:  # values that do not go together
                trials[trial.number] = [], {label: str(error)}
        everything = [run for runs, _ in trials.values() for run in runs]
        states, no_data = self._states(everything)
        ready = [run for run in everything if run.label in states]
        todo = [run for run in ready if run.config.retrain or finished(run.folder, states[run.label]) is None]
        for run in todo:
            run.folder.failure.unlink(missing_ok=True)
        died = self._launch([[run] for run in todo])
        for runs, why in trials.values():
            for run in runs:
                if run.label in no_data:
                    why[run.label] = no_data[run.label]
                elif (said := run.folder.read_failure()) or finished(run.folder, states[run.label]) is None:
                    why[run.label] = said or died.get(run.label) or "it ended without a result"
        return trials

    def _run(self, study: Study, trial: Claimed, label: str, repetition: Combination) -> PlannedRun:
        """One run of a trial.

        Raises:
            UserError: values that do not go together.
        """
        which, line = repetition
        keys = {axis.key for axis in self.axes}
        overrides = [word for word in line if word.partition("=")[0] not in keys]
        overrides += words(self.axes, trial.values)
        config = self.compose(overrides)
        if study.prunes:
            overrides += [f"search.study={study.folder.name}", f"search.trial={trial.number}"]
        folder = RunFolder(self.outputs / run_name(config))
        return PlannedRun(f"{label} {which}".rstrip(), tuple(overrides), config, folder)

    # ----- what came of it -------------------------------------------------------------------------------------------

    def _write(self, study: Study) -> None:
        """Writes ``sweep.json`` from all that the search's file holds, whichever process trained it."""
        with study.lock:
            write_text(study.folder / "sweep.json", to_json(self._record(study)))

    def _record(self, study: Study) -> dict[str, Any]:
        trials = [trial for trial in study.trials if trial.state.is_finished()]
        facts = study.facts  # after the trials: what ended meanwhile in another process is left for that one to write
        ended = [(trial, facts[trial.number]) for trial in trials]
        complete = [fact for trial, fact in ended if trial.state.name == "COMPLETE"]
        runs = dict.fromkeys(name for fact in complete for name in fact["runs"])
        pruned = {fact["runs"][0]: (trial, fact) for trial, fact in ended if trial.state.name == "PRUNED"}
        return {
            "layout": LAYOUT,
            "keys": self.keys,
            "baseline": complete[0]["settings"] if complete else {},
            "runs": [f"../../{name}" for name in runs],
            "pruned": [
                {"run": name, "overrides": fact["label"], "epoch": trial.last_step, "val_f1_macro": trial.value}
                for name, (trial, fact) in pruned.items()
                if name not in runs
            ],
            "failed": [
                {"run": next(iter(fact.get("runs", [])), None), "overrides": fact["label"], "error": fact["error"]}
                for trial, fact in ended
                if trial.state.name == "FAIL"
            ],
        }

    def _summarise(self, study: Study) -> None:
        """Says how many trials there were, which was best, and how it is trained again."""
        states = [trial.state.name for trial in study.trials]
        counts = {"pruned": "PRUNED", "failed": "FAIL", "running in other processes": "RUNNING"}
        said = [f"{states.count(state)} {word}" for word, state in counts.items() if state in states]
        console.print(f"{len(states)} trials" + (f": {', '.join(said)}" if said else ""), markup=False)
        if (best := study.best) is None:
            return
        label = study.facts[best.number]["label"]
        several = ["-m"] if len(self.repetitions) > 1 else []
        command = shlex.join(["python", "train.py", *several, *self.plain, *words(self.axes, best.params)])
        console.print(f"best on val: {label}: {_outcome(best, len(self.repetitions))}", markup=False, soft_wrap=True)
        console.print(f"  {command}", markup=False, soft_wrap=True)


def _is_axis(override: Override) -> bool:
    return bool(override.is_sweep_override()) and override.key_or_group not in REPETITIONS


def _objective(runs: Sequence[PlannedRun]) -> float:
    """Mean val macro-F1 of a trial's finished runs; NaN where one of them has none."""
    scores = [(run.folder.read_result() or {})["val"]["f1_macro"] for run in runs]
    return math.fsum(math.nan if score is None else score for score in scores) / len(scores)


def _outcome(trial: FrozenTrial, runs: int) -> str:
    """What became of a trial, in words."""
    if trial.state.name == "FAIL" or trial.value is None:
        return "failed"
    if trial.state.name == "PRUNED":
        return f"pruned after epoch {trial.last_step}, val F1 {short(trial.value)}"
    return f"val F1 {short(trial.value)}" + (f", mean of {runs}" if runs > 1 else "")
