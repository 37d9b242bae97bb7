"""Which checkpoints are opened, and what is said of all others; nothing that lies in one is run."""

from __future__ import annotations

import http.server
import pickle
import shutil
import threading
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch

from audioclf import load
from audioclf.audio import AudioError
from audioclf.cli import main
from audioclf.errors import EXIT_USAGE, UserError
from audioclf.features.mel import TorchaudioMel
from audioclf.training.module import LAYOUT

Read = Callable[[], dict[str, Any]]


def refused(path: Path, *overrides: str) -> str:
    with pytest.raises(UserError) as caught:
        load(path, *overrides, device="cpu")
    assert str(path) in caught.value.message or overrides
    assert "\n" not in caught.value.message, "one line"
    return str(caught.value)


def saved(content: Any, path: Path) -> Path:
    torch.save(content, path)
    return path


def test_a_run_its_checkpoint_and_the_state_to_continue_from_are_opened(run_folder: Path, model: Any) -> None:
    for path in ("", "checkpoints/model.ckpt", "checkpoints/last.ckpt"):
        assert load(run_folder / path, device="cpu").classes == ["high", "low", "mid"]
    assert not model.module.training and model.window_s == pytest.approx(0.64, abs=1e-3)


def test_no_checkpoint(run_folder: Path, tmp_path: Path) -> None:
    assert "no such file or folder" in refused(tmp_path / "nothing")
    assert "finished run's folder" in refused(tmp_path)
    assert str(run_folder) in refused(run_folder.parent), "a folder of runs names one"


