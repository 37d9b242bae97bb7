"""What a probe works with: the run, its clips, short retrainings of its setting, cheap probes, and a budget of time."""

from __future__ import annotations

import functools
import math
import pickle
import shutil
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch.utils.flop_counter import FlopCounterMode

from audioclf.audio.decode import AudioError
from audioclf.audio.store import CANONICAL_RATE, from_pcm, read_pcm
from audioclf.clips.clip import Clip
from audioclf.config import MelConfig, WaveformConfig, YamnetConfig
from audioclf.data import AudioDataModule
from audioclf.diagnose import reference
from audioclf.diagnose.levels import Heard, hear
from audioclf.diagnose.pool import Pool
from audioclf.diagnose.repair import BRIEF, LONG
from audioclf.diagnose.run import TRAIN_AGAIN, Run
from audioclf.diagnose.trial import BASE, Recipe, Trial, effect, folds_of, joined, train_once, train_trial
from audioclf.diagnose.twins import recordings, twins
from audioclf.diagnose.verdict import Gap, Numbers, limits_of
from audioclf.errors import UserError, shown
from audioclf.features.build import build_front_end
from audioclf.features.extract import extract
from audioclf.features.frontend import front_end_settings
from audioclf.features.mel import shown_as
from audioclf.features.store import FeatureStore
from audioclf.files import replacing
from audioclf.training.fit import data_module
from audioclf.training.module import ClassifierModule
from audioclf.training.scores import FloatArray, IntArray
from audioclf.weights import is_at_hand

MOST_CLIPS = 2000  # of a pool: whole recordings are drawn from larger data
MOST_FOLDS, FEWEST_FOLDS = 4, 2
PLANNED = 8  # trials that must fit into the budget
WEIGHT_S, FLOP_S = 4e-9, 2e-11
"""Seconds of a training step for each weight (Adam's state is read and written) and each floating-point operation, on two cores."""
SEEDS = 2  # of a repair that would convict


class OutOfTime(Exception):
    """A trial would not end within the budget; the text says what it would have taken."""


