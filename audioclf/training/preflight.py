"""What can be seen before training: the scale of the first step, the untrained model's loss, the shape of the data."""

from __future__ import annotations

import copy
import math
from collections import Counter
from dataclasses import dataclass

import torch
from torch import nn

from audioclf.clips.annotations import given_away
from audioclf.clips.manifest import count_by_label
from audioclf.data import AudioDataModule
from audioclf.features.normalise import Standardise, suited
from audioclf.runs.identity import short
from audioclf.training.module import ClassifierModule

LOOKED_AT = 128  # training clips, evenly spaced
SEEN = 8  # of them, by which it is found what the first layer sees
HEALTHY_JUMP = 0.3  # what the defaults have; from 0.08 to 8 the test F1 of ESC-10 was within 0.1 of its best
LOUD_JUMP = 20.0  # at 28 it had lost 0.12
LOUD_LOSS = 1.0  # above ln K; healthy models were within 0.2
DEAD_STEPS = 3
LOUD_DEAD = 0.5  # of the units
FEW_CLIPS = 5  # of a class in training
LOUD_RATIO = 20.0  # of the most frequent class to the rarest
LOUD_SHARE = 0.05  # of the clips that have a defect
MIN_SPREAD = 1e-6  # of the median clip's standard deviation: what varies less is constant
BATCH_STEPS = 100  # on one batch, which is then known by heart:
LEARNT = 0.95  # of its clips are right


@dataclass(frozen=True)
class Check:
    """One thing that was looked at before training.

    Attributes:
        name: e.g. ``"first_step"``.
        value: what was found.
        expected: what a sound run has, in words.
        loud: whether a person should know it before the run has begun.
        sentence: what was found, in words.
        next: what to do; None where nothing is to be done.
    """

    name: str
    value: float
    expected: str
    loud: bool
    sentence: str
    next: str | None = None

    @property
    def line(self) -> str:
        """What ``python train.py`` prints."""
        return f"before training: {self.sentence}" + (f"; {self.next}" if self.next else "")


def preflight(module: ClassifierModule, data: AudioDataModule, thorough: bool = False) -> list[Check]:
    """Looks at an untrained model and its data; changes neither, nor any random state.

    Args:
        module: the model as training will begin with it, on the CPU.
        data: the data module after ``setup()``.
        thorough: also what takes steps, and so seconds: dead units, and whether one batch can be learnt by heart.
    """
    train = data.datasets["train"]
    features, targets, _ = train.__getitems__(_spaced(len(train), LOOKED_AT))
    checks = [first_step(module, features), loss_at_init(module, features, targets)]
    if thorough:
        batch = _spaced(len(features), module.config.batch_size)
        if any(isinstance(part, nn.ReLU) for part in module.modules()):
            checks.append(dead_units(module, features[batch], targets[batch]))
        checks.append(one_batch(module, features[batch], targets[batch]))
    return [
        *checks,
        constant_features(features),
        copies(data),
        *class_checks(data),
        leaks(data),
        several_labels(data),
        *texts(data),
    ]


def input_size(standardise: Standardise, features: torch.Tensor, model: nn.Module) -> float:
    """Mean over clips of sum |x|, x what one unit of the first layer is given, by what the network is given of features ``[N, *shape]``."""
    inputs = standardise(features)
    return float(inputs.abs().flatten(1).sum(1).mean()) * seen_at_once(model, inputs[:SEEN])


def seen_at_once(model: nn.Module, inputs: torch.Tensor) -> float:
    """What one unit of the first layer that is trained is given, sum |x|, as a share of that of the network's inputs.

    1 where the layer is dense; next to nothing where it looks at nine places of a spectrogram, as a convolution does.
    """
    found: list[float] = []

    def look(layer: nn.Module, given: tuple[torch.Tensor, ...], _: torch.Tensor) -> None:
        weight = layer.weight
        assert isinstance(weight, torch.Tensor)
        if not found and weight.requires_grad:
            found.append(float(given[0].abs().mean()) * weight[0].numel())

    layers = [layer for layer in model.modules() if isinstance(layer, nn.Linear | nn.Conv1d | nn.Conv2d)]
    hooks = [layer.register_forward_hook(look) for layer in layers]
    training = model.training
    model.eval()
    with torch.inference_mode():
        model(inputs)
    model.train(training)
    for hook in hooks:
        hook.remove()
    whole = float(inputs.abs().flatten(1).sum(1).mean())
    return found[0] / whole if found and whole > 0 else 1.0


def lr_for(size: float, jump: float = HEALTHY_JUMP) -> float:
    """The learning rate, to one digit, whose first step moves an activation by ``jump`` for inputs of a size.

    Features that are the same for all clips are 0 when normalised, and no rate suits them: Adam's own default.
    """
    return float(f"{jump / size:.0e}") if size else 1e-3


