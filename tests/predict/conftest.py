"""A small trained model, shared by all tests of its use: read it only."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from audioclf import load
from audioclf.cli import main
from audioclf.config import Config
from audioclf.predict.model import Model
from audioclf.training.fit import fit


@pytest.fixture(scope="session")
def run_folder(tiny_config: Callable[..., Config], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run on tones of three classes; its windows are 0.64 s long."""
    folder: Path = fit(tiny_config(), tmp_path_factory.mktemp("used") / "run").folder
    return folder


@pytest.fixture(scope="session")
def model(run_folder: Path) -> Model:
    return load(run_folder, device="cpu")


@pytest.fixture(scope="session")
def checkpoint(run_folder: Path) -> Callable[[], dict[str, Any]]:
    """Its checkpoint's content, read anew by each call, to be changed."""
    import torch

    def read() -> dict[str, Any]:
        content: dict[str, Any] = torch.load(run_folder / "checkpoints" / "model.ckpt", weights_only=True)
        return content

    return read


@pytest.fixture
def written(capfdbinary: pytest.CaptureFixture[bytes]) -> Callable[..., tuple[int, str, str]]:
    """Exit code, standard output and standard error of a command in this process."""

    def run(*words: str | Path) -> tuple[int, str, str]:
        try:
            code = main([str(word) for word in words])
        except SystemExit as stop:
            code = int(stop.code or 0)
        out, error = capfdbinary.readouterr()
        return code, out.decode(), error.decode()

    return run
