"""Data at its limits: more clips than are looked at, one test clip a class, one recording a class, leaks everywhere."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest

from audioclf.diagnose import lab as lab_module
from audioclf.diagnose import noise
from audioclf.diagnose.diagnose import healthy, summary
from audioclf.diagnose.held_out import in_split, score_test
from audioclf.diagnose.lab import Lab
from audioclf.diagnose.probes import multi_label
from audioclf.diagnose.probes.label_map import LabelMap
from audioclf.diagnose.probes.no_signal import NoSignal
from audioclf.diagnose.run import read_run
from audioclf.diagnose.trial import Trial, folds_of, predict
from audioclf.diagnose.verdict import Gap, Verdict, limits_of
from audioclf.training.scores import macro_f1

GAP = Gap(chance=0.1, test=0.7, base=0.7, probe=0.9, reference=0.9)


def test_the_clips_drawn_from_large_data_are_of_every_split_and_class(lab, run_folder, monkeypatch):
    """Whole recordings drawn from all splits at once left test or a class empty."""
    whole = {(name, int(target)) for name, target in zip(lab.everything.split, lab.everything.targets, strict=True)}
    monkeypatch.setattr(lab_module, "MOST_CLIPS", len(lab.everything) // 2)
    thinned = Lab(read_run(run_folder), budget_s=60)
    drawn = thinned.everything
    assert thinned.passes == pytest.approx(2, abs=0.1)
    assert thinned.sizes[0].sum() == len(lab.data.splits.train)
    assert len(drawn) == len(lab.everything) // 2
    assert {(name, int(target)) for name, target in zip(drawn.split, drawn.targets, strict=True)} == whole
    before, after = (Counter(pool.split) for pool in (lab.everything, drawn))
    assert all(abs(after[name] - before[name] / 2) <= lab.everything.num_classes for name in before)


def test_one_test_clip_a_class_is_cut_too(lab):
    test = lab.test
    one = test.take(np.array([int(np.flatnonzero(test.targets == target)[0]) for target in np.unique(test.targets)]))
    assert set(folds_of(one, 3).tolist()) == {0, 1, 2}


def test_there_are_no_more_folds_than_recordings(lab):
    few = replace(lab.test, groups=[str(i % 3) for i in range(len(lab.test))])
    assert set(folds_of(few, 5).tolist()) <= {0, 1, 2}


def test_classes_of_one_recording_do_not_show_that_there_is_nothing_to_learn(lab):
    """Held out, such a class was never heard: a score of 0 says nothing about its labels."""
    pool = lab.pool
    lab.__dict__["pool"] = replace(pool, groups=[pool.classes[target] for target in pool.targets])
    lab.__dict__["whole"] = lab.pool
    numbers = NoSignal().examine(lab)
    assert NoSignal().judge(numbers, GAP, limits_of("no_signal") | {"clips": 1}).status == "undetermined"


def test_where_every_recording_of_train_is_in_test_something_is_left_to_train_on(lab):
    """Both sides of a comparison leave out a part of train at a time; else the one without is of no clip at all."""
    whole = lab.whole
    groups = [f"{target}_{i % 4}" for i, target in enumerate(whole.targets)]
    changed = replace(whole, groups=groups)
    lab.__dict__["whole"], lab.__dict__["test"] = changed, changed.take(in_split(lab, "test"))
    trial = score_test(lab, "before", in_split(lab, "train"), learner="probe")
    assert trial.f1 > 0.5


def test_scoring_leaves_the_module_as_it_was(lab):
    assert not lab.module.training
    predict(lab.module, lab.test.features[:2])
    assert not lab.module.training


def test_a_class_of_one_recording_is_no_wrong_label(lab):
    """Held out, it was never heard and ranks last: that says nothing about its label."""
    pool = lab.pool
    groups = ["one" if target == 3 else group for target, group in zip(pool.targets, pool.groups, strict=True)]
    before = noise.trust(lab)
    lab.trials.clear()
    lab.__dict__["pool"] = replace(pool, groups=groups)
    del lab.__dict__["fold"]
    found = noise.trust(lab)
    assert found["clips"] == before["clips"] - int((pool.targets == 3).sum())
    assert found["low"] < 0.25


def test_a_diverged_run_has_no_second_class(lab, monkeypatch):
    """Equal logits of all classes are no guess: counting either of the two highest as right would make it perfect."""
    pool = lab.pool
    zeros = np.zeros((len(pool), pool.num_classes))
    lab.trials["base"] = Trial("base", pool, lab.fold, zeros)
    monkeypatch.setattr(multi_label, "mixed", lambda trust, limits: True)
    assert multi_label.MultiLabel().examine(lab)["effect"]["gain"] == 0


def test_what_the_cheap_probe_says_of_test_is_written_down(lab):
    """Every number of a verdict is computed again from files."""
    test = lab.test
    groups = [f"{i}" for i in range(len(test))]  # recordings enough to look for a renaming
    lab.__dict__["test"] = replace(test, groups=groups)
    numbers = LabelMap().examine(lab)
    kept = pq.read_table(lab.folder / "trials" / "test_probe.parquet").to_pydict()
    predicted = np.asarray(kept["predicted"])
    assert macro_f1(test.targets, predicted, test.num_classes) == numbers["effects"]["probe"]["before"]


def test_nothing_better_than_guessing_is_not_healthy():
    """A cheap probe that guesses too leaves no gap, but clears nothing."""
    guessing = Gap(chance=0.1, test=0.1, base=0.08, probe=0.11, reference=0.11)
    assert not healthy([], guessing) and healthy([], GAP)
    assert summary([], [], guessing, {}).startswith("Undetermined")


def test_the_two_causes_of_one_disease_are_named():
    verdicts = [
        Verdict(cause, "explains", 0.9, None, ["so"], None)
        for cause in ("bad_clips", "lr_too_high", "no_normalisation")
    ]
    titles = {"bad_clips": "A", "lr_too_high": "B", "no_normalisation": "C"}
    said = summary(verdicts, verdicts, GAP, titles)
    assert "mainly because the steps are too large for the input and A (90% of the gap)" in said
    assert "B (mended alone: 90%) and C (mended alone: 90%); either repair" in said
