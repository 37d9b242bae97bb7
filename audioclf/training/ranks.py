"""Training on several devices at once: a process each, of which the run's own is the first.

Lightning would start the others by the command line that started this one, which may be a whole sweep's, or a
notebook's. Here they read the run's ``config.yaml`` instead, and only train: every file is written by the first.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import yaml
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from pytorch_lightning.strategies import DDPStrategy

from audioclf.config import Config, parse_config
from audioclf.runs.folder import RunFolder

HOST = "127.0.0.1"
PATIENCE = timedelta(minutes=10)  # with a process that does not answer


class Rank(LightningEnvironment):
    """Which of the processes this is, and where they meet, for Lightning.

    Args:
        number: from 0.
        port: of the first one.
    """

    creates_processes_externally = True
    main_address = HOST

    def __init__(self, number: int, port: int) -> None:
        super().__init__()
        self.number, self._main_port = number, port

    def local_rank(self) -> int:
        """Its number on this machine, which is the only one."""
        return self.number

    def options(self, config: Config) -> dict[str, Any]:
        """What ``pl.Trainer`` is told."""
        unused = config.trainer.strategy == "ddp_find_unused_parameters_true"
        strategy = DDPStrategy(cluster_environment=self, timeout=PATIENCE, find_unused_parameters=unused)
        # The data module deals the clips out: Lightning's sampler counts some of val twice.
        return {"devices": config.trainer.devices, "strategy": strategy, "use_distributed_sampler": False}


@contextmanager
def several(config: Config, folder: RunFolder) -> Iterator[dict[str, Any]]:
    """What ``pl.Trainer`` is told; for the time of a ``with`` block the other processes run, where there are any.

    Args:
        config: of the run; ``config.yaml`` in its folder says the same.
        folder: the run's.
    """
    devices = config.trainer.devices
    if devices == 1:
        yield {"devices": 1}
        return
    with socket.socket() as free:
        free.bind((HOST, 0))
        port = free.getsockname()[1]
    threads = torch.get_num_threads()
    share = max(1, threads // devices)
    environment = os.environ | {"OMP_NUM_THREADS": str(share)}
    others = [
        subprocess.Popen(
            [sys.executable, "-m", "audioclf.training.ranks", str(folder.path), str(number), str(port)],
            env=environment,
            stdout=subprocess.DEVNULL,  # the first one says it all; what goes wrong is on stderr
        )
        for number in range(1, devices)
    ]
    torch.set_num_threads(share)
    try:
        yield Rank(0, port).options(config)
    finally:
        for process in others:  # they have nothing to write
            process.kill()
            process.wait()
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
        torch.set_num_threads(threads)


def main(folder: str, number: str, port: str) -> None:
    """Trains as one of several processes, not the first."""
    from audioclf.training.fit import follow, quiet_lightning

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all; the first one decides for all when to stop
    quiet_lightning()
    run = RunFolder(Path(folder))
    config = parse_config(yaml.safe_load((run.path / "config.yaml").read_text()))
    follow(config, run, Rank(int(number), int(port)))
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(*sys.argv[1:])
