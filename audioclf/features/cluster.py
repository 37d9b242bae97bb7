"""Extraction on a Ray cluster: Ray Data spreads the clips, each worker commits what it made to the feature store."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import numpy.typing as npt
import torch

from audioclf.audio.store import AudioStore
from audioclf.cluster import connected
from audioclf.errors import UserError
from audioclf.features.extract import CHUNK, Chain, Piece
from audioclf.features.store import FeatureStore

BLOCK = 8 * CHUNK  # clips of one task; what a machine that dies makes another do again
WORKERS_PER_GPU = 4  # decoding and resampling cost more than the front-end

_Columns = dict[str, npt.NDArray[np.object_]]


def by_cluster(chain: Chain, pieces: Sequence[Piece], workers: int | None) -> Iterator[int]:
    """Extracts on the machines of the cluster; yields how many clips are done, a block at a time.

    Args:
        chain: its folders are looked for under the same paths on every machine. Its front-end computes on the CPU where
            the cluster has no GPU.
        pieces: what to extract.
        workers: None: one for each core, or ``WORKERS_PER_GPU`` for each GPU where ``chain`` computes on one.

    Raises:
        UserError: stored audio that is damaged or gone, or no cluster.
    """
    with connected():
        import ray

        has = ray.cluster_resources()
        gpu = chain.device.type == "cuda" and has.get("GPU", 0) >= 1
        workers = workers or max(int(has["GPU"] * WORKERS_PER_GPU if gpu else has.get("CPU", 1)), 1)
        chain = replace(
            chain,
            audio=AudioStore(chain.audio.root.resolve()),
            store=FeatureStore(
                chain.store.folder.parent.resolve(), chain.store.settings, chain.store.shape, chain.store.dtype.name
            ),
            front_end=chain.front_end.cpu(),
            device=torch.device("cuda" if gpu else "cpu"),
        )
        blocks = max(math.ceil(len(pieces) / BLOCK), min(math.ceil(len(pieces) / CHUNK), 2 * workers))
        clips = ray.data.from_items(
            [{"sha256": sha256, "key": key} for sha256, key in pieces], override_num_blocks=blocks
        )
        clips.context.enable_progress_bars = False
        clips.context.print_on_execution_start = False
        answers = clips.map_batches(
            partial(_extract_batch, chain),
            batch_size=CHUNK,
            batch_format="numpy",
            compute=ray.data.TaskPoolStrategy(min(workers, blocks)),
            num_cpus=1,
            num_gpus=1 / WORKERS_PER_GPU if gpu else 0,
        )
        for answer in answers.iter_rows():
            if answer["error"]:
                raise UserError(answer["error"], answer["hint"] or None)
            yield int(answer["clips"])


def _extract_batch(chain: Chain, batch: _Columns) -> _Columns:
    """Extracts a batch in a worker process; one row says how many clips, or what the user has to mend."""
    torch.set_num_threads(1)
    chain.front_end.to(chain.device)
    clips, error, hint = 0, "", ""
    try:
        clips = chain(list(zip(batch["sha256"], batch["key"], strict=True)))
    except UserError as damaged:  # as a value: what is raised, Ray Data logs with its traceback
        error, hint = damaged.message, damaged.hint or ""
    return {name: np.array([value], object) for name, value in (("clips", clips), ("error", error), ("hint", hint))}
