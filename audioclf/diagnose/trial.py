"""A short retraining of the run's setting with one thing changed, scored out of fold; and what the change did.

Clips are cut into grouped, stratified folds; each fold's clips are scored by a model that was trained on the others,
each fold with a seed of its own. So two trials are compared on the same clips, the same cuts and the same seeds.
"""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from sklearn.model_selection import GroupKFold, StratifiedGroupKFold

from audioclf.config import Config, parse_config
from audioclf.data import balanced_chances, epoch_order, epoch_seed
from audioclf.diagnose.pool import Pool
from audioclf.diagnose.verdict import Numbers
from audioclf.features.normalise import Standardise
from audioclf.files import replacing
from audioclf.training.module import ClassifierModule
from audioclf.training.optimizers import Schedule, build_optimizer
from audioclf.training.scores import DRAWS, LEVEL, FloatArray, IntArray, macro_f1

BASE = "base"  # the trial of the run's own setting
TURN = 1_000_000  # apart: the orders of an epoch that passes over its clips several times
MOST_LOOKS = 25  # epochs at which held-out clips are scored


@dataclass(frozen=True)
class Recipe:
    """What a trial changes about the run's setting.

    Attributes:
        name: e.g. ``"lower_lr"``; also the name of its file.
        overrides: dotted keys of the configuration and their values, e.g. ``{"lr": 1e-5}``.
        select: weights that are scored: the last epoch's, or those of the best epoch, which the other folds choose.
        train_labels: other labels to train on ``[N]``, or None; scoring always uses the given ones.
        train_on: which clips of the pool may be trained on, bool ``[N]``; None: all.
        seed: added to the run's; another draws other weights and another order.
    """

    name: str
    overrides: Mapping[str, Any] = field(default_factory=dict)
    select: str | None = None
    train_labels: IntArray | None = None
    train_on: np.ndarray | None = None
    seed: int = 0

    def config(self, config: Config) -> Config:
        """The run's configuration with the changes."""
        content = config.model_dump()
        for key, value in self.overrides.items():
            *sections, leaf = key.split(".")
            place = content
            for section in sections:
                place = place[section]
            if leaf not in place:
                raise KeyError(key)
            place[leaf] = value
        return parse_config(content)


@dataclass(frozen=True, eq=False)
class Trial:
    """What a trial predicted for the clips of its pool, each by a model that had not seen it.

    Attributes:
        name: of its recipe.
        pool: the clips.
        fold: the cut that each clip was held out in ``[N]``.
        logits: ``[N, K]``, float32; of probes their decision values.
        train_f1: macro-F1 on the clips that were trained on, mean of the folds; nan where it is not known.
        curve: macro-F1 out of fold after each looked-at epoch, ``{epoch: F1}``; empty for probes.
        losses: cross-entropy of the training batches after each looked-at epoch, ``{epoch: loss}``.
        recipe: what was changed; None for probes.
        looks: logits after each looked-at epoch ``[E, N, K]``; None for probes.
    """

    name: str
    pool: Pool
    fold: IntArray
    logits: FloatArray
    train_f1: float = float("nan")
    curve: Mapping[int, float] = field(default_factory=dict)
    losses: Mapping[int, float] = field(default_factory=dict)
    recipe: Recipe | None = None
    looks: FloatArray | None = None

    def selecting(self, select: str) -> Trial:
        """The same trainings, scored with the ``last`` epoch's weights or with each fold's ``best`` epoch's."""
        assert self.looks is not None
        logits = _selected(self.looks, self.pool, self.fold) if select == "best" else self.looks[-1]
        return replace(self, name=f"{self.name}_{select}", logits=logits)

    @property
    def predicted(self) -> IntArray:
        """Predicted classes ``[N]``."""
        return np.asarray(self.logits.argmax(1), dtype=np.int64)

    @property
    def probabilities(self) -> FloatArray:
        """``[N, K]``, rows sum to 1."""
        shifted = np.exp(self.logits - self.logits.max(1, keepdims=True))
        return np.asarray(shifted / shifted.sum(1, keepdims=True))

    @property
    def f1(self) -> float:
        """Macro-F1 over all clips, pooled over folds."""
        return macro_f1(self.pool.targets, self.predicted, self.pool.num_classes)

    def write(self, folder: Path) -> None:
        """Writes ``NAME.parquet``: clip, group, fold, target, predicted, logits; the recipe in its metadata.

        ``trained_on`` and ``train_label`` are columns where the recipe chooses clips or changes labels.
        """
        pool, recipe = self.pool, self.recipe or Recipe(self.name)
        columns = {
            "clip": pool.ids,
            "group": pool.groups,
            "fold": self.fold,
            "target": pool.targets,
            "predicted": self.predicted,
            "logits": pa.array(self.logits.astype(np.float32).tolist(), pa.list_(pa.float32())),
        }
        if recipe.train_on is not None:
            columns["trained_on"] = recipe.train_on
        if recipe.train_labels is not None:
            columns["train_label"] = recipe.train_labels
        table = pa.table(columns)
        said = {
            "overrides": dict(recipe.overrides),
            "select": recipe.select,
            "seed": recipe.seed,
            "train_f1": self.train_f1,
            "curve": dict(self.curve),
            "losses": dict(self.losses),
        }
        metadata = {"classes": "\n".join(pool.classes), "trial": json.dumps(said)}
        with replacing(folder / f"{self.name}.parquet") as file:
            pq.write_table(table.replace_schema_metadata(metadata), file)


