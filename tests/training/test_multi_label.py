"""Clips with several labels: every number equals scikit-learn's, thresholds know val alone, and a run holds together."""

from __future__ import annotations

import csv
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
import pytest
import soundfile
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn import metrics

from audioclf.compare.compare import compare
from audioclf.config import Config, parse_config
from audioclf.console import console
from audioclf.data import AudioDataModule
from audioclf.diagnose.run import read_run
from audioclf.errors import UserError
from audioclf.runs.folder import RunFolder
from audioclf.training import multi_label
from audioclf.training.fit import Run, data_module, fit
from audioclf.training.module import ClassifierModule
from audioclf.training.multi_label import (
    auroc,
    average_precision,
    best_thresholds,
    label_chance,
    label_intervals,
    label_scores,
    mean_of,
)
from audioclf.training.report import print_run
from audioclf.training.scores import draws_of, macro_f1
from audioclf.training.task import MultiLabel, SingleLabel

Tiny = Callable[..., Config]
Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]


@st.composite
def labelled(draw: st.DrawFn, least: int = 1) -> tuple[Bools, Floats]:
    """Labels and scores ``[N, K]``, many of them equal; some classes may have no clip, or all."""
    shape = draw(st.tuples(st.integers(least, 25), st.integers(1, 5)))
    there = draw(hnp.arrays(np.bool_, shape))
    scores = draw(hnp.arrays(np.float64, shape, elements=st.integers(-3, 3).map(float) | st.floats(-5, 5, width=16)))
    return there, scores


# --- scikit-learn's numbers ------------------------------------------------------------------------------------------


@given(labelled())
def test_average_precision_and_auroc_are_scikit_learns(given_: tuple[Bools, Floats]) -> None:
    there, scores = given_
    ap, area = average_precision(there, scores), auroc(there, scores)
    for k in range(there.shape[1]):
        if there[:, k].any():
            assert ap[k] == pytest.approx(metrics.average_precision_score(there[:, k], scores[:, k]), abs=1e-12)
        else:
            assert np.isnan(ap[k]), "no clip, no precision: not 0, which would be averaged"
        if there[:, k].any() and not there[:, k].all():
            assert area[k] == pytest.approx(metrics.roc_auc_score(there[:, k], scores[:, k]), abs=1e-12)
        else:
            assert np.isnan(area[k])
    known = there.any(0)
    if known.any():
        expected = metrics.average_precision_score(there[:, known], scores[:, known], average="macro")
        assert mean_of(ap) == pytest.approx(expected, abs=1e-12)


@given(labelled())
def test_decisions_score_what_scikit_learn_says(given_: tuple[Bools, Floats]) -> None:
    there, scores = given_
    predicted, known = scores > 0, there.any(0)
    found = label_scores(there, predicted)
    assert found.support.tolist() == there.sum(0).tolist()
    assert found.classes_without_support == int((~known).sum())
    assert found.accuracy == pytest.approx(metrics.accuracy_score(there, predicted))
    kinds = (("f1", metrics.f1_score), ("precision", metrics.precision_score), ("recall", metrics.recall_score))
    for name, theirs in kinds:
        each = np.array([theirs(there[:, k], predicted[:, k], zero_division=0) for k in range(there.shape[1])])
        np.testing.assert_allclose(getattr(found, name), each)
        assert getattr(found, f"{name}_macro") == pytest.approx(each[known].mean() if known.any() else 0.0)
    flat = there.ravel(), predicted.ravel()
    assert found.f1_micro == pytest.approx(metrics.f1_score(*flat, zero_division=0))
    if there.shape[1] > 1:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # labels that no clip has
            expected = metrics.f1_score(there, predicted, average="weighted", zero_division=0)
        assert found.f1_weighted == pytest.approx(expected)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=30))
def test_one_label_a_clip_scores_as_single_labels_do(pairs: list[tuple[int, int]]) -> None:
    targets, predicted = (np.array(part) for part in zip(*pairs, strict=True))
    found = label_scores(np.eye(4, dtype=bool)[targets], np.eye(4, dtype=bool)[predicted])
    assert found.f1_macro == pytest.approx(macro_f1(targets, predicted, 4))
    assert found.f1_micro == found.accuracy == pytest.approx((targets == predicted).mean())


