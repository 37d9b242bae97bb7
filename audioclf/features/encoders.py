"""Pretrained encoders: from waveforms to the hidden states of each layer, as features or to be fine-tuned.

Nothing in a checkpoint is run: weights are safetensors, or are read by ``torch.load(weights_only=True)``.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import http.client
import json
import math
import os
import pickle
import re
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

import torch
from torch import nn
from torch.nn.functional import layer_norm
from torchaudio.models import wav2vec2_model, wavlm_model

from audioclf.config import TorchaudioBundleConfig, TransformersConfig
from audioclf.console import stderr
from audioclf.errors import UserError, nearest, shown
from audioclf.files import is_dir, is_file
from audioclf.weights import TIMEOUT_S, needs

BUNDLES = "https://download.pytorch.org/torchaudio/models"
NAME = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?")  # of a model on the hub
OTHERS = "take an encoder: wav2vec 2.0, HuBERT, WavLM, AST, Whisper, CLAP or the like"
SPARE = ("pooler", "masked_spec_embed")  # parts that no hidden state passes through: checkpoints may lack them
KEPT = 2  # models in memory: enough for two that are used in turn

C = TypeVar("C")
M = TypeVar("M")

_loading = threading.RLock()
"""Held while a model is loaded: transformers' verbosity is one for all threads, and nobody downloads what another does."""


class Kept(Generic[C, M]):
    """A function that loads a model, of which the last few are kept: each is loaded once, whatever the threads.

    Args:
        load: from a configuration to its model.
    """

    def __init__(self, load: Callable[[C], M]) -> None:
        self._load = functools.lru_cache(maxsize=KEPT)(load)
        self.cache_clear, self.cache_info = self._load.cache_clear, self._load.cache_info

    def __call__(self, config: C) -> M:
        """The model of a configuration."""
        with _loading:  # lru_cache has no lock while it calls: threads that miss together would all load
            return self._load(config)


class Encoder(nn.Module):
    """A pretrained encoder, in evaluation mode.

    Args:
        architecture: what there is to know of it but its version.

    Attributes:
        version: raised whenever the same waveform would give other states.
        origin: where it comes from, for errors, e.g. ``"features.bundle=WAV2VEC2_BASE"``.
        sample_rate: of the waveforms it takes, in Hz.
        blocks: its layers, from the input to the output, of which each gives a hidden state.
        longest: samples of a waveform that it reads, at most; None: any number.
        architecture: what :func:`bare_encoder` makes it again from, but for its weights: plain containers.
        model: the library's own network.
    """

    version: ClassVar[str] = "1"
    origin: str = "the checkpoint's encoder"
    model: Any
    architecture: dict[str, Any]
    sample_rate: int
    blocks: nn.ModuleList
    longest: int | None = None

    def __init__(self, architecture: dict[str, Any]) -> None:
        super().__init__()
        self.architecture = architecture | {"version": self.version}

    def forward(self, waveforms: torch.Tensor) -> list[torch.Tensor]:
        """Waveforms ``[B, n]`` → the output of each layer ``[B, time, dim]``, the last one as the model gives it."""
        raise NotImplementedError


def build_encoder(config: TorchaudioBundleConfig | TransformersConfig, section: str = "features") -> Encoder:
    """The encoder that a section of the configuration names, with its weights.

    Args:
        config: the section.
        section: its name, for errors.

    Raises:
        UserError: no such encoder, weights that are not there or do not fit, or a missing package.
    """
    if isinstance(config, TorchaudioBundleConfig):
        return BundleEncoder.load(config.bundle, config.weights, section)
    return TransformersEncoder.load(config.model, config.revision, section)


def encoder_class(config: TorchaudioBundleConfig | TransformersConfig) -> type[Encoder]:
    """What :func:`build_encoder` makes one of."""
    return BundleEncoder if isinstance(config, TorchaudioBundleConfig) else TransformersEncoder


def bare_encoder(architecture: dict[str, Any]) -> Encoder:
    """An encoder of an :attr:`Encoder.architecture`, with weights drawn at random: a checkpoint has its own.

    Raises:
        UserError: a package is missing, or has no such architecture, or its states were others.
    """
    kind = BundleEncoder if "bundle" in architecture else TransformersEncoder
    version = architecture.get("version", "1")
    if version != kind.version:
        raise UserError(
            f"the checkpoint's encoder: trained on states of version {shown(version)}; this audioclf makes version "
            f"{kind.version}",
            "train again, or predict with the audioclf that trained it",
        )
    return kind.bare(architecture)


