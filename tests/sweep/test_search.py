"""`python train.py -m search=optuna`: a study that is stopped, shared and resumed, and trains nothing twice."""

from __future__ import annotations

import json
import math
import random
import shlex
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from audioclf.command_line import check_command_line
from audioclf.config import Config
from audioclf.errors import EXIT_FAILED, EXIT_OK, EXIT_USAGE, UserError
from audioclf.runs.folder import RunFolder
from audioclf.sweep.space import Choice, Interval
from audioclf.sweep.study import Prune, Study
from audioclf.training.fit import Pruned, fit

Launch = Callable[..., Any]
AXES = [Interval("lr", 1e-5, 1e-1, log=True), Choice("model.hidden", ("8", "16"))]

# --- the study -------------------------------------------------------------------------------------------------------


def proposed(study: Study, trials: int) -> list[dict[str, Any]]:
    """Claims one trial after another and tells each the same objective as every study is told."""
    values = []
    while claimed := study.claim(1, trials):
        values.append(claimed[0].values)
        study.tell(claimed[0].number, 1 - abs(math.log10(claimed[0].values["lr"]) + 3))
    return values


def test_a_stopped_study_proposes_what_an_uninterrupted_one_does(tmp_path: Path) -> None:
    whole = proposed(Study(tmp_path / "whole", AXES, None), 12)
    parts = [proposed(Study(tmp_path / "parts", AXES, None), trials) for trials in (3, 11, 12)]
    assert [len(part) for part in parts] == [3, 8, 1]
    assert [values for part in parts for values in part] == whole
    assert len({values["lr"] for values in whole}) == 12


def test_trials_of_others_are_left_alone_and_those_of_the_dead_taken_up(tmp_path: Path) -> None:
    one, other = Study(tmp_path, AXES, None), Study(tmp_path, AXES, None)
    ours = one.claim(2, 3)
    theirs = other.claim(2, 3)
    assert [trial.number for trial in ours] == [0, 1]
    assert [trial.number for trial in theirs] == [2]
    for trial in ours:
        one._owned[trial.number].release()  # as the system does when a process dies
    taken = Study(tmp_path, AXES, None).claim(3, 3)
    assert [trial.number for trial in taken] == [0, 1]
    assert [trial.values for trial in taken] == [trial.values for trial in ours]


def test_what_was_killed_while_it_was_proposed_does_not_count(tmp_path: Path) -> None:
    study = Study(tmp_path, AXES, None)
    killed = optuna.load_study(study_name="search", storage=f"sqlite:///{tmp_path}/study.sqlite")
    killed.ask()
    claimed = study.claim(5, 2)
    assert [trial.number for trial in claimed] == [1, 2] == [trial.number for trial in study.trials]
    assert [trial.state for trial in killed.trials] == [TrialState.FAIL, TrialState.RUNNING, TrialState.RUNNING]


def test_a_failed_trial_is_tried_again_by_the_next_call_and_by_no_other(tmp_path: Path) -> None:
    study = Study(tmp_path, AXES, None)
    first, second = study.claim(2, 2)
    assert study.tell(first.number, math.nan).state == TrialState.FAIL
    study.tell(second.number, None, "no memory")
    assert study.claim(2, 2) == []
    assert [study.facts[trial.number]["error"] for trial in study.trials][1] == "no memory"
    again = Study(tmp_path, AXES, None)
    retried = again.claim(2, 2)
    assert [trial.values for trial in retried] == [first.values, second.values]
    for trial in retried:
        again.tell(trial.number, 0.5)
    last = Study(tmp_path, AXES, None)
    assert last.claim(2, 2) == [] and len(last.trials) == 2
    assert last.best is not None and last.best.value == 0.5
    assert not list(tmp_path.glob(".trial*")), "locks of trials that ended are gone"


def run_with(folder: Path, curve: list[float | None]) -> RunFolder:
    folder.mkdir(parents=True)
    run = RunFolder(folder)
    for epoch, f1 in enumerate(curve, 1):
        run.append_metrics({"epoch": epoch, "val_f1_macro": f1})
    return run


