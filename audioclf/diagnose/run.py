"""A finished run, read back to be diagnosed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from audioclf.compose import parse_overrides
from audioclf.config import Config, check_paths, parse_config
from audioclf.errors import UserError
from audioclf.runs.folder import LAYOUT, RunFolder


@dataclass(frozen=True)
class Run:
    """A finished run, read back.

    Attributes:
        folder: where it lies.
        config: its resolved configuration.
        result: ``result.json``.
        metrics: the rows of ``metrics.csv``.
    """

    folder: RunFolder
    config: Config
    result: Mapping[str, Any]
    metrics: list[dict[str, float]]


TRAIN_AGAIN = "train the run again: the same `python train.py ...` with retrain=true"

ELSEWHERE = (
    "data.root",
    "data.csv",
    "data.audio_dir",
    "data.class_labels",
    "diagnose.",
    "paths.",
    "trainer.accelerator",
)
"""Keys that may be given anew: none of them can change the run's numbers."""


def read_run(folder: Path, overrides: Sequence[str] = ()) -> Run:
    """Reads a finished run.

    Args:
        folder: of the run.
        overrides: what is elsewhere now, or is about diagnosing (:data:`ELSEWHERE`), e.g. ``["data.root=DIR"]``.

    Raises:
        UserError: no run, not finished, written by another version, or an override that would make it another run.
    """
    place = RunFolder(folder)
    result = place.read_result()
    if result is None:
        begun = (folder / "environment.json").exists()
        raise UserError(
            f"{folder}: " + ("the run is not finished" if begun else "no run in it; expected a run's folder"),
            "the same `python train.py ...` command finishes it" if begun else "outputs/ has the runs",
        )
    if result.get("layout") != LAYOUT:
        raise UserError(f"{folder}: result.json has layout {result.get('layout')}, expected {LAYOUT}", TRAIN_AGAIN)
    try:
        content = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise UserError(f"{folder}/config.yaml: cannot be read: {error}", TRAIN_AGAIN) from error
    for override in parse_overrides(overrides):
        key = override.key_or_group
        if not key.startswith(ELSEWHERE):
            raise UserError(
                f"{override.input_line}: would be another run; expected one of {', '.join(ELSEWHERE)}",
                "`python train.py` trains it, and then it can be diagnosed",
            )
        *sections, leaf = key.split(".")
        part = content
        for section in sections:
            part = part.setdefault(section, {})
        part[leaf] = override.value()
    config = parse_config(content)
    if config.data.multi_label == "keep":
        raise UserError(
            f"{folder}: its clips keep several labels (data.multi_label=keep); a diagnosis needs one label a clip",
            "train it with data.multi_label=first loss=cross_entropy, and diagnose that run",
        )
    check_paths(config)
    return Run(place, config, result, place.read_metrics())
