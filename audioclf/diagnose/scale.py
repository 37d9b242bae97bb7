"""How far Adam's first step carries an activation in a trial: the scale of the input times the learning rate."""

from __future__ import annotations

import numpy as np
import torch

from audioclf.config import Config
from audioclf.diagnose.pool import Pool
from audioclf.features.normalise import Standardise
from audioclf.models.build import build_model
from audioclf.training import preflight
from audioclf.training.preflight import HEALTHY_JUMP

FEW = 512  # clips that the input's size is measured on


def input_size(config: Config, pool: Pool) -> float:
    """Mean over clips of sum |x|, x what one unit of the first layer is given."""
    return float(np.mean(input_sizes(config, pool, pool.features[:FEW])))


def input_sizes(config: Config, pool: Pool, features: torch.Tensor) -> list[float]:
    """Sum |x| of each clip, x what one unit of the first layer is given.

    Args:
        config: of the network.
        pool: what it is trained on.
        features: of the clips ``[N, *shape]``.
    """
    standardise = Standardise.fit(
        config.features.normalisation, pool.features[:FEW].split(256), pool.shape, config.features.axes
    )
    with torch.random.fork_rng(devices=[]):
        model = build_model(config.model, pool.shape, pool.num_classes, config.features)
    share = preflight.seen_at_once(model, standardise(pool.features[: preflight.SEEN]))
    sizes = [standardise(part).abs().flatten(1).sum(1) for part in features.split(256)]
    return (share * torch.cat(sizes)).tolist()


def first_jump(config: Config, pool: Pool) -> float:
    """How far the first step moves an activation: lr * mean sum |x|.

    Adam's first step moves each weight by lr, whatever the gradient's size (Kingma and Ba, 2015, section 2.1). A
    network's initial activations are of the order of 1.
    """
    return config.lr * input_size(config, pool)


def lr_for(config: Config, pool: Pool, jump: float = HEALTHY_JUMP) -> float:
    """The learning rate whose first step moves an activation by ``jump``, to one digit."""
    return preflight.lr_for(input_size(config, pool), jump)
