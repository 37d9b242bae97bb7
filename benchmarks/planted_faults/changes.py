"""What is done to a table, and to the sounds that it names, so that it has a fault.

Each function takes the rows, a random generator and a folder for new sound files, and gives the changed rows.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import soxr
from scipy.signal import butter, sosfiltfilt

from benchmarks.planted_faults.tables import Row, Waveform, level, read_sound, write_sound

Rng = np.random.Generator
Change = Callable[[list[Row], Rng, Path], list[Row]]

SPEEDS = (0.5, 0.71, 1.41, 2.0)
QUIETEST_DB = -60.0  # windows below are left out: silence would be a second fault


# -- labels -----------------------------------------------------------------------------------------------------------


def shuffle_labels(rows: list[Row], rng: Rng, folder: Path) -> list[Row]:
    """The column of labels slipped against the others: every clip has some other clip's label."""
    return [replace(row, labels=rows[i].labels) for row, i in zip(rows, rng.permutation(len(rows)), strict=True)]


def flip_labels(rows: list[Row], rng: Rng, folder: Path, share: float) -> list[Row]:
    """A share of all clips, whatever their split, is labelled as another class, each as likely."""
    classes = _classes(rows)
    chosen = set(rng.permutation(len(rows))[: round(share * len(rows))].tolist())
    return [
        replace(row, labels=(str(rng.choice([name for name in classes if name != row.label])),)) if i in chosen else row
        for i, row in enumerate(rows)
    ]


def rename_test(rows: list[Row], rng: Rng, folder: Path, classes: int | None = None) -> list[Row]:
    """In test, so many classes (None: all) go by the name of the next of them."""
    names = [str(name) for name in rng.permutation(_classes(rows))[:classes]]
    other = dict(zip(names, np.roll(names, 1).tolist(), strict=True))
    return [replace(row, labels=(other.get(row.label, row.label),)) if row.split == "test" else row for row in rows]


# -- how many clips ---------------------------------------------------------------------------------------------------


