"""`launcher=joblib|submitit|ray`: the same runs to the bit, each once, whatever becomes of a worker process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from audioclf.compose import conf_dir, load_config, register_resolvers
from audioclf.errors import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_OK, EXIT_USAGE
from audioclf.runs.folder import RunFolder
from audioclf.sweep.launcher import JobLauncher, cores
from hydra_plugins.audioclf import JoblibLauncher, RayLauncher, SubmititLauncher

LAUNCHERS: dict[str, type[JobLauncher]] = {"joblib": JoblibLauncher, "submitit": SubmititLauncher, "ray": RayLauncher}
HERE = {  # each as it runs on one machine
    "joblib": ["launcher=joblib"],
    "submitit": ["launcher=submitit", "hydra.launcher.cluster=local", "hydra.launcher.cpus_per_task=1"],
    "ray": ["launcher=ray"],
}
EVERYWHERE = [  # processes that start from nothing take seconds each; one launcher is enough for every day
    pytest.param("joblib"),
    pytest.param("submitit", marks=pytest.mark.slow),
    pytest.param("ray", marks=pytest.mark.slow),
]
Sweep = Callable[..., Any]

# --- settings --------------------------------------------------------------------------------------------------------


def shipped(name: str) -> dict[str, Any]:
    """``hydra.launcher`` as conf/ has it."""
    register_resolvers()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        config = compose("config", overrides=[f"launcher={name}"], return_hydra_config=True)
    found = OmegaConf.to_container(config.hydra.launcher)
    assert isinstance(found, dict)
    return {str(key): value for key, value in found.items()}


def set_up(name: str, **settings: Any) -> JobLauncher:
    launcher = LAUNCHERS[name](**settings)
    launcher.setup(hydra_context=None, task_function=None, config=OmegaConf.create({"launcher": name}))  # type: ignore[arg-type]
    return launcher


@pytest.mark.parametrize("name", LAUNCHERS)
def test_shipped_settings_are_those_of_the_schema(name: str) -> None:
    found = shipped(name)
    assert found.pop("_target_") == f"hydra_plugins.audioclf.{LAUNCHERS[name].__name__}"
    schema = LAUNCHERS[name].schema
    assert found == schema().model_dump() == schema.model_validate(found).model_dump()


@pytest.mark.parametrize(
    ("name", "settings", "said"),
    [
        ("joblib", {"n_jobs": 0}, "hydra.launcher.n_jobs=0: expected a value of at least 1"),
        ("joblib", {"n_jobs": "two"}, "hydra.launcher.n_jobs=two: expected a whole number"),
        ("joblib", {"jobs": 2}, "hydra.launcher.jobs=2: no such key"),
        ("joblib", {"n_job": 2}, "did you mean hydra.launcher.n_jobs?"),
        ("submitit", {"cluster": "lsf"}, "hydra.launcher.cluster=lsf: expected 'slurm' or 'local'"),
        ("submitit", {"mem_gb": 0}, "hydra.launcher.mem_gb=0: expected a value greater than 0"),
        ("submitit", {}, "launcher=submitit: no sbatch and no srun here"),
        ("ray", {"cpus_per_job": 0}, "hydra.launcher.cpus_per_job=0: expected a value of at least 1"),
        ("ray", {"cpus_per_job": 10_000}, "hydra.launcher.cpus_per_job=10000: this machine has"),
        ("ray", {"gpus_per_job": -1}, "hydra.launcher.gpus_per_job=-1: expected a value of at least 0"),
    ],
)
def test_a_wrong_setting_is_one_line_before_anything_starts(
    name: str,
    settings: dict[str, Any],
    said: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with pytest.raises(SystemExit) as stop:
        set_up(name, **settings)
    assert stop.value.code == EXIT_USAGE
    printed = capsys.readouterr().err
    assert said in printed and len(printed.splitlines()) <= 2


@pytest.mark.parametrize(("name", "extra"), [("submitit", "slurm"), ("ray", "ray")])
def test_a_missing_package_is_one_line_with_what_to_install(
    name: str, extra: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, name, None)  # as if it were not there
    with pytest.raises(SystemExit) as stop:
        set_up(name, **({"cluster": "local"} if name == "submitit" else {}))
    assert stop.value.code == EXIT_USAGE
    printed = capsys.readouterr().err
    assert f"launcher={name}: {name} is not installed" in printed and f"pip install 'audioclf[{extra}]'" in printed
    assert load_config([f"launcher={name}"]).launcher == name, "it composes all the same"


@pytest.mark.parametrize("wanted", [1, 2, 3, 100])
def test_cores_are_divided(wanted: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    launchers = [set_up("joblib", n_jobs=wanted), set_up("submitit", cluster="local", cpus_per_task=wanted)]
    if wanted <= cores():
        launchers.append(set_up("ray", cpus_per_job=wanted))
    for launcher in launchers:
        assert launcher.threads >= 1 and launcher.at_once >= 1
        assert launcher.threads * launcher.at_once <= cores()


# --- sweeps ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def sweep(launch: Callable[..., Any], tiny_overrides: list[str], tmp_path: Path) -> Sweep:
    """Starts a sweep of tiny runs: ``sweep("launcher=joblib", "seed=0,1", outputs="runs")``."""

    def start(*words: str, outputs: str) -> Any:
        return launch("train.py", "-m", *tiny_overrides, f"paths.outputs={outputs}", *words, cwd=tmp_path)

    return start


def runs_in(outputs: Path) -> dict[str, RunFolder]:
    return {path.parent.name: RunFolder(path.parent) for path in outputs.glob("*/result.json")}


def trainers(outputs: Path) -> dict[int, str]:
    """Process → name of the run that it trains at this moment, seen by its open log."""
    found = {}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            links = [str(link.readlink()) for link in (process / "fd").iterdir()]
        except OSError:
            continue
        for link in links:
            if link.startswith(f"{outputs}/") and link.endswith("/train.log"):
                found[int(process.name)] = Path(link).parent.name
    return found


@pytest.mark.parametrize("name", EVERYWHERE)
def test_runs_are_those_of_the_basic_launcher_to_the_bit(name: str, sweep: Sweep, tmp_path: Path) -> None:
    words = ("lr=1e-3,1e-2", "epochs=1,2", "model.hidden=16,1000000000000", "data.fold=null")
    reference = sweep(*words, outputs="reference")
    assert reference.wait() == EXIT_FAILED, reference.printed
    process = sweep(*words, *HERE[name], outputs="runs")
    assert process.wait() == EXIT_FAILED, process.printed  # such a network fits into no memory
    assert "4 of 8 runs failed" in process.printed
    lines = process.printed.splitlines()
    assert not [line for line in lines if "[HYDRA]" in line or "INFO" in line or "Warning" in line], process.printed
    assert "stopped" not in process.printed and "Traceback" not in process.printed

    ours, theirs = runs_in(tmp_path / "runs"), runs_in(tmp_path / "reference")
    assert ours.keys() == theirs.keys() and len(ours) == 4
    for run, other in ((ours[key], theirs[key]) for key in ours):
        assert pq.read_table(run.predictions).equals(pq.read_table(other.predictions))
        assert run.metrics_csv.read_bytes() == other.metrics_csv.read_bytes()
        assert json.loads((run.path / "environment.json").read_text())["torch_threads"] == 1
    failures = list((tmp_path / "runs").glob("*/failure.txt"))
    assert failures and all("Traceback" in file.read_text() for file in failures)
    assert {path.name for path in tmp_path.iterdir()} == {"runs", "reference"}
    assert not list((tmp_path / "runs" / "sweeps").glob(".submitit/*"))

    stamps = {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").glob("*/result.json")}
    again = sweep("lr=1e-3,1e-2", "epochs=1,2", *HERE[name], "model.hidden=16", outputs="runs")
    assert again.wait() == EXIT_OK, again.printed
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").glob("*/result.json")} == stamps


def test_one_job_at_a_time_says_what_becomes_of_it(sweep: Sweep) -> None:
    process = sweep("seed=0,1", "epochs=1", "launcher=joblib", "hydra.launcher.n_jobs=1", outputs="runs")
    assert process.wait() == EXIT_OK, process.printed
    assert "[2/2] seed=1: val F1 " in process.printed
    assert "written to " in process.printed


@pytest.mark.slow
@pytest.mark.parametrize("name", LAUNCHERS)
@pytest.mark.parametrize("again", [False, True], ids=["once", "whenever it runs"])
def test_a_killed_process_costs_no_other_run(name: str, again: bool, sweep: Sweep, tmp_path: Path) -> None:
    process = sweep(
        "lr=1e-3,1e-4", "seed=0,1", "epochs=300", "trainer.checkpoint_every_s=0", *HERE[name], outputs="runs"
    )
    killed = 0
    while process.running:
        for pid, run in trainers(tmp_path / "runs").items():
            if "lr1e-3" in run and "seed1" in run and (again or not killed):
                time.sleep(0.2)
                with suppress(ProcessLookupError):  # it may have gone with the pool of another
                    os.kill(pid, signal.SIGKILL)
                    killed += 1
        time.sleep(0.05)
    found = runs_in(tmp_path / "runs")
    if again:
        assert killed == 2
        assert process.wait() == EXIT_FAILED, process.printed
        assert len(found) == 3 and "failed: lr=1e-3 seed=1: its process died: " in process.printed
    else:
        assert killed == 1
        assert process.wait() == EXIT_OK, process.printed
        assert len(found) == 4


@pytest.mark.slow
@pytest.mark.parametrize("name", LAUNCHERS)
def test_ctrl_c_ends_every_process_and_the_same_command_continues(name: str, sweep: Sweep, tmp_path: Path) -> None:
    words = ("lr=1e-3,1e-4", "epochs=300", "trainer.checkpoint_every_s=0", *HERE[name])
    process = sweep(*words, outputs="runs")
    begun: dict[int, str] = {}
    while process.running and not begun:
        begun = trainers(tmp_path / "runs")
        time.sleep(0.02)
    time.sleep(0.5)
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait() == EXIT_INTERRUPTED, process.printed
    assert name == "submitit" or "Traceback" not in process.printed  # its local controllers print theirs
    deadline = time.monotonic() + 30
    while (left := trainers(tmp_path / "runs")) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not left
    resumed = sweep(*words, outputs="runs")
    assert resumed.wait(240) == EXIT_OK, resumed.printed
    logs = [run.log.read_text() for run in runs_in(tmp_path / "runs").values()]
    assert len(logs) == 2 and all("300 epochs of" in log for log in logs)
    assert any(log.count("done before") > 1 for log in logs)


SLURM = {  # what submitit needs of it, on this machine
    "sbatch": """
        cp "$1" "$SLURM_TEST/script.sh"
        last=$(sed -n 's/^#SBATCH --array=0-\\([0-9]*\\).*/\\1/p' "$1")
        for task in $(seq 0 "$last"); do
            SLURM_JOB_ID=7$task SLURM_ARRAY_JOB_ID=7 SLURM_ARRAY_TASK_ID=$task SLURM_NTASKS=1 SLURM_JOB_NUM_NODES=1 \\
            SLURM_NODEID=0 SLURM_PROCID=0 SLURM_LOCALID=0 bash "$1" > /dev/null 2>&1 < /dev/null &
        done
        echo Submitted batch job 7
        """,
    "srun": """
        while true; do case "$1" in --output|--error) shift 2;; -*) shift;; *) break;; esac; done
        exec "$@"
        """,
    "sacct": """
        echo 'JobID|State|NodeList'
        echo '7_0|RUNNING|here'
        echo '7_1|RUNNING|here'
        """,
    "scancel": "",
}


@pytest.mark.slow
def test_slurm_is_asked_for_what_the_settings_say(
    write_file: Callable[..., Path], checkout: Path, tiny_overrides: list[str], tmp_path: Path
) -> None:
    for name, script in SLURM.items():
        write_file(f"bin/{name}", f"#!/bin/bash\n{script}").chmod(0o755)
    words = ["launcher=submitit", "hydra.launcher.partition=dev", "hydra.launcher.account=me", "seed=0,1"]
    words += ["hydra.launcher.cpus_per_task=1", "hydra.launcher.array_parallelism=1"]
    words += ["+hydra.launcher.additional_parameters.reservation=ours"]
    finished = subprocess.run(
        [sys.executable, checkout / "train.py", "-m", *tiny_overrides, *words, "paths.outputs=runs"],
        cwd=tmp_path,
        env=os.environ | {"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}", "SLURM_TEST": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert finished.returncode == EXIT_OK, finished.stdout + finished.stderr
    assert len(runs_in(tmp_path / "runs")) == 2
    asked = (tmp_path / "script.sh").read_text()
    for option in ("partition=dev", "account=me", "cpus-per-task=1", "mem=8GB", "time=240", "reservation=ours"):
        assert f"#SBATCH --{option}\n" in asked
    assert "#SBATCH --array=0-1%1\n" in asked
