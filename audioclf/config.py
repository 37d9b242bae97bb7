"""The typed schema of ``conf/``: every key, its type, unit and range, checked before anything is loaded.

Hydra composes the files; this module says what may stand in them. A field marked with :data:`NOT_IDENTITY` cannot
change a run's numbers (a path, a progress bar) and is left out of the run's identity.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from audioclf.errors import UserError, nearest, shown

NOT_IDENTITY: dict[str, Any] = {"identity": False}

PHRASES = {  # of pydantic's messages, in words of the command line
    "a valid integer": "a whole number",
    "a valid number": "a number",
    "a valid string": "text",
    "a valid boolean": "true or false",
    "a valid list": "a list, e.g. [dog,siren]",
    "List should have at least 1 item after validation, not 0": "expected at least one",
    "greater than or equal to": "a value of at least",
    "less than or equal to": "a value of at most",
    "greater than": "a value greater than",
    "less than": "a value less than",
}

SPLITS = ("train", "val", "test")

Launcher = Literal["basic", "joblib", "submitit", "ray"]
"""Where the runs of a sweep run; ``ray`` fetches and extracts on its cluster as well, the others on this machine."""


class Section(BaseModel):
    """A part of the configuration: immutable, without implicit conversions and without unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class Data(Section):
    """What every data source shares: how clips are read, split and held."""

    fold: int | None = Field(
        None, ge=1, description="test on this fold; null: the first published fold, else one grouped split"
    )
    folds: int = Field(5, ge=2, description="how many folds to make where the publisher made none")
    val_fraction: float = Field(0.2, gt=0, lt=0.5, description="of the clips that are not test, what val takes")
    test_fraction: float = Field(0.2, gt=0, lt=0.5, description="of all clips, what test takes where nothing fixes it")
    split_seed: int = Field(0, ge=0, description="of the split and limit_per_class, so that seeds share one test set")
    on_bad_row: Literal["error", "skip"] = "error"
    classes: list[str] | None = Field(None, min_length=1, description="keep these classes only; null: all")
    multi_label: Literal["error", "first", "drop", "most_specific"] = Field(
        "error", description="clips that have several labels, of those in classes"
    )
    limit_per_class: int | None = Field(None, ge=1, description="clips of a class, at most; null: all")
    allow_leak: bool = Field(False, description="train although one recording sits in two splits; marked leaky")
    ram_budget_gb: float = Field(
        4.0, ge=0, description="features up to this size are held in RAM [GB]", json_schema_extra=NOT_IDENTITY
    )

    @field_validator("classes")
    @classmethod
    def _in_any_order(cls, classes: list[str] | None) -> list[str] | None:
        """The same choice written in another order is the same run."""
        return None if classes is None else sorted(set(classes))


class DemoData(Data):
    """Synthesised recordings that come with audioclf."""

    name: Literal["demo"]
    num_classes: int = Field(10, ge=2, le=12)
    recordings_per_class: int = Field(12, ge=3)
    synthesis_seed: int = Field(0, ge=0)


class EscData(Data):
    """ESC-10 and ESC-50 (K. J. Piczak, 2015): five official folds, the source recording as the group."""

    name: Literal["esc10", "esc50"]
    root: str = Field(json_schema_extra=NOT_IDENTITY, description="folder with audio/ and meta.csv or meta/esc50.csv")


class CsvData(Data):
    """Any table of clips: path or url, start, end, label or labels, and what else it knows."""

    name: Literal["csv"]
    csv: str = Field(json_schema_extra=NOT_IDENTITY, description="the table: CSV, TSV (ending .tsv) or Parquet")
    audio_dir: str | None = Field(
        None, json_schema_extra=NOT_IDENTITY, description="what relative paths start from; null: the table's folder"
    )


class LinkColumns(Section):
    """What the table calls our columns; null: it calls them as we do."""

    path: str | None = None
    url: str | None = None
    youtube_id: str | None = None
    start: str | None = None
    end: str | None = None
    label: str | None = None
    labels: str | None = None
    annotation: str | None = None
    split: str | None = None
    fold: str | None = None
    group: str | None = None
    id: str | None = None

    def given(self) -> dict[str, str]:
        """Our name → the table's, those that are set."""
        return {ours: theirs for ours, theirs in self if theirs is not None}


