"""`predict`, `embed` and `export` as a person types them."""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
import subprocess
import sys
import textwrap
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile
import torch

from audioclf.config import Config
from audioclf.console import ProgressBar
from audioclf.errors import EXIT_FAILED, EXIT_OK, EXIT_USAGE, UserError
from audioclf.features.mel import TorchaudioMel
from audioclf.predict import export as exporting
from audioclf.predict.export import Deployed, export
from audioclf.predict.model import Model, Prediction, load
from audioclf.predict.write import Tally
from audioclf.training.fit import fit

Written = Callable[..., tuple[int, str, str]]


@pytest.fixture
def sounds(tmp_path: Path, tones: Path) -> Path:
    """A folder with two good files, one that is silent and one that is no audio."""
    folder = tmp_path / "sounds"
    folder.mkdir()
    for name in ("low0.wav", "high1.wav"):
        (folder / name).write_bytes((tones.parent / name).read_bytes())
    soundfile.write(folder / "silent.wav", np.zeros(8_000), 8_000)
    (folder / "broken.wav").write_text("no audio")
    return folder


def test_lines_of_csv(written: Written, run_folder: Path, sounds: Path, model: Model) -> None:
    code, out, error = written("predict", run_folder, sounds, "--top", "2", sounds / "low0.wav")
    rows = list(csv.DictReader(io.StringIO(out)))
    assert code == EXIT_FAILED and "3 ok" in error and "1 silent" in error and "1 failed" in error
    assert [Path(r["file"]).name for r in rows] == [
        *("broken.wav", "high1.wav", "high1.wav", "low0.wav", "low0.wav", "silent.wav", "low0.wav", "low0.wav")
    ]
    (expected,) = model.predict(sounds / "low0.wav", top=3)
    assert [r["class"] for r in rows[3:5]] == [score.name for score in expected.top[:2]]
    assert sum(score.score for score in expected.top) == pytest.approx(1, abs=1e-9)
    assert [(r["rank"], r["predicted"], r["start"], r["end"]) for r in rows[3:5]] == [
        ("1", "1", "0.0", "1.0"),
        ("2", "0", "0.0", "1.0"),
    ]
    assert {r["clip"] for r in rows} == {""}, "a file has no other name"
    assert rows[0]["class"] == rows[0]["score"] == "" and rows[0]["status"] == "failed" and rows[0]["reason"]
    assert rows[5]["status"] == "silent" and rows[5]["class"] == ""


def test_lines_of_json_of_a_timeline_into_a_file(
    written: Written, run_folder: Path, tones: Path, tmp_path: Path
) -> None:
    out = tmp_path / "new" / "p.jsonl"
    words = ("--timeline", "--hop", "0.25", "--format", "jsonl", "--out", out)
    code, printed, _ = written("predict", run_folder, tones.parent / "mid0.wav", *words)
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert code == EXIT_OK and printed == ""
    assert [row["start"] for row in rows] == [0, 0.25, 0.5] and rows[-1]["end"] == 1.0
    assert all(row["top"][0]["predicted"] and 0 < row["top"][0]["score"] <= 1 for row in rows)
    code, _, error = written("predict", run_folder, tones, "--out", tmp_path)
    assert code == EXIT_USAGE and "a folder" in error


def test_a_table_keeps_the_ids_of_its_clips(written: Written, run_folder: Path, tones: Path) -> None:
    code, out, _ = written("predict", run_folder, tones)
    rows = list(csv.DictReader(io.StringIO(out)))
    table = pq.read_table(run_folder / "predictions.parquet").to_pydict()
    assert code == EXIT_OK
    assert {r["clip"]: r["class"] for r in rows} == dict(zip(table["clip"], table["predicted"], strict=True))


def test_the_summary_says_that_most_was_not_heard(written: Written, run_folder: Path, tones: Path) -> None:
    _, _, error = written("predict", run_folder, tones.parent / "mid0.wav", tones.parent / "low0.wav")
    assert "2 ok; of 2 only the middle counts (--timeline hears all)" in error
    _, _, error = written("predict", run_folder, tones.parent / "mid0.wav", "--timeline")
    assert "--timeline" not in error


