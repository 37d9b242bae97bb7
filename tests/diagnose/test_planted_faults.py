"""Each planted fault is really in its table and its files, and the counting is right on lines made by hand."""

from collections import Counter
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import yaml
from scipy.signal import welch

from audioclf.clips.table import read_table
from audioclf.diagnose.probe import all_probes
from audioclf.diagnose.verdict import THRESHOLDS
from audioclf.errors import UserError
from audioclf.training.fit import data_module
from benchmarks.planted_faults import changes, matrix, measure, tune
from benchmarks.planted_faults.__main__ import main
from benchmarks.planted_faults.cases import Case, cases, plant, scramble
from benchmarks.planted_faults.faults import ACCEPTED, FAULTS, HEALTHY, SCRAMBLED, Fault
from benchmarks.planted_faults.run import read_lines, run_case
from benchmarks.planted_faults.tables import level, read_sound, source_rows, write_rows

SMALL = ("data.num_classes=4", "data.recordings_per_class=6")
TINY = (*SMALL, "features.n_mels=8", "features.target_length=40")


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    return tmp_path_factory.mktemp("planted")


@pytest.fixture(scope="module")
def rows(work):
    return source_rows("demo", 1, work / "cache", SMALL)


@pytest.fixture
def changed(rows, tmp_path):
    """Applies one change to the rows."""
    return lambda change, **settings: partial(change, **settings)(rows, np.random.default_rng(0), tmp_path)


def sizes(rows):
    return Counter((row.split, row.label) for row in rows)


def test_the_source_has_no_fault(rows):
    assert len(rows) == 72 and len({row.id for row in rows}) == 72
    where = {}
    for row in rows:
        assert where.setdefault(row.group, row.split) == row.split
    assert {split for split, _ in sizes(rows)} == {"train", "val", "test"}


def test_shuffled_labels_say_nothing_and_keep_the_counts(rows, changed):
    after = changed(changes.shuffle_labels)
    assert Counter(row.label for row in after) == Counter(row.label for row in rows)
    same = np.mean([a.label == b.label for a, b in zip(rows, after, strict=True)])
    assert same < 0.5
    assert [replace(a, labels=b.labels) for a, b in zip(after, rows, strict=True)] == rows


@pytest.mark.parametrize("share", [0.2, 0.4])
def test_that_share_of_labels_is_flipped_in_every_split(rows, changed, share):
    after = changed(changes.flip_labels, share=share)
    flipped = [a for a, b in zip(after, rows, strict=True) if a.labels != b.labels]
    assert len(flipped) == round(share * len(rows))
    assert {row.split for row in flipped} == {"train", "val", "test"}


@pytest.mark.parametrize(("classes", "renamed"), [(None, 4), (3, 3)])
def test_only_test_is_renamed_and_one_to_one(rows, changed, classes, renamed):
    after = changed(changes.rename_test, classes=classes)
    assert all(a == b for a, b in zip(after, rows, strict=True) if b.split != "test")
    names = {(b.label, a.label) for a, b in zip(after, rows, strict=True) if b.split == "test"}
    assert len(names) == 4 == len({new for _, new in names})
    assert sum(old != new for old, new in names) == renamed


def test_half_the_classes_are_cut_outside_test(rows, changed):
    before, after = sizes(rows), sizes(changed(changes.imbalance, ratio=50.0))
    assert all(after[key] == before[key] for key in before if key[0] == "test")
    train = sorted(n for (split, _), n in after.items() if split == "train")
    assert train[:2] == [1, 1] and train[2:] == sorted(before[k] for k in before if k[0] == "train" and after[k] > 1)


def test_few_clips_come_from_as_many_recordings_as_there_are(rows, changed):
    after = changed(changes.few_clips, clips=2)
    assert all(n == 2 for (split, _), n in sizes(after).items() if split == "train")
    train = [row for row in after if row.split == "train"]
    assert len({row.group for row in train}) == len(train)
    assert [row for row in after if row.split == "test"] == [row for row in rows if row.split == "test"]


