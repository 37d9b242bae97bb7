"""A trained model in use: ``load("outputs/RUN").predict(["dog.wav"])``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch

from audioclf.audio.ledger import State
from audioclf.audio.store import Pcm
from audioclf.clips.clip import Clip
from audioclf.errors import UserError, shown
from audioclf.features.frontend import FrontEnd
from audioclf.predict.checkpoint import open_checkpoint
from audioclf.predict.decision import Decision
from audioclf.predict.inputs import Refused, Tables, find_clips, is_said
from audioclf.predict.sounds import Listener, Sound, window_s
from audioclf.training.module import ClassifierModule

BATCH = 4  # clips at once, as in extraction: spectra of more are memory that the system hands out anew each time
BATCH_GPU = 64
HELD = 256  # sounds that wait for a batch to fill, silent and failed ones among them
NOT_FINITE = "the model gives no finite scores for it: its training diverged"

Names = str | PathLike[str] | Iterable[str | PathLike[str]]
Layer = Literal["model", "features"]


@dataclass(frozen=True, slots=True)
class Score:
    """One class's score.

    Attributes:
        name: the class.
        score: within [0, 1]; of a single-label model, all add up to 1.
        predicted: whether the model says that it is there.
    """

    name: str
    score: float
    predicted: bool


@dataclass(frozen=True, slots=True)
class Answer:
    """What there is to say of a clip, or of a window of one.

    Attributes:
        clip: its id in its table; of a file, its name.
        file: the recording.
        start, end: in s; ``end`` is None where nothing could be read.
        labels: the classes that its table says; empty where not known.
        status: ``ok``, ``partial``, ``silent`` or ``failed``; the last two have no answer.
        reason: why, or what should be known of the sound; often empty.
    """

    clip: str
    file: str
    start: float
    end: float | None
    labels: tuple[str, ...]
    status: str
    reason: str

    @property
    def usable(self) -> bool:
        """Whether there was sound to judge."""
        return State(self.status).usable


@dataclass(frozen=True, slots=True)
class Prediction(Answer):
    """What a model says of a clip, or of a window of one.

    Attributes:
        top: the best classes, highest score first; empty where there was nothing to hear.
        logits: of all classes, ``[K]``, float32; None where there was nothing to hear.
    """

    top: tuple[Score, ...]
    logits: npt.NDArray[np.float32] | None

    @property
    def label(self) -> str | None:
        """The class of the highest score."""
        return self.top[0].name if self.top else None


@dataclass(frozen=True, slots=True)
class Embedding(Answer):
    """A clip, or a window of one, as a vector.

    Attributes:
        vector: ``[D]``, float32; None where there was nothing to hear.
        picture: what was asked to be made of the sound.
    """

    vector: npt.NDArray[np.float32] | None
    picture: Any = None


class Model:
    """A trained model with its front-end and its label map.

    Args:
        module: the trained module.
        front_end: whose features it takes.
        device: where both compute.
        overrides: of how tables are read, e.g. ``data.audio_dir=DIR``: else as the run's own was.

    Raises:
        UserError: an override of something else.

    Attributes:
        classes: the label map, K names.
        window_s: how much of a clip it hears, in s: shorter ones get silence, of longer ones the middle counts.
    """

    def __init__(
        self,
        module: ClassifierModule,
        front_end: FrontEnd,
        device: torch.device | str = "cpu",
        overrides: Sequence[str] = (),
    ) -> None:
        self.device = torch.device(device)
        self.module, self.front_end = module.to(self.device).eval(), front_end.to(self.device).eval()
        self.decision = Decision(module)
        self.classes = module.classes
        self.window_s = window_s(front_end)
        self.tables = Tables.of(module.config, overrides)

    def predict(
        self, names: Names, *, top: int = 1, timeline: bool = False, hop: float | None = None
    ) -> list[Prediction]:
        """The classes of sounds.

        Args:
            names: files, folders (with those below them) or tables of clips, as :func:`find_clips` reads them.
            top: how many classes of each, at least; those that are predicted are always there.
            timeline: every recording in windows of :attr:`window_s`; else only whole files longer than ten minutes.
            hop: from one window to the next, in s; None: a window's length.

        Returns:
            One for each clip or window, in their order. A file that cannot be used is one as well, with the reason.

        Raises:
            UserError: a table that cannot be read, or ``top`` or ``hop`` out of range.
        """
        return list(self.predictions(self.listener(timeline, hop).sounds(self.clips(names)), top))

    def clips(self, names: Names) -> list[Clip | Refused]:
        """The clips that files, folders and tables hold, and what can be none: see :func:`find_clips`.

        Raises:
            UserError: a table that cannot be read, or has no annotations for a model that reads them.
        """
        several: Iterable[str | PathLike[str]] = [names] if isinstance(names, str | PathLike) else names
        given = list(several)
        if not all(isinstance(name, str | PathLike) for name in given):
            raise UserError("expected names of files, folders or tables, not sounds", "save them as WAV first")
        named = [name if isinstance(name, str) else Path(name) for name in given]
        return find_clips(named, self.tables, reads_text=self.front_end.reads_text)

    def listener(
        self, timeline: bool = False, hop: float | None = None, picture: Callable[[Pcm], Any] | None = None
    ) -> Listener:
        """What hears clips for this model; ``picture`` makes one of each clip's samples."""
        return Listener(self.front_end, self.tables.cache, timeline=timeline, hop_s=hop, picture=picture)

    def predictions(self, sounds: Iterable[Sound], top: int = 1) -> Iterator[Prediction]:
        """The classes of sounds, as they come: a batch at a time is in memory."""
        if not isinstance(top, int) or top < 1:
            raise UserError(f"top={top!r}: expected a whole number of at least 1")
        for sound, logits in self._answered(sounds, self.module):
            if logits is None:
                yield Prediction(*_said(sound), (), None)
            elif not np.isfinite(logits).all():
                yield Prediction(*_said(sound, NOT_FINITE), (), None)
            else:
                yield Prediction(*_said(sound), self._best(logits, top), logits)

    def embed(
        self, names: Names, *, layer: Layer = "model", timeline: bool = False, hop: float | None = None
    ) -> list[Embedding]:
        """Sounds as vectors.

        Args:
            names: as for :meth:`predict`.
            layer: ``"model"``: what the model's last layer sees; ``"features"``: the front-end's features, flattened.
            timeline: as for :meth:`predict`.
            hop: as for :meth:`predict`.

        Returns:
            One for each clip or window, in their order.

        Raises:
            UserError: a table that cannot be read, or ``hop`` out of range.
        """
        return list(self.embeddings(self.listener(timeline, hop).sounds(self.clips(names)), layer))

    def export(self, out: str | PathLike[str]) -> list[str]:
        """Writes it as ONNX, compared with PyTorch before the file gets its name: see :func:`audioclf.predict.export.export`.

        Args:
            out: the file.

        Returns:
            What was written, in lines for people.

        Raises:
            UserError: ONNX packages are missing, the model cannot be exported, or the file cannot be written.
        """
        from audioclf.predict.export import export  # only where it is asked for

        return export(self, Path(out))

    def embeddings(self, sounds: Iterable[Sound], layer: Layer = "model") -> Iterator[Embedding]:
        """Sounds as vectors, as they come.

        Raises:
            UserError: no such layer.
        """
        if layer not in ("model", "features"):
            raise UserError(f"layer={layer!r}: expected 'model' or 'features'")
        for sound, vector in self._answered(sounds, self._embed if layer == "model" else torch.nn.Identity()):
            if vector is not None and not np.isfinite(vector).all():
                yield Embedding(*_said(sound, NOT_FINITE), None)
            else:
                yield Embedding(*_said(sound), None if vector is None else vector.reshape(-1), sound.picture)

    def features(self, sounds: Sequence[Sound]) -> torch.Tensor:
        """Features ``[B, *feature_shape]`` of sounds that have a waveform, as training reads them from its store."""
        waveforms = torch.stack([sound.waveform for sound in sounds if sound.waveform is not None])
        features = self.front_end.of_clips(waveforms.to(self.device), [sound.clip.annotation for sound in sounds])
        return features.to(self.device, getattr(torch, self.module.config.features.storage)).float()

    def _embed(self, features: torch.Tensor) -> torch.Tensor:
        embedded: torch.Tensor = self.module.model.embed(self.module.standardise(features))  # type: ignore[operator]
        return embedded

    def _best(self, logits: npt.NDArray[np.float32], top: int) -> tuple[Score, ...]:
        batch = torch.from_numpy(logits)[None]
        scores, predicted = self.decision.scores(batch), self.decision.predicted(batch)[0].tolist()
        order = scores[0].argsort(descending=True, stable=True).tolist()
        return tuple(
            Score(self.classes[i], float(scores[0, i]), predicted[i])
            for rank, i in enumerate(order)
            if rank < top or predicted[i]
        )

    def _answered(
        self, sounds: Iterable[Sound], network: Callable[[torch.Tensor], torch.Tensor]
    ) -> Iterator[tuple[Sound, npt.NDArray[np.float32] | None]]:
        """Each sound with what a network makes of its features, a batch at a time; None where it has no waveform."""
        size = BATCH_GPU if self.device.type == "cuda" else BATCH
        for held in _batches(sounds, size):
            usable = [sound for sound in held if sound.waveform is not None]
            answers: Iterator[npt.NDArray[np.float32]] = iter(())
            if usable:
                with torch.inference_mode():
                    answers = iter(network(self.features(usable)).float().cpu().numpy())
            for sound in held:
                yield sound, next(answers) if sound.waveform is not None else None


