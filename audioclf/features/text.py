"""What people wrote about a clip, as numbers: annotations through a sentence encoder."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Annotated, Any, TypeVar

import torch
from pydantic import BaseModel, Field, TypeAdapter, ValidationError
from torch import nn
from torch.nn.utils.rnn import pad_sequence

from audioclf.audio.store import CANONICAL_RATE
from audioclf.config import TextConfig, TextEncoder
from audioclf.errors import UserError, shown
from audioclf.features.embedding import remembered
from audioclf.features.encoders import Kept, file_beside, pretrained, pretrained_model, with_states
from audioclf.features.frontend import FrontEnd, front_end_settings, settings_hash
from audioclf.weights import needs

SECTION = "features.text"
LONGEST = 512  # tokens, where a model has no positions, as T5, and so would read any number
LONGEST_OF_ALL = 1 << 30  # tokens

T = TypeVar("T")


class Sentences(nn.Module):
    """BERT, or any model of transformers that reads text: texts → embeddings.

    The mean of the last hidden states of a text's tokens, or that of its first token where the folder of a sentence
    encoder says so (in ``1_Pooling``), of length 1 where it says that (``modules.json``). A text of which the
    tokenizer makes no token at all, as some do of an empty one, is embedded as zeros.

    Args:
        config: which encoder.

    Attributes:
        longest: tokens of a text that are read, at most; what is behind them is cut off.

    Raises:
        UserError: it cannot be loaded, pools in another way, or a missing package.
    """

    def __init__(self, config: TextEncoder) -> None:
        super().__init__()
        transformers = needs("transformers", "pretrained", f"{SECTION}.model={config.model}")
        where = (config.model, config.revision, SECTION)
        self.tokenizer = pretrained(transformers.AutoTokenizer, *where)
        self.model = with_states(pretrained_model(transformers.AutoModel, *where))
        modules = _said(config, "modules.json", list[_Module]) or []
        self.normalise = any(module.type.endswith("Normalize") for module in modules)
        pooling = [module.path for module in modules if module.type.endswith("Pooling")]
        self.first = any(_reads_first(config, PurePosixPath(path, "config.json").as_posix()) for path in pooling)
        said = _said(config, "sentence_bert_config.json", _Length)
        chosen = said.max_seq_length if said and said.max_seq_length else LONGEST_OF_ALL
        self.longest = int(min(chosen, self.tokenizer.model_max_length, _positions(self.model)))
        # Hidden by the mask, so that any token would do where a tokenizer has none for it, as GPT-2's.
        known = (self.tokenizer.pad_token_id, self.tokenizer.eos_token_id, 0)
        self.padding = next(token for token in known if token is not None)

    @torch.no_grad()
    def forward(self, texts: Sequence[str]) -> torch.Tensor:
        """N texts → embeddings ``[N, dim]``, float32."""
        tokens = self.tokenizer(list(texts), truncation=True, max_length=self.longest)["input_ids"]
        device = self.model.device
        # Padded behind the text whatever the tokenizer would do: positions then count from its first token.
        read = [torch.tensor(text or [self.padding], device=device) for text in tokens]
        ids = pad_sequence(read, batch_first=True, padding_value=self.padding)
        mask = pad_sequence([torch.ones_like(text) for text in read], batch_first=True)
        states: torch.Tensor = self.model(input_ids=ids, attention_mask=mask).last_hidden_state
        mask = mask[:, :, None]
        found = states[:, 0] if self.first else (states * mask).sum(1) / mask.sum(1)
        found = nn.functional.normalize(found, dim=1) if self.normalise else found
        return found * torch.tensor([[bool(text)] for text in tokens], device=device)


def _positions(model: Any) -> int:
    """Tokens that a model has positions for; RoBERTa and its like count from behind the number of padding."""
    for name, part in model.named_modules():
        if name.endswith("position_embeddings") and getattr(part, "padding_idx", None) is not None:
            return int(part.num_embeddings - part.padding_idx - 1)
    said = getattr(model.config, "max_position_embeddings", None)
    return said if said and said > 0 else LONGEST


class Annotations(FrontEnd):
    """The annotation's embedding ``[dim]``; of the audio, nothing.

    Args:
        config: the ``features`` section.
    """

    version = "3"  # 1: a long text was cut elsewhere; 2: the mean where sentence-transformers 6 wrote that it is cls
    heavy = True
    reads_text = True
    outside = "it reads annotations"
    sample_rate = CANONICAL_RATE

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.config = config
        known = remembered(settings_hash(front_end_settings(config, self.version)), self._measure)
        self.output_shape = tuple(known)

    def _measure(self) -> list[int]:
        """Shape, by embedding a word."""
        sentences = loaded(self.config.text)
        try:
            return list(sentences(["a"]).shape[1:])
        except Exception as error:  # whatever a model says that takes something else than text
            raise UserError(
                f"{SECTION}.model={shown(self.config.text.model)}: no model of text: {shown(error)}",
                "take an encoder of text: a sentence encoder, BERT or the like",
            ) from error

    def fit_length(self, waveform: torch.Tensor) -> torch.Tensor:
        """Waveform ``[n]``, as it is: people listen to it."""
        return waveform

    def heard(self) -> int:
        """None."""
        return 0

    def forward(self, waveforms: torch.Tensor) -> torch.Tensor:
        """Refuses: a waveform says nothing of its annotation.

        Raises:
            UserError: always.
        """
        raise UserError(
            "features=text reads the clips' annotations, of which a sound has none",
            "give a table with a column annotation, or train with features that read audio alone",
        )

    def of_clips(self, waveforms: torch.Tensor, texts: Sequence[str]) -> torch.Tensor:
        """Annotations of B clips → ``[B, dim]``."""
        embeddings: torch.Tensor = loaded(self.config.text).to(waveforms.device)(texts)
        return embeddings


class WithText(FrontEnd):
    """Features of the audio, flattened, and behind them the annotation's embedding: ``[dim]``.

    Args:
        audio: makes the first part.
        text: the second.
    """

    reads_text = True
    outside = "it reads annotations"
    heavy = True

    def __init__(self, audio: FrontEnd, text: Annotations) -> None:
        super().__init__()
        self.audio, self.text = audio, text
        self.version = f"{audio.version}+{text.version}"
        self.sample_rate = audio.sample_rate
        self.output_shape = (torch.Size(audio.output_shape).numel() + torch.Size(text.output_shape).numel(),)

    def fit_length(self, waveform: torch.Tensor) -> torch.Tensor:
        """As the audio's part does."""
        return self.audio.fit_length(waveform)

    def heard(self) -> int:
        """As the audio's part does."""
        return self.audio.heard()

    def forward(self, waveforms: torch.Tensor) -> torch.Tensor:
        """Refuses, as :class:`Annotations` does."""
        refused: torch.Tensor = self.text(waveforms)
        return refused

    def of_clips(self, waveforms: torch.Tensor, texts: Sequence[str]) -> torch.Tensor:
        """Waveforms ``[B, n]`` and their annotations → ``[B, *output_shape]``."""
        sound = self.audio(waveforms).flatten(1)
        return torch.cat([sound, self.text.of_clips(waveforms, texts).to(sound.device)], 1)


