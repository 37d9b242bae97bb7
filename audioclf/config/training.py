"""How a run is trained: ``loss``, ``optimizer``, ``trainer``."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from audioclf.config.section import NOT_IDENTITY, Section


class Loss(Section):
    """What every loss shares."""

    class_weights: Literal["none", "balanced"] = Field(
        "none", description="balanced: rare classes weigh more, by their clips in the training split"
    )


class CrossEntropyConfig(Loss):
    """Cross-entropy over the classes."""

    name: Literal["cross_entropy"]
    label_smoothing: float = Field(0.0, ge=0, lt=1)


class FocalConfig(Loss):
    """Cross-entropy in which clips count less the better they are known (Lin et al., 2017)."""

    name: Literal["focal"]
    gamma: float = Field(2.0, ge=0, description="0: cross-entropy; the larger, the less known clips count")


class BceConfig(Loss):
    """Binary cross-entropy of each class by itself, for clips that keep several labels (``data.multi_label=keep``)."""

    name: Literal["bce"]


LossConfig = Annotated[CrossEntropyConfig | FocalConfig | BceConfig, Field(discriminator="name")]


class OptimizerConfig(Section):
    """Adam; its learning rate is the top-level ``lr`` and stands nowhere else."""

    weight_decay: float = Field(0.0, ge=0)
    schedule: Literal["constant", "cosine", "one_cycle"] = Field(
        "constant",
        description="cosine: lr falls to 0 over the run's epochs, one_cycle: it rises to lr, then falls to 0; both depend on epochs",
    )
    warmup: float = Field(0.0, ge=0, description="over which lr rises from 0 at first [epochs]")

    @model_validator(mode="after")
    def _one_rise(self) -> OptimizerConfig:
        if self.schedule == "one_cycle" and self.warmup:
            raise ValueError("schedule=one_cycle rises by itself; expected warmup=0")
        return self

    @property
    def by_step(self) -> bool:
        """Whether the learning rate moves within an epoch."""
        return self.schedule == "one_cycle" or self.warmup > 0


class TrainerConfig(Section):
    """How a run is carried out."""

    select: Literal["best", "last"] = Field(
        "best", description="weights that are tested: best val macro-F1 (of several labels: mAP), or the last epoch's"
    )
    patience: int | None = Field(
        None,
        ge=1,
        description="stop after so many epochs without a higher val macro-F1 (of several labels: mAP); null: never",
    )
    precision: Literal["32-true", "16-mixed", "bf16-mixed"] = Field(
        "32-true", description="mixed: training computes in 16 bits where that is safe"
    )
    accumulate: int = Field(1, ge=1, description="batches whose gradients make one step")
    gradient_clip: float | None = Field(None, gt=0, description="largest norm of a step's gradient; null: any")
    accelerator: Literal["auto", "cpu", "gpu"] = Field("auto", json_schema_extra=NOT_IDENTITY)
    devices: int = Field(1, ge=1, description="GPUs, or processes on the CPU, that share each batch, one machine")
    strategy: Literal["auto", "ddp", "ddp_find_unused_parameters_true"] = Field(
        "auto", description="of several devices, Lightning's; auto: ddp", json_schema_extra=NOT_IDENTITY
    )
    checkpoint_every_s: float = Field(
        15.0, ge=0, description="least time between checkpoints [s]", json_schema_extra=NOT_IDENTITY
    )
    keep_state: bool = Field(
        True,
        description="keep what a finished run needs to go on to more epochs: four fifths of its disk space",
        json_schema_extra=NOT_IDENTITY,
    )
    tensorboard: bool = Field(True, json_schema_extra=NOT_IDENTITY)
