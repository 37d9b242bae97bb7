"""The demo data set: synthesised recordings and their table of segments, made on the spot instead of downloaded.

Every recording is a pure function of (generator version, seed, class, number), and its file name says all four, so a
file that is there is the right one: a run that was killed is completed by the next, and a set of another size shares
its recordings with this one.
"""

from __future__ import annotations

import csv
import io
import math
import zlib
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

from audioclf.clips.clip import Clip
from audioclf.clips.synthesis import SAMPLE_RATE, SOUNDS, Rng, Waveform, fft_size, log_uniform, noise, tone
from audioclf.console import progress_bar
from audioclf.errors import UserError
from audioclf.files import remove_stale, replacing, write_text

GENERATOR_VERSION: str = "1"  # raise it with every change that changes a sample
MAX_CLASSES: int = len(SOUNDS)

TABLE = "segments.csv"
README = "README.md"
SEGMENTS = 3  # in one recording

_SIGNATURE = "synthetic=audioclf.clips.demo"
_FADE_S = 0.02

_README = f"""# Synthetic demo recordings

Nothing here was recorded: every file is synthesised by `audioclf.clips.demo`. The class names say what a sound
imitates. The set shows the way from a table of links to an F1 score without a download; a score on it says nothing
about real sounds.

- `synthetic_<class>_v<generator version>_seed<seed>_<number>.flac`: mono, {SAMPLE_RATE:,} Hz, 16 bit, 32 to 36 s;
  {SEGMENTS} segments of its class among background noise and short, unlabelled sounds of other classes.
- `{TABLE}`: the segments, in the format of AudioSet's tables.

All of it may be deleted; it is made again, byte for byte, when it is next needed.
"""


def write_demo(folder: Path, *, num_classes: int = 10, recordings_per_class: int = 12, seed: int = 0) -> Path:
    """Writes the demo data set, or what is missing of it; instant where it is complete.

    The recordings (``synthetic_*.flac``: 32 to 36 s, mono, 22,050 Hz, 16 bit) are written first, each atomically, and
    the table last, so a table that is there lists only recordings that are there. The same arguments give the same
    bytes as long as numpy, libsndfile and the kind of processor stay the same.

    Args:
        folder: where the recordings and the table go; made if it does not exist.
        num_classes: 2 to ``MAX_CLASSES``.
        recordings_per_class: at least 1.
        seed: at least 0; another seed gives other recordings under other names.

    Returns:
        Path of the table of segments, in AudioSet's format, for `read_demo`.

    Raises:
        UserError: a number is out of its range, ``folder`` cannot be written, or it holds another table of this name.
    """
    if not 2 <= num_classes <= MAX_CLASSES:
        raise UserError(f"num_classes={num_classes}: the demo has 2 to {MAX_CLASSES} classes")
    if recordings_per_class < 1:
        raise UserError(f"recordings_per_class={recordings_per_class}: expected at least 1")
    if seed < 0:
        raise UserError(f"seed={seed}: the demo's seed is at least 0")

    numbers = range(1, recordings_per_class + 1)
    recordings = [Recording(label, number, seed) for label in list(SOUNDS)[:num_classes] for number in numbers]
    table, text = folder / TABLE, _table_text(recordings, seed)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        old = table.read_text(encoding="utf-8", errors="replace") if table.exists() else None
        if old is not None and _SIGNATURE not in old.partition("\n")[0]:
            raise UserError(
                f"{table} is not a table of demo recordings, and would be overwritten",
                hint="give the demo a folder of its own",
            )
        missing = [recording for recording in recordings if not recording.path(folder).exists()]
        if missing or old != text:
            remove_stale(folder)
            if not (folder / README).exists():
                write_text(folder / README, _README)
            _write_recordings(missing, folder)
            write_text(table, text)
    except OSError as error:
        raise UserError(
            f"cannot write the demo recordings to {folder}: {error}",
            hint="choose a folder you may write to, with about 1 MB free for each recording",
        ) from error
    return table