def states_of_silence(encoder: Encoder, samples: int) -> list[torch.Tensor]:
    """What an encoder gives, and whether it does: of the many models there are, not all are encoders.

    Args:
        encoder: which.
        samples: of silence.

    Returns:
        The output of each layer ``[1, time, dim]``.

    Raises:
        UserError: it gives no hidden states, or none of so few samples.
    """
    try:
        return _states(encoder, samples)
    except UserError:
        raise
    except Exception as error:  # each library raises its own
        if _is_out_of_memory(error):
            raise UserError(
                f"{encoder.origin}: {samples / encoder.sample_rate:g} s do not fit into memory: {_first_line(error)}",
                "free memory, or take fewer seconds or a smaller encoder",
            ) from error
        second = min(encoder.sample_rate, encoder.longest or encoder.sample_rate)
        if samples < second and _is_encoder(encoder, second):
            raise UserError(
                f"features.seconds={samples / encoder.sample_rate:g}: too short for {encoder.origin}: {shown(error)}",
                "features.seconds=5.0",
            ) from error
        raise _no_encoder(encoder.origin, error) from error


def _states(encoder: Encoder, samples: int) -> list[torch.Tensor]:
    with torch.no_grad():
        states: list[torch.Tensor] = encoder(torch.zeros(1, samples))
    return states


def _is_encoder(encoder: Encoder, samples: int) -> bool:
    try:
        return bool(_states(encoder, samples))
    except Exception:
        return False


def _is_out_of_memory(error: Exception) -> bool:
    """Whether a model did not fit; PyTorch says so in words, and in others on a CPU."""
    return isinstance(error, MemoryError) or any(word in str(error) for word in ("out of memory", "allocate memory"))


def _no_encoder(origin: str, error: Exception) -> UserError:
    return UserError(f"{origin}: no encoder that gives hidden states: {_first_line(error)}", OTHERS)


def _first_line(error: Exception) -> str:
    """What an error says, or is called where it says nothing."""
    return shown(str(error).strip().partition("\n")[0] or type(error).__name__)


class BundleEncoder(Encoder):
    """A ``Wav2Vec2Bundle`` of torchaudio: wav2vec 2.0, HuBERT or WavLM.

    Args:
        model: of torchaudio.
        architecture: what the bundle says of it.
    """

    def __init__(self, model: nn.Module, architecture: dict[str, Any]) -> None:
        super().__init__(architecture)
        self.sample_rate = int(architecture["sample_rate"])
        # torchaudio would normalise over the whole batch, so that a clip's features depended on its neighbours.
        self.normalise = bool(architecture["normalise"])
        self.model = getattr(model, "model", model)
        self.blocks = self.model.encoder.transformer.layers
        self.eval()

    @classmethod
    def bare(cls, architecture: dict[str, Any]) -> BundleEncoder:
        """Of what the bundle said, without its weights."""
        make = wavlm_model if architecture["kind"] == "WavLM" else wav2vec2_model
        return cls(make(**architecture["parameters"]), architecture)

    @classmethod
    def load(cls, bundle: str, weights: str | None = None, section: str = "features") -> BundleEncoder:
        """With the bundle's weights.

        Args:
            bundle: its name in ``torchaudio.pipelines``.
            weights: a file of weights; None: torch hub's cache, or the bundle's own download.
            section: of the configuration, for errors.
        """
        found = find_bundle(bundle, section)
        place = _in_hub_folder(found)
        if weights is not None:
            found = _from_file(found, Path(weights), section)
        else:
            _download(found, bundle, section)
        try:
            model = found.get_model(dl_kwargs={"weights_only": True})
        except Exception as error:  # unpickling and fitting raise what they please
            raise UserError(
                f"{section}.bundle={bundle}: no weights of it in {weights or place}: {_first_line(error)}; expected a state dict",
                _by_hand(found, section) if weights else f"remove {place}: it is downloaded anew",
            ) from error
        architecture = {
            "bundle": bundle,
            "kind": found._model_type,
            "parameters": json.loads(json.dumps(found._params)),
            "sample_rate": int(found.sample_rate),
            "normalise": bool(found._normalize_waveform),
        }
        encoder = cls(model, architecture)
        encoder.origin = f"{section}.bundle={bundle}"
        return encoder

    def forward(self, waveforms: torch.Tensor) -> list[torch.Tensor]:
        """Waveforms ``[B, n]`` → the output of each layer ``[B, time, dim]``."""
        if self.normalise:
            waveforms = layer_norm(waveforms, waveforms.shape[-1:])
        states: list[torch.Tensor] = self.model.extract_features(waveforms)[0]
        return states


