"""What the shipped settings promise, on whole data sets: minutes, so slow."""

import statistics

import pytest

from audioclf.compose import load_config
from audioclf.training.fit import Run, fit

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def train(tmp_path_factory):
    """Trains with overrides, in a cache of this module."""
    folder = tmp_path_factory.mktemp("experiments")

    def run(*overrides: str) -> Run:
        config = load_config([*overrides, f"paths.cache={folder}", "trainer.tensorboard=false"])
        return fit(config, folder / "outputs" / "-".join(o.rsplit("/")[-1] for o in overrides))

    return run


@pytest.mark.parametrize("fold", range(1, 6))
def test_the_lab_reports_settings_fail_on_esc10(train, shared_data, fold):
    root = shared_data("esc10")
    result = train("data=esc10", f"data.root={root}", "experiment=lab_report", f"data.fold={fold}").result
    assert result["test"]["f1_macro"] <= 0.15
    assert result["chance"]["stratified"] < 0.15


def test_the_defaults_reach_the_reference_on_esc10(train, shared_data):
    root = shared_data("esc10")
    runs = [train("data=esc10", f"data.root={root}", f"data.fold={fold}") for fold in range(1, 6)]
    assert statistics.mean(run.result["test"]["accuracy"] for run in runs) >= 0.60  # one seed: .613 to .652 seen


def test_the_convolutional_network_reaches_its_promise_on_esc10(train, shared_data):
    root = shared_data("esc10")
    runs = [train("data=esc10", f"data.root={root}", "experiment=cnn", f"data.fold={fold}") for fold in range(1, 6)]
    assert statistics.mean(run.result["test"]["f1_macro"] for run in runs) >= 0.80


def test_a_pretrained_embedding_reaches_its_promise_on_esc10(train, shared_data):
    words = [f"data.root={shared_data('esc10')}", f"features.weights={shared_data('models/yamnet.tflite')}"]
    runs = [train("data=esc10", "experiment=yamnet", *words, f"data.fold={fold}") for fold in range(1, 6)]
    assert statistics.mean(run.result["test"]["f1_macro"] for run in runs) >= 0.96


def test_the_demo_is_neither_trivial_nor_hopeless(train):
    healthy, lab = train("data=demo").result, train("data=demo", "experiment=lab_report").result
    assert 0.5 <= healthy["test"]["f1_macro"] <= 0.95
    assert lab["test"]["f1_macro"] <= 0.15