@Kept
def loaded(config: TextEncoder) -> Sentences:
    """The encoder of a configuration."""
    return Sentences(config)


def text_key(text: str) -> str:
    """What the feature store calls a text: sha256 (hex)."""
    return hashlib.sha256(text.encode()).hexdigest()


class _Module(BaseModel):
    """One of ``modules.json``'s; its folder is one of those that name the weights' content, and so no other place."""

    type: str
    path: Annotated[str, Field(pattern=r"^(\w[\w.-]*)?$")]


class _Pooling(BaseModel, extra="allow"):
    """How states become one: the names of ways or, before sentence-transformers 6, a flag for each."""

    pooling_mode: str | list[str] | None = None

    @property
    def modes(self) -> list[str]:
        if self.pooling_mode is not None:
            return [self.pooling_mode] if isinstance(self.pooling_mode, str) else self.pooling_mode
        flags = [name for name, value in (self.model_extra or {}).items() if value]
        return [found[1] for name in flags if (found := re.fullmatch(r"pooling_mode_(\w+?)(_tokens?)?", name))]


class _Length(BaseModel):
    """What ``sentence_bert_config.json`` says."""

    max_seq_length: Annotated[int, Field(ge=0)] | None = None


def _reads_first(config: TextEncoder, name: str) -> bool:
    """Whether a text's embedding is that of its first token, and not the mean over them.

    Raises:
        UserError: it is something else.
    """
    said = _said(config, name, _Pooling)
    modes = said.modes if said else []
    if modes not in (["cls"], ["mean"], []):
        raise UserError(
            f"{SECTION}.model={shown(config.model)}: pools by {shown(', '.join(modes))} ({name}); expected cls or mean",
            f"take a sentence encoder that pools so: {SECTION}.model=NAME_OR_FOLDER",
        )
    return modes == ["cls"]


def _said(config: TextEncoder, name: str, kind: type[T]) -> T | None:
    """What a JSON file beside a model says; None where there is none.

    Raises:
        UserError: it says something else, or whether there is one cannot be found out.
    """
    path = file_beside(name, config.model, config.revision, SECTION)
    if path is None:
        return None
    try:
        return TypeAdapter(kind).validate_json(path.read_bytes())
    except ValidationError as error:
        fault = error.errors()[0]
        raise UserError(
            f"{path}: {': '.join([*map(str, fault['loc']), fault['msg']])}; expected what sentence-transformers writes",
            f"fetch that file anew, or take another model: {SECTION}.model=NAME_OR_FOLDER",
        ) from error
