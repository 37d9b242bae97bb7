"""Do two clips share sound: an audio fingerprint that gain, filters, re-encoding and another start leave as it is.

J. Haitsma and T. Kalker, "A highly robust audio fingerprinting system", ISMIR 2002, with their frames, bands and search:
32 bits for each frame, candidates by equal words, decided by the share of bits that differ where the clips lie over one
another. Energies are in decibels here, so that a fixed filter cancels out.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import soxr
from scipy.fft import rfft

from audioclf.training.scores import FloatArray

Words = npt.NDArray[np.uint32]

RATE = 5_512.5  # Hz, an eighth of the audio store's
FRAME, HOP = 2048, 64  # samples: 0.37 s every 11.6 ms
LOWEST, HIGHEST, BANDS = 300.0, 2_000.0, 33  # Hz
QUIET = 1e-8  # mean square of a frame in these bands that says nothing: -80 dBFS
FAINT = 1e-5  # and below the clip's loudest frame: -50 dB

FEWEST = 40  # frames that must lie over one another: half a second and the first frame, 0.8 s of sound
MOST_BITS = 0.25  # that may differ; by chance it is half of them
MOST_ALIKE = 32  # equal words in a row that are paired with one another


def words(samples: FloatArray, rate: float) -> Words:
    """The fingerprint of a clip: one word of 32 bits for each frame ``[F]``; 0 where there is next to no sound.

    Bit m is the sign of the change over time of the difference between the energies of bands m and m + 1 (equation 2).

    Args:
        samples: ``[n]``, in [-1, 1].
        rate: their sampling rate, in Hz.
    """
    low = np.asarray(soxr.resample(np.asarray(samples, dtype=np.float32), rate, RATE, quality="LQ"))
    if len(low) < FRAME + HOP:
        return np.zeros(0, dtype=np.uint32)
    frames = np.lib.stride_tricks.sliding_window_view(low, FRAME)[::HOP]
    window = np.hanning(FRAME).astype(np.float32)
    edges = np.round(np.geomspace(LOWEST, HIGHEST, BANDS + 1) * FRAME / RATE).astype(int)
    power = np.abs(rfft(frames * window, axis=1)[:, edges[0] : edges[-1]]) ** 2
    energy = np.add.reduceat(power, edges[:-1] - edges[0], axis=1)  # [F + 1, BANDS]
    loudness = 2 * energy.sum(1) / (FRAME * float((window**2).sum()))  # mean square, by Parseval
    heard = loudness > max(QUIET, FAINT * float(loudness.max()))
    bits = np.diff(np.diff(np.log(energy + 1e-12), axis=1), axis=0) > 0
    found = np.packbits(bits, axis=1).view(">u4")[:, 0].astype(np.uint32)
    found[~(heard[1:] & heard[:-1])] = 0
    return found


def shared(fingerprints: Sequence[Words]) -> list[tuple[int, int]]:
    """Places ``(i, j)``, ``i < j``, of clips that share sound.

    Args:
        fingerprints: of N clips.
    """
    found: set[tuple[int, int]] = set()
    for i, j, offset in _candidates(fingerprints):
        if (i, j) not in found and difference(fingerprints[i], fingerprints[j], offset) <= MOST_BITS:
            found.add((i, j))
    return sorted(found)


def difference(first: Words, second: Words, offset: int) -> float:
    """Share of bits that differ where frame ``t + offset`` of the first lies over frame t of the second; 1: too few do."""
    start, stop = max(0, -offset), min(len(second), len(first) - offset)
    if stop - start < FEWEST:
        return 1.0
    a, b = first[start + offset : stop + offset], second[start:stop]
    both = (a != 0) & (b != 0)
    if both.sum() < FEWEST:
        return 1.0
    return float(np.bitwise_count(a[both] ^ b[both]).mean()) / 32


def _candidates(fingerprints: Sequence[Words]) -> list[tuple[int, int, int]]:
    """``(i, j, offset)``, ``i < j``: where a word of two clips is equal."""
    lengths = [len(found) for found in fingerprints]
    if not sum(lengths):
        return []
    word = np.concatenate(fingerprints)
    clip = np.repeat(np.arange(len(lengths)), lengths)
    frame = np.concatenate([np.arange(length) for length in lengths])
    order = np.argsort(word, kind="stable")  # of equal words the earlier clip comes first
    order = order[word[order] != 0]
    word, clip, frame = word[order], clip[order], frame[order]
    span = 2 * max(lengths)
    found = set[int]()
    for step in range(1, MOST_ALIKE):
        equal = word[step:] == word[:-step]
        if not equal.any():
            break
        left = np.flatnonzero(equal & (clip[step:] != clip[:-step]))
        offset = frame[left] - frame[left + step] + span // 2
        found |= set(np.unique((clip[left] * len(lengths) + clip[left + step]) * span + offset).tolist())
    return [(*divmod(key // span, len(lengths)), key % span - span // 2) for key in sorted(found)]