def pruned_at(prune: Prune, first: int, last: int) -> int | None:
    return next((epoch for epoch in range(first, last) if prune(epoch, 0.0)), None)


def test_a_trial_is_given_up_at_a_rung_where_it_is_not_among_the_best_third(tmp_path: Path) -> None:
    study = Study(tmp_path, AXES, 2)
    numbers = [trial.number for trial in study.claim(4, 4)]
    good = run_with(tmp_path / "good", [0.1, 0.5, 0.6, 0.6, 0.6, 0.7, 0.7])
    bad = run_with(tmp_path / "bad", [0.4, 0.2, 0.9, 0.9, 0.9, 0.9, 0.9])
    wild = run_with(tmp_path / "wild", [0.6, 0.0, 0.1, 0.1, 0.1, 0.1, 0.9])
    assert pruned_at(Prune(tmp_path, numbers[0], good, True), 1, 8) is None
    assert pruned_at(Prune(tmp_path, numbers[1], bad, True), 1, 8) == 2
    assert pruned_at(Prune(tmp_path, numbers[2], wild, True), 1, 8) == 6, "its best epoch counts: .6, then .6 < .7"
    assert pruned_at(Prune(tmp_path, numbers[3], wild, False), 1, 8) == 2, "its last epoch counts"
    states = [trial.state for trial in study.trials]
    assert states == [TrialState.RUNNING, TrialState.PRUNED, TrialState.PRUNED, TrialState.PRUNED]
    assert Prune(tmp_path, numbers[1], bad, True).over
    told = study.tell(numbers[1], None, "it ended without a result")
    assert told.state == TrialState.PRUNED and (told.last_step, told.value) == (2, 0.4)
    assert "error" not in study.facts.get(numbers[1], {})


def test_a_resumed_run_is_judged_at_each_rung_once(tmp_path: Path) -> None:
    study = Study(tmp_path, AXES, 1)
    first, second = (trial.number for trial in study.claim(2, 2))
    slow = run_with(tmp_path / "slow", [0.2, 0.2, 0.2, 0.2])
    quick = run_with(tmp_path / "quick", [0.8, 0.8, 0.8, 0.8])
    assert pruned_at(Prune(tmp_path, first, slow, True), 1, 3) is None, "the first one has none to be worse than"
    assert pruned_at(Prune(tmp_path, second, quick, True), 1, 4) is None
    resumed = Prune(tmp_path, first, slow, True)
    assert pruned_at(resumed, 1, 3) is None, "rung 1 was judged before"
    assert resumed(3, 0.2)


def test_a_run_that_was_given_up_is_logged_as_no_failure(tiny_config: Callable[..., Config], tmp_path: Path) -> None:
    with pytest.raises(Pruned):
        fit(tiny_config(epochs=3), tmp_path / "run", prune=lambda epochs, f1: epochs == 1)
    log = (tmp_path / "run" / "train.log").read_text()
    assert "given up after epoch 1 of 3" in log
    assert "failed" not in log and "Traceback" not in log


# --- the command -----------------------------------------------------------------------------------------------------


@pytest.fixture
def search(launch: Launch, tiny_overrides: list[str], tmp_path: Path) -> Callable[..., Any]:
    """Starts a search with tiny runs: ``search("search.trials=3", outputs="runs")``."""

    def start(*words: str, outputs: str = "runs") -> Any:
        given = ["train.py", "-m", "search=optuna", *tiny_overrides, f"paths.outputs={outputs}", *words]
        return launch(*given, cwd=tmp_path)

    return start


SPACE = ("lr=interval(1e-5,1e-1)", "model.hidden=8,16", "epochs=9")


def folder_in(outputs: Path) -> Path:
    (folder,) = (outputs / "sweeps").iterdir()
    return folder


def trials_in(outputs: Path) -> list[optuna.trial.FrozenTrial]:
    path = folder_in(outputs) / "study.sqlite"
    return optuna.load_study(study_name="search", storage=f"sqlite:///{path}").trials


def content(outputs: Path) -> list[tuple[Any, ...]]:
    """All that was proposed and found out."""
    return [(t.number, t.state, t.params, t.value, t.intermediate_values) for t in trials_in(outputs)]


