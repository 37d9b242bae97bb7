"""What many tests share: the real data where it is there, and small files made on the spot."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import settings

CHECKOUT = Path(__file__).resolve().parents[1]

settings.register_profile("audioclf", deadline=None, derandomize=True, max_examples=60)
settings.load_profile("audioclf")


@pytest.fixture(scope="session")
def checkout() -> Path:
    """The folder that holds train.py and conf/."""
    return CHECKOUT


@pytest.fixture(scope="session")
def shared_data() -> Callable[[str], Path]:
    """Finds real data by name, e.g. ``shared_data("esc10")``; the test is skipped where it is absent.

    It lies in the folder that AUDIOCLF_DATA names, else in ../shared/data beside the checkout.
    """
    root = Path(os.environ.get("AUDIOCLF_DATA") or CHECKOUT.parent / "shared" / "data")

    def find(name: str) -> Path:
        if not (root / name).exists():
            pytest.skip(f"needs real data: no {name} in {root} (AUDIOCLF_DATA names another folder)")
        return root / name

    return find


@pytest.fixture
def write_file(tmp_path: Path) -> Callable[..., Path]:
    """Writes a text or binary file below tmp_path: ``write_file("clips.csv", "path,label\\n")``."""

    def write(name: str, content: str | bytes = "") -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write


@pytest.fixture
def write_wav(tmp_path: Path) -> Callable[..., Path]:
    """Writes a tone below tmp_path: ``write_wav("dog/1.wav", seconds=2.0, hertz=440.0)``."""

    def write(name: str, seconds: float = 1.0, hertz: float = 440.0, rate: int = 22_050, channels: int = 1) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        tone = 0.5 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)
        soundfile.write(path, np.repeat(tone[:, None], channels, axis=1), rate, subtype="PCM_16")
        return path

    return write
