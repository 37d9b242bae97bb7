"""The whole configuration, and its check."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args

from pydantic import Field, ValidationError

from audioclf.config.augment import AugmentConfig
from audioclf.config.data import CsvData, DataConfig, EscData, FolderData, LinksData
from audioclf.config.features import FeaturesConfig
from audioclf.config.fits import check_devices, check_fit
from audioclf.config.model import ModelConfig
from audioclf.config.section import CONTENT, NOT_IDENTITY, Launcher, Section
from audioclf.config.training import LossConfig, OptimizerConfig, TrainerConfig
from audioclf.config.work import DiagnoseConfig, FetchConfig, PathsConfig, SearchConfig
from audioclf.errors import UserError, nearest, shown
from audioclf.files import exists, is_dir, is_file

SectionT = TypeVar("SectionT", bound=Section)
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


class Config(Section):
    """A resolved configuration: all that decides a run."""

    lr: float = Field(gt=0, description="Adam's learning rate")
    epochs: int = Field(ge=1)
    seed: int = Field(ge=0, lt=2**32, description="initial weights and the order of batches")
    batch_size: int = Field(32, ge=1)
    sampler: Literal["shuffle", "balanced"] = Field(
        "shuffle", description="shuffle: each training clip once an epoch; balanced: each class drawn equally often"
    )
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
    augment: AugmentConfig = Field(default_factory=lambda: AugmentConfig.model_validate({}))
    loss: LossConfig
    optimizer: OptimizerConfig
    trainer: TrainerConfig
    fetch: FetchConfig = Field(json_schema_extra=NOT_IDENTITY)
    diagnose: DiagnoseConfig = Field(
        default_factory=lambda: DiagnoseConfig.model_validate({}), json_schema_extra=NOT_IDENTITY
    )
    paths: PathsConfig = Field(json_schema_extra=NOT_IDENTITY)

    def to_share(self) -> dict[str, Any]:
        """Its values as plain containers, without what may hold a password: what travels in checkpoints.

        Weights, the table of clips and the cache are named by their whole path: a checkpoint is used from other folders than
        that of training.
        """
        content: dict[str, Any] = _with_whole_paths(self).model_dump()
        content["fetch"] |= {"proxy": None, "cookies": None}
        for section, keys in (("data", ("csv", "audio_dir", "class_labels")), ("paths", ("cache",))):
            for key in keys:
                if content[section].get(key) is not None:
                    content[section][key] = str(Path(content[section][key]).absolute())
        return content


def _with_whole_paths(section: SectionT) -> SectionT:
    """A section whose weights, and those below it, are named by their whole path where they are files or folders."""
    changed: dict[str, Any] = {}
    for name, field in type(section).model_fields.items():
        value = getattr(section, name)
        if isinstance(value, Section):
            changed[name] = _with_whole_paths(value)
        elif field.json_schema_extra == CONTENT and value is not None and exists(Path(value)):
            changed[name] = str(Path(value).absolute())
    return section.model_copy(update=changed)


def parse_config(raw: Mapping[str, Any], typed: Mapping[str, str] | None = None) -> Config:
    """Checks a composed configuration.

    Args:
        raw: the composed configuration as plain containers.
        typed: the overrides as the user typed them (key → text), so that an error shows ``epochs=1e2`` and not 100.0.

    Raises:
        UserError: one line for each key that is wrong, or two keys that do not go together.
    """
    try:
        config = Config.model_validate(dict(raw))
    except ValidationError as error:
        lines, hints = [], []
        for fault in error.errors():
            line, hint = explain(dict(fault), raw, typed or {})
            lines.append(line)
            hints += [hint] if hint else []
        raise UserError("\n".join(lines), hints[0] if hints else None) from None
    check_fit(config.features, config.model, config.augment)
    check_devices(config.batch_size, config.trainer, config.model)
    _check_labels(config)
    return config


def _check_labels(config: Config) -> None:
    """Several labels a clip need a loss that knows of several, and such a loss needs them."""
    keeps, loss = config.data.multi_label == "keep", config.loss.name
    if keeps and loss != "bce":
        raise UserError(
            f"data.multi_label=keep: loss={loss} knows one label a clip; expected loss=bce",
            "add loss=bce; or data.multi_label=first, most_specific or drop leaves one label a clip",
        )
    if loss == "bce" and not keeps:
        raise UserError(
            f"loss=bce: data.multi_label={config.data.multi_label} leaves one label a clip; expected data.multi_label=keep",
            "add data.multi_label=keep; or loss=cross_entropy for one label a clip",
        )


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
    if isinstance(data, EscData | FolderData) and not is_dir(Path(data.root)):
        wanted = (
            "a folder with audio/ and meta.csv" if isinstance(data, EscData) else "a folder with one folder per class"
        )
        raise UserError(
            f"data.root={data.root}: no such folder; expected {wanted}",
            f"python train.py data={data.name} data.root=DIR",
        )
    if isinstance(data, CsvData | LinksData):
        if is_dir(Path(data.csv)):
            raise UserError(
                f"data.csv={data.csv}: a folder; expected a table of clips",
                "a folder for each class is read by: python train.py data=folder data.root=DIR",
            )
        if not is_file(Path(data.csv)):
            raise UserError(
                f"data.csv={data.csv}: no such file; expected a table of clips",
                f"python train.py data={data.name} data.csv=FILE",
            )
    if isinstance(data, LinksData) and data.class_labels is not None and not is_file(Path(data.class_labels)):
        raise UserError(
            f"data.class_labels={data.class_labels}: no such file; expected AudioSet's class_labels_indices.csv"
        )
    if isinstance(data, CsvData | LinksData) and data.audio_dir is not None and not is_dir(Path(data.audio_dir)):
        raise UserError(
            f"data.audio_dir={data.audio_dir}: no such folder; expected the one that the table's paths start from"
        )
    weights = getattr(config.features, "weights", None)
    if weights is not None and not weights.startswith(("https://", "http://")) and not is_file(Path(weights)):
        raise UserError(
            f"features.weights={weights}: no such file; expected the weights of features={config.features.name}"
        )


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
