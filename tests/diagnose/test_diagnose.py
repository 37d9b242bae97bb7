"""A whole diagnosis: from a run's folder to its verdicts, files and repair."""

import json
import os
import shlex
import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from sklearn.metrics import f1_score

from audioclf.cli import main
from audioclf.compose import load_config
from audioclf.diagnose import probes
from audioclf.diagnose.diagnose import diagnose, examine, judge
from audioclf.diagnose.fix import diagnosed, fix, print_fixed
from audioclf.diagnose.probe import all_probes
from audioclf.diagnose.run import read_run
from audioclf.diagnose.trial import Recipe
from audioclf.diagnose.verdict import Gap, Verdict
from audioclf.errors import UserError
from audioclf.runs.identity import identity
from audioclf.training.fit import fit

FAULT = ("lr=0.1", "features.normalisation=none", "epochs=12", "trainer.select=last")
STATUSES = {"explains", "contributes", "cleared", "undetermined"}


@pytest.fixture(scope="module")
def faulty(diagnose_cache, tiny, tmp_path_factory):
    """A run with two faults that are one disease, and its diagnosis; not to be written to."""
    folder = tmp_path_factory.mktemp("faulty") / "run"
    fit(load_config([*tiny, *FAULT, f"paths.cache={diagnose_cache / 'cache'}"]), folder)
    return folder, diagnose(read_run(folder))


def f1_of(path):
    table = pq.read_table(path).to_pandas()
    return f1_score(table.target, table.predicted, average="macro", zero_division=0)


def test_faults_are_named_others_cleared_and_the_command_repairs_them(faulty):
    folder, diagnosis = faulty
    named = {verdict.cause for verdict in diagnosis.convicted}
    assert named and named <= {"no_normalisation", "lr_too_high"}
    assert not diagnosis.healthy
    status = {verdict.cause: verdict.status for verdict in diagnosis.verdicts}
    assert status["overfitting"] == "cleared"
    config = load_config(shlex.split(diagnosis.command)[2:])
    assert config.features.normalisation == "per_band" or config.lr < 0.1
    assert identity(config) != read_run(folder).result["identity"]


def test_file_has_the_schema_and_the_same_verdicts(faulty):
    folder, diagnosis = faulty
    content = json.loads((folder / "diagnosis.json").read_text())
    assert {"verdicts", "healthy", "not_run"} <= set(content)
    for verdict in content["verdicts"]:
        assert {"cause", "status", "share", "interval", "evidence", "next"} <= set(verdict)
        assert verdict["status"] in STATUSES
        assert verdict["evidence"]
    assert [v["cause"] for v in content["verdicts"]] == [v.cause for v in diagnosis.verdicts]
    assert (folder / "diagnosis.html").exists()
    checks = {check["name"]: check for check in content["facts"]["preflight"]}
    assert {"first_step", "loss_at_init", "one_batch", "broken_clips", "shared_sound"} <= set(checks)
    assert checks["first_step"]["loud"] and not checks["broken_clips"]["loud"]


def test_every_effect_can_be_computed_again_from_the_trials(faulty):
    folder, diagnosis = faulty
    trials = folder / "diagnosis" / "trials"
    checked = 0
    for verdict in diagnosis.verdicts:
        effect = verdict.numbers.get("effect") or {}
        if "trials" in effect:
            before, after = (f1_of(trials / f"{name}.parquet") for name in effect["trials"])
            assert effect["before"] == pytest.approx(before)
            assert effect["gain"] == pytest.approx(after - before)
            assert verdict.share == pytest.approx(min(1.0, effect["gain"] / diagnosis.gap.size))
            checked += 1
    assert checked >= 2
    assert diagnosis.gap.base == pytest.approx(f1_of(trials / "base.parquet"))
    probe = max(f1_of(trials / f"probe_{kind}.parquet") for kind in ("pooled", "flat"))
    assert diagnosis.gap.probe == pytest.approx(probe)


def test_what_else_a_verdict_says_can_be_computed_again(faulty):
    """From the clips' own table and the trials on permuted labels."""
    folder, diagnosis = faulty
    numbers = {verdict.cause: verdict.numbers for verdict in diagnosis.verdicts}
    clips = pq.read_table(folder / "diagnosis" / "clips.parquet").to_pandas()
    mine, test = clips[clips.split != "test"], clips[clips.split == "test"]
    config = yaml.safe_load((folder / "config.yaml").read_text())
    assert numbers["lr_too_high"]["jump"] == pytest.approx(config["lr"] * mine.input_size.mean())
    features = numbers["no_normalisation"]
    mean, square = mine.feature_mean.mean(), (mine.feature_std**2 + mine.feature_mean**2).mean()
    assert features["mean"] == pytest.approx(mean, rel=1e-3)
    assert features["std"] == pytest.approx(np.sqrt(square - mean**2), rel=1e-2)
    missing = np.stack(test.band_db).mean(0) - np.stack(mine.band_db).mean(0)
    assert numbers["shift"]["band_db"] == pytest.approx(missing, abs=0.01)
    test_of_labels = numbers["no_signal"]["tests"]["pooled"]
    names = folder.glob("diagnosis/trials/probe_pooled*_permuted_*.parquet")
    scores = [f1_of(path) for path in names]
    assert len(scores) == test_of_labels["permutations"]
    assert test_of_labels["permuted"] == pytest.approx(np.mean(scores))
    assert test_of_labels["highest"] == pytest.approx(max(scores))