def joined(name: str, trials: Sequence[Trial]) -> Trial:
    """Trials of the same pool and recipe with other seeds as one: each clip stands in it once for each seed.

    Its F1 is of all predictions together, and an interval over recordings draws all seeds of a clip together.
    """
    first, times = trials[0], len(trials)
    return Trial(
        name=name,
        pool=first.pool.take(np.tile(np.arange(len(first.pool)), times)),
        fold=np.tile(first.fold, times),
        logits=np.concatenate([trial.logits for trial in trials]),
        train_f1=float(np.mean([trial.train_f1 for trial in trials])),
    )


def level_of(candidates: int) -> float:
    """Level of the interval of one effect among several of which the surest is taken (Bonferroni)."""
    return 1 - (1 - LEVEL) / candidates


def effect(before: Trial, after: Trial, level: float = LEVEL) -> Numbers:
    """What a change did to macro-F1, paired over clips, with an interval over recordings.

    Args:
        before: usually the run's own setting.
        after: the trial of the same pool with the change.
        level: of the interval.

    Returns:
        ``before``, ``after``, ``gain`` and its interval ``low``, ``high``; ``trials``, the names of both.
    """
    pool = before.pool
    names = {"trials": [before.name, after.name]}
    return names | paired(pool.targets, before.predicted, after.predicted, pool.groups, pool.num_classes, level)


def paired(
    targets: IntArray,
    before: IntArray,
    after: IntArray,
    groups: list[str],
    num_classes: int,
    level: float = LEVEL,
) -> Numbers:
    """The same for any two predictions ``[N]`` of the same clips: a percentile bootstrap that draws recordings."""
    draws = _draws(targets, after, groups, num_classes) - _draws(targets, before, groups, num_classes)
    low, high = np.quantile(draws[1:], [(1 - level) / 2, (1 + level) / 2])
    first, second = macro_f1(targets, before, num_classes), macro_f1(targets, after, num_classes)
    return {"before": first, "after": second, "gain": second - first, "low": float(low), "high": float(high)}


def bootstrap(trial: Trial) -> FloatArray:
    """Macro-F1 as observed, then on :data:`~audioclf.training.scores.DRAWS` draws of recordings.

    The same draws for all trials of a pool, so that differences between them are paired.
    """
    pool = trial.pool
    return _draws(pool.targets, trial.predicted, pool.groups, pool.num_classes)


def _draws(targets: IntArray, predicted: IntArray, groups: list[str], num_classes: int) -> FloatArray:
    names, group = np.unique(np.asarray(groups), return_inverse=True)
    rng = np.random.default_rng(0)
    draws: FloatArray = np.empty(1 + DRAWS)
    draws[0] = macro_f1(targets, predicted, num_classes)
    for i in range(1, 1 + DRAWS):
        weights = np.bincount(rng.integers(len(names), size=len(names)), minlength=len(names))[group].astype(float)
        draws[i] = macro_f1(targets, predicted, num_classes, weights)
    return draws


