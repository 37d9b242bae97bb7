"""Parallel, resumable extraction: audio store → waveform at the front-end's rate → features → feature store."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

import numpy as np
import soxr
import torch

from audioclf.audio.decode import AudioError
from audioclf.audio.importer import cores
from audioclf.audio.store import CANONICAL_RATE, AudioStore, Pcm, from_pcm, pcm_sha256, read_pcm
from audioclf.config import Launcher
from audioclf.console import progress_bar
from audioclf.errors import UserError
from audioclf.features.frontend import FrontEnd
from audioclf.features.store import FeatureStore

CHUNK = 4  # clips that one worker turns into one batch: the spectra of more are memory fetched anew each time
GPU_CHUNK = 32  # the same for a heavy front-end on a GPU
AHEAD = 2  # chunks waiting for each worker; bounds memory whatever the number of clips

T = TypeVar("T")

Piece = tuple[str, str]
"""What the feature store calls a clip's features, and what they are made of: its key in the audio store, or its text."""


@dataclass(frozen=True)
class Chain:
    """What a worker does with a few clips, from the audio store to the feature store.

    Attributes:
        audio: where the audio is.
        store: where features go.
        front_end: what makes them; on ``device``.
        device: where it computes.
    """

    audio: AudioStore
    store: FeatureStore
    front_end: FrontEnd
    device: torch.device

    def __call__(self, chunk: Sequence[Piece]) -> int:
        """Extracts and stores some clips, in one batch; how many they are.

        Raises:
            UserError: stored audio that is damaged or gone.
        """
        return self.compute(chunk, self.load(chunk))

    def load(self, chunk: Sequence[Piece]) -> torch.Tensor:
        """Waveforms ``[B, n]`` of some clips; of none where the front-end reads text alone, ``[B, 0]``.

        Raises:
            UserError: stored audio that is damaged or gone.
        """
        if self.front_end.reads_text:
            return torch.empty(len(chunk), 0)
        rate = self.front_end.sample_rate
        return torch.stack(
            [self.front_end.fit_length(load_waveform(self.audio, key, rate, sha256)) for sha256, key in chunk]
        )

    def compute(self, chunk: Sequence[Piece], waveforms: torch.Tensor) -> int:
        """Features of what :meth:`load` gave, stored; how many clips they are of."""
        features = self.front_end.of_clips(waveforms.to(self.device), [text for _, text in chunk]).cpu().numpy()
        for (name, _), array in zip(chunk, features, strict=True):
            self.store.write(name, array)
        return len(chunk)


def extract(
    keys: Mapping[str, str],
    audio: AudioStore,
    store: FeatureStore,
    front_end: FrontEnd,
    *,
    device: torch.device,
    workers: int | None = None,
    launcher: Launcher = "basic",
) -> int:
    """Extracts what is not in the store yet.

    Each worker takes a few clips through the whole chain. Here the workers are threads: decoding, resampling and the
    FFT all release the interpreter's lock. A front-end that is heavy computes in one thread on a GPU, while the workers
    decode. A killed extraction loses the clips in flight only.

    Args:
        keys: what to extract: sha256 of a clip's samples → its key in the audio store; sha256 of a text → the text.
        audio: where the audio is.
        store: where features go.
        front_end: what makes them.
        device: where the front-end computes.
        workers: None: one for each core, here or in the whole cluster; four for each GPU of a cluster.
        launcher: ``"ray"`` extracts on a Ray cluster, all of whose machines see the two stores' folders.

    Returns:
        How many clips were extracted.

    Raises:
        UserError: stored audio that is damaged or gone, or no cluster.
    """
    missing = [sha256 for sha256 in keys if sha256 not in store]
    if not missing:
        return 0
    store.begin()
    chain = Chain(audio, store, front_end, device)
    pieces = [(sha256, keys[sha256]) for sha256 in missing]
    if launcher == "ray":
        from audioclf.features.cluster import by_cluster as run
    else:
        run = by_threads
    with progress_bar("extract features", len(pieces), "clips") as bar:
        for done in run(chain, pieces, workers):
            bar.advance(done)
    return len(pieces)


def by_threads(chain: Chain, pieces: Sequence[Piece], workers: int | None) -> Iterator[int]:
    """Extracts with threads of this process; yields how many clips are done, a chunk at a time."""
    chain.front_end.to(chain.device)
    workers = workers or cores()
    heavy = chain.front_end.heavy
    if heavy and chain.device.type == "cuda":
        loaded = _bounded(lambda chunk: (chunk, chain.load(chunk)), _chunks(pieces, GPU_CHUNK), workers)
        for chunk, waveforms in loaded:
            yield chain.compute(chunk, waveforms)
        return
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # each worker is one thread: more would fight over the same cores
    try:
        yield from _bounded(
            chain, _chunks(pieces, 1 if heavy else CHUNK), workers
        )  # 1: batches of 8 took 1.5x the time
    finally:
        torch.set_num_threads(threads)


def load_waveform(audio: AudioStore, key: str, rate: int, sha256: str | None = None) -> torch.Tensor:
    """A clip of the audio store as a waveform ``[n]``, float32, at ``rate`` Hz.

    Args:
        audio: the store.
        key: the clip's audio key.
        rate: in Hz.
        sha256: what the samples must hash to, so that features never stand under another sound's name; None: anything.

    Raises:
        UserError: its file is damaged, gone, or not the audio that was asked for.
    """
    try:
        pcm = read_pcm(audio.path(key))
    except AudioError as error:
        raise UserError(str(error), "remove that file and run again: it is made anew") from error
    if sha256 is not None and pcm_sha256(pcm) != sha256:
        raise UserError(
            f"{audio.path(key)}: not the audio that the ledger knows", "run again: another process changed it"
        )
    return as_waveform(pcm, rate)


def as_waveform(pcm: Pcm, rate: int) -> torch.Tensor:
    """16-bit samples at ``CANONICAL_RATE`` as a waveform ``[n]``, float32, at ``rate`` Hz."""
    samples = from_pcm(pcm)
    if rate != CANONICAL_RATE:
        samples = soxr.resample(samples, CANONICAL_RATE, rate, quality="HQ")
    return torch.from_numpy(np.ascontiguousarray(samples, dtype=np.float32))


def _chunks(items: Sequence[Piece], size: int) -> Iterator[list[Piece]]:
    iterator = iter(items)
    while chunk := list(islice(iterator, size)):
        yield chunk


def _bounded(work: Callable[[list[Piece]], T], items: Iterable[list[Piece]], workers: int) -> Iterator[T]:
    """Results of ``work`` in the order they finish, with a bounded number of items in flight."""
    pool = ThreadPoolExecutor(workers, thread_name_prefix="extract")
    pending: set[Future[T]] = set()
    iterator = iter(items)
    try:
        while True:
            for item in islice(iterator, workers * AHEAD - len(pending)):
                pending.add(pool.submit(work, item))
            if not pending:
                return
            finished, pending = wait(pending, return_when=FIRST_COMPLETED)
            for future in finished:
                yield future.result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
