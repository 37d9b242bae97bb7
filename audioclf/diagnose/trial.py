"""A short retraining of the run's setting with one thing changed, scored out of fold; and what the change did.

Clips are cut into grouped, stratified folds; each fold's clips are scored by a model that was trained on the others,
each fold with a seed of its own. So two trials are compared on the same clips, the same cuts and the same seeds.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Mapping
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
from audioclf.training.scores import DRAWS, LEVEL, FloatArray, IntArray, macro_f1

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
    """

    name: str
    overrides: Mapping[str, Any] = field(default_factory=dict)
    select: str | None = None
    train_labels: IntArray | None = None
    train_on: np.ndarray | None = None

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
        overrides: what was changed.
        looks: logits after each looked-at epoch ``[E, N, K]``; None for probes.
    """

    name: str
    pool: Pool
    fold: IntArray
    logits: FloatArray
    train_f1: float = float("nan")
    curve: Mapping[int, float] = field(default_factory=dict)
    losses: Mapping[int, float] = field(default_factory=dict)
    overrides: Mapping[str, Any] = field(default_factory=dict)
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
        """Writes ``NAME.parquet``: clip, group, fold, target, predicted, logits; the recipe in its metadata."""
        pool = self.pool
        table = pa.table(
            {
                "clip": pool.ids,
                "group": pool.groups,
                "fold": self.fold,
                "target": pool.targets,
                "predicted": self.predicted,
                "logits": pa.array(self.logits.astype(np.float32).tolist(), pa.list_(pa.float32())),
            }
        )
        said = {
            "overrides": dict(self.overrides),
            "train_f1": self.train_f1,
            "curve": dict(self.curve),
            "losses": dict(self.losses),
        }
        metadata = {"classes": "\n".join(pool.classes), "trial": json.dumps(said)}
        with replacing(folder / f"{self.name}.parquet") as file:
            pq.write_table(table.replace_schema_metadata(metadata), file)


def effect(before: Trial, after: Trial, mask: np.ndarray | None = None) -> Numbers:
    """What a change did to macro-F1, paired over clips, with an interval over recordings.

    Args:
        before: usually the run's own setting.
        after: the trial of the same pool with the change.
        mask: the clips that count, bool ``[N]``; None: all.

    Returns:
        ``before``, ``after``, ``gain`` and its 95 % interval ``low``, ``high``; ``trials``, the names of both.
    """
    pool = before.pool
    names = {"trials": [before.name, after.name]}
    return names | paired(pool.targets, before.predicted, after.predicted, pool.groups, pool.num_classes, mask)


def paired(
    targets: IntArray,
    before: IntArray,
    after: IntArray,
    groups: list[str],
    num_classes: int,
    mask: np.ndarray | None = None,
) -> Numbers:
    """The same for any two predictions ``[N]`` of the same clips: a percentile bootstrap that draws recordings."""
    if mask is not None:
        targets, before, after = targets[mask], before[mask], after[mask]
        groups = [group for group, keep in zip(groups, mask, strict=True) if keep]
    draws = _draws(targets, after, groups, num_classes) - _draws(targets, before, groups, num_classes)
    low, high = np.quantile(draws[1:], [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
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
    recipe: Recipe, config: Config, pool: Pool, fold: IntArray, advance: Callable[[float], None] | None = None
) -> Trial:
    """Trains the run's setting with a recipe's changes, once for each fold, and scores what was held out.

    The same module, loss and optimizer as a run's; no files, no Lightning loop, which costs as much as training here.

    Args:
        recipe: what is changed.
        config: the run's configuration.
        pool: the clips.
        fold: of :func:`folds_of`.
        advance: called with the share of the trial that is done after each epoch.
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
        seed = epoch_seed(changed.seed, 1_000_000 + number) % 2**31

        def look(at: int, module: ClassifierModule, loss: float, outside: np.ndarray = outside) -> None:
            logits[at, outside] = predict(module, pool.features[outside])
            losses[at] += loss / len(numbers)

        def done(share: float, place: int = place) -> None:
            if advance is not None:
                advance((place + share) / len(numbers))

        module = train_once(changed, pool, inside, labels, seed, looks, look, done)
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
        overrides=dict(recipe.overrides),
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
) -> ClassifierModule:
    """Trains one model of a configuration on some clips of a pool.

    Args:
        config: of the model and its training; on the CPU.
        pool: the clips.
        inside: places of those that are trained on.
        labels: the labels to learn ``[N]``.
        seed: of weights and order.
        looks: epochs, from 1, after which ``look`` is called with (place in ``looks``, module, mean loss).
        look: see there.
        done: called after each epoch with the share done.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        features, targets = pool.features[inside], torch.as_tensor(labels[inside])
        standardise = Standardise.fit(config.features.normalisation, features.split(256), pool.shape)
        module = ClassifierModule(config.model_dump(), pool.classes, pool.shape, standardise)
        module.loss.fit(targets)
        module.train()
        optimizer, schedulers = _optimizer(module)
        chances = balanced_chances(targets) if config.sampler == "balanced" else None
        for epoch in range(1, config.epochs + 1):
            order = epoch_order(len(inside), seed, epoch, chances)
            total = 0.0
            for batch in order.split(config.batch_size):
                optimizer.zero_grad(set_to_none=True)
                loss = module.loss(module(features[batch]), targets[batch])
                loss.backward()
                optimizer.step()
                total += float(loss.detach()) * len(batch)
            for scheduler in schedulers:
                scheduler.step()
            if looks and look is not None and epoch in looks:
                look(looks.index(epoch), module, total / len(inside))
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


def _optimizer(module: ClassifierModule) -> tuple[torch.optim.Optimizer, list[Any]]:
    made: Any = module.configure_optimizers()
    if isinstance(made, tuple | list):
        return made[0][0], list(made[1])
    return made, []


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