def test_a_trials_file_says_how_it_was_made(lab):
    allowed = np.arange(len(lab.pool)) % 2 == 0
    lab.trial(Recipe("halved", {"lr": 1e-4}, train_on=allowed, seed=3))
    table = pq.read_table(lab.folder / "trials" / "halved.parquet")
    said = json.loads(table.schema.metadata[b"trial"])
    assert (said["overrides"], said["seed"]) == ({"lr": 1e-4}, 3)
    assert table["trained_on"].to_pylist() == allowed.tolist()


def test_what_convicts_was_trained_with_two_seeds(faulty):
    _, diagnosis = faulty
    effects = [verdict.numbers["effect"] for verdict in diagnosis.convicted]
    assert effects and all(found["seeds"] == 2 and found["trials"][1].endswith("_2_seeds") for found in effects)


def test_a_busy_machine_gives_no_other_folds(lab):
    lab.__dict__["step_s"] = 1e6
    assert lab.fold_count == 4


def test_an_earlier_diagnosis_outlives_one_that_is_stopped(faulty, tmp_path, monkeypatch):
    folder = shutil.copytree(faulty[0], tmp_path / "run")
    there = {name: (folder / name).read_bytes() for name in ("diagnosis.json", "diagnosis/clips.parquet")}

    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("audioclf.diagnose.diagnose.attribute", stop)
    with pytest.raises(KeyboardInterrupt):
        diagnose(read_run(folder))
    assert {name: (folder / name).read_bytes() for name in there} == there


def test_verdicts_can_be_judged_again_from_the_file(faulty):
    folder, diagnosis = faulty
    content = json.loads((folder / "diagnosis.json").read_text())
    measured = {verdict["cause"]: verdict["numbers"] for verdict in content["verdicts"]}
    again = judge(measured, Gap(**content["gap"]))
    assert [(v.cause, v.status, v.share) for v in again] == [(v.cause, v.status, v.share) for v in diagnosis.verdicts]


def test_steps_add_up(faulty):
    _, diagnosis = faulty
    levels = [step.value for step in diagnosis.steps if step.kind == "level"]
    rest = sum(step.value for step in diagnosis.steps if step.kind != "level")
    assert levels[1] + rest == pytest.approx(levels[-1])
    assert levels[0] == diagnosis.gap.chance


def test_fix_trains_the_repair_and_shows_before_and_after(faulty, capsys):
    folder, diagnosis = faulty
    fixed = fix(read_run(folder), diagnosis)
    print_fixed(fixed)
    printed = capsys.readouterr().out
    assert "before and after" in printed
    runs = [path for path in folder.parent.iterdir() if (path / "result.json").exists() and path != folder]
    assert len(runs) == 1
    repaired = yaml.safe_load((runs[0] / "config.yaml").read_text())
    before, after = (json.loads((path / "result.json").read_text())["test"]["f1_macro"] for path in (folder, runs[0]))
    assert after > before
    assert repaired["trainer"]["select"] == "best"
    assert f"{before:.3f} -> {after:.3f}" in printed
    written = json.loads((folder / "diagnosis" / "fixed.json").read_text())
    assert written["f1_macro"]["test"] == [before, after] and written["run"] == runs[0].name
    assert diagnosed(read_run(folder)).repair == diagnosis.repair  # a second --fix need not diagnose again


def test_healthy_run_has_nothing_to_fix(run_folder, capsys):
    assert main(["diagnose", str(run_folder), "--fix"]) == 1
    assert "nothing to train" in capsys.readouterr().out


def test_a_sweep_is_diagnosed_by_its_best_run(run_folder, capsys):
    assert main(["diagnose", str(run_folder.parent)]) == 0
    assert f"best on val: {run_folder.name}" in capsys.readouterr().out


def test_what_does_not_fit_into_the_budget_is_listed(faulty, tmp_path):
    folder = shutil.copytree(faulty[0], tmp_path / "run")
    diagnosis = diagnose(read_run(folder), budget_s=0.0)
    assert {"lr_too_high", "no_normalisation", "undertrained"} <= {left.cause for left in diagnosis.not_run}
    assert all("left" in left.why for left in diagnosis.not_run)
    assert not diagnosis.convicted and not diagnosis.healthy


