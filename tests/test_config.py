"""The configuration: what composes, what is refused, and in which words."""

import copy
import math
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, get_args

import pytest
from hydra import compose, initialize_config_dir
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import DictConfig, OmegaConf
from pydantic import BaseModel

from audioclf import compose as composing
from audioclf.compose import conf_dir, is_base, load_config, option_content, plain
from audioclf.config import Config, Launcher, keys_of, parse_config, section_names
from audioclf.errors import UserError

GROUPS = {  # every group of conf/ with its options
    folder.name: sorted(p.stem for p in folder.glob("*.yaml") if not is_base(p))
    for folder in sorted(conf_dir().iterdir())
    if folder.is_dir() and folder.name != "hydra"
}
OPTIONS = [f"{group}={option}" for group, options in GROUPS.items() for option in options]
DEFAULTS = load_config().model_dump()
FIELDS = sorted(key for key in keys_of(DEFAULTS) if key not in DEFAULTS or not isinstance(DEFAULTS[key], dict))


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("AUDIOCLF_DATA", "AUDIOCLF_CACHE", "AUDIOCLF_OUTPUTS"):
        monkeypatch.delenv(name, raising=False)


def with_paths(option: str, folder: Path) -> list[str]:
    """An option with the folder or table that it cannot do without."""
    needed = {
        "data=csv": ["data.csv=clips.csv"],
        "data=links": ["data.csv=clips.csv"],
        "data=folder": ["data.root=clips"],
        "data=esc10": ["data.root=clips"],
        "data=esc50": ["data.root=clips"],
        "model=finetune": ["features=waveform", "model.bundle=WAV2VEC2_BASE"],
        "loss=bce": ["data.multi_label=keep"],
    }
    (folder / "clips").mkdir(exist_ok=True)
    (folder / "clips.csv").touch()
    return [option, *needed.get(option, [])]


def changed(values: dict[str, object]) -> dict[str, Any]:
    """The default configuration with other values, as plain containers."""
    raw = copy.deepcopy(DEFAULTS)
    for key, value in values.items():
        section, _, name = key.rpartition(".")
        (raw[section] if section else raw)[name] = value
    return raw


def refusal(*overrides: str) -> UserError:
    with pytest.raises(UserError) as caught:
        load_config(overrides)
    return caught.value


# --- what composes ---------------------------------------------------------------------------------------------------


def test_the_shipped_defaults_are_the_four_knobs_the_issue_names() -> None:
    config = load_config()
    assert (config.lr, config.epochs, config.batch_size, config.seed) == (3e-5, 50, 32, 0)
    assert (config.data.name, config.features.name, config.model.name) == ("demo", "mel", "audio_classifier")


@pytest.mark.parametrize("option", OPTIONS)
def test_every_option_of_every_group_composes_and_validates(option: str, tmp_path: Path) -> None:
    config = load_config(with_paths(option, tmp_path))
    group, name = option.split("=")
    if group in Config.model_fields and group not in ("trainer", "augment"):
        chosen = getattr(config, group)
        assert (chosen if group == "launcher" else chosen.name) == name


@pytest.mark.parametrize("loss", ["cross_entropy", "focal"])
def test_several_labels_and_their_loss_name_one_another(loss: str) -> None:
    keeps = refusal("data.multi_label=keep", f"loss={loss}")
    assert keeps.message.startswith(f"data.multi_label=keep: loss={loss} ") and "loss=bce" in (keeps.hint or "")
    several = refusal("loss=bce", "data.multi_label=drop")
    assert several.message.startswith("loss=bce: data.multi_label=drop ")
    assert "data.multi_label=keep" in (several.hint or "")
    assert load_config(["loss=bce", "data.multi_label=keep"]).loss.name == "bce"


def test_options_and_schema_name_the_same_choices() -> None:
    for group in ("data", "features", "model", "loss"):
        assert sorted(section_names(group)) == GROUPS[group]
    assert sorted(get_args(Launcher)) == GROUPS["launcher"]


@pytest.mark.parametrize(
    ("overrides", "lr", "epochs"),
    [
        (["lr=1e-4", "epochs=3"], 1e-4, 3),
        (["++lr=1"], 1.0, 50),
        (["lr=${optimizer.weight_decay}", "optimizer.weight_decay=0.1"], 0.1, 50),
        (["experiment=lab_report"], 1e-2, 3),
        (["lr=1e-3", "experiment=lab_report"], 1e-3, 3),
    ],
)
def test_the_knobs_are_set_by_override_and_by_experiment(overrides: list[str], lr: float, epochs: int) -> None:
    config = load_config(overrides)
    assert (config.lr, config.epochs) == (lr, epochs)


