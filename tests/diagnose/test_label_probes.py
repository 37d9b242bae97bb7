"""Causes that lie in the labels: each is planted in the labels of a small run, or told from its numbers."""

from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from audioclf.diagnose import noise
from audioclf.diagnose.pool import Pool
from audioclf.diagnose.probes.label_map import LabelMap, cross_fitted, renaming
from audioclf.diagnose.probes.label_noise import LabelNoise
from audioclf.diagnose.probes.multi_label import MultiLabel
from audioclf.diagnose.probes.no_signal import NoSignal, permuted
from audioclf.diagnose.verdict import Gap, limits_of

ALL = (NoSignal, LabelMap, LabelNoise, MultiLabel)
GAP = Gap(chance=0.1, test=0.3, base=0.3, probe=0.4, reference=0.7)

TRUST = {
    "probe": "pooled",
    "clips": 320,
    "recordings": 243,
    "classes": 10,
    "f1": 0.79,
    "first": 0.79,
    "second": 0.11,
    "low": 0.012,
    "rate": 0.02,
    "rate_low": 0.0,
    "rate_high": 0.04,
    "pairs": 118,
    "differ": 0.0,
    "pair_rate": 0.0,
    "rate_used": 0.0,
    "nominated": False,
}
EFFECT = {"before": 0.3, "after": 0.6, "gain": 0.3, "low": 0.2, "high": 0.4, "trials": ["base", "relabelled"]}
FLIPPED = TRUST | {
    "f1": 0.41,
    "first": 0.42,
    "low": 0.24,
    "rate": 0.43,
    "rate_low": 0.35,
    "rate_high": 0.5,
    "differ": 0.6,
    "pair_rate": 0.39,
    "rate_used": 0.39,
    "nominated": True,
    "found": 0.25,
    "effect": EFFECT | {"on_given": 0.36},
    "suspects": [{"clip": "a1", "label": "dog", "suggested": "rain"}],
}


def judged(kind, numbers, gap=GAP):
    return kind().judge(numbers, gap, limits_of(kind.cause))


def planted(lab, labels, **others):
    """The lab with other labels, before anything was measured with the given ones."""
    lab.__dict__["everything"] = replace(lab.everything, targets=labels, **others)
    return lab


def clear_features(lab):
    """Features that tell the classes apart better than so few clips of the demo do, ``[N, 16, 40]``."""
    generator = torch.Generator().manual_seed(0)
    whole = lab.everything
    templates = torch.randn(whole.num_classes, *whole.shape[:-1], 1, generator=generator)
    return templates[whole.targets] + torch.randn(whole.features.shape, generator=generator)


def flipped(labels, share, classes, where=None):
    rng = np.random.default_rng(0)
    places = np.arange(len(labels)) if where is None else np.flatnonzero(where)
    chosen = rng.permutation(places)[: round(share * len(places))]
    wrong = labels.copy()
    wrong[chosen] = (wrong[chosen] + rng.integers(1, classes, len(chosen))) % classes
    return wrong


# -- on a run ---------------------------------------------------------------------------------------------------------


def test_healthy_run_is_convicted_of_nothing(lab):
    for kind in ALL:
        assert not judged(kind, kind().examine(lab), lab.gap).convicted


def test_shuffled_labels_have_nothing_to_do_with_the_sounds(lab):
    labels = np.random.default_rng(0).permutation(lab.everything.targets)
    numbers = NoSignal().examine(planted(lab, labels))
    assert set(numbers["tests"]) == {"pooled", "audio"}  # features that carry nothing are another cause
    verdict = judged(NoSignal, numbers | {"clips": 400})
    assert verdict.status == "explains" and verdict.share == 1.0
    assert judged(NoSignal, numbers | {"clips": 20}).status == "undetermined"


