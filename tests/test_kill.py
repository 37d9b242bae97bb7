"""SIGKILL at twenty moments of import, extraction and training: nothing finished is lost, no row is wrong, a rerun ends.

One run of ``train.py`` from an empty cache is killed again and again, each time a few files or epochs further on, so
that the kills spread over all that it does. After each kill everything that looks finished must be what an undisturbed run made.
"""

from __future__ import annotations

import json
import random
import shutil
import sqlite3
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import soundfile
import torch

from audioclf.audio.store import AudioStore, pcm_sha256, read_pcm
from audioclf.runs.folder import RunFolder

KILLS = 20
EPOCHS = 40
COMMAND = [
    *("train.py", "data.num_classes=2", "data.recordings_per_class=4", "paths.cache=cache", "hydra.run.dir=run"),
    *("features.sample_rate=16000", "features.n_mels=16", "features.target_length=40", "features.hop_length=1024"),
    *("lr=1e-3", "batch_size=4", f"epochs={EPOCHS}", "trainer.checkpoint_every_s=0"),
]


class Place:
    """A folder in which the command runs, with all that it makes."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.cache, self.run = root / "cache", RunFolder(root / "run")
        root.mkdir(exist_ok=True)

    def recordings(self) -> list[Path]:
        return sorted(self.cache.glob("demo/*/*.flac"))

    def features(self) -> list[Path]:
        return sorted(self.cache.glob("features/*/??/*.npy"))

    def progress(self) -> Counter[str]:
        """How far the command has come, by phase."""
        scored = (self.run.model_checkpoint, self.run.predictions)
        return Counter(
            {
                "recordings": len(self.recordings()),
                "audio": sum(1 for _ in self.cache.glob("audio/??/*.flac")),
                "features": len(self.features()),
                "epochs": len(self.run.read_metrics()),
                "scoring": sum(path.exists() for path in scored) + len(list(self.run.path.glob("events/*"))),
            }
        )

    def check(self, reference: Place) -> None:
        """Everything that looks finished is finished and right."""
        for path in self.recordings():
            theirs = reference.cache / path.relative_to(self.cache)
            assert path.read_bytes() == theirs.read_bytes(), f"{path.name} is not what the generator makes"
        store = AudioStore(self.cache / "audio")
        for key, state, sha256 in self.ledger():
            assert state == "ok"
            assert pcm_sha256(read_pcm(store.path(key))) == sha256, f"the row of {key} does not fit its audio"
        for path in self.cache.glob("audio/??/*.flac"):  # with a row or without
            assert soundfile.info(path).frames == len(read_pcm(path)) > 0
        for path in self.features():
            theirs = reference.cache / path.relative_to(self.cache)
            assert path.read_bytes() == theirs.read_bytes(), f"{path.name} is not the clip's features"
        rows = self.run.read_metrics()
        assert rows == reference.run.read_metrics()[: len(rows)]
        if self.run.last_checkpoint.exists():
            done = torch.load(self.run.last_checkpoint, weights_only=True)["epoch"] + 1
            assert done <= len(rows), "an epoch without its row"
        if self.run.predictions.exists():
            assert pq.read_table(self.run.predictions).equals(pq.read_table(reference.run.predictions))
        if (self.run.path / "result.json").exists():
            self.check_finished(reference)

    def check_finished(self, reference: Place) -> None:
        """Every number is that of the undisturbed run, to the last bit."""
        assert self.run.metrics_csv.read_bytes() == reference.run.metrics_csv.read_bytes()
        assert pq.read_table(self.run.predictions).equals(pq.read_table(reference.run.predictions))
        ours, theirs = (torch.load(p.run.model_checkpoint, weights_only=True)["state_dict"] for p in (self, reference))
        assert ours.keys() == theirs.keys() and all(torch.equal(ours[key], theirs[key]) for key in ours)
        results = [json.loads((place.run.path / "result.json").read_text()) for place in (self, reference)]
        for result in results:
            del result["seconds"], result["data"]["table"]
        assert results[0] == results[1]
        assert {path.name for path in self.features()} == {path.name for path in reference.features()}
        assert len(self.ledger()) == len(reference.ledger()) == 24
        leftovers = [*self.cache.glob("features/**/*.tmp"), *self.cache.glob("audio/**/*.tmp")]
        assert not leftovers and not list(self.root.glob("run.old*"))

    def ledger(self) -> list[tuple[str, str, str]]:
        if not (self.cache / "ledger.sqlite").exists():
            return []
        with sqlite3.connect(self.cache / "ledger.sqlite") as db:
            if not db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
                return []
            return db.execute("SELECT key, state, sha256 FROM clips").fetchall()


def test_a_run_killed_twenty_times_ends_as_an_undisturbed_one(launch: Callable[..., Any], tmp_path: Path) -> None:
    reference = Place(tmp_path / "reference")
    process = launch(*COMMAND, cwd=reference.root)
    assert process.wait() == 0, process.printed
    whole = reference.progress()
    assert whole == {"recordings": 8, "audio": 24, "features": 24, "epochs": EPOCHS, "scoring": 3}

    moments = random.Random(0)
    place = Place(tmp_path / "killed")
    hit: Counter[str] = Counter()
    kills = 0
    while kills < KILLS:
        at_start = place.progress()
        target = at_start.total() + moments.randint(1, 5)
        delay = moments.uniform(0, 0.03)
        process = launch(*COMMAND, cwd=place.root)
        while process.running and place.progress().total() < target:
            time.sleep(0.002)
        time.sleep(delay)
        finished_itself = not process.running
        process.kill()
        if finished_itself:
            assert process.wait() == 0, process.printed
            place.check_finished(reference)
            shutil.rmtree(place.root)
            place = Place(place.root)
            continue
        kills += 1
        hit.update(place.progress() - at_start)
        place.check(reference)

    for _ in range(2):  # the second finds all of it done
        process = launch(*COMMAND, cwd=place.root)
        assert process.wait() == 0, process.printed
        place.check_finished(reference)
    assert "nothing was trained now" in process.printed
    assert set(hit) >= {"recordings", "audio", "features", "epochs"}, f"the kills missed a phase: {hit}"
