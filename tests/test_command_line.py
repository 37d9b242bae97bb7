"""The command line as a person meets it: exit codes, one line of error, and nothing left behind."""

import runpy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from audioclf.command_line import check_command_line
from audioclf.console import show_error, user_errors
from audioclf.errors import UserError

WriteFile = Callable[..., Path]


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("AUDIOCLF_DATA", "AUDIOCLF_CACHE", "AUDIOCLF_OUTPUTS"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def train(tmp_path: Path, checkout: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs ``python train.py`` with overrides in an empty folder."""

    def run(*overrides: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(checkout / "train.py"), *overrides]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)

    return run


# --- the real command ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("overrides", "lines"),
    [
        (["lr=1e-4", "optimizer.lr=0.5"], ["error: optimizer.lr=0.5: no such key", "hint:  did you mean lr?"]),
        (["-m", "lr=1e-3,-1"], ["error: lr=-1: expected a value greater than 0"]),
    ],
)
def test_a_bad_command_ends_with_2_a_line_or_two_and_no_folder(
    overrides: list[str], lines: list[str], train: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    done = train(*overrides)
    assert done.returncode == 2
    assert done.stdout == ""
    shown = done.stderr.splitlines()
    assert [line[: len(start)] for line, start in zip(shown, lines, strict=True)] == lines
    assert list(tmp_path.iterdir()) == []


def test_a_bad_row_found_after_the_start_ends_with_2_and_leaves_no_run(
    checkout: Path, write_file: WriteFile, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    table = write_file("clips.csv", "path,end,label\na.wav,0,dog\n")
    monkeypatch.setattr(sys, "argv", ["train.py", "data=csv", f"data.csv={table.name}"])
    with pytest.raises(SystemExit) as caught:  # in this process: a new one would import torch again
        runpy.run_path(str(checkout / "train.py"), run_name="__main__")
    assert caught.value.code == 2
    assert capsys.readouterr().err.splitlines() == [
        "error: clips.csv:2: column end: 0 s is not after start = 0 s",
        "hint:  mend the table, or go on without: data.on_bad_row=skip",
    ]
    assert list(Path("outputs").iterdir()) == []


# --- its check, in process -------------------------------------------------------------------------------------------


def refusal(*argv: str) -> UserError:
    with pytest.raises(UserError) as caught:
        check_command_line(argv)
    return caught.value


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["epochs=0"], "epochs=0: expected a value of at least 1"),
        (["-m", "epochs=choice(3,0)", "lr=1e-3,1e-4"], "epochs=0: expected a value of at least 1"),
        (["-m", "lr=1e-3,1e-4", "epochs=range(2,-1,-2)"], "epochs=0: expected a value of at least 1"),
        (
            ["-m", "seed=0,1", "model=linear,rnn"],
            "model=rnn: no such choice; expected one of attention_pool, audio_classifier, cnn, finetune, linear",
        ),
        (["-m", "optimizer.lr=1,2"], "optimizer.lr=1: no such key; expected one of the configuration's keys"),
        (["-m", "data=glob(*)"], "data.csv: missing; expected text"),
        (["-m", "data=glob(x*)"], "data=glob(x*): nothing to sweep over"),
        (["-m", "seed=range(3,3)"], "seed=range(3,3): nothing to sweep over"),
        (["-m", "lr=interval(1,2)"], "lr=interval(1,2): an interval; expected values: a,b,c"),
        (["lr=1e-3,1e-4"], "lr=1e-3,1e-4: several values; expected one"),
        (["--config-name", "other"], "Cannot find primary config 'other'. Check that it's in your config search path."),
    ],
)
def test_every_run_of_a_command_is_checked(argv: list[str], message: str) -> None:
    assert refusal(*argv).message == message


@pytest.mark.parametrize(
    "argv",
    [
        [],
        ["-m", "lr=1e-3,1e-4", "model=glob(l*)", "hydra.sweep.dir=here"],
        ["--help", "lr=-1"],
        ["--hydra-help"],
        ["--info", "all"],
    ],
)
def test_a_good_command_and_questions_pass(argv: list[str]) -> None:
    check_command_line(argv)


def test_a_folder_without_its_table_is_refused_before_a_run_folder_is_made(tmp_path: Path) -> None:
    error = refusal("data=esc10", f"data.root={tmp_path}")
    assert error.message.startswith(f"data.root={tmp_path}: neither meta.csv nor meta/esc50.csv")
    assert error.hint == "data.root=DIR names the folder that holds audio/"


def test_nothing_in_an_error_is_taken_for_markup(capsys: pytest.CaptureFixture[str]) -> None:
    show_error(UserError(r"clips.csv:100: column label: '[red]\[b]' :cat:", "C:\\"))
    assert capsys.readouterr().err == (
        "error: " + r"clips.csv:100: column label: '[red]\[b]' :cat:" + "\nhint:  C:\\\n"
    )


def test_a_long_error_stays_on_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    show_error(UserError("word " * 100))
    assert capsys.readouterr().err.count("\n") == 1


def test_a_user_error_ends_with_exit_code_2() -> None:
    with pytest.raises(SystemExit) as caught, user_errors():
        raise UserError("no")
    assert caught.value.code == 2