def test_same_run_gives_the_same_diagnosis(run_folder):
    first, second = (diagnose(read_run(run_folder), page=False) for _ in range(2))
    assert first.verdicts == second.verdicts


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda f: (f / "result.json").unlink(), "not finished"),
        (lambda f: (f / "config.yaml").write_text("lr: ["), "config.yaml"),
        (lambda f: (f / "predictions.parquet").write_bytes(b"PAR1"), "predictions.parquet"),
        (lambda f: (f / "predictions.parquet").unlink(), "predictions.parquet"),
        (lambda f: (f / "checkpoints" / "model.ckpt").unlink(), "model.ckpt"),
    ],
)
def test_damaged_run_is_refused_in_a_line(run_folder, capsys, damage, said):
    damage(run_folder)
    with pytest.raises(SystemExit) as stop:
        main(["diagnose", str(run_folder)])
    assert stop.value.code == 2
    assert said in capsys.readouterr().err


def test_data_that_changed_is_refused(run_folder):
    result = json.loads((run_folder / "result.json").read_text())
    (run_folder / "result.json").write_text(json.dumps(result | {"data_fingerprint": "other"}))
    with pytest.raises(UserError, match="not what it was trained on"):
        diagnose(read_run(run_folder))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["diagnose"], "no run named"),
        (["diagnose", "nowhere"], "nowhere: no such folder"),
        (["diagnose", "RUN", "lr=1e-3"], "another run"),
        (["diagnose", "RUN", "diagnose.budget_minutes=0"], "greater than 0"),
    ],
)
def test_wrong_arguments_are_named(run_folder, capsys, words, said):
    with pytest.raises(SystemExit) as stop:
        main([str(run_folder) if word == "RUN" else word for word in words])
    assert stop.value.code == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("words", [(), ("--fix",)])
def test_a_folder_that_takes_no_diagnosis_is_refused_before_the_work(run_folder, capsys, words):
    (run_folder / "diagnosis").write_text("in the way")
    with pytest.raises(SystemExit) as stop:
        main(["diagnose", str(run_folder), *words])
    assert stop.value.code == 2
    assert "cannot write in" in capsys.readouterr().err


def test_a_record_leaves_a_runs_own_diagnosis_alone(run_folder, capsys):
    (run_folder / "diagnosis.json").write_text("the run's")
    with pytest.raises(SystemExit):
        main(["diagnose", "--from-csv", str(run_folder / "metrics.csv")])
    assert f"diagnose {run_folder}" in capsys.readouterr().err
    assert (run_folder / "diagnosis.json").read_text() == "the run's"


def test_a_record_that_is_no_file_is_refused(tmp_path, capsys):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(SystemExit):
        main(["diagnose", "--from-csv", str(tmp_path / "pipe")])
    assert "no file on the disk" in capsys.readouterr().err


def test_the_answer_is_said_where_it_cannot_be_written(tmp_path, capsys):
    (tmp_path / "report.txt").write_text("test_f1 = 0.0902")
    (tmp_path / "report.diagnosis.json").mkdir()
    with pytest.raises(SystemExit):
        main(["diagnose", "--from-csv", str(tmp_path / "report.txt")])
    printed = capsys.readouterr()
    assert "may be chance" in printed.out and "cannot write" in printed.err


def test_what_is_stopped_is_not_said_to_go_on(run_folder, capsys, monkeypatch):
    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("audioclf.diagnose.diagnose.diagnose", stop)
    assert main(["diagnose", str(run_folder)]) == 130
    assert "begins again" in capsys.readouterr().err


def test_a_new_file_is_a_new_probe(tmp_path, monkeypatch, lab):
    (tmp_path / "too_loud.py").write_text(
        """
from audioclf.diagnose.probe import Probe

class TooLoud(Probe):
    cause = "too_loud"
    title = "it is too loud"

    def examine(self, lab):
        return {"nominated": False, "clips": len(lab.pool)}

    def judge(self, numbers, gap, limits):
        return self.cleared(numbers, f"{numbers['clips']} clips")
"""
    )
    monkeypatch.setattr(probes, "__path__", [str(tmp_path)])
    (probe,) = all_probes()
    measured, seconds, not_run = examine(lab)
    (verdict,) = judge(measured, lab.gap)
    assert isinstance(verdict, Verdict) and verdict.cause == probe.cause == "too_loud"
    assert set(seconds) == {"base", "too_loud"} and not not_run


def test_trials_change_no_random_number_of_the_caller(lab):
    torch.manual_seed(1)
    np.random.seed(1)
    before = torch.get_rng_state(), np.random.get_state()[1]
    _ = lab.base
    assert torch.equal(before[0], torch.get_rng_state())
    assert np.array_equal(before[1], np.random.get_state()[1])


def test_probes_name_themselves_once():
    causes = [probe.cause for probe in all_probes()]
    assert len(causes) == len(set(causes))
    assert all(probe.title for probe in all_probes())