def test_a_long_file_is_counted_when_it_has_ended() -> None:
    bar = ProgressBar("predict", 2, "clips", None)
    tally, done = Tally(bar), []
    for file, end in (("a", 1.0), ("a", 2.0), ("a", 3.0), ("b", 1.0)):
        tally.add(Prediction("", file, end - 1, end, (), "ok", "", (), None))
        done.append(bar.done)
    assert done == [0, 0, 0, 1]


def test_a_layer_that_there_is_not(model: Model, tones: Path) -> None:
    with pytest.raises(UserError, match="layer='Model': expected 'model' or 'features'"):
        model.embed(tones.parent / "low0.wav", layer="Model")  # type: ignore[arg-type]


def test_sounds_are_no_names(model: Model) -> None:
    with pytest.raises(UserError, match="expected names of files"):
        model.predict(np.zeros(3))  # type: ignore[arg-type]
    with pytest.raises(UserError, match="top='3'"):
        model.predict("a.wav", top="3")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "words", [["--top", "0"], ["--hop", "0"], ["--hop", "nan"], ["--format", "xml"], ["--nonsense"]]
)
def test_words_that_are_not_understood(written: Written, run_folder: Path, words: list[str]) -> None:
    code, out, error = written("predict", run_folder, "a.wav", *words)
    assert code == EXIT_USAGE and not out and "error" in error


def test_a_pipe_is_fed_line_by_line_and_may_close(run_folder: Path, tones: Path) -> None:
    command = [sys.executable, "-m", "audioclf", "predict", str(run_folder), *[str(tones)] * 60]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stderr is not None
        assert process.stdout.readline().startswith(b"clip,file,start,end,rank,class,score")
        assert process.stdout.readline().count(b",") == 9
        process.stdout.close()
        error = process.stderr.read().decode()
    assert process.returncode == EXIT_OK and "Traceback" not in error and "BrokenPipe" not in error


# --- embed -----------------------------------------------------------------------------------------------------------


def test_embeddings_are_what_the_last_layer_sees(
    written: Written, run_folder: Path, tones: Path, tmp_path: Path
) -> None:
    out = tmp_path / "e.parquet"
    code, _, _ = written("embed", run_folder, tones, tmp_path / "gone.wav", "--out", out)
    table = pq.read_table(out)
    assert code == EXIT_FAILED and table.schema.metadata[b"layer"] == b"model"
    rows = table.to_pylist()
    assert len(rows) == 37 and rows[-1]["embedding"] is None and rows[-1]["status"] == "failed"
    saved = pq.read_table(run_folder / "predictions.parquet").to_pydict()
    logits = dict(zip(saved["clip"], saved["logits"], strict=True))
    module = load(run_folder, device="cpu").module
    for row in rows[:-1]:
        assert len(row["embedding"]) == 16 and len(row["labels"]) == 1
        with torch.no_grad():
            found = module.model.fc2(torch.tensor(row["embedding"])).numpy()
        np.testing.assert_allclose(found, logits[row["clip"]], atol=1e-5)
    written("embed", run_folder, tones, "--out", out, "--layer", "features")
    assert len(pq.read_table(out).to_pylist()[0]["embedding"]) == 8 * 20


