"""The LightningModule: what it optimises and with what, how it counts, and what its checkpoint needs to predict again."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import pytorch_lightning as pl
import torch
from sklearn.metrics import f1_score
from torch.utils.data import DataLoader, TensorDataset

from audioclf.config import Config
from audioclf.data import AudioDataModule
from audioclf.features.normalise import Standardise
from audioclf.training.fit import fit, quiet_lightning
from audioclf.training.module import ClassifierModule

Tiny = Callable[..., Config]
SHAPE = (8, 20)
CLASSES = ["a", "b", "c"]


def module_of(config: Config, standardise: Standardise | None = None) -> ClassifierModule:
    torch.manual_seed(0)
    return ClassifierModule(config.model_dump(), CLASSES, SHAPE, standardise)


def loader(clips: int, batch_size: int) -> DataLoader[Any]:
    generator = torch.Generator().manual_seed(1)
    targets = torch.randint(3, (clips,), generator=generator)
    features = torch.randn(clips, *SHAPE, generator=generator)
    return DataLoader(TensorDataset(features, targets, torch.arange(clips)), batch_size)


@pytest.fixture
def trainer(tmp_path: Path) -> Callable[..., pl.Trainer]:
    quiet_lightning()

    def make(**more: Any) -> pl.Trainer:
        quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
        return pl.Trainer(**quiet, enable_checkpointing=False, default_root_dir=tmp_path, **more)

    return make


def test_scores_are_of_all_clips_and_not_averages_of_batches(
    tiny_config: Tiny, trainer: Callable[..., pl.Trainer]
) -> None:
    module = module_of(tiny_config())
    uneven = loader(clips=21, batch_size=8)  # 8, 8 and 5 clips
    (found,) = trainer().test(module, uneven, verbose=False)

    features, targets, _ = uneven.dataset.tensors
    with torch.no_grad():
        logits = module(features)
    expected = {
        "test/loss": float(torch.nn.functional.cross_entropy(logits, targets)),
        "test/accuracy": float((logits.argmax(1) == targets).float().mean()),
        "test/f1_macro": f1_score(targets, logits.argmax(1), average="macro"),
    }
    assert found == pytest.approx(expected, abs=1e-6)
    by_batch = [f1_score(targets[i : i + 8], logits[i : i + 8].argmax(1), average="macro") for i in (0, 8, 16)]
    assert abs(np.mean(by_batch) - expected["test/f1_macro"]) > 0.01, "the test would prove nothing"


def test_an_epochs_scores_start_from_nothing(tiny_config: Tiny, trainer: Callable[..., pl.Trainer]) -> None:
    module, batches = module_of(tiny_config()), loader(21, 8)
    first = trainer().validate(module, batches, verbose=False)
    assert trainer().validate(module, batches, verbose=False) == first


def test_a_batch_that_is_not_finite_is_not_averaged_away(tiny_config: Tiny, trainer: Callable[..., pl.Trainer]) -> None:
    batches = loader(21, 8)
    batches.dataset.tensors[0][20] = torch.nan
    (found,) = trainer().test(module_of(tiny_config()), batches, verbose=False)
    assert np.isnan(found["test/loss"])


def test_adam_is_fused_and_takes_its_settings_from_the_configuration(tiny_config: Tiny) -> None:
    module = module_of(tiny_config(lr=0.0123, optimizer={"weight_decay": 0.25}))
    optimizer = module.configure_optimizers()
    assert type(optimizer) is torch.optim.Adam
    (group,) = optimizer.param_groups
    assert (group["lr"], group["weight_decay"], group["fused"]) == (0.0123, 0.25, True)
    assert {id(p) for p in group["params"]} == {id(p) for p in module.model.parameters()}


@pytest.mark.parametrize("weight_decay", [0.0, 0.5])
@pytest.mark.parametrize("label_smoothing", [0.0, 0.3])
def test_training_does_what_plain_torch_does_with_adam_and_cross_entropy(
    tiny_config: Tiny, trainer: Callable[..., pl.Trainer], label_smoothing: float, weight_decay: float
) -> None:
    config = tiny_config(lr=0.01, loss={"label_smoothing": label_smoothing}, optimizer={"weight_decay": weight_decay})
    mean, std = torch.randn(8, 1), torch.rand(8, 1) + 0.5
    module, batches = module_of(config, Standardise(mean, std)), loader(21, 8)
    trainer(max_epochs=2).fit(module, batches)

    plain = module_of(config).model
    optimizer = torch.optim.Adam(plain.parameters(), lr=0.01, weight_decay=weight_decay)
    for _ in range(2):
        for features, targets, _ in batches:
            optimizer.zero_grad()
            logits = plain((features - mean) / std)
            torch.nn.functional.cross_entropy(logits, targets, label_smoothing=label_smoothing).backward()
            optimizer.step()
    for ours, theirs in zip(module.model.parameters(), plain.parameters(), strict=True):
        assert torch.allclose(ours, theirs, atol=1e-5)


def test_one_batch_can_be_overfitted(tiny_config: Tiny, trainer: Callable[..., pl.Trainer]) -> None:
    module, batch = module_of(tiny_config(lr=0.01)), loader(16, 16)
    trainer(max_epochs=60).fit(module, batch)
    (found,) = trainer().test(module, batch, verbose=False)
    assert found["test/f1_macro"] == 1.0 and found["test/loss"] < 0.05


@pytest.mark.parametrize("normalisation", ["none", "global", "per_band"])
def test_a_checkpoint_alone_gives_the_runs_logits_in_another_process(
    tiny_config: Tiny, tmp_path: Path, normalisation: str
) -> None:
    config = tiny_config(features={"normalisation": normalisation}, trainer={"select": "last"})
    run = fit(config, tmp_path / "run")
    table = pq.read_table(run.folder / "predictions.parquet").to_pydict()
    saved = [logits for logits, split in zip(table["logits"], table["split"], strict=True) if split == "test"]
    data = AudioDataModule(config.data, config.features, cache=config.paths.cache)
    data.setup()
    assert data.datasets["test"].features is not None
    np.save(tmp_path / "features.npy", data.datasets["test"].features.numpy())
    checkpoint = (run.folder / "checkpoints" / "model.ckpt").rename(tmp_path / "alone.ckpt")

    if normalisation == "per_band":  # a fresh process once: it takes seconds to start
        program = (
            "import sys, numpy, torch; from audioclf.training.module import ClassifierModule\n"
            "module = ClassifierModule.load_from_checkpoint(sys.argv[1], map_location='cpu').eval()\n"
            "logits = module(torch.from_numpy(numpy.load(sys.argv[2]))).detach().numpy()\n"
            "assert not {'hydra', 'audioclf.compose'} & set(sys.modules), 'read configuration files'\n"
            "numpy.save(sys.argv[3], logits); print(*module.classes, module.config.lr)\n"
        )
        arguments = [str(checkpoint), str(tmp_path / "features.npy"), str(tmp_path / "logits.npy")]
        done = subprocess.run(
            [sys.executable, "-c", program, *arguments], cwd=tmp_path, capture_output=True, text=True, check=True
        )
        assert done.stdout.split() == ["high", "low", "mid", "0.001"]
        logits = np.load(tmp_path / "logits.npy")
    else:
        module = ClassifierModule.load_from_checkpoint(checkpoint).eval()
        with torch.no_grad():
            logits = module(data.datasets["test"].features).numpy()
    np.testing.assert_allclose(logits, np.array(saved), atol=1e-5)