def test_scores_that_are_not_finite_are_scored() -> None:
    logits = torch.tensor([[torch.nan, torch.inf], [0.0, -torch.inf], [1.0, torch.nan]])
    targets = torch.tensor([[1.0, 1.0], [0.0, 0.0], [0.0, 1.0]])
    scored = MultiLabel(["a", "b"]).scored(logits, targets)
    assert all(np.isfinite(scored[name]) for name in ("map", "auroc", "f1_macro"))


# --- thresholds ------------------------------------------------------------------------------------------------------


def shrunk_f1(there: Bools, probabilities: Floats, k: int, cut: float, clips: float) -> float:
    """A class's F1 at a threshold, ``clips`` clips of the average class among its own: said plainly."""
    hits, alarms = (there[:, k] & (probabilities[:, k] >= cut)).sum(), (probabilities[:, k] >= cut).sum()
    known = [j for j in range(there.shape[1]) if there[:, j].any()]
    for j in known:
        share = clips / len(known) / there[:, j].sum()
        hits = hits + share * (there[:, j] & (probabilities[:, j] >= cut)).sum()
        alarms = alarms + share * (probabilities[:, j] >= cut).sum()
    return float(2 * hits / (alarms + there[:, k].sum() + clips))


@pytest.mark.parametrize("clips", [0, 3, 50])
@given(labelled())
def test_no_threshold_has_a_higher_f1_than_the_one_that_is_chosen(clips: float, given_: tuple[Bools, Floats]) -> None:
    there = given_[0]
    probabilities = torch.from_numpy(given_[1]).sigmoid().float().numpy()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(multi_label, "SHARED_CLIPS", clips)
        chosen = best_thresholds(there, probabilities)
    f1 = label_scores(there, probabilities >= chosen).f1
    for k in range(there.shape[1]):
        if not there.any():
            assert chosen[k] == 0.5
            continue
        taken = np.unique(probabilities[:, k])
        middles = ((np.append(np.float32(0), taken[:-1]) + taken.astype(float)) / 2).astype(np.float32)
        if there[:, k].any() or clips:
            best = max(shrunk_f1(there, probabilities, k, cut, clips) for cut in middles)
            assert shrunk_f1(there, probabilities, k, chosen[k], clips) >= best - 1e-9
        if there[:, k].any() and not clips:
            others = [metrics.f1_score(there[:, k], probabilities[:, k] >= cut, zero_division=0) for cut in taken]
            assert f1[k] == pytest.approx(max(others))
        assert chosen[k] not in taken or 1 in np.diff(taken.view(np.int32)), "half-way, unless there is no half-way"


def test_thresholds_are_half_way_and_the_highest_of_equal_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(multi_label, "SHARED_CLIPS", 0)
    there = np.array([[1, 1], [1, 0], [0, 1], [0, 0]], dtype=bool)
    probabilities = np.array([[0.9, 0.1], [0.5, 0.2], [0.3, 0.3], [0.1, 0.4]], dtype=np.float32)
    np.testing.assert_allclose(best_thresholds(there, probabilities), [0.4, 0.05], rtol=1e-6)


def test_few_clips_share_a_threshold_and_many_have_their_own() -> None:
    """Two calibrated classes, and one whose logits are 2 too low."""
    rng = np.random.default_rng(0)

    def thresholds(clips: int, draws: int) -> Floats:
        """Of each class, in logits ``[draws, 3]``."""
        found = []
        for _ in range(draws):
            there = rng.random((clips, 3)) < 0.3
            logits = np.where(there, 1.5, -1.5) + rng.standard_normal(there.shape) - [0, 0, 2]
            found.append(best_thresholds(there, (1 / (1 + np.exp(-logits))).astype(np.float32)))
        return np.log(found) - np.log1p(-np.array(found))

    few, many = thresholds(12, 200), thresholds(4_000, 1)[0]
    assert many[2] < many[:2].min() - 1.5, "its own"
    assert many[2] + 0.3 < few[:, 2].mean() < few[:, :2].mean(), "towards the others"


