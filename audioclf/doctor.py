"""What this machine has of all that fetching and training need, and the command that mends what it lacks.

The network is not touched.
"""

from __future__ import annotations

import os
import re
import shutil
import ssl
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from rich.table import Table
from rich.text import Text

from audioclf.audio.ledger import LEDGER, Ledger
from audioclf.audio.store import CANONICAL_RATE
from audioclf.compose import load_config
from audioclf.config import Config
from audioclf.console import console
from audioclf.errors import EXIT_FAILED, EXIT_OK, UserError, shown

STALE_DAYS = 60  # sites change by the month, and yt-dlp after them
LITTLE_ROOM_GB = 5.0
NO_ROOM_GB = 0.1
CLIP_MB = 10 * 2 * CANONICAL_RATE / 1e6  # 10 s in 16 bits; FLAC makes it smaller

_PYTHONS = ((3, 11), (3, 13))
_DECODERS = ("aac", "opus", "vorbis", "mp3")  # of the sites' audio
_PIP = "python -m pip install"
_PACKAGES = {"yt-dlp": "yt-dlp", "PyAV": "av", "soundfile": "soundfile", "torch": "torch torchaudio"}


class Verdict(StrEnum):
    """What a check found: ``warning`` where something works, but not all or not for long."""

    OK = "ok"
    WARNING = "warning"
    MISSING = "missing"


_STYLES = {Verdict.OK: "green", Verdict.WARNING: "yellow", Verdict.MISSING: "bold red"}


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the table.

    Attributes:
        name: what was looked at.
        verdict: how it is.
        found: what is there, or what is wrong with it.
        mend: the command or the key that mends it, or empty.
    """

    name: str
    verdict: Verdict
    found: str
    mend: str = ""


def doctor(overrides: Sequence[str] = ()) -> int:
    """Prints a table of checks, then what mends those that failed.

    Args:
        overrides: as for ``train.py``; ``paths.cache`` and ``fetch.cookies`` are looked at.

    Returns:
        0: all that is needed is there, perhaps with warnings; 1: something is missing.

    Raises:
        UserError: an override that is wrong.
    """
    checks = examine(load_config(overrides))
    table = Table.grid(padding=(0, 2))
    for column in ("status", "name"):
        table.add_column(column, no_wrap=True)
    table.add_column("found", overflow="fold")
    for check in checks:
        table.add_row(Text(check.verdict, _STYLES[check.verdict]), Text(check.name), Text(check.found))
    console.print(table)
    if any(check.mend for check in checks):
        console.print("\nto mend:", markup=False)
    for check in checks:
        if check.mend:
            console.print(f"  {check.name}: {check.mend}", markup=False, soft_wrap=True)  # to be copied in one piece
    return EXIT_FAILED if any(check.verdict is Verdict.MISSING for check in checks) else EXIT_OK


def examine(config: Config) -> list[Check]:
    """All checks; one that itself fails is a warning."""
    cache = Path(config.paths.cache)
    checks: dict[str, Callable[[], Check]] = {
        "Python": check_python,
        "yt-dlp": check_ytdlp,
        "JS runtime": check_js_runtime,
        "yt-dlp-ejs": check_ejs,
        "certificates": check_certificates,
        "PyAV": check_pyav,
        "soundfile": check_soundfile,
        "torch": check_torch,
        "GPU": check_gpu,
        "YAMNet": lambda: check_extra("YAMNet", "yamnet", "ai-edge-litert"),
        "transformers": lambda: check_extra("transformers", "pretrained", "transformers"),
        "disk": lambda: check_disk(cache),
        "ledger": lambda: check_ledger(cache / LEDGER),
        "cookies": lambda: check_cookies(config.fetch.cookies),
    }
    return [_guarded(name, check) for name, check in checks.items()]


def _guarded(name: str, check: Callable[[], Check]) -> Check:
    try:
        return check()
    except (ImportError, OSError) as error:  # OSError: a shared library that does not load
        mend = f"{_PIP} --force-reinstall {_PACKAGES[name]}" if name in _PACKAGES else ""
        return Check(name, Verdict.MISSING, shown(error), mend)
    except Exception as error:  # e.g. a newer yt-dlp that keeps things elsewhere
        return Check(name, Verdict.WARNING, shown(f"could not be checked: {type(error).__name__}: {error}"))


def check_python(running: Sequence[int] = sys.version_info[:3]) -> Check:
    """The interpreter's version."""
    first, last = _PYTHONS
    text = ".".join(map(str, running))
    if first <= tuple(running[:2]) <= last:
        return Check("Python", Verdict.OK, text)
    wanted = " to ".join(".".join(map(str, bound)) for bound in _PYTHONS)
    return Check("Python", Verdict.MISSING, f"{text}; expected {wanted}", "make venv PYTHON=python3.12")


