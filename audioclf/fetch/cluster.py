"""Workers on the machines of a Ray cluster.

The loop that gives them work, with ledger, pace and breakers, stays one: on the driver's machine, the same as without a
cluster. An actor on each machine keeps a worker process there and passes its answers on: it is the process that meets
strangers' bytes, under its own limits, and that may be killed.
"""

from __future__ import annotations

import contextlib
import ipaddress
import threading
import time
from collections import Counter
from collections.abc import Iterator
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, NamedTuple

import ray
from ray.exceptions import RayActorError, RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from audioclf.audio.store import AudioStore
from audioclf.config import FetchConfig
from audioclf.errors import UserError, shown
from audioclf.fetch.failures import Fault, Reason
from audioclf.fetch.recording import Outcome, Recording
from audioclf.fetch.worker import READY, START_LIMIT_S, Worker, WorkerDied, WorkerHandle, limit_s

EGRESS_LABEL = "egress"  # of a machine: the address that sites see it under

_LOOK_EVERY_S = 1.0  # at which machines there are
_HEARTBEAT_S = 1.0


class Machine(NamedTuple):
    """A machine of the cluster.

    Attributes:
        node: Ray's id of it.
        name: for people.
        address: the egress address that sites see it under.
    """

    node: str
    name: str
    address: str


class ClusterCrew:
    """Workers on the machines of the connected cluster, as many on each as evenly goes.

    Args:
        config: the ``fetch`` section; a cookies file is looked for under the same path on every machine.
        store: likewise.
    """

    def __init__(self, config: FetchConfig, store: AudioStore) -> None:
        cookies = config.cookies and str(Path(config.cookies).resolve())
        self._config, self._root = config.model_copy(update={"cookies": cookies}), store.root.resolve()
        self._machines: list[Machine] = []
        self._looked = 0.0
        self._workers: list[ClusterWorker] = []

    @property
    def addresses(self) -> list[str]:
        """The egress addresses of the machines that there are now.

        Raises:
            UserError: there is none.
        """
        if not self._machines or time.monotonic() - self._looked > _LOOK_EVERY_S:
            nodes = (node for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU"))
            self._machines = [
                Machine(node["NodeID"], node["NodeManagerAddress"], egress_of(node, self._config)) for node in nodes
            ]
            self._looked = time.monotonic()
        if not self._machines:
            raise UserError("launcher=ray: the cluster has no machine with a CPU", "`ray status` shows what it has")
        return sorted({machine.address for machine in self._machines})

    def hire(self, address: str) -> WorkerHandle:
        """A new worker, on the machine of that address that has fewest."""
        self._workers = [worker for worker in self._workers if not worker.connection.closed]
        load = Counter(worker.machine for worker in self._workers)
        machine = min((m for m in self._machines if m.address == address), key=load.__getitem__)
        self._workers.append(ClusterWorker(self._config, self._root, machine))
        return self._workers[-1]


class ClusterWorker(WorkerHandle):
    """The driver's handle of a worker on a machine of the cluster.

    Args:
        config: the ``fetch`` section.
        root: the audio store's folder, on every machine.
        machine: where it is to run.
    """

    def __init__(self, config: FetchConfig, root: Path, machine: Machine) -> None:
        ours, theirs = Pipe()
        super().__init__(ours, START_LIMIT_S + limit_s(config))  # the process is stopped on its machine before that
        self.machine, self.address = machine, machine.address
        self._fault: Fault | None = None
        self._host: Any = (
            ray.remote(Host)
            .options(num_cpus=0, scheduling_strategy=NodeAffinitySchedulingStrategy(machine.node, soft=False))
            .remote(config, root)
        )
        self._passing = threading.Thread(target=self._pass_on, args=(theirs,), name="fetch", daemon=True)
        self._passing.start()

    def kill(self) -> None:
        """Ends the actor and its process; returns when Ray has seen their end."""
        ray.kill(self._host)
        self.connection.close()
        self._passing.join()

    def _died(self) -> WorkerDied:
        self.kill()
        return WorkerDied(self._fault or Fault(Reason.LOST, f"the worker on {self.machine.name} is gone"))

    def _pass_on(self, loop: Connection) -> None:
        """A thread's work: brings recordings from the loop to the actor and outcomes back."""
        with loop, contextlib.suppress(EOFError, OSError):  # killed
            try:
                ray.get(self._host.__ray_ready__.remote())
                loop.send(READY)
                while True:
                    recording = loop.recv()
                    for answer in self._host.fetch.options(num_returns="streaming").remote(recording):
                        outcome = ray.get(answer)
                        if isinstance(outcome, Fault):
                            self._fault = outcome
                            return
                        loop.send(outcome)
                    loop.send(None)
            except RayError as error:
                said = shown((str(error).strip().splitlines() or [""])[-1])
                if isinstance(error, RayTaskError) or (isinstance(error, RayActorError) and error.actor_init_failed):
                    message = f"launcher=ray: no fetch worker can run on {self.machine.name}: {said}"
                    loop.send(UserError(message, "install the same audioclf, Python and Ray on every machine"))
                else:
                    self._fault = Fault(Reason.LOST, f"the worker on {self.machine.name} is gone: {said}")


class Host:
    """Ray's actor: keeps a worker process on its machine.

    Args:
        config: the ``fetch`` section.
        root: the audio store's folder.
    """

    def __init__(self, config: FetchConfig, root: Path) -> None:
        self._worker = Worker(config, AudioStore(root))

    def fetch(self, recording: Recording) -> Iterator[Outcome | Fault | UserError]:
        """The outcomes as they come; last of all a fault where the process is gone, or what the user has to mend."""
        self._worker.submit(recording)
        try:
            while self._worker.recording is not None:
                wait([self._worker.connection], _HEARTBEAT_S)
                for outcome in self._worker.receive():  # noqa: UP028 (Ray sends into it, which a list does not bear)
                    yield outcome
        except WorkerDied as died:
            yield died.fault
        except UserError as error:
            yield error


def egress_of(node: dict[str, Any], config: FetchConfig) -> str:
    """The address that sites see a machine of the cluster under.

    Its label ``egress``, else its own address where that is a public one. Machines of a private network are taken to
    leave it by one and the same address, which has the empty name; so are all where ``fetch.proxy`` is set.

    Args:
        node: as ``ray.nodes()`` tells of it.
        config: the ``fetch`` section.
    """
    if config.proxy is not None:
        return ""
    own = str(node["NodeManagerAddress"])
    label = node.get("Labels", {}).get(EGRESS_LABEL)
    return shown(label) if label else own if ipaddress.ip_address(own).is_global else ""