# --- schema and conf/ ------------------------------------------------------------------------------------------------


def sections(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, type[BaseModel]]]:
    """Every section of the schema with its dotted name, each option of a group on its own."""
    yield prefix, model
    for name, field in model.model_fields.items():
        for member in get_args(field.annotation) or (field.annotation,):
            if isinstance(member, type) and issubclass(member, BaseModel):
                yield from sections(member, f"{prefix}{name}.")


SECTIONS = list(sections(Config))


@pytest.mark.parametrize("knob", ["lr", "epochs", "seed", "batch_size"])
def test_a_knob_stands_once_in_the_schema_at_top_level(knob: str) -> None:
    assert [prefix for prefix, model in SECTIONS if knob in model.model_fields] == [""]


def test_an_option_may_be_called_like_a_base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(conf_dir(), tmp_path / "conf")
    shutil.copyfile(conf_dir() / "experiment" / "cnn.yaml", tmp_path / "conf" / "experiment" / "baseline.yaml")
    monkeypatch.setattr(composing, "conf_dir", lambda: tmp_path / "conf")
    assert "baseline" in composing.options("experiment")
    assert composing.options("data") == ["csv", "demo", "esc10", "esc50", "folder", "links"]


def test_conf_has_every_key_of_the_schema_and_no_other(tmp_path: Path) -> None:
    in_conf: set[str] = set()
    for option in OPTIONS:
        group, name = option.split("=")
        content = as_dict(option_content(conf_dir() / group / f"{name}.yaml"))
        in_conf |= set(keys_of({group: content} if group not in ("experiment", "launcher", "search") else content))
    in_conf |= set(keys_of(as_dict(conf_dir() / "config.yaml")))
    in_conf = {key for key in in_conf if key.partition(".")[0] not in ("defaults", "hydra")}
    assert in_conf == {f"{prefix}{name}" for prefix, model in SECTIONS for name in model.model_fields}


def as_dict(config: Path | DictConfig) -> dict[str, object]:
    content = OmegaConf.to_container(OmegaConf.load(config) if isinstance(config, Path) else config)
    assert isinstance(content, dict)
    return {str(key): value for key, value in content.items()}


def test_conf_states_each_default_of_the_schema_unless_it_betters_it() -> None:
    """A default that stands in both places is the same in both, but for those chosen for the benchmark."""
    chosen: set[str] = set()
    config = load_config()
    differing = {
        f"{prefix}{name}"
        for prefix, section in (("features.", config.features), ("trainer.", config.trainer), ("data.", config.data))
        for name, field in type(section).model_fields.items()
        if not field.is_required() and getattr(section, name) != field.default
    }
    assert differing == chosen