def load(checkpoint: str | PathLike[str], *overrides: str, device: str = "auto") -> Model:
    """Opens a trained model: see :func:`audioclf.load`.

    Raises:
        UserError: as :func:`open_checkpoint`, or there is no such device.
    """
    place = _device(device)
    module, front_end = open_checkpoint(Path(checkpoint), [word for word in overrides if not is_said(word)])
    return Model(module, front_end, place, [word for word in overrides if is_said(word)])


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:  # no such word, or no such device here
        first = str(error).splitlines()[0]
        raise UserError(f"--device {shown(name)}: {shown(first)}", "--device auto takes what there is") from None
    return device


def _batches(sounds: Iterable[Sound], size: int) -> Iterator[list[Sound]]:
    held: list[Sound] = []
    usable = 0
    for sound in sounds:
        held.append(sound)
        usable += sound.waveform is not None
        if usable == size or len(held) == HELD:
            yield held
            held, usable = [], 0
    if held:
        yield held


def _said(sound: Sound, failure: str = "") -> tuple[str, str, float, float | None, tuple[str, ...], str, str]:
    """A sound's fields of an :class:`Answer`; where the model failed on it, that is what is said."""
    clip = sound.clip
    where = (clip.id, clip.source, sound.start, sound.end, clip.labels)
    return *where, str(State.FAILED if failure else sound.state), failure or sound.reason