def read_demo(table: Path) -> list[Clip]:
    """Reads the table that `write_demo` wrote.

    Args:
        table: path of ``segments.csv``, beside its recordings.

    Returns:
        One clip a segment, in the table's order; ``source`` is the recording's absolute path, ``group`` its id.

    Raises:
        UserError: there is no such table, or a line of it is not a segment.
    """
    try:
        text = table.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"cannot read {table}: {error}", hint="write_demo makes the recordings and their table"
        ) from error

    clips: list[Clip] = []
    takes: dict[str, int] = {}
    for line, row in enumerate(csv.reader(io.StringIO(text), skipinitialspace=True), start=1):
        if not row or row[0].startswith("#"):
            continue
        try:
            recording, start, end, label = row[0], float(row[1]), float(row[2]), row[3]
            if not (recording and label and 0 <= start < end < math.inf):
                raise ValueError
        except (ValueError, IndexError):
            raise UserError(
                f"{table}, line {line}: expected an id, a start, a later end and a label, found {','.join(row)!r}",
                hint=f"delete {table}; it is written again with the next run",
            ) from None
        takes[recording] = takes.get(recording, 0) + 1
        clips.append(
            Clip(
                id=f"{recording}_{round(start * 1000)}",
                source=str((table.parent / f"{recording}.flac").absolute()),
                start=start,
                end=end,
                labels=tuple(label.split(",")),
                group=recording,
                annotation=f"synthetic {label.replace('_', ' ')}, take {takes[recording]}",
            )
        )
    return clips


@dataclass(frozen=True, slots=True)
class Recording:
    """One synthetic recording: everything about it follows from these three and the generator's version.

    Attributes:
        label: its class, a key of ``SOUNDS``.
        number: which of its class, from 1.
        seed: of the data set.
    """

    label: str
    number: int
    seed: int

    @property
    def id(self) -> str:
        """Name of the file without its ending, and id in the table."""
        return f"synthetic_{self.label}_v{GENERATOR_VERSION}_seed{self.seed}_{self.number:02d}"

    def path(self, folder: Path) -> Path:
        """The recording's file in ``folder``."""
        return folder / f"{self.id}.flac"

    def layout(self) -> tuple[int, list[tuple[int, int]]]:
        """Length of the recording, and start and end of its segments in order, all in milliseconds."""
        rng = self._rng(0)
        total = int(rng.integers(32_000, 36_001))
        durations = rng.integers(4_600, 5_001, SEGMENTS)
        shares = rng.dirichlet(np.full(SEGMENTS + 1, 2.0))
        gaps = 300 + (shares * (total - durations.sum() - 300 * (SEGMENTS + 1))).astype(int)
        starts = np.cumsum(gaps[:-1]) + np.cumsum(durations) - durations
        return total, [(int(start), int(start + duration)) for start, duration in zip(starts, durations, strict=True)]

    def render(self) -> NDArray[np.int16]:
        """The recording at 22,050 Hz, shape ``[samples]``; its peak lies between -18 and -9 dBFS."""
        rng = self._rng(1)
        total, segments = self.layout()
        take = SOUNDS[self.label](rng)
        room = _room(rng)
        wave = np.zeros(_samples(total))
        for start, end in segments:
            _add(wave, start, rng.uniform(0.7, 1.0) * _unit(take(rng, _samples(end - start))))

        others = [label for label in SOUNDS if label != self.label]
        for _ in range(rng.poisson(1.5)):
            sound = SOUNDS[others[rng.integers(len(others))]](rng)(rng, _samples(rng.uniform(400, 1500)))
            _add(wave, rng.uniform(0, total - 1500), _decibels(rng.uniform(-18, -6)) * _unit(sound))

        snr = rng.uniform(16, 28)
        wave += _decibels(-snr) * _background(rng, len(wave))
        wave = _filter(wave, room)
        wave *= _decibels(rng.uniform(-18, -9)) * np.iinfo(np.int16).max / np.abs(wave).max()
        return wave.round().astype(np.int16)

    def _rng(self, stream: int) -> Rng:
        entropy = (self.seed, zlib.crc32(self.label.encode()), self.number, stream)
        return np.random.Generator(np.random.PCG64(np.random.SeedSequence(entropy)))


# --- one recording ---------------------------------------------------------------------------------------------------


def _samples(milliseconds: float) -> int:
    return round(milliseconds * SAMPLE_RATE / 1000)


def _decibels(level: float) -> float:
    return float(10 ** (level / 20))


