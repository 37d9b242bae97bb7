from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.metrics import f1_score

from audioclf.config import MelConfig
from audioclf.diagnose import held_out
from audioclf.diagnose.held_out import in_split, score_test
from audioclf.diagnose.lab import Lab
from audioclf.diagnose.probes import too_few_clips
from audioclf.diagnose.probes.features_weak import TOLERANCE, FeaturesWeak, computed_again, distances, unlike_default
from audioclf.diagnose.probes.imbalance import Imbalance
from audioclf.diagnose.probes.metric import Metric
from audioclf.diagnose.probes.rare_classes import RareClasses
from audioclf.diagnose.probes.shift import Shift, aligned, differences, told_apart
from audioclf.diagnose.probes.too_few_clips import TooFewClips
from audioclf.diagnose.run import read_run
from audioclf.diagnose.trial import paired, predict
from audioclf.diagnose.verdict import Gap, limits_of

GAP = Gap(chance=0.1, test=0.3, base=0.4, probe=0.8, reference=0.8)
GOOD = {"before": 0.3, "after": 0.7, "gain": 0.4, "low": 0.3, "high": 0.5}
NONE = {"before": 0.6, "after": 0.62, "gain": 0.02, "low": -0.05, "high": 0.07}
UNSURE = {"before": 0.3, "after": 0.5, "gain": 0.2, "low": -0.02, "high": 0.4}
FACTS = {
    Shift: {"auc": 0.95, "band_hz": [100.0, 4000.0], "band_db": [-1.0, -40.0], "aligned": NONE, "heard": GOOD},
    Imbalance: {"ratio": 26.0, "clips": {"dog": 26, "rain": 1}},
    RareClasses: {"rare": {"rain": 1}, "largest": 26, "fewest": 1, "lent": 9, "learner": "the run's setting"},
    TooFewClips: {
        "clips": 2.0,
        "recordings": 2.0,
        "classes": 10,
        "clips_in_all": 12.0,
        "learner": "the run's setting",
        "curve": GOOD,
        "lent": NONE,
    },
    FeaturesWeak: {"compared": 12, "wrong": 0, "folder": "features/ab", "default": {"features.n_mels": 64}},
}
SCORE = {
    "macro": 0.6,
    "micro": 0.62,
    "weighted": 0.61,
    "absent": 0,
    "absent_as_zero": 0.6,
    "batch_mean": 0.55,
    "steady": 0.6,
    "tossed": [],
    "interval": [0.5, 0.7],
    "chance_p": 0.001,
    "clips": 80,
}


def judged(kind, nominated, effect, **facts):
    numbers = {"nominated": nominated, **FACTS[kind], "effect": effect, **facts}
    return kind().judge(numbers, GAP, limits_of(kind.cause))


def changed(lab, split=None, features=None, targets=None, take=None):
    """The lab with other clips: what was read from the old ones is forgotten."""
    whole = lab.whole
    whole = replace(
        whole,
        features=whole.features if features is None else features,
        targets=whole.targets if targets is None else targets,
        split=whole.split if split is None else split,
    )
    whole = whole if take is None else whole.take(take)
    names = np.asarray(whole.split)
    lab.trials.clear()
    lab.__dict__ |= {"everything": whole, "whole": whole, "test": whole.take(names == "test")}
    lab.__dict__ |= {"pool": whole.take(names != "test"), "recordings": whole.groups}
    lab.__dict__["passes"] = 1.0  # nothing was thinned
    for key in ("fold", "best_probe", "gap", "sizes"):
        lab.__dict__.pop(key, None)
    return lab


# -- judging -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", FACTS)
def test_a_repair_that_returns_much_convicts_and_says_what_to_do(kind):
    verdict = judged(kind, True, GOOD)
    assert verdict.status == "explains" and verdict.share == pytest.approx(0.8)
    assert verdict.next and "0.30" in " ".join(verdict.evidence) and "0.70" in " ".join(verdict.evidence)


@pytest.mark.parametrize("kind", FACTS)
def test_a_repair_that_returns_nothing_clears(kind):
    verdict = judged(kind, True, NONE)
    assert verdict.status == "cleared" and verdict.next is None