class LinksData(Data):
    """A table of links as it is published: AudioSet's, VGGSound's, AudioCaps', or any with named columns."""

    name: Literal["links"]
    csv: str = Field(json_schema_extra=NOT_IDENTITY, description="the table: CSV, TSV (ending .tsv) or Parquet")
    format: Literal["auto", "audioset", "vggsound", "audiocaps", "columns"] = Field(
        "auto", description="auto: seen from the table's first lines"
    )
    columns: LinkColumns = Field(default_factory=LinkColumns)
    class_labels: str | None = Field(
        None,
        json_schema_extra=NOT_IDENTITY,
        description="AudioSet's class_labels_indices.csv; null: the one in the table's folder",
    )
    clip_seconds: float = Field(10.0, gt=0, description="length of a clip where the table has starts but no ends [s]")


class FolderData(Data):
    """A folder per class, or train/val/test folders with a folder per class in each."""

    name: Literal["folder"]
    root: str = Field(json_schema_extra=NOT_IDENTITY)


DataConfig = Annotated[DemoData | EscData | CsvData | LinksData | FolderData, Field(discriminator="name")]


class MelConfig(Section):
    """Mel-spectrogram ``[n_mels, target_length]``.

    A clip is padded with silence at its end, or cropped to its centre, to ``target_length`` frames before the
    transform.
    """

    name: Literal["mel"]
    engine: Literal["torchaudio", "librosa"] = "torchaudio"
    sample_rate: int = Field(22_050, ge=1_000, le=44_100, description="[Hz]; at most the audio store's 44,100 Hz")
    n_fft: int = Field(2048, ge=16, description="window and FFT length [samples]")
    hop_length: int = Field(512, ge=1, description="[samples]")
    n_mels: int = Field(64, ge=1, description="mel bands")
    f_min: float = Field(0.0, ge=0, description="lower edge of the lowest band [Hz]")
    f_max: float | None = Field(
        None, gt=0, description="upper edge of the highest band [Hz]; null: half the sample rate"
    )
    scale: Literal["db", "power"] = Field("db", description="db: 10 log10(max(power, 1e-10)); power: as it is")
    target_length: int = Field(216, ge=1, description="[frames]; 216 frames of 512 samples at 22,050 Hz are 5.0 s")
    normalisation: Literal["none", "global", "per_band"] = Field(
        "per_band", description="statistics of the training split"
    )
    storage: Literal["float32", "float16"] = Field("float32", description="how features lie on disk")

    @model_validator(mode="after")
    def _frequencies(self) -> MelConfig:
        nyquist = self.sample_rate / 2
        if self.f_max is not None and self.f_max > nyquist:
            raise ValueError(f"f_max={self.f_max:g} Hz is above half the sample rate ({nyquist:g} Hz)")
        if self.f_min >= (self.f_max or nyquist):
            raise ValueError(f"f_min={self.f_min:g} Hz is not below f_max={self.f_max or nyquist:g} Hz")
        if self.storage == "float16" and self.scale == "power":
            raise ValueError(
                "storage=float16 holds no powers (they span more than its range); expected scale=db or float32"
            )
        if self.hop_length > self.n_fft:
            raise ValueError(f"hop_length={self.hop_length} leaves gaps between windows of n_fft={self.n_fft} samples")
        return self


FeaturesConfig = MelConfig


class AudioClassifierConfig(Section):
    """The lab report's network: fc1, ReLU, fc2."""

    name: Literal["audio_classifier"]
    hidden: int = Field(512, ge=1, description="units of fc1")


class LinearConfig(Section):
    """One linear layer: the cheapest honest baseline."""

    name: Literal["linear"]


ModelConfig = Annotated[AudioClassifierConfig | LinearConfig, Field(discriminator="name")]


class LossConfig(Section):
    """Cross-entropy over the classes."""

    name: Literal["cross_entropy"]
    label_smoothing: float = Field(0.0, ge=0, lt=1)


class OptimizerConfig(Section):
    """Adam; its learning rate is the top-level ``lr`` and stands nowhere else."""

    weight_decay: float = Field(0.0, ge=0)
    schedule: Literal["constant", "cosine"] = Field(
        "constant", description="cosine: lr falls to 0 over the run's epochs, which then share no trajectory"
    )


class SearchConfig(Section):
    """How a sweep chooses what it runs; none of it can change a run's numbers."""

    name: Literal["grid", "optuna"]
    trials: int = Field(30, ge=1, description="settings that are tried, by all calls of the same search together")
    prune: bool = Field(True, description="give up early what is worse than two thirds of the others")
    study: str | None = Field(None, description="folder name of the search that a run belongs to; a search sets it")
    trial: int | None = Field(None, ge=0, description="number of the trial that a run is of; a search sets it")