def _unit(wave: Waveform) -> Waveform:
    """Scales to unit RMS in the loudest 50 ms, so that sparse and steady sounds come out about equally loud."""
    frame = _samples(50)
    frames = wave[: len(wave) // frame * frame].reshape(-1, frame)
    return wave / float(np.sqrt((frames**2).mean(axis=1).max()))


def _add(wave: Waveform, start: float, sound: Waveform) -> None:
    """Adds ``sound``, faded in and out, to ``wave`` from ``start`` milliseconds on."""
    ramp = np.arange(len(sound)) / (_FADE_S * SAMPLE_RATE)
    first = _samples(start)
    wave[first : first + len(sound)] += np.clip(np.minimum(ramp, ramp[::-1]), 0, 1) * sound


def _background(rng: Rng, samples: int) -> Waveform:
    """Coloured noise with mains hum; about unit RMS."""
    hum = tone(np.full(SAMPLE_RATE, rng.choice([50.0, 60.0])), rng.uniform(0, 1, 8))  # a second of it, which repeats
    hiss = noise(rng, samples, low=30, colour=rng.uniform(0.7, 1.3))
    return hiss + log_uniform(rng, 0.02, 0.3) * np.resize(hum, samples)


def _room(rng: Rng) -> Waveform:
    """Impulse response from source to file: the direct sound, a decaying tail, and the microphone's colour."""
    reverberation = log_uniform(rng, 0.03, 0.4)
    tail = rng.standard_normal(_samples(1000 * reverberation))
    tail *= np.exp(-np.arange(len(tail)) / (0.2 * len(tail)))
    before = np.zeros(_samples(5))  # room for the microphone's response, which is symmetric about the direct sound
    response = np.concatenate([before, [1.0], log_uniform(rng, 0.02, 0.7) * tail / np.linalg.norm(tail)])
    octaves = np.log2(np.maximum(np.fft.rfftfreq(2 * len(response), 1 / SAMPLE_RATE), 1.0))
    knots = np.arange(5.0, 14.0)  # 32 Hz to 8 kHz
    gain = 10 ** (np.interp(octaves, knots, rng.normal(0, 2, len(knots))) / 20)
    coloured: Waveform = np.fft.irfft(gain * np.fft.rfft(response, 2 * len(response)))
    return coloured


def _filter(wave: Waveform, response: Waveform) -> Waveform:
    """Convolution, as long as ``wave``; in blocks, because one transform of the whole does not fit the cache."""
    size = fft_size(4 * len(response))
    hop = size - len(response) + 1
    blocks = np.resize(wave, (-(-len(wave) // hop), hop))  # what fills up the last one is cut off below
    convolved = np.zeros(blocks.size + size)
    for i, block in enumerate(np.fft.irfft(np.fft.rfft(blocks, size) * np.fft.rfft(response, size), size)):
        convolved[i * hop : i * hop + size] += block
    return convolved[: len(wave)]


# --- the folder ------------------------------------------------------------------------------------------------------


def _table_text(recordings: list[Recording], seed: int) -> str:
    """The table; its first line holds what made it, so that equal text means an equal set."""
    count, labels = len(recordings), {recording.label for recording in recordings}
    made_of = (
        f"num_ytids={count}, num_segs={count * SEGMENTS}, num_unique_labels={len(labels)}, "
        f"num_positive_labels={count * SEGMENTS}, {_SIGNATURE}, generator_version={GENERATOR_VERSION}, seed={seed}"
    )
    lines = [f"# {made_of}", "# YTID, start_seconds, end_seconds, positive_labels"]
    for recording in recordings:
        _, segments = recording.layout()
        lines += [f'{recording.id},{start / 1000:.3f},{end / 1000:.3f},"{recording.label}"' for start, end in segments]
    return "\n".join(lines) + "\n"


def _write_recordings(recordings: list[Recording], folder: Path) -> None:
    """Renders and writes ``recordings``, two at a time: most of the work is outside the interpreter lock."""

    def write(recording: Recording) -> None:
        flac = io.BytesIO()
        soundfile.write(flac, recording.render(), SAMPLE_RATE, format="FLAC", subtype="PCM_16")
        with replacing(recording.path(folder)) as file:
            file.write(flac.getbuffer())

    pool = ThreadPoolExecutor(max_workers=2)
    try:
        with progress_bar("synthesise demo recordings", len(recordings), "recordings") as bar:
            for done in as_completed([pool.submit(write, recording) for recording in recordings]):
                done.result()
                bar.advance()
    finally:
        pool.shutdown(cancel_futures=True)