# --- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("override", "message", "hint"),
    [
        ("lr=-1", "lr=-1: expected a value greater than 0", None),
        ("lr=1e", "lr=1e: expected a number", None),
        ("lr=null", "lr: missing; expected a number", "add lr=..."),
        ("lr=nan", "lr=nan: expected a finite number", None),
        ("epochs=0", "epochs=0: expected a value of at least 1", None),
        ("epochs=1e2", "epochs=1e2: expected a whole number", "write epochs=100"),
        ("features.scale=dB", "features.scale=dB: expected 'db' or 'power'", "did you mean features.scale=db?"),
        ("optimizer=adam", "optimizer=adam: expected keys below it", "write optimizer.KEY=VALUE"),
    ],
)
def test_a_bad_value_is_refused_as_it_was_typed_with_what_is_expected(
    override: str, message: str, hint: str | None
) -> None:
    error = refusal(override)
    assert (error.message, error.hint) == (message, hint)


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("lr", 0.0, "a value greater than 0"),
        ("lr", math.inf, "a finite number"),
        ("lr", True, "a number"),
        ("lr", [1e-3], "a number"),
        ("epochs", 2.5, "a whole number"),
        ("seed", -1, "a value of at least 0"),
        ("seed", 2**32, "a value less than 4294967296"),
        ("batch_size", 0, "a value of at least 1"),
        ("retrain", "yes", "true or false"),
        ("data.fold", 0, "a value of at least 1"),
        ("data.folds", 1, "a value of at least 2"),
        ("data.val_fraction", 0.5, "a value less than 0.5"),
        ("data.test_fraction", 0.0, "a value greater than 0"),
        ("data.num_classes", 13, "a value of at most 12"),
        ("data.on_bad_row", "ignore", "'error' or 'skip'"),
        ("features.sample_rate", 48_000, "a value of at most 44100"),
        ("features.n_mels", 0, "a value of at least 1"),
        ("features.normalisation", "std", "'none', 'global' or 'per_band'"),
        ("model.hidden", 0, "a value of at least 1"),
        ("loss.label_smoothing", 1.0, "a value less than 1"),
        ("optimizer.weight_decay", -0.1, "a value of at least 0"),
        ("trainer.accelerator", "tpu", "'auto', 'cpu' or 'gpu'"),
        ("paths.cache", 3, "text"),
        ("lr", "one\ntwo", "a number"),
    ],
)
def test_types_and_ranges_are_checked_before_anything_is_loaded(key: str, value: object, expected: str) -> None:
    with pytest.raises(UserError) as caught:
        parse_config(changed({key: value}))
    shown = repr(value) if value == "one\ntwo" else value
    assert caught.value.message == f"{key}={shown}: expected {expected}"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"features.f_min": 20_000.0}, "features: f_min=20000 Hz is not below f_max=11025 Hz"),
        ({"features.f_max": 12_000.0}, "features: f_max=12000 Hz is above half the sample rate (11025 Hz)"),
        ({"features.n_fft": 256}, "features: hop_length=512 leaves gaps between windows of n_fft=256 samples"),
        (
            {"model.name": "vit"},
            "model.name=vit: expected one of audio_classifier, linear, cnn, attention_pool, finetune",
        ),
        (
            {"lr": -1.0, "epochs": 0},
            "lr=-1.0: expected a value greater than 0\nepochs=0: expected a value of at least 1",
        ),
    ],
)
def test_values_that_do_not_go_together_and_several_bad_ones_are_named(values: dict[str, object], message: str) -> None:
    with pytest.raises(UserError) as caught:
        parse_config(changed(values))
    assert caught.value.message == message


@pytest.mark.parametrize(
    ("overrides", "key", "hint"),
    [
        (["lr=1e-4", "optimizer.lr=0.5"], "optimizer.lr=0.5", "did you mean lr?"),
        (["features.nmels=64"], "features.nmels=64", "did you mean features.n_mels?"),
        (["model.hiden=8"], "model.hiden=8", "did you mean model.hidden?"),
        (["featres=mel"], "featres=mel", "did you mean features?"),
        (["+foo=1"], "foo=1", "`python train.py --cfg job` shows them all"),
        (["data.root=x"], "data.root=x", "data.root belongs to data=esc10 or data=esc50 or data=folder: add it"),
        (["data.csv=x"], "data.csv=x", "data.csv belongs to data=csv or data=links: add it"),
        (
            ["model=linear", "model.hidden=8"],
            "model.hidden=8",
            "model.hidden belongs to model=attention_pool or model=audio_classifier: add it",
        ),
    ],
)
def test_an_unknown_key_is_refused_with_the_nearest_right_one(overrides: list[str], key: str, hint: str) -> None:
    error = refusal(*overrides)
    assert error.message.startswith(f"{key}: no")
    assert error.hint == hint


@pytest.mark.parametrize(
    ("override", "options", "hint"),
    [
        (
            "features=mfcc",
            "mel, mel+text, text, torchaudio_bundle, torchaudio_bundle+text, transformers, transformers+text, waveform, "
            "yamnet, yamnet+text",
            None,
        ),
        ("model=linaer", "attention_pool, audio_classifier, cnn, finetune, linear", "did you mean model=linear?"),
        ("data=ESC10", "csv, demo, esc10, esc50, folder, links", "did you mean data=esc10?"),
        ("data=base", "csv, demo, esc10, esc50, folder, links", None),
        ("data=null", "csv, demo, esc10, esc50, folder, links", None),
        ("data=3", "csv, demo, esc10, esc50, folder, links", None),
        ("data=[demo,esc10]", "csv, demo, esc10, esc50, folder, links", None),
        ("data={name: demo}", "csv, demo, esc10, esc50, folder, links", None),
        ("experiment=labreport", "cnn, lab_report, low_f1, yamnet", "did you mean experiment=lab_report?"),
        ("experiment=null", "cnn, lab_report, low_f1, yamnet", None),
    ],
)
def test_an_unknown_choice_is_refused_with_those_there_are(override: str, options: str, hint: str | None) -> None:
    error = refusal(override)
    assert error.message == f"{override}: no such choice; expected one of {options}"
    assert error.hint == hint


@pytest.mark.parametrize("override", ["data.name=esc10", "model.name=linear", "features.name=foo"])
def test_a_group_is_chosen_by_its_own_key_alone(override: str) -> None:
    error = refusal(override)
    assert "the choice of" in error.message
    assert error.hint == f"write {override.replace('.name', '')}"


