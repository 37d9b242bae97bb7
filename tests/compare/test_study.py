"""Which folders count as runs of a study, and what is said of those that do not."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from audioclf.compare.compare import compare
from audioclf.compare.read import CannotBeRead, Reader
from audioclf.compare.study import read_study
from audioclf.errors import UserError
from benchmarks.runs import CLASSES, write_run

Damage = Callable[[Path], object]


def changed(**keys: Any) -> Damage:
    """Writes other values into ``result.json``, dotted by ``__``."""

    def change(run: Path) -> None:
        result = json.loads((run / "result.json").read_text())
        for dotted, value in keys.items():
            *path, last = dotted.split("__")
            part = result
            for key in path:
                part = part[key]
            part[last] = value
        (run / "result.json").write_text(json.dumps(result))

    return change


def cut(name: str, share: float = 0.5) -> Damage:
    return lambda run: (run / name).write_bytes((run / name).read_bytes()[: int(share * (run / name).stat().st_size)])


def written(name: str, content: bytes) -> Damage:
    return lambda run: (run / name).write_bytes(content)


def predictions(change: Callable[[pa.Table], pa.Table]) -> Damage:
    path = "predictions.parquet"
    return lambda run: pq.write_table(change(pq.read_table(run / path)), run / path)


def replaced(column: str, value: Any) -> Damage:
    return predictions(
        lambda t: t.set_column(t.column_names.index(column), column, pa.array([value] * len(t), t[column].type))
    )


def missing(*names: str) -> Damage:
    return lambda run: [(run / name).unlink() for name in names]


def unfinished(run: Path) -> None:
    (run / "result.json").rename(run / "config.yaml")


def emptied(run: Path) -> None:
    shutil.rmtree(run)
    run.mkdir()


def in_a_loop(run: Path) -> None:
    shutil.rmtree(run)
    run.symlink_to(run)


BROKEN: dict[str, tuple[Damage, str]] = {
    "truncated result": (cut("result.json"), "cut short"),
    "empty result": (written("result.json", b""), "cut short"),
    "deeply nested result": (written("result.json", b"[" * 100_000), "cut short"),
    "binary result": (written("result.json", bytes(range(256))), "cut short"),
    "foreign result": (written("result.json", b'{"score": 1}'), "none of ours"),
    "a list": (written("result.json", b"[1, 2]"), "none of ours"),
    "no settings": (changed(settings=None), "settings"),
    "no identity": (changed(identity=None), "identity"),
    "odd setting": (changed(settings__lr=[1, 2]), "settings.lr"),
    "a setting too large for a number": (changed(settings__lr=10**400), "settings.lr is missing or wrong"),
    "a NaN setting": (changed(settings__lr=float("nan")), "settings.lr is missing or wrong"),
    "a seed too large": (changed(seed=10**400), "seed is missing or wrong"),
    "NaN val F1": (changed(val__f1_macro=float("nan")), "val F1 is no number"),
    "null test F1": (changed(test__f1_macro=None), "test F1 is no number"),
    "F1 above 1": (changed(test__f1_macro=1.5), "test F1 is no number"),
    "older layout": (changed(layout=1), "an older audioclf"),
    "no layout": (lambda run: written("result.json", b'{"status": "finished"}')(run), "an older audioclf"),
    "newer layout": (changed(layout=3), "a newer audioclf"),
    "layout of another kind": (changed(layout="two"), "layout two"),
    "other F1 than the predictions": (changed(test__f1_macro=0.123456), "the predictions give"),
    "other accuracy than the predictions": (changed(val__accuracy=0.123456), "the predictions give"),
    "no predictions": (missing("predictions.parquet"), "predictions.parquet is missing"),
    "truncated predictions": (cut("predictions.parquet"), "predictions.parquet is cut short"),
    "predictions of zeros": (written("predictions.parquet", bytes(5000)), "predictions.parquet is cut short"),
    "foreign predictions": (predictions(lambda t: t.drop_columns(["split"])), "none of ours"),
    "other label map": (
        predictions(lambda t: t.replace_schema_metadata({"classes": "a\nb"})),
        "another label map",
    ),
    "unknown class": (replaced("predicted", "walrus"), "not in the label map"),
    "target beyond the label map": (replaced("target", len(CLASSES)), "not in the label map"),
    "no test clips": (replaced("split", "val"), "no test clips"),
    "no recordings": (replaced("group", None), "clips of no recording"),
    "unfinished": (unfinished, "not finished"),
    "empty folder": (emptied, "no run in it"),
    "loop of links": (in_a_loop, "leads nowhere"),
    "set aside": (lambda run: run.rename(run.with_name("broken.old1")), "set aside"),
    "a folder for result": (
        lambda run: [(run / "result.json").unlink(), (run / "result.json").mkdir()],
        "cannot be read",
    ),
}


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three runs of two settings; to be copied, not changed."""
    folder = tmp_path_factory.mktemp("good")
    for number, lr in enumerate((1e-3, 1e-3, 1e-4)):
        write_run(folder / f"run{number}", {"lr": lr}, seed=number)
    return folder


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_run_is_named_and_never_counted(good: Path, tmp_path: Path, kind: str) -> None:
    damage, reason = BROKEN[kind]
    folder = Path(shutil.copytree(good, tmp_path / "runs"))
    shutil.copytree(good / "run2", folder / "broken")
    damage(folder / "broken")
    study = read_study([folder])
    assert [run.row.folder.name for run in study.runs] == ["run2", "run0", "run1"]
    (passed,) = study.passed_over
    assert passed.path.name.startswith("broken")
    assert reason in passed.reason