@pytest.mark.parametrize("kind", FACTS)
def test_a_gain_that_may_be_chance_convicts_nobody(kind):
    assert judged(kind, True, UNSURE).status == "undetermined"


@pytest.mark.parametrize("kind", [kind for kind in FACTS if kind is not FeaturesWeak])
def test_without_the_symptom_nothing_is_convicted(kind):
    verdict = judged(kind, False, None)
    assert verdict.status == "cleared" and verdict.evidence and verdict.share is None


def test_rare_classes_without_clips_to_lend_cannot_be_judged():
    assert judged(RareClasses, True, GOOD, rare={"rain": 4}, lent=2).status == "undetermined"


def test_a_broken_feature_store_is_named_with_its_folder():
    verdict = judged(FeaturesWeak, True, GOOD, wrong=12)
    assert "12 of 12" in verdict.evidence[0] and "features/ab" in verdict.next


def test_weak_features_come_with_the_settings_that_see_more():
    assert judged(FeaturesWeak, True, GOOD).next == ["features.n_mels=64"]


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({}, "cleared"),
        ({"absent": 2, "absent_as_zero": 0.48}, "cleared"),
        ({"nominated": True, "tossed": ["rain"], "steady": 0.65}, "cleared"),
        ({"nominated": True, "tossed": ["rain"], "steady": 0.85, "micro": 0.85}, "explains"),
        ({"nominated": True, "tossed": ["rain"], "steady": 0.85, "micro": 0.7}, "cleared"),
        ({"interval": [0.3, 0.8]}, "undetermined"),
    ],
)
def test_the_metric_misleads_only_where_few_test_clips_decide(changes, status):
    verdict = Metric().judge({"nominated": False, **SCORE, **changes}, GAP, limits_of("metric"))
    assert verdict.status == status


def test_the_metric_says_what_absent_classes_and_chance_would_make_of_it():
    numbers = {"nominated": False, **SCORE, "absent": 2, "absent_as_zero": 0.48, "chance_p": 0.4}
    said = " ".join(Metric().judge(numbers, GAP, limits_of("metric")).evidence)
    assert "2 classes have no test clips" in said and "0.48" in said and "p = 0.40" in said


# -- measuring ---------------------------------------------------------------------------------------------------------


def test_a_healthy_run_is_convicted_of_nothing_and_hardly_anything_is_trained(lab):
    for probe in (Shift(), Imbalance(), RareClasses(), Metric(), FeaturesWeak()):
        numbers = probe.examine(lab)
        assert not probe.judge(numbers, lab.gap, limits_of(probe.cause)).convicted
    assert not [name for name in lab.trials if name.startswith("test_")]


