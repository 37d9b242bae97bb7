"""`python train.py -m ...`: each run once, one trajectory for all epochs, failures told, and an answer at the end."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from audioclf.config import Config
from audioclf.errors import EXIT_FAILED, EXIT_OK, EXIT_USAGE
from audioclf.runs.folder import RunFolder
from audioclf.runs.identity import run_name
from audioclf.sweep.plan import PlannedRun, job_of
from audioclf.training import fit as fitting
from hydra_plugins.audioclf import GridSweeper

Launch = Callable[..., Any]


def runs_in(outputs: Path) -> dict[str, RunFolder]:
    return {path.parent.name: RunFolder(path.parent) for path in outputs.glob("*/result.json")}


def sweep_in(outputs: Path) -> Path:
    (folder,) = (outputs / "sweeps").iterdir()
    return folder


def stamps(outputs: Path) -> dict[Path, int]:
    return {
        path: path.stat().st_mtime_ns for path in outputs.glob("*/*") if path.is_file() and path.parent.name != "sweeps"
    }


@pytest.fixture
def sweep(launch: Launch, tiny_overrides: list[str], tmp_path: Path) -> Callable[..., Any]:
    """Starts a sweep of tiny runs with these words more: ``sweep("seed=0,1", outputs="runs")``."""

    def start(*words: str, outputs: str = "runs", flag: str = "-m") -> Any:
        return launch(
            "train.py", *([flag] if flag else []), *tiny_overrides, f"paths.outputs={outputs}", *words, cwd=tmp_path
        )

    return start


def test_each_run_is_trained_once_and_the_second_launch_trains_nothing(
    sweep: Callable[..., Any], tmp_path: Path
) -> None:
    words = ("lr=1e-3,0.001,1e-2", "epochs=2,4", "seed=0,1")
    first = sweep(*words)
    assert first.wait() == EXIT_OK, first.printed
    outputs = tmp_path / "runs"
    runs = runs_in(outputs)
    assert len(runs) == 8, "lr=1e-3 and 0.001 are one"
    assert "12 combinations are 8 different runs" in first.printed
    for run in runs.values():
        result = run.read_result()
        assert result is not None
        assert len(run.read_metrics()) == result["epochs"] == run.saved_epochs()
        assert result["settings"]["lr"] in (1e-3, 1e-2)
    longest = [run.log.read_text() for run in runs.values() if len(run.read_metrics()) == 4]
    assert all("written down as" in log and "0 done before" in log for log in longest), "one trajectory for both"
    record = json.loads((sweep_in(outputs) / "sweep.json").read_text())
    assert record["keys"] == ["lr", "epochs"] and record["baseline"] == {"lr": 1e-3, "epochs": 2}
    assert {(sweep_in(outputs) / name).resolve().name for name in record["runs"]} == set(runs)
    assert not record["failed"]
    compared = (sweep_in(outputs) / "comparison.csv").read_bytes()
    assert len(compared.splitlines()) == 1 + 4
    assert (sweep_in(outputs) / "comparison.html").stat().st_size > 10_000

    before = stamps(outputs)
    second = sweep(*words)
    assert second.wait() == EXIT_OK, second.printed
    assert stamps(outputs) == before
    assert (sweep_in(outputs) / "comparison.csv").read_bytes() == compared
    assert "8 of 8 runs are finished already" in second.printed


def test_a_failed_run_is_told_with_its_traceback_and_the_others_go_on(
    sweep: Callable[..., Any], tmp_path: Path
) -> None:
    words = ("model.hidden=1000000000000,16", "seed=0,1")
    process = sweep(*words)
    assert process.wait() == EXIT_FAILED, process.printed
    outputs = tmp_path / "runs"
    assert len(runs_in(outputs)) == 2
    failures = sorted(outputs.glob("*/failure.txt"))
    assert len(failures) == 2
    assert "Traceback (most recent call last)" in failures[0].read_text()
    record = json.loads((sweep_in(outputs) / "sweep.json").read_text())
    assert [entry["overrides"] for entry in record["failed"]] == [
        f"model.hidden=1000000000000 seed={s}" for s in (0, 1)
    ]
    assert all(entry["run"] in {path.parent.name for path in failures} for entry in record["failed"])
    assert "failed: model.hidden=1000000000000 seed=0: RuntimeError" in process.printed
    assert "2 of 4 runs failed" in process.printed
    assert "Traceback (most" not in process.printed, "the file has it"

    failures[0].write_text("stale")  # a run that is tried again and fails again says why it failed this time
    assert sweep(*words).wait() == EXIT_FAILED
    assert "Traceback" in failures[0].read_text()


def test_values_that_do_not_go_together_cost_only_their_own_runs(sweep: Callable[..., Any], tmp_path: Path) -> None:
    process = sweep("features.n_fft=512,256", "features.hop_length=256,300")
    assert process.wait() == EXIT_FAILED, process.printed
    assert len(runs_in(tmp_path / "runs")) == 3
    assert "failed: features.n_fft=256 features.hop_length=300: " in process.printed
    assert "hop_length=300 leaves gaps" in process.printed


def test_values_that_cannot_be_composed_together_cost_only_their_own_runs(
    launch: Launch, tiny_overrides: list[str], tmp_path: Path
) -> None:
    words = [word for word in tiny_overrides if not word.startswith("model.")]
    words += ["model=audio_classifier,linear", "batch_size=8,${model.hidden}", "epochs=1", "paths.outputs=runs"]
    process = launch("train.py", "-m", *words, cwd=tmp_path)
    assert process.wait() == EXIT_FAILED, process.printed
    assert len(runs_in(tmp_path / "runs")) == 3
    assert "Interpolation key 'model.hidden' not found\n1 of 4 runs failed" in process.printed
    assert "Traceback" not in process.printed


def test_features_that_cannot_be_had_cost_only_their_own_runs(sweep: Callable[..., Any], tmp_path: Path) -> None:
    process = sweep("features.target_length=20,2000000000", "epochs=1")
    assert process.wait() == EXIT_FAILED, process.printed
    assert len(runs_in(tmp_path / "runs")) == 1
    assert "failed: features.target_length=2000000000: RuntimeError: " in process.printed
    assert "1 of 2 runs failed" in process.printed
    assert "Traceback (most" not in process.printed, "the file has it"
    (failure,) = (tmp_path / "runs").glob("*/failure.txt")
    assert "Traceback (most recent call last)" in failure.read_text()


def test_a_mistake_leaves_the_current_folder_where_it_is(
    launch: Launch, tiny_overrides: list[str], tmp_path: Path
) -> None:
    process = launch("train.py", *tiny_overrides, "data.fold=77", "hydra.run.dir=.", cwd=tmp_path)
    assert process.wait() == EXIT_USAGE, process.printed
    assert process.printed.startswith("error: data.fold=77: no such fold")
    assert tmp_path.is_dir()


def test_where_nothing_can_run_nothing_is_written(sweep: Callable[..., Any], tmp_path: Path) -> None:
    process = sweep("lr=-1,-2")
    assert process.wait() == EXIT_USAGE
    assert not (tmp_path / "runs").exists()


def test_epochs_share_no_work_under_a_schedule_that_depends_on_them(sweep: Callable[..., Any], tmp_path: Path) -> None:
    process = sweep("epochs=1,2", "optimizer.schedule=cosine")
    assert process.wait() == EXIT_OK, process.printed
    assert "optimizer.schedule=cosine depends on epochs: runs of other epochs share no work" in process.printed
    logs = [run.log.read_text() for run in runs_in(tmp_path / "runs").values()]
    assert len(logs) == 2 and all("0 done before" in log and "written down" not in log for log in logs)


def test_retrain_trains_every_run_again(sweep: Callable[..., Any], tmp_path: Path) -> None:
    assert sweep("epochs=1,2").wait() == EXIT_OK
    again = sweep("epochs=1,2", "retrain=true")
    assert again.wait() == EXIT_OK, again.printed
    assert "finished already" not in again.printed
    aside = [path for path in (tmp_path / "runs").iterdir() if ".old" in path.name]
    assert len(aside) == 2 and len(runs_in(tmp_path / "runs")) == 4


def test_a_run_that_ends_elsewhere_while_a_sweep_begins_has_not_failed(
    tiny_config: Callable[..., Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny_config(epochs=1)
    folder = RunFolder(tmp_path / run_name(config))
    result = fitting.fit(config, folder.path).result
    looks = iter([None, result])  # it ended right after the sweep looked for it
    monkeypatch.setattr(fitting, "finished", lambda folder, state: next(looks))
    sweeper = GridSweeper.__new__(GridSweeper)  # what is Hydra's is not needed
    monkeypatch.setattr(sweeper, "_states", lambda runs: ({"lr=0.001": {}}, {}))
    monkeypatch.setattr(sweeper, "_launch", lambda ways: {})
    assert sweeper.execute([PlannedRun("lr=0.001", (), config, folder)]) == {}


def test_values_typed_take_the_place_of_those_that_an_experiment_brings(
    sweep: Callable[..., Any], tmp_path: Path
) -> None:
    brought = 'hydra.sweeper.params={lr: "1e-3,1e-2", seed: "0,1"}'
    process = sweep(brought, "lr=1e-2,1e-4,0.0001", "seed=5", "epochs=1")
    assert process.wait() == EXIT_OK, process.printed
    record = json.loads((sweep_in(tmp_path / "runs") / "sweep.json").read_text())
    assert record["keys"] == ["lr"] and len(record["runs"]) == 2
    assert "[2/2] lr=1e-4: val F1 " in process.printed
    assert "3 combinations are 2 different runs" in process.printed


def test_a_sweep_of_one_run_says_so_in_plain_lines(sweep: Callable[..., Any], tmp_path: Path) -> None:
    process = sweep("epochs=3", "marks=[1]")
    assert process.wait() == EXIT_OK, process.printed
    assert process.printed.startswith("[1/1] val F1 ")
    lengths = sorted(len(run.read_metrics()) for run in runs_in(tmp_path / "runs").values())
    assert lengths == [1, 3], "marks that were typed are written down"
    again = sweep("lr=1e-3,0.001")
    assert again.wait() == EXIT_OK, again.printed
    assert "2 combinations are one run" in again.printed


def test_marks_that_were_typed_stay_beside_those_of_the_sweep(tiny_config: Callable[..., Config]) -> None:
    way = [
        PlannedRun("", (f"epochs={epochs}",), tiny_config(epochs=epochs, marks=[2, 5]), RunFolder(Path("run")))
        for epochs in (5, 9)
    ]
    assert "marks=[2,5]" in job_of(way)


def test_fold_all_is_one_word(sweep: Callable[..., Any], tmp_path: Path) -> None:
    process = sweep("fold=all", "data.folds=3")
    assert process.wait() == EXIT_OK, process.printed
    results = [run.read_result() for run in runs_in(tmp_path / "runs").values()]
    assert sorted(result["settings"]["data.fold"] for result in results if result) == [1, 2, 3]
    assert "cross-validated over 3 folds: accuracy" in process.printed

    refused = sweep("fold=all", flag="")
    assert refused.wait() == EXIT_USAGE
    assert "add -m" in refused.printed


def test_fold_all_takes_the_published_folds(
    launch: Launch, tiny_overrides: list[str], tones: Path, write_file: Callable[..., Path], tmp_path: Path
) -> None:
    rows = tones.read_text().split()
    lines = [f"{rows[0]},fold", *(f"{row},{2 * (int(row.split('.')[0][-1]) % 2) + 3}" for row in rows[1:])]
    table = write_file("clips.csv", "\n".join(lines))
    words = (f"data.csv={table}", f"data.audio_dir={tones.parent}", "paths.outputs=runs", "epochs=1")
    process = launch("train.py", "-m", *tiny_overrides, *words, "data.folds=all", cwd=tmp_path)
    assert process.wait() == EXIT_OK, process.printed
    results = [run.read_result() for run in runs_in(tmp_path / "runs").values()]
    assert sorted(result["settings"]["data.fold"] for result in results if result) == [3, 5]


KILLED = ("lr=1e-3,1e-2", "epochs=4,12,40", "seed=0,1", "trainer.checkpoint_every_s=0")


def killed_and_relaunched(sweep: Callable[..., Any], tmp_path: Path, kills: int, seed: int) -> None:
    """A sweep killed at random moments ends with the comparison of one that was left alone."""
    whole = sweep(*KILLED, outputs="whole")
    assert whole.wait() == EXIT_OK, whole.printed
    moments = random.Random(seed)
    killed = tmp_path / "killed"

    def progress() -> int:
        return len(runs_in(killed)) * 20 + sum(
            len(RunFolder(p.parent).read_metrics()) for p in killed.glob("*/metrics.csv")
        )

    for _ in range(kills):
        process = sweep(*KILLED, outputs="killed")
        target = progress() + moments.randint(1, 60)
        while process.running and progress() < target:
            time.sleep(0.002)
        time.sleep(moments.uniform(0, 0.1))
        process.kill()
    last = sweep(*KILLED, outputs="killed")
    assert last.wait() == EXIT_OK, last.printed
    ours, theirs = (sweep_in(tmp_path / name) / "comparison.csv" for name in ("killed", "whole"))
    assert ours.read_bytes() == theirs.read_bytes()
    assert set(runs_in(killed)) == set(runs_in(tmp_path / "whole"))
    assert not list(killed.glob("*.old*"))


def test_killed_twice_and_relaunched_it_compares_the_same(sweep: Callable[..., Any], tmp_path: Path) -> None:
    killed_and_relaunched(sweep, tmp_path, kills=2, seed=0)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 6))
def test_killed_five_times_and_relaunched_it_compares_the_same(
    sweep: Callable[..., Any], tmp_path: Path, seed: int
) -> None:
    killed_and_relaunched(sweep, tmp_path, kills=5, seed=seed)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_the_readmes_sweep_on_esc10(launch: Launch, shared_data: Callable[[str], Path], tmp_path: Path) -> None:
    """36 runs: the second launch trains nothing; killed at five moments, it compares as the one left alone does."""
    words = ("lr=1e-2,1e-3,1e-4,1e-5", "epochs=3,10,50", "seed=0,1,2", "trainer.keep_state=false")
    data = ("data=esc10", f"data.root={shared_data('esc10')}", f"paths.cache={tmp_path / 'cache'}")

    def start(outputs: str) -> Any:
        return launch("train.py", "-m", *data, *words, f"paths.outputs={outputs}", cwd=tmp_path)

    whole = start("whole")
    assert whole.wait(1800) == EXIT_OK, whole.printed
    assert len(runs_in(tmp_path / "whole")) == 36
    before = stamps(tmp_path / "whole")
    again = start("whole")
    assert again.wait() == EXIT_OK, again.printed
    assert "36 of 36 runs are finished already" in again.printed and stamps(tmp_path / "whole") == before

    moments = random.Random(0)
    for kills in range(1, 6):
        process = start("killed")
        target = moments.uniform(kills - 1, kills) * 36 / 5.5
        while process.running and len(runs_in(tmp_path / "killed")) < target:
            time.sleep(0.1)
        time.sleep(moments.uniform(0, 5))
        assert process.running, "killed before its end"
        process.kill()
    last = start("killed")
    assert last.wait(1800) == EXIT_OK, last.printed
    ours, theirs = (sweep_in(tmp_path / name) / "comparison.csv" for name in ("killed", "whole"))
    assert ours.read_bytes() == theirs.read_bytes()