def find_bundle(name: str, section: str = "features") -> Any:
    """The ``Wav2Vec2Bundle`` of a name.

    Raises:
        UserError: there is none; with the nearest that there is.
    """
    from torchaudio import pipelines

    known = [key for key, value in vars(pipelines).items() if isinstance(value, pipelines.Wav2Vec2Bundle)]
    if name not in known:
        guess = nearest(name, known)
        raise UserError(
            f"{section}.bundle={shown(name)}: no such bundle; expected one of {', '.join(sorted(known))}",
            f"did you mean {section}.bundle={guess}?" if guess else None,
        )
    return getattr(pipelines, name)


def _from_file(bundle: Any, path: Path, section: str) -> Any:
    """The same bundle, whose ``get_model`` reads a file instead of torch hub's."""
    if not is_file(path):
        raise UserError(f"{section}.weights={path}: no such file; expected {bundle._path}", _by_hand(bundle, section))

    class Local(type(bundle)):  # type: ignore[misc]
        def _get_state_dict(self, dl_kwargs: dict[str, Any]) -> Any:
            return torch.load(path, map_location="cpu", weights_only=dl_kwargs["weights_only"])

    return Local(**{field.name: getattr(bundle, field.name) for field in dataclasses.fields(bundle)})


def _download(bundle: Any, name: str, section: str) -> None:
    """Brings a bundle's weights into torch hub's cache, if they are not there: it would say so on stdout, where predictions go."""
    with _loading:
        if is_file(place := _in_hub_folder(bundle)):
            return
        downloading(name, _address(bundle))
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(_address(bundle), str(place), progress=False)
        except (OSError, http.client.HTTPException) as error:
            raise UserError(
                f"{section}.bundle={name}: its weights cannot be downloaded: {shown(error)}", _by_hand(bundle, section)
            ) from error


def _hub_folder() -> Path:
    return Path(torch.hub.get_dir()) / "checkpoints"


def _address(bundle: Any) -> str:
    return bundle._path if bundle._path.startswith("https") else f"{BUNDLES}/{bundle._path}"


def _in_hub_folder(bundle: Any) -> Path:
    """Where torch hub's cache has its weights, or will."""
    return _hub_folder() / _address(bundle).rpartition("/")[2]


def _by_hand(bundle: Any, section: str) -> str:
    place = _in_hub_folder(bundle)
    return f"download {_address(bundle)} and save it as {place}, or {section}.weights=FILE names it elsewhere"


