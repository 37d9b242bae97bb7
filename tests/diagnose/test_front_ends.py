"""A run is diagnosed whatever its front-end gives: waveforms, embeddings, each layer of an encoder, annotations."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from audioclf.compose import load_config
from audioclf.diagnose.command import overrides_of
from audioclf.diagnose.diagnose import examine, final_gap, judge
from audioclf.diagnose.lab import Lab
from audioclf.diagnose.probe import all_probes
from audioclf.diagnose.reference import pooled
from audioclf.diagnose.run import read_run
from audioclf.runs.identity import identity
from audioclf.training.fit import fit

RUN = ("model=linear", "lr=1e-3", "epochs=2", "batch_size=8")
KINDS = {
    "waveform": ("features.sample_rate=4000", "features.seconds=0.5"),
    "torchaudio_bundle": ("features.bundle=TINY", "features.weights={bundle}", "features.layer=all"),
    "mel+text": ("features.text.model={bert}", "features.n_mels=8", "features.target_length=20"),
}


@pytest.fixture
def lab_of(
    write_tones: Callable[..., Path], tiny_cache: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> Callable[[str], Lab]:
    """A finished run of a front-end, on the bench; TensorBoard's pictures of errors are drawn, too."""

    def make(kind: str) -> Lab:
        table = write_tones(tmp_path / "tones", recordings=5)
        header, *rows = table.read_text().splitlines()
        table.write_text("\n".join([f"{header},annotation", *(f"{row},a note" for row in rows)]) + "\n")
        where = {"bundle": request.getfixturevalue("tiny_bundle")[1]} if "bundle" in kind else {}
        if "text" in kind:
            where |= request.getfixturevalue("tiny_encoders")
        words = [word.format(**where) for word in KINDS[kind]]
        data = ["data=csv", f"data.csv={table}", f"paths.cache={tiny_cache}"]
        run = fit(load_config([f"features={kind}", *words, *RUN, *data]), tmp_path / "run")
        assert "could not be written" not in (run.folder / "train.log").read_text()
        return Lab(read_run(run.folder), budget_s=20)

    return make


@pytest.mark.parametrize("kind", KINDS)
def test_every_probe_answers(lab_of: Callable[[str], Lab], kind: str) -> None:
    lab = lab_of(kind)
    measured, _, not_run = examine(lab)
    assert len(measured) + len(not_run) == len(all_probes())
    verdicts = judge(measured, final_gap(lab.gap, measured))
    assert len(verdicts) == len(measured)
    assert measured["features_weak"]["wrong"] == 0 and measured["features_weak"]["compared"] > 0
    assert identity(load_config(overrides_of(lab.config))) == identity(lab.config), (
        "the repair's command is the run's own"
    )
    columns = {name: lab.probe_columns(name, lab.pool) for name in ("flat", "pooled")}
    if kind == "waveform":  # which no cheap probe can read
        assert lab.pool.features.shape[1:] == (2000,) and columns["flat"].shape[1] == 64 * 216
        assert np.array_equal(columns["pooled"], pooled(lab.plain_features(lab.pool)))
    elif kind == "torchaudio_bundle":  # layers are no bands, and numbers no time
        assert lab.config.features.axes == ("layer", "dim") and columns["pooled"].shape[1] == 2 * 16
