"""The connection to Ray, for those who have a cluster (``launcher=ray``)."""

from __future__ import annotations

import logging
import os
import secrets
import signal
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from audioclf.errors import UserError, shown


@contextmanager
def connected() -> Iterator[None]:
    """A connection to Ray for the time of a ``with`` block.

    One that is there already is used and left as it is. Where the environment variable RAY_ADDRESS names a cluster,
    that is joined; else an instance of this machine is started, which listens on the loopback address only, and ended
    with all its processes and files.

    Raises:
        UserError: Ray is not installed, or the cluster does not answer.
    """
    address = os.environ.get("RAY_ADDRESS")
    if not address:  # Ray reads these while it is imported
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")  # on any system: the loopback address alone
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))  # else Ray leaves one in the home folder
    try:
        import ray
        import ray.data
    except ImportError as error:
        message = f"launcher=ray: Ray cannot be imported: {shown(error)}"
        raise UserError(message, "pip install 'audioclf[ray]'") from error
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    if ray.is_initialized():
        yield
        return
    with ExitStack() as stack:
        if threading.current_thread() is threading.main_thread():
            stack.callback(signal.signal, signal.SIGTERM, signal.getsignal(signal.SIGTERM))  # Ray sets its own
        options: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
        if address:
            stack.callback(ray.shutdown)
            _join(address, options)
        else:
            # The names of its sockets lie below that folder and may have a hundred characters.
            parent = "/tmp" if Path("/tmp").is_dir() else None
            folder = tempfile.TemporaryDirectory(prefix="ray-", dir=parent, ignore_cleanup_errors=True)
            stack.callback(folder.cleanup)
            stack.callback(ray.shutdown)
            ray.init("local", include_dashboard=False, _temp_dir=folder.name, **options)
        yield


def _join(address: str, options: dict[str, Any]) -> None:
    """Connects to a running cluster."""
    import ray

    if address.startswith("ray://"):
        raise UserError(
            f"RAY_ADDRESS={shown(address)}: Ray Client cannot run this; expected HOST:PORT or auto",
            "run on a machine of the cluster, or send the command there with `ray job submit`",
        )
    try:
        ray.init(address, **options)
    except (OSError, ValueError, RuntimeError) as error:
        raise UserError(
            f"RAY_ADDRESS={shown(address)}: no Ray cluster can be joined there: {shown(error)}",
            "run on a machine of the cluster, or unset RAY_ADDRESS: then this machine is used alone",
        ) from error
