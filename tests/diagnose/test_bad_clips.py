import json

import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile
from sklearn.metrics import f1_score

from audioclf.compose import load_config
from audioclf.diagnose.lab import Lab
from audioclf.diagnose.levels import faults, hear, level
from audioclf.diagnose.probes.bad_clips import BadClips, without
from audioclf.diagnose.run import read_run
from audioclf.diagnose.verdict import Gap, limits_of
from audioclf.training.fit import fit

RATE = 44_100
GAP = Gap(chance=0.1, test=0.3, base=0.3, probe=0.5, reference=0.6)
LIMITS = limits_of("bad_clips")
HURT = {
    "nominated": True,
    "faults": {"silent": 150},
    "bad": {"train": 100, "val": 25, "test": 25},
    "clips": {"train": 200, "val": 50, "test": 50},
    "where": "setting",
    "effect": {"before": 0.3, "after": 0.6, "gain": 0.3, "low": 0.2, "high": 0.4, "unscored": 0.5},
}


def noise(level_db, seconds=1.0):
    return 10 ** (level_db / 20) * np.random.default_rng(0).standard_normal(round(seconds * RATE))


def test_level_is_in_decibels_of_full_scale_and_passes_over_an_offset():
    square = np.where(np.arange(RATE) % 100 < 50, 1.0, -1.0)
    assert level(square, RATE).rms_db == pytest.approx(0)
    assert level(0.3 + noise(-80), RATE).loudest_db == pytest.approx(-80, abs=0.5)
    assert level(noise(-20), RATE).autocorrelation < 0.1


def test_a_short_event_in_silence_is_loud_and_clipping_is_seen():
    bark = np.zeros(5 * RATE)
    bark[:4410] = noise(-20, 0.1)
    found = level(bark, RATE)
    assert found.audible and found.silent == pytest.approx(0.98)
    sine = np.sin(2 * np.pi * 440 * np.arange(RATE) / RATE)
    assert level(sine, RATE).clipped < 0.1
    assert level(np.clip(10 * sine, -0.5, 0.5), RATE).clipped > 0.9


def test_audio_is_read_once_and_then_remembered(lab, monkeypatch):
    first = hear(lab)
    monkeypatch.setattr(lab, "samples", None)
    for one, two in zip(first, hear(lab), strict=True):
        assert one.level == two.level and np.array_equal(one.words, two.words)


def test_one_sound_under_two_classes_is_a_fault_of_both(lab):
    pool = lab.everything
    here, there = 0, int(np.flatnonzero(pool.targets != pool.targets[0])[0])
    sha256s = [*lab.sha256s]
    sha256s[there] = sha256s[here]
    found = faults(pool, lab.heard, sha256s)
    assert [i for i, fault in enumerate(found) if fault] == [here, there]


def test_what_is_left_out_counts_before_and_not_after():
    targets, before = np.array([0, 0, 1, 1, 2, 2]), np.array([0, 1, 1, 1, 0, 0])
    after, good = np.array([0, 1, 1, 1, 2, 0]), np.array([1, 1, 1, 1, 1, 0], dtype=bool)
    found = without(targets, before, after, list("abcdef"), 3, good)
    assert found["before"] == pytest.approx(f1_score(targets, before, average="macro", zero_division=0))
    assert found["after"] == pytest.approx(f1_score(targets[good], after[good], average="macro", zero_division=0))
    assert found["low"] <= found["gain"] <= found["high"]


@pytest.fixture
def half_silent(tiny_overrides, tmp_path):
    """The lab of a run on three tones, of which every second file is noise at -80 dB."""
    rng, time, lines = np.random.default_rng(0), np.arange(4_000) / 8_000, ["path,label"]
    for pitch in (300, 700, 1500):
        for number in range(24):
            tone = 0.1 * np.sin(2 * np.pi * pitch * time) + 0.02 * rng.standard_normal(len(time))
            silence = 1e-4 * rng.standard_normal(len(time))
            name = f"{pitch}_{number}.wav"
            soundfile.write(tmp_path / name, silence if number % 2 else tone, 8_000, subtype="PCM_16")
            lines.append(f"{name},{pitch} Hz")
    table = tmp_path / "clips.csv"
    table.write_text("\n".join(lines) + "\n")
    overrides = [f"data.csv={table}" if word.startswith("data.csv=") else word for word in tiny_overrides]
    fit(load_config([*overrides, f"paths.cache={tmp_path / 'cache'}", "lr=3e-3", "epochs=25"]), tmp_path / "run")
    return Lab(read_run(tmp_path / "run"), budget_s=60)


def test_half_of_the_clips_silent_is_named(half_silent):
    numbers = BadClips().examine(half_silent)
    half_silent.write()
    clips = pq.read_table(half_silent.folder / "clips.parquet").to_pandas()
    silent = clips["fault"] == "silent"
    odd = [int(source.split("_")[1].split("-")[0]) % 2 == 1 for source in clips["clip"]]
    assert silent.tolist() == odd
    assert clips["loudest_db"][silent].max() < -75
    verdict = BadClips().judge(json.loads(json.dumps(numbers)), half_silent.gap, LIMITS)
    assert verdict.convicted, verdict
    assert "36 silent" in verdict.evidence[1]


def test_healthy_clips_are_cleared_without_a_training(lab):
    numbers = BadClips().examine(lab)
    assert not numbers["nominated"] and not lab.trials
    assert BadClips().judge(numbers, GAP, LIMITS).status == "cleared"


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({}, "explains"),
        ({"gain": 0.1, "low": 0.02}, "contributes"),
        ({"gain": 0.1, "low": -0.02}, "undetermined"),
        ({"gain": 0.03, "low": 0.01, "high": 0.05}, "cleared"),
        ({"gain": 0.03, "low": -0.1, "high": 0.2}, "undetermined"),
        ({"before": 0.1, "after": 0.1, "gain": 0.0, "low": 0.0, "high": 0.0}, "undetermined"),  # nothing is learnt
    ],
)
def test_judges_by_the_effect(change, status):
    verdict = BadClips().judge(HURT | {"effect": HURT["effect"] | change}, GAP, LIMITS)
    assert verdict.status == status
    assert (verdict.next is not None) == verdict.convicted
