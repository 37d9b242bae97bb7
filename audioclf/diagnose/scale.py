"""How far Adam's first step carries an activation: the scale of the input times the learning rate."""

from __future__ import annotations

from typing import TYPE_CHECKING

from audioclf.config import Config
from audioclf.diagnose.pool import Pool
from audioclf.features.normalise import Standardise

if TYPE_CHECKING:
    from audioclf.diagnose.lab import Lab

HEALTHY_JUMP = 0.3  # what the defaults have on standardised features


def input_size(config: Config, pool: Pool) -> float:
    """Mean over clips of sum |x|, x what the network is given."""
    train = pool.features[:512]
    standardise = Standardise.fit(config.features.normalisation, train.split(256), pool.shape)
    return float(standardise(train).abs().flatten(1).sum(1).mean())


def first_jump(config: Config, pool: Pool) -> float:
    """lr * mean sum |x|: Adam's first step moves each weight by lr (Kingma and Ba, 2015, section 2.1)."""
    return config.lr * input_size(config, pool)


def lr_for(config: Config, pool: Pool) -> float:
    """The learning rate, to two digits, whose first step is of the order of the initial activations."""
    return float(f"{HEALTHY_JUMP / input_size(config, pool):.1e}")


def brief_epochs(lab: Lab) -> int:
    """Epochs that show whether another setting learns."""
    from audioclf.diagnose.lab import BRIEF

    return BRIEF
