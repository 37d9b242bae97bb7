"""What many tests share: the real data where it is there, and small files made on the spot."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import settings

from audioclf.compose import load_config
from audioclf.config import Config, parse_config

CHECKOUT = Path(__file__).resolve().parents[1]

# One thread: the networks here are tiny, and threads that wait for one another on busy cores cost four times as much.
os.environ.setdefault("OMP_NUM_THREADS", "1")
torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))

settings.register_profile("audioclf", deadline=None, derandomize=True, max_examples=60)
settings.load_profile("audioclf")


@pytest.fixture(scope="session")
def checkout() -> Path:
    """The folder that holds train.py and conf/."""
    return CHECKOUT


@pytest.fixture(scope="session")
def shared_data() -> Callable[[str], Path]:
    """Finds real data by name, e.g. ``shared_data("esc10")``; the test is skipped where it is absent.

    It lies in the folder that AUDIOCLF_DATA names, else in ../shared/data beside the checkout.
    """
    root = Path(os.environ.get("AUDIOCLF_DATA") or CHECKOUT.parent / "shared" / "data")

    def find(name: str) -> Path:
        if not (root / name).exists():
            pytest.skip(f"needs real data: no {name} in {root} (AUDIOCLF_DATA names another folder)")
        return root / name

    return find


@pytest.fixture
def write_file(tmp_path: Path) -> Callable[..., Path]:
    """Writes a text or binary file below tmp_path: ``write_file("clips.csv", "path,label\\n")``."""

    def write(name: str, content: str | bytes = "") -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write


@pytest.fixture
def write_wav(tmp_path: Path) -> Callable[..., Path]:
    """Writes a tone below tmp_path: ``write_wav("dog/1.wav", seconds=2.0, hertz=440.0)``."""

    def write(name: str, seconds: float = 1.0, hertz: float = 440.0, rate: int = 22_050, channels: int = 1) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        tone = 0.5 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)
        soundfile.write(path, np.repeat(tone[:, None], channels, axis=1), rate, subtype="PCM_16")
        return path

    return write


PITCHES = {"low": 300.0, "mid": 700.0, "high": 1500.0}  # class -> Hz


@pytest.fixture(scope="session")
def write_tones() -> Callable[..., Path]:
    """Writes a table of short noisy tones, two clips a recording: ``write_tones(folder, recordings=4)`` -> its CSV."""

    def write(folder: Path, recordings: int = 4, classes: tuple[str, ...] = tuple(PITCHES), seed: int = 0) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        rng = np.random.default_rng(seed)
        lines = ["path,start,end,label"]
        for label in classes:
            for number in range(recordings):
                time = np.arange(8_000) / 8_000
                tone = np.sin(2 * np.pi * PITCHES[label] * rng.uniform(0.7, 1.4) * time)
                samples = 0.1 * tone + 0.1 * rng.standard_normal(len(time))
                soundfile.write(folder / f"{label}{number}.wav", samples, 8_000, subtype="PCM_16")
                lines += [f"{label}{number}.wav,{start},{start + 0.5},{label}" for start in (0, 0.5)]
        table = folder / "clips.csv"
        table.write_text("\n".join(lines) + "\n")
        return table

    return write


@pytest.fixture(scope="session")
def tones(tmp_path_factory: pytest.TempPathFactory, write_tones: Callable[..., Path]) -> Path:
    """A table of 36 clips of 18 recordings in 3 classes, shared by all tests: read it only."""
    return write_tones(tmp_path_factory.mktemp("tones"), recordings=6)


@pytest.fixture(scope="session")
def tiny_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache folder shared by all tests, so that the same audio is imported and extracted once."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def tiny_overrides(tones: Path, tiny_cache: Path) -> list[str]:
    """A run of under a second: features ``[8, 20]``, 16 hidden units, 3 epochs, no TensorBoard."""
    return [
        *("data=csv", f"data.csv={tones}", f"paths.cache={tiny_cache}", "lr=1e-3", "epochs=3", "batch_size=8"),
        *("features.sample_rate=8000", "features.n_fft=512", "features.hop_length=256", "features.n_mels=8"),
        *("features.target_length=20", "model.hidden=16", "trainer.tensorboard=false", "trainer.accelerator=cpu"),
    ]


@pytest.fixture(scope="session")
def tiny_config(tiny_overrides: list[str]) -> Callable[..., Config]:
    """That run's configuration with changes: ``tiny_config(seed=1, trainer={"select": "last"})``."""
    base = load_config(tiny_overrides).model_dump()

    def change(**changes: Any) -> Config:
        merged = {key: base[key] | value if isinstance(value, dict) else value for key, value in changes.items()}
        return parse_config(base | merged)

    return change