def test_many_classes_have_few_clips_of_the_old_length(rows, changed):
    after = changed(changes.many_classes, train=2, val=1, test=1)
    assert len({row.label for row in after if row.split == "train"}) == 16
    assert all(n <= 2 for n in sizes(after).values())
    old = {row.id: row for row in rows}
    for row in after[:4]:
        assert len(read_sound(row)[0]) == len(read_sound(old[row.id])[0])
        assert row.label.startswith(old[row.id].label)


def test_that_share_of_clips_is_silent_noise(rows, changed):
    after = changed(changes.silence, share=0.5)
    levels = [level(read_sound(row)[0]) for row in after]
    quiet = [a != b for a, b in zip(after, rows, strict=True)]
    assert sum(quiet) == pytest.approx(36, abs=8)  # rounded in each class of each split
    assert all(db == pytest.approx(-80, abs=0.5) for db, was in zip(levels, quiet, strict=True) if was)
    assert min(db for db, was in zip(levels, quiet, strict=True) if not was) > -60
    assert len({tuple(read_sound(a)[0][:100]) for a, was in zip(after, quiet, strict=True) if was}) == sum(quiet)


def test_only_test_is_muffled(rows, changed):
    after = changed(changes.muffle_test, hz=1000.0)
    assert all(a == b for a, b in zip(after, rows, strict=True) if b.split != "test")
    pairs = [(a, b) for a, b in zip(after, rows, strict=True) if b.split == "test"]
    for row, old in pairs[:4]:
        (after_sound, rate), (before_sound, _) = read_sound(row), read_sound(old)
        hz, power = welch(after_sound, rate, nperseg=4096)
        _, before = welch(before_sound, rate, nperseg=4096)
        assert 10 * np.log10(power[(hz > 2000) & (hz < 4000)].sum() / before[(hz > 2000) & (hz < 4000)].sum()) < -45
        assert 10 * np.log10(power[(hz > 100) & (hz < 600)].sum() / before[(hz > 100) & (hz < 600)].sum()) == (
            pytest.approx(-20, abs=1)
        )


@pytest.mark.parametrize("both", [True, False])
def test_mixtures_hold_two_classes_of_one_split_and_no_clip_twice(rows, changed, both):
    after = changed(changes.mix_pairs, both_labels=both)
    assert 30 <= len(after) <= 36
    of = {row.group: row for row in rows}
    for row in after:
        one, other = (of[name] for name in row.group.split("+"))
        assert one.split == other.split == row.split and one.label != other.label
        assert len(row.labels) == (2 if both else 1) and set(row.labels) <= {one.label, other.label}
    groups = [name for group in {row.group for row in after} for name in group.split("+")]
    assert len(groups) == len(set(groups))
    kept = {row.group.split("+")[0]: row.label == of[row.group.split("+")[0]].label for row in after}
    assert 0 < sum(kept.values()) < len(kept)  # either may be the one that is kept


def test_windows_overlap_and_leak_only_where_splits_are_drawn(rows, changed, tmp_path):
    windows = changed(changes.cut_windows, hop_s=1.0, clips=3)
    assert {row.split for row in windows} == {"train", "val", "test"}
    first, second = windows[0], windows[1]
    (one, rate), (other, _) = read_sound(first), read_sound(second)
    assert len(one) == 2 * rate and np.array_equal(one[rate:], other[:rate])
    assert all(any(row.group == old.group and row.split == old.split for old in rows) for row in windows)
    leaky = changes.draw_splits(windows, np.random.default_rng(0), tmp_path)
    assert sizes(leaky) == sizes(windows)
    assert len({row.group for row in leaky}) == len(leaky)
    of = dict(zip((row.id for row in windows), (row.group for row in windows), strict=True))
    train, test = ({of[row.id] for row in leaky if row.split == split} for split in ("train", "test"))
    assert train & test


def test_a_table_is_what_audioclf_reads(rows, tmp_path):
    write_rows([replace(rows[0], labels=("dog", "cat")), *rows[1:]], tmp_path / "clips.csv")
    clips, bad = read_table(tmp_path / "clips.csv")
    assert not bad and clips[0].labels == ("dog", "cat")
    assert [(c.id, c.group, c.split, c.start, c.end) for c in clips] == [
        (r.id, r.group, r.split, r.start, r.end) for r in rows
    ]