def test_test_is_told_by_its_sound_but_not_by_its_class_shares():
    rng = np.random.default_rng(0)
    targets = np.repeat([0, 1], 100)
    is_test = rng.random(200) < np.where(targets == 0, 0.8, 0.2)
    sound = rng.standard_normal((200, 5)) + 3 * targets[:, None] * (np.arange(5) < 3)
    groups = [str(i // 2) for i in range(200)]
    assert told_apart(sound, is_test, targets, groups)[0] < 0.65
    assert told_apart(sound + 4 * is_test[:, None] * (np.arange(5) == 4), is_test, targets, groups)[0] > 0.95
    assert told_apart(sound, np.arange(200) == 0, targets, groups)[0] == 0.5  # one recording tells nothing


def test_aligned_bands_have_the_others_level_and_spread():
    ours, theirs = 3 * torch.randn(20, 4, 9) - 20, torch.randn(30, 4, 9) * torch.arange(1, 5)[:, None] + 5
    moved = aligned(ours, theirs)
    assert torch.allclose(moved.mean((0, 2)), theirs.mean((0, 2)), atol=1e-4)
    assert torch.allclose(moved.std((0, 2)), theirs.std((0, 2)), atol=1e-4)


def test_what_test_lacks_is_said_in_hertz_and_decibel():
    muffled = differences([100.0, 1000.0, 3000.0, 9000.0], [-20.0, -21.0, -60.0, -64.0])
    assert muffled == [
        "in test the bands from 3000 to 9000 Hz are 62 dB weaker",
        "test is 20 dB quieter than the other clips",
    ]


def test_quieter_test_is_a_shift_and_permuted_labels_are_none(lab):
    is_test = in_split(lab, "test")
    renamed = np.where(is_test, (lab.whole.targets + 1) % 4, lab.whole.targets)
    healthy = Shift().examine(changed(lab, targets=renamed))
    assert not healthy["nominated"]
    quiet = torch.where(torch.as_tensor(is_test)[:, None, None], lab.whole.features - 25, lab.whole.features)
    numbers = Shift().examine(changed(lab, features=quiet, targets=(renamed - is_test) % 4))
    assert numbers["nominated"] and numbers["effect"]["gain"] == max(
        numbers[way]["gain"] for way in ("aligned", "heard")
    )
    assert numbers["band_db"] == pytest.approx([level - 25 for level in healthy["band_db"]], abs=0.02)
    run = predict(lab.module, lab.test.features).argmax(1)
    mended = predict(lab.module, aligned(lab.test.features, lab.pool.features)).argmax(1)
    again = paired(lab.test.targets, run, mended, lab.test.groups, 4)
    assert numbers["aligned"]["gain"] == pytest.approx(again["gain"])


def test_no_model_has_heard_the_test_recordings_that_it_scores(lab, monkeypatch):
    seen = []

    def spy(config, pool, inside, *rest):
        seen.append({pool.groups[i] for i in inside})
        return lab.module

    monkeypatch.setattr(held_out, "train_once", spy)
    trial = score_test(lab, "spied", np.ones(len(lab.whole), dtype=bool), folds=2, repeats=2)
    assert len(seen) == 4 and len(trial.pool) == 2 * len(lab.test)
    for inside, number in zip(seen, (0, 1, 0, 1), strict=True):
        scored = {g for g, f in zip(trial.pool.groups, trial.fold, strict=True) if f == number}
        assert not inside & scored and inside & set(lab.test.groups)
    assert (lab.folder / "trials" / "spied.parquet").exists()


def test_only_training_clips_are_learnt_from_unless_more_are_lent(lab, monkeypatch):
    used = []
    monkeypatch.setattr(held_out, "train_once", lambda config, pool, inside, *rest: used.append(inside) or lab.module)
    score_test(lab, "train_only", in_split(lab, "train"))
    assert {lab.whole.split[i] for i in used[0]} == {"train"} and len(used[0]) == in_split(lab, "train").sum()


def test_rare_classes_are_found_by_clips_and_recordings_and_lent_theirs(lab):
    targets, train = lab.whole.targets, in_split(lab, "train")
    rare = [np.flatnonzero(train & (targets == k))[1:] for k in (0, 1)]
    thin = changed(lab, take=np.setdiff1d(np.arange(len(targets)), np.concatenate(rare)))
    clips, recordings = thin.sizes
    assert clips.tolist()[:2] == [1, 1] and recordings.tolist()[:2] == [1, 1] and min(clips[2:]) >= 4
    drowned, few = Imbalance().examine(thin), RareClasses().examine(thin)
    assert drowned["ratio"] == clips.max() and drowned["effect"]["trials"][1] == "test_from_train_balanced"
    assert list(few["rare"].values()) == [1, 1]
    assert few["lent"] == (in_split(thin, "val", "test") & (thin.whole.targets < 2)).sum()
    assert few["effect"]["gain"] > 0.1  # one clip against many, to a support vector machine or to the network


def test_imbalance_is_mended_by_the_sampler_that_was_tried():
    effect = {"before": 0.4, "after": 0.6, "gain": 0.2, "low": 0.1, "high": 0.3, "trials": ["a", "b"]}
    numbers = {"nominated": True, "ratio": 26.0, "clips": {"dog": 26, "rain": 1}, "effect": effect}
    verdict = Imbalance().judge(numbers, Gap(0.1, 0.4, 0.4, 0.6, 0.6), limits_of("class_imbalance"))
    assert verdict.convicted and verdict.next == ["sampler=balanced"]
    drawn = Imbalance().judge(
        numbers | {"nominated": False, "sampler": "balanced"},
        Gap(0.1, 0.4, 0.4, 0.6, 0.6),
        limits_of("class_imbalance"),
    )
    assert drawn.status == "cleared" and "sampler=balanced" in drawn.evidence[1]


def test_few_clips_of_every_class_are_mended_by_more(lab):
    targets, train = lab.whole.targets, in_split(lab, "train")
    gone = np.concatenate([np.flatnonzero(train & (targets == k))[2:] for k in range(4)])
    numbers = TooFewClips().examine(changed(lab, take=np.setdiff1d(np.arange(len(targets)), gone)))
    assert numbers["nominated"] and numbers["clips"] == 2
    assert numbers["effect"]["low"] == max(numbers[way]["low"] for way in ("lent", "curve"))
    curve = [lab.trials[name] for name in numbers["curve"]["trials"]]
    assert [len(trial.pool) for trial in curve] == [3 * len(lab.whole)] * 2
    assert numbers["curve"]["gain"] == pytest.approx(curve[1].f1 - curve[0].f1)


def test_few_clips_of_half_the_classes_are_no_lack_of_clips(lab, monkeypatch):
    monkeypatch.setattr(too_few_clips, "RECORDINGS", 2)
    targets, train = lab.whole.targets, in_split(lab, "train")
    gone = np.concatenate([np.flatnonzero(train & (targets == k))[2:] for k in (0, 1)])
    assert not TooFewClips().examine(changed(lab, take=np.setdiff1d(np.arange(len(targets)), gone)))["nominated"]


def test_the_usual_averages_are_scikit_learns(lab):
    numbers = Metric().examine(lab)
    targets, predicted = lab.test.targets, lab.predicted(lab.test)
    assert numbers["macro"] == pytest.approx(f1_score(targets, predicted, average="macro", zero_division=0))
    assert numbers["weighted"] == pytest.approx(f1_score(targets, predicted, average="weighted", zero_division=0))
    first = f1_score(targets[:8], predicted[:8], average="macro", zero_division=0)
    assert numbers["batch_mean"] != pytest.approx(numbers["macro"]) and 0 <= first <= 1
    assert not numbers["tossed"] and numbers["absent"] == 0


def test_scrambled_features_are_found_by_computing_some_again(lab):
    store, rng = lab.data.feature_store, np.random.default_rng(0)
    kept = {sha: store.read(sha) for sha in lab.sha256s}
    try:
        for sha, features in kept.items():
            store.write(sha, rng.permutation(features.ravel()).reshape(store.shape))
        broken = Lab(read_run(lab.run.folder.path), budget_s=60)
        numbers = FeaturesWeak().examine(broken)
    finally:
        for sha, features in kept.items():
            store.write(sha, features)
    assert numbers["wrong"] == numbers["compared"] == 12
    verdict = FeaturesWeak().judge(numbers, broken.gap, limits_of("features_weak"))
    assert verdict.convicted and str(store.folder) in verdict.next


def test_half_precision_is_no_broken_store(lab):
    few = lab.whole.take(np.arange(3))
    fresh = computed_again(lab, few)
    assert torch.allclose(fresh, few.features, atol=1e-3)
    assert (distances(few.features.half().float(), fresh) < TOLERANCE).all()
    assert (distances(few.features.roll(1, 0), fresh) > TOLERANCE).all()


def test_the_settings_that_were_read_from_are_those_that_are_proposed():
    default = MelConfig.model_validate({"name": "mel"})
    assert unlike_default(default.model_copy(update={"normalisation": "none", "storage": "float16"})) == {}
    coarse = default.model_copy(update={"n_mels": 1, "sample_rate": 2000, "target_length": 8})
    assert unlike_default(coarse) == {
        "features.n_mels": 64,
        "features.sample_rate": 22_050,
        "features.target_length": 216,
    }
