"""A checkpoint as a module and its front-end; nothing in the file is run, and what is not ours is refused by name."""

from __future__ import annotations

import pickle
import re
import zipfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import torch
from pydantic import BaseModel

from audioclf.config import Config, FeaturesConfig, parse_config
from audioclf.errors import UserError, shown
from audioclf.features.build import build_front_end
from audioclf.features.frontend import FrontEnd
from audioclf.files import exists, is_file
from audioclf.predict.inputs import KEYS, key_and_value
from audioclf.predict.sounds import fitted
from audioclf.runs.folder import RunFolder
from audioclf.training.module import LAYOUT, ClassifierModule
from audioclf.weights import contents, digest, file_name, is_at_hand, is_url, places, weights_folder

OLDER: dict[str, Any] = {"front_end_version": "", "weights": {}}  # of checkpoints that say nothing of it
SHA256 = "sha256:"
SHA256_HEX = re.compile(rf"{SHA256}[0-9a-f]{{64}}")
SectionT = TypeVar("SectionT", bound=BaseModel)
TRAIN_AGAIN = "train again: the run's command with retrain=true"


def find_checkpoint(path: Path) -> Path:
    """The checkpoint that a person means: the file itself, or the tested weights of a run's folder.

    Raises:
        UserError: there is none.
    """
    if is_file(path):
        return path
    if not exists(path):
        raise UserError(f"{path}: no such file or folder; expected a run's folder or its checkpoints/model.ckpt")
    checkpoint = RunFolder(path).model_checkpoint
    if checkpoint.is_file():
        return checkpoint
    runs = sorted(path.glob("*/checkpoints/model.ckpt"))
    hint = f"it holds runs; name one of them, e.g. {runs[0].parents[1]}" if runs else "finish the run, or name another"
    raise UserError(f"{path}: no checkpoints/model.ckpt in it; expected a finished run's folder", hint)


def open_checkpoint(path: Path, overrides: Sequence[str] = ()) -> tuple[ClassifierModule, FrontEnd]:
    """The model of a checkpoint, ready to predict, and the front-end whose features it takes; both on the CPU.

    Args:
        path: a run's folder, or a checkpoint of it.
        overrides: where weights lie now that the front-end or the model reads, e.g. ``features.weights=PATH``.

    Raises:
        UserError: no checkpoint, one that is damaged, foreign, of another layout or of another front-end's features,
            or weights of the front-end that are gone.
    """
    path = find_checkpoint(path)
    checkpoint = _read(path)
    parameters = _parameters(path, checkpoint)
    config = _moved(
        _found_again(path, _parsed(path, checkpoint, parameters["config"]), parameters["weights"]), overrides
    )
    _check_weights(path, config.features, parameters["weights"], overrides)
    front_end = build_front_end(config.features)
    if list(front_end.output_shape) != parameters["feature_shape"]:
        raise _damaged(
            path, f"features of shape {shown(parameters['feature_shape'])}, {front_end.output_shape} expected"
        )
    trained_on = parameters["front_end_version"]
    if trained_on and trained_on != front_end.version:
        raise UserError(
            f"{path}: trained on features of {config.features.name} version {shown(trained_on)}; "
            f"this audioclf makes version {front_end.version}",
            f"the weights that it was trained with, or audioclf {_writer(checkpoint)}; else {TRAIN_AGAIN}",
        )
    encoder = parameters.get("encoder")
    if config.model.name == "finetune" and not isinstance(encoder, dict):
        raise _damaged(path, "the architecture of its encoder is gone")
    known = {"front_end_version": trained_on, "weights": parameters["weights"]}
    try:
        with torch.inference_mode():  # what weights it has, the front-end reads now, and not at the first clip
            front_end.of_clips(fitted(front_end, torch.zeros(1))[None], [""])
        module = ClassifierModule(
            config.model_dump(), parameters["classes"], parameters["feature_shape"], None, encoder=encoder, **known
        )
        module.on_load_checkpoint(checkpoint)
        module.load_state_dict(checkpoint["state_dict"])
    except UserError:
        raise
    except Exception as error:  # weights that are missing, too many, or of another shape; an encoder that is none
        raise _damaged(path, " ".join(str(error).split())) from None
    return module.eval(), front_end.eval()


def _read(path: Path) -> dict[str, Any]:
    """The checkpoint's content, of which no code is run, and whose weights stay on the disk until they are copied."""
    try:
        with path.open("rb"):
            pass
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); expected a checkpoint") from None
    try:
        with zipfile.ZipFile(path) as parts:
            torn = parts.testzip()  # torch does not look at the checksums that it writes
    except (zipfile.BadZipFile, OSError, EOFError, RuntimeError):
        torn = None  # torch says below what it is
    if torn is not None:
        raise _damaged(path, f"{torn} is not what was written")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except pickle.UnpicklingError as error:
        if "nsupported" in str(error) or "global" in str(error).lower():
            message = f"{path}: holds more than weights and settings, which could run code; it was not opened"
            raise UserError(message, "use a checkpoint that audioclf wrote") from None
        raise _foreign(path) from None
    except Exception:  # whatever a parser says of bytes that are no checkpoint
        raise _foreign(path) from None
    if not isinstance(content, dict):
        raise _foreign(path)
    return content


