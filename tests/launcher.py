"""Starts programs of the checkout in forked children of a process that has loaded everything: 0.1 s instead of 5 s.

One JSON line on standard input starts one: ``{"argv": [...], "cwd": ..., "out": ..., "env": {...}}``; its process id is the
answer on standard output. ``env`` is added to the environment. What it prints goes to the file ``out``, its exit status to ``out`` + ``.status`` (negative: killed by
that signal). It runs as ``python train.py ...`` or ``python -m audioclf ...`` would, in a session of its own.
"""

import json
import os
import runpy
import signal
import sys
from pathlib import Path
from typing import Any

CHECKOUT = Path(__file__).resolve().parents[1]


def serve() -> None:
    """Forks for each line; a child supervises each program, so that its exit status is kept."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # finished supervisors vanish
    for line in sys.stdin:
        if os.fork() == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            supervise(json.loads(line))
            os._exit(0)


def supervise(request: dict[str, Any]) -> None:
    """Runs one program and keeps its exit status."""
    pid = os.fork()
    if pid == 0:
        os.setsid()
        os.chdir(request["cwd"])
        os.environ.update(request["env"])
        out = os.open(request["out"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(out, 1)
        os.dup2(out, 2)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os._exit(run(request["argv"]))
    os.write(1, f"{pid}\n".encode())
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    temporary = Path(request["out"] + ".status.tmp")
    temporary.write_text(str(status))
    temporary.replace(request["out"] + ".status")


def run(argv: list[str]) -> int:
    """Runs ``train.py ...`` or ``-m audioclf ...`` to its end; its exit status."""
    code: Any = 0
    try:
        if argv[0] == "-m":
            sys.argv = argv[1:]
            runpy.run_module(argv[1], run_name="__main__", alter_sys=True)
        else:
            sys.argv = [str(CHECKOUT / argv[0]), *argv[1:]]
            runpy.run_path(sys.argv[0], run_name="__main__")
    except SystemExit as stop:
        code = stop.code
    except BaseException:
        sys.excepthook(*sys.exc_info())
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    return code if isinstance(code, int) else int(code is not None)


if __name__ == "__main__":
    sys.path[0] = str(CHECKOUT)
    import hydra
    import hydra.core.plugins
    import librosa.feature  # noqa: F401

    import audioclf.app
    import audioclf.audio.importer
    import audioclf.cli
    import audioclf.compare.compare
    import audioclf.compare.figures
    import audioclf.compare.html
    import audioclf.compare.importance
    import audioclf.compare.tables
    import audioclf.diagnose.diagnose
    import audioclf.diagnose.fix
    import audioclf.diagnose.page
    import audioclf.diagnose.record
    import audioclf.doctor
    import audioclf.predict.model
    import audioclf.training.fit
    import audioclf.training.report  # noqa: F401

    hydra.core.plugins.Plugins.instance()
    os.write(1, b"ready\n")
    serve()
