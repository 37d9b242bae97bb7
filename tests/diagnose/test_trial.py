import numpy as np
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import f1_score

from audioclf.config import parse_config
from audioclf.diagnose.lab import OutOfTime
from audioclf.diagnose.trial import Recipe, effect, folds_of, train_trial


def test_every_clip_is_scored_by_a_model_that_never_saw_its_recording(lab):
    pool, fold = lab.pool, lab.fold
    assert set(pool.split) == {"train", "val"}
    for number in set(fold.tolist()):
        held_out = {g for g, f in zip(pool.groups, fold, strict=True) if f == number}
        trained_on = {g for g, f in zip(pool.groups, fold, strict=True) if f != number}
        assert not held_out & trained_on


def test_trial_is_the_same_each_time_and_its_file_gives_its_f1(lab):
    first = lab.base
    lab.trials.clear()
    assert np.array_equal(first.logits, lab.base.logits)
    table = pq.read_table(lab.folder / "trials" / "base.parquet").to_pandas()
    assert first.f1 == pytest.approx(f1_score(table.target, table.predicted, average="macro", zero_division=0))


def test_effect_of_nothing_is_nothing_and_of_no_learning_is_a_loss(lab):
    assert effect(lab.base, lab.base)["gain"] == 0
    worse = effect(lab.base, lab.trial(Recipe("still", {"lr": 1e-9})))
    assert worse["gain"] < 0 and worse["low"] <= worse["gain"] <= worse["high"]


def test_training_only_on_some_clips_never_sees_the_others(lab):
    recipe = Recipe("one_class", {"lr": 1e-2}, select="last", train_on=lab.pool.targets == 2)
    assert set(lab.trial(recipe).predicted.tolist()) == {2}


def test_cheap_probes_read_the_demo(lab):
    assert lab.cheap("pooled").f1 > 0.5
    assert lab.cheap("audio").f1 > 0.5


def test_a_trial_that_would_take_too_long_is_not_begun(lab):
    lab.budget_s = 0.0
    with pytest.raises(OutOfTime, match="left"):
        lab.trial(Recipe("long", {"epochs": 50}))


def test_a_trial_augments_and_steps_as_the_run_does(lab):
    model = {"name": "cnn", "width": 4, "blocks": 2}
    augment = {"time_shift": 0.5, "noise": 0.2, "time_mask": 6, "mixup": 0.4}
    config = parse_config(lab.config.model_dump() | {"model": model, "augment": augment, "epochs": 3, "lr": 1e-2})
    changes = {"optimizer.schedule": "one_cycle", "trainer.accumulate": 2, "trainer.gradient_clip": 1.0}
    fold = folds_of(lab.pool, 2)
    first, again, plain = (
        train_trial(Recipe("one", overrides), config, lab.pool, fold)
        for overrides in (changes, changes, changes | {"augment.noise": 0.0})
    )
    assert np.array_equal(first.logits, again.logits) and not np.array_equal(first.logits, plain.logits)