def _parameters(path: Path, checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    """What the module is built from, its types checked."""
    parameters, state = checkpoint.get("hyper_parameters"), checkpoint.get("state_dict")
    if not isinstance(parameters, dict) or not isinstance(state, dict):
        raise _foreign(path)
    ours = {"config", "classes", "feature_shape"} <= parameters.keys()
    written = checkpoint.get("audioclf")
    layout = written.get("layout") if isinstance(written, dict) else None
    if not ours and layout is None:
        raise _foreign(path)
    if layout != LAYOUT:
        found = "an audioclf that did not number its layouts" if layout is None else f"layout {shown(layout)}"
        newer = isinstance(layout, int) and layout > LAYOUT
        raise UserError(
            f"{path}: a checkpoint of {found}; this audioclf reads layout {LAYOUT}",
            f"update audioclf: {_writer(checkpoint)} wrote it" if newer else TRAIN_AGAIN,
        )
    parameters = OLDER | parameters
    classes, shape = parameters.get("classes"), parameters.get("feature_shape")
    if not (isinstance(classes, list) and classes and all(isinstance(name, str) for name in classes)):
        raise _damaged(path, "no label map")
    if len(set(classes)) < len(classes):
        raise _damaged(path, "a class stands twice in its label map")
    if not (isinstance(shape, list) and all(isinstance(size, int) for size in shape)):
        raise _damaged(path, "no shape of features")
    kinds = {"config": dict, "front_end_version": str, "weights": dict}
    if not all(isinstance(parameters.get(name), kind) for name, kind in kinds.items()):
        raise _damaged(path, "no configuration")
    for content in parameters["weights"].values():
        if not isinstance(content, str) or (content.startswith(SHA256) and not SHA256_HEX.fullmatch(content)):
            raise _damaged(path, f"weights named {content}")
    return parameters


def _parsed(path: Path, checkpoint: Mapping[str, Any], config: dict[str, Any]) -> Config:
    """The configuration, as this audioclf reads it."""
    try:
        return parse_config(config)
    except UserError as error:
        first = error.message.splitlines()[0]
        raise UserError(
            f"{path}: its configuration is not one of this audioclf: {first}",
            f"audioclf {_writer(checkpoint)} wrote it: install that; else {TRAIN_AGAIN}",
        ) from None


def _moved(config: Config, overrides: Sequence[str]) -> Config:
    """The configuration with other places of the front-end's weights."""
    known = [f"features.{key}" for key in places(config.features)]
    for word in overrides:
        key, value = key_and_value(word)
        if key not in known:
            raise UserError(
                f"{shown(word)}: no such file, and not to be changed in a trained model; "
                f"expected one of {', '.join([*known, *KEYS])}",
                "what it was trained with stands in the checkpoint",
            )
        config = _placed(config, key, value)
    return config


def _placed(section: SectionT, key: str, value: str) -> SectionT:
    """A section with another value at a dotted key."""
    name, _, below = key.partition(".")
    return section.model_copy(update={name: _placed(getattr(section, name), below, value) if below else value})


def _found_again(path: Path, config: Config, trained_with: Mapping[str, str]) -> Config:
    """The configuration with weights that are gone from where they lay: beside the checkpoint or in the weights folder."""
    for key, place in places(config.features).items():
        content = trained_with.get(key, "")
        if place is None or not content.startswith(SHA256):
            continue
        sha256 = content.removeprefix(SHA256)
        if is_at_hand(place, sha256) or exists(Path(place)):
            continue
        candidates = sorted(weights_folder().glob(f"{sha256[:16]}-*"))
        name = file_name(place)
        if name not in ("", ".."):
            candidates.insert(0, path.parent / name)
        for file in filter(exists, candidates):
            with suppress(UserError):  # not to be read
                if digest(file) == sha256:
                    config = _placed(config, f"features.{key}", str(file))
                    break
    return config


def _check_weights(
    path: Path, features: FeaturesConfig, trained_with: Mapping[str, str], overrides: Sequence[str]
) -> None:
    """Refuses other weights than those of training, and to ask an address that only the checkpoint names.

    A name on a hub and a copy of it cannot be compared.
    """
    address, sha256 = getattr(features, "weights", None), getattr(features, "sha256", None)
    usual = getattr(type(features).model_fields.get("weights"), "default", None)
    said = any(word.startswith("features.weights=") for word in overrides)
    if address and is_url(address) and address != usual and not said and not is_at_hand(address, sha256):
        raise UserError(
            f"{path}: weights of its front-end are not here, and an address that only a checkpoint names is not asked",
            f"if you trust it: features.weights={shown(address)}",
        )
    for key, content in contents(features).items():
        before = trained_with.get(key, content)
        if before != content and all(word.startswith(SHA256) for word in (before, content)):
            raise UserError(
                f"{path}: trained with other weights than features.{key}={places(features)[key]} ({content})",
                f"name those with {shown(before)}: features.{key}=PATH",
            )


def _writer(checkpoint: Mapping[str, Any]) -> str:
    """The version of audioclf that wrote a checkpoint."""
    written = checkpoint.get("audioclf")
    return shown(written.get("version", "?")) if isinstance(written, dict) else "?"


def _foreign(path: Path) -> UserError:
    return UserError(
        f"{path}: not a checkpoint of audioclf, or damaged; expected a run's folder or its checkpoints/model.ckpt",
        "python train.py writes them",
    )


def _damaged(path: Path, why: str) -> UserError:
    return UserError(f"{path}: does not fit together, so it was changed or damaged: {shown(why)}", TRAIN_AGAIN)
