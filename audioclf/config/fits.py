"""Which features, models and augmentations go together."""

from __future__ import annotations

from audioclf.config.augment import AugmentConfig
from audioclf.config.features import FeaturesConfig
from audioclf.config.model import FinetuneConfig, ModelConfig
from audioclf.config.training import TrainerConfig
from audioclf.errors import UserError


def check_devices(batch_size: int, trainer: TrainerConfig, model: ModelConfig) -> None:
    """Checks that several devices can share a batch, and the model's stages.

    Raises:
        UserError: they cannot; with a size that they can.
    """
    devices = trainer.devices
    if batch_size % devices:
        raise UserError(
            f"trainer.devices={devices}: batch_size={batch_size} is no multiple of it; each takes an equal part of a batch",
            f"write batch_size={max(1, batch_size // devices) * devices}",
        )
    if devices > 1 and isinstance(model, FinetuneConfig) and model.unfreeze_epoch:
        raise UserError(
            f"trainer.devices={devices}: they agree once, at the beginning, on what is trained; expected model.unfreeze_epoch=0",
            "write model.unfreeze_epoch=0, or trainer.devices=1",
        )


def check_fit(features: FeaturesConfig, model: ModelConfig, augment: AugmentConfig) -> None:
    """Checks that the model and the augmentations can do something with the features.

    Raises:
        UserError: naming what does not fit, and what does.
    """
    axes = tuple(axis for axis in features.axes if axis != "layer")
    found = f"features={features.name} gives [{', '.join(features.axes)}]"
    if model.axes and axes not in model.axes:
        wanted = " or ".join(f"[{', '.join(form)}]" for form in model.axes)
        raise UserError(
            f"model={model.name}: {found}; expected {wanted}",
            f"take {model.fits}; or model=linear or audio_classifier, which take any features",
        )
    for name in augment.on:
        needed = augment.needs.get(name)
        if needed and not set(needed) & set(axes):
            raise UserError(
                f"augment.{name}={getattr(augment, name):g}: {found}; expected an axis {' or '.join(needed)}",
                f"leave it out: augment.{name}=0",
            )