def stamps(outputs: Path) -> dict[Path, int]:
    return {path.relative_to(outputs): path.stat().st_mtime_ns for path in outputs.glob("*/result.json")}


def test_a_search_prunes_grows_and_is_the_same_after_a_kill(search: Callable[..., Any], tmp_path: Path) -> None:
    done = search(*SPACE, "search.trials=5")
    assert done.wait() == EXIT_OK, done.printed
    outputs, folder = tmp_path / "runs", folder_in(tmp_path / "runs")
    trials = trials_in(outputs)
    complete = [t for t in trials if t.state == TrialState.COMPLETE]
    pruned = [t for t in trials if t.state == TrialState.PRUNED]
    assert len(trials) == 5 == len(complete) + len(pruned) and pruned

    record = json.loads((folder / "sweep.json").read_text())
    assert record["keys"] == ["lr", "model.hidden"] and not record["failed"]
    runs = [RunFolder(folder / name) for name in record["runs"]]
    for run, trial in zip(runs, complete, strict=True):
        result = run.read_result()
        assert result is not None and result["val"]["f1_macro"] == pytest.approx(trial.value)
        assert result["settings"]["model.hidden"] == int(trial.params["model.hidden"])
        assert result["settings"]["lr"] == pytest.approx(trial.params["lr"], rel=1e-3)
    assert record["baseline"].keys() == {"lr", "model.hidden"}
    for entry, trial in zip(record["pruned"], pruned, strict=True):
        run = RunFolder(outputs / entry["run"])
        assert run.read_result() is None and not run.failure.exists()
        assert entry["epoch"] == trial.last_step == run.saved_epochs()
        assert f"{entry['overrides']}: pruned after epoch {entry['epoch']}" in done.printed
    assert (folder / "comparison.csv").exists()
    assert f"5 trials: {len(pruned)} pruned" in done.printed

    killed = search(*SPACE, "search.trials=3", outputs="killed")
    while not (tmp_path / "killed").exists() or not stamps(tmp_path / "killed"):  # until its first run is finished
        assert killed.running, killed.printed
        time.sleep(0.01)
    time.sleep(random.uniform(0, 1))
    killed.kill()
    before = stamps(tmp_path / "killed")
    last = search(*SPACE, "search.trials=5", outputs="killed")
    assert last.wait() == EXIT_OK, last.printed
    assert content(tmp_path / "killed") == content(outputs)
    assert before.items() <= stamps(tmp_path / "killed").items(), "finished runs were not touched"
    table = "comparison.csv"
    assert (folder_in(tmp_path / "killed") / table).read_bytes() == (folder / table).read_bytes()


@pytest.mark.slow
def test_two_processes_share_a_search_and_the_next_finds_it_finished(
    search: Callable[..., Any], launch: Launch, tmp_path: Path
) -> None:
    words = (*SPACE, "search.trials=6")
    outputs = tmp_path / "runs"
    both = [search(*words), search(*words)]
    for process in both:
        assert process.wait() == EXIT_OK, process.printed
    trials = trials_in(outputs)
    assert [t.number for t in trials] == list(range(6))
    assert all(t.state in (TrialState.COMPLETE, TrialState.PRUNED) for t in trials)
    assert len({t.params["lr"] for t in trials}) == 6
    for number in range(1, 7):
        assert sum(f"[{number}/6]" in process.printed for process in both) == 1

    before, proposed = stamps(outputs), content(outputs)
    again = search(*words)
    assert again.wait() == EXIT_OK, again.printed
    (line,) = [line for line in again.printed.splitlines() if line.startswith("  python train.py")]
    best = launch(*shlex.split(line)[1:], cwd=tmp_path)
    assert best.wait() == EXIT_OK, best.printed
    assert stamps(outputs) == before and content(outputs) == proposed, "the best one's command names a finished run"


