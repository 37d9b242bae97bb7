"""Launchers: what runs the jobs of a sweep beside one another, on this machine or on many.

Hydra's interface, over joblib, submitit and Ray themselves: Hydra's published plugins for them divide no cores, and
abandon the jobs that still run when one of them dies. The three differ in where a job is called and in little else.
"""

from __future__ import annotations

import functools
import logging
import os
import shutil
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal
from uuid import uuid4

from hydra.core.utils import JobReturn
from pydantic import Field

from audioclf.cluster import connected
from audioclf.config import Section
from audioclf.console import console
from audioclf.errors import UserError
from audioclf.sweep.launcher import Job, JobLauncher, cores, every
from audioclf.sweep.record import SWEEPS

PARENT_S = 1.0
"""How often a process of the pool looks whether its parent is there [s]."""
CANCELLED_S = 10.0
"""How long jobs that were cancelled may take to end [s]."""


class JoblibSettings(Section):
    """``hydra.launcher`` of ``launcher=joblib``."""

    n_jobs: int = Field(2, ge=1, description="jobs at the same time, at most one for each core")


class Joblib(JobLauncher):
    """Processes of this machine. They divide its cores."""

    schema, package, extra = JoblibSettings, "joblib", ""

    @property
    def threads(self) -> int:
        """The cores, divided by the jobs that run at the same time."""
        return cores() // self.at_once

    @property
    def at_once(self) -> int:
        """How many jobs run at the same time."""
        return min(int(self.settings.n_jobs), cores())

    def run(self, jobs: Sequence[Job]) -> list[JobReturn]:
        """Calls the jobs in a pool, which ends as a whole when a process of it dies; one at a time, in this process."""
        from joblib import Parallel, delayed, parallel_config

        if self.at_once == 1:  # joblib makes no pool of one
            return [job() for job in jobs]
        with parallel_config("loky", inner_max_num_threads=jobs[0].threads):
            found = Parallel(n_jobs=self.at_once, batch_size=1)(delayed(_call)(job) for job in jobs)
        return list(found)


def _call(job: Job) -> JobReturn:
    """Calls a job in a process of the pool."""
    _end_with_parent()
    return job()


@functools.cache
def _end_with_parent() -> None:
    """Ends this process when the one that started it was killed: the pool would train on, or wait for minutes."""
    parent = os.getppid()

    def look_on() -> None:
        while os.getppid() == parent:
            time.sleep(PARENT_S)
        os._exit(1)

    threading.Thread(target=look_on, daemon=True).start()


class SubmititSettings(Section):
    """``hydra.launcher`` of ``launcher=submitit``; what is null is left to the cluster's own defaults."""

    cluster: Literal["slurm", "local"] = Field("slurm", description="local: processes of this machine, to try it out")
    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    timeout_min: int = Field(240, ge=1, description="time limit of a job [min]")
    cpus_per_task: int = Field(4, ge=1, description="cores of a job")
    mem_gb: float | None = Field(8, gt=0, description="memory of a job [GB]")
    gpus_per_node: int | None = Field(None, ge=1, description="GPUs of a job")
    array_parallelism: int = Field(64, ge=1, description="jobs at the same time")
    max_num_timeout: int = Field(3, ge=0, description="how often a job whose time is up is queued again and continues")
    setup: list[str] | None = Field(None, description="shell commands before a job")
    additional_parameters: dict[str, Any] = Field({}, description="sbatch's other options: {reservation: NAME}")