def test_flipped_labels_are_named_and_noted(lab):
    true = lab.everything.targets
    wrong = flipped(true, 0.35, 4)
    numbers = LabelNoise().examine(planted(lab, wrong, features=clear_features(lab)))
    assert judged(LabelNoise, numbers, lab.gap).convicted
    assert 0.1 < numbers["rate_used"] < 0.5
    lab.write()
    table = pq.read_table(lab.folder / "clips.parquet").to_pandas()
    suspect = table.label_suspect.to_numpy()
    assert suspect[wrong != true].mean() > suspect[wrong == true].mean() + 0.15
    assert numbers["suspects"][0]["clip"] in set(table["clip"])


def test_renamed_test_classes_are_named(lab):
    whole = lab.everything
    names = sorted(set(whole.groups))
    is_test = np.isin(whole.groups, names[::2])
    labels = np.where(is_test, (whole.targets + 1) % 4, whole.targets)
    split = ["test" if there else "train" for there in is_test]
    numbers = LabelMap().examine(planted(lab, labels, split=split, features=clear_features(lab)))
    verdict = judged(LabelMap, numbers)
    assert verdict.convicted
    assert ["alarm_beep", whole.classes[1]] in numbers["renamed"]
    assert judged(LabelMap, numbers | {"recordings": 12}, GAP).evidence == verdict.evidence


# -- numbers ----------------------------------------------------------------------------------------------------------


def test_rank_counts_the_classes_that_score_higher():
    scores = np.array([[0.1, 0.7, 0.2], [0.1, 0.7, 0.2]])
    assert noise.ranks(scores, np.array([1, 0])).tolist() == [0, 2]


@pytest.mark.parametrize("classes", [4, 5, 10])
def test_share_of_low_ranks_gives_the_rate_of_flips(classes):
    rng = np.random.default_rng(0)
    true = rng.integers(classes, size=40_000)
    labels = flipped(true, 0.3, classes)
    scores = np.eye(classes)[true] + 0.1 * rng.random((len(true), classes))
    low = (noise.ranks(scores, labels) >= classes / 2).mean()
    assert low / noise.low_ranks(classes) == pytest.approx(0.3, abs=0.01)


