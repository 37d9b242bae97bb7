import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audioclf.compose import load_config, parse_overrides
from audioclf.diagnose.command import hydra_value, overrides_of, train_command


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["experiment=lab_report"],
        ["model=linear", "lr=1e-2", "optimizer.schedule=cosine", "data.classes=[dog,rain]"],
        ["features.f_max=8000", "paths.cache='a folder, with = and #'", "trainer.select=last"],
    ],
)
def test_command_composes_the_same_configuration(words):
    config = load_config(words)
    assert load_config(overrides_of(config)) == config


@pytest.mark.parametrize("source", ["esc10", "folder"])
def test_command_names_the_data(tmp_path, source):
    (tmp_path / "audio").mkdir()
    (tmp_path / "meta.csv").write_text("filename,fold,target,category,src_file,take\n")
    config = load_config([f"data={source}", f"data.root={tmp_path}"])
    command = train_command(config)
    assert f"data={source}" in command and f"data.root={tmp_path}" in command
    assert load_config(shlex.split(command)[2:]) == config


def test_repair_takes_the_place_of_the_runs_own_keys():
    config = load_config(["lr=1e-2", "epochs=3"])
    assert train_command(config, ["lr=1e-5"]) == "python train.py epochs=3 lr=1e-5"


TEXT = st.text(st.characters(blacklist_categories=("Cs", "Cc"), blacklist_characters="$"), min_size=1, max_size=20)
VALUES = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), TEXT)


@given(st.one_of(VALUES, st.lists(TEXT, max_size=3)))
def test_any_value_comes_back_as_it_was(value):
    (override,) = parse_overrides([f"key={hydra_value(value)}"])
    found = override.value()
    found = [getattr(x, "text", x) for x in found] if isinstance(found, list) else getattr(found, "text", found)
    assert found == value and (isinstance(value, float) or type(found) is type(value))  # a 2 is read as 2.0


def test_learning_rates_are_written_as_people_write_them():
    assert [hydra_value(v) for v in (1e-5, 0.01, 3e-4, 0.00012345, 2.0)] == ["1e-5", "1e-2", "3e-4", "1.2345e-4", "2"]