def imbalance(rows: list[Row], rng: Rng, folder: Path, ratio: float) -> list[Row]:
    """Half the classes keep 1 clip for each ``ratio`` of the others, in train and in val; test stays as it is.

    At least one clip remains, so ESC-10 with its 26 training clips a class has 26:1 at most, the demo 23:1.
    """
    rare = set(rng.permutation(_classes(rows))[: len(_classes(rows)) // 2].tolist())
    sizes = _sizes(rows)

    def most(row: Row) -> int:
        fewer = row.label in rare and row.split != "test"
        return max(1, round(sizes[row.split, row.label] / ratio)) if fewer else len(rows)

    return _keep(rows, rng, most)


def few_clips(rows: list[Row], rng: Rng, folder: Path, clips: int) -> list[Row]:
    """So many clips of each class in train and in val; test stays as it is."""
    return _keep(rows, rng, lambda row: len(rows) if row.split == "test" else clips)


def many_classes(rows: list[Row], rng: Rng, folder: Path, train: int, val: int, test: int) -> list[Row]:
    """Four classes out of each, told apart by the speed at which their clips are played, with few clips each."""
    turn: dict[Hashable, int] = defaultdict(int)
    chosen: list[Row] = []
    for i in rng.permutation(len(rows)):
        row = rows[i]
        speed = SPEEDS[turn[row.split, row.label] % len(SPEEDS)]
        turn[row.split, row.label] += 1
        chosen.append(replace(row, labels=(f"{row.label}_x{speed:g}",)))
    most = {"train": train, "val": val, "test": test}
    kept = _keep(chosen, rng, lambda row: most[row.split])

    def play(row: Row, samples: Waveform, rate: int) -> Waveform:
        faster = soxr.resample(samples, rate * float(row.label.rpartition("_x")[2]), rate)
        return np.resize(faster, len(samples))  # repeated, or cut, to the old length

    return [_resound(row, folder, play) for row in kept]


# -- sounds -----------------------------------------------------------------------------------------------------------


def silence(rows: list[Row], rng: Rng, folder: Path, share: float, db: float = -80.0) -> list[Row]:
    """A share of each class of each split is replaced by noise at ``db`` below full scale."""
    sizes = _sizes(rows)
    spared = _keep(rows, rng, lambda row: sizes[row.split, row.label] - round(share * sizes[row.split, row.label]))
    left = {row.id for row in spared}

    def hiss(row: Row, samples: Waveform, rate: int) -> Waveform:
        return 10 ** (db / 20) * rng.standard_normal(len(samples))

    return [row if row.id in left else _resound(row, folder, hiss) for row in rows]


def muffle_test(rows: list[Row], rng: Rng, folder: Path, hz: float, db: float = -20.0) -> list[Row]:
    """Test was recorded through a wall: low-passed at ``hz`` Hz, and ``db`` quieter."""

    def muffle(row: Row, samples: Waveform, rate: int) -> Waveform:
        low = sosfiltfilt(butter(8, hz, fs=rate, output="sos"), samples)
        return np.asarray(10 ** (db / 20) * low)

    return [_resound(row, folder, muffle) if row.split == "test" else row for row in rows]


def mix_pairs(rows: list[Row], rng: Rng, folder: Path, both_labels: bool) -> list[Row]:
    """Recordings of two classes of one split sound at once, equally loud; the table names both, or one of them.

    Each clip is in one mixture, so there are half as many.
    """
    recordings: dict[tuple[str, str, str], list[Row]] = defaultdict(list)
    for row in rows:
        recordings[row.split, row.label, row.group].append(row)
    mixed: list[Row] = []
    for split in sorted({row.split for row in rows}):
        names = [name for name in recordings if name[0] == split]
        waiting = sorted((names[i] for i in rng.permutation(len(names))), key=lambda name: -len(recordings[name]))
        while waiting:
            one = waiting.pop(0)
            other = next((name for name in waiting if name[1] != one[1]), None)
            if other is None:
                continue
            waiting.remove(other)
            for first, second in zip(recordings[one], recordings[other], strict=False):
                mixed.append(_mix(first, second, rng, folder, both_labels))
    return mixed


def cut_windows(
    rows: list[Row], rng: Rng, folder: Path, hop_s: float, clips: int = 12, length_s: float = 2.0
) -> list[Row]:
    """So many clips of each class, cut into windows with a file each; splits and recordings stay right."""
    order = rng.permutation(len(rows))
    taken: dict[str, int] = defaultdict(int)
    windows: list[Row] = []
    for row in (rows[i] for i in order):
        taken[row.label] += 1
        if taken[row.label] > clips:
            continue
        samples, rate = read_sound(row)
        starts = np.arange(0, len(samples) / rate - length_s + 1e-9, hop_s)
        for start in starts:
            window = samples[round(start * rate) : round((start + length_s) * rate)]
            if level(window) >= QUIETEST_DB:
                name = f"{row.id}_{round(start * 1000)}"
                file = write_sound(folder / f"{name}.wav", window, rate)
                windows.append(Row(name, file, 0.0, None, row.labels, row.split, row.group))
    return windows


def draw_splits(rows: list[Row], rng: Rng, folder: Path) -> list[Row]:
    """Splits are drawn clip by clip within each class, and every clip counts as a recording of its own."""
    drawn = list(rows)
    for name in _classes(rows):
        places = [i for i, row in enumerate(rows) if row.label == name]
        for i, j in zip(places, rng.permutation(places), strict=True):
            drawn[i] = replace(rows[i], split=rows[j].split, group=rows[i].id)
    return drawn


# -- helpers ----------------------------------------------------------------------------------------------------------


def _classes(rows: Sequence[Row]) -> list[str]:
    return sorted({row.label for row in rows})


def _sizes(rows: Sequence[Row]) -> dict[tuple[str, str], int]:
    """Clips of each (split, class)."""
    sizes: dict[tuple[str, str], int] = defaultdict(int)
    for row in rows:
        sizes[row.split, row.label] += 1
    return sizes


def _keep(rows: Sequence[Row], rng: Rng, most: Callable[[Row], int]) -> list[Row]:
    """At most so many clips of each class of each split, from as many recordings as there are; in their order."""
    seen: dict[Hashable, int] = defaultdict(int)
    turns = []
    for place, i in enumerate(rng.permutation(len(rows)).tolist()):
        key = (rows[i].split, rows[i].label, rows[i].group)
        seen[key] += 1
        turns.append((seen[key], place, i))  # a recording's second clip comes after every recording's first
    kept, taken = set(), defaultdict[Hashable, int](int)
    for _, _, i in sorted(turns):
        part = (rows[i].split, rows[i].label)
        if taken[part] < most(rows[i]):
            taken[part] += 1
            kept.add(i)
    return [row for i, row in enumerate(rows) if i in kept]


def _resound(row: Row, folder: Path, change: Callable[[Row, Waveform, int], Waveform]) -> Row:
    """The row with a file of its own, of changed sound."""
    samples, rate = read_sound(row)
    file = write_sound(folder / f"{row.id}.wav", change(row, samples, rate), rate)
    return replace(row, path=file, start=0.0, end=None)


def _mix(first: Row, second: Row, rng: Rng, folder: Path, both_labels: bool) -> Row:
    (one, rate), other = read_sound(first), read_sound(second)[0]
    size = min(len(one), len(other))
    one, other = one[:size], other[:size]
    sound = (one + other * 10 ** ((level(one) - level(other)) / 20)) / 2
    labels = tuple(str(name) for name in rng.permutation([first.label, second.label]))
    name = f"{first.id}_{second.id}"
    return Row(
        name,
        write_sound(folder / f"{name}.wav", sound, rate),
        0.0,
        None,
        labels if both_labels else labels[:1],
        first.split,
        f"{first.group}+{second.group}",
    )