@pytest.mark.parametrize(("name", "step"), [("result.json", 1), ("predictions.parquet", 41)])
def test_every_cut_of_a_file_is_passed_over(good: Path, tmp_path: Path, name: str, step: int) -> None:
    run = Path(shutil.copytree(good / "run0", tmp_path / "run"))
    reader, whole = Reader(), (run / name).read_bytes().rstrip()
    assert reader.read(run).row.seed == 0
    for length in range(0, len(whole), step):
        (run / name).write_bytes(whole[:length])
        with pytest.raises(CannotBeRead, match="cut short"):
            reader.read(run)


def test_recordings_of_any_type_are_names(good: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(good, tmp_path / "runs"))
    number = pa.array(range(400), pa.int64())
    predictions(lambda t: t.set_column(t.column_names.index("group"), "group", number[: len(t)]))(folder / "run0")
    assert sum(len(setting.runs) for setting in compare([folder]).settings) == 3


def test_of_two_runs_alike_the_same_counts_however_their_folders_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for place, skill in (("a", 0.5), ("b", 1.0)):
        write_run(tmp_path / place / "run", {"lr": 1e-3}, skill=skill)
    monkeypatch.chdir(tmp_path / "b")
    for folders in ([tmp_path / "b", tmp_path / "a"], [Path(), Path("../a")], [Path("../a"), tmp_path / "b"]):
        (run,) = read_study(folders).runs
        assert run.row.folder.resolve() == tmp_path / "a" / "run"
    monkeypatch.chdir(tmp_path / "a")
    (run,) = read_study([Path(), Path("../b")]).runs
    assert run.row.folder.resolve() == tmp_path / "a" / "run"


def test_a_diverged_run_counts(good: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(good, tmp_path / "runs"))
    changed(diverged=True, train__f1_macro=None)(folder / "run0")
    comparison = compare([folder])
    assert sum(len(setting.runs) for setting in comparison.settings) == 3
    assert any("1 run diverged and count" in warning for warning in comparison.warnings)