def test_scrambled_features_have_the_clips_values_in_another_order(work):
    case = Case("demo", 1, 0, SCRAMBLED)
    scramble(plant(case, work, TINY), seed=0)
    fine = data_module(plant(case.twin, work, TINY))
    fine.prepare_data()
    broken = sorted((work / "caches" / case.name / "features").glob("*/*/*.npy"))
    assert len(broken) == 72
    for path in broken[:5]:
        a, b = np.load(path), fine.feature_store.read(path.stem)
        assert not np.array_equal(a, b) and np.array_equal(np.sort(a, None), np.sort(b, None))


def test_every_faults_settings_can_be_composed_and_its_name_is_its_own(work):
    settings = {fault.overrides: fault for fault in (*HEALTHY, *FAULTS) if not fault.changes}
    for fault in settings.values():  # those with files of their own are made above
        config = plant(Case("demo", 1, 0, fault), work, SMALL)
        assert config.data.name == "csv" and config.trainer.keep_state is False
    assert all(fault.healthy == (fault.name == "none") for fault in (*HEALTHY, *FAULTS))
    labels = [fault.label for fault in (*HEALTHY, *FAULTS)]
    assert len(set(labels)) == len(labels)
    singles = {fault.label for fault in FAULTS}
    assert all(part in singles for fault in FAULTS for part in fault.parts)
    assert all(len(fault.parts) in (0, len(fault.kinds)) for fault in FAULTS)


def test_accepted_causes_are_probes():
    causes = {probe.cause for probe in all_probes()}
    assert {cause for accepted in ACCEPTED.values() for cause in accepted} <= causes
    assert {kind for fault in FAULTS for kind in fault.kinds} == set(ACCEPTED)


def test_cases_of_the_measurement_are_many_enough():
    assert sum(case.fault.healthy for case in cases(measure.FOLDS)) >= 40
    assert not set(measure.FOLDS) & set(tune.FOLDS)
    assert {case.fault.name for case in cases([1], only=["label_flips-40"])} == {"label_flips"}
    assert len({case.name for case in cases((1, 2, 3, 4, 5), (0, 1))}) == len(cases((1, 2, 3, 4, 5), (0, 1)))


# -- counting ---------------------------------------------------------------------------------------------------------


def line(fault, severity, f1, twin, verdicts, kinds=None, fold=3, **more):
    kinds = [] if fault == "none" else [fault] if kinds is None else kinds
    return {
        "case": f"demo-f{fold}-s0-{fault}-{severity}",
        "source": "demo",
        "fold": fold,
        "seed": 0,
        "fault": fault,
        "severity": severity,
        "kinds": kinds,
        "f1": f1,
        "interval": [f1 - 0.1, f1 + 0.1],
        "twin_f1": twin,
        "verdicts": verdicts,
        "healthy": not verdicts,
    } | more


LINES = [
    line("none", "tuned", 0.7, 0.7, []),
    line("none", "linear", 0.65, 0.7, [["shift", "contributes", 0.2]]),
    line("none", "lr_3e-5", 0.3, 0.7, [["undertrained", "explains", 0.9]]),
    line("lr_high", "x300", 0.2, 0.7, [["lr_too_high", "explains", 0.8]]),
    line("lr_high", "x300", 0.68, 0.7, [], fold=4),
    line("lr_high", "x300", 0.3, 0.7, [["shift", "undetermined", None]], fold=5, healthy=False),
    line("no_normalisation", "lr_1e-2", 0.1, 0.7, [["shift", "explains", 0.9], ["lr_too_high", "contributes", 0.3]]),
    line("window_leak", "half", 0.9, 0.5, [["leakage", "explains", 0.6]]),
    line("label_flips", "40", 0.65, 0.7, []),
    line(
        "two_faults",
        "lr_and_flips",
        0.1,
        0.7,
        [["lr_too_high", "explains", 0.6]],
        ["lr_high", "label_flips"],
    ),
]


