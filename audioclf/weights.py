"""Weights that others trained: where they lie, how they come there, and what names their content.

A path names no weights: what they are is their content. So a run's identity and the feature store's key hold a digest
of the files. No weights are read here, and nothing in a file is ever run.
"""

from __future__ import annotations

import functools
import hashlib
import http.client
import importlib
import json
import os
import re
import ssl
import urllib.error
import urllib.request
from pathlib import Path
from types import ModuleType

from pydantic import BaseModel

from audioclf.config import CONTENT, NOT_IDENTITY
from audioclf.console import progress_bar
from audioclf.errors import UserError, shown
from audioclf.files import cannot_write, exists, is_file, replacing

READ = (".json", ".safetensors", ".bin", ".tflite", ".pt", ".pth", ".txt", ".model")
"""Endings of what is read from a folder of weights."""
BLOCK = 1 << 20  # bytes
TIMEOUT_S = 30.0
NO_ANSWER = (urllib.error.URLError, http.client.HTTPException, ssl.SSLError, TimeoutError, ConnectionError, ValueError)
"""What a download raises, for one reason or another; any other ``OSError`` is of the disk."""


def weights_folder() -> Path:
    """Where downloaded weights are kept: ``AUDIOCLF_WEIGHTS``, else ``audioclf`` in the user's cache folder."""
    chosen = os.environ.get("AUDIOCLF_WEIGHTS")
    return Path(chosen) if chosen else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "audioclf"


def is_url(weights: str) -> bool:
    """Whether weights are named by an address on the web."""
    return weights.startswith(("https://", "http://"))


def digest(path: Path) -> str:
    """sha256 (hex) of a file, or of all that would be read from a folder; a file that did not change is hashed once.

    Read are the files that lie in the folder itself, and in those that ``modules.json`` names, as a sentence encoder's
    does. So checkpoints that a training left below it are no part of it.

    Raises:
        UserError: what may not be read.
    """
    try:
        if path.is_file():
            found = path.stat()
            return _digest_of_file(path.resolve(), found.st_size, found.st_mtime_ns)
        named = _modules(path)
        folders = [path, *(folder for folder in path.iterdir() if folder.name in named and folder.is_dir())]
        files = sorted(
            file for folder in folders for file in folder.iterdir() if file.suffix in READ and file.is_file()
        )
    except OSError as error:
        raise UserError(
            f"{path}: cannot be read: {error.strerror}; expected a model's weights",
            "check the permissions, or name a copy",
        ) from error
    lines = [f"{file.relative_to(path).as_posix()} {digest(file)}\n" for file in files]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _modules(folder: Path) -> set[str]:
    """The folders that a sentence encoder's ``modules.json`` names; none where it cannot be read: what reads it says so."""
    try:
        return {str(module["path"]) for module in json.loads((folder / "modules.json").read_bytes())}
    except (OSError, ValueError, TypeError, KeyError):
        return set()