@pytest.fixture(scope="session", autouse=True)
def weights_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where downloaded weights go, in place of the user's own cache folder."""
    folder = tmp_path_factory.mktemp("weights")
    os.environ["AUDIOCLF_WEIGHTS"] = str(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_encoders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders of small transformers models with random weights, as a hub has them: name → folder."""
    transformers = pytest.importorskip("transformers", reason="needs the extra pretrained")
    transformers.utils.logging.disable_progress_bar()
    root, size = tmp_path_factory.mktemp("encoders"), {"hidden_size": 16, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 2, "intermediate_size": 32}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        made = {
            "ast": (
                transformers.ASTForAudioClassification(
                    transformers.ASTConfig(**size, **heads, max_length=64, num_mel_bins=32)
                ),
                transformers.ASTFeatureExtractor(num_mel_bins=32, max_length=64),
            ),
            "wav2vec2": (
                transformers.Wav2Vec2Model(
                    transformers.Wav2Vec2Config(
                        **size,
                        **heads,
                        conv_dim=(8, 8),
                        conv_stride=(10, 8),
                        conv_kernel=(20, 8),
                        num_conv_pos_embeddings=4,
                        num_conv_pos_embedding_groups=2,
                    )
                ),
                transformers.Wav2Vec2FeatureExtractor(),
            ),
            "whisper": (
                transformers.WhisperModel(
                    transformers.WhisperConfig(
                        **{
                            f"{side}_{key}": 2
                            for side in ("encoder", "decoder")
                            for key in ("layers", "attention_heads")
                        },
                        **{"encoder_ffn_dim": 32, "decoder_ffn_dim": 32, "d_model": 16, "vocab_size": 8},
                        **{"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1},
                        num_mel_bins=20,
                        max_source_positions=100,
                    )
                ),
                transformers.WhisperFeatureExtractor(feature_size=20, chunk_length=2),
            ),
            "clap": (
                transformers.ClapModel(
                    transformers.ClapConfig(
                        text_config={**size, **heads, "vocab_size": 8},
                        audio_config={
                            **{"hidden_size": 16, "patch_embeds_hidden_size": 8, "num_hidden_layers": 2},
                            **{"depths": [1, 1], "num_attention_heads": [2, 2], "window_size": 4},
                            **{"num_mel_bins": 16, "spec_size": 64, "patch_size": 4, "patch_stride": [4, 4]},
                        },
                        projection_dim=16,
                    )
                ),
                transformers.ClapFeatureExtractor(feature_size=16, max_length_s=2, truncation="rand_trunc"),
            ),
            "bert": (
                transformers.BertModel(transformers.BertConfig(**size, **heads, vocab_size=40)),
                transformers.BertTokenizer(
                    vocab={word: i for i, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *LETTERS])}
                ),
            ),
        }
    for name, parts in made.items():
        for part in parts:
            part.save_pretrained(root / name)
    return {name: root / name for name in made}


LETTERS = [f"{start}{letter}" for letter in "adehknostx" for start in ("", "##")]


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """A small ``Wav2Vec2Bundle`` among torchaudio's own, as large ones are normalised: its name and its file of weights."""
    from torchaudio import pipelines

    params = {
        "extractor_mode": "layer_norm",
        "extractor_conv_layer_config": [(8, 20, 10), (8, 8, 8)],
        "extractor_conv_bias": False,
        "encoder_embed_dim": 16,
        "encoder_projection_dropout": 0.1,
        "encoder_pos_conv_kernel": 4,
        "encoder_pos_conv_groups": 2,
        "encoder_num_layers": 2,
        "encoder_num_heads": 2,
        "encoder_attention_dropout": 0.1,
        "encoder_ff_interm_features": 32,
        "encoder_ff_interm_dropout": 0.0,
        "encoder_dropout": 0.1,
        "encoder_layer_norm_first": True,
        "encoder_layer_drop": 0.05,
        "aux_num_out": None,
    }
    bundle = pipelines.Wav2Vec2Bundle("tiny.pth", params, 16_000, _normalize_waveform=True, _model_type="Wav2Vec2")
    bundle.__doc__ = "Has a text of its own, as all of torchaudio's."
    path = tmp_path_factory.mktemp("bundle") / "tiny.pth"
    from torchaudio.models import wav2vec2_model

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        torch.save(wav2vec2_model(**params).state_dict(), path)
    pipelines.TINY = bundle
    yield "TINY", path
    del pipelines.TINY


class Launched:
    """A program that runs in a process of its own.

    Attributes:
        pid: its process id, and that of its process group.
        out: the file that holds what it printed.
    """

    def __init__(self, pid: int, out: Path) -> None:
        self.pid, self.out = pid, out
        self._status = Path(f"{out}.status")

    @property
    def running(self) -> bool:
        return not self._status.exists()

    @property
    def printed(self) -> str:
        return self.out.read_text()

    def kill(self) -> None:
        """SIGKILL to all its processes; returns when it is gone."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self.wait()

    def wait(self, seconds: float = 120) -> int:
        """Its exit status, negative where a signal ended it."""
        deadline = time.monotonic() + seconds
        while self.running:
            if time.monotonic() > deadline:
                os.killpg(self.pid, signal.SIGKILL)
                raise TimeoutError(f"still running after {seconds} s; printed:\n{self.printed}")
            time.sleep(0.005)
        return int(self._status.read_text())


@pytest.fixture(scope="session")
def launcher() -> Iterator[subprocess.Popen[str]]:
    """The process of ``tests/launcher.py``."""
    command = [sys.executable, str(CHECKOUT / "tests" / "launcher.py")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdin is not None
        assert process.stdout.readline() == "ready\n"
        yield process
        process.kill()


@pytest.fixture
def launch(
    launcher: subprocess.Popen[str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., Launched]]:
    """Starts a program in a folder: ``launch("train.py", "lr=1", cwd=folder)``, ``launch("-m", "audioclf", ...)``."""
    launched: list[Launched] = []

    def start(*argv: str | Path, cwd: Path, **env: str) -> Launched:
        out = tmp_path_factory.mktemp("launched") / "out"
        request = {"argv": [str(word) for word in argv], "cwd": str(cwd), "out": str(out), "env": env}
        assert launcher.stdout is not None and launcher.stdin is not None
        launcher.stdin.write(json.dumps(request) + "\n")
        launcher.stdin.flush()
        launched.append(Launched(int(launcher.stdout.readline()), out))
        return launched[-1]

    yield start
    for process in launched:
        if process.running:
            process.kill()


CHROMIUM = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--remote-debugging-pipe"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--hide-scrollbars"),
)


class Browser:
    """A headless Chromium, driven over a pipe by its own protocol (Chrome DevTools Protocol).

    Attributes:
        events: what the page did since it was opened, as ``(method, params)``.
    """

    def __init__(self, process: subprocess.Popen[bytes], reader: BinaryIO, writer: BinaryIO) -> None:
        self._process, self._reader, self._writer = process, reader, writer
        self._number, self._session = 0, ""
        self.events: list[tuple[str, dict[str, Any]]] = []
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.send(f"{domain}.enable")

    def send(self, method: str, **params: Any) -> dict[str, Any]:
        """Calls a method of the protocol and waits for its result."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        self._writer.write(
            json.dumps(message | ({"sessionId": self._session} if self._session else {})).encode() + b"\0"
        )
        self._writer.flush()
        while (answer := self._next()).get("id") != self._number:
            self.events.append((answer["method"], answer["params"]))
        assert "error" not in answer, answer
        return dict(answer["result"])

    def open(
        self, page: Path, width: int = 1366, height: int = 900, script: bool = True, scheme: str = "light"
    ) -> None:
        """Opens a page from the disk in a window of so many pixels; 640 or fewer is a phone."""
        media = [{"name": "prefers-color-scheme", "value": scheme}]
        self.send("Emulation.setEmulatedMedia", features=media)
        self.send("Emulation.setScriptExecutionDisabled", value=not script)
        self.send(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width <= 640
        )
        self.events.clear()
        self.send("Page.navigate", url=page.as_uri())
        while not any(method == "Page.loadEventFired" for method, _ in self.events):
            answer = self._next()
            self.events.append((answer["method"], answer["params"]))

    def run(self, script: str) -> Any:
        """The value of a JavaScript expression in the page."""
        answer = self.send("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def press(self, key: str, text: str = "") -> None:
        """Presses and releases a key: ``press("Tab")``, ``press("Enter", "\\r")``."""
        codes = {"Tab": 9, "Enter": 13, " ": 32}
        shared = {"key": key, "code": {" ": "Space"}.get(key, key), "windowsVirtualKeyCode": codes.get(key, 0)}
        self.send("Input.dispatchKeyEvent", type="keyDown", text=text, **shared)
        self.send("Input.dispatchKeyEvent", type="keyUp", **shared)

    def _next(self) -> dict[str, Any]:
        message = bytearray()
        while (byte := self._reader.read(1)) != b"\0":
            assert byte, "the browser is gone"
            message += byte
        return dict(json.loads(message))


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """A browser for the whole session; tests are skipped where there is none."""
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if program is None:
        pytest.skip("needs a browser: no chromium, chromium-browser or google-chrome on the PATH")
    folder = tmp_path_factory.mktemp("browser")
    there, writer = os.pipe()
    reader, back = os.pipe()
    words = [program, *CHROMIUM, f"--user-data-dir={folder}"]
    ends = f"import os, sys; os.dup2({there}, 3); os.dup2({back}, 4); os.execv(sys.argv[1], sys.argv[1:])"  # 3 and 4: as it expects
    command = [sys.executable, "-c", ends, *words]
    with subprocess.Popen(
        command, pass_fds=(there, back), stderr=subprocess.DEVNULL, start_new_session=True
    ) as process:
        os.close(there)
        os.close(back)
        with os.fdopen(reader, "rb") as answers, os.fdopen(writer, "wb") as calls:
            try:
                yield Browser(process, answers, calls)
            finally:
                os.killpg(process.pid, signal.SIGKILL)