class Harmful:
    """Leaves a file when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.mark,)


def test_code_in_a_checkpoint_is_never_run(checkpoint: Read, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    tampered = checkpoint()
    tampered["hyper_parameters"]["extra"] = Harmful(mark)
    assert "could run code" in refused(saved(tampered, tmp_path / "tampered.ckpt"))
    for name, protocol in (("plain.ckpt", 2), ("plain.pkl", 4)):
        (tmp_path / name).write_bytes(pickle.dumps(Harmful(mark), protocol=protocol))
        refused(tmp_path / name)
    assert not mark.exists()
    pickle.loads(pickle.dumps(Harmful(mark)))
    assert mark.exists(), "it would have"


@pytest.mark.parametrize("kind", ["random", "empty", "text", "cut", "zip", "list", "tensor", "legacy"])
def test_what_is_no_checkpoint(kind: str, run_folder: Path, tmp_path: Path) -> None:
    path, whole = tmp_path / "x.ckpt", (run_folder / "checkpoints" / "model.ckpt").read_bytes()
    if kind == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("x/data.pkl", b"no pickle")
    elif kind in ("list", "tensor"):
        saved([1, 2] if kind == "list" else torch.zeros(3), path)
    elif kind == "legacy":
        torch.save({"state_dict": {}}, path, _use_new_zipfile_serialization=False)
    else:
        noise = np.random.default_rng(0).bytes(5_000)
        path.write_bytes(
            {"random": noise, "empty": b"", "text": b"no checkpoint", "cut": whole[: len(whole) // 2]}[kind]
        )
    assert "not a checkpoint of audioclf, or damaged" in refused(path)


def test_weights_that_changed_on_the_disk_are_refused(run_folder: Path, tmp_path: Path) -> None:
    """torch writes checksums and does not look at them."""
    whole = bytearray((run_folder / "checkpoints" / "model.ckpt").read_bytes())
    with zipfile.ZipFile(run_folder / "checkpoints" / "model.ckpt") as archive:
        largest = max(archive.infolist(), key=lambda part: part.file_size)
    middle = largest.header_offset + largest.file_size // 2
    whole[middle : middle + 8] = bytes(8 - i for i in range(8))
    (tmp_path / "x.ckpt").write_bytes(whole)
    assert "is not what was written" in refused(tmp_path / "x.ckpt")


def test_a_fine_tuned_model_whose_encoder_is_gone_asks_no_hub(checkpoint: Read, tmp_path: Path) -> None:
    tampered = checkpoint()
    parameters = tampered["hyper_parameters"]
    parameters["config"]["features"] = {"name": "waveform", "sample_rate": 8000, "seconds": 0.5}
    parameters["config"]["model"] = {"name": "finetune", "model": "someone/thing"}
    parameters["feature_shape"] = [4000]
    parameters["front_end_version"] = ""
    assert "encoder is gone" in refused(saved(tampered, tmp_path / "tampered.ckpt"))


def test_a_checkpoint_of_another_lightning_module(tmp_path: Path) -> None:
    class Other(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.save_hyperparameters({"hidden": 3})
            self.layer = torch.nn.Linear(2, 2)

    trainer = pl.Trainer(max_epochs=0, logger=False, enable_checkpointing=False, accelerator="cpu")
    trainer.strategy.connect(Other())
    trainer.save_checkpoint(tmp_path / "other.ckpt")
    assert "not a checkpoint of audioclf" in refused(tmp_path / "other.ckpt")


def _change(content: dict[str, Any], where: str, value: Any) -> None:
    *path, last = where.split("/")
    for part in path:
        content = content[part]
    if value is ...:
        del content[last]
    elif callable(value):
        content[last] = value(content[last])
    else:
        content[last] = value


@pytest.mark.parametrize(
    ("where", "value", "said"),
    [
        ("audioclf", ..., "an audioclf that did not number its layouts; this audioclf reads layout"),
        ("audioclf/layout", LAYOUT + 1, "update audioclf"),
        ("audioclf/layout", "1", "layout 1; this audioclf reads"),
        ("audioclf", [], "did not number"),
        ("hyper_parameters", ..., "not a checkpoint of audioclf"),
        ("hyper_parameters", [], "not a checkpoint of audioclf"),
        ("state_dict", ..., "not a checkpoint of audioclf"),
        ("hyper_parameters/classes", ["low", "mid"], "does not fit together"),
        ("hyper_parameters/classes", ["low", "low", "mid"], "stands twice"),
        ("hyper_parameters/classes", [1, 2, 3], "no label map"),
        ("hyper_parameters/classes", ..., "no label map"),
        ("hyper_parameters/feature_shape", [10**9, 10**9], "features of shape"),
        ("hyper_parameters/feature_shape", "8x20", "no shape of features"),
        ("hyper_parameters/config", ..., "no configuration"),
        (
            "hyper_parameters/config/features",
            {"name": "mel", "bands": 3},
            "its configuration is not one of this audioclf",
        ),
        ("hyper_parameters/config/features/n_mels", 16, "features of shape"),
        ("hyper_parameters/config/model/hidden", 17, "does not fit together"),
        ("hyper_parameters/weights", {"weights": "sha256:/etc"}, "weights named sha256:/etc"),
        ("hyper_parameters/weights", {"weights": "sha256:**"}, "weights named"),
        ("hyper_parameters/weights", {"weights": 3}, "weights named 3"),
        (
            "hyper_parameters",
            lambda old: (
                old
                | {
                    "config": old["config"]
                    | {"features": {"name": "yamnet", "weights": "https://[x", "sha256": "0" * 64}},
                    "weights": {"weights": f"sha256:{'0' * 64}"},
                }
            ),
            "is not asked",
        ),
        ("hyper_parameters/front_end_version", "0", "trained on features of mel version 0"),
        ("state_dict/model.fc1.weight", ..., "Missing key"),
        ("state_dict/model.fc3.weight", torch.zeros(2), "Unexpected key"),
        ("state_dict/model.fc1.weight", torch.zeros(2), "size mismatch"),
        ("state_dict/standardise.mean", "zero", "does not fit together"),
        ("state_dict", {}, "Missing key"),
    ],
)
def test_a_checkpoint_that_was_changed_or_is_of_another_version(
    checkpoint: Read, tmp_path: Path, where: str, value: Any, said: str
) -> None:
    content = checkpoint()
    _change(content, where, value)
    assert said in refused(saved(content, tmp_path / "changed.ckpt"))


def test_features_of_another_version_are_refused(run_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TorchaudioMel, "version", "2")
    assert "trained on features of mel version 1; this audioclf makes version 2" in refused(run_folder)


def test_what_a_model_was_trained_with_is_not_to_be_changed(run_folder: Path) -> None:
    for word in ("features.n_mels=16", "features.scale=power", "features.weights=x", "lr=1", "features.f_max=3"):
        assert "not to be changed in a trained model" in refused(run_folder, word)


def test_a_device_that_is_not_there(run_folder: Path) -> None:
    for name in ("gpu", "cuda:99", "xla"):
        with pytest.raises(UserError, match="--device"):
            load(run_folder, device=name)


def test_the_command_says_it_in_a_line_and_exits_with_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], run_folder: Path
) -> None:
    (tmp_path / "x.ckpt").write_bytes(b"x")
    for words in (
        ["predict", str(tmp_path / "x.ckpt"), "a.wav"],
        ["export", str(tmp_path)],
        ["embed", "gone", "a.wav"],
    ):
        with pytest.raises(SystemExit) as stop:
            main(words)
        out, error = capsys.readouterr()
        assert stop.value.code == EXIT_USAGE and out == "" and "error: " in error and "Traceback" not in error
    moved = shutil.copyfile(run_folder / "checkpoints" / "model.ckpt", tmp_path / "moved.ckpt")
    assert load(moved, device="cpu").predict(tmp_path / "x.wav")[0].status == "failed"
    assert issubclass(AudioError, Exception)


def test_an_address_that_only_the_checkpoint_names_is_not_asked(checkpoint: Read, tmp_path: Path) -> None:
    asked: list[str] = []

    class Server(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_error(404)

        def log_message(self, *_: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Server) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}/internal/x.tflite"
        tampered = checkpoint()
        parameters = tampered["hyper_parameters"]
        parameters["config"]["features"] = {"name": "yamnet", "weights": address, "sha256": "0" * 64}
        parameters["weights"] = {"weights": f"sha256:{'0' * 64}"}
        path = saved(tampered, tmp_path / "tampered.ckpt")
        assert f"if you trust it: features.weights={address}" in refused(path)
        assert asked == []
        pytest.importorskip("ai_edge_litert", reason="needs the extra yamnet")
        parameters["feature_shape"], parameters["front_end_version"] = [1024], "1"
        path = saved(tampered, tmp_path / "tampered.ckpt")
        assert "cannot be downloaded" in refused(path, f"features.weights={address}")
        assert asked == ["/internal/x.tflite"]
        server.shutdown()