@pytest.mark.parametrize(
    ("shares", "clips", "gain"),
    [
        ([0.2] * 8, 20, 0.02),
        ([0.2] * 8, 100, 0.005),
        ([0.2] * 8, 1_000, -0.002),
        ([0.5] + [0.04] * 7, 300, 0.0),  # a frequent class does not decide for rare ones
    ],
)
def test_shared_thresholds_hold_better_on_clips_that_did_not_choose_them(
    shares: list[float], clips: int, gain: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    def draw(number: int, rng: np.random.Generator) -> tuple[Bools, Floats]:
        there = rng.random((number, 8)) < shares
        known = np.log(shares) - np.log1p(-np.array(shares))
        logits = known + 1.6 * np.where(there, 0.8, -0.8) + 1.6 * rng.standard_normal(there.shape)
        return there, (1 / (1 + np.exp(-logits))).astype(np.float32)

    there, probabilities = draw(5_000, np.random.default_rng(0))

    def score() -> float:
        rng = np.random.default_rng(1)
        thresholds = [best_thresholds(*draw(clips, rng)) for _ in range(30)]
        return float(np.mean([label_scores(there, probabilities >= each).f1_macro for each in thresholds]))

    shared = score()
    monkeypatch.setattr(multi_label, "SHARED_CLIPS", 0)
    assert shared - score() > gain


# --- intervals and chance --------------------------------------------------------------------------------------------


@given(labelled(least=3))
def test_the_intervals_are_those_of_scikit_learns_scores_on_the_same_draws(given_: tuple[Bools, Floats]) -> None:
    there, scores = given_
    groups = [str(i // 2) for i in range(len(there))]
    found = label_intervals(there, scores, scores > 0, groups)
    draws: dict[str, list[float]] = {"f1_macro": [], "map": []}
    for times in list(draws_of(groups))[:5]:
        repeated = np.repeat(np.arange(len(there)), times.astype(int))
        draws["f1_macro"].append(label_scores(there[repeated], scores[repeated] > 0).f1_macro)
        draws["map"].append(mean_of(average_precision(there[repeated], scores[repeated])))
    few = pytest.MonkeyPatch()
    with few.context() as patch:
        patch.setattr(multi_label, "draws_of", lambda groups, seed: list(draws_of(groups, seed))[:5])
        found = label_intervals(there, scores, scores > 0, groups)
    low, high = np.quantile(draws["f1_macro"], [0.025, 0.975])
    assert found["f1_macro"] == pytest.approx((low, high), abs=1e-9)
    low, high = 2 * mean_of(average_precision(there, scores)) - np.quantile(draws["map"], [0.975, 0.025])
    assert found["map"] == pytest.approx((max(low, 0), min(high, 1)), abs=1e-9)


def test_the_interval_of_map_holds_the_score_of_many_clips_more_often_than_percentiles_would() -> None:
    """Average precision of few clips is too high, and in draws of them again."""
    rng = np.random.default_rng(0)

    def simulated(recordings: int) -> tuple[Bools, Floats, list[str]]:
        there = np.repeat(rng.random((recordings, 50)) < 0.2, 3, axis=0)
        noise = np.repeat(rng.standard_normal((recordings, 50)), 3, axis=0) + rng.standard_normal(there.shape)
        return there, 1.2 * there + 0.7 * noise, [str(i // 3) for i in range(len(there))]

    there, scores, _ = simulated(5_000)
    truth, ours, percentiles = mean_of(average_precision(there, scores)), 0, 0
    for _ in range(15):
        there, scores, groups = simulated(20)
        low, high = label_intervals(there, scores, scores > 0, groups)["map"]
        observed = mean_of(average_precision(there, scores))
        assert low <= observed <= high
        ours += low <= truth <= high
        percentiles += 2 * observed - high <= truth <= 2 * observed - low
    assert ours >= 11 and ours > percentiles + 3, "the more classes, the less else there is than bias"


def test_the_chance_floor_is_what_predicting_without_looking_scores() -> None:
    rng = np.random.default_rng(0)
    there = rng.random((400, 3)) < [0.1, 0.3, 0.5]
    scores = rng.standard_normal(there.shape)
    found = label_chance(there, scores, scores > 0, there)
    shares = there.mean(0)
    assert found.majority == pytest.approx((2 * shares / (1 + shares)).mean())
    assert found.stratified == pytest.approx(shares.mean(), abs=0.01)
    assert found.permutation == pytest.approx((2 * shares * 0.5 / (shares + 0.5)).mean(), abs=0.02)
    assert found.map == pytest.approx(shares.mean(), abs=0.02)
    assert found.permutation_p > 0.01 and found.map_p > 0.01
    told = label_chance(there, scores + 3 * there, (scores + 3 * there) > 1.5, there)
    assert told.permutation_p == told.map_p == 1 / 1001


# --- a run -----------------------------------------------------------------------------------------------------------


PITCHES = {"low": 300.0, "mid": 700.0, "high": 1500.0}
NAMES = sorted(PITCHES)


def write_mixtures(folder: Path, recordings: int = 30) -> Path:
    """A table of short noisy clips of one or two tones at once, two clips a recording, both labels named."""
    rng, lines = np.random.default_rng(0), ["path,start,end,labels"]
    time = np.arange(8_000) / 8_000
    for number in range(recordings):
        labels = rng.permutation(list(PITCHES))[: 1 + number % 2]
        tones = [np.sin(2 * np.pi * PITCHES[label] * rng.uniform(0.85, 1.15) * time) for label in labels]
        samples = 0.1 * np.sum(tones, 0) + 0.05 * rng.standard_normal(len(time))
        soundfile.write(folder / f"{number}.wav", samples, 8_000, subtype="PCM_16")
        lines += [f"{number}.wav,{start},{start + 0.5},{'|'.join(labels)}" for start in (0, 0.5)]
    table = folder / "clips.csv"
    table.write_text("\n".join(lines) + "\n")
    return table


@pytest.fixture(scope="module")
def mixtures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_mixtures(tmp_path_factory.mktemp("mixtures"))


@pytest.fixture(scope="module")
def config_of(tiny_config: Tiny, mixtures: Path) -> Tiny:
    """A multi-label run's configuration with changes."""
    base = tiny_config(lr=3e-3, epochs=15, data={"csv": str(mixtures), "multi_label": "first"}).model_dump()
    base["data"]["multi_label"], base["loss"] = "keep", {"name": "bce"}

    def change(**changes: Any) -> Config:
        merged = {key: base[key] | value if isinstance(value, dict) else value for key, value in changes.items()}
        return parse_config(base | merged)

    return change


@pytest.fixture(scope="module")
def run(config_of: Tiny, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return fit(config_of(trainer={"tensorboard": True}), tmp_path_factory.mktemp("outputs") / "run")


@pytest.fixture(scope="module")
def table_of(run: Run) -> dict[str, Any]:
    """The test clips' rows of ``predictions.parquet``: labels and scores as arrays ``[N, K]``."""
    rows = [row for row in pq.read_table(run.folder / "predictions.parquet").to_pylist() if row["split"] == "test"]
    return {
        "there": np.array([[name in row["label"] for name in NAMES] for row in rows]),
        "predicted": np.array([[name in row["predicted"] for name in NAMES] for row in rows]),
        "logits": np.array([row["logits"] for row in rows]),
        "scores": np.array([row["scores"] for row in rows]),
        "target": [row["target"] for row in rows],
    }


def test_a_runs_numbers_are_scikit_learns_of_its_predictions(run: Run, table_of: dict[str, Any]) -> None:
    test, there, predicted = run.result["test"], table_of["there"], table_of["predicted"]
    assert run.result["task"] == "multi_label" and run.result["data"]["classes"] == NAMES
    assert test["map"] == pytest.approx(metrics.average_precision_score(there, table_of["logits"]))
    assert test["auroc"] == pytest.approx(metrics.roc_auc_score(there, table_of["logits"]))
    assert test["f1_macro"] == pytest.approx(metrics.f1_score(there, predicted, average="macro"))
    assert test["f1_micro"] == pytest.approx(metrics.f1_score(there, predicted, average="micro"))
    assert test["accuracy"] == pytest.approx(metrics.accuracy_score(there, predicted))
    assert test["loss"] == pytest.approx(metrics.log_loss(there.ravel(), table_of["scores"].ravel()), rel=1e-4)
    assert [[NAMES[k] for k in row] for row in table_of["target"]] == [
        [name for name, is_there in zip(NAMES, row, strict=True) if is_there] for row in there
    ]
    thresholds = np.array([run.result["thresholds"][name] for name in NAMES], dtype=np.float32)
    assert ((table_of["scores"].astype(np.float32) >= thresholds) == predicted).all()
    chance, interval = run.result["chance"], run.result["interval"]
    assert test["map"] > 0.8 > chance["map"] + 0.15 and chance["map_p"] < 0.05
    assert interval["map"][0] <= test["map"] <= interval["map"][1]
    assert interval["f1_macro"][0] <= test["f1_macro"] <= interval["f1_macro"][1]


def test_the_epoch_is_chosen_by_vals_map_and_its_curve_is_the_results(run: Run) -> None:
    with (run.folder / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    best = max(rows, key=lambda row: (float(row["val_map"]), -float(row["val_loss"])))
    assert run.result["selected_epoch"] == int(best["epoch"])
    by_f1 = max(rows, key=lambda row: (float(row["val_f1_macro"]), -float(row["val_loss"])))
    assert by_f1 is not best, "the test would prove nothing"
    for name in ("map", "auroc", "f1_macro", "loss"):
        assert float(best[f"val_{name}"]) == pytest.approx(run.result["val"][name], abs=1e-6)


def test_thresholds_are_tuned_on_val_and_travel_in_the_checkpoint(run: Run, config_of: Tiny) -> None:
    module = ClassifierModule.load_from_checkpoint(run.folder / "checkpoints" / "model.ckpt").eval()
    assert isinstance(module.task, MultiLabel)
    data = data_module(config_of())
    data.setup()
    features, targets, _ = data.datasets["val"].__getitems__(range(len(data.datasets["val"])))
    with torch.no_grad():
        logits = module(features)
    expected = best_thresholds(targets.numpy() == 1, logits.sigmoid().numpy())
    np.testing.assert_allclose(module.task.thresholds.numpy(), expected, atol=1e-5)
    assert module.task.tuned()["thresholds"] == run.result["thresholds"]
    assert (module.task.thresholds != 0.5).any()
    state = torch.load(run.folder / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    assert (state["task.thresholds"] == 0.5).all(), "what training goes on from has seen no threshold"


def test_no_label_of_test_moves_anything_but_tests_scores(
    run: Run, config_of: Tiny, mixtures: Path, tmp_path: Path
) -> None:
    """Test clips get other labels; epoch, thresholds and val stay."""
    split = {clip.id: name for name, part in splits_of(config_of()).items() for clip in part}
    rows = list(csv.DictReader(mixtures.open()))
    clips = [clip for part in splits_of(config_of()).values() for clip in part]
    place = {(Path(clip.source).name, clip.start): split[clip.id] for clip in clips}
    table = tmp_path / "clips.csv"
    with table.open("w", newline="") as file:
        writer = csv.DictWriter(file, [*rows[0], "split"])
        writer.writeheader()
        for row in rows:
            where = place[row["path"], float(row["start"])]
            writer.writerow(row | {"split": where, "labels": "low" if where == "test" else row["labels"]})
    other = fit(config_of(data={"csv": str(table), "audio_dir": str(mixtures.parent)}), tmp_path / "run")
    assert other.result["thresholds"] == run.result["thresholds"]
    assert other.result["val"] == run.result["val"] and other.result["train"] == run.result["train"]
    assert other.result["test"]["f1_macro"] != run.result["test"]["f1_macro"]
    assert other.result["test"]["classes_without_support"] == 2
    assert other.result["test"]["per_class"]["mid"]["ap"] is None, "no clips, no precision"
    assert other.result["test"]["classes_without_auroc"] == 3, "all clips are low, none is another"


def splits_of(config: Config) -> dict[str, Any]:
    data = data_module(config)
    data.setup()
    return data.splits.parts()


def test_a_class_that_val_lacks_is_decided_by_the_others(config_of: Tiny, mixtures: Path, tmp_path: Path) -> None:
    rows = list(csv.DictReader(mixtures.open()))
    table = tmp_path / "clips.csv"
    with table.open("w", newline="") as file:
        writer = csv.DictWriter(file, [*rows[0], "split"])
        writer.writeheader()
        for i, row in enumerate(rows):
            where = ("train", "train", "test")[i // 2 % 3]
            writer.writerow(
                row | {"split": "val" if "high" not in row["labels"] and where == "train" and i % 4 == 0 else where}
            )
    leaky = {"csv": str(table), "audio_dir": str(mixtures.parent), "allow_leak": True}
    done = fit(config_of(data=leaky, epochs=2), tmp_path / "run")
    chosen = done.result["thresholds"]
    assert min(chosen.values()) * 0.5 < chosen["high"] < 1 and chosen["high"] != 0.5
    with console.capture() as printed:
        print_run(done)
    assert "of 1 without val clips by the other classes, e.g. high" in " ".join(printed.get().split())


def test_labels_outside_the_wanted_classes_are_dropped(config_of: Tiny) -> None:
    data = data_module(config_of(data={"classes": ["low", "mid"]}))
    data.setup()
    assert data.classes == ["low", "mid"]
    for name, part in data.splits.parts().items():
        expected = [[float(label in clip.labels) for label in ("low", "mid")] for clip in part]
        assert data.datasets[name].targets.tolist() == expected
        assert (data.datasets[name].targets.sum(1) > 0).all()


def test_splits_give_each_part_its_share_of_every_label(config_of: Tiny) -> None:
    parts = splits_of(config_of())
    groups = [{clip.group for clip in part} for part in parts.values()]
    assert not set.intersection(*groups) and sum(map(len, groups)) == 30
    total = {name: sum(name in clip.labels for part in parts.values() for clip in part) for name in NAMES}
    for split, share in (("test", 0.2), ("val", 0.16), ("train", 0.64)):
        for name in NAMES:
            found = sum(name in clip.labels for clip in parts[split])
            assert found == pytest.approx(share * total[name], abs=2), (split, name)


def test_a_run_is_printed_compared_and_drawn(run: Run, config_of: Tiny) -> None:
    with console.capture() as printed:
        print_run(run)
    text = " ".join(printed.get().split())
    assert "mAP" in text and "AUROC" in text and "best val mAP" in text and "every label" in text
    others = [fit(config_of(seed=seed), run.folder.parent / f"seed{seed}") for seed in (1, 2)]
    found = compare([run.folder.parent])
    assert len(found.selected.runs) == 3 and not found.passed_over
    mean = np.mean([one.result["test"]["f1_macro"] for one in (run, *others)])
    assert found.selected.test.mean == pytest.approx(mean)
    assert found.selected.test.low < found.selected.test.high
    each = np.mean([one.result["test"]["per_class"]["mid"]["f1"] for one in (run, *others)])
    assert next(score for score in found.class_scores if score.name == "mid").f1.mean == pytest.approx(each)
    assert found.confusion.sum() == 0
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    board = EventAccumulator(str(run.folder / "events"), {"images": 0}).Reload()
    assert {"test/ap_per_class", "test/f1_per_class"} <= set(board.Tags()["images"])
    assert "test/confusion_matrix" not in board.Tags()["images"]
    assert set(board.Tags()["scalars"]) == {
        f"{split}/{name}" for split in ("test", "val") for name in ("f1_macro", "loss", "map")
    }


def test_a_diagnosis_says_that_it_needs_one_label_a_clip(run: Run) -> None:
    with pytest.raises(UserError) as caught:
        read_run(run.folder)
    assert "data.multi_label=keep" in caught.value.message
    assert "data.multi_label=first loss=cross_entropy" in (caught.value.hint or "")


def test_a_longer_run_goes_on_bit_for_bit(run: Run, config_of: Tiny, tmp_path: Path) -> None:
    fit(config_of(epochs=3), tmp_path / "short")
    longer = fit(config_of(), tmp_path / "long")
    same = {key for key in run.result if key not in ("seconds", "command", "started")}
    assert {key: longer.result[key] for key in same} == {key: run.result[key] for key in same}


def test_mixed_clips_are_learnt_and_early_stopping_watches_map(config_of: Tiny, tmp_path: Path) -> None:
    config = config_of(epochs=100, lr=1e-2, trainer={"patience": 2}, augment={"mixup": 0.4})
    result = fit(config, tmp_path / "run").result
    precision = [row["val_map"] for row in RunFolder(tmp_path / "run").read_metrics()]
    last_rise = max(i for i, value in enumerate(precision, 1) if value > max(precision[: i - 1], default=-1.0))
    assert result["trained_epochs"] == len(precision) == last_rise + 2 < 100


def test_a_task_says_what_was_wrong_most_confidently_first() -> None:
    targets = torch.tensor([[1.0, 0.0], [1.0, 1.0], [0.0, 1.0]])
    logits = torch.tensor([[4.0, 1.0], [4.0, 4.0], [3.0, -2.0]])
    found = MultiLabel(["dog", "rain"]).mistakes(logits, targets)
    assert found == [(2, "dog found in rain (0.95)"), (0, "rain found in dog (0.73)")]
    missed = MultiLabel(["dog", "rain"]).mistakes(-4 * torch.ones(1, 2), torch.ones(1, 2))
    assert missed == [(0, "dog missed in dog, rain (0.02)")]
    single = SingleLabel(["dog", "rain"]).mistakes(logits, torch.tensor([0, 1, 1]))
    assert single == [(2, "rain taken for dog (0.99)"), (1, "rain taken for dog (0.50)")]


def test_served_alone_a_data_module_gives_the_same_targets(config_of: Tiny) -> None:
    config = config_of()
    data = AudioDataModule(config.data, config.features, cache=config.paths.cache)
    data.setup()
    features, targets, _ = next(iter(data.train_dataloader()))
    assert targets.dtype == torch.float32 and targets.shape == (len(features), 3)