@functools.lru_cache(maxsize=4096)
def _digest_of_file(path: Path, size: int, mtime_ns: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def identified(section: BaseModel) -> dict[str, object]:
    """A section's values as they are part of an identity, recursively.

    Left out is what cannot change a number (:data:`audioclf.config.NOT_IDENTITY`). Of weights
    (:data:`audioclf.config.CONTENT`) the content stands for the path; a name on a hub stands for itself.
    """
    values: dict[str, object] = {}
    for name, field in type(section).model_fields.items():
        value, marks = getattr(section, name), field.json_schema_extra
        if marks == NOT_IDENTITY:
            continue
        if isinstance(value, BaseModel):
            value = identified(value)
        elif marks == CONTENT and value is not None:
            value = content_of(value, getattr(section, "sha256", None))
        values[name] = value
    return values


def places(section: BaseModel, prefix: str = "") -> dict[str, str | None]:
    """Dotted key → value of the keys below a section that say where weights lie."""
    found: dict[str, str | None] = {}
    for name, field in type(section).model_fields.items():
        value = getattr(section, name)
        if isinstance(value, BaseModel):
            found |= places(value, f"{prefix}{name}.")
        elif field.json_schema_extra == CONTENT:
            found[f"{prefix}{name}"] = value
    return found


def contents(section: BaseModel) -> dict[str, str]:
    """Dotted key → what names the content of the weights that it leads to (:func:`content_of`), where it leads to some."""
    sha256 = getattr(section, "sha256", None)
    return {key: content_of(value, sha256) for key, value in places(section).items() if value is not None}


def content_of(weights: str, sha256: str | None = None) -> str:
    """What names the content of weights: ``sha256:...`` of a file, folder or URL, else the name as it is."""
    if is_url(weights):
        return f"sha256:{sha256}"
    path = Path(weights)
    return f"sha256:{digest(path)}" if exists(path) else weights


def is_at_hand(weights: str, sha256: str | None) -> bool:
    """Whether :func:`weights_file` finds the file without a download."""
    return is_file(_place(weights, sha256))


def _place(weights: str, sha256: str | None) -> Path:
    """Where the file lies, or will, that a path or a URL names."""
    if not is_url(weights):
        return Path(weights)
    return weights_folder() / f"{str(sha256)[:16]}-{file_name(weights)}"


def file_name(weights: str) -> str:
    """What the file or folder is called that a path or a URL leads to, without a signed URL's signature."""
    return Path(re.split("[?#]", weights)[0] if is_url(weights) else weights).name


def weights_file(key: str, weights: str, sha256: str | None) -> Path:
    """The file of weights that a path or a URL names; what a URL names is downloaded once.

    Args:
        key: of the configuration, for errors, e.g. ``"features.weights"``.
        weights: a path or a URL.
        sha256: of the file (hex); needed with a URL, not looked at with a path.

    Raises:
        UserError: no such file, or a download that failed or gave another file; with the way to do it by hand.
    """
    if not is_url(weights):
        if not is_file(Path(weights)):
            raise UserError(f"{key}={shown(weights)}: no such file; expected the model's weights", f"{key}=FILE")
        return Path(weights)
    if sha256 is None:
        raise UserError(
            f"{key}={shown(weights)}: a URL needs the sha256 of its file", f"{key.rpartition('.')[0]}.sha256=HEX"
        )
    path = _place(weights, sha256)
    if not is_file(path):
        _download(key, weights, sha256, path)
    elif digest(path) != sha256:
        raise UserError(f"{path}: its sha256 is {digest(path)}; expected {sha256}", "remove it: it is downloaded anew")
    return path


def _download(key: str, url: str, sha256: str, path: Path) -> None:
    by_hand = f"download it with a browser and save it as {path}, or {key}=FILE names it elsewhere"
    found = hashlib.sha256()
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT_S) as answer, replacing(path) as file:
            size = int(answer.headers.get("Content-Length") or 0)
            with progress_bar(f"download {path.name}", size // BLOCK, "MB") as bar:
                while block := answer.read(BLOCK):
                    found.update(block)
                    file.write(block)
                    bar.advance(len(block) // BLOCK)
            if found.hexdigest() != sha256:
                raise UserError(f"{key}={url}: sha256 {found.hexdigest()}; expected {sha256}", by_hand)
    except NO_ANSWER as error:
        reason = getattr(error, "reason", None) or error
        raise UserError(f"{key}={url}: cannot be downloaded: {shown(reason)}", by_hand) from error
    except OSError as error:
        raise cannot_write(str(path), error) from error


def needs(module: str, extra: str, what: str) -> ModuleType:
    """Imports a package of an extra.

    Args:
        module: its name.
        extra: of audioclf, that brings it.
        what: needs it, e.g. ``"features=yamnet"``.

    Raises:
        UserError: it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        message = f"{what}: {module.partition('.')[0]} cannot be imported: {shown(error)}"
        raise UserError(message, f"pip install 'audioclf[{extra}]'") from error