class TrainerConfig(Section):
    """How a run is carried out."""

    select: Literal["best", "last"] = Field(
        "best", description="weights that are tested: best val macro-F1, or the last epoch's"
    )
    accelerator: Literal["auto", "cpu", "gpu"] = Field("auto", json_schema_extra=NOT_IDENTITY)
    checkpoint_every_s: float = Field(
        15.0, ge=0, description="least time between checkpoints [s]", json_schema_extra=NOT_IDENTITY
    )
    keep_state: bool = Field(
        True,
        description="keep what a finished run needs to go on to more epochs: four fifths of its disk space",
        json_schema_extra=NOT_IDENTITY,
    )
    tensorboard: bool = Field(True, json_schema_extra=NOT_IDENTITY)


class DiagnoseConfig(Section):
    """How a finished run is diagnosed."""

    budget_minutes: float = Field(
        10.0, gt=0, description="time for retraining; what does not fit is listed as not run [min]"
    )


class FetchConfig(Section):
    """How links become clips: politeness, limits, access. None of it can change a number."""

    enabled: bool = Field(True, description="train.py fetches what is missing; false: it trains on what is there")
    workers: int = Field(8, ge=1, le=256, description="recordings fetched at the same time")
    workers_per_site: int = Field(1, ge=1, le=256, description="of them, at most this many at one site")
    sleep: float = Field(5.0, ge=0, description="mean pause between two recordings of a site, randomised [s]")
    per_hour: int | None = Field(300, ge=1, description="recordings of a site in an hour, at most; null: no cap")
    patience: float = Field(60.0, ge=0, description="the longest wait for a retry or a blocked site [s]")
    timeout: float = Field(20.0, gt=0, description="a connection without an answer is given up after this [s]")
    max_seconds: float = Field(600.0, gt=0, description="time limit for one clip [s]")
    max_mb: float = Field(256.0, gt=0, description="bytes fetched for one clip, at most [MB]")
    cookies: str | None = Field(None, description="file with cookies in Netscape's format; never copied or logged")
    proxy: str | None = Field(None, description="http or socks5 address; null: what the environment says")
    allow_private: bool = Field(False, description="follow links to loopback, link-local and private addresses")


class PathsConfig(Section):
    """Where things are kept; none of it can change a number."""

    cache: str = Field("cache", description="audio store, features and demo recordings")
    outputs: str = Field("outputs", description="run folders")


class Config(Section):
    """A resolved configuration: all that decides a run."""

    lr: float = Field(gt=0, description="Adam's learning rate")
    epochs: int = Field(ge=1)
    seed: int = Field(ge=0, lt=2**32, description="initial weights and the order of batches")
    batch_size: int = Field(32, ge=1)
    retrain: bool = Field(
        False, description="train a finished run again; the old folder is kept aside", json_schema_extra=NOT_IDENTITY
    )
    marks: list[Annotated[int, Field(ge=1)]] = Field(
        [], description="epochs on the way that are written down as finished runs", json_schema_extra=NOT_IDENTITY
    )
    launcher: Launcher = Field(
        "basic",
        description="what runs the runs of a sweep; ray: fetches and extracts, too",
        json_schema_extra=NOT_IDENTITY,
    )
    search: SearchConfig = Field(json_schema_extra=NOT_IDENTITY)
    data: DataConfig
    features: FeaturesConfig
    model: ModelConfig
    loss: LossConfig
    optimizer: OptimizerConfig
    trainer: TrainerConfig
    fetch: FetchConfig = Field(json_schema_extra=NOT_IDENTITY)
    diagnose: DiagnoseConfig = Field(
        default_factory=lambda: DiagnoseConfig.model_validate({}), json_schema_extra=NOT_IDENTITY
    )
    paths: PathsConfig = Field(json_schema_extra=NOT_IDENTITY)


def parse_config(raw: Mapping[str, Any], typed: Mapping[str, str] | None = None) -> Config:
    """Checks a composed configuration.

    Args:
        raw: the composed configuration as plain containers.
        typed: the overrides as the user typed them (key → text), so that an error shows ``epochs=1e2`` and not 100.0.

    Raises:
        UserError: one line for each key that is wrong.
    """
    try:
        return Config.model_validate(dict(raw))
    except ValidationError as error:
        lines, hints = [], []
        for fault in error.errors():
            line, hint = explain(dict(fault), raw, typed or {})
            lines.append(line)
            hints += [hint] if hint else []
        raise UserError("\n".join(lines), hints[0] if hints else None) from None


def unknown_key(key: str, value: object, known: Sequence[str]) -> UserError:
    """The error for a key that no configuration has, naming the nearest that one has."""
    leaf = key.rsplit(".", 1)[-1]
    guess = next((k for k in known if k.rsplit(".", 1)[-1] == leaf), None) or nearest(key, known)
    expected = f"did you mean {guess}?" if guess else "`python train.py --cfg job` shows them all"
    return UserError(f"{key}={shown(value)}: no such key; expected one of the configuration's keys", expected)


