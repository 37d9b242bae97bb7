"""How loud each clip is and what is plainly wrong with it: one reading of all audio, remembered in the cache."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from audioclf.diagnose.fingerprint import Words, words
from audioclf.files import replacing
from audioclf.training.scores import FloatArray

if TYPE_CHECKING:
    from audioclf.diagnose.lab import Lab
    from audioclf.diagnose.pool import Pool

VERSION = 1  # of what is measured: raise it with every change to it or to the fingerprint

BLOCK_S = 0.1
SILENCE_DB = -65.0  # dBFS of the loudest block: ESC-10's and the demo's faintest have -39, and -59 played 20 dB lower
AT_PEAK = 0.99  # of the peak
CLIPPED = 0.2  # share of samples at the peak: a sine has 9 %, ESC-10's worst clip 0.4 %
LAGS = range(1, 5)
WHITE = 0.1  # largest autocorrelation of samples that are noise alone: ESC-10's lowest is 0.28
CONSTANT = 0.01  # standard deviation within a clip's features, in that of all: ESC-10's lowest is 0.07


@dataclass(frozen=True)
class Level:
    """What the samples of a clip say without knowing what they are of; nan where its audio is gone.

    A constant offset is left out of all but ``peak``.

    Attributes:
        rms_db: root mean square, in dBFS (0 dB: a square wave of full scale).
        loudest_db: the same of the loudest 0.1 s. A short event in silence is loud here, so it is no silent clip.
        peak: largest magnitude, in [0, 1].
        silent: share of 0.1 s blocks below :data:`SILENCE_DB`.
        clipped: share of samples within 1 % of the peak.
        autocorrelation: the largest magnitude of it at lags 1 to 4: of white noise 0, of recordings near 1.
    """

    rms_db: float
    loudest_db: float
    peak: float
    silent: float
    clipped: float
    autocorrelation: float

    @property
    def audible(self) -> bool:
        """Whether it is no near-silent clip."""
        return not self.loudest_db < SILENCE_DB


@dataclass(frozen=True, eq=False)
class Heard:
    """What is kept of a clip's audio: its level, and its fingerprint (:mod:`audioclf.diagnose.fingerprint`)."""

    level: Level
    words: Words


def level(samples: FloatArray, rate: float) -> Level:
    """The level of a clip.

    Args:
        samples: ``[n]``, in [-1, 1].
        rate: in Hz.
    """
    moving = samples - samples.mean()
    size = min(round(BLOCK_S * rate), len(moving))
    blocks = (moving[: len(moving) // size * size].reshape(-1, size) ** 2).mean(1)
    power, peak = float(moving @ moving), float(np.abs(moving).max())
    lagged = [abs(float(moving[lag:] @ moving[:-lag])) for lag in LAGS]
    return Level(
        rms_db=_decibels(power / len(moving)),
        loudest_db=_decibels(float(blocks.max())),
        peak=float(np.abs(samples).max()),
        silent=float((blocks < 10 ** (SILENCE_DB / 10)).mean()),
        clipped=float((np.abs(moving) >= AT_PEAK * peak).mean()),
        autocorrelation=max(lagged) / power if power > 0 else 1.0,
    )


def faults(pool: Pool, heard: list[Heard], sha256s: list[str]) -> list[str]:
    """What is plainly wrong with each clip, ``""`` where nothing is.

    ``silent``; ``clipped``: a large part of its samples is at the peak; ``noise``: white noise and nothing else;
    ``constant``: its features are one number; ``contradicted``: the very samples of a clip of another class.

    Args:
        pool: N clips.
        heard: of each.
        sha256s: of each clip's samples.
    """
    spread = pool.features.flatten(1).double().std(1).numpy()
    constant = spread < CONSTANT * float(pool.features.double().std())
    classes: dict[str, set[int]] = {}
    for sha256, target in zip(sha256s, pool.targets.tolist(), strict=True):
        classes.setdefault(sha256, set()).add(target)
    found = []
    for i, sound in enumerate(heard):
        wrong = {
            "silent": not sound.level.audible,
            "clipped": sound.level.clipped > CLIPPED,
            "noise": sound.level.autocorrelation < WHITE,
            "constant": bool(constant[i]),
            "contradicted": len(classes[sha256s[i]]) > 1,
        }
        found.append(next((name for name, so in wrong.items() if so), ""))
    return found


def hear(lab: Lab) -> list[Heard]:
    """Level and fingerprint of each clip of :attr:`Lab.everything`.

    400 clips of 5 s take 5 s, most of it decoding, and are kept in a file of the cache that what they hold gives its name.
    """
    clips = dict(zip(lab.sha256s, lab.everything.clips, strict=True))
    digest = hashlib.sha256("".join(sorted(clips)).encode()).hexdigest()[:16]
    path = lab.data.cache / "heard" / f"{VERSION}-{digest}.parquet"
    if path.exists():
        found = _read(path)
    else:
        found = {sha256: _heard(lab.samples(clip), lab.rate) for sha256, clip in clips.items()}
        _write(path, found)
    return [found[sha256] for sha256 in lab.sha256s]


def _heard(samples: FloatArray | None, rate: float) -> Heard:
    if samples is None:
        return Heard(Level(*[float("nan")] * len(fields(Level))), np.zeros(0, dtype=np.uint32))
    return Heard(level(samples, rate), words(samples, rate))


def _write(path: Path, found: dict[str, Heard]) -> None:
    levels = pa.Table.from_pylist([asdict(heard.level) for heard in found.values()])
    kept = pa.array([heard.words for heard in found.values()], pa.list_(pa.uint32()))
    table = levels.append_column("words", kept).append_column("sha256", pa.array(list(found)))
    with replacing(path) as file:
        pq.write_table(table, file)


def _read(path: Path) -> dict[str, Heard]:
    table = pq.read_table(path)
    levels = [Level(**row) for row in table.select([field.name for field in fields(Level)]).to_pylist()]
    kept = [np.asarray(value.values, dtype=np.uint32) for value in table["words"]]
    return {
        sha256: Heard(found, word)
        for sha256, found, word in zip(table["sha256"].to_pylist(), levels, kept, strict=True)
    }


def _decibels(power: float) -> float:
    """Of a mean square in relation to full scale; -200 dB at least."""
    return 10 * float(np.log10(power + 1e-20))