def first_step(module: ClassifierModule, features: torch.Tensor) -> Check:
    """How far the first step moves an activation of the first layer: lr * mean sum |x|.

    Adam's first step moves each weight by lr, whatever the gradient's size (Kingma and Ba, 2015, section 2.1); initial
    activations are of the order of 1.
    """
    config = module.config
    size = input_size(module.standardise, features, module.model)
    jump = config.lr * size
    loud = not jump <= LOUD_JUMP
    shape = tuple(features.shape[1:])
    sound = Standardise.fit(suited(config.features), [features], shape, config.features.axes)
    mended = input_size(sound, features, module.model) if loud else size
    raw = config.features.normalisation == "none" and mended < size / 2
    sentence = f"the first step moves an activation by {format(jump, ',.0f' if jump >= 10 else '.2g')}"
    if loud:
        why = ", and the features are not normalised" if raw else ""
        sentence += (
            f", healthy is about {HEALTHY_JUMP:g}: lr={short(config.lr)} is too high for inputs of this size{why}"
        )
    todo = (
        "try "
        + (f"features.normalisation={suited(config.features)} " if raw else "")
        + f"lr={short(lr_for(mended if raw else size))}"
    )
    return _check("first_step", jump, f"at most {LOUD_JUMP:g}", loud, sentence, todo)


def loss_at_init(module: ClassifierModule, features: torch.Tensor, targets: torch.Tensor) -> Check:
    """The untrained model's loss, and that of one which says the same of all classes: ln K by plain cross-entropy."""
    training = module.training
    module.eval()
    with torch.inference_mode():
        logits = module(features)
        loss, guess = float(module.loss(logits, targets)), float(module.loss(torch.zeros_like(logits), targets))
    module.train(training)
    loud = not loss <= guess + LOUD_LOSS
    sentence = f"the untrained model's loss is {loss:.3g}, guessing has {guess:.3g}"
    if math.isclose(guess, math.log(len(module.classes)), abs_tol=1e-4):
        sentence += f" (ln {len(module.classes)})"
    todo = "its inputs are too large for its first weights: normalise them "
    todo += f"(features.normalisation={suited(module.config.features)})"
    return _check("loss_at_init", loss, f"at most {guess + LOUD_LOSS:.3g}", loud, sentence, todo)


def dead_units(module: ClassifierModule, features: torch.Tensor, targets: torch.Tensor) -> Check:
    """The share of ReLU units that are 0 for every clip of a batch after a few steps on it, with the run's lr.

    A unit that is 0 for all clips has no gradient and stays as it is.
    """
    inputs, model = module.standardise(features), copy.deepcopy(module.model)
    _learn(model, inputs, targets, module, module.config.lr, DEAD_STEPS)
    outputs: list[torch.Tensor] = []
    for part in model.modules():
        if isinstance(part, nn.ReLU):
            part.register_forward_hook(lambda _, __, output: outputs.append(output))
    with torch.inference_mode():
        model(inputs)
    alive = torch.cat([(output > 0).any(0).flatten() for output in outputs])
    share = 1.0 - float(alive.float().mean())
    sentence = f"{share:.0%} of the ReLU units are dead after {DEAD_STEPS} steps"
    todo = "they learn nothing any more: lower lr"
    return _check("dead_units", share, f"at most {LOUD_DEAD:.0%}", share > LOUD_DEAD, sentence, todo)


def one_batch(module: ClassifierModule, features: torch.Tensor, targets: torch.Tensor) -> Check:
    """Whether some dozen steps learn one batch by heart; where not, whether they do on normalised features with lr to suit.

    A model and data that cannot do that either have a fault that no training mends.
    """

    def learn(standardise: Standardise, lr: float) -> float:
        model = copy.deepcopy(module.model)
        return _learn(model, standardise(features), targets, module, lr, BATCH_STEPS)

    lr, kind = module.config.lr, suited(module.config.features)
    own = learn(module.standardise, lr)
    loud = own < LEARNT
    sentence = f"one batch of {len(targets)} clips, {BATCH_STEPS} steps: {own:.0%} are right with lr={short(lr)}"
    todo = ""
    if loud:
        sound = Standardise.fit(kind, [features], tuple(features.shape[1:]), module.config.features.axes)
        better = lr_for(input_size(sound, features, module.model))
        other = learn(sound, better)
        raw = module.config.features.normalisation != kind
        sentence += f", {other:.0%} {'on normalised features ' if raw else ''}with lr={short(better)}"
        learnt = other >= LEARNT
        todo = (
            f"try {f'features.normalisation={kind} ' if raw else ''}lr={short(better)}"
            if learnt
            else "it cannot be learnt by heart: look at labels and features"
        )
    return _check("one_batch", own, f"at least {LEARNT:.0%}", loud, sentence, todo)


def constant_features(features: torch.Tensor) -> Check:
    """Clips in whose features ``[N, *shape]`` nothing changes."""
    spread = features.flatten(1).double().std(1)
    constant = int((~(spread > MIN_SPREAD * spread.nanmedian())).sum())
    share = constant / len(features)
    sentence = f"{constant} of {len(features)} training clips looked at have constant features"
    todo = "listen to them: they are empty, or the cache is broken (paths.cache=DIR makes another)"
    return _check("constant_features", share, "0", share >= LOUD_SHARE, sentence, todo)