def check_ytdlp(installed: str | None = None, today: date | None = None) -> Check:
    """yt-dlp's age in days, which its version states."""
    installed = installed or version("yt-dlp")
    year, month, day = (int(part) for part in installed.split(".")[:3])
    age = ((today or date.today()) - date(year, month, day)).days
    if age > STALE_DAYS:
        return Check("yt-dlp", Verdict.WARNING, f"{installed}, {age} days old: stale", f"{_PIP} -U yt-dlp")
    return Check("yt-dlp", Verdict.OK, f"{installed}, {max(age, 0)} days old")


def check_js_runtime() -> Check:
    """The one JavaScript runtime that yt-dlp uses unasked: deno, which keeps a site's code from files and network."""
    from yt_dlp.globals import supported_js_runtimes

    deno = supported_js_runtimes.value["deno"]().info
    if deno is None:
        return Check("JS runtime", Verdict.WARNING, "none; YouTube needs deno", f"{_PIP} deno")
    if not deno.supported:
        return Check("JS runtime", Verdict.WARNING, f"deno {deno.version} is too old for yt-dlp", f"{_PIP} -U deno")
    return Check("JS runtime", Verdict.OK, f"deno {deno.version}")


def check_ejs() -> Check:
    """The scripts that the runtime runs; yt-dlp takes only the version that it was released with."""
    wanted = next(
        (found[1] for line in requires("yt-dlp") or () if (found := re.match(r"yt-dlp-ejs==([\w.]+)", line))), ""
    )
    mend = f"{_PIP} yt-dlp-ejs=={wanted}" if wanted else f"{_PIP} -U yt-dlp-ejs"
    try:
        installed = version("yt-dlp-ejs")
    except PackageNotFoundError:
        return Check("yt-dlp-ejs", Verdict.WARNING, "not installed; YouTube needs it", mend)
    if wanted and installed != wanted:
        return Check("yt-dlp-ejs", Verdict.WARNING, f"{installed}; this yt-dlp takes {wanted} alone", mend)
    return Check("yt-dlp-ejs", Verdict.OK, installed)


def check_certificates() -> Check:
    """Whether there are certificates to check https against: certifi's, which yt-dlp prefers, or the system's."""
    paths = ssl.get_default_verify_paths()
    try:
        import certifi
    except ImportError:
        found = [path for path in (paths.cafile, paths.capath) if path and Path(path).exists()]
        return Check("certificates", Verdict.OK, found[0]) if found else _no_certificates()
    context = ssl.create_default_context(cafile=certifi.where())
    count = context.cert_store_stats()["x509_ca"]
    return (
        Check("certificates", Verdict.OK, f"{count} of certifi {version('certifi')}") if count else _no_certificates()
    )


def _no_certificates() -> Check:
    return Check("certificates", Verdict.MISSING, "none; https cannot be checked", f"{_PIP} -U certifi")