def keys_of(raw: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Every key of a nested mapping, dotted, inner ones included."""
    for name, value in raw.items():
        yield f"{prefix}{name}"
        if isinstance(value, Mapping):
            yield from keys_of(value, f"{prefix}{name}.")


def check_paths(config: Config) -> None:
    """Checks that what the configuration reads from exists.

    Raises:
        UserError: naming the key, the path and what was expected there.
    """
    data = config.data
    if isinstance(data, EscData | FolderData) and not _is(Path.is_dir, data.root):
        wanted = (
            "a folder with audio/ and meta.csv" if isinstance(data, EscData) else "a folder with one folder per class"
        )
        raise UserError(
            f"data.root={data.root}: no such folder; expected {wanted}",
            f"python train.py data={data.name} data.root=DIR",
        )
    if isinstance(data, CsvData | LinksData):
        if _is(Path.is_dir, data.csv):
            raise UserError(
                f"data.csv={data.csv}: a folder; expected a table of clips",
                "a folder for each class is read by: python train.py data=folder data.root=DIR",
            )
        if not _is(Path.is_file, data.csv):
            raise UserError(
                f"data.csv={data.csv}: no such file; expected a table of clips",
                f"python train.py data={data.name} data.csv=FILE",
            )
    if isinstance(data, LinksData) and data.class_labels is not None and not _is(Path.is_file, data.class_labels):
        raise UserError(
            f"data.class_labels={data.class_labels}: no such file; expected AudioSet's class_labels_indices.csv"
        )
    if isinstance(data, CsvData) and data.audio_dir is not None and not _is(Path.is_dir, data.audio_dir):
        raise UserError(
            f"data.audio_dir={data.audio_dir}: no such folder; expected the one that the table's paths start from"
        )


def _is(test: Callable[[Path], bool], path: str) -> bool:
    """``Path.is_dir`` or ``Path.is_file``; no also where the name is too long or may not be looked at."""
    try:
        return test(Path(path))
    except (OSError, ValueError):
        return False


def explain(fault: Mapping[str, Any], raw: Mapping[str, Any], typed: Mapping[str, str]) -> tuple[str, str | None]:
    """One line for one fault that pydantic found, and a hint where there is a good one."""
    where = [str(part) for part in fault["loc"]]
    if len(where) > 1 and isinstance(raw.get(where[0]), Mapping) and where[1] == raw[where[0]].get("name"):
        del where[1]  # the tag of the union, which is no key
    key, kind, value = ".".join(where), fault["type"], fault["input"]
    if kind == "extra_forbidden":
        error = unknown_key(key, value, [k for k in sorted(keys_of(raw)) if k != key])
        return error.message, error.hint
    if kind == "missing":
        return f"{key}: missing; expected a value", f"add {key}=..."
    if kind in ("union_tag_invalid", "union_tag_not_found"):
        names = ", ".join(section_names(key))
        return f"{key}.name={fault['ctx'].get('tag')}: expected one of {names}", f"write {key}=NAME"
    if kind == "model_type":
        return f"{key}={typed.get(key, shown(value))}: expected keys below it", f"write {key}.KEY=VALUE"
    if kind == "value_error":
        return f"{key}: {fault['ctx']['error']}", None
    expected = str(fault["msg"]).replace("Input should be ", "expected ")
    for pydantic, plain in PHRASES.items():
        expected = expected.replace(pydantic, plain)
    hint = None
    if kind.startswith("int") and isinstance(value, float) and value.is_integer():
        hint = f"write {key}={int(value)}"
    elif kind == "literal_error":
        guess = nearest(str(value), _choices(str(fault["ctx"]["expected"])))
        hint = f"did you mean {key}={guess}?" if guess else None
    elif value is None:
        return f"{key}: missing; {expected}", f"add {key}=..."
    return (
        f"{key}={typed.get(key, shown(value))}: {expected}",
        hint,
    )


def _choices(expected: str) -> list[str]:
    """``"'db' or 'power'"`` as a list of words."""
    return [word.strip("' ") for word in expected.replace(" or ", ",").split(",")]


def section_names(section: str) -> tuple[str, ...]:
    """The names that a group of the configuration may take, e.g. ``("audio_classifier", "linear")`` for ``model``."""
    annotation = Config.model_fields[section].annotation
    members = get_args(annotation) or (annotation,)
    return tuple(name for member in members for name in get_args(member.model_fields["name"].annotation))
