import json

import numpy as np
import pytest
import soundfile

from audioclf.compose import load_config
from audioclf.diagnose.lab import Lab
from audioclf.diagnose.probes.leakage import Leakage, _as_many
from audioclf.diagnose.run import read_run
from audioclf.diagnose.verdict import Gap, limits_of
from audioclf.training.fit import fit

GAP = Gap(chance=0.1, test=0.8, base=0.5, probe=0.5, reference=0.5)
LIMITS = limits_of("leakage")
CLEAN = {
    "nominated": False,
    "marked": False,
    "reported": 0.8,
    "test_clips": 100,
    "with_twin": 0,
    "val_with_twin": 0,
    "examples": [],
}
NOTHING = {"before": 0.5, "after": 0.5, "gain": 0.0, "low": -0.05, "high": 0.05}
MUCH = {"before": 0.3, "after": 0.8, "gain": 0.5, "low": 0.4, "high": 0.6}
LEAKY = CLEAN | {
    "nominated": True,
    "with_twin": 60,
    "examples": [["a", "b"]],
    "inflation": MUCH,
    "probe_inflation": MUCH,
    "honest": 0.3,
}


def judged(**changes):
    return Leakage().judge(LEAKY | changes, GAP, LIMITS)


@pytest.fixture(scope="module")
def leaky_lab(tmp_path_factory, tiny_overrides):
    """A run whose classes nobody can learn, on overlapping windows of one recording in train and test.

    Each recording is a chord of its own, and its class is drawn: what test gets right it knows from train.
    """
    folder = tmp_path_factory.mktemp("leaky")
    rng = np.random.default_rng(0)
    lines = ["path,label,split,group"]
    for number in range(24):
        time = np.arange(3 * 8_000) / 8_000
        pitches = rng.uniform(200, 2_000, 3)
        sound = sum(np.sin(2 * np.pi * pitch * time) for pitch in pitches) * 0.05
        sound += 0.05 * rng.standard_normal(len(time))
        for start, split in ((0, "train"), (1, "val" if number % 4 == 0 else "test")):
            name = f"{number}_{start}.wav"
            soundfile.write(folder / name, sound[start * 8_000 : (start + 2) * 8_000], 8_000, subtype="PCM_16")
            lines.append(f"{name},class{number % 2},{split},{name}")
    table = folder / "clips.csv"
    table.write_text("\n".join(lines) + "\n")
    overrides = [f"data.csv={table}" if word.startswith("data.csv=") else word for word in tiny_overrides]
    run = folder / "run"
    fit(load_config([*overrides, f"paths.cache={folder / 'cache'}", "epochs=20", "features.target_length=60"]), run)
    return Lab(read_run(run), budget_s=60)


def test_windows_in_files_and_groups_of_their_own_are_one_recording(leaky_lab):
    assert len(set(leaky_lab.everything.groups)) == 48
    assert len(set(leaky_lab.recordings)) == 24
    assert len(leaky_lab.twins) == 24


def test_f1_that_rests_on_twins_is_called_too_high(leaky_lab):
    numbers = Leakage().examine(leaky_lab)
    assert numbers["with_twin"] == numbers["test_clips"] == 18
    assert numbers["reported"] > 0.8
    assert numbers["honest"] < 0.75
    assert "effect" not in numbers
    verdict = Leakage().judge(json.loads(json.dumps(numbers)), leaky_lab.gap, LIMITS)
    assert verdict.convicted, verdict
    assert "too high" in verdict.evidence[0]
    assert (leaky_lab.folder / "trials" / "network_without_twins.parquet").exists()


def test_clean_data_are_cleared_without_a_training(lab):
    numbers = Leakage().examine(lab)
    assert numbers["with_twin"] == 0 and not lab.trials
    assert Leakage().judge(numbers, GAP, LIMITS).status == "cleared"


def test_control_loses_as_many_clips_of_each_class_and_not_the_twins_where_it_can():
    targets = np.array([0, 0, 0, 0, 1, 1, 1])
    twin = np.array([1, 1, 0, 0, 1, 1, 0], dtype=bool)
    chosen = _as_many(targets, np.array(list("aabbccd")), twin)
    assert np.array_equal(np.bincount(targets[chosen]), [2, 2])
    assert chosen[[2, 3, 6]].all()


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({}, "explains"),
        ({"inflation": MUCH | {"gain": 0.2, "low": 0.1}}, "contributes"),
        ({"inflation": NOTHING}, "contributes"),  # this network does not use what leaks; the probe does
        ({"inflation": NOTHING, "probe_inflation": NOTHING}, "contributes"),  # that much of test is known
        ({"inflation": NOTHING, "probe_inflation": NOTHING, "with_twin": 15}, "undetermined"),
        ({"inflation": NOTHING, "probe_inflation": NOTHING, "with_twin": 4}, "cleared"),
        ({"inflation": MUCH | {"low": -0.1}, "probe_inflation": NOTHING, "with_twin": 15}, "undetermined"),
    ],
)
def test_judges_by_what_the_twins_add(changes, status):
    verdict = judged(**changes)
    assert verdict.status == status
    assert (verdict.next is not None) == verdict.convicted


def test_nothing_shared_is_cleared_and_val_is_told():
    assert Leakage().judge(CLEAN, GAP, LIMITS).status == "cleared"
    verdict = Leakage().judge(CLEAN | {"val_with_twin": 9}, GAP, LIMITS)
    assert verdict.status == "cleared" and "9 clips of val" in verdict.evidence[1]