def test_the_projector_in_tensorboard(written: Written, run_folder: Path, tones: Path, tmp_path: Path) -> None:
    from PIL import Image
    from tensorboard import program

    place = tmp_path / "projector"
    place.mkdir()
    (place / "projector_config.pbtxt").touch()
    (place / "events.out.tfevents.1.mine").touch()
    words = ("--out", tmp_path / "e.parquet", "--projector", place)
    for _ in range(2):  # the second replaces the first
        code, out, _ = written("embed", run_folder, tones, *words)
        assert code == EXIT_OK and f"36 points: tensorboard --logdir {place}" in out
    assert (place / "events.out.tfevents.1.mine").exists(), "it removes its own files alone"
    assert len(list(place.glob("*.projector"))) == 1
    server = program.TensorBoard()
    server.configure(argv=["tensorboard", "--logdir", str(place), "--port", "0", "--load_fast", "false"])
    url = server.launch()

    def ask(what: str, **query: str) -> bytes:
        with urllib.request.urlopen(f"{url}data/plugin/projector/{what}?{urlencode(query)}", timeout=60) as answer:
            content: bytes = answer.read()
        return gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content

    (run,) = json.loads(ask("runs"))
    (embedding,) = json.loads(ask("info", run=run))["embeddings"]
    name = embedding["tensorName"]
    vectors = np.frombuffer(ask("tensor", run=run, name=name), np.float32)
    assert vectors.reshape(36, -1).shape == (36, 16)
    table = pq.read_table(tmp_path / "e.parquet").to_pylist()
    np.testing.assert_allclose(vectors.reshape(36, -1), [row["embedding"] for row in table], atol=1e-4)
    header, *lines = ask("metadata", run=run, name=name).decode().splitlines()
    assert header.split("\t") == ["label", "clip", "start"]
    assert [line.split("\t")[:2] for line in lines] == [[row["labels"][0], row["clip"]] for row in table]
    sprite = np.asarray(Image.open(io.BytesIO(ask("sprite_image", run=run, name=name))).convert("RGB"))
    assert sprite.shape == (6 * 64, 6 * 64, 3) and embedding["sprite"]["singleImageDim"] == [64, 64]

    def pitch(number: int) -> int:
        """The lightest row of a thumbnail."""
        top, left = divmod(number, 6)
        return int(sprite[top * 64 :, left * 64 :][:64, :64].astype(float).sum((1, 2)).argmax())

    rows_of = {
        label: [pitch(i) for i, row in enumerate(table) if row["labels"] == [label]] for label in ("low", "high")
    }
    assert np.mean(rows_of["high"]) + 5 < np.mean(rows_of["low"]), "high tones stand above low ones"


def test_a_folder_of_something_else_is_left_alone(
    written: Written, run_folder: Path, tones: Path, tmp_path: Path
) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").touch()
    words = ("--out", tmp_path / "e.parquet", "--projector", tmp_path / "mine")
    code, _, error = written("embed", run_folder, tones, *words)
    assert code == EXIT_USAGE and "holds something else" in error and (tmp_path / "mine" / "thesis.tex").exists()


# --- export ----------------------------------------------------------------------------------------------------------