def copies(data: AudioDataModule) -> Check:
    """Clips with the very samples of another clip, in all splits."""
    assert data.prepared is not None
    sounds = Counter(data.prepared.rows[clip].sha256 for part in data.splits.parts().values() for clip in part)
    number, clips = sounds.total() - len(sounds), sounds.total()
    share = number / clips
    sentence = f"{number} of {clips} clips are copies of another clip, sample by sample"
    return _check("copies", share, "0", share >= LOUD_SHARE, sentence, "keep one of each")


def class_checks(data: AudioDataModule) -> list[Check]:
    """Classes that are rare or absent, in training and in the splits that score it."""
    counts = {name: Counter(count_by_label(part)) for name, part in data.splits.parts().items()}
    (most, largest), (rarest, fewest) = (
        pick(((label, counts["train"][label]) for label in data.classes), key=lambda item: item[1])
        for pick in (max, min)
    )
    few = sum(counts["train"][label] < FEW_CLIPS for label in data.classes)
    more = f" ({few} of {len(data.classes)} classes have fewer than {FEW_CLIPS})" if few > 1 else ""
    ratio = largest / max(fewest, 1)
    imbalance = f"class {most} has {ratio:.3g} times the training clips of class {rarest}"
    checks = [
        _check(
            "fewest_clips",
            fewest,
            f"at least {FEW_CLIPS}",
            fewest < FEW_CLIPS,
            f"class {rarest} has {fewest} training clips{more}",
            "add recordings, or leave the class out",
        ),
        _check(
            "imbalance",
            ratio,
            f"at most {LOUD_RATIO:g}",
            ratio > LOUD_RATIO,
            imbalance,
            "look at the rare classes' own F1; sampler=balanced draws each class equally often",
        ),
    ]
    for name in ("val", "test"):
        absent = [label for label in data.classes if not counts[name][label]]
        example = f", e.g. {absent[0]}" if absent else ""
        sentence = f"{len(absent)} of {len(data.classes)} classes have no {name} clips{example}"
        checks.append(
            _check(f"absent_{name}", len(absent), "0", bool(absent), sentence, f"{name} F1 says nothing of them")
        )
    return checks


def leaks(data: AudioDataModule) -> Check:
    """Recordings in several splits, which training refuses unless ``data.allow_leak``."""
    number = len(data.splits.leaks)
    sentence = f"{number} recordings sit in more than one split"
    todo = "test F1 will be too high: give the clips of one recording one split"
    return _check("leaks", number, "0", number > 0, sentence, todo)


def several_labels(data: AudioDataModule) -> Check:
    """Clips that had several labels in the table, of which ``data.multi_label`` kept one."""
    assert data.prepared is not None
    manifest = data.prepared.manifest
    chosen, clips = manifest.selection, len(manifest.clips) + manifest.selection.over_limit
    kept = 0 if chosen.rule in ("drop", "keep") else chosen.multi_label
    sentence = f"{kept} of {clips} clips had several labels, of which one is kept (data.multi_label={chosen.rule})"
    todo = "a prediction of another of them counts as wrong; data.multi_label=keep loss=bce learns them all"
    return _check("several_labels", kept / clips, "0", kept / clips >= LOUD_SHARE, sentence, todo)


def texts(data: AudioDataModule) -> list[Check]:
    """Annotations that contain the name of their class, where the front-end reads them."""
    if not data.front_end.reads_text:
        return []
    found = given_away(clip for part in data.splits.parts().values() for clip in part)
    todo = "the model may read the label there: F1 says nothing of sounds whose annotation is written without it"
    return [_check("annotations", found.share, "0", found.share >= LOUD_SHARE, found.sentence, todo)]


def _check(name: str, value: float, expected: str, loud: bool, sentence: str, todo: str) -> Check:
    return Check(name, value, expected, loud, sentence, todo if loud else None)


def _spaced(size: int, most: int) -> list[int]:
    """At most ``most`` of ``size`` places, evenly spaced: clips are in the order of their names, class by class."""
    count = min(size, most)
    return [i * size // count for i in range(count)]


def _learn(
    model: nn.Module, inputs: torch.Tensor, targets: torch.Tensor, module: ClassifierModule, lr: float, steps: int
) -> float:
    """Takes steps of Adam on one batch of what the network is given, until it is learnt; the share that is right then.

    Loss, and what is right, are the module's.
    """
    right = 0.0
    with torch.random.fork_rng(devices=[]):
        optimizer = torch.optim.Adam(model.parameters(), lr=lr, fused=True)
        for _ in range(steps):
            optimizer.zero_grad(set_to_none=True)
            logits = model(inputs)
            right = float(module.task.right(logits.detach(), targets).float().mean())
            if right >= LEARNT and steps > DEAD_STEPS:
                break
            module.loss(logits, targets).backward()
            optimizer.step()
    return right