def folds_of(pool: Pool, count: int) -> IntArray:
    """The cut that each clip is held out in ``[N]``: grouped, stratified, the same for every trial of a pool."""
    fold = np.zeros(len(pool), dtype=np.int64)
    most, recordings = int(pool.counts().max()), len(set(pool.groups))
    if recordings < 2:
        return fold
    count = max(2, min(count, recordings, most if most > 1 else recordings))  # what scikit-learn asks for
    cutter: StratifiedGroupKFold | GroupKFold = StratifiedGroupKFold(count, shuffle=True, random_state=0)
    if most < 2:  # one clip a class: nothing to stratify
        cutter = GroupKFold(count)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # classes of fewer recordings than folds: their clips are scored all the same
        for number, (_, held_out) in enumerate(cutter.split(pool.targets, pool.targets, pool.groups)):
            fold[held_out] = number
    return fold


def known(pool: Pool, fold: IntArray) -> np.ndarray:
    """Which clips' class is in training while they are held out, bool ``[N]``; a class of one recording is not."""
    found = np.zeros(len(pool), dtype=bool)
    for number in set(fold.tolist()):
        outside = fold == number
        found[outside] = np.isin(pool.targets[outside], pool.targets[~outside])
    return found


def train_trial(
    recipe: Recipe,
    config: Config,
    pool: Pool,
    fold: IntArray,
    advance: Callable[[float], None] | None = None,
    passes: float = 1.0,
) -> Trial:
    """Trains the run's setting with a recipe's changes, once for each fold, and scores what was held out.

    The same module, loss and optimizer as a run's; no files, no Lightning loop, which costs as much as training here.

    Args:
        recipe: what is changed.
        config: the run's configuration.
        pool: the clips.
        fold: of :func:`folds_of`.
        advance: called with the share of the trial that is done after each epoch.
        passes: of :func:`train_once`.
    """
    changed = recipe.config(config)
    labels = pool.targets if recipe.train_labels is None else recipe.train_labels
    allowed = np.ones(len(pool), dtype=bool) if recipe.train_on is None else recipe.train_on
    numbers = sorted(set(fold.tolist()))
    looks = sorted({max(1, round(i * changed.epochs / MOST_LOOKS)) for i in range(1, MOST_LOOKS + 1)})
    logits: FloatArray = np.zeros((len(looks), len(pool), pool.num_classes), dtype=np.float32)
    train_f1, losses = [], np.zeros(len(looks))
    for place, number in enumerate(numbers):
        inside, outside = np.flatnonzero((fold != number) & allowed), np.flatnonzero(fold == number)
        if len(inside) == 0:
            continue
        seed = epoch_seed(changed.seed, 1_000_000 + 1000 * recipe.seed + number) % 2**31

        def look(at: int, module: ClassifierModule, loss: float, outside: np.ndarray = outside) -> None:
            logits[at, outside] = predict(module, pool.features[outside])
            losses[at] += loss / len(numbers)

        def done(share: float, place: int = place) -> None:
            if advance is not None:
                advance((place + share) / len(numbers))

        module = train_once(changed, pool, inside, labels, seed, looks, look, done, passes)
        seen = predict(module, pool.features[inside]).argmax(1)
        train_f1.append(macro_f1(labels[inside], seen, pool.num_classes))
    logits = np.nan_to_num(logits, nan=0.0, posinf=1e30, neginf=-1e30)  # diverged: no class is preferred
    select = recipe.select or changed.trainer.select
    curve = {e: macro_f1(pool.targets, logits[i].argmax(1), pool.num_classes) for i, e in enumerate(looks)}
    return Trial(
        name=recipe.name,
        pool=pool,
        fold=fold,
        logits=_selected(logits, pool, fold) if select == "best" else logits[-1],
        train_f1=float(np.mean(train_f1)) if train_f1 else float("nan"),
        curve=curve,
        losses={e: float(losses[i]) for i, e in enumerate(looks)},
        recipe=recipe,
        looks=logits,
    )


