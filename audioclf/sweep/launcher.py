"""What the launchers share: a job that can be sent to another process, and settings that are checked before it is."""

from __future__ import annotations

import os
import socket
from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn, run_job, setup_globals
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict
from pydantic import ValidationError

from audioclf.config import Section, explain, unknown_key
from audioclf.console import console, user_errors
from audioclf.errors import UserError


@dataclass(frozen=True)
class Job:
    """One job of a sweep, to be called in another process, maybe on another machine.

    Attributes:
        overrides: its command line.
        number: which of the sweep's jobs it is.
        threads: the cores that it computes with.
        context: Hydra's, which composes the configuration there.
        config: the sweep's.
        task: what is called with the composed configuration.
        state: Hydra's and OmegaConf's, resolvers included.
        folder: the folder that relative paths start from.
        environment: what the configuration refers to.
        launched_by: the process that says how the sweep gets on; what others print would mix with that.
    """

    overrides: tuple[str, ...]
    number: int
    threads: int
    context: HydraContext
    config: DictConfig
    task: TaskFunction
    state: Any
    folder: str
    environment: Mapping[str, str]
    launched_by: int

    def __call__(self) -> JobReturn:
        """Runs it.

        Raises:
            UserError: this machine has no such folder.
        """
        import torch

        try:
            os.chdir(self.folder)
        except OSError as error:
            raise UserError(
                f"{self.folder}: no such folder on {socket.gethostname()}; expected one that all machines share"
            ) from error
        os.environ.update(self.environment)
        console.quiet = os.getpid() != self.launched_by
        torch.set_num_threads(self.threads)
        setup_globals()
        Singleton.set_state(self.state)
        config = self.context.config_loader.load_sweep_config(self.config, list(self.overrides))
        with open_dict(config):
            config.hydra.job.id = f"{config.hydra.job.name}_{self.number}"
            config.hydra.job.num = self.number
        return run_job(
            hydra_context=self.context,
            task_function=self.task,
            config=config,
            job_dir_key="hydra.sweep.dir",
            job_subdir_key="hydra.sweep.subdir",
        )

    def checkpoint(self) -> Any:
        """What submitit queues when the job's time is up: the same job, which continues from the last saved epoch."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


class JobLauncher(Launcher):
    """What the launchers share: settings that are checked before anything starts, and the making of jobs.

    Args:
        settings: ``hydra.launcher``, checked in :meth:`setup`.
    """

    schema: ClassVar[type[Section]]
    package: ClassVar[str]
    extra: ClassVar[str]

    def __init__(self, **settings: Any) -> None:
        self._given = {key: OmegaConf.to_object(v) if OmegaConf.is_config(v) else v for key, v in settings.items()}

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Takes what every job needs.

        Raises:
            SystemExit: 2, after one line that says what is missing or which setting is wrong.
        """
        with user_errors():
            if find_spec(self.package) is None:
                raise UserError(
                    f"launcher={config.launcher}: {self.package} is not installed",
                    f"pip install 'audioclf[{self.extra}]'",
                )
            self.check(self._given)
        self._context, self._task, self._config = hydra_context, task_function, config

    def check(self, given: Mapping[str, Any]) -> None:
        """Checks the settings.

        Raises:
            UserError: a setting that is wrong, or cannot be had here.
        """
        for key in given.keys() - self.schema.model_fields.keys():
            known = [f"hydra.launcher.{name}" for name in self.schema.model_fields]
            raise unknown_key(f"hydra.launcher.{key}", given[key], known)
        try:
            self.settings: Any = self.schema.model_validate(given)
        except ValidationError as error:
            fault: dict[str, Any] = dict(error.errors()[0])
            fault["loc"] = ("hydra", "launcher", *fault["loc"])
            message, hint = explain(fault, {}, {})
            raise UserError(message, hint) from None

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Runs jobs to their end, all of them, whatever becomes of one.

        Raises:
            UserError: nothing can be launched.
            Exception: of the launcher's library, where a job's process died.
        """
        threads = min(self.threads, int(os.environ.get("OMP_NUM_THREADS") or self.threads))
        state = Singleton.get_state()
        named = {key: value for key, value in os.environ.items() if key.startswith("AUDIOCLF_")}
        shared = (threads, self._context, self._config, self._task, state, str(Path.cwd()), named, os.getpid())
        jobs = [Job(tuple(words), number, *shared) for number, words in enumerate(job_overrides, initial_job_idx)]
        return self.run(jobs)

    @property
    @abstractmethod
    def threads(self) -> int:
        """The cores that one job computes with."""

    @property
    @abstractmethod
    def at_once(self) -> int:
        """How many jobs run at the same time."""

    @abstractmethod
    def run(self, jobs: Sequence[Job]) -> list[JobReturn]:
        """Calls the jobs; see :meth:`launch`."""


def cores() -> int:
    """The cores that this process may use: what affinity and control groups leave of the machine's."""
    from joblib import cpu_count

    return int(cpu_count())


def every(begun: Iterable[Any], wait: Callable[[Any], JobReturn]) -> list[JobReturn]:
    """What jobs return, after all of them ended.

    Args:
        begun: what the launcher's library has for each job.
        wait: what waits for one of them.

    Raises:
        Exception: what the library makes of the first process that died.
    """
    found, died = [], []
    for one in begun:
        try:
            found.append(wait(one))
        except Exception as error:
            died.append(error)
    if died:
        raise died[0]
    return found