@pytest.mark.parametrize("rate", [0.0, 0.2, 0.4])
def test_pairs_of_a_recording_give_the_rate_of_flips(rate):
    true = np.repeat(np.arange(10), 4000)
    groups = [str(i // 2) for i in range(len(true))]
    pairs, differ = noise.disagreement(flipped(true, rate, 10), groups)
    assert pairs == len(true) // 2
    assert noise.rate_of_pairs(differ, 10) == pytest.approx(rate, abs=0.01)


def test_score_on_true_labels_from_the_score_on_flipped_ones():
    rng = np.random.default_rng(0)
    true = rng.integers(5, size=40_000)
    predicted = flipped(true, 0.25, 5)
    given = np.where(rng.random(len(true)) < 0.4, (true + rng.integers(1, 5, len(true))) % 5, true)
    assert noise.clean_score((predicted == given).mean(), 0.4, 5) == pytest.approx(0.75, abs=0.02)
    assert noise.clean_score(0.6, 0.0, 5) == 0.6


def test_permuted_labels_stay_together_in_their_recordings(lab):
    pool = lab.whole
    labels = permuted(pool, np.random.default_rng(0))
    assert sorted(labels) == sorted(pool.targets) and not np.array_equal(labels, pool.targets)
    pairs, differ = noise.disagreement(labels, pool.groups)
    assert pairs and differ == 0  # all recordings of the demo have equally many clips


def test_renaming_is_found_on_other_recordings_only():
    rng = np.random.default_rng(0)
    targets = np.repeat(np.arange(5), 12)
    groups = [str(i) for i in range(60)]
    pool = Pool([], [], None, targets, groups, list("abcde"))
    swapped = np.array([1, 0, 2, 3, 4])[targets]
    assert (cross_fitted(pool, swapped, [swapped]) == targets).all()
    assert renaming(targets, swapped, 5).tolist() == [1, 0, 2, 3, 4]
    guesses = rng.integers(5, size=60)  # what predicts nothing gains nothing on recordings that the map never saw
    assert (cross_fitted(pool, guesses, [guesses]) == targets).mean() < 0.35


# -- verdicts from numbers alone --------------------------------------------------------------------------------------


def test_label_noise_is_judged_from_numbers():
    assert judged(LabelNoise, TRUST).status == "cleared"
    verdict = judged(LabelNoise, FLIPPED)
    assert verdict.status == "explains" and "a1" in verdict.next
    assert judged(LabelNoise, FLIPPED | {"clips": 20}).status == "undetermined"
    assert judged(LabelNoise, FLIPPED | {"found": 0.02}).status == "undetermined"  # the probe sees nothing
    little = EFFECT | {"after": 0.32, "gain": 0.02, "on_given": 0.3}
    assert judged(LabelNoise, FLIPPED | {"effect": little}).status == "undetermined"  # not cleared: they are suspect
    # hard recordings: ranks are low, but clips of one recording never disagree
    assert judged(LabelNoise, FLIPPED | {"differ": 0.0, "pair_rate": 0.0, "rate_used": 0.0}).status == "cleared"
    # mixtures: the label is heard, in second place
    assert judged(LabelNoise, FLIPPED | {"second": 0.28, "low": 0.09}).status == "undetermined"


def test_multi_label_is_judged_from_numbers():
    healthy = {"clips": 320, "several": 0, "trust": TRUST}
    assert judged(MultiLabel, healthy).status == "cleared"
    mixture = TRUST | {"first": 0.4, "second": 0.26, "low": 0.09, "differ": 0.5}
    verdict = judged(MultiLabel, healthy | {"trust": mixture, "effect": EFFECT})
    assert verdict.status == "undetermined"  # heard, and nothing was mended
    assert judged(MultiLabel, healthy | {"trust": mixture | {"differ": 0.0}}).status == "cleared"
    assert judged(MultiLabel, healthy | {"trust": FLIPPED}).status == "cleared"
    several = {"clips": 320, "several": 300, "effect": EFFECT}
    verdict = judged(MultiLabel, several)
    assert verdict.status == "explains" and "data.multi_label=keep loss=bce" in verdict.next
    nothing = EFFECT | {"after": 0.31, "gain": 0.01, "low": 0.0, "high": 0.02}
    assert judged(MultiLabel, several | {"several": 2, "effect": nothing}).status == "cleared"


def test_label_map_is_judged_from_numbers():
    same = EFFECT | {"before": 0.65, "after": 0.65, "gain": 0.0, "low": 0.0, "high": 0.0}
    numbers = {"recordings": 60, "development": {"run": 0.68, "probe": 0.8}, "effects": {"run": same, "probe": same}}
    assert judged(LabelMap, numbers | {"renamed": []}).status == "cleared"
    mended = EFFECT | {"before": 0.05, "after": 0.6, "gain": 0.55, "low": 0.4}
    renamed = numbers | {"effects": {"run": mended, "probe": same}, "renamed": [["dog", "rooster"]]}
    verdict = judged(LabelMap, renamed)
    assert verdict.convicted and "dog -> rooster" in verdict.next
    shifted = EFFECT | {"before": 0.1, "after": 0.3, "gain": 0.2, "low": 0.1}  # renaming mends a shift a little
    assert judged(LabelMap, renamed | {"effects": {"run": shifted}}).status == "cleared"
    assert judged(LabelMap, {"recordings": 4}).status == "undetermined"


def test_no_signal_is_judged_from_numbers():
    none = {"f1": 0.1, "permuted": 0.09, "highest": 0.13, "deviations": 0.5, "p": 0.3, "permutations": 40}
    clear = none | {"f1": 0.79, "deviations": 30.0, "p": 0.09, "permutations": 10}
    assert judged(NoSignal, {"clips": 400, "tests": {"pooled": clear}}).status == "cleared"
    assert judged(NoSignal, {"clips": 400, "tests": {"pooled": none, "audio": none}}).status == "explains"
    assert judged(NoSignal, {"clips": 400, "tests": {"pooled": none, "audio": clear}}).status == "cleared"
    assert judged(NoSignal, {"clips": 40, "tests": {"pooled": none, "audio": none}}).status == "undetermined"
