"""What a probe works with: the run, its clips, short retrainings of its setting, cheap probes, and a budget of time."""

from __future__ import annotations

import functools
import pickle
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
import yaml

from audioclf.audio.decode import AudioError
from audioclf.audio.store import CANONICAL_RATE, from_pcm, read_pcm
from audioclf.clips.clip import Clip
from audioclf.compose import parse_overrides
from audioclf.config import Config, MelConfig, check_paths, parse_config
from audioclf.data import AudioDataModule
from audioclf.diagnose import reference
from audioclf.diagnose.levels import Heard, hear
from audioclf.diagnose.pool import Pool
from audioclf.diagnose.repair import BRIEF, LONG
from audioclf.diagnose.trial import Recipe, Trial, folds_of, train_once, train_trial
from audioclf.diagnose.twins import recordings, twins
from audioclf.diagnose.verdict import Gap
from audioclf.errors import UserError, shown
from audioclf.features.build import build_front_end
from audioclf.features.extract import extract
from audioclf.features.frontend import front_end_settings
from audioclf.features.mel import shown_as
from audioclf.features.store import FeatureStore
from audioclf.files import replacing
from audioclf.runs.folder import LAYOUT, RunFolder
from audioclf.training.fit import data_module
from audioclf.training.module import ClassifierModule
from audioclf.training.scores import FloatArray, IntArray

MOST_CLIPS = 2000  # of a pool: whole recordings are drawn from larger data
MOST_FOLDS, FEWEST_FOLDS = 4, 2
BASE = "base"  # the trial of the run's own setting
PLANNED = 12  # trials that must fit into the budget


class OutOfTime(Exception):
    """A trial would not end within the budget; the text says what it would have taken."""


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


