"""Adam and the schedule of its learning rate."""

from __future__ import annotations

from typing import Literal, TypedDict

import torch
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, LRScheduler, OneCycleLR

from audioclf.config import Config
from audioclf.models.finetune import Finetune


class Schedule(TypedDict):
    """A scheduler and when it steps, in Lightning's words."""

    scheduler: LRScheduler
    interval: Literal["step", "epoch"]


def build_optimizer(
    model: nn.Module, config: Config, steps_per_epoch: int
) -> tuple[torch.optim.Optimizer, list[Schedule]]:
    """Adam, fused: on the CPU too, where one fused pass halves the memory traffic of a step.

    Args:
        model: what is trained.
        config: the resolved configuration.
        steps_per_epoch: of the optimizer; only schedules that move within an epoch look at it.

    Returns:
        The optimizer, and what moves its learning rate; several schedules multiply.
    """
    trainer = config.trainer
    parameters = list(model.parameters())
    groups = model.parameter_groups(config.lr) if isinstance(model, Finetune) else parameters
    # Fused, Adam itself takes a loss scale out of the gradients: too late for clipping them, so Lightning refuses both
    # together, also in bfloat16, which has no such scale.
    unscales = trainer.precision != "32-true" and trainer.gradient_clip is not None
    optimizer = torch.optim.Adam(
        groups,
        lr=config.lr,
        weight_decay=config.optimizer.weight_decay,
        fused=not unscales and all(p.is_floating_point() and p.device.type in ("cpu", "cuda") for p in parameters),
    )
    schedules: list[Schedule] = []
    if config.optimizer.warmup:
        rise = max(1, round(config.optimizer.warmup * steps_per_epoch))
        schedules.append({"scheduler": LinearLR(optimizer, 1 / (rise + 1), total_iters=rise), "interval": "step"})
    if config.optimizer.schedule == "cosine":
        schedules.append({"scheduler": CosineAnnealingLR(optimizer, T_max=config.epochs), "interval": "epoch"})
    if config.optimizer.schedule == "one_cycle":
        rates = [group["lr"] for group in optimizer.param_groups]
        total = config.epochs * steps_per_epoch
        schedules.append({"scheduler": OneCycleLR(optimizer, rates, total_steps=total), "interval": "step"})
    return optimizer, schedules
