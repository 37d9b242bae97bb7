"""The sounds of the demo data set, synthesised: one function a class.

A sound function draws a *character* (pitch, tempo, timbre: what stays the same throughout one recording) and returns
a function that renders one *take* of it. Takes of one character resemble each other far more than takes of two
characters, as segments of one real recording do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
from numpy.typing import ArrayLike, NDArray

SAMPLE_RATE = 22_050  # Hz

Waveform = NDArray[np.float64]
Rng = np.random.Generator
Take = Callable[[Rng, int], Waveform]
Sound = Callable[[Rng], Take]


# --- building blocks -------------------------------------------------------------------------------------------------


def log_uniform(rng: Rng, low: float, high: float) -> float:
    """One draw from [low, high), uniform in its logarithm: the fair choice for frequencies and durations."""
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def seconds(samples: int) -> Waveform:
    """Time of each sample in seconds, shape ``[samples]``."""
    return np.arange(samples) / SAMPLE_RATE


def tone(frequency: ArrayLike, weights: Iterable[float] = (1.0,)) -> Waveform:
    """Harmonic tone.

    Args:
        frequency: fundamental at each sample in Hz, shape ``[samples]``.
        weights: amplitude of each harmonic from the first; harmonics above 10 kHz at their peak are left out.

    Returns:
        The waveform, shape ``[samples]``.
    """
    fundamental = np.asarray(frequency, dtype=np.float64)
    cycles = np.cumsum(fundamental) / SAMPLE_RATE % 1.0
    phase = (2 * np.pi * cycles).astype(np.float32)  # small by now, and NumPy's float32 sine is 8 times as fast
    audible = int(10_000 / fundamental.max(initial=1.0))
    wave = np.zeros_like(phase)
    for k, weight in enumerate(list(weights)[: max(audible, 1)], start=1):
        wave += np.float32(weight) * np.sin(np.float32(k) * phase)
    return wave.astype(np.float64)


def fft_size(samples: int) -> int:
    """The next size at or above ``samples`` that has no large prime factor, which would slow an FFT down."""
    step = 1 << max(samples.bit_length() - 4, 0)
    return -(-samples // step) * step


def noise(rng: Rng, samples: int, low: float = 0.0, high: float = SAMPLE_RATE / 2, colour: float = 0.0) -> Waveform:
    """Gaussian noise of unit RMS between ``low`` and ``high`` Hz, its power falling as ``1 / f ** colour``."""
    size = fft_size(max(samples, 512))  # a spectrum fine enough for the band, also for the shortest grains
    frequency = np.maximum(np.fft.rfftfreq(size, 1 / SAMPLE_RATE).astype(np.float32), 1.0)
    gain = np.exp(-colour / 2 * np.log(np.maximum(frequency, 20.0)))
    gain /= 1 + np.square(np.square(low / frequency))  # soft edges ring less than cut ones
    gain /= 1 + np.square(np.square(frequency / high))
    spectrum = gain * rng.standard_normal(2 * len(frequency), dtype=np.float32).view(np.complex64)
    wave = np.fft.irfft(spectrum, size)[:samples].astype(np.float64)
    return wave / float(np.sqrt(np.mean(wave**2)))


def decay(samples: int, time_constant: float) -> Waveform:
    """Envelope of something struck: 1 ms attack, then exponential decay with ``time_constant`` seconds."""
    t = seconds(samples)
    return np.minimum(t / 1e-3, 1.0) * np.exp(-t / time_constant)


def swell(samples: int) -> Waveform:
    """Envelope of something blown or voiced: rises and falls smoothly, 1 in the middle."""
    return np.sin(np.pi * np.arange(samples) / samples) ** 0.7


def beats(rng: Rng, samples: int, period: float, jitter: float) -> list[int]:
    """Onsets (samples) that come every ``period`` seconds from a random phase, each off by about ``jitter`` periods.

    One at least in the first half, however short the take: a labelled segment always holds its sound.
    """
    count = int(samples / SAMPLE_RATE / period) + 2
    times = (rng.uniform(-1, 0) + np.arange(count) + jitter * rng.standard_normal(count)) * period
    onsets = [int(time * SAMPLE_RATE) for time in times if 0 <= time * SAMPLE_RATE < samples]
    return onsets if min(onsets, default=samples) < samples / 2 else [int(rng.uniform(0, 0.5) * samples), *onsets]


def place(samples: int, onsets: Iterable[int], grain: Callable[[int], Waveform]) -> Waveform:
    """Sums ``grain(i)`` at the ``i``-th onset; what lies past the end is cut. Shape ``[samples]``."""
    wave = np.zeros(samples)
    for i, onset in enumerate(onset for onset in onsets if onset < samples):
        piece = grain(i)[: samples - onset]
        wave[onset : onset + len(piece)] += piece
    return wave


def length(duration: float) -> int:
    """``duration`` seconds in samples, at least 2."""
    return max(int(duration * SAMPLE_RATE), 2)


# --- the classes -----------------------------------------------------------------------------------------------------


def alarm_beep(rng: Rng) -> Take:
    """Even beeps of one pitch, singly or in groups."""
    pitch, period, duty = log_uniform(rng, 1900, 3000), log_uniform(rng, 0.3, 1.0), rng.uniform(0.3, 0.6)
    group, brightness = int(rng.integers(1, 4)), rng.uniform(0.1, 0.4)

    def take(rng: Rng, samples: int) -> Waveform:
        beep = length(period * duty / group)
        envelope = np.minimum(1.0, 6 * swell(beep))

        def grain(_: int) -> Waveform:
            return envelope * tone(np.full(beep, pitch), brightness ** np.arange(8))

        onsets = beats(rng, samples, period, 0.005)
        return place(samples, [o + k * int(beep * 1.5) for o in onsets for k in range(group)], grain)

    return take


def bell(rng: Rng) -> Take:
    """Strokes on a bell: inharmonic partials, the higher the sooner gone."""
    pitch, ring, period = log_uniform(rng, 450, 1000), log_uniform(rng, 0.8, 2.5), log_uniform(rng, 0.5, 1.8)
    ratios = np.array([0.5, 1.0, 1.19, 1.5, 2.0, 2.74, 3.76, 5.1]) * rng.normal(1, 0.02, 8)
    weights = rng.uniform(0.1, 1.0, 8)

    def take(rng: Rng, samples: int) -> Waveform:
        size = min(length(min(4 * ring, 4.0)), samples)
        heard = ratios[pitch * ratios < 10_000]
        partials = np.stack([decay(size, ring / ratio**0.7) * tone(np.full(size, pitch * ratio)) for ratio in heard])

        def grain(_: int) -> Waveform:
            hardness = rng.uniform(0.5, 1.5)
            return np.asarray((weights[: len(heard)] * hardness**-heard) @ partials)

        return place(samples, beats(rng, samples, period, 0.08), grain)

    return take


def bird(rng: Rng) -> Take:
    """Phrases of quick whistled sweeps."""
    pitch, sweep = log_uniform(rng, 3000, 5600), rng.uniform(-0.5, 0.5)
    syllable, rest, notes = log_uniform(rng, 0.05, 0.2), log_uniform(rng, 0.2, 0.9), int(rng.integers(2, 9))
    trill, depth = rng.uniform(15, 60), rng.uniform(0, 0.08)

    def take(rng: Rng, samples: int) -> Waveform:
        def grain(_: int) -> Waveform:
            size = length(syllable * rng.uniform(0.7, 1.3))
            t = np.linspace(0, 1, size)
            bend = 2 ** (sweep * t * rng.uniform(0.6, 1.4)) * (1 + depth * np.sin(2 * np.pi * trill * seconds(size)))
            return rng.uniform(0.4, 1.0) * swell(size) * tone(np.minimum(pitch * rng.normal(1, 0.06) * bend, 9000))

        step = length(1.3 * syllable)
        phrases = beats(rng, samples, rest + notes * 1.3 * syllable, 0.15)
        return place(samples, [o + k * step for o in phrases for k in range(notes)], grain)

    return take


def clock_tick(rng: Rng) -> Take:
    """Even, very short knocks, tick and tock."""
    period, ring = log_uniform(rng, 0.2, 0.6), log_uniform(rng, 0.004, 0.02)
    pitches = log_uniform(rng, 1500, 4500) * np.array([1.0, rng.uniform(0.7, 1.0)])
    click = rng.uniform(0.1, 1.5)

    def take(rng: Rng, samples: int) -> Waveform:
        size = length(8 * ring)

        def grain(i: int) -> Waveform:
            pitch = pitches[i % 2]
            body = tone(np.full(size, pitch), (1.0, 0.4, 0.3))
            return decay(size, ring) * (body + click * noise(rng, size, pitch / 2, pitch * 2))

        return place(samples, beats(rng, samples, period, 0.004), grain)

    return take


def dog_bark(rng: Rng) -> Take:
    """Rough, falling, harmonic bursts in groups."""
    pitch, bark, rest = log_uniform(rng, 350, 650), log_uniform(rng, 0.12, 0.3), log_uniform(rng, 0.2, 0.8)
    formant, roughness, group = log_uniform(rng, 700, 1500), rng.uniform(0.2, 0.8), int(rng.integers(1, 4))

    def take(rng: Rng, samples: int) -> Waveform:
        def grain(_: int) -> Waveform:
            size = length(bark * rng.uniform(0.8, 1.2))
            t = np.linspace(0, 1, size)
            fundamental = pitch * rng.normal(1, 0.06) * (1 + 0.3 * np.sin(np.pi * t) - 0.25 * t)
            harmonics = np.exp(-(((np.arange(1, 16) * pitch / formant) - 1) ** 2))
            breath = roughness * noise(rng, size, formant / 2, formant * 2)
            return rng.uniform(0.6, 1.0) * swell(size) * (tone(fundamental, harmonics) + breath)

        step = length(1.4 * bark)
        onsets = beats(rng, samples, rest + group * 1.4 * bark, 0.12)
        return place(samples, [o + k * step for o in onsets for k in range(group)], grain)

    return take


def engine(rng: Rng) -> Take:
    """A low pulse with many harmonics whose speed wanders, and its exhaust."""
    speed, slope, hiss = log_uniform(rng, 25, 130), rng.uniform(0.6, 1.6), rng.uniform(0.1, 1.2)
    rev_rate, rev_depth = log_uniform(rng, 0.1, 1.0), rng.uniform(0.0, 0.35)
    colour, weights = rng.uniform(0.3, 1.5), rng.uniform(0.3, 1.0, 60) * np.arange(1, 61.0) ** -slope

    def take(rng: Rng, samples: int) -> Waveform:
        revs = np.sin(2 * np.pi * (rev_rate * seconds(samples) + rng.uniform()))
        rate = speed * (1 + rev_depth * revs) * rng.normal(1, 0.03)
        pulse = 1 + 0.7 * tone(rate)
        return (1 + 0.5 * rev_depth * revs) * (
            tone(rate, weights) + hiss * pulse * noise(rng, samples, 60, 6000, colour)
        )

    return take


def footsteps(rng: Rng) -> Take:
    """Dull thuds at walking pace, each with the scrape of a sole."""
    pace, thud = log_uniform(rng, 0.35, 0.7), log_uniform(rng, 60, 160)
    scrape_low, scrape, ring = log_uniform(rng, 500, 1800), rng.uniform(0.1, 0.5), log_uniform(rng, 0.04, 0.1)

    def take(rng: Rng, samples: int) -> Waveform:
        size, shuffle = length(6 * ring), length(rng.uniform(0.06, 0.16))

        def grain(_: int) -> Waveform:
            step = np.zeros(size + shuffle)
            step[:size] += decay(size, ring) * tone(np.full(size, thud * rng.normal(1, 0.1)), (1.0, 0.5, 0.3))
            sole = noise(rng, shuffle, scrape_low, scrape_low * 3)
            step[size // 4 : size // 4 + shuffle] += scrape * rng.uniform(0.3, 1.0) * swell(shuffle) * sole
            return rng.uniform(0.5, 1.0) * step

        return place(samples, beats(rng, samples, pace, 0.05), grain)

    return take


def rain(rng: Rng) -> Take:
    """Steady hiss with single drops in it."""
    low, width, colour = log_uniform(rng, 300, 2000), log_uniform(rng, 4, 12), rng.uniform(0, 1.0)
    density, drops, pitch = log_uniform(rng, 3, 60), rng.uniform(0.3, 3), log_uniform(rng, 800, 5000)

    def take(rng: Rng, samples: int) -> Waveform:
        size = length(0.02)
        count = rng.poisson(density * samples / SAMPLE_RATE)

        def grain(_: int) -> Waveform:
            return rng.exponential(drops) * decay(size, 0.004) * tone(np.full(size, pitch * rng.uniform(0.5, 1.5)))

        hiss = noise(rng, samples, low, low * width, colour)
        return hiss + place(samples, rng.integers(0, samples, count).tolist(), grain)

    return take


def siren(rng: Rng) -> Take:
    """A loud tone that wails up and down, or steps between two pitches."""
    low, interval = log_uniform(rng, 600, 850), rng.uniform(0.7, 1.1)
    rate, stepped, brightness = log_uniform(rng, 0.15, 4.0), rng.uniform() < 0.35, rng.uniform(0.3, 0.6)

    def take(rng: Rng, samples: int) -> Waveform:
        cycle = np.sin(2 * np.pi * (rate * seconds(samples) + rng.uniform()))
        height = np.tanh(20 * cycle) if stepped else cycle
        doppler = rng.normal(1, 0.03)
        return tone(doppler * low * 2 ** (interval * (1 + height) / 2), brightness ** np.arange(10))

    return take


def water_drops(rng: Rng) -> Take:
    """Single drops into water: short tones that bend upwards, at uneven times."""
    pitch, ring, period = log_uniform(rng, 900, 2000), log_uniform(rng, 0.015, 0.05), log_uniform(rng, 0.08, 0.35)
    bend, spread = rng.uniform(0.2, 1.2), rng.uniform(0.05, 0.25)

    def take(rng: Rng, samples: int) -> Waveform:
        size = length(6 * ring)

        def grain(_: int) -> Waveform:
            rise = 2 ** (bend * np.linspace(0, 1, size))
            return rng.uniform(0.3, 1.0) * decay(size, ring) * tone(pitch * np.exp(rng.normal(0, spread)) * rise)

        return place(samples, beats(rng, samples, period, 0.35), grain)

    return take


def sea_waves(rng: Rng) -> Take:
    """Broad noise that comes and goes slowly."""
    rate, depth, colour = log_uniform(rng, 0.1, 0.4), rng.uniform(0.3, 0.95), rng.uniform(0.3, 1.8)
    high = log_uniform(rng, 1500, 8000)

    def take(rng: Rng, samples: int) -> Waveform:
        surge = 0.5 + 0.5 * np.sin(2 * np.pi * (rate * seconds(samples) + rng.uniform()))
        spray = noise(rng, samples, high / 4, high) * surge**2
        return (1 - depth + depth * surge) * noise(rng, samples, 50, high, colour) + 0.5 * depth * spray

    return take


def helicopter(rng: Rng) -> Take:
    """Low noise chopped by a rotor."""
    rotor, chop, colour = log_uniform(rng, 8, 28), rng.uniform(1, 6), rng.uniform(0.5, 1.8)
    high, whine = log_uniform(rng, 400, 4000), log_uniform(rng, 200, 1500)
    turbine = rng.uniform(0, 0.4)

    def take(rng: Rng, samples: int) -> Waveform:
        rate = rotor * rng.normal(1, 0.02)
        blade = (0.5 + 0.5 * np.sin(2 * np.pi * (rate * seconds(samples) + rng.uniform()))) ** chop
        return (0.15 + blade) * noise(rng, samples, 40, high, colour) + turbine * tone(np.full(samples, whine))

    return take


# The order is part of the data set: `num_classes` takes them from the front.
SOUNDS: dict[str, Sound] = {
    "alarm_beep": alarm_beep,
    "bell": bell,
    "bird": bird,
    "clock_tick": clock_tick,
    "dog_bark": dog_bark,
    "engine": engine,
    "footsteps": footsteps,
    "rain": rain,
    "siren": siren,
    "water_drops": water_drops,
    "sea_waves": sea_waves,
    "helicopter": helicopter,
}