def train_once(
    config: Config,
    pool: Pool,
    inside: np.ndarray,
    labels: IntArray,
    seed: int,
    looks: list[int] | None = None,
    look: Callable[[int, ClassifierModule, float], None] | None = None,
    done: Callable[[float], None] | None = None,
    passes: float = 1.0,
) -> ClassifierModule:
    """Trains one model of a configuration on some clips of a pool.

    As a run does, augmentation, schedules and stages included; but for early stopping, since all folds of a trial are
    looked at after the same epochs, and mixed precision, which changes how fast a setting learns and not what.

    Args:
        config: of the model and its training; on the CPU.
        pool: the clips.
        inside: places of those that are trained on.
        labels: the labels to learn ``[N]``.
        seed: of weights and order.
        looks: epochs, from 1, after which ``look`` is called with (place in ``looks``, module, mean loss).
        look: see there.
        done: called after each epoch with the share done.
        passes: over the clips in an epoch: above 1 where they stand for more clips, so that as many steps are taken.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        features, targets = pool.features[inside], torch.as_tensor(labels[inside])
        standardise = Standardise.fit(
            config.features.normalisation, features.split(256), pool.shape, config.features.axes
        )
        module = ClassifierModule(config.model_dump(), pool.classes, pool.shape, standardise)
        module.loss.fit(targets)
        module.train()
        drawn = round(passes * len(inside))
        batches = math.ceil(drawn / config.batch_size)
        optimizer, schedules = build_optimizer(module.model, config, math.ceil(batches / config.trainer.accumulate))
        chances = balanced_chances(targets) if config.sampler == "balanced" else None
        for epoch in range(1, config.epochs + 1):
            turns = range(math.ceil(passes))
            order = torch.cat([epoch_order(len(inside), seed, epoch + TURN * turn, chances) for turn in turns])[:drawn]
            total = 0.0
            module.start_epoch(epoch - 1)
            torch.manual_seed(epoch_seed(seed, epoch))  # of augmentation and dropout, as SeedEpochs does
            for number, batch in enumerate(order.split(config.batch_size), 1):
                loss, _ = module.training_loss(features[batch], targets[batch])
                (loss / config.trainer.accumulate).backward()
                total += float(loss.detach()) * len(batch)
                if number % config.trainer.accumulate and number < batches:
                    continue
                if config.trainer.gradient_clip is not None:
                    torch.nn.utils.clip_grad_norm_(module.parameters(), config.trainer.gradient_clip)
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
                _step(schedules, "step")
            _step(schedules, "epoch")
            if looks and look is not None and epoch in looks:
                look(looks.index(epoch), module, total / drawn)
            if done is not None:
                done(epoch / config.epochs)
    return module


def predict(module: ClassifierModule, features: torch.Tensor) -> FloatArray:
    """Logits ``[N, K]`` of features ``[N, *shape]``, float32."""
    training = module.training
    module.eval()
    with torch.inference_mode():
        logits = torch.cat([module(part) for part in features.split(256)]) if len(features) else torch.zeros(0, 1)
    module.train(training)
    return np.asarray(logits.float().numpy())


def _step(schedules: list[Schedule], interval: str) -> None:
    for schedule in schedules:
        if schedule["interval"] == interval:
            schedule["scheduler"].step()


def _selected(logits: FloatArray, pool: Pool, fold: IntArray) -> FloatArray:
    """Logits ``[N, K]`` of each fold's best epoch, which the clips of the other folds choose: no clip has a say in its own."""
    predicted = logits.argmax(2)
    chosen: FloatArray = np.empty_like(logits[0])
    for number in set(fold.tolist()):
        others = fold != number
        f1 = [macro_f1(pool.targets[others], epoch[others], pool.num_classes) for epoch in predicted]
        best = len(f1) - 1 - int(np.argmax(f1[::-1]))  # of equals the last
        chosen[~others] = logits[best][~others]
    return chosen