def check_pyav() -> Check:
    """PyAV and the decoders of what the sites send."""
    import av

    absent = [name for name in _DECODERS if name not in av.codecs_available]
    if absent:
        return Check(
            "PyAV", Verdict.MISSING, f"{av.__version__} without {', '.join(absent)}", f"{_PIP} --force-reinstall av"
        )
    return Check("PyAV", Verdict.OK, f"{av.__version__} with {', '.join(_DECODERS)}")


def check_soundfile() -> Check:
    """The libsndfile that soundfile carries."""
    import soundfile

    return Check("soundfile", Verdict.OK, f"{soundfile.__version__}, {soundfile.__libsndfile_version__}")


def check_torch() -> Check:
    """PyTorch and torchaudio, which work together only where both are of one release."""
    import torch

    release, other = (text.split("+")[0].rpartition(".")[0] for text in (torch.__version__, version("torchaudio")))
    if release != other:
        found = f"torch {release} beside torchaudio {other}"
        return Check("torch", Verdict.MISSING, found, f'{_PIP} "torchaudio=={release}.*"')
    import torchaudio

    return Check("torch", Verdict.OK, f"{torch.__version__}, torchaudio {torchaudio.__version__}")


def check_gpu() -> Check:
    """A GPU that torch can use; none is no fault."""
    import torch

    if not torch.cuda.is_available():
        return Check("GPU", Verdict.OK, "none; training runs on the CPU")
    return Check("GPU", Verdict.OK, f"{torch.cuda.get_device_name()}, CUDA {torch.version.cuda}")


def check_extra(name: str, extra: str, package: str) -> Check:
    """A package that some front-ends need; to lack it is no fault."""
    try:
        return Check(name, Verdict.OK, f"{package} {version(package)}")
    except PackageNotFoundError:
        return Check(name, Verdict.OK, f"not installed; pip install 'audioclf[{extra}]'")


def check_disk(cache: Path) -> Check:
    """Room and leave to write where the cache is, or will be."""
    folder = next(path for path in (cache.absolute(), *cache.absolute().parents) if path.exists())
    name, mend = shown(cache), "name another folder: paths.cache=DIR"
    if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        return Check("disk", Verdict.MISSING, f"{name} cannot be written", mend)
    free_gb = shutil.disk_usage(folder).free / 1e9
    found = f"{free_gb:,.0f} GB free in {name}: over {free_gb * 1e3 // CLIP_MB:,.0f} clips of 10 s"
    if free_gb >= LITTLE_ROOM_GB:
        return Check("disk", Verdict.OK, found)
    return Check("disk", Verdict.MISSING if free_gb < NO_ROOM_GB else Verdict.WARNING, found, mend)


def check_ledger(path: Path) -> Check:
    """The ledger of the cache, where there is one."""
    if not path.exists():
        return Check("ledger", Verdict.OK, "none yet")
    try:
        with Ledger(path) as ledger:
            counts = {state: count for state, count in ledger.counts().items() if count}
    except UserError as error:
        return Check("ledger", Verdict.MISSING, shown(error.message), error.hint or "")
    return Check("ledger", Verdict.OK, ", ".join(f"{count} {state}" for state, count in counts.items()) or "empty")


def check_cookies(file: str | None) -> Check:
    """The user's file with cookies; what is in it is neither kept nor shown."""
    if file is None:
        return Check("cookies", Verdict.OK, "none; fetch.cookies=FILE for what needs a login")
    from audioclf.fetch.session import read_cookies

    mend = "export them anew in Netscape's format, or fetch.cookies=null"
    try:
        cookies = sum(line.count("\t") == 6 for line in read_cookies(file) or ())  # 7 columns
    except UserError as error:
        return Check("cookies", Verdict.MISSING, error.message, mend)
    if not cookies:
        return Check("cookies", Verdict.MISSING, f"fetch.cookies={shown(file)}: no cookie in it", mend)
    return Check("cookies", Verdict.OK, f"{cookies} in {shown(file)}")
