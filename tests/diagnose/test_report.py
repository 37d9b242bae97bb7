"""What a diagnosis prints at 80 columns, and the files that stay."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from audioclf.diagnose import report
from audioclf.diagnose.diagnosis import Diagnosis, NotRun
from audioclf.diagnose.report import percent, print_diagnosis, share_text, write_diagnosis
from audioclf.diagnose.verdict import Gap, Verdict
from audioclf.errors import UserError

LONG = "features.normalisation=per_band instead of none: F1 0.07 -> 0.29 (+0.22 [0.09, 0.36]) on " + "x" * 90
COMMAND = "python train.py data=esc10 data.root=/some/where lr=1e-5 epochs=50 features.normalisation=per_band"
TITLES = {"lr_too_high": "the learning rate is too high", "bad_clips": "clips are [silent] or broken"}


def verdict(cause, status, share=None, interval=None, evidence=("found 0.02 against 0.10",), mend=None):
    return Verdict(cause, status, share, interval, list(evidence), mend, {"x": 0.02})


SICK = Diagnosis(
    run="no/such/run",
    summary="The F1 of 0.08 is what it is because the learning rate is too high (78%).",
    healthy=False,
    verdicts=[
        verdict(
            "lr_too_high", "explains", 0.784, (0.61, 1.0), ["lr=1e-5 instead of 0.01: F1 0.08 -> 0.63"], ["lr=1e-5"]
        ),
        verdict("no_normalisation", "contributes", 0.306, (0.12, 0.5), [LONG], ["features.normalisation=per_band"]),
        verdict(
            "bad_clips", "contributes", 0.2, (0.1, 0.3), ["half are at -80 dBFS"], "listen to [them] and drop them"
        ),
        verdict("label_noise", "undetermined", evidence=["12 % look wrong, 16 % do on clean data"]),
        *(verdict(f"cause_{i}", "cleared") for i in range(12)),
    ],
    gap=Gap(chance=0.1, test=0.083, base=0.07, probe=0.79, reference=0.81),
    steps=[],
    command=COMMAND,
    not_run=[NotRun("frozen_embedding", "takes about 90 s, 12 s are left")],
    seconds={"lr_too_high": 3.0},
    titles=TITLES,
)
HEALTHY = replace(
    SICK,
    summary="Nothing is wrong that was looked for.",
    healthy=True,
    verdicts=[verdict("lr_too_high", "cleared")],
    gap=Gap(chance=0.1, test=0.66, base=0.63, probe=0.8, reference=0.8),
    command=None,
    not_run=[],
)
RECORD = replace(
    HEALTHY, summary="It cannot be told.", healthy=False, gap=None, verdicts=[verdict("overfitting", "undetermined")]
)


@pytest.fixture
def printed(monkeypatch):
    """What is printed, at 80 columns and without colour."""

    def run(diagnosis: Diagnosis) -> str:
        file = io.StringIO()
        monkeypatch.setattr(report, "console", Console(file=file, width=80, highlight=False, emoji=False))
        print_diagnosis(diagnosis)
        return file.getvalue()

    return run


def joined(lines: str) -> str:
    """Without the ends of lines, so that a wrapped sentence is found whole."""
    return "".join(lines.split())


def test_it_prints_every_part_and_each_sentence_whole(printed):
    said = printed(SICK)
    for part in (
        *(SICK.summary, "78 % [61, 100]", "31 % [12, 50]", LONG, "lr=1e-5 instead of 0.01: F1 0.08 -> 0.63"),
        *("clips are [silent] or broken", "listen to [them] and drop them", "12 % look wrong, 16 % do on clean data"),
        *("test F1 0.08", "out of fold 0.07", "best cheap probe 0.79", "best reached 0.81", "guessing 0.10"),
        *("frozen embedding: takes about 90 s, 12 s are left", *(f"cause {i}" for i in range(12))),
    ):
        assert joined(part) in joined(said), part
    lines = said.splitlines()
    assert f"  {COMMAND}" in lines, "the command is one line, to be copied"
    assert max(len(line) for line in lines if COMMAND not in line) <= 80
    assert "…" not in said


def test_a_healthy_run_is_called_so_with_what_could_be_reached(printed):
    said = joined(printed(HEALTHY))
    assert (
        joined(
            "No cause of a low F1 was found. Headroom: 0.80 can be reached on the same clips, 0.17 above its setting out"
        )
        in said
    )
    assert joined("to mend it") not in said
    at_the_top = replace(HEALTHY, gap=Gap(chance=0.1, test=0.9, base=0.9, probe=0.9, reference=0.9))
    assert "Headroom" not in printed(at_the_top)


def test_a_bare_record_is_not_called_healthy(printed):
    said = printed(RECORD)
    assert "No cause can be named." in said
    assert "test F1" not in said and "Headroom" not in said


def test_what_a_record_says_nothing_of_is_one_sentence(printed):
    lacking = [verdict(f"cause_{i}", "undetermined", evidence=["not to be told without the clips"]) for i in range(9)]
    said = joined(printed(replace(RECORD, verdicts=[*RECORD.verdicts, *lacking])))
    assert joined(f"the record says nothing of: {', '.join(f'cause {i}' for i in range(9))}") in said
    assert joined("not to be told without") not in said
    assert joined("- overfitting: found 0.02") in said


def test_only_a_run_has_errors_to_listen_to(printed, tmp_path: Path):
    record = replace(RECORD, run=str(tmp_path / "a.csv"))
    write_diagnosis(record, tmp_path)
    assert "listen" not in printed(record) and str(tmp_path / "diagnosis.html") in printed(record)


def test_a_share_is_a_percentage_with_its_interval():
    assert share_text(verdict("a", "explains", 0.784, (0.61, 1.0))) == "78 % [61, 100]"
    assert share_text(verdict("a", "contributes", 0.2, (-0.05, 0.3))) == "20 % [−5, 30]"
    assert share_text(verdict("a", "cleared")) == "–"
    assert percent(-0.001) == "0"


def test_the_files_are_written_and_hold_the_diagnosis(printed, tmp_path: Path):
    page = write_diagnosis(SICK, tmp_path)
    content = json.loads((tmp_path / "diagnosis.json").read_text())
    assert content == SICK.to_dict() | {"gap": content["gap"], "verdicts": content["verdicts"]}
    assert content["gap"]["reference"] == 0.81
    assert [one["share"] for one in content["verdicts"][:4]] == [0.784, 0.306, 0.2, None]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["diagnosis.html", "diagnosis.json"]
    assert str(page) in printed(replace(SICK, run=str(tmp_path)))


def test_a_folder_that_cannot_be_written_to_is_a_users_error(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write"):
        write_diagnosis(SICK, tmp_path / "file")
