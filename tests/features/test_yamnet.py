"""YAMNet's embeddings, with its real weights, and how weights come from the web."""

from __future__ import annotations

import hashlib
import http.server
import os
import pickle
import random
import socketserver
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from audioclf.config import YamnetConfig
from audioclf.errors import UserError
from audioclf.features import yamnet as yamnet_module
from audioclf.features.yamnet import DIM, EMBEDDING, HOP, WINDOW, Model, Yamnet, _without_greeting
from audioclf.weights import weights_file, weights_folder


@pytest.fixture
def yamnet(shared_data: Callable[[str], Path]) -> Callable[..., Yamnet]:
    pytest.importorskip("ai_edge_litert", reason="needs the extra yamnet")
    path = shared_data("models/yamnet.tflite")
    return lambda **keys: Yamnet(YamnetConfig(**{"name": "yamnet", "weights": str(path), **keys}))


def noise(clips: int, seconds: float) -> torch.Tensor:
    return 0.1 * torch.randn(clips, round(16_000 * seconds), generator=torch.Generator().manual_seed(0))


def test_an_embedding_is_what_the_integers_stand_for(
    yamnet: Callable[..., Yamnet], shared_data: Callable[[str], Path]
) -> None:
    """Against LiteRT's plain kernels, which no delegate replaces."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    window = noise(1, 0.975)
    plain = Interpreter(
        str(shared_data("models/yamnet.tflite")),
        experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
        experimental_preserve_all_tensors=True,
    )
    plain.allocate_tensors()
    plain.set_tensor(plain.get_input_details()[0]["index"], window[0].numpy())
    plain.invoke()
    (tensor,) = (part for part in plain.get_tensor_details() if part["name"].endswith(EMBEDDING))
    scale, zero = tensor["quantization"]
    expected = scale * (plain.get_tensor(tensor["index"]).reshape(-1).astype(float) - zero)
    found = yamnet(seconds=0.975)(window)[0].numpy()
    assert found.shape == (DIM,) and found.min() >= 0 and found.max() > 1
    np.testing.assert_allclose(found, expected, atol=4 * scale)  # the kernels round differently, by 3 steps at most


def test_windows_cover_the_clip_and_are_pooled(yamnet: Callable[..., Yamnet]) -> None:
    waveform = noise(1, 5.0)
    sequence = yamnet(pool="sequence")
    windows = sequence(sequence.fit_length(waveform[0])[None])[0]
    assert tuple(windows.shape) == sequence.output_shape == (DIM, 10)
    alone = yamnet(seconds=0.975)
    for number in (0, 3, 8):
        torch.testing.assert_close(windows[:, number], alone(waveform[:, number * HOP :][:, :WINDOW])[0])
    for pool, expected in {
        "mean": windows.mean(1),
        "max": windows.amax(1),
        "mean_max": torch.cat([windows.mean(1), windows.amax(1)]),
    }.items():
        front_end = yamnet(pool=pool)
        found = front_end(front_end.fit_length(waveform[0])[None])
        assert tuple(found.shape[1:]) == front_end.output_shape
        torch.testing.assert_close(found[0], expected)


def test_the_silence_behind_a_short_clip_does_not_count(yamnet: Callable[..., Yamnet]) -> None:
    waveform = noise(1, 0.975)[0]
    short, long = yamnet(seconds=0.975), yamnet(seconds=5.0)
    padded = long(long.fit_length(waveform)[None])[0]
    second = torch.cat([waveform[HOP:], torch.zeros(HOP)])
    torch.testing.assert_close(padded, torch.stack([short(w[None])[0] for w in (waveform, second)]).mean(0))
    assert long(torch.zeros(1, 80_000)).isfinite().all(), "of silence alone there is an embedding, too"


def test_threads_and_processes_do_not_get_into_each_others_way(yamnet: Callable[..., Yamnet]) -> None:
    front_end, waveforms = yamnet(), noise(16, 5.0)
    waveforms = torch.stack([front_end.fit_length(waveform) for waveform in waveforms])
    one = front_end(waveforms)
    with ThreadPoolExecutor(4) as pool:
        many = list(pool.map(front_end, waveforms.split(1)))
    assert torch.equal(one, torch.cat(many))
    assert torch.equal(pickle.loads(pickle.dumps(front_end))(waveforms[:1]), one[:1])


@pytest.mark.parametrize("content", [b"", b"text" * 100])
def test_another_file_is_refused(
    yamnet: Callable[..., Yamnet], write_file: Callable[..., Path], content: bytes
) -> None:
    path = write_file("other.tflite", content)
    with pytest.raises(UserError, match=r"other\.tflite: no LiteRT model") as error:
        yamnet(weights=str(path))(noise(1, 5.0))
    assert error.value.hint is not None and "leave features.weights out" in error.value.hint
    with pytest.raises(UserError, match=r"gone\.tflite: no such file"):
        yamnet(weights=str(path.with_name("gone.tflite")))(noise(1, 5.0))


# --- weights of the web --------------------------------------------------------------------------------------------------


@pytest.fixture
def site(tmp_path: Path) -> Iterator[str]:
    folder = tmp_path / "site"
    folder.mkdir()
    (folder / "weights.bin").write_bytes(b"weights" * 1000)
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    handler.func.log_message = lambda *_: None  # type: ignore[attr-defined]
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/weights.bin"
        server.shutdown()


SHA256 = hashlib.sha256(b"weights" * 1000).hexdigest()


def refusal(*words: Any) -> UserError:
    with pytest.raises(UserError) as error:
        weights_file("features.weights", *words)
    return error.value


def test_weights_are_downloaded_once(site: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUDIOCLF_WEIGHTS", str(tmp_path / "weights"))
    path = weights_file("features.weights", site, SHA256)
    assert path.parent == tmp_path / "weights" and path.read_bytes() == b"weights" * 1000
    (tmp_path / "site" / "weights.bin").unlink()
    assert weights_file("features.weights", site, SHA256) == path
    path.write_bytes(b"other")
    assert f"{path}: its sha256 is" in refusal(site, SHA256).message


def test_a_download_that_fails_or_gives_another_file_leaves_nothing_and_says_what_to_do(
    site: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AUDIOCLF_WEIGHTS", str(tmp_path / "weights"))
    other = refusal(site, "0" * 64)
    assert f"sha256 {SHA256}; expected 000" in other.message
    absent = refusal(site + "x", SHA256)
    assert absent.message.endswith("cannot be downloaded: File not found") and absent.hint is not None
    assert str(tmp_path / "weights" / f"{SHA256[:16]}-weights.binx") in absent.hint
    assert "refused" in refusal("http://127.0.0.1:9/weights.bin", SHA256).message
    assert "needs the sha256" in refusal(site, None).message
    assert [path for path in (tmp_path / "weights").rglob("*") if path.is_file()] == []


def test_a_signed_url_is_kept_under_its_files_name(site: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUDIOCLF_WEIGHTS", str(tmp_path / "weights"))
    for signed in (f"{site}?signature={'a/b' * 200}", f"{site}#a/b"):
        assert weights_file("features.weights", signed, SHA256).name == f"{SHA256[:16]}-weights.bin"


@pytest.mark.parametrize(
    "says", [b"no HTTP at all\r\n\r\n", b"", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx"]
)
def test_a_server_that_does_not_speak_http_is_a_failed_download(
    says: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            self.rfile.readline()
            self.wfile.write(says)

    monkeypatch.setenv("AUDIOCLF_WEIGHTS", str(tmp_path))
    with socketserver.TCPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.handle_request, daemon=True).start()
        error = refusal(f"http://127.0.0.1:{server.server_address[1]}/weights.bin", SHA256)
    assert "cannot be downloaded: " in error.message and error.hint is not None
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("url", ["http://[::1/a", "http://127.0.0.1:9/a b", "http://127.0.0.1:port/a"])
def test_an_address_that_is_none_is_a_failed_download(url: str) -> None:
    assert f"{url}: cannot be downloaded: " in refusal(url, SHA256).message


def test_the_users_cache_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AUDIOCLF_WEIGHTS")
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert weights_folder() == Path("/somewhere/audioclf")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert weights_folder() == Path.home() / ".cache" / "audioclf"


def test_nothing_is_said_of_delegates_and_nothing_else_is_lost(
    yamnet: Callable[..., Yamnet], capfd: pytest.CaptureFixture[str]
) -> None:
    with _without_greeting():
        os.write(2, b"INFO: Created TensorFlow Lite XNNPACK delegate for CPU.\nof another thread")
    yamnet(seconds=0.975)(noise(1, 0.975))
    os.write(2, b", as ever\n")
    assert capfd.readouterr().err == "of another thread, as ever\n"


class Interpreter:
    """LiteRT's, in threads: others are at work while one is made. It counts how many are at once."""

    at_once = most = 0

    def __init__(self, *_: Any, **__: Any) -> None:
        Interpreter.at_once += 1
        Interpreter.most = max(Interpreter.most, Interpreter.at_once)
        os.write(2, b"INFO: Created TensorFlow Lite XNNPACK delegate for CPU.\n")
        time.sleep(0.01 * random.random())
        Interpreter.at_once -= 1

    def allocate_tensors(self) -> None:
        raise RuntimeError("read no further")