def heard(session: Any, model: Model, path: Path) -> np.ndarray:
    """What a program without PyTorch does: decode, cut, run."""
    import soxr

    facts = session.get_modelmeta().custom_metadata_map
    samples, rate = soundfile.read(path, dtype="float32")
    samples = soxr.resample(soxr.resample(samples, rate, 44_100), 44_100, int(facts["sample_rate"]))
    wanted = int(facts["samples"])
    surplus = max(len(samples) - wanted, 0)
    samples = np.pad(samples[surplus // 2 :][:wanted], (0, max(wanted - len(samples), 0)))
    (logits,) = session.run(None, {"waveforms": np.stack([samples, samples])})
    assert logits.shape == (2, len(json.loads(facts["classes"])))
    return np.asarray(logits[0])


def test_onnx_takes_waveforms_and_gives_the_models_logits(
    written: Written, run_folder: Path, tones: Path, model: Model, tmp_path: Path
) -> None:
    import onnxruntime

    out = tmp_path / "model.onnx"
    code, printed, _ = written("export", run_folder, "--out", out)
    assert code == EXIT_OK and "waveforms [B, 5119] at 8000 Hz to logits [B, 3]" in " ".join(printed.split())
    session = onnxruntime.InferenceSession(out)
    facts = session.get_modelmeta().custom_metadata_map
    assert json.loads(facts["classes"]) == ["high", "low", "mid"] and facts["activation"] == "softmax"
    for name in ("low0.wav", "high3.wav"):
        (expected,) = model.predict(tones.parent / name)
        np.testing.assert_allclose(heard(session, model, tones.parent / name), expected.logits, atol=2e-3)  # 16 bits
    assert not list(tmp_path.glob("*.tmp"))


@pytest.mark.parametrize("scale", ["db", "power"])
def test_onnx_is_pytorch_to_one_in_ten_thousand(scale: str, tiny_config: Callable[..., Config], tmp_path: Path) -> None:
    import onnxruntime

    run = fit(tiny_config(epochs=1, features={"scale": scale}), tmp_path / "run")
    model = load(run.folder, device="cpu")
    assert "written to" in export(model, tmp_path / "m.onnx")[0]
    session = onnxruntime.InferenceSession(tmp_path / "m.onnx")
    noise = 0.1 * torch.randn(5, 5_119)
    with torch.no_grad():
        expected = model.module(model.front_end(noise)).numpy()
    (found,) = session.run(None, {"waveforms": noise.numpy()})
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_a_front_end_that_cannot_go_inside_stays_outside(tiny_config: Callable[..., Config], tmp_path: Path) -> None:
    import onnxruntime

    run = fit(tiny_config(epochs=1, features={"engine": "librosa"}), tmp_path / "run")
    model = load(run.folder, device="cpu")
    first, second, _ = export(model, tmp_path / "m.onnx")
    assert "the front-end mel cannot go inside" in first and "features [B, 8, 20] to logits [B, 3]" in second
    session = onnxruntime.InferenceSession(tmp_path / "m.onnx")
    assert session.get_modelmeta().custom_metadata_map["input"] == "features"
    features = torch.randn(4, 8, 20)
    with torch.no_grad():
        expected = model.module(features).numpy()
    np.testing.assert_allclose(session.run(None, {"features": features.numpy()})[0], expected, rtol=1e-4, atol=1e-4)


def test_a_file_that_differs_from_pytorch_is_never_left(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def off(self: Deployed, inputs: torch.Tensor) -> torch.Tensor:
        extra = 1e-3 if not torch.compiler.is_exporting() else 0.0
        logits: torch.Tensor = self.model(self.standardise(self.front_end(inputs))) + extra
        return logits

    monkeypatch.setattr(Deployed, "forward", off)
    (tmp_path / "m.onnx").write_text("what was there")
    with pytest.raises(UserError, match=r"differ by 1\.0e-03; 0\.0001 is allowed"):
        export(model, tmp_path / "m.onnx")
    assert [p.name for p in tmp_path.iterdir()] == ["m.onnx"] and (tmp_path / "m.onnx").read_text() == "what was there"


def test_without_the_packages_it_says_how_to_get_them(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporting, "PACKAGES", ("onnx", "a_package_that_is_not_there"))
    with pytest.raises(UserError, match="a_package_that_is_not_there is not installed") as caught:
        export(model, tmp_path / "m.onnx")
    assert "audioclf[export]" in str(caught.value)
    assert isinstance(model.front_end, TorchaudioMel)


def test_the_pages_python_does_what_it_says(
    run_folder: Path, tones: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "outputs").mkdir()
    (tmp_path / "outputs" / "RUN").symlink_to(run_folder)
    (tmp_path / "recordings").symlink_to(tones.parent)
    (tmp_path / "clips.csv").write_text(re.sub(r"^(\w+\.wav)", r"recordings/\1", tones.read_text(), flags=re.MULTILINE))
    samples, rate = soundfile.read(tones.parent / "low0.wav")
    soundfile.write(tmp_path / "dog.wav", np.stack([samples, samples], 1), rate)  # stereo, and longer than a window
    pages = Path(__file__).parents[2]
    for page in (pages / "README.md", pages / "docs" / "predict.md"):
        blocks = re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)
        assert blocks
        names: dict[str, Any] = {}
        for block in blocks:
            exec(textwrap.dedent(block), names)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == names["model"].predict("dog.wav")[0].label
    assert len([line for line in lines if " ok [" in line]) == 18 + 36 and len(names["vectors"]) == 18
