"""The commands beside training: `python -m audioclf fetch data=links data.csv=TABLE`, `import`, `compare`, `diagnose`, `doctor`.

Those that use a trained model (`predict`, `embed`, `export`) stand in ``audioclf/commands``.
"""

from __future__ import annotations

import argparse
import shlex
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import yaml

from audioclf import __version__, commands
from audioclf.compose import load_config
from audioclf.config import Config, DemoData
from audioclf.console import console, stderr, user_errors
from audioclf.errors import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_OK, UserError, nearest, shown
from audioclf.fetch.reasons import FailureClass

OVERRIDES_HELP = "as for train.py, e.g. data=links data.csv=TABLE"


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command.

    Returns:
        0: done; 1: some files could not be taken, or something is missing (doctor); 2: bad input (raised as
        SystemExit); 75: something can be fetched later; 130: stopped by Ctrl-C.
    """
    parser = _parser()
    arguments, rest = parser.parse_known_args(argv)
    if any(word.startswith("-") for word in rest) or (rest and not {"overrides", "work"} & vars(arguments).keys()):
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    with user_errors():
        try:
            if "work" in arguments:
                return int(arguments.work(arguments, rest))
            if arguments.command == "doctor":
                from audioclf.doctor import doctor

                return doctor([*arguments.overrides, *rest])
            if arguments.command == "import":
                return import_folder(arguments.dir, [*arguments.overrides, *rest])
            if arguments.command == "compare":
                return compare_folders(arguments.dirs, arguments.baseline, arguments.into)
            if arguments.command == "diagnose":
                words = [*arguments.overrides, *rest]
                return diagnose_run(arguments.run, words, record=arguments.from_csv, mend=arguments.fix)
            return fetch(
                [*arguments.overrides, *rest], retry=arguments.retry, plan=arguments.plan, status=arguments.status
            )
        except KeyboardInterrupt:
            kept = (
                "the same command begins again"
                if arguments.command in ("diagnose", *commands.NAMES)
                else "what was finished is kept, the same command continues"
            )
            stderr.print(f"stopped; {kept}", markup=False)
            return EXIT_INTERRUPTED
    raise AssertionError("unreachable")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="audioclf", description="From a table of links to an F1 you can trust.")
    parser.add_argument("--version", action="version", version=__version__)
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    get = subparsers.add_parser(
        "fetch",
        help="fetch the clips of a table of links",
        description=(
            "Fetches the clips of a table of links: of each recording only the bytes that its clips need. What is "
            "there is not fetched again; after an interruption the same command continues. "
            "Exit code 0: nothing is left to try; 75: something can be tried later; 2: bad input."
        ),
    )
    look = get.add_mutually_exclusive_group()
    look.add_argument("--plan", action="store_true", help="say how many bytes and hours it will take; fetch nothing")
    look.add_argument("--status", action="store_true", help="count what there is, by state and class; fetch nothing")
    get.add_argument(
        "--retry",
        action="append",
        default=[],
        metavar="CLASS",
        help=f"try failures of this class again now: {', '.join(FailureClass)}; several by commas",
    )
    take = subparsers.add_parser(
        "import",
        help="take audio that you already hold into the clips of a table",
        description=(
            "Takes audio files of DIR into the clips of a table, through the same checks as everything else. "
            "File names: <id>.*, Y<id>.*, <id>_<start>.*, where id is the clip's or the recording's id."
        ),
    )
    take.add_argument("dir", type=Path, metavar="DIR", help="folder with audio files, searched with its subfolders")
    study = subparsers.add_parser(
        "compare",
        help="say which setting of finished runs is better, by how much, and whether that is more than noise",
        description=(
            "Compares finished runs; trains nothing. DIR is a run, a sweep's folder or a folder of runs. Writes "
            "comparison.csv, runs.csv, comparison.html and figures. "
            "Exit code 0: compared; 2: there is nothing to compare, or bad input."
        ),
    )
    study.add_argument("dirs", type=Path, nargs="+", metavar="DIR", help="e.g. outputs, or outputs/sweeps/NAME")
    study.add_argument(
        "--baseline",
        default="",
        metavar='"KEY=VALUE ..."',
        help='what the others are compared with, e.g. "lr=1e-2 epochs=3"; else the first setting of the sweep',
    )
    study.add_argument(
        "--into", type=Path, metavar="DIR", help="folder to write to; else the first DIR, or that of a run"
    )
    why = subparsers.add_parser(
        "diagnose",
        help="say why the F1 of a finished run is low, with evidence, and what mends it",
        description=(
            "Names the cause of a low F1: probes look for symptoms, short retrainings with one thing changed convict. "
            "What cannot be told is said to be so. Writes diagnosis.json, diagnosis.html and diagnosis/ into the run's "
            "folder. Retraining takes 10 minutes at most; diagnose.budget_minutes=N sets it. "
            "Exit code 0: diagnosed, whatever was found; 1: --fix had nothing to train; 2: bad input."
        ),
        epilog=(
            "examples: python -m audioclf diagnose outputs/RUN diagnose.budget_minutes=5; "
            "python -m audioclf diagnose --from-csv predictions.csv"
        ),
    )
    why.add_argument("run", nargs="?", metavar="DIR", help="a run, or a sweep, whose best run on val is diagnosed")
    why.add_argument(
        "--from-csv",
        type=Path,
        metavar="FILE",
        help=(
            "instead of a run: a table of predictions as CSV or Parquet (columns label and predicted, or scores of each "
            "class; split and recording where known), or a report's numbers (epoch,train_loss,test_f1). Writes "
            "FILE's name with .diagnosis.json and .diagnosis.html beside it"
        ),
    )
    why.add_argument("--fix", action="store_true", help="train what the diagnosis proposes; show before and after")
    commands.add(subparsers)
    look_after = subparsers.add_parser("doctor", help="say what is missing or stale, with the command that mends it")
    for command in (get, take, why, look_after):
        said = (
            "diagnose.budget_minutes=5 (default: 10), or what lies elsewhere now: data.root=DIR"
            if command is why
            else OVERRIDES_HELP
        )
        command.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help=said)
    return parser


def fetch(overrides: Sequence[str], *, retry: Sequence[str] = (), plan: bool = False, status: bool = False) -> int:
    """Fetches the clips of the table that the configuration names, or says what that would take or has brought.

    Raises:
        UserError: an unknown class in ``retry``, or a table without links.
    """
    from audioclf.audio.ledger import LEDGER, Ledger
    from audioclf.audio.store import AudioStore
    from audioclf.clips.links import is_url
    from audioclf.clips.manifest import read_manifest
    from audioclf.fetch.fetch import fetch_clips
    from audioclf.fetch.pace import standing_blocks
    from audioclf.fetch.plan import Plan
    from audioclf.fetch.report import block_lines
    from audioclf.fetch.retry import access_of
    from audioclf.fetch.status import FAILURES_FILE, Status, write_failures

    classes = _failure_classes(retry)
    config = _config_of_a_table(overrides)
    cache = Path(config.paths.cache)
    data = config.data
    if data.multi_label == "error":  # which label counts is a question for training
        data = data.model_copy(update={"multi_label": "first"})
    manifest = read_manifest(data, cache)
    links = [clip for clip in manifest.clips if is_url(clip.source)]
    if not links:
        raise UserError(
            f"{manifest.table}: no links in it; expected http or https addresses", "local files need no fetching"
        )
    for line in manifest.lines():
        console.print(line, markup=False, soft_wrap=True)
    store = AudioStore(cache / "audio")
    with Ledger(cache / LEDGER) as ledger:
        if plan:
            lines = Plan.of(links, store, ledger, config.fetch, classes).lines()
            lines += block_lines(standing_blocks(ledger, classes, time.time()))
        elif status:
            Status.of(links, store, ledger, access_of(config.fetch)).print()
            lines = block_lines(standing_blocks(ledger, frozenset(), time.time()))
        else:
            report = fetch_clips(links, store, ledger, config.fetch, retry=classes, launcher=config.launcher)
            lines = report.summary_lines()
        for line in lines:
            console.print(line, markup=False, soft_wrap=not console.is_terminal)  # a log keeps its lines whole
        if plan:
            return EXIT_OK
        if failed := write_failures(cache / FAILURES_FILE, links, store, ledger):
            console.print(f"the {failed} failures one by one: {cache / FAILURES_FILE}", markup=False, soft_wrap=True)
        return EXIT_OK if status else report.exit_code


def _failure_classes(words: Sequence[str]) -> frozenset[FailureClass]:
    """``["dead,session", "unknown"]`` as classes of failure."""
    known = {kind.value: kind for kind in FailureClass}
    classes = set[FailureClass]()
    for word in ",".join(words).split(",") if words else []:
        if word not in known:
            guess = nearest(word, known)
            raise UserError(
                f"--retry {shown(word)}: no such class of failure; expected one of {', '.join(known)}",
                f"did you mean --retry {guess}?" if guess else None,
            )
        classes.add(known[word])
    return frozenset(classes)


def import_folder(folder: Path, overrides: Sequence[str]) -> int:
    """Takes a folder's audio into the clips that the configuration's ``data`` section names.

    Raises:
        UserError: a folder that is not there, or none of its files belongs to a clip.
    """
    from audioclf.audio.importer import import_clips
    from audioclf.audio.ledger import LEDGER, Ledger
    from audioclf.audio.match import match_files
    from audioclf.audio.store import AudioStore
    from audioclf.clips.manifest import read_manifest

    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; expected one with audio files")
    config = _config_of_a_table(overrides)
    cache = Path(config.paths.cache)
    manifest = read_manifest(config.data, cache)
    files = match_files(manifest.clips, folder)
    if not files.pieces:
        example = manifest.clips[0]
        raise UserError(
            f"{folder}: no file in it is named after a clip of {manifest.table}",
            f"expected names like {example.id}.wav or Y{example.group}.wav",
        )
    with Ledger(cache / LEDGER) as ledger:
        report = import_clips(list(files.pieces), AudioStore(cache / "audio"), ledger, files=files)
    for line in report.summary_lines():
        console.print(line, markup=False)
    return EXIT_OK if not report.unusable else EXIT_FAILED


def compare_folders(folders: Sequence[Path], baseline: str = "", into: Path | None = None) -> int:
    """Compares the finished runs below folders, prints the answer and writes it down.

    Args:
        folders: runs, folders of sweeps, or folders of runs.
        baseline: keys and values of the setting to compare with, as on a command line; empty: chosen.
        into: folder to write to; None: the first folder, or the one that it lies in where it is a run.

    Raises:
        UserError: nothing can be compared, no setting is the baseline, or nothing can be written.
    """
    from audioclf.compare.compare import compare
    from audioclf.compare.read import is_run
    from audioclf.compare.tables import print_comparison, write_comparison

    comparison = compare(folders, _values(baseline))
    print_comparison(comparison)
    place = into or (folders[0].parent if is_run(folders[0]) else folders[0])
    write_comparison(comparison, place)
    console.print(
        f"written to {place}: comparison.html, comparison.csv, runs.csv, figures", markup=False, soft_wrap=True
    )
    return EXIT_OK


def diagnose_run(
    folder: str | None, overrides: Sequence[str] = (), *, record: Path | None = None, mend: bool = False
) -> int:
    """Diagnoses a finished run, the best run of a sweep, or a bare record; prints the answer and writes it down.

    Args:
        folder: of the run or the sweep.
        overrides: ``diagnose.budget_minutes=5``, and paths that are elsewhere now (``data.root=DIR``).
        record: a table of predictions or of a report's numbers, instead of a run.
        mend: train what is proposed.

    Raises:
        UserError: no finished run, no such record, or both.
    """
    from audioclf.diagnose.diagnose import diagnose
    from audioclf.diagnose.fix import diagnosed, fix, print_fixed
    from audioclf.diagnose.report import print_diagnosis
    from audioclf.diagnose.run import read_run

    if record is not None:
        words = [word for word in [folder, *overrides] if word is not None]
        if words or mend:
            raise UserError(f"--from-csv {record}: takes no {words[0] if words else '--fix'}", "give one or the other")
        _diagnose_record(record)
        return EXIT_OK
    if folder is None or ("=" in folder and not Path(folder).exists()):
        raise UserError("diagnose: no run named; expected a run's folder", "python -m audioclf diagnose outputs/RUN")
    place = _run_of(Path(folder))
    _check_data_keys(place, overrides)
    run = read_run(place, overrides)
    _check_writable(run.folder.path)
    earlier = diagnosed(run) if mend else None
    if earlier is not None:
        console.print("diagnosed before; diagnose without --fix does it again", markup=False)
    diagnosis = earlier or diagnose(run)
    print_diagnosis(diagnosis)
    if not mend:
        return EXIT_OK
    fixed = fix(run, diagnosis)
    if fixed is None:
        console.print("nothing to train: the diagnosis proposes no change of settings", markup=False)
        return EXIT_FAILED
    print_fixed(fixed)
    return EXIT_OK


def _diagnose_record(record: Path) -> None:
    """Diagnoses a bare record, prints the answer and writes it beside it.

    Raises:
        UserError: no such file, a run's own, or nothing can be written beside it.
    """
    from audioclf.diagnose.record import diagnose_record, write_record
    from audioclf.diagnose.report import print_diagnosis

    if all((record.parent / name).exists() for name in ("result.json", "config.yaml", "environment.json")):
        raise UserError(
            f"{record}: lies in a run's folder; expected a record without its run, as the run tells more",
            f"python -m audioclf diagnose {record.parent}, or copy the file elsewhere",
        )
    if record.exists() and not (record.is_file() or record.is_dir()):
        raise UserError(f"{record}: no file on the disk; the diagnosis is written beside it", "save it first")
    diagnosis = diagnose_record(record)
    print_diagnosis(diagnosis)  # first: the answer is worth having where it cannot be written
    for what, lines in diagnosis.facts.get("to_get_it", {}).items():
        console.print(f"to tell more, {what}:", markup=False, style="bold")
        for command in lines:
            console.print(f"  {command}", markup=False, soft_wrap=True)
    numbers, page = write_record(diagnosis)
    console.print(f"as a page: {page}\nin numbers: {numbers}", markup=False, soft_wrap=True)


def _check_data_keys(folder: Path, overrides: Sequence[str]) -> None:
    """Says that a run's kind of data has no such key, where it would be taken for a misspelling.

    Raises:
        UserError: ``data.root=DIR`` for data that reads from no folder.
    """
    try:
        data = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))["data"]
        name = data["name"]
    except (OSError, yaml.YAMLError, KeyError, TypeError):
        return  # reading the run says what is wrong with it
    for word in overrides:
        key = word.partition("=")[0]
        if key.startswith("data.") and key.removeprefix("data.") not in data:
            raise UserError(f"{shown(word)}: no such key, as this run's data is data={name}", f"leave {key} out")


def _check_writable(folder: Path) -> None:
    """Says before the long work that a diagnosis cannot be written.

    Raises:
        UserError: the folder is read-only, or a file is in the way.
    """
    from audioclf.files import cannot_write

    place = folder / "diagnosis"
    try:
        place.mkdir(exist_ok=True)
        with tempfile.TemporaryFile(dir=place), tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise cannot_write(f"in {place}", error) from error


def _run_of(folder: Path) -> Path:
    """The folder itself where it is a run; of a sweep, or a folder of runs, the run that is best on val.

    Raises:
        UserError: no such folder, or nothing in it can be compared.
    """
    from audioclf.compare.axis import score_text
    from audioclf.compare.compare import compare
    from audioclf.compare.read import is_run

    if folder.is_file():
        raise UserError(
            f"{folder}: a file; expected a run's folder", f"python -m audioclf diagnose --from-csv {folder}"
        )
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; expected a run's", "outputs/ has the runs")
    if is_run(folder):
        return folder
    runs = compare([folder]).selected.runs
    best = max(runs, key=lambda run: run.val)
    said = f"diagnosing the run with the best val F1 ({score_text(best.val)}) of the setting that is best on val"
    console.print(f"{said}: {best.folder.name}", markup=False, soft_wrap=True)
    return best.folder


def _values(words: str) -> dict[str, str]:
    """``"lr=1e-2 epochs=3"`` as keys and values."""
    try:
        pairs = [word.partition("=") for word in shlex.split(words)]
    except ValueError as error:
        raise UserError(f"--baseline {shown(words)}: {error}", 'write --baseline "lr=1e-2 epochs=3"') from error
    for key, equals, value in pairs:
        if not (key and equals and value):
            raise UserError(
                f"--baseline {shown(key + equals + value)}: expected KEY=VALUE", 'write --baseline "lr=1e-2 epochs=3"'
            )
    return {key: value for key, _, value in pairs}


def _config_of_a_table(overrides: Sequence[str]) -> Config:
    """The configuration, whose data must be a table of the user's."""
    config = load_config(overrides)
    if isinstance(config.data, DemoData):
        raise UserError(
            "data=demo: makes its own recordings; expected a table of yours", "add data=links data.csv=TABLE"
        )
    return config


if __name__ == "__main__":
    sys.exit(main())