class Lab:
    """One run on the bench.

    Args:
        run: the run.
        budget_s: seconds that all trials together may take.
    """

    def __init__(self, run: Run, budget_s: float) -> None:
        self.run, self.config, self.budget_s = run, run.config, budget_s
        self.started = time.monotonic()
        self.folder = run.folder.path / "diagnosis.unfinished"
        self.trials: dict[str, Trial] = {}
        self.tell: Callable[[str], None] = lambda said: None  # what is being done, for a progress bar
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

    @functools.cached_property
    def sizes(self) -> tuple[IntArray, IntArray]:
        """Training clips and training recordings of each class ``[K]``, of all data, thinned or not."""
        if self.passes > 1:
            train = self.data.splits.train
            labels, groups = [clip.label for clip in train], [clip.group for clip in train]
        else:
            chosen = [i for i, split in enumerate(self.whole.split) if split == "train"]
            labels = [self.whole.clips[i].label for i in chosen]
            groups = [self.whole.groups[i] for i in chosen]
        clips, pairs = Counter(labels), Counter(label for label, _ in set(zip(labels, groups, strict=True)))
        found = np.array([[n[label] for label in self.data.classes] for n in (clips, pairs)], dtype=np.int64)
        return found[0], found[1]

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
        clips = self.passes * len(self.pool) * (folds - 1) / folds
        return epochs * math.ceil(clips / (batch_size or self.config.batch_size)) * folds * self.step_s

    @functools.cached_property
    def passes(self) -> float:
        """Over the clips in an epoch of a trial: more than one where they were thinned, so that as many steps are taken."""
        return sum(len(part) for part in self.data.splits.parts().values()) / len(self.everything)

    @functools.cached_property
    def fold_count(self) -> int:
        """As many folds, up to :data:`MOST_FOLDS`, as let :data:`PLANNED` trials end in time.

        By a count of operations, not by the clock: a busy machine must not give another answer.
        """
        most = min(MOST_FOLDS, len(set(self.pool.groups)))
        epochs, batches = (
            max(self.brief, min(self.config.epochs, LONG)),
            self.passes * len(self.pool) / self.config.batch_size,
        )
        for folds in range(most, FEWEST_FOLDS, -1):
            if PLANNED * epochs * batches * (folds - 1) * self.step_cost_s <= self.budget_s:
                return folds
        return FEWEST_FOLDS

    @functools.cached_property
    def step_cost_s(self) -> float:
        """Seconds of one training step of the run's setting on a machine of two cores: the same on every machine."""
        batch = self.pool.features[: self.config.batch_size]
        with FlopCounterMode(display=False) as counter, torch.inference_mode():
            self.module(batch)
        weights = sum(weight.numel() for weight in self.module.parameters())
        return float(WEIGHT_S * weights + 3 * FLOP_S * counter.get_total_flops())  # backward takes twice the forward's

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
            if recipe.name != BASE:  # without it nothing can be said
                changed = recipe.config(self.config)
                self.afford(recipe.name, self.cost_s(changed.epochs, changed.batch_size))
            self.keep(self.train(recipe, self.pool))
        return self.trials[recipe.name]

    def train(self, recipe: Recipe, pool: Pool) -> Trial:
        """Trains a recipe on :attr:`pool`, or on the same clips with other features; keeps nothing."""

        def advance(share: float) -> None:
            self.tell(f"{recipe.name} {share:.0%}")

        return train_trial(recipe, self.config, pool, self.fold, advance, self.passes)

    def afford(self, name: str, cost_s: float) -> None:
        """Asks for time.

        Raises:
            OutOfTime: there is not so much left.
        """
        if cost_s > self.left_s:
            raise OutOfTime(f"{name} takes about {cost_s:.0f} s, {max(self.left_s, 0):.0f} s are left")

    def compare(self, before: Recipe, after: Recipe) -> Numbers:
        """The effect of a change, paired over clips and folds; what would convict is trained again with other seeds.

        Returns:
            What :func:`~audioclf.diagnose.trial.effect` gives, of :data:`SEEDS` seeds together where ``seeds`` says so.

        Raises:
            OutOfTime: the first trainings would not end within the budget; that the others would not costs ``seeds``.
        """
        found = effect(self.trial(before), self.trial(after))
        if not (found["gain"] >= limits_of("all")["least_gain"] and found["low"] > 0):
            return found
        try:
            return effect(self.seeds(before), self.seeds(after)) | {"seeds": SEEDS}
        except OutOfTime:
            return found

    def seeds(self, recipe: Recipe) -> Trial:
        """The trials of a recipe with :data:`SEEDS` seeds, as one."""
        name = f"{recipe.name}_{SEEDS}_seeds"
        if name not in self.trials:
            others = [replace(recipe, name=f"{recipe.name}_seed{n}", seed=n) for n in range(1, SEEDS)]
            self.keep(joined(name, [self.trial(one) for one in (recipe, *others)]))
        return self.trials[name]

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
    def unchanged(self) -> Recipe:
        """The run's own setting for :attr:`epochs`: what interventions of that length are compared with."""
        if self.epochs == self.config.epochs:
            return Recipe(BASE)
        return Recipe("as_long", {"epochs": self.epochs})

    def cheap(self, kind: str, pool: Pool | None = None) -> Trial:
        """A cheap probe, out of fold.

        Args:
            kind: ``"embedding"`` (of :attr:`embedding`), ``"pooled"`` (statistics over time of the run's features), ``"flat"`` (the features as the network
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
        own = self.config.features
        if kind == "embedding":
            assert self.embedding is not None
            return reference.pooled(self._features(self.embedding, pool), self.embedding.axes)
        if kind == "audio" or isinstance(own, WaveformConfig):  # no cheap probe reads a waveform
            plain = self.plain_features(pool)
            return reference.flattened(plain) if kind == "flat" else reference.pooled(plain)
        return reference.flattened(pool.features) if kind == "flat" else reference.pooled(pool.features, own.axes)

    @property
    def mel(self) -> MelConfig:
        """Of :meth:`spectrograms`."""
        return shown_as(self.config.features)

    def spectrograms(self, pool: Pool) -> torch.Tensor:
        """Mel-spectrograms ``[N, n_mels, frames]`` of some clips: the run's features, or the default where they are none."""
        return pool.features if self.mel is self.config.features else self.plain_features(pool)

    def plain_features(self, pool: Pool) -> torch.Tensor:
        """The default mel-spectrogram (64 bands, 22,050 Hz, 5 s, dB) of some clips, whatever the run's features are."""
        return self._features(MelConfig.model_validate({"name": "mel"}), pool)

    @functools.cached_property
    def embedding(self) -> YamnetConfig | None:
        """A frozen embedding that the features are held against; None where its weights are not at hand."""
        found = YamnetConfig.model_validate({"name": "yamnet"})
        if self.config.diagnose.yamnet is not None:
            found = found.model_copy(update={"weights": self.config.diagnose.yamnet})
        return found if is_at_hand(found.weights, found.sha256) else None

    def _features(self, config: MelConfig | YamnetConfig, pool: Pool) -> torch.Tensor:
        """Features of some clips by a front-end of audio ``[N, *shape]``, extracted once."""
        front_end = build_front_end(config)
        settings = front_end_settings(config, front_end.version)
        store = FeatureStore(self.data.cache / "features", settings, front_end.output_shape, config.storage)
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

    def publish(self) -> None:
        """Puts what was written into the place of an earlier diagnosis', which was there until now."""
        place = self.run.folder.path / "diagnosis"
        shutil.rmtree(place, ignore_errors=True)
        self.folder = self.folder.replace(place)

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
