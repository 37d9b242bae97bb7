"""A small finished run of the demo, and its lab, for all tests of diagnosing."""

import shutil

import pytest

from audioclf.compose import load_config
from audioclf.diagnose.lab import Lab
from audioclf.diagnose.run import read_run
from audioclf.training.fit import fit

TINY = (
    "data.num_classes=4",
    "data.recordings_per_class=6",
    "features.n_mels=16",
    "features.hop_length=1024",
    "features.target_length=40",
    "model.hidden=16",
    "epochs=6",
    "lr=1e-3",
    "batch_size=8",
    "trainer.tensorboard=false",
)


@pytest.fixture(scope="session")
def tiny():
    """The overrides of the small run."""
    return TINY


@pytest.fixture(scope="session")
def diagnose_cache(tmp_path_factory):
    """One cache for all runs that are diagnosed: the demo's recordings are made once."""
    return tmp_path_factory.mktemp("diagnose")


@pytest.fixture(scope="session")
def finished_run(diagnose_cache):
    """A finished run's folder; not to be written to: see ``run_folder``."""
    folder = diagnose_cache / "run"
    fit(load_config([*TINY, f"paths.cache={diagnose_cache / 'cache'}"]), folder)
    return folder


@pytest.fixture
def train(diagnose_cache, tmp_path):
    """Trains the small run with other keys: ``train("lr=100")`` → its folder."""

    def trained(*words):
        config = load_config([*TINY, *words, f"paths.cache={diagnose_cache / 'cache'}"])
        return fit(config, tmp_path / "run").folder

    return trained


@pytest.fixture
def run_folder(finished_run, tmp_path):
    """A copy of the run's folder."""
    return shutil.copytree(finished_run, tmp_path / "run")


@pytest.fixture
def lab(run_folder):
    """The run on the bench, with a minute for all trials."""
    return Lab(read_run(run_folder), budget_s=60)