def test_a_run_reached_twice_is_counted_once(good: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(good)
    study = read_study([good, link, good / "run0", good / "../" / good.name])
    assert len(study.runs) == 3 and not study.passed_over
    folder = Path(shutil.copytree(good, tmp_path / "runs"))
    shutil.copytree(good / "run0", folder / "copy")
    study = read_study([folder])
    assert len(study.runs) == 3
    assert [(one.path.name, one.reason.partition(" as ")[0]) for one in study.passed_over] == [("run0", "the same run")]


def test_runs_of_other_data_than_most_are_passed_over(good: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(good, tmp_path / "runs"))
    write_run(folder / "other", {"lr": 1e-3}, seed=7, data="esc50")
    write_run(folder / "fewer", {"lr": 1e-3}, seed=8, classes=CLASSES[:5])
    write_run(folder / "newer", {"lr": 1e-3}, seed=9, change={"data_fingerprint": "changed"})
    study = read_study([folder])
    assert len(study.runs) == 3
    assert {one.path.name: one.reason for one in study.passed_over} == {
        "other": "of other data than most: esc50",
        "fewer": "has another label map than most",
        "newer": "of other audio or splits than most",
    }


def test_folds_have_their_own_data_and_null_is_one_of_them(tmp_path: Path) -> None:
    for fold in (1, 2):
        write_run(tmp_path / f"fold{fold}", {"lr": 1e-3}, fold=fold)
    write_run(tmp_path / "null", {"lr": 1e-3}, seed=1, change={"data_fingerprint": "esc10 1 10"})
    study = read_study([tmp_path])
    assert [run.repetition for run in study.runs] == [(1, 0), (1, 1), (2, 0)]


def test_a_sweep_names_its_runs(good: Path, tmp_path: Path) -> None:
    outputs = Path(shutil.copytree(good, tmp_path / "outputs"))
    sweep = outputs / "sweeps" / "first"
    sweep.mkdir(parents=True)
    content = {
        "layout": 1,
        "keys": ["lr"],
        "baseline": {"lr": 0.001},
        "runs": ["../../run0", "../../run2", "../../gone", "../../lost"],
        "failed": [{"run": "lost", "overrides": "lr=1", "error": "out of memory\ntraceback"}],
        "pruned": [{"run": "run1", "overrides": "lr=1e-6", "epoch": 3, "val_f1_macro": 0.1}],
    }
    (sweep / "sweep.json").write_text(json.dumps(content))
    comparison = compare([sweep])
    assert {run.folder for setting in comparison.settings for run in setting.runs} == {
        outputs / "run0",
        outputs / "run2",
    }
    assert comparison.baseline.values == {"lr": 0.001}
    assert {one.path.name: one.reason for one in comparison.passed_over}["run1"] == "pruned after epoch 3"
    assert sorted(one.path.name for one in comparison.passed_over) == ["gone", "run1"]
    assert not [line for line in comparison.warnings if "of the sweep" in line], "a search looked beyond the edge"
    assert "1 run failed, not counted: lr=1: out of memory" in comparison.warnings
    assert len(read_study([outputs]).runs) == 3 and not read_study([outputs]).passed_over, "sweeps/ is no run"
    (sweep / "sweep.json").write_text(json.dumps(content)[:-20])
    with pytest.raises(UserError, match=r"sweep\.json is cut short"):
        compare([sweep])


@pytest.mark.parametrize(
    ("name", "said"), [("nowhere", "no such folder"), ("empty", "no runs in it"), ("file", "no such")]
)
def test_nothing_to_compare(tmp_path: Path, name: str, said: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=said):
        compare([tmp_path / name])


def test_a_folder_of_sweeps_names_one(tmp_path: Path) -> None:
    (tmp_path / "first").mkdir()
    (tmp_path / "first" / "sweep.json").write_text("{}")
    with pytest.raises(UserError) as error:
        read_study([tmp_path])
    assert "a folder of sweeps" in str(error.value) and f"compare {tmp_path / 'first'}" in str(error.value.hint)


def test_no_run_that_can_be_compared(good: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(good, tmp_path / "runs"))
    for run in folder.iterdir():
        changed(layout=1)(run)
    with pytest.raises(UserError, match=r"none of 3 folders holds a run that can be compared.*older audioclf"):
        compare([folder])


def test_runs_are_read_in_any_order(good: Path, tmp_path: Path) -> None:
    names = ["run0", "run1", "run2"]
    studies = [read_study([good / name for name in order]) for order in (names, names[::-1])]
    first, second = ([run.identity for run in study.runs] for study in studies)
    assert first == second