def of_the_process() -> tuple[object, ...]:
    return (*os.fstat(2), warnings.filters, *warnings.filters, warnings.showwarning)


def test_threads_that_load_leave_stderr_and_filters_of_warnings_as_they_were(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def make(path: Path) -> None:
        with pytest.raises(UserError, match="no LiteRT model"):
            Model(path)

    monkeypatch.setattr(yamnet_module, "needs", lambda *_: SimpleNamespace(Interpreter=Interpreter))
    before = of_the_process()
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(make, [Path("any")] * 40))
    assert of_the_process() == before and capfd.readouterr().err == ""
    assert Interpreter.most == 1, "one at a time: there is one stderr"


@pytest.mark.parametrize("missing", ["folder", "stderr", "descriptor"])
def test_where_nothing_can_be_kept_back_the_greeting_is_no_reason_to_stop(
    missing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: Any) -> None:
        raise OSError(9, "Bad file descriptor")

    if missing == "stderr":
        monkeypatch.setattr(sys, "stderr", None)
    else:
        monkeypatch.setattr(*{"folder": (tempfile, "TemporaryFile"), "descriptor": (os, "dup")}[missing], refused)
    done = []
    for _ in range(2):  # and the lock is free again
        with _without_greeting():
            done.append("work")
    assert done == ["work"] * 2
    with pytest.raises(OSError, match="of the work"), _without_greeting():
        raise OSError("of the work")