@pytest.mark.parametrize("override", ["lr", "=", "=5", 'lr="a', "a.b.=1", "lr=[1", f"seed={'9' * 5000}"])
def test_a_malformed_override_is_refused_by_its_own_text(override: str) -> None:
    error = refusal("epochs=3", override)
    assert error.message.startswith(override[:20])
    assert error.message.endswith("not understood; expected KEY=VALUE")
    assert len(error.message) < 300


@pytest.mark.parametrize("override", ["lr=1e-3,1e-4", "seed=range(0,3)", "model=glob(*)"])
def test_several_values_for_one_run_are_refused_with_the_way_to_sweep(override: str) -> None:
    error = refusal(override)
    assert error.message == f"{override}: several values; expected one"
    assert error.hint is not None
    assert "-m" in error.hint


@pytest.mark.parametrize(("override", "hint"), [("+lr=3", "write lr=3"), ("+model=linear", "write model=linear")])
def test_adding_what_is_there_is_refused(override: str, hint: str) -> None:
    assert refusal(override).hint == hint


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["~lr"], "lr: missing"),
        (["data=csv"], "data.csv: missing"),
        (["data=folder"], "data.root: missing"),
        (["lr=${nothing}"], "Interpolation key 'nothing' not found"),
        (["data@other=demo"], "Could not override 'data@other'"),
    ],
)
def test_what_does_not_compose_is_refused_in_one_line(overrides: list[str], message: str) -> None:
    error = refusal(*overrides)
    assert error.message.startswith(message)
    assert "\n" not in error.message


@pytest.mark.parametrize(
    ("overrides", "message", "hint"),
    [
        (["data=esc10"], "data.root=data/esc10: no such folder", "python train.py data=esc10 data.root=DIR"),
        (["data=esc10", "data.root=no"], "data.root=no: no such folder", "python train.py data=esc10 data.root=DIR"),
        (["data=folder", "data.root=no"], "data.root=no: no such folder", "python train.py data=folder data.root=DIR"),
        (["data=csv", "data.csv=no.csv"], "data.csv=no.csv: no such file", "python train.py data=csv data.csv=FILE"),
        (["data=csv", "data.csv=."], "data.csv=.: a folder", "data=folder data.root=DIR"),
        (["data=csv", f"data.csv={'n' * 300}"], "data.csv=nnn", "data=csv data.csv=FILE"),
        (["data=csv", "data.csv=here.csv", "data.audio_dir=no"], "data.audio_dir=no: no such folder", None),
    ],
)
def test_a_missing_path_is_refused_before_anything_is_loaded(
    overrides: list[str], message: str, hint: str | None
) -> None:
    Path("here.csv").touch()
    error = refusal(*overrides)
    assert error.message.startswith(message)
    assert (hint or "") in (error.hint or "")


KEYS = st.sampled_from(["lr", "epochs", "data", "data.fold", "data.csv", "model", "model.hidden", "optimizer", "paths"])
ODD = st.text(alphabet="lrdatmo01e-.=,:;[]{}()$'\"\\/~+@*% \t\n", max_size=12)


@settings(max_examples=30)
@given(override=st.one_of(st.text(max_size=12), ODD, st.builds("{}={}".format, KEYS, st.one_of(ODD, st.text()))))
def test_no_text_gives_anything_but_a_configuration_or_a_user_error(override: str) -> None:
    with suppress(UserError):
        assert isinstance(load_config([override]), Config)


NUMBERS = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=3), st.just([]), st.just({}))


@settings(max_examples=200)
@given(values=st.dictionaries(st.sampled_from(FIELDS), NUMBERS, min_size=1, max_size=3))
def test_no_value_gives_anything_but_a_configuration_or_a_user_error(values: dict[str, object]) -> None:
    try:
        config = parse_config(changed(values))
    except UserError as error:
        faults = [line.partition("=")[0].partition(":")[0] for line in error.message.splitlines()]
    else:
        faults = []
        assert 0 < config.lr < math.inf
        assert config.epochs >= 1
    assert set(faults) <= set(values) | {"data.name", "features"}


def test_every_key_of_the_schema_stands_in_a_file_so_that_it_can_be_typed() -> None:
    """A key that has its default in the schema alone is refused on the command line."""
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        written = set(keys_of(plain(compose("config"))))
    known = set(keys_of(load_config().model_dump()))
    assert {key for key in known - written if not key.startswith("search.")} == set()
