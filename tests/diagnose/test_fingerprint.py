import io

import numpy as np
import pytest
import soundfile
from scipy.signal import butter, sosfilt

from audioclf.diagnose.fingerprint import shared, words
from audioclf.diagnose.twins import recordings, twins

RATE = 44_100


def noise(seed, seconds=3.0):
    """Steady noise: every second of it has the same spectrum."""
    return (0.1 * np.random.default_rng(seed).standard_normal(int(seconds * RATE))).astype(np.float32)


def quieter(samples):
    return np.round(samples * 0.1 * 32767) / 32767


def muffled(samples):
    return sosfilt(butter(6, 1_500, fs=RATE, output="sos"), samples)


def encoded(samples):
    file = io.BytesIO()
    soundfile.write(file, samples, RATE, format="OGG", subtype="VORBIS")
    file.seek(0)
    return soundfile.read(file, dtype="float32")[0]


@pytest.mark.parametrize("change", [quieter, muffled, encoded], ids=lambda change: change.__name__)
def test_windows_of_one_recording_share_sound_however_they_were_changed(change):
    start = RATE + 17  # no whole number of frames
    first, second = noise(0)[: 2 * RATE], noise(0)[start : start + 2 * RATE]
    assert shared([words(noise(1), RATE), words(first, RATE), words(change(second), RATE)]) == [(1, 2)]


def test_windows_that_do_not_overlap_share_nothing():
    sound = noise(0, 4.0)
    assert shared([words(sound[: 2 * RATE], RATE), words(sound[2 * RATE :], RATE)]) == []


def test_other_recordings_of_the_same_noise_or_tone_share_nothing():
    tone = 0.5 * np.sin(2 * np.pi * 440 * np.arange(3 * RATE) / RATE)
    assert shared([words(noise(seed), RATE) for seed in range(20)]) == []
    assert shared([words(tone + 0.01 * noise(seed), RATE) for seed in range(5)]) == []


def test_many_copies_of_one_clip_are_one_recording(lab):
    clips = lab.everything.clips[:50]
    alone = [lab.everything.groups.index(name) for name in sorted(set(lab.everything.groups))]
    found = twins([words(noise(0), RATE)] * 50, [""] * 50, [True] * 50)
    assert len(set(recordings(clips, found))) == 1
    assert len(alone) == len(set(recordings([lab.everything.clips[i] for i in alone])))


def test_short_copies_are_known_by_their_samples_and_near_silent_ones_are_no_twins():
    short, silent = words(noise(0, 0.3), RATE), words(1e-3 * noise(1), RATE)
    assert not silent.any()
    assert twins([short, short, silent, silent], ["a", "a", "b", "b"], [True, True, False, False]) == [(0, 1)]


def test_finds_versions_of_one_recording_that_esc10_gives_two_groups(shared_data):
    """Freesound's 28314 and 30322: "FireBurning.wav" and "FireBurning_v2.wav" by one person."""
    folder = shared_data("esc10") / "audio"
    names = ["2-28314-A-9", "2-30322-A-9", *sorted(file.stem for file in folder.glob("[12]-*-9.*"))[:10]]
    files = [next(folder.glob(f"{name}.*")) for name in dict.fromkeys(names)]
    assert shared([words(*soundfile.read(file, dtype="float32")) for file in files]) == [(0, 1)]
