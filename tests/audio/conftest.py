"""Real audio for these tests: noise with a known waveform, in every container that audioclf reads."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
import pytest
import soundfile

from audioclf.audio import AudioStore, Ledger
from audioclf.clips.clip import Clip

Noise = Callable[..., npt.NDArray[np.float32]]
Encode = Callable[..., Path]


@pytest.fixture(scope="session")
def noise() -> Noise:
    """``noise(seconds, rate, seed)``: mono noise of 200 Hz to 6 kHz, peak 0.5: correlation finds it to the sample."""

    def make(seconds: float, rate: int = 44_100, seed: int = 0) -> npt.NDArray[np.float32]:
        n = round(seconds * rate)
        spectrum = np.fft.rfft(np.random.default_rng(seed).standard_normal(n))
        hz = np.fft.rfftfreq(n, 1 / rate)
        spectrum[(hz < 200) | (hz > 6000)] = 0
        samples = np.fft.irfft(spectrum, n)
        return (samples / np.abs(samples).max() * 0.5).astype(np.float32)

    return make


@pytest.fixture(scope="session")
def encode() -> Encode:
    """``encode(path, samples, rate, codec)``: by the path's extension through PyAV, with ``video`` beside it if asked."""

    def write(path: Path, samples: npt.NDArray[np.float32], rate: int, codec: str, video: bool = False) -> Path:
        with av.open(str(path), "w") as container:
            pictures = container.add_stream("mpeg4", rate=5, width=32, height=32) if video else None
            stream = container.add_stream(codec, rate=rate, layout="mono")
            if pictures is not None:
                for i in range(int(len(samples) / rate * 5)):
                    picture = av.VideoFrame.from_ndarray(np.full((32, 32, 3), i % 255, np.uint8))
                    picture.pts, picture.time_base = i, Fraction(1, 5)
                    container.mux(pictures.encode(picture))
                container.mux(pictures.encode(None))
            frame = av.AudioFrame.from_ndarray(samples[None], format="fltp", layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = rate, 0, Fraction(1, rate)
            convert = av.AudioResampler(format=stream.codec_context.format, layout="mono", rate=rate)
            fifo = av.AudioFifo()
            for part in [*convert.resample(frame), *convert.resample(None)]:
                fifo.write(part)
            while part := fifo.read(stream.codec_context.frame_size or 1024, partial=True):
                container.mux(stream.encode(part))
            container.mux(stream.encode(None))
        return path

    return write


@pytest.fixture
def store(tmp_path: Path) -> AudioStore:
    return AudioStore(tmp_path / "audio")


@pytest.fixture
def ledger(tmp_path: Path):
    with Ledger(tmp_path / "ledger.sqlite") as opened:
        yield opened


@pytest.fixture(scope="session")
def local_clip() -> Callable[..., Clip]:
    """``local_clip(path, start, end)``: a clip of a local file."""

    def make(path: Path, start: float = 0.0, end: float | None = None, **more: object) -> Clip:
        values = {"id": Path(path).stem, "group": Path(path).stem, "labels": ("x",)} | more
        return Clip(source=str(path), start=start, end=end, **values)

    return make


@pytest.fixture(scope="session")
def sixty_wavs(tmp_path_factory: pytest.TempPathFactory, noise: Noise) -> Path:
    """A folder of 60 one-second files at 22.05 kHz, no two alike."""
    folder = tmp_path_factory.mktemp("sixty")
    for i in range(60):
        soundfile.write(folder / f"clip{i:02d}.wav", noise(1.0, 22_050, seed=i), 22_050)
    return folder