def test_the_command_of_the_best_trial_trains_nothing_again(search: Callable[..., Any]) -> None:
    process = search("lr=interval(1e-4,1e-2)", "epochs=1", "search.trials=1", "retrain=true")
    assert process.wait() == EXIT_OK, process.printed
    (line,) = [line for line in process.printed.splitlines() if line.startswith("  python train.py")]
    assert " epochs=1 " in line and "retrain" not in line


def test_repetitions_are_averaged_and_failures_cost_only_their_trial(
    search: Callable[..., Any], tmp_path: Path
) -> None:
    words = ("model.hidden=8,1000000000000", "lr=1e-2", "seed=0,1", "search.trials=3", "search.prune=false")
    process = search(*words)
    assert process.wait() == EXIT_FAILED, process.printed
    outputs = tmp_path / "runs"
    trials = trials_in(outputs)
    results = [json.loads(path.read_text()) for path in outputs.glob("*/result.json")]
    assert {result["seed"] for result in results} == {0, 1} and len(results) == 2
    mean = sum(result["val"]["f1_macro"] for result in results) / 2
    good = [t for t in trials if t.state == TrialState.COMPLETE]
    failed = [t for t in trials if t.state == TrialState.FAIL]
    assert good and failed and len(trials) == 3, "the search went on"
    assert all(t.params["model.hidden"] == "8" and t.value == pytest.approx(mean) for t in good)
    record = json.loads((folder_in(outputs) / "sweep.json").read_text())
    assert len(record["runs"]) == 2 and len(record["failed"]) == len(failed)
    assert "RuntimeError" in record["failed"][0]["error"]
    assert "failed: model.hidden=1000000000000 seed=0: RuntimeError" in process.printed
    assert "mean of 2" in process.printed
    assert "seed=0,1" in next(line for line in process.printed.splitlines() if line.startswith("  python train.py -m"))


@pytest.mark.slow
def test_joblib_trains_trials_beside_one_another(search: Callable[..., Any], tmp_path: Path) -> None:
    process = search(*SPACE, "search.trials=6", "launcher=joblib", "hydra.launcher.n_jobs=2")
    assert process.wait() == EXIT_OK, process.printed
    states = [t.state for t in trials_in(tmp_path / "runs")]
    assert len(states) == 6 and set(states) == {TrialState.COMPLETE, TrialState.PRUNED}


# --- what is refused -------------------------------------------------------------------------------------------------


def refusal(*argv: str) -> UserError:
    with pytest.raises(UserError) as caught:
        check_command_line(["-m", *argv])
    return caught.value


def test_an_interval_needs_a_search(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    error = refusal("lr=interval(1e-5,1e-1)")
    assert error.message == "lr=interval(1e-5,1e-1): an interval; expected values: a,b,c"
    assert error.hint == "add search=optuna to search in it"
    assert refusal("search.trials=3", "seed=0,1").hint == "search.trials belongs to search=optuna: add it"


def test_repetitions_are_values(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    error = refusal("search=optuna", "lr=interval(1e-5,1e-1)", "seed=interval(0,5)")
    assert error.message == "seed=interval(0,5): an interval; expected values: a,b,c"
    assert error.hint == "seeds and folds are repetitions of every trial"


def test_both_ends_of_an_interval_are_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    low = refusal("search=optuna", "lr=interval(0,1)")
    assert low.message == "lr=0: expected a value greater than 0"
    high = refusal("search=optuna", "loss.label_smoothing=interval(0,2)")
    assert high.message == "loss.label_smoothing=2: expected a value less than 1"
    check_command_line(["-m", "search=optuna", "lr=interval(1e-5,1e-1)", "model.hidden=64,128"])


def test_where_optuna_is_missing_the_command_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "optuna", None)  # as if it were not installed
    error = refusal("search=optuna", "lr=interval(1e-5,1e-1)")
    assert error.message == "search=optuna: optuna is not installed"
    assert error.hint == "pip install 'audioclf[search]'"


def test_a_search_without_anything_to_search_in_is_refused(search: Callable[..., Any], tmp_path: Path) -> None:
    process = search("seed=0,1")
    assert process.wait() == EXIT_USAGE
    assert "search=optuna: nothing to search in" in process.printed
    assert not (tmp_path / "runs" / "sweeps").exists()