class TransformersEncoder(Encoder):
    """Any audio encoder of transformers, or the audio tower or encoder of a larger model.

    Args:
        whole: a model of transformers.
        extractor: its feature extractor.
    """

    version = "2"  # 1: AST's states were of the silence behind the clip, too

    def __init__(self, whole: Any, extractor: Any) -> None:
        super().__init__(
            {
                "model": json.loads(whole.config.to_json_string(use_diff=False)),
                "extractor": json.loads(extractor.to_json_string()),
            }
        )
        self.extractor = extractor
        self.sample_rate = int(self.extractor.sampling_rate)
        self.model = with_states(whole)
        self.blocks = max(
            (part for part in self.model.modules() if isinstance(part, nn.ModuleList)),
            key=lambda part: sum(weight.numel() for weight in part.parameters()),
        )
        self.longest = _longest(self.extractor)
        self.eval()

    @classmethod
    def bare(cls, architecture: dict[str, Any]) -> TransformersEncoder:
        """Of the configurations of a model and its feature extractor, without weights."""
        transformers = needs("transformers", "pretrained", "the checkpoint's encoder")
        model, extractor = dict(architecture["model"]), dict(architecture["extractor"])
        kind = getattr(transformers, str(extractor.get("feature_extractor_type")), None)
        try:
            config = transformers.AutoConfig.for_model(**model)
            whole = transformers.AutoModel.from_config(config, trust_remote_code=False)
            return cls(whole, kind.from_dict(extractor))  # type: ignore[union-attr]
        except (ValueError, TypeError, AttributeError) as error:
            raise UserError(
                f"the checkpoint's encoder {model.get('model_type')}: this version of transformers cannot make it: {shown(error)}",
                "python -m pip install --upgrade transformers",
            ) from error

    @classmethod
    def load(cls, model: str, revision: str | None = None, section: str = "features") -> TransformersEncoder:
        """With its weights.

        Args:
            model: a folder, or a name on the hub.
            revision: commit, tag or branch on the hub.
            section: of the configuration, for errors.
        """
        transformers = needs("transformers", "pretrained", f"{section}.model={shown(model)}")
        extractor = pretrained(transformers.AutoFeatureExtractor, model, revision, section)
        whole = pretrained_model(transformers.AutoModel, model, revision, section)
        origin = f"{section}.model={shown(model)}"
        if not hasattr(extractor, "sampling_rate"):
            raise UserError(f"{origin}: no audio model; expected one that takes waveforms", OTHERS)
        try:
            encoder = cls(whole, extractor)
        except Exception as error:  # codecs and synthesisers lack this or that
            raise _no_encoder(origin, error) from error
        encoder.origin = origin
        return encoder

    def forward(self, waveforms: torch.Tensor) -> list[torch.Tensor]:
        """Waveforms ``[B, n]`` → the output of each layer ``[B, time, dim]``."""
        found = self.model(**self._inputs(waveforms), output_hidden_states=True, return_dict=True)
        states = [*found.hidden_states[1:-1], found.last_hidden_state]
        return [self._of_clip(state, waveforms.shape[1]) for state in states]

    def _inputs(self, waveforms: torch.Tensor) -> dict[str, torch.Tensor]:
        """What the model takes, of waveforms ``[B, n]``."""
        kind, name = type(self.extractor).__name__, self.model.main_input_name
        if kind == "Wav2Vec2FeatureExtractor":  # in PyTorch: waveforms stay on the GPU, and ONNX can follow
            normalise = self.extractor.do_normalize
            return {name: layer_norm(waveforms, waveforms.shape[-1:], eps=1e-7) if normalise else waveforms}
        if torch.compiler.is_exporting():
            raise UserError(f"{kind} computes its spectrogram in NumPy, where ONNX cannot follow")
        given = self.extractor(
            list(waveforms.detach().cpu().numpy()), sampling_rate=self.sample_rate, return_tensors="pt"
        )
        inputs = {name: given[name].to(waveforms.device)}
        if "is_longer" in given:  # CLAP's extractor says so of a clip drawn at random where none is
            inputs["is_longer"] = torch.zeros(len(waveforms), 1, dtype=torch.bool, device=waveforms.device)
        return inputs

    def _of_clip(self, state: torch.Tensor, samples: int) -> torch.Tensor:
        """A layer's output as ``[B, time, dim]``, without what is of the silence that an extractor puts behind a clip."""
        settings = self.model.config
        if hasattr(self.extractor, "n_samples"):  # Whisper
            return state[:, : math.ceil(samples * state.shape[1] / self.extractor.n_samples)]
        if hasattr(settings, "time_stride"):  # AST: two tokens that are no moment, then patches, band by band
            moments = (settings.max_length - settings.patch_size) // settings.time_stride + 1
            frames = 1 + (samples - self.sample_rate * 25 // 1000) // (self.sample_rate // 100)
            state = state[:, 2:].unflatten(1, (-1, moments)).mean(1)
            return state[:, : math.ceil(frames / settings.time_stride)]
        return state.flatten(2).transpose(1, 2) if state.ndim == 4 else state  # CLAP: rows of patches


def _longest(extractor: Any) -> int | None:
    """Samples that an extractor reads, at most; None: any number."""
    for name in ("n_samples", "nb_max_samples"):  # Whisper, CLAP
        if hasattr(extractor, name):
            return int(getattr(extractor, name))
    if hasattr(extractor, "num_mel_bins") and hasattr(extractor, "max_length"):  # AST: frames of 10 ms
        return int(extractor.max_length * extractor.sampling_rate // 100)
    return None


def pretrained(loader: Any, model: str, revision: str | None, section: str, **options: Any) -> Any:
    """What a loader of transformers makes of a folder, of the hub's cache, or of the hub, in this order.

    Raises:
        UserError: it is in none of them; with the way to get it by hand.
    """
    from huggingface_hub import constants

    options |= {"revision": revision} if revision else {}
    with _quiet():
        try:
            try:
                return loader.from_pretrained(model, trust_remote_code=False, local_files_only=True, **options)
            except OSError:
                if _is_local(model) or constants.HF_HUB_OFFLINE:
                    raise
                downloading(model, "the hub")
                _knock(model, revision)
                return loader.from_pretrained(model, trust_remote_code=False, **options)
        except pickle.UnpicklingError as error:
            raise UserError(
                f"{section}.model={shown(model)}: its pickled weights hold something else than tensors, which could run "
                "code: refused",
                f"a model or revision with model.safetensors: {section}.model=NAME_OR_FOLDER",
            ) from error
        except Exception as error:  # transformers raises what it pleases at what it cannot read
            raise _cannot_be_loaded(model, revision, section, _first_line(error)) from error


def file_beside(name: str, model: str, revision: str | None, section: str) -> Path | None:
    """A small file beside a model's weights, in a folder, the hub's cache, or on the hub, in this order.

    Args:
        name: of the file.
        model: a folder, or a name on the hub.
        revision: commit, tag or branch on the hub.
        section: of the configuration, for errors.

    Returns:
        Where it lies; None where the model has none.

    Raises:
        UserError: whether it has one cannot be found out; states would depend on whether the hub answers.
    """
    from huggingface_hub import constants, hf_hub_download, try_to_load_from_cache
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    if is_dir(Path(model)):
        path = Path(model) / name
        return path if is_file(path) else None
    try:
        found = try_to_load_from_cache(model, name, revision=revision)
        if found is None:  # neither there, nor known to be absent
            if not constants.HF_HUB_OFFLINE:
                _knock(model, revision)
            found = hf_hub_download(model, name, revision=revision, local_files_only=constants.HF_HUB_OFFLINE)
    except Exception as error:  # as many kinds as there are ways to fail
        if isinstance(error, EntryNotFoundError) and not isinstance(error, LocalEntryNotFoundError):
            return None  # says the hub; the other is the cache's, which says nothing of the hub
        raise _cannot_be_loaded(model, revision, section, f"{name}: {_first_line(error)}") from error
    return Path(found) if isinstance(found, str) else None


def _is_local(model: str) -> bool:
    """Whether a model is a folder, or named as only one could be."""
    return is_dir(Path(model)) or not NAME.fullmatch(model)


def _cannot_be_loaded(model: str, revision: str | None, section: str, why: str) -> UserError:
    if _is_local(model):
        hint = "expected config.json, model.safetensors or pytorch_model.bin, and the preprocessor's or tokenizer's files in that folder"
    else:
        where = f"https://huggingface.co/{model}/tree/{revision or 'main'}"
        hint = f"download the files of {where} by hand into a folder: {section}.model=FOLDER"
    return UserError(f"{section}.model={shown(model)}: cannot be loaded: {why}", hint)


@functools.lru_cache
def downloading(what: str, whence: str) -> None:
    """Says once, on standard error, what is about to be downloaded, as it may take minutes.

    Args:
        what: a model's name.
        whence: where from, in words.
    """
    stderr.print(f"downloading {what} from {whence} ...", markup=False)


def _knock(model: str, revision: str | None) -> None:
    """Asks the hub for a model's first file once; transformers would ask for each file six times, for a minute.

    Raises:
        OSError: no answer.
    """
    from huggingface_hub import hf_hub_url

    request = urllib.request.Request(hf_hub_url(model, "config.json", revision=revision), method="HEAD")
    with contextlib.suppress(urllib.error.HTTPError):  # an answer; what it means, transformers says best
        urllib.request.urlopen(request, timeout=TIMEOUT_S).close()


def pretrained_model(loader: Any, model: str, revision: str | None, section: str) -> Any:
    """The network of a folder or a name on the hub, with all weights that states pass through.

    They are safetensors, or where there are none, ``pytorch_model.bin``, of which nothing but tensors is read.

    Raises:
        UserError: it cannot be loaded, or weights are missing, which transformers would draw at random.
    """
    os.environ.setdefault("DISABLE_SAFETENSORS_CONVERSION", "true")  # else it asks a service to convert the hub's files
    options = {"weights_only": True, "output_loading_info": True, "dtype": torch.float32}
    network, found = pretrained(loader, model, revision, section, **options)
    every, used = (
        {name: id(weight) for name, weight in part.state_dict(keep_vars=True).items()}
        for part in (network, with_states(network))
    )
    missing = [
        name
        for name in sorted(found["missing_keys"])
        if every.get(name) in used.values() and not any(spare in name for spare in SPARE)
    ]
    if missing:
        raise UserError(
            f"{section}.model={shown(model)}: {len(missing)} weights are missing, e.g. {missing[0]}; expected a whole model",
            f"download it anew, or take another that is whole: {section}.model=NAME_OR_FOLDER",
        )
    return network.eval()


def with_states(network: Any) -> Any:
    """The part of a network that gives hidden states: CLAP's audio tower, the encoder where there is a decoder, or all."""
    if hasattr(network, "audio_model"):
        return network.audio_model
    return network.get_encoder() if hasattr(network, "decoder") else network


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without transformers' own progress bars and advice; for one thread at a time, as they are of the process."""
    from transformers.utils import logging

    with _loading:
        level = logging.get_verbosity()
        logging.set_verbosity_error()
        logging.disable_progress_bar()
        try:
            yield
        finally:
            logging.set_verbosity(level)
            logging.enable_progress_bar()