def test_only_faults_that_changed_f1_count_and_each_planted_cause_once():
    summary = matrix.summarise(LINES)
    assert summary.confusion["lr_high-x300"] == {"lr_too_high": 1, "undetermined": 1}
    assert summary.confusion["no_normalisation-lr_1e-2"] == {"shift": 1}  # named first; the right one is second
    assert (summary.by_fault["no_normalisation"].hits, summary.by_fault["lr_high"].total) == (1, 2)
    assert summary.without_effect == ["demo-f4-s0-lr_high-x300", "demo-f3-s0-label_flips-40"]
    assert summary.recall["window_leak-half"].hits == 1


def test_of_two_faults_only_those_that_count_alone_are_asked_for():
    lines = [*LINES, line("lr_high", "x1000_10_epochs", 0.2, 0.7, [])]
    assert matrix.summarise(lines).by_fault["two_faults"].total == 1  # 40 % flips did not lower F1 there
    lines[-3] = line("label_flips", "40", 0.4, 0.7, [])
    assert str(matrix.summarise(lines).by_fault["two_faults"]).startswith("1/2 = 0.50")


def test_healthy_runs_that_are_not_as_good_are_dropped_and_the_others_counted():
    summary = matrix.summarise(LINES)
    assert summary.dropped == ["demo-f3-s0-none-lr_3e-5"]
    assert (summary.false.hits, summary.false.total) == (1, 2) and summary.accused == {"shift": 1}
    assert summary.confusion["none"] == {"nothing": 1, "shift": 1}
    shares = [count.share for count in summary.by_fault.values()]
    assert matrix.macro(summary.by_fault) == pytest.approx(np.mean(shares))


def test_wilsons_interval_is_the_published_one():
    assert matrix.wilson(0, 40) == pytest.approx((0, 0.0876), abs=1e-4)
    assert matrix.wilson(2, 40) == pytest.approx((0.0138, 0.1650), abs=1e-4)


def test_separations_show_the_number_that_tells_healthy_from_planted():
    lines = [
        one | {"numbers": {"lr_too_high": {"jump": 9.0 if "lr_high" in one["kinds"] else 0.2, "effect": {"gain": 0.1}}}}
        for one in LINES
    ]
    name, area, without, planted = tune.separations(lines, "lr_too_high")[0]
    assert (name, area, max(without), min(planted)) == ("jump", 1.0, 0.2, 9.0)


def test_nothing_is_measured_before_the_thresholds_are_frozen(tmp_path, monkeypatch, capsys):
    file = tmp_path / "thresholds.yaml"
    file.write_text("all: {explains: 0.5}\n")
    with pytest.raises(UserError, match="not frozen"):
        measure.frozen(file)
    monkeypatch.setattr("benchmarks.planted_faults.__main__.THRESHOLDS", file)
    assert main(["measure", "--work", str(tmp_path / "work")]) == 2
    assert "not frozen" in " ".join(capsys.readouterr().out.split())
    assert not (tmp_path / "work").exists()
    file.write_text("frozen: true\nall: {explains: 0.5}\n")
    assert len(measure.frozen(file)["thresholds_sha256"]) == 64


def test_a_torn_line_and_a_failed_case_are_done_again(tmp_path):
    file = tmp_path / "lines.jsonl"
    file.write_text('{"case": "a", "f1": 1}\n{"case": "b", "error": "x"}\n{"case": "a", "f1": 2}\n{"case": "c", "f1"')
    assert read_lines(file) == [{"case": "a", "f1": 2}]


@pytest.mark.slow
def test_a_case_from_its_table_to_its_verdict(work):
    fault = Fault("undertrained", "1_epoch_1e-6", ("undertrained",), ("lr=1e-6", "epochs=1"))
    found = run_case(Case("demo", 1, 0, fault), work / "whole")
    assert "error" not in found, found["error"]
    assert matrix.effective(found) and "undertrained" in matrix.convicted(found)
    assert matrix.judged(found, yaml.safe_load(THRESHOLDS.read_text()))["verdicts"] == found["verdicts"]