class Submitit(JobLauncher):
    """Jobs of a SLURM cluster, as one array."""

    schema, package, extra = SubmititSettings, "submitit", "slurm"

    def check(self, given: Mapping[str, Any]) -> None:
        """Checks the settings, and that SLURM is here."""
        super().check(given)
        missing = [name for name in ("sbatch", "srun") if shutil.which(name) is None]
        if missing and not self._is_local:
            raise UserError(
                f"launcher=submitit: no {' and no '.join(missing)} here; expected a machine from which SLURM is used",
                "launcher=joblib runs jobs beside one another on this machine",
            )

    @property
    def threads(self) -> int:
        """The cores that a job asks for; on this machine, not more than it has."""
        asked = int(self.settings.cpus_per_task)
        return min(asked, cores()) if self._is_local else asked

    @property
    def at_once(self) -> int:
        """As many as SLURM is asked for; on this machine, as it has cores for."""
        return cores() // self.threads if self._is_local else int(self.settings.array_parallelism)

    @property
    def _is_local(self) -> bool:
        return bool(self.settings.cluster == "local")

    def run(self, jobs: Sequence[Job]) -> list[JobReturn]:
        """Submits the jobs and waits for all of them; cancels them when it is interrupted.

        submitit's own files (logs, pickled jobs and results) lie in ``sweeps/.submitit`` among the outputs, and stay
        where a job died.
        """
        folder = Path(str(self._config.hydra.sweep.dir)).resolve() / SWEEPS / ".submitit" / uuid4().hex[:8]
        executor = self._executor(folder)
        # The local executor starts all that it gets: then as many as there are cores for, the next when they ended.
        size = self.at_once if self._is_local else len(jobs)
        found: list[JobReturn] = []
        for start in range(0, len(jobs), size):
            submitted = executor.submit_array(jobs[start : start + size])
            with _cancelled_on_interrupt(submitted):
                found += every(submitted, _result)
        shutil.rmtree(folder, ignore_errors=True)
        return found

    def _executor(self, folder: Path) -> Any:
        """The settings under the names that submitit has for them."""
        import submitit

        logging.getLogger("submitit").setLevel(logging.ERROR)
        settings = self.settings
        executor = submitit.AutoExecutor(folder, settings.cluster, slurm_max_num_timeout=settings.max_num_timeout)
        executor.update_parameters(
            name="audioclf",
            timeout_min=settings.timeout_min,
            cpus_per_task=settings.cpus_per_task,
            mem_gb=settings.mem_gb,
            gpus_per_node=settings.gpus_per_node,
            stderr_to_stdout=True,
            slurm_partition=settings.partition,
            slurm_account=settings.account,
            slurm_qos=settings.qos,
            slurm_constraint=settings.constraint,
            slurm_array_parallelism=settings.array_parallelism,
            slurm_setup=settings.setup,
            slurm_additional_parameters=settings.additional_parameters or None,
        )
        return executor


def _result(job: Any) -> Any:
    """What a submitted job returns.

    Raises:
        RuntimeError: its process died; names its log.
    """
    try:
        return job.result()
    except Exception as error:
        raise RuntimeError(f"no result; its log is {job.paths.stdout}") from error


@contextmanager
def _cancelled_on_interrupt(jobs: Sequence[Any]) -> Iterator[None]:
    """Cancels submitit's jobs on Ctrl-C, and waits a little for them."""
    try:
        yield
    except KeyboardInterrupt:
        for job in jobs:
            with suppress(OSError):
                job.cancel(check=False)
        deadline = time.monotonic() + CANCELLED_S
        while time.monotonic() < deadline and not all(job.done() for job in jobs):
            time.sleep(0.1)
        raise


class RaySettings(Section):
    """``hydra.launcher`` of ``launcher=ray``."""

    cpus_per_job: int = Field(1, ge=1, description="cores that a job claims and computes with")
    gpus_per_job: float = Field(0, ge=0, description="GPUs that a job claims; 0.5: two jobs share one")


class Ray(JobLauncher):
    """Tasks of a Ray cluster, or of an instance on this machine: as many at the same time as it has cores for."""

    schema, package, extra = RaySettings, "ray", "ray"

    def check(self, given: Mapping[str, Any]) -> None:
        """Checks the settings, and that this machine has the cores, where it is used alone."""
        super().check(given)
        if not os.environ.get("RAY_ADDRESS") and self.threads > cores():
            raise UserError(
                f"hydra.launcher.cpus_per_job={self.threads}: this machine has {cores()}; expected at most that",
                "RAY_ADDRESS=HOST:PORT joins a cluster",
            )

    @property
    def threads(self) -> int:
        """The cores that a job claims."""
        return int(self.settings.cpus_per_job)

    @property
    def at_once(self) -> int:
        """As many as the cluster, or this machine, has cores and GPUs for."""
        if not os.environ.get("RAY_ADDRESS"):
            return cores() // self.threads
        with connected():
            return max(self._room(), 1)

    def run(self, jobs: Sequence[Job]) -> list[JobReturn]:
        """Calls the jobs on the machines of the cluster and waits for all of them."""
        with connected():
            import ray

            if not self._room():
                console.print("the cluster has no machine with what a job claims; waiting for one", markup=False)
            claims = {"num_cpus": self.threads, "num_gpus": self.settings.gpus_per_job}
            call: Any = ray.remote(**claims, max_retries=0)(Job.__call__)
            return every([call.remote(job) for job in jobs], ray.get)

    def _room(self) -> int:
        """How many jobs the machines that are connected have cores and GPUs for."""
        import ray

        claims = {"CPU": self.threads, "GPU": self.settings.gpus_per_job}
        machines = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        return sum(min(int(has.get(kind, 0) // n) for kind, n in claims.items() if n) for has in machines)
