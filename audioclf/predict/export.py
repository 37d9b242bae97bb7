"""A trained model as ONNX, compared with PyTorch before the file gets its name.

The mel front-end goes inside as it is: ONNX has an STFT, and onnxruntime computes it in double precision as PyTorch does
(3e-6 dB apart).
"""

from __future__ import annotations

import io
import json
import logging
import math
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from torch import nn

from audioclf import __version__
from audioclf.errors import UserError, shown
from audioclf.files import cannot_write, replacing
from audioclf.predict.model import Model
from audioclf.predict.sounds import fitted

TOLERANCE = 1e-4
"""Of a logit against PyTorch's: absolute, and relative where it exceeds 1."""
PACKAGES = ("onnx", "onnxscript", "onnxruntime")


class Deployed(nn.Module):
    """What is exported: a front-end, or none, then normalisation and network."""

    def __init__(self, model: Model, inside: bool) -> None:
        super().__init__()
        self.front_end = model.front_end if inside else nn.Identity()
        self.standardise, self.model = model.module.standardise, model.module.model

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Waveforms ``[B, n]`` or features ``[B, *feature_shape]`` → logits ``[B, K]``."""
        logits: torch.Tensor = self.model(self.standardise(self.front_end(inputs)))
        return logits


class Unlike(Exception):
    """onnxruntime computes something else than PyTorch."""


def export(model: Model, out: Path) -> list[str]:
    """Writes a model as ONNX, with its front-end inside where that can be.

    Args:
        model: on the CPU.
        out: the file; it is there only once onnxruntime gave PyTorch's logits to :data:`TOLERANCE`.

    Returns:
        What was written, in lines for people.

    Raises:
        UserError: ONNX packages are missing, the model cannot be exported, or the file cannot be written.
    """
    for name in PACKAGES:
        if find_spec(name) is None:
            raise UserError(f"export: {name} is not installed", "pip install 'audioclf[export]'")
    lines: list[str] = []
    outside = model.front_end.outside
    if not outside:
        try:
            content, worst = _checked(model, inside=True)
            takes = f"waveforms [B, {_samples(model)}] at {model.front_end.sample_rate} Hz"
        except Exception as error:  # whatever the exporter says of code that it cannot follow
            outside = _first_line(error)
    if outside:
        name = model.module.config.features.name
        lines.append(
            f"the front-end {name} cannot go inside ({outside}): the model takes its features, "
            "as `embed --layer features` gives them (flattened)"
        )
        try:
            content, worst = _checked(model, inside=False)
        except Exception as error:
            hint = "python -m audioclf predict uses the model as it is"
            raise UserError(f"{out}: cannot be exported: {_first_line(error)}", hint) from error
        takes = f"features [B, {', '.join(map(str, model.front_end.output_shape))}]"
    try:
        with replacing(out) as file:
            file.write(content)
    except OSError as error:
        raise cannot_write(str(out), error) from error
    return [
        *lines,
        f"written to {out}: {takes} to logits [B, {len(model.classes)}], {len(content) / 1e6:.1f} MB",
        f"onnxruntime and PyTorch differ by {worst:.1e} at most ({TOLERANCE:g} allowed)",
    ]


def metadata(model: Model, inside: bool) -> dict[str, str]:
    """What another program needs to know, as texts."""
    return {
        "audioclf": __version__,
        "input": "waveforms" if inside else "features",
        "sample_rate": str(model.front_end.sample_rate),
        "samples": str(_samples(model)),
        "window_s": f"{model.window_s:.6f}",
        "classes": json.dumps(model.classes),
        "activation": model.decision.activation,
        "thresholds": json.dumps(model.decision.thresholds),
        "features": json.dumps(model.module.config.features.model_dump()),
        "front_end_version": model.front_end.version,
        "torch": torch.__version__,
    }


def _checked(model: Model, inside: bool) -> tuple[bytes, float]:
    """The file's content, and how far onnxruntime is from PyTorch at most."""
    network = Deployed(model, inside).eval()
    content = _exported(network, next(_inputs(model, inside, 2)), metadata(model, inside))
    return content, _worst(network, content, model, inside)


def _exported(network: Deployed, example: torch.Tensor, facts: Mapping[str, str]) -> bytes:
    import onnx

    kind = facts["input"]
    with _quiet(), torch.no_grad():
        program = torch.onnx.export(
            network,
            (example,),
            input_names=[kind],
            output_names=["logits"],
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    proto = program.model_proto
    onnx.helper.set_model_props(proto, dict(facts))
    content: bytes = proto.SerializeToString()
    return content


def _worst(network: Deployed, content: bytes, model: Model, inside: bool) -> float:
    """The largest difference of a logit, of batches of several sizes; relative where the logit exceeds 1.

    Raises:
        Unlike: it is too large.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    name, worst = session.get_inputs()[0].name, 0.0
    for size in (1, 3):
        for inputs in _inputs(model, inside, size):
            with torch.no_grad():
                expected = network(inputs).numpy()
            found = session.run(None, {name: inputs.numpy()})[0]
            if found.shape != expected.shape:
                raise Unlike(f"onnxruntime gives {found.shape}, PyTorch {expected.shape}")
            difference = float((np.abs(found - expected) / np.maximum(np.abs(expected), 1)).max())
            worst = max(worst, math.inf if math.isnan(difference) else difference)
    if worst > TOLERANCE:
        raise Unlike(f"onnxruntime and PyTorch differ by {worst:.1e}; {TOLERANCE:g} is allowed")
    return worst


def _inputs(model: Model, inside: bool, size: int) -> Iterator[torch.Tensor]:
    """Batches to compare on: loud and soft noise, a tone that ends in all but silence; or features about as they are."""
    random = torch.Generator().manual_seed(size)
    if not inside:
        noise = torch.randn((size, *model.front_end.output_shape), generator=random)
        standardise = (
            model.module.standardise
        )  # what features may be: in dimensions that never vary, other noise is absurd
        yield from (noise * spread * standardise.std + standardise.mean for spread in (1, 3, 0))
        return
    noise = torch.randn((size, _samples(model)), generator=random)
    tone = 0.5 * torch.sin(torch.arange(noise.shape[1]) * (2 * math.pi * 440 / model.front_end.sample_rate))
    tone[len(tone) // 2 :] = 0
    # Not digital silence: layer norms of encoders divide 0 by 0 there, where PyTorch itself is 3e-4 off its own float64.
    yield from ((0.3 * noise).clamp(-1, 1), 1e-3 * noise, tone + 1e-4 * noise)


def _samples(model: Model) -> int:
    return fitted(model.front_end, torch.zeros(1)).shape[-1]


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporter's notes on packages that it would also know, and on its own progress."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _first_line(error: BaseException) -> str:
    """What the exporter stumbled over, without its advice around it."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return shown(lines[0])
