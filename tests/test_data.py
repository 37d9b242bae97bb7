"""The data module: what is served, in which order, and what is said about what is not."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from audioclf.audio.importer import import_clips
from audioclf.config import Config
from audioclf.data import AudioDataModule, Batch, EpochShuffle, balanced_chances, epoch_seed
from audioclf.errors import UserError
from audioclf.training.fit import data_module, fit

Tiny = Callable[..., Config]


def module_of(config: Config) -> AudioDataModule:
    return AudioDataModule(
        config.data, config.features, batch_size=config.batch_size, seed=config.seed, cache=config.paths.cache
    )


@pytest.fixture
def data(tiny_config: Tiny) -> AudioDataModule:
    module = module_of(tiny_config())
    module.setup()
    return module


@pytest.fixture
def own_tones(tones: Path, tmp_path: Path) -> Path:
    """A table of tones that a test may change."""
    shutil.copytree(tones.parent, tmp_path / "tones")
    return tmp_path / "tones" / "clips.csv"


def epoch_of(module: AudioDataModule, epoch: int) -> list[Batch]:
    loader = module.train_dataloader()
    assert isinstance(loader.sampler, EpochShuffle)
    loader.sampler.set_epoch(epoch)
    return list(loader)


def order_of(batches: list[Batch]) -> list[int]:
    return torch.cat([batch[2] for batch in batches]).tolist()


def test_the_order_is_a_function_of_seed_and_epoch_alone(tiny_config: Tiny, data: AudioDataModule) -> None:
    first = order_of(epoch_of(data, 3))
    torch.manual_seed(99)
    np.random.default_rng().random()
    other = module_of(tiny_config())
    other.setup()
    for epoch in (0, 7):
        epoch_of(other, epoch)
    assert order_of(epoch_of(other, 3)) == first
    orders = {(seed, epoch): _order(seed, epoch) for seed in range(6) for epoch in range(6)}
    assert len(set(orders.values())) == 36, "epoch 1 of seed 0 is not epoch 0 of seed 1"
    assert orders[0, 3] == tuple(first)


def _order(seed: int, epoch: int) -> tuple[int, ...]:
    shuffle = EpochShuffle(22, seed)
    shuffle.set_epoch(epoch)
    return tuple(shuffle)


def test_epoch_seeds_are_fit_for_torch_and_do_not_collide() -> None:
    seeds = {epoch_seed(seed, epoch) for seed in (0, 1, 2, 11, 2**32 - 1) for epoch in range(500)}
    assert len(seeds) == 2500 and all(0 <= seed < 2**63 for seed in seeds)


def test_every_training_clip_comes_exactly_once_an_epoch_with_its_own_label(data: AudioDataModule) -> None:
    train = data.datasets["train"]
    assert train.features is not None and len(train) == 22
    for epoch in range(3):
        batches = epoch_of(data, epoch)
        assert [len(batch[1]) for batch in batches] == [8, 8, 6]
        assert sorted(order_of(batches)) == list(range(22))
        for features, targets, where in batches:
            assert torch.equal(features, train.features[where]) and torch.equal(targets, train.targets[where])
    labels = [data.classes[target] for target in train.targets.tolist()]
    assert labels == [clip.label for clip in data.splits.train]


def test_features_are_those_of_the_clip(data: AudioDataModule) -> None:
    assert data.prepared is not None
    for name, part in data.splits.parts().items():
        for i, clip in enumerate(part):
            waveform = soundfile.read(clip.source, dtype="float32")[0]
            row = data.prepared.rows[clip]
            assert row.duration_s == pytest.approx(0.5) and len(waveform) == 8000
            stored = data.feature_store.read(str(row.sha256))
            assert torch.equal(data.datasets[name][i][0][0], torch.from_numpy(stored))


def test_val_test_and_predict_keep_the_order_of_the_split(data: AudioDataModule) -> None:
    assert order_of(list(data.val_dataloader())) == list(range(len(data.splits.val)))
    assert order_of(list(data.test_dataloader())) == list(range(len(data.splits.test)))
    everything = data.predict_dataloader()
    assert [order_of(list(loader)) for loader in everything] == [
        list(range(len(part))) for part in data.splits.parts().values()
    ]


def test_ram_and_disk_serve_the_same_batches(tiny_config: Tiny, data: AudioDataModule) -> None:
    disk = module_of(tiny_config(data={"ram_budget_gb": 0.0}))
    disk.setup()
    assert data.datasets["train"].features is not None and disk.datasets["train"].features is None
    for ram_batches, disk_batches in (
        (epoch_of(data, 1), epoch_of(disk, 1)),
        (list(data.test_dataloader()), list(disk.test_dataloader())),
    ):
        assert len(ram_batches) == len(disk_batches)
        for ram, from_disk in zip(ram_batches, disk_batches, strict=True):
            assert all(torch.equal(one, other) for one, other in zip(ram, from_disk, strict=True))
    for ram_part, disk_part in zip(data.train_batches(5), disk.train_batches(5), strict=True):
        assert torch.equal(ram_part, disk_part)


def test_statistics_are_computed_from_every_training_clip_once(data: AudioDataModule) -> None:
    parts = list(data.train_batches(5))
    assert [len(part) for part in parts] == [5, 5, 5, 5, 2]
    assert torch.equal(torch.cat(parts), data.feature_store.read_all(data.datasets["train"].sha256s))


def test_preparing_twice_does_the_work_once(own_tones: Path, tiny_config: Tiny, tmp_path: Path) -> None:
    config = tiny_config(data={"csv": str(own_tones)}, paths={"cache": str(tmp_path / "cache")})
    first = module_of(config)
    first.prepare_data()
    files = {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").rglob("*.[fn][lp][ay]*")}
    assert len(files) == 2 * 36
    first.prepare_data()
    second = module_of(config)
    second.prepare_data()
    assert {path: path.stat().st_mtime_ns for path in files} == files
    first.setup()
    second.setup()
    assert first.fingerprint == second.fingerprint


def test_a_clip_without_audio_is_left_out_and_counted(own_tones: Path, tiny_config: Tiny) -> None:
    (own_tones.parent / "low0.wav").unlink()
    (own_tones.parent / "mid3.wav").write_bytes(b"")
    module = module_of(tiny_config(data={"csv": str(own_tones)}))
    module.setup()
    summary = module.summary()
    assert {reason: len(ids) for reason, ids in summary["skipped"].items()} == {"missing": 2, "empty": 2}
    assert summary["coverage"] == {
        "rows": 36,
        "usable": 32,
        "retriable": 0,
        "per_class": {
            "high": {"rows": 12, "usable": 12},
            "low": {"rows": 12, "usable": 10},
            "mid": {"rows": 12, "usable": 10},
        },
    }
    served = {clip.id for part in module.splits.parts().values() for clip in part}
    assert len(served) == summary["clips"] == 32
    assert not served & {clip for ids in summary["skipped"].values() for clip in ids}
    assert sum(part["clips"] for part in summary["splits"].values()) == 32
    assert summary["groups"] == 16 and summary["classes"] == ["high", "low", "mid"]
    counts = Counter(clip.label for clip in module.splits.test)
    assert summary["splits"]["test"]["per_class"] == {label: counts[label] for label in module.classes}


def test_a_class_that_loses_all_its_clips_stops_the_run_before_extraction(
    own_tones: Path, tiny_config: Tiny, tmp_path: Path
) -> None:
    for path in own_tones.parent.glob("mid*.wav"):
        path.write_text("not audio")
    config = tiny_config(data={"csv": str(own_tones)}, paths={"cache": str(tmp_path / "cache")})
    with pytest.raises(UserError, match=r"class mid has no usable clips: of 36 rows 24 are usable.*12 not_audio"):
        module_of(config).prepare_data()
    assert not (tmp_path / "cache" / "features").exists()


def test_an_impossible_split_stops_the_run_before_extraction(
    own_tones: Path, tiny_config: Tiny, tmp_path: Path
) -> None:
    rows = own_tones.read_text().split()
    own_tones.write_text("\n".join([rows[0] + ",split", *(row + ",train" for row in rows[1:])]))
    config = tiny_config(data={"csv": str(own_tones)}, paths={"cache": str(tmp_path / "cache")})
    with pytest.raises(UserError, match="no clips in the"):
        module_of(config).prepare_data()
    assert not (tmp_path / "cache" / "features").exists()


def test_a_recording_on_both_sides_is_refused_or_marked(own_tones: Path, tiny_config: Tiny) -> None:
    rows = own_tones.read_text().split()
    splits = ["train" if "0,0.5," in row else "test" for row in rows[1:]]  # each recording's two clips apart
    splits[:3] = ["val", "val", "val"]
    lines = [rows[0] + ",split", *(f"{row},{split}" for row, split in zip(rows[1:], splits, strict=True))]
    own_tones.write_text("\n".join(lines))
    with pytest.raises(UserError, match="sit in more than one split"):
        module_of(tiny_config(data={"csv": str(own_tones)})).setup()

    module = module_of(tiny_config(data={"csv": str(own_tones), "allow_leak": True}))
    module.setup()
    summary = module.summary()
    assert summary["leaky"] is True and len(summary["leaking_groups"]) >= 16


def test_a_clip_that_was_imported_stays_usable_when_its_file_vanishes(
    own_tones: Path, tiny_config: Tiny, tmp_path: Path
) -> None:
    config = tiny_config(data={"csv": str(own_tones)}, paths={"cache": str(tmp_path / "cache")})
    first = module_of(config)
    first.setup()
    for path in own_tones.parent.glob("*.wav"):
        path.unlink()
    second = module_of(config)
    second.setup()
    assert second.fingerprint == first.fingerprint


def test_a_file_that_vanishes_between_the_table_and_its_import_costs_its_clips_only(
    own_tones: Path, tiny_config: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def vanish(*arguments: object, **more: object) -> object:
        (own_tones.parent / "high5.wav").unlink()
        return import_clips(*arguments, **more)  # type: ignore[arg-type]

    monkeypatch.setattr("audioclf.data.import_clips", vanish)
    module = module_of(tiny_config(data={"csv": str(own_tones)}, paths={"cache": str(tmp_path / "cache")}))
    module.setup()
    assert {reason: len(ids) for reason, ids in module.summary()["skipped"].items()} == {"missing": 2}


# --- drawing each class equally often --------------------------------------------------------------------------------


def test_balanced_drawing_draws_each_class_equally_often_by_seed_and_epoch_alone() -> None:
    targets = torch.tensor([0] * 90 + [1] * 9 + [2])
    shuffle = EpochShuffle(len(targets), 3, balanced_chances(targets))
    epochs = []
    for epoch in range(30):
        shuffle.set_epoch(epoch)
        epochs.append(list(shuffle))
        assert len(epochs[-1]) == len(shuffle) == 100
    counts = torch.bincount(targets[torch.tensor(epochs).flatten()])
    assert counts.tolist() == pytest.approx([1000] * 3, rel=0.1)
    assert len({tuple(order) for order in epochs}) == 30
    again = EpochShuffle(len(targets), 3, balanced_chances(targets))
    again.set_epoch(17)
    assert list(again) == epochs[17]
    other = EpochShuffle(len(targets), 4, balanced_chances(targets))
    other.set_epoch(17)
    assert list(other) != epochs[17]


def test_of_several_labels_a_class_is_drawn_and_then_one_of_its_clips() -> None:
    there = torch.tensor([[1.0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 0, 1]])
    chances = balanced_chances(there)
    assert (chances / chances.sum()).tolist() == pytest.approx([1 / 9, 1 / 9, 1 / 9 + 1 / 3, 1 / 3])
    single = torch.tensor([0, 0, 2, 1])
    assert balanced_chances(single).tolist() == balanced_chances(torch.eye(3)[single]).tolist()


def test_the_sampler_of_the_configuration_is_used_and_a_resumed_run_draws_the_same(
    tiny_config: Tiny, tmp_path: Path
) -> None:
    config = tiny_config(sampler="balanced", epochs=3)
    data = data_module(config)
    data.setup()
    sampler = data.train_dataloader().sampler
    assert isinstance(sampler, EpochShuffle) and sampler.chances is not None
    whole = fit(config, tmp_path / "whole")
    fit(tiny_config(sampler="balanced", epochs=1), tmp_path / "parts" / "short")
    parts = fit(config, tmp_path / "parts" / "long")
    assert parts.result["test"] == whole.result["test"]
    assert (tmp_path / "parts" / "long" / "metrics.csv").read_text() == (whole.folder / "metrics.csv").read_text()
    assert whole.result["test"] != fit(tiny_config(epochs=3), tmp_path / "shuffled").result["test"]
