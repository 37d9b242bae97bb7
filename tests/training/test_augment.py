"""Augmentation: what each kind does, that the same epoch draws the same, and that val and test never see it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader, TensorDataset

from audioclf.compose import load_config
from audioclf.config import AugmentConfig, Config, MelConfig, WaveformConfig
from audioclf.errors import UserError
from audioclf.features.normalise import Standardise
from audioclf.training.augment import Augment
from audioclf.training.callbacks import SeedEpochs
from audioclf.training.fit import quiet_lightning
from audioclf.training.module import ClassifierModule

Tiny = Callable[..., Config]
SHAPE = (8, 20)
EVERYTHING = {"gain": 6.0, "time_shift": 0.5, "noise": 0.2, "time_mask": 6, "freq_mask": 3, "mixup": 0.4}
MEL = MelConfig.model_validate({"name": "mel"})
RAW = MelConfig.model_validate({"name": "mel", "normalisation": "none"})
WAVEFORM = WaveformConfig.model_validate({"name": "waveform"})
NOTHING = Standardise.identity("none", SHAPE)


def varied(
    features: torch.Tensor, section: Any = MEL, standardise: Standardise = NOTHING, **keys: float
) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    targets = torch.arange(len(features)) % 3
    return Augment(AugmentConfig.model_validate(keys), section, 3)(features, targets, standardise)


# --- what each kind does ---------------------------------------------------------------------------------------------


def test_nothing_is_varied_unless_it_is_asked_for() -> None:
    features = torch.randn(5, *SHAPE)
    standardise = Standardise(torch.randn(8, 1), torch.rand(8, 1) + 0.5)
    found, targets = varied(features, standardise=standardise)
    assert torch.equal(found, standardise(features)) and targets.dtype == torch.long
    assert not Augment(AugmentConfig(), MEL, 3).on and Augment(AugmentConfig(mixup=0.1), MEL, 3).on


def test_a_shift_rolls_each_clip_by_its_own_number_of_frames() -> None:
    features = torch.randn(30, *SHAPE)
    found, _ = varied(features, time_shift=0.25)
    by = [
        next(n for n in range(-5, 6) if torch.equal(ours, clip.roll(n, 1)))
        for ours, clip in zip(found, features, strict=True)
    ]
    assert min(by) < 0 < max(by) and len(set(by)) > 4
    waves = torch.randn(30, 100)
    found, _ = varied(waves, WAVEFORM, time_shift=0.25)
    assert not torch.equal(found, waves) and torch.equal(found.sort(1).values, waves.sort(1).values)


def test_gain_is_in_decibels_whatever_the_features_and_silence_stays_silent() -> None:
    torch.manual_seed(1)
    decibels = torch.randn(40, *SHAPE) * 10 - 40
    decibels[:, :, 15:] = -100.0
    found, _ = varied(decibels, gain=6.0)
    change = found - decibels
    assert torch.equal(found[:, :, 15:], decibels[:, :, 15:])
    assert torch.allclose(change[:, :, :15], change[:, :1, :1].expand(40, 8, 15), atol=1e-4), "one gain a clip"
    gain = change[:, 0, 0]
    assert gain.abs().max() <= 6.0 and gain.min() < -3 and gain.max() > 3
    power = MelConfig.model_validate({"name": "mel", "scale": "power"})
    louder, _ = varied(10 ** (decibels / 10), power, gain=6.0)
    assert torch.allclose(10 * louder.log10()[:, :, :15], found[:, :, :15], atol=1e-3)
    waves, _ = varied(10 ** (decibels / 20), WAVEFORM, gain=6.0)
    assert torch.allclose(20 * waves.log10()[:, :, :15], found[:, :, :15], atol=1e-3)


def test_noise_is_a_share_of_each_clips_own_deviation() -> None:
    features = torch.randn(200, 4000) * torch.tensor([0.01, 10.0]).repeat(100)[:, None]
    found, _ = varied(features, WAVEFORM, noise=0.2)
    shares = (found - features).std(1) / features.std(1)
    assert shares.max() <= 0.205 and shares.mean() == pytest.approx(0.1, abs=0.02)


def test_masks_blank_whole_frames_and_bands_with_the_mean() -> None:
    features = torch.randn(50, *SHAPE) + 5
    standardise = Standardise.fit("per_band", [features], SHAPE)
    found, _ = varied(features, standardise=standardise, time_mask=6)
    blank = found == 0
    frames = blank.all(1)
    assert torch.equal(blank, frames[:, None].expand_as(blank)) and 1 < frames.sum(1).max() <= 12
    found, _ = varied(features, standardise=standardise, freq_mask=3)
    bands = (found == 0).all(2)
    assert torch.equal(found == 0, bands[:, :, None].expand_as(found)) and 1 <= bands.sum(1).max() <= 6
    raw, _ = varied(features, RAW, time_mask=6)
    assert torch.allclose(raw[frames[:, None].expand_as(raw)], features.mean(), atol=1e-5), "unnormalised: their mean"


def test_masks_leave_half_of_a_short_clip() -> None:
    found, _ = varied(torch.ones(200, *SHAPE), time_mask=1000)
    assert ((found == 0).all(1).sum(1) <= 20).all() and (found == 1).any(2).any(1).float().mean() > 0.9


def test_mixup_mixes_labels_as_it_mixes_clips_and_keeps_the_clips_own_first() -> None:
    features = torch.eye(6)[:, :, None].expand(6, 6, 4)  # who is in a mixture can be read from it
    found, targets = varied(features, mixup=1.0)
    shares = found[:, :, 0]
    assert torch.allclose(shares.sum(1), torch.ones(6)) and torch.allclose(targets.sum(1), torch.ones(6))
    assert (shares.diagonal() >= 0.5).all() and shares.diagonal().min() < 0.9
    assert torch.allclose(targets, shares @ torch.nn.functional.one_hot(torch.arange(6) % 3, 3).float())
    several = torch.rand(6, 3)
    torch.manual_seed(0)
    _, mixed = Augment(AugmentConfig(mixup=1.0), MEL, 3)(features, several, NOTHING)
    assert torch.allclose(mixed, shares @ several), "clips of several labels"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["features=yamnet", "augment.freq_mask=3"], "augment.freq_mask=3: features=yamnet gives [dim]"),
        (["features=yamnet", "augment.time_mask=3"], "augment.time_mask=3: features=yamnet gives [dim]"),
        (["features=yamnet", "augment.time_shift=0.1"], "augment.time_shift=0.1: features=yamnet gives [dim]"),
        (["features=yamnet", "augment.gain=3"], "augment.gain=3: features=yamnet gives [dim]"),
        (["features=waveform", "augment.freq_mask=3"], "augment.freq_mask=3: features=waveform gives [sample]"),
        (["features=mel+text", "augment=standard"], "augment.time_shift=0.5: features=mel+text gives [dim]"),
    ],
)
def test_an_augmentation_that_makes_no_sense_is_refused(overrides: list[str], message: str) -> None:
    with pytest.raises(UserError) as caught:
        load_config(overrides)
    assert caught.value.message.startswith(message) and "leave it out" in str(caught.value.hint)


def test_embeddings_can_be_mixed_and_made_noisy() -> None:
    load_config(["features=yamnet", "augment.mixup=0.2", "augment.noise=0.1"])


# --- where it is applied ---------------------------------------------------------------------------------------------


def module_of(config: Config) -> ClassifierModule:
    torch.manual_seed(0)
    return ClassifierModule(
        config.model_dump(), ["a", "b", "c"], SHAPE, Standardise(torch.randn(8, 1), torch.ones(8, 1))
    )


def batches() -> DataLoader[Any]:
    generator = torch.Generator().manual_seed(1)
    features, targets = torch.randn(21, *SHAPE, generator=generator), torch.arange(21) % 3
    return DataLoader(TensorDataset(features, targets, torch.arange(21)), 8)


class Seen(pl.Callback):
    """Keeps what the network is given, by stage."""

    def __init__(self) -> None:
        self.inputs: dict[str, list[torch.Tensor]] = {}

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        def keep(_: torch.nn.Module, given: tuple[torch.Tensor, ...]) -> None:
            if trainer.state.stage is not None:
                self.inputs.setdefault(str(trainer.state.stage.value), []).append(given[0].detach().clone())

        if not pl_module.model._forward_pre_hooks:
            pl_module.model.register_forward_pre_hook(keep)


def trained(config: Config, folder: Path) -> tuple[Seen, list[Any], ClassifierModule]:
    quiet_lightning()
    seen, module, loader = Seen(), module_of(config), batches()
    trainer = pl.Trainer(
        max_epochs=2,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        num_sanity_val_steps=0,
        callbacks=[SeedEpochs(0), seen],
        default_root_dir=folder,
    )
    trainer.fit(module, loader, loader)
    scores = [trainer.validate(module, loader, verbose=False), trainer.test(module, loader, verbose=False)]
    trainer.predict(module, loader)
    return seen, scores, module


def test_val_test_and_prediction_are_given_the_clips_as_they_are(tiny_config: Tiny, tmp_path: Path) -> None:
    plain, augmented = (tiny_config(lr=1e-12, augment=keys) for keys in ({}, EVERYTHING))
    (clean, scores, _), (varied_, others, module) = trained(plain, tmp_path), trained(augmented, tmp_path)
    assert clean.inputs.keys() == varied_.inputs.keys() == {"train", "validate", "test", "predict"}
    for stage in ("validate", "test", "predict"):
        pairs = list(zip(clean.inputs[stage], varied_.inputs[stage], strict=True))
        assert pairs and all(torch.equal(*pair) for pair in pairs), stage
    assert not any(torch.equal(*pair) for pair in zip(clean.inputs["train"], varied_.inputs["train"], strict=True))
    for one, other in zip(scores, others, strict=True):  # the weights hardly moved
        assert one[0] == pytest.approx(other[0], abs=1e-6)
    features = batches().dataset.tensors[0]
    for mode in (True, False):
        assert torch.equal(module.train(mode)(features), module_like(plain, module)(features)), "forward never varies"


def module_like(config: Config, other: ClassifierModule) -> ClassifierModule:
    module = module_of(config)
    module.load_state_dict(other.state_dict())
    return module


def test_each_epoch_draws_anew_and_the_same_again(tiny_config: Tiny, tmp_path: Path) -> None:
    first, again = (trained(tiny_config(augment=EVERYTHING), tmp_path)[0].inputs["train"] for _ in range(2))
    assert len(first) == 6 and all(torch.equal(*pair) for pair in zip(first, again, strict=True))
    assert not torch.equal(first[0], first[3]), "the first batch of the first and of the second epoch"


def test_train_scores_count_the_clips_own_labels(tiny_config: Tiny, tmp_path: Path) -> None:
    module = trained(tiny_config(augment=EVERYTHING), tmp_path)[2]
    features, targets, _ = next(iter(batches()))
    torch.manual_seed(0)
    loss, logits = module.training_loss(features, targets)
    torch.manual_seed(0)
    module.training_step((features, targets, targets), 0)
    confusion = module.collected["fit"].compute()
    assert torch.equal(confusion.sum(1), torch.bincount(targets, minlength=3))
    assert int(confusion.diagonal().sum()) == int((logits.argmax(1) == targets).sum())
    assert float(module.loss_sum["fit"].compute()) == pytest.approx(float(loss) * len(targets), rel=1e-5)
