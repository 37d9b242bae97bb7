"""Several labels with their thresholds; front-ends with weights of their own, moved, exchanged and gone."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile
import torch

from audioclf import load
from audioclf.compose import load_config
from audioclf.errors import UserError
from audioclf.features import embedding
from audioclf.training.fit import fit
from audioclf.weights import digest

SMALL = ["epochs=2", "lr=1e-3", "trainer.tensorboard=false", "trainer.keep_state=false", "trainer.accelerator=cpu"]


def test_several_labels_are_decided_by_the_runs_thresholds(
    tiny_overrides: list[str], tones: Path, tmp_path: Path
) -> None:
    lines = tones.read_text().splitlines()
    second = ["|high" if number % 4 == 0 and "high" not in line else "" for number, line in enumerate(lines)]
    rows = [f"{tones.parent}/{line}{more}" for line, more in zip(lines[1:], second[1:], strict=True)]
    table = tmp_path / "several.csv"
    table.write_text("\n".join([lines[0].replace("label", "labels"), *rows]))
    words = [word for word in tiny_overrides if not word.startswith("data.csv=")]
    run = fit(load_config([*words, f"data.csv={table}", "data.multi_label=keep", "loss=bce"]), tmp_path / "run")
    saved = pq.read_table(run.folder / "predictions.parquet").to_pydict()
    model = load(run.folder, device="cpu")
    found = {p.clip: p for p in model.predict(table)}
    assert model.decision.activation == "sigmoid" and model.decision.thresholds is not None
    assert len({len(p.top) for p in found.values()}) > 1, "all that are predicted are shown, however many"
    for clip, predicted, logits in zip(saved["clip"], saved["predicted"], saved["logits"], strict=True):
        top = found[clip].top
        assert {s.name for s in top if s.predicted} == set(predicted)
        assert found[clip].labels and top[0].score == max(s.score for s in top)
        expected = torch.tensor(logits).double().sigmoid()
        for score in top:
            assert score.score == pytest.approx(float(expected[model.classes.index(score.name)]), abs=1e-6)


@pytest.fixture
def embedded(tones: Path, tiny_cache: Path, tiny_bundle: tuple[str, Path], tmp_path: Path) -> tuple[Path, Path]:
    """A run on a small encoder's features, and the file of that encoder's weights."""
    weights = shutil.copyfile(tiny_bundle[1], tmp_path / "tiny.pth")
    words = [
        "features=torchaudio_bundle",
        "features.bundle=TINY",
        f"features.weights={weights}",
        "features.seconds=0.5",
    ]
    config = load_config(["data=csv", f"data.csv={tones}", f"paths.cache={tiny_cache}", "model=linear", *words, *SMALL])
    return fit(config, tmp_path / "run").folder, Path(weights)


def test_weights_that_moved_are_named_anew(embedded: tuple[Path, Path], tones: Path, tmp_path: Path) -> None:
    folder, weights = embedded
    clip = tones.parent / "low0.wav"
    (before,) = load(folder, device="cpu").predict(clip)
    moved = weights.rename(tmp_path / "elsewhere.pth")
    embedding.loaded.cache_clear()  # as in another process
    (after,) = load(folder, f"features.weights={moved}", device="cpu").predict(clip)
    assert before.logits is not None and after.logits is not None
    np.testing.assert_array_equal(before.logits, after.logits)
    with pytest.raises(UserError, match="not to be changed"):
        load(folder, "features.layer=1", device="cpu")


@pytest.mark.parametrize("where", ["at its old place", "beside the checkpoint", "in the weights folder"])
def test_weights_are_found_again_by_their_content(
    where: str, tones: Path, tiny_cache: Path, tiny_bundle: tuple[str, Path], tmp_path: Path, monkeypatch: Any
) -> None:
    weights = Path(shutil.copyfile(tiny_bundle[1], tmp_path / "tiny.pth"))
    monkeypatch.chdir(tmp_path)
    words = ["features=torchaudio_bundle", "features.bundle=TINY", "features.weights=tiny.pth", "features.seconds=0.5"]
    data = ["data=csv", f"data.csv={tones}", f"paths.cache={tiny_cache}", "model=linear"]
    folder = fit(load_config([*data, *words, *SMALL]), tmp_path / "run").folder
    monkeypatch.chdir(tmp_path.parent)
    embedding.loaded.cache_clear()
    if where != "at its old place":
        sha256, place = digest(weights), folder / "checkpoints" / "tiny.pth"
        if where == "in the weights folder":
            monkeypatch.setenv("AUDIOCLF_WEIGHTS", str(tmp_path / "kept"))
            place = tmp_path / "kept" / f"{sha256[:16]}-model.pth"
            (folder / "checkpoints" / "tiny.pth").write_bytes(b"something else")
        place.parent.mkdir(exist_ok=True)
        weights.rename(place)
    saved = pq.read_table(folder / "predictions.parquet", columns=["clip", "logits"]).to_pylist()
    (found,) = [answer for answer in load(folder, device="cpu").predict(tones) if answer.clip == saved[0]["clip"]]
    np.testing.assert_allclose(found.logits, saved[0]["logits"], atol=1e-5)


def test_other_weights_and_none_are_refused_before_anything_is_predicted(
    embedded: tuple[Path, Path], tmp_path: Path
) -> None:
    folder, weights = embedded
    state = torch.load(weights, weights_only=True)
    torch.save({key: value + 1e-3 for key, value in state.items()}, tmp_path / "other.pth")
    with pytest.raises(UserError, match="trained with other weights than features") as caught:
        load(folder, f"features.weights={tmp_path / 'other.pth'}", device="cpu")
    assert "name those with sha256:" in str(caught.value)
    (tmp_path / "another kind.pth").write_bytes(b"of another encoder, with states of another shape")
    with pytest.raises(UserError, match="trained with other weights than features"):
        load(folder, f"features.weights={tmp_path / 'another kind.pth'}", device="cpu")
    weights.unlink()
    embedding.loaded.cache_clear()
    with pytest.raises(UserError, match="no such file") as caught:
        load(folder, device="cpu")
    assert "features.weights=" in str(caught.value)


def test_weights_that_are_read_late_are_missed_early(
    shared_data: Callable[[str], Path], tones: Path, tiny_cache: Path, tmp_path: Path
) -> None:
    weights = Path(shutil.copyfile(shared_data("models/yamnet.tflite"), tmp_path / "yamnet.tflite"))
    words = ["features=yamnet", f"features.weights={weights}", "features.seconds=0.975", "model=linear"]
    run = fit(
        load_config(["data=csv", f"data.csv={tones}", f"paths.cache={tiny_cache}", *words, *SMALL]), tmp_path / "run"
    )
    weights.unlink()
    with pytest.raises(UserError, match="no such file"):
        load(run.folder, device="cpu")


def test_a_model_that_reads_annotations_says_where_there_is_none(
    tones: Path, tiny_cache: Path, tiny_encoders: dict[str, Path], tmp_path: Path
) -> None:
    noise = 0.1 * np.random.default_rng(0).standard_normal(8_000)
    soundfile.write(tmp_path / "a.wav", noise, 8_000)
    lines = tones.read_text().splitlines()
    rows = [f"{tones.parent}/{line},hat {line[-1]}" for line in lines[1:]]
    table = tmp_path / "said.csv"
    table.write_text("\n".join([f"{lines[0]},annotation", *rows]))
    words = ["data=csv", f"data.csv={table}", f"paths.cache={tiny_cache}", "model=linear", "features=text"]
    run = fit(load_config([*words, f"features.text.model={tiny_encoders['bert']}", *SMALL]), tmp_path / "run")
    saved = pq.read_table(run.folder / "predictions.parquet").to_pydict()
    model = load(run.folder, device="cpu")
    found = {p.clip: p for p in model.predict(table)}
    for clip, logits in zip(saved["clip"], saved["logits"], strict=True):
        np.testing.assert_allclose(found[clip].logits, logits, atol=1e-5)
        assert found[clip].reason == ""
    (tmp_path / "empty.csv").write_text(f"path,annotation\n{tmp_path}/a.wav,hat 1\n{tones.parent}/low0.wav,\n")
    assert [p.reason for p in model.predict(tmp_path / "empty.csv")] == ["", "no annotation: read as an empty text"]
    (tmp_path / "none.csv").write_text(f"path,said\n{tmp_path}/a.wav,hat 1\n")
    with pytest.raises(UserError, match=r"none\.csv: no annotations; the model reads them"):
        model.predict(tmp_path / "none.csv")
    (named,) = load(run.folder, "data.columns.annotation=said", device="cpu").predict(tmp_path / "none.csv")
    assert named.reason == ""
    (bare,) = model.predict(tmp_path / "a.wav")
    assert bare.status == "failed" and "the model reads annotations" in bare.reason
