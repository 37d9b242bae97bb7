"""The LightningDataModule: ``prepare_data()`` fetches and caches, ``setup()`` splits and loads, loaders serve."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import pytorch_lightning as pl
import torch
from torch import distributed
from torch.utils.data import DataLoader, Dataset, Sampler, SequentialSampler

from audioclf.audio.importer import import_clips
from audioclf.audio.ledger import LEDGER, Ledger, LedgerRow, State
from audioclf.audio.store import AudioStore
from audioclf.clips.annotations import given_away
from audioclf.clips.clip import Clip
from audioclf.clips.links import is_url
from audioclf.clips.manifest import Manifest, class_names, count_by_label, read_manifest
from audioclf.clips.splits import Splits, split_clips
from audioclf.clips.table import UNLABELLED
from audioclf.config import DataConfig, FeaturesConfig, FetchConfig, Launcher
from audioclf.console import console
from audioclf.errors import UserError
from audioclf.features.build import build_front_end, build_store
from audioclf.features.extract import extract
from audioclf.features.frontend import FrontEnd
from audioclf.features.store import FeatureStore, JoinedStore
from audioclf.features.text import WithText, text_key
from audioclf.fetch.failures import Reason, class_of
from audioclf.fetch.fetch import fetch_clips
from audioclf.fetch.retry import access_of
from audioclf.fetch.status import Status, look_up

GB = 1e9

Batch = tuple[torch.Tensor, torch.Tensor, torch.Tensor]
"""Features ``[B, *shape]``, targets (of :func:`targets_of`) and the clips' places in their split ``[B]``."""


class FeatureDataset(Dataset[Batch]):
    """The clips of one split, served a whole batch at a time.

    Args:
        sha256s: what the store calls each clip's features, in order: its audio's sha256, its text's, or both.
        targets: of :func:`targets_of`.
        store: where the features lie.
        in_ram: hold them as one tensor; else each batch is read from disk.
    """

    def __init__(
        self, sha256s: Sequence[str], targets: torch.Tensor, store: FeatureStore | JoinedStore, in_ram: bool
    ) -> None:
        self.sha256s, self.store = list(sha256s), store
        self.targets = targets
        self.features = store.read_all(self.sha256s) if in_ram else None

    def __len__(self) -> int:
        return len(self.sha256s)

    def __getitem__(self, index: int) -> Batch:
        return self.__getitems__([index])

    def __getitems__(self, indices: Sequence[int]) -> Batch:
        """A batch: ``DataLoader`` hands over all its indices at once, so nothing is collated clip by clip."""
        where = torch.as_tensor(indices)
        if self.features is not None:
            features = self.features[where]
        else:
            features = self.store.read_all([self.sha256s[i] for i in indices])
        return features, self.targets[where], where


def targets_of(clips: Sequence[Clip], classes: Sequence[str], several: bool = False) -> torch.Tensor:
    """What is to be learnt of some clips.

    Args:
        clips: N of them; all their labels are classes.
        classes: the label map, K names.
        several: whether clips may have several labels.

    Returns:
        Class indices ``[N]``, int64; of several labels 1 for each that a clip has, ``[N, K]``, float32.
    """
    index = {name: i for i, name in enumerate(classes)}
    if not several:
        return torch.tensor([index[clip.label] for clip in clips], dtype=torch.long)
    targets = torch.zeros(len(clips), len(classes))
    pairs = [(i, index[label]) for i, clip in enumerate(clips) for label in clip.labels]
    targets[tuple(torch.tensor(pairs, dtype=torch.long).reshape(-1, 2).T)] = 1.0
    return targets


class EpochShuffle(Sampler[int]):
    """An order of the training clips that is a function of (seed, epoch) alone, so that a resumed run sees the same.

    Args:
        size: number of clips.
        seed: the run's seed.
        chances: of each clip to be drawn, ``[N]``, with replacement; None: each clip once.
    """

    def __init__(self, size: int, seed: int, chances: torch.Tensor | None = None) -> None:
        self.size, self.seed, self.chances, self.epoch = size, seed, chances, 0

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning before each epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.size

    def __iter__(self) -> Iterator[int]:
        yield from epoch_order(self.size, self.seed, self.epoch, self.chances).tolist()


def epoch_order(size: int, seed: int, epoch: int, chances: torch.Tensor | None = None) -> torch.Tensor:
    """The clips of one epoch ``[N]``: each once, or so many drawn with replacement by their chances."""
    generator = torch.Generator().manual_seed(epoch_seed(seed, epoch))
    if chances is None:
        return torch.randperm(size, generator=generator)
    return torch.multinomial(chances, size, replacement=True, generator=generator)