class Lab:
    """One run on the bench.

    Args:
        run: the run.
        budget_s: seconds that all trials together may take.
    """

    def __init__(self, run: Run, budget_s: float) -> None:
        self.run, self.config, self.budget_s = run, run.config, budget_s
        self.started = time.monotonic()
        self.folder = run.folder.path / "diagnosis"
        self.trials: dict[str, Trial] = {}
        self.columns: dict[str, list[Any]] = {}
        _ = self.predictions, self.module  # whatever is damaged is said before the long work
        self.data: AudioDataModule = data_module(run.config)
        self.data.prepare_data()
        self.data.setup()
        if self.data.fingerprint != run.result["data_fingerprint"]:
            raise UserError(
                f"{run.folder.path}: its table or audio is not what it was trained on",
                "train it again on what is there now, and diagnose that run",
            )

    # -- clips ---------------------------------------------------------------------------------------------------

    @functools.cached_property
    def everything(self) -> Pool:
        """All clips with a label, train, val and test, in that order; at most :data:`MOST_CLIPS`."""
        parts = self.data.splits.parts()
        clips = [clip for part in parts.values() for clip in part]
        split = [name for name, part in parts.items() for _ in part]
        targets = np.concatenate([self.data.datasets[name].targets.numpy() for name in parts])
        where = np.arange(len(clips))
        if len(clips) > MOST_CLIPS:
            where = _drawn([clip.group for clip in clips], split, targets, MOST_CLIPS)
        offsets = dict(zip(parts, np.cumsum([0, *map(len, parts.values())]), strict=False))
        features = torch.cat(
            [self.data.datasets[split[i]].__getitems__([int(i - offsets[split[i]])])[0] for i in where]
        )
        chosen = [clips[i] for i in where]
        return Pool(chosen, [split[i] for i in where], features, targets[where], recordings(chosen), self.data.classes)

    @functools.cached_property
    def recordings(self) -> list[str]:
        """The recording of each clip of :attr:`everything`: of one group or source, or sharing sound (:attr:`twins`)."""
        return recordings(self.everything.clips, self.twins)

    @functools.cached_property
    def twins(self) -> list[tuple[int, int]]:
        """Places in :attr:`everything` of clips that share sound."""
        audible = [heard.level.audible for heard in self.heard]
        return twins([heard.words for heard in self.heard], self.sha256s, audible)

    @functools.cached_property
    def heard(self) -> list[Heard]:
        """Level and fingerprint of each clip of :attr:`everything`."""
        return hear(self)

    @functools.cached_property
    def sha256s(self) -> list[str]:
        """Of the samples of each clip of :attr:`everything`, in hex."""
        assert self.data.prepared is not None
        return [str(self.data.prepared.rows[clip].sha256) for clip in self.everything.clips]

    @functools.cached_property
    def pool(self) -> Pool:
        """The clips that trials train on and score out of fold: train and val, grouped by :attr:`recordings`."""
        whole = replace(self.everything, groups=self.recordings)
        return whole.take(np.array([name != "test" for name in whole.split]))

    @functools.cached_property
    def test(self) -> Pool:
        """The test clips."""
        whole = replace(self.everything, groups=self.recordings)
        return whole.take(np.array([name == "test" for name in whole.split]))

    @functools.cached_property
    def whole(self) -> Pool:
        """Train, val and test in one pool, grouped by :attr:`recordings`; for what asks how much the data can give."""
        return replace(self.everything, groups=self.recordings)

    def samples(self, clip: Clip) -> FloatArray | None:
        """A clip's samples ``[n]`` at the audio store's rate (44,100 Hz), in [-1, 1]; None where its file is gone."""
        try:
            return np.asarray(from_pcm(read_pcm(self.data.audio.path(clip.audio_key))))
        except (AudioError, OSError):
            return None

    @property
    def rate(self) -> int:
        """Of :meth:`samples`, in Hz."""
        return CANONICAL_RATE

    # -- the run ---------------------------------------------------------------------------------------------------

    @functools.cached_property
    def module(self) -> ClassifierModule:
        """The run's selected weights.

        Raises:
            UserError: ``checkpoints/model.ckpt`` is gone or damaged.
        """
        path = self.run.folder.model_checkpoint
        try:
            module = ClassifierModule.load_from_checkpoint(path, map_location="cpu", weights_only=True)
        except (OSError, RuntimeError, KeyError, ValueError, pickle.UnpicklingError) as error:
            raise UserError(f"{path}: cannot be read: {shown(error)}", TRAIN_AGAIN) from error
        module.eval()
        return module

    @functools.cached_property
    def predictions(self) -> dict[str, FloatArray]:
        """The run's logits by clip id, from ``predictions.parquet``.

        Raises:
            UserError: the file is gone or damaged.
        """
        path = self.run.folder.predictions
        try:
            table = pq.read_table(path, columns=["clip", "logits"]).to_pydict()
        except (OSError, pa.ArrowException, ValueError) as error:
            raise UserError(f"{path}: cannot be read: {shown(error)}", TRAIN_AGAIN) from error
        logits = np.asarray(table["logits"], dtype=np.float32)
        return dict(zip(table["clip"], logits, strict=True))

    def predicted(self, pool: Pool) -> IntArray:
        """The classes that the run predicted for some clips ``[N]``."""
        return np.asarray([int(np.argmax(self.predictions[clip.id])) for clip in pool.clips], dtype=np.int64)

    # -- trials ----------------------------------------------------------------------------------------------------

    @functools.cached_property
    def fold(self) -> IntArray:
        """The cut of each clip of :attr:`pool` that all trials share."""
        return folds_of(self.pool, self.fold_count)

    @functools.cached_property
    def step_s(self) -> float:
        """Seconds of one training step of the run's setting: the second of two short trainings, the first is slower."""
        config = self.config.model_copy(update={"epochs": 1})
        few = np.arange(min(len(self.pool), 4 * config.batch_size))
        for _ in range(2):
            started = time.monotonic()
            train_once(config, self.pool, few, self.pool.targets, seed=0)
        return (time.monotonic() - started) / max(1, -(-len(few) // config.batch_size))

    def cost_s(self, epochs: int, batch_size: int | None = None, folds: int | None = None) -> float:
        """Seconds that a trial takes, estimated."""
        folds = folds or self.fold_count
        steps = epochs * -(-len(self.pool) * (folds - 1) // folds // (batch_size or self.config.batch_size))
        return steps * folds * self.step_s

    @functools.cached_property
    def fold_count(self) -> int:
        """As many folds, up to :data:`MOST_FOLDS`, as let :data:`PLANNED` trials end in time."""
        most = min(MOST_FOLDS, len(set(self.pool.groups)))
        for folds in range(most, FEWEST_FOLDS, -1):
            if PLANNED * self.cost_s(max(self.brief, min(self.config.epochs, LONG)), folds=folds) <= self.budget_s:
                return folds
        return FEWEST_FOLDS

    @property
    def left_s(self) -> float:
        """Seconds of the budget that are left."""
        return self.budget_s - (time.monotonic() - self.started)

    def trial(self, recipe: Recipe) -> Trial:
        """The run's setting, retrained on :attr:`pool` with a recipe's changes; each recipe once.

        Raises:
            OutOfTime: it would not end within the budget.
        """
        if recipe.name not in self.trials:
            changed = recipe.config(self.config)
            cost = self.cost_s(changed.epochs, changed.batch_size)
            if cost > self.left_s and recipe.name != BASE:  # without it nothing can be said
                raise OutOfTime(f"{recipe.name} takes about {cost:.0f} s, {max(self.left_s, 0):.0f} s are left")
            self.keep(train_trial(recipe, self.config, self.pool, self.fold))
        return self.trials[recipe.name]

    @property
    def base(self) -> Trial:
        """The run's own setting, out of fold."""
        return self.trial(Recipe(BASE))

    @property
    def epochs(self) -> int:
        """Of an intervention that must learn anew: the run's, or what :data:`BRIEF` steps take, at most :data:`LONG`."""
        return max(self.config.epochs, self.brief)

    @property
    def brief(self) -> int:
        """Epochs of :data:`BRIEF` steps, at most :data:`LONG`."""
        return min(LONG, -(-BRIEF * self.config.batch_size // len(self.pool)))

    @property
    def as_long(self) -> Trial:
        """The run's own setting for :attr:`epochs`: what interventions of that length are compared with."""
        if self.epochs == self.config.epochs:
            return self.base
        return self.trial(Recipe("as_long", {"epochs": self.epochs}))

    def cheap(self, kind: str, pool: Pool | None = None) -> Trial:
        """A cheap probe, out of fold.

        Args:
            kind: ``"pooled"`` (statistics over time of the run's features), ``"flat"`` (the features as the network
                sees them) or ``"audio"`` (the same statistics of a fixed mel-spectrogram of the audio, whatever
                the run's features are).
            pool: :attr:`pool` (None), or :attr:`whole`.
        """
        where = self.pool if pool is None else pool
        name = f"probe_{kind}" + ("" if where is self.pool else "_whole")
        if name not in self.trials:
            fold = self.fold if where is self.pool else folds_of(where, self.fold_count)
            self.keep(reference.score_probe(name, self.probe_columns(kind, where), where, fold))
        return self.trials[name]

    def probe_columns(self, kind: str, pool: Pool) -> FloatArray:
        """What a cheap probe reads of some clips ``[N, D]``."""
        if kind == "flat":
            return reference.flattened(pool.features)
        return reference.pooled(self.plain_features(pool) if kind == "audio" else pool.features)

    @property
    def mel(self) -> MelConfig:
        """Of :meth:`spectrograms`."""
        return shown_as(self.config.features)

    def spectrograms(self, pool: Pool) -> torch.Tensor:
        """Mel-spectrograms ``[N, n_mels, frames]`` of some clips: the run's features, or the default where they are none."""
        return pool.features if self.mel is self.config.features else self.plain_features(pool)

    def plain_features(self, pool: Pool) -> torch.Tensor:
        """The default mel-spectrogram (64 bands, 22,050 Hz, 5 s, dB) of some clips, whatever the run's features are."""
        config = MelConfig.model_validate({"name": "mel"})
        front_end = build_front_end(config)
        store = FeatureStore(
            self.data.cache / "features",
            front_end_settings(config, front_end.version),
            front_end.output_shape,
            config.storage,
        )
        assert self.data.prepared is not None
        sha256s = [str(self.data.prepared.rows[clip].sha256) for clip in pool.clips]
        keys = {sha: self.data.prepared.rows[clip].key for sha, clip in zip(sha256s, pool.clips, strict=True)}
        extract(keys, self.data.audio, store, front_end, device=torch.device("cpu"))
        return store.read_all(sha256s)

    @functools.cached_property
    def best_probe(self) -> Trial:
        """The better of the cheap probes that read the run's own features."""
        return max(self.cheap("pooled"), self.cheap("flat"), key=lambda trial: trial.f1)

    @functools.cached_property
    def gap(self) -> Gap:
        """What there is to explain, before any intervention."""
        probe = self.best_probe.f1
        chance = self.run.result["chance"]
        floor = max(chance["majority"], chance["stratified"], chance["permutation"])
        test = float(self.run.result["test"]["f1_macro"])
        return Gap(floor, test, self.base.f1, probe, max(probe, self.base.f1))

    # -- files -----------------------------------------------------------------------------------------------------

    def note(self, column: str, values: list[Any]) -> None:
        """Adds a column to ``diagnosis/clips.parquet``: one value for each clip of :attr:`everything`."""
        assert len(values) == len(self.everything)
        self.columns[column] = values

    def write(self) -> None:
        """Writes ``diagnosis/clips.parquet``; the trials are written as they are made."""
        pool = self.everything
        columns = {"clip": pool.ids, "split": pool.split, "label": [c.label for c in pool.clips], **self.columns}
        with replacing(self.folder / "clips.parquet") as file:
            pq.write_table(pa.table(columns), file)

    def keep(self, trial: Trial) -> Trial:
        """Writes a trial down under its name, so that what is concluded from it can be computed again."""
        self.trials[trial.name] = trial
        trial.write(self.folder / "trials")
        return trial


def _drawn(groups: list[str], split: list[str], targets: IntArray, most: int) -> np.ndarray:
    """Places of ``most`` clips: the same share of each class in each split, recording by recording in a random order."""
    names, group = np.unique(np.asarray(groups), return_inverse=True)
    rank = np.random.default_rng(0).permutation(len(names))[group]
    share = np.empty(len(groups))
    for name in set(split):
        for target in np.unique(targets):
            here = np.flatnonzero((np.asarray(split) == name) & (targets == target))
            share[here[np.argsort(rank[here], kind="stable")]] = np.arange(len(here)) / max(len(here), 1)
    return np.sort(np.lexsort((rank, share))[:most])
