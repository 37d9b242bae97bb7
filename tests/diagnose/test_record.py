"""Bare records: which files are read and how, what they tell alone, and what they leave undetermined."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, f1_score

import audioclf.diagnose
from audioclf.cli import main
from audioclf.diagnose.diagnosis import Diagnosis
from audioclf.diagnose.record import NEEDS, TRAIN, TRAIN_IT, diagnose_record
from audioclf.diagnose.record_reader import Figures, Predictions, measure_of, read_record
from audioclf.errors import UserError

Write = Callable[..., Path]
GOLDEN = Path(__file__).with_name("lab_report_verdicts.json")
CLASSES = ("cat", "cow", "dog", "hen", "pig")


def verdicts(diagnosis: Diagnosis) -> dict[str, Any]:
    return {verdict.cause: verdict for verdict in diagnosis.verdicts}


@pytest.fixture
def record(write_file: Write) -> Callable[..., Diagnosis]:
    """Diagnoses predictions that are right with a given probability: ``record(right=0.7)``."""

    def make(
        right: float, clips: int = 200, change: Callable[[str], str] = str, header: str = "label,predicted"
    ) -> Any:
        rng = np.random.default_rng(0)
        lines = [header]
        for i in range(clips):
            label = CLASSES[i % 5]
            guess = label if rng.random() < right else str(rng.choice(CLASSES))
            lines.append(f"{label},{change(guess)}")
        return diagnose_record(write_file("predictions.csv", "\n".join(lines)))

    return make


# --- the lab report --------------------------------------------------------------------------------------------------


def test_the_lab_reports_own_figures_are_undetermined_word_for_word() -> None:
    shipped = Path(audioclf.diagnose.__file__).with_name("lab_report.csv")
    assert read_record(shipped) == Figures({"train_loss": [0.353, 0.086, 0.315], "test_f1": [0.0902]})
    diagnosis = diagnose_record(shipped)
    assert not diagnosis.healthy and diagnosis.gap is None and diagnosis.command is None and not diagnosis.steps
    said = {
        "summary": diagnosis.summary,
        "verdicts": {
            verdict.cause: {"status": verdict.status, "evidence": verdict.evidence, "next": verdict.next}
            for verdict in diagnosis.verdicts
            if verdict.cause in NEEDS
        },
    }
    assert said == json.loads(GOLDEN.read_text())
    assert {verdict.status for verdict in diagnosis.verdicts} == {"undetermined"}
    json.dumps(diagnosis.to_dict(), allow_nan=False)


def test_what_a_report_would_have_needed_to_say(write_file: Write) -> None:
    def of(text: str) -> Diagnosis:
        return diagnose_record(write_file("report.txt", text))

    chance = of("test_f1 = 0.0902\nnum_classes = 10\n")
    assert chance.summary.startswith("Test F1 0.0902 may be chance: guessing evenly among 10 classes scores about 0.1.")
    assert of("test_f1 = 0.3\nnum_classes = 10\n").summary.startswith("Test F1 0.3 is above what guessing evenly")
    low = verdicts(of("train_f1 = 0.12\ntest_f1 = 0.09\n"))["overfitting"]
    assert low.status == "cleared" and low.evidence == [
        "train F1 0.12, test 0.09: overfitting needs a high one on train"
    ]
    fitted = verdicts(of("train_f1: 0.98\ntest_f1: 0.60\n"))
    assert (
        fitted["overfitting"].status == "undetermined"
        and "a gap alone proves nothing" in fitted["overfitting"].evidence[0]
    )
    assert fitted["model_too_small"].status == fitted["undertrained"].status == "cleared"
    diverged = verdicts(of("train_loss = 2.3, nan, nan\ntest_f1 = 0.02"))["lr_too_high"]
    assert diverged.evidence[0].startswith("the train loss is no finite number in epoch 2")
    fell = verdicts(of("train_loss = 2.3, 1.1\nval_f1 = 0.2, 0.6, 0.4\ntest_f1 = 0.5"))
    assert not any("rose" in said for said in fell["lr_too_high"].evidence)
    assert "val F1 0.60 at its peak (epoch 2), 0.40 at the end" in fell["overfitting"].evidence[1]


# --- predictions -----------------------------------------------------------------------------------------------------


def test_a_train_score_is_not_called_missing_where_it_stands(write_file: Write) -> None:
    def overfitting(text: str) -> Any:
        return verdicts(diagnose_record(write_file("report.txt", text)))["overfitting"]

    alone = overfitting("train_f1 = 0.99\n")
    assert alone.status == "undetermined" and alone.evidence[0].startswith("train F1 0.99, and no other is in it")
    beside_val = overfitting("val_f1 = 0.3, 0.5, 0.2\ntrain_f1 = 0.99\n")
    assert beside_val.status == "undetermined" and beside_val.evidence[0].startswith("train F1 0.99, val 0.20")
    assert overfitting("val_f1 = 0.3, 0.5, 0.2\ntrain_f1 = 0.25\n").status == "cleared"


def test_the_highest_score_needs_no_explanation(record: Callable[..., Diagnosis], write_file: Write) -> None:
    best = record(right=1.0)
    assert best.summary.endswith("guessing scores 0.20. There is nothing to explain.")
    assert best.healthy and {verdict.status for verdict in best.verdicts} == {"cleared"} and "missing" not in best.facts
    figures = diagnose_record(write_file("report.txt", "test_f1 = 1.0\n"))
    assert figures.healthy and figures.summary.endswith("nothing to explain.")
    assert "Missing: " in record(right=0.98).summary and not record(right=0.98).healthy


@pytest.mark.parametrize(
    ("rows", "doubt"),
    [
        (["{0},{0},train,r{1}"], "no clip of it was held out of training"),
        (
            ["{0},{0},train,r{1}", "{0},{0},test,r{1}"],
            "30 of 30 scored clips are of recordings that stand in train, too",
        ),
    ],
)
def test_the_highest_score_may_yet_mislead(write_file: Write, rows: list[str], doubt: str) -> None:
    lines = ["label,predicted,split,group", *(row.format(CLASSES[i % 5], i) for i in range(30) for row in rows)]
    diagnosis = diagnose_record(write_file("a.csv", "\n".join(lines)))
    assert not diagnosis.healthy and f"No score is higher, but {doubt}." in diagnosis.summary


def test_a_high_score_is_not_called_low(record: Callable[..., Diagnosis], write_file: Write) -> None:
    high = verdicts(diagnose_record(write_file("report.txt", "test_f1 = 0.91\n")))["overfitting"]
    assert high.status == "cleared" and "far above" in high.evidence[0]
    for right, blamed in ((0.98, False), (0.6, True)):
        unsplit = record(right=right)
        assert ("nor whether it is overfitting" in unsplit.summary) is blamed
        assert "which rows were trained on is not said" in verdicts(unsplit)["overfitting"].evidence[0]
        assert "test" not in verdicts(unsplit)["overfitting"].evidence[0]


def test_a_sentence_is_said_once_and_with_what_is_missing(write_file: Write) -> None:
    def of(sizes: list[int]) -> Diagnosis:
        rows = [(CLASSES[c], split) for c, size in enumerate(sizes) for split in ("train", "test") for _ in range(size)]
        lines = [f"{label},{label if i % 3 else 'cat'},{split},r{i}" for i, (label, split) in enumerate(rows)]
        return diagnose_record(write_file("a.csv", "\n".join(["label,predicted,split,group", *lines])))

    for sizes, asked, said in (
        ([21, 24, 24], "too_few_clips", "classes have 21 (cat) to 24 (cow) clips in training"),
        ([5, 24, 24], "class_imbalance", "classes have 5 (cat) to 24 (cow) clips in training"),
    ):
        diagnosis = of(sizes)
        assert [v.cause for v in diagnosis.verdicts if said in v.evidence] == [asked]
        assert verdicts(diagnosis)["leakage"].evidence[0] == (
            "none by the column of recordings; the same sound under two names takes the audio, which is missing"
        )


def test_several_labels_in_a_cell_are_no_class_of_their_own(write_file: Write) -> None:
    def of(mark: str, rows: Sequence[str], times: int = 20) -> Diagnosis:
        lines = [f"{row},r{i}" for i in range(times) for row in rows]
        return diagnose_record(
            write_file("a.csv", "\n".join(["label\tpredicted\tgroup", *lines]).replace("/", mark).replace(",", "\t"))
        )

    rows = ["dog/cat,dog", "cat,cat", "dog,dog/cat"]
    for mark in (";", "|", " , ".replace(",", "|")):
        diagnosis = of(mark, rows)
        first = diagnosis.verdicts[0]
        assert first.cause == "multi_label" and first.status == "explains"
        assert first.evidence[0] == f"20 of 60 clips have several labels in one cell, e.g. dog{mark}cat"
        assert first.numbers["effect"]["after"] == 1 and verdicts(diagnosis)["label_map"].status == "undetermined"
    assert of(";", rows, times=1).verdicts[0].cause == "multi_label"
    whole = of(";", ["rain; heavy,wind", "wind,wind", "rain; heavy,rain; heavy"])
    assert verdicts(whole)["multi_label"] in whole.unmentioned, "no part of it is a class"


def test_a_share_says_of_what(record: Callable[..., Diagnosis]) -> None:
    after = dict(zip(CLASSES, CLASSES[1:] + CLASSES[:1], strict=True))
    diagnosis = record(right=0.8, change=after.__getitem__)
    assert "% of the gap to a perfect F1 of 1)" in diagnosis.summary
    assert "to a perfect F1 of 1; each clip" in verdicts(diagnosis)["label_map"].evidence[0]


def test_indices_beside_names_are_places_in_the_alphabet_and_that_is_said(record: Callable[..., Diagnosis]) -> None:
    diagnosis = record(right=0.8, change=lambda guess: str(CLASSES.index(guess)))
    assert diagnosis.facts["f1_macro"] > 0.7 and "numbers, read as places among the 5 names" in diagnosis.summary
    other = record(right=0.8, change=lambda guess: str((CLASSES.index(guess) + 1) % 5))
    assert not other.convicted and verdicts(other)["label_map"].numbers["effect"]["after"] > 0.7


def test_a_runs_own_predictions_score_as_the_run_does(finished_run: Path, tmp_path: Path) -> None:
    result = json.loads((finished_run / "result.json").read_text())
    table = pq.read_table(finished_run / "predictions.parquet")
    for name, columns in (("all", table.column_names), ("lists", ["group", "split", "target", "logits"])):
        pq.write_table(table.select(columns), tmp_path / f"{name}.parquet")
        facts = diagnose_record(tmp_path / f"{name}.parquet").facts
        assert facts["f1_macro"] == pytest.approx(result["test"]["f1_macro"])
        assert facts["interval"] == pytest.approx(result["interval"]["f1_macro"])


def test_each_record_has_files_of_its_own(write_file: Write, capsys: pytest.CaptureFixture[str]) -> None:
    for name, f1 in (("a.csv", 0.1), ("b.csv", 0.2)):
        path = write_file(name, f"test_f1 = {f1}\n")
        assert main(["diagnose", "--from-csv", str(path)]) == 0
        printed = capsys.readouterr().out
        for suffix in (".diagnosis.json", ".diagnosis.html"):
            assert path.with_suffix(suffix).exists() and f"{path.stem}{suffix}" in printed
        assert TRAIN[1] in printed
    assert {path.name for path in path.parent.iterdir() if "diagnosis" in path.name} == {
        *("a.diagnosis.json", "a.diagnosis.html", "b.diagnosis.json", "b.diagnosis.html")
    }
    assert json.loads(path.with_suffix(".diagnosis.json").read_text())["run"] == str(path)


@pytest.mark.parametrize(
    ("words", "message", "hint"),
    [
        (["FILE"], "a file; expected a run's folder", "--from-csv FILE"),
        (
            ["RUN", "data.root=/nope"],
            "data.root=/nope: no such key, as this run's data is data=demo",
            "leave data.root out",
        ),
    ],
)
def test_what_was_meant_is_suggested(
    finished_run: Path, write_file: Write, capsys: pytest.CaptureFixture[str], words: list[str], message: str, hint: str
) -> None:
    given = {"FILE": str(write_file("a.csv", "test_f1 = 0.1\n")), "RUN": str(finished_run)}
    with pytest.raises(SystemExit):
        main(["diagnose", *(given.get(word, word) for word in words)])
    said = capsys.readouterr().err
    assert message in said and hint.replace("FILE", given["FILE"]) in said


def test_scores_are_scikit_learns(record: Callable[..., Diagnosis], write_file: Write) -> None:
    facts = record(right=0.6).facts
    rows = [line.split(",") for line in write_file("x").with_name("predictions.csv").read_text().split()[1:]]
    true, predicted = zip(*rows, strict=True)
    assert facts["f1_macro"] == pytest.approx(f1_score(true, predicted, average="macro"))
    assert facts["f1_weighted"] == pytest.approx(f1_score(true, predicted, average="weighted"))
    assert facts["accuracy"] == pytest.approx(accuracy_score(true, predicted))
    assert facts["interval"][0] < facts["f1_macro"] < facts["interval"][1]
    assert np.sum(facts["confusion"]) == 200 and facts["chance"]["majority"] == pytest.approx(1 / 15)


def test_a_sound_record_is_convicted_of_nothing_and_what_needs_the_run_is_undetermined(
    record: Callable[..., Diagnosis],
) -> None:
    diagnosis = record(right=0.6)
    found = verdicts(diagnosis)
    assert not diagnosis.convicted and not diagnosis.healthy
    assert {cause for cause, verdict in found.items() if verdict.status == "cleared"} == {
        *("metric", "no_signal", "collapsed", "label_map")
    }
    assert found["lr_too_high"].next == TRAIN_IT
    assert found["lr_too_high"].evidence == ["not to be told without the settings, the clips themselves"]
    assert "the predictions" not in diagnosis.summary.partition("Missing")[2]


def test_guesses_are_not_told_from_chance(record: Callable[..., Diagnosis]) -> None:
    diagnosis = record(right=0.0)
    assert "not told apart from chance" in diagnosis.summary and not diagnosis.convicted
    assert verdicts(diagnosis)["metric"].status == "undetermined"
    assert verdicts(diagnosis)["no_signal"].status == "undetermined"
    effect = verdicts(diagnosis)["label_map"].numbers["effect"]
    assert effect["low"] < 0, "names chosen by other clips cannot make sense of guesses"


def test_collapsed_predictions_are_seen(record: Callable[..., Diagnosis]) -> None:
    collapsed = verdicts(record(right=0.1, change=lambda guess: "cow" if guess != "hen" else guess))["collapsed"]
    assert collapsed.status == "undetermined" and "are cow" in collapsed.evidence[0] and collapsed.numbers["symptom"]


def test_a_permuted_label_map_is_named_and_random_ones_are_not(record: Callable[..., Diagnosis]) -> None:
    after = dict(zip(CLASSES, CLASSES[1:] + CLASSES[:1], strict=True))
    diagnosis = record(right=0.8, change=after.__getitem__)
    found = verdicts(diagnosis)["label_map"]
    assert [verdict.cause for verdict in diagnosis.convicted] == ["label_map"] and found.status == "explains"
    effect = found.numbers["effect"]
    assert effect["before"] < 0.1 and effect["after"] > 0.75
    assert found.share == pytest.approx(effect["gain"] / (1 - effect["before"]))
    assert found.next is not None and "predicted cat -> pig, cow -> cat" in found.next
    assert verdicts(record(right=0.8, clips=15, change=after.__getitem__))["label_map"].status == "undetermined"


def test_splits_and_recordings_are_used_where_they_are_said(write_file: Write) -> None:
    lines = ["Clip ID;True Label;Pred;Subset;Recording"]
    for i in range(200):
        label, test = CLASSES[i % 5], i >= 120
        wrong = CLASSES[(i + 1) % 5]
        seen = test and i < 140
        guess = label if not test or seen or i % 2 else wrong
        lines.append(f"c{i};{label};{guess};{'Testing' if test else 'train'};r{i - 120 if seen else i}")
    diagnosis = diagnose_record(write_file("a.csv", "\n".join(lines)))
    found = verdicts(diagnosis)
    assert diagnosis.facts["split"] == "test" and diagnosis.facts["clips"] == {"train": 120, "test": 80}
    assert found["undertrained"].status == found["model_too_small"].status == "cleared"
    assert found["overfitting"].evidence[0].startswith("train F1 1.00, test 0.6")
    assert found["leakage"].evidence[0] == (
        "20 of 80 scored clips are of recordings that stand in train, too: F1 1.00 on these, 0.50 on the others"
    )
    assert found["too_few_clips"].evidence[0] == "each class that is there has 24 clips in training"


def test_a_million_rows_take_seconds(write_file: Write) -> None:
    rng = np.random.default_rng(0)
    true = rng.integers(10, size=1_000_000)
    predicted = np.where(rng.random(len(true)) < 0.5, true, rng.integers(10, size=len(true)))
    body = "\n".join(f"{a},{b}" for a, b in zip(true.tolist(), predicted.tolist(), strict=True))
    path = write_file("big.csv", f"y_true,y_pred\n{body}\n")
    started = time.monotonic()
    facts = diagnose_record(path).facts
    assert time.monotonic() - started < 20
    assert facts["f1_macro"] == pytest.approx(f1_score(true, predicted, average="macro"))
    assert facts["interval"][0] < facts["f1_macro"] < facts["interval"][1]


# --- which files are read --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "targets", "predicted", "classes"),
    [
        ("label,predicted\ndog,cat\ncat,cat\n", [1, 0], [0, 0], ["cat", "dog"]),
        ("\ufeffTarget;Prediction\r\ndog;cat\r\ncat;cat\r\n", [1, 0], [0, 0], ["cat", "dog"]),
        ('y_true\ty_pred\n10\t"2"\n 2 \t10.0\n', [1, 0], [0, 1], ["2", "10"]),
        ("target,label,predicted\n0,dog,cat\n1,cat,cat\n", [1, 0], [0, 0], ["cat", "dog"]),
        ("label,prob_Dog,prob_Cat\nDog,.1,.9\nCat,.3,.7\n", [1, 0], [0, 0], ["Cat", "Dog"]),
        ("y_true,y_pred\n0,0.2\n1,0.7\n1,0.4\n", [0, 1, 1], [0, 1, 0], ["0", "1"]),
        ("label,predicted\ndog,0\ncat,0.0\n", [1, 0], [0, 0], ["cat", "dog"]),
        ('label,logits\ndog,"[0.1, -2.0]"\ncat,"[-1 3e-1]"\n', [1, 0], [0, 1], ["cat", "dog"]),
        ('label,predicted\n"rain, heavy",wind\nwind,"rain, heavy"\n', [0, 1], [1, 0], ["rain, heavy", "wind"]),
    ],
)
def test_tables_of_predictions(
    write_file: Write, content: str, targets: list[int], predicted: list[int], classes: list[str]
) -> None:
    record = read_record(write_file("p.csv", content))
    assert isinstance(record, Predictions) and record.classes == classes
    assert record.targets.tolist() == targets and record.predicted.tolist() == predicted


@pytest.mark.parametrize(
    ("content", "curves", "num_classes"),
    [
        (
            "epoch,accuracy,loss,val_accuracy,val_loss\n0,.5,1,.4,2\n1,.6,nan,.4,3\n",
            {"train_accuracy": [0.5, 0.6]},
            None,
        ),
        ("epoch,train_loss\n1,0.3\n2,0.1\ntest_f1,0.09\n", {"train_loss": [0.3, 0.1], "test_f1": [0.09]}, None),
        ("epoch,train_loss,lr\n1,0.3,1\ntest_f1,9%\nclasses,10\n", {"train_loss": [0.3], "test_f1": [0.09]}, 10),
        ("train_loss,0.3,0.1\ntest_f1,0.09\n", {"train_loss": [0.3, 0.1], "test_f1": [0.09]}, None),
        ("train_loss;0,3;0,1\ntest_f1;0,09\n", {"train_loss": [0.3, 0.1], "test_f1": [0.09]}, None),
        ("metric,value\nmodel,cnn\ntest macro-F1,9.02%\nnum_classes,10\n", {"test_f1": [0.0902]}, 10),
        ("# a report\ntrain_loss = [0.353, 0.086]\nF1: 0.09\nlr = 1e-2\n", {"train_loss": [0.353, 0.086]}, None),
        ("epoch;train/loss;test/f1\n1;0,353;\n2;0,086;0,09\n", {"train_loss": [0.353, 0.086], "test_f1": [0.09]}, None),
    ],
)
def test_tables_of_numbers(
    write_file: Write, content: str, curves: dict[str, list[float]], num_classes: int | None
) -> None:
    record = read_record(write_file("r.csv", content))
    assert isinstance(record, Figures) and record.num_classes == num_classes
    assert {name: record.curves[name] for name in curves} == curves


def test_columns_are_known_by_the_names_people_give_them() -> None:
    named = {"train_loss": "train_loss", "Validation/F1-macro": "val_f1", "test_acc": "test_accuracy", "loss": "_loss"}
    named |= {"f1_weighted_test": "test_f1_weighted", "val categorical_accuracy": "val_accuracy"}
    assert {name: measure_of(name) for name in named} == named
    assert [measure_of(name) for name in ("epoch", "lr", "seconds", "train_val_loss", "loss_ratio")] == [None] * 5


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "empty"),
        (" \n\n", "empty"),
        (b"\x00\x01\x02", "binary, not text"),
        (b"PAR1 and no more", "not a Parquet table"),
        ('{"train_loss": [0.3], "test_f1": 0.09}', "JSON; expected"),
        ('{"label": "dog", "predicted": "cat"}\n{"label": "cat"}\n', "JSON; expected"),
        ("# a log\nEpoch 1: loss 0.353\nEpoch 2: loss 0.086\n", ":2: Epoch 1: loss 0.353: a line of a log"),
        ("train_loss = 0.3\nEpoch 2: loss 0.086 f1 high\nf1 = x\n", ":3: f1: x; expected a number"),
        ("epoch,train_loss\n1,0.3\nlast,0.1\n", ":3: epoch: last; expected a number"),
        (",f1-score,support\ncat,0.1,3\nmacro avg,0.2,3\n", "cat; expected a number"),
        ("epoch,phase,loss\n1,train,0.3\n1,val,0.4\n", ":2: phase: train; expected one row for each epoch"),
        ("epoch,train_loss\n1,0.3,5\n", ":2: a row has 3 cells where the header has 2"),
        ('label,predicted\n"a\nb",c\nd,e,f\n', ":4: a row has 3 cells"),
        ('label,logits\ndog,"[0.1, 0.2]"\ncat,"[0.1]"\n', "row 2: column logits: [0.1]; expected a list of 2 numbers"),
        ("label,logits\ndog,0.1\ncat,0.2\n", "a column logits without lists"),
        ("label,predicted\nd\u00f6g,cat\n".encode("latin-1"), "not UTF-8"),
        ("label,predicted\n", "a header and no rows"),
        ("label\ndog\n", "a column label and no column predicted"),
        ("path,predicted\na,dog\n", "a column predicted and no column label"),
        ("hello world\nand so on\n", "neither predictions nor a report's numbers"),
        ("label,label,predicted\na,b,c\n", "stands twice"),
        ("label,predicted\ndog,cat,cow\n", "3 cells where the header has 2"),
        ("label,predicted\ndog,\ncat,dog\n", "row 1: column predicted: is empty"),
        ("label,predicted\ndog,dog\nNaN,dog\n", "row 2: column label: NaN; expected a class"),
        ("label,predicted\ndog,dog\ndog,cat\n", "1 class"),
        ("label,predicted\ndog,hen\ncat,cow\n", "no class in common"),
        ("label,predicted\ndog,1\ncat,2\n", "2 is none of 2 names"),
        ("label,predicted,split\ndog,cat,middle\ncat,cat,test\n", "middle is no split"),
        ("label,prob_dog,prob_cat\ndog,.1,x\ncat,.2,.3\n", "prob_cat: x; expected a number"),
        ("label,prob_dog,prob_cat\ndog,.1,nan\ncat,.2,.3\n", "row 1: column prob_cat: no number"),
        ("label,predicted\n" + "".join(f"{i}.5,{i}.5\n" for i in range(100)), "100 different values in 100 rows"),
        ("epoch,train_loss\n1,high\n", "train_loss: high; expected a number"),
        ("epoch,test_f1\n1,9.02\n", "expected a score from 0 to 1"),
        ("epoch,train_loss\n1,\n", "no loss and no score"),
        ("test_f1 = 0.1\nnum_classes = 1\n", "2 or more"),
        ("test_f1 = 0.1\nand so on\n", "expected KEY = VALUE"),
        ('"label,predicted\ndog,cat\n', "not a CSV table"),
    ],
)
def test_what_cannot_be_read_is_said_in_a_line(write_file: Write, content: str | bytes, message: str) -> None:
    path = write_file("record.csv", content)
    with pytest.raises(UserError) as caught:
        diagnose_record(path)
    assert message in caught.value.message and caught.value.message.startswith(str(path))
    assert "\n" not in caught.value.message
    if "split" in message:
        assert caught.value.hint is not None and "leave it out" in caught.value.hint


def test_no_file_and_a_folder(tmp_path: Path) -> None:
    for path in (tmp_path / "none.csv", tmp_path):
        with pytest.raises(UserError, match="cannot be read"):
            read_record(path)


CELL = st.one_of(
    st.sampled_from(
        ["", "dog", "cat", "0", "1", "1.0", "nan", "inf", "-1", "0.5", "9%", "test", "train", '"', "a b", "1e999"]
    ),
    st.text(max_size=4),
)
NAME = st.one_of(
    st.sampled_from(["label", "predicted", "target", "split", "group", "prob_dog", "prob_cat", "epoch", "train_loss"]),
    st.sampled_from(["test_f1", "val_f1", "metric", "value", "num_classes", "classes", "loss = 1", "f1: 0.2"]),
    st.text(max_size=6),
)


@given(
    header=st.lists(NAME, min_size=1, max_size=5),
    rows=st.lists(st.lists(CELL, min_size=1, max_size=5), max_size=6),
    mark=st.sampled_from([",", ";", "\t", "|", "="]),
    encoding=st.sampled_from(["utf-8", "utf-16", "latin-1"]),
)
def test_any_file_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, header: list[str], rows: list[list[str]], mark: str, encoding: str
) -> None:
    path = tmp_path_factory.getbasetemp() / "wild.csv"
    path.write_bytes("\n".join(mark.join(row) for row in [header, *rows]).encode(encoding, "replace"))
    try:
        record = read_record(path)
    except UserError:
        return
    if isinstance(record, Predictions):
        assert len(record.targets) == len(record.predicted) == len(record.splits) == len(record.groups) > 1
        assert max(record.targets.max(), record.predicted.max()) < len(record.classes)
    else:
        assert record.curves and all(record.curves.values())
    json.dumps(diagnose_record(path).to_dict(), allow_nan=False)