def balanced_chances(targets: torch.Tensor) -> torch.Tensor:
    """Chances ``[N]`` with which each class is drawn equally often: a class, and then one of its clips.

    Args:
        targets: of :func:`targets_of`.
    """
    if targets.is_floating_point():
        there = targets.double()
        return (there / there.sum(0).clamp_min(1)).sum(1)
    return 1.0 / torch.bincount(targets).double()[targets]


class Share(Sampler[int]):
    """The part of an order that this process takes, of several that train one model together.

    In training all parts are of one size, since none can step alone: up to one clip less than there are processes is
    left out, another one in each epoch. Elsewhere each clip is served once, or all of them to every process where there
    are too few: scores of the same clips several times over are the same.

    Args:
        order: the whole order.
        equal: whether all parts are of one size.
    """

    def __init__(self, order: Sampler[int], equal: bool) -> None:
        self.order, self.equal = order, equal
        self.rank, self.parts = distributed.get_rank(), distributed.get_world_size()

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning before each epoch."""
        if hasattr(self.order, "set_epoch"):
            self.order.set_epoch(epoch)

    def __len__(self) -> int:
        return len(self._part(range(len(self.order))))  # type: ignore[arg-type]

    def __iter__(self) -> Iterator[int]:
        yield from self._part(list(self.order))

    def _part(self, order: Sequence[int]) -> Sequence[int]:
        if self.equal:
            return order[: len(order) // self.parts * self.parts][self.rank :: self.parts]
        return order[self.rank :: self.parts] if len(order) >= self.parts else order


def epoch_seed(seed: int, epoch: int) -> int:
    """One seed for each (seed, epoch), below 2^63 and without the collisions that a sum would have."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{epoch}".encode()).digest()[:7], "big")


@dataclass(frozen=True)
class Prepared:
    """What there is to train on, after import and fetch.

    Attributes:
        manifest: the table as read.
        splits: the clips with verified audio, in their splits.
        rows: the clips with verified audio, and the ledger's row of each.
        skipped: clips left out, reason → clip ids.
        retriable: how many of them a later fetch may still bring.
    """

    manifest: Manifest
    splits: Splits
    rows: dict[Clip, LedgerRow]
    skipped: dict[str, list[str]]
    retriable: int


