"""Embeddings by pretrained encoders: one of their layers, or each, over time or pooled."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable

import torch

from audioclf.config import Pool, TorchaudioBundleConfig, TransformersConfig
from audioclf.errors import UserError
from audioclf.features.encoders import Encoder, Kept, build_encoder, encoder_class, states_of_silence
from audioclf.features.frontend import FrontEnd, centred, front_end_settings, settings_hash
from audioclf.files import write_text
from audioclf.weights import weights_folder


class HiddenStates(FrontEnd):
    """Hidden states of an encoder: ``[dim]``, ``[dim, time]``, or ``[layer, ...]`` of each.

    The encoder is loaded when the first clip is embedded, so that a sweep over stored features does without it.

    Args:
        config: the ``features`` section.

    Raises:
        UserError: an encoder that cannot be loaded, has no such layer, or does not read so many seconds.
    """

    heavy = True

    def __init__(self, config: TorchaudioBundleConfig | TransformersConfig) -> None:
        super().__init__()
        self.config = config
        self.version = encoder_class(config).version
        known = remembered(settings_hash(front_end_settings(config, self.version)), self._measure)
        self.sample_rate, *shape = known
        self.output_shape = tuple(shape)

    def fit_length(self, waveform: torch.Tensor) -> torch.Tensor:
        """Waveform ``[n]`` padded with silence at the end, or cropped to its centre."""
        return centred(waveform, round(self.config.seconds * self.sample_rate))

    @torch.no_grad()
    def forward(self, waveforms: torch.Tensor) -> torch.Tensor:
        """Waveforms ``[B, n]`` → hidden states ``[B, *output_shape]``, float32."""
        encoder = loaded(self.config)
        if next(encoder.parameters()).device != waveforms.device:  # not each time: an export cannot follow
            encoder.to(waveforms.device)
        return self._chosen(encoder(waveforms))

    def _chosen(self, states: list[torch.Tensor]) -> torch.Tensor:
        """Of the output of each layer ``[B, time, dim]`` what the configuration asks for, ``[B, *output_shape]``."""
        layer = self.config.layer
        if layer == "all":
            if any(state.shape[1:] != states[0].shape[1:] for state in states):
                sizes = ", ".join(f"{state.shape[2]} × {state.shape[1]}" for state in states)
                raise UserError(
                    f"features.layer=all: this encoder's layers differ in size ([dim, time]: {sizes}); expected equal ones",
                    f"write features.layer=-1, the last, or a number from 1 to {len(states)}",
                )
            chosen = torch.stack(states, 1)
        elif layer == 0 or layer > len(states):
            raise UserError(
                f"features.layer={layer}: no such layer; expected 1 to {len(states)}, -1 (the last) or all of them",
                f"write features.layer={len(states)}",
            )
        else:
            chosen = states[layer - 1 if layer > 0 else -1]
        return pooled(chosen.transpose(-1, -2).float(), self.config.pool)

    def _measure(self) -> list[int]:
        """Sample rate and shape, by embedding silence."""
        encoder = loaded(self.config)
        samples = round(self.config.seconds * encoder.sample_rate)
        if encoder.longest is not None and samples > encoder.longest:
            raise UserError(
                f"features.seconds={self.config.seconds:g}: this encoder reads "
                f"{encoder.longest / encoder.sample_rate:g} s at most",
                f"write features.seconds={encoder.longest / encoder.sample_rate:g}",
            )
        return [encoder.sample_rate, *self._chosen(states_of_silence(encoder, samples)).shape[1:]]


@Kept
def loaded(config: TorchaudioBundleConfig | TransformersConfig) -> Encoder:
    """The encoder of a configuration."""
    return build_encoder(config)


def pooled(states: torch.Tensor, pool: Pool) -> torch.Tensor:
    """States ``[..., dim, time]`` pooled over time: ``[..., dim]``, or ``[..., 2 dim]`` of mean and maximum."""
    if pool == "sequence":
        return states
    if pool == "mean_max":
        return torch.cat([states.mean(-1), states.amax(-1)], -1)
    return states.mean(-1) if pool == "mean" else states.amax(-1)


def remembered(name: str, measure: Callable[[], list[int]]) -> list[int]:
    """Numbers that take an encoder to find out, kept beside the downloaded weights under a name of all they depend on."""
    path = weights_folder() / "shapes" / f"{name}.json"
    try:
        return [int(number) for number in json.loads(path.read_text())]
    except (OSError, ValueError, TypeError):
        numbers = measure()
    with contextlib.suppress(OSError):  # a home that cannot be written: they are found out again next time
        write_text(path, json.dumps(numbers))
    return numbers