class AudioDataModule(pl.LightningDataModule):
    """From a table of clips to batches of features.

    Args:
        data: the ``data`` section of the configuration.
        features: the ``features`` section.
        batch_size: clips in one training step.
        seed: the order of training batches.
        cache: folder of the audio store, the feature store and the demo recordings.
        device: where features are computed.
        fetch: the ``fetch`` section: whether and how links are fetched; None: the defaults.
        launcher: where links are fetched and features extracted: on this machine, or a Ray cluster.
        sampler: ``"shuffle"``: each training clip once an epoch; ``"balanced"``: each class drawn equally often.

    After ``prepare_data()``: :attr:`fingerprint`; after ``setup()``: :attr:`classes` (the label map), :attr:`splits`,
    :attr:`datasets`.
    """

    classes: list[str]
    splits: Splits
    datasets: dict[str, FeatureDataset]

    def __init__(
        self,
        data: DataConfig,
        features: FeaturesConfig,
        *,
        batch_size: int = 32,
        seed: int = 0,
        cache: Path | str = "cache",
        device: torch.device | str = "cpu",
        fetch: FetchConfig | None = None,
        launcher: Launcher = "basic",
        sampler: Literal["shuffle", "balanced"] = "shuffle",
    ) -> None:
        super().__init__()
        self.data, self.features, self.fetch = data, features, fetch or FetchConfig.model_validate({})
        self.launcher: Launcher = launcher
        self.batch_size, self.seed, self.sampler = batch_size, seed, sampler
        self.cache, self.device = Path(cache), torch.device(device)
        self.front_end = build_front_end(features)
        self.audio = AudioStore(self.cache / "audio")
        self.feature_store = build_store(self.cache / "features", features, self.front_end)
        self.prepared: Prepared | None = None
        self._ready = False

    def prepare_data(self) -> None:
        """Imports or fetches the clips' audio and extracts their features, as far as that is not done.

        Links that could not be fetched are left out and counted.

        Raises:
            UserError: the table, its splits or its audio cannot give a training set.
        """
        if self.prepared is None:
            prepared = self._import()
            self._extract(prepared)
            self.prepared = prepared  # only now: an interrupted extraction is not done

    def setup(self, stage: str | None = None) -> None:
        """Splits the clips and loads their features."""
        if self._ready:
            return
        self.prepare_data()
        assert self.prepared is not None
        usable = list(self.prepared.rows)
        self.classes = class_names(usable)
        self.splits = self.prepared.splits
        keys = {clip.id: self.feature_key(clip) for clip in usable}
        shape = self.front_end.output_shape
        size = 4 * len(keys) * torch.Size(shape).numel()
        in_ram = size <= self.data.ram_budget_gb * GB
        self.datasets = {
            name: FeatureDataset(
                [keys[c.id] for c in part],
                targets_of(part, self.classes, self.data.multi_label == "keep"),
                self.feature_store,
                in_ram,
            )
            for name, part in self.splits.parts().items()
        }
        self._ready = True

    def feature_key(self, clip: Clip) -> str:
        """What :attr:`feature_store` calls a clip's features."""
        assert self.prepared is not None
        sha256 = str(self.prepared.rows[clip].sha256)
        if isinstance(self.front_end, WithText):
            return f"{sha256}+{text_key(clip.annotation)}"
        return text_key(clip.annotation) if self.front_end.reads_text else sha256

    @property
    def fingerprint(self) -> str:
        """sha256 (hex) of what there is to train on: clips, their recordings, labels, splits and samples; texts, where read."""
        assert self.prepared is not None
        content = [
            [clip.id, clip.group, *sorted(clip.labels), name, self.prepared.rows[clip].sha256]
            + ([clip.annotation] if self.front_end.reads_text else [])
            for name, part in self.prepared.splits.parts().items()
            for clip in part
        ]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()

    def train_dataloader(self) -> DataLoader[Batch]:
        """Training batches, in an order that (seed, epoch) decides."""
        train = self.datasets["train"]
        chances = balanced_chances(train.targets) if self.sampler == "balanced" else None
        return self._loader(train, EpochShuffle(len(train), self.seed, chances))

    def val_dataloader(self) -> DataLoader[Batch]:
        """Validation batches, in the order of the split."""
        return self._loader(self.datasets["val"])

    def test_dataloader(self) -> DataLoader[Batch]:
        """Test batches, in the order of the split."""
        return self._loader(self.datasets["test"])

    def predict_dataloader(self) -> list[DataLoader[Batch]]:
        """Batches of train, val and test, each in the order of its split."""
        return [self._loader(self.datasets[name]) for name in self.splits.parts()]

    def train_batches(self, size: int = 256) -> Iterator[torch.Tensor]:
        """The training split's features ``[B, *shape]``, in order: what statistics are computed from."""
        train = self.datasets["train"]
        for start in range(0, len(train), size):
            yield train.__getitems__(range(start, min(start + size, len(train))))[0]

    def summary(self) -> dict[str, Any]:
        """Counts for ``result.json``: clips, classes, groups, per split, and what was skipped and why."""
        assert self.prepared is not None
        manifest, splits = self.prepared.manifest, self.splits
        rows = count_by_label(manifest.clips)
        usable = count_by_label(list(self.prepared.rows))
        partial_clips = sum(row.state is State.PARTIAL for row in self.prepared.rows.values())
        return {
            "name": self.data.name,
            "synthetic": manifest.synthetic,
            "table": str(manifest.table),
            "clips": len(self.prepared.rows),
            "classes": self.classes,
            "groups": len({clip.group for clip in self.prepared.rows}),
            "split_rule": splits.rule,
            "splits": {
                name: {
                    "clips": len(part),
                    "groups": len({clip.group for clip in part}),
                    "per_class": dict.fromkeys(self.classes, 0) | count_by_label(part),
                }
                for name, part in splits.parts().items()
            },
            "leaky": bool(splits.leaks),
            "leaking_groups": splits.leaks,
            "coverage": {
                "rows": len(manifest.clips),
                "usable": len(self.prepared.rows),
                "retriable": self.prepared.retriable,
                "per_class": {label: {"rows": n, "usable": usable.get(label, 0)} for label, n in rows.items()},
            },
            "partial": partial_clips,
            "skipped": self.prepared.skipped,
            "bad_rows": [str(row) for row in manifest.bad_rows],
            "selection": asdict(manifest.selection),
            "format": manifest.format,
            "annotations": asdict(given_away(self.prepared.rows)) if self.front_end.reads_text else None,
        }

    def _import(self) -> Prepared:
        manifest = read_manifest(self.data, self.cache)
        if class_names(manifest.clips) == [UNLABELLED]:
            raise UserError(
                f"{manifest.table}: no column of classes; its clips can be fetched, but not trained on",
                "data.columns.label=COLUMN says where the classes are",
            )
        if self.front_end.reads_text and not any(clip.annotation for clip in manifest.clips):
            raise UserError(
                f"features={self.features.name}: {manifest.table} has no annotations; expected a text for each clip",
                "a table with a column annotation (data.columns.annotation=COLUMN names another), or other features",
            )
        links = [clip for clip in manifest.clips if is_url(clip.source)]
        with Ledger(self.cache / LEDGER) as ledger:
            known = import_clips(manifest.clips, self.audio, ledger).rows
            retriable = self._fetch(links, ledger) if links else 0
            known |= {clip: row for clip, row in look_up(links, self.audio, ledger) if row is not None}
        rows = {clip: known[clip] for clip in manifest.clips if clip in known and known[clip].state.usable}
        skipped: dict[str, list[str]] = {}
        for clip in manifest.clips:
            if clip not in rows:
                skipped.setdefault(_why_not(known.get(clip)), []).append(clip.id)
        lost = sorted(set(class_names(manifest.clips)) - set(class_names(list(rows))))
        if lost:
            reasons = ", ".join(f"{len(ids)} {reason}" for reason, ids in sorted(skipped.items()))
            more = f" (and {len(lost) - 1} more classes)" if lost[1:] else ""
            raise UserError(
                f"class {lost[0]} has no usable clips{more}: "
                f"of {len(manifest.clips)} rows {len(rows)} are usable; left out: {reasons}",
                ("`python -m audioclf fetch` tries the links again; " if retriable else "")
                + "`python -m audioclf import DIR` takes audio that you hold; or leave the class out of the table",
            )
        sha256s = {clip.id: str(row.sha256) for clip, row in rows.items()}
        return Prepared(manifest, split_clips(list(rows), self.data, sha256s), rows, skipped, retriable)

    def _extract(self, prepared: Prepared) -> None:
        """Extracts the features that are missing: of the clips' audio, of what was written about them, or of both."""
        front_end, store = self.front_end, self.feature_store
        jobs: list[tuple[dict[str, str], FeatureStore, FrontEnd]] = []
        audio = {str(row.sha256): row.key for row in prepared.rows.values()}
        texts = {text_key(clip.annotation): clip.annotation for clip in prepared.rows}
        if isinstance(store, JoinedStore):
            assert isinstance(front_end, WithText)
            jobs = [(audio, store.audio, front_end.audio), (texts, store.text, front_end.text)]
        else:
            jobs = [(texts if front_end.reads_text else audio, store, front_end)]
        for keys, where, maker in jobs:
            extract(keys, self.audio, where, maker, device=self.device, launcher=self.launcher)

    def _fetch(self, links: list[Clip], ledger: Ledger) -> int:
        """Fetches what is missing, where that is wanted; how many clips a later fetch may still bring."""
        if not self.fetch.enabled:
            return Status.of(links, self.audio, ledger, access_of(self.fetch)).open
        report = fetch_clips(links, self.audio, ledger, self.fetch, launcher=self.launcher)
        for line in report.summary_lines() if report.tried else []:
            console.print(line, markup=False)
        return report.status.open

    def _loader(self, dataset: FeatureDataset, sampler: EpochShuffle | None = None) -> DataLoader[Batch]:
        order: Sampler[int] = sampler or SequentialSampler(dataset)
        parts = distributed.get_world_size() if distributed.is_initialized() else 1
        return DataLoader(
            dataset,
            batch_size=self.batch_size // parts,
            sampler=Share(order, equal=sampler is not None) if parts > 1 else order,
            collate_fn=as_it_is,
            pin_memory=self.device.type == "cuda",
            generator=torch.Generator(),  # its own: a loader draws a number for its workers, also where it has none
        )


def _why_not(row: LedgerRow | None) -> str:
    """Why a clip is left out: its failure, with what is done about it where it came from the web."""
    if row is None:
        return "not fetched"
    if row.failure is None:
        return row.state.value
    from_web = row.source_size is None and row.failure in set(Reason)
    return f"{row.failure} ({class_of(row.failure)})" if from_web else row.failure


def as_it_is(batch: Any) -> Any:
    """The loader's collate function: batches come whole from the dataset."""
    return batch
