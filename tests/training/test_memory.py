"""Runs one after another in one process, as in a sweep."""

import gc

from audioclf.training.fit import fit
from audioclf.training.module import ClassifierModule


def test_a_finished_run_leaves_no_model_behind(tmp_path, tiny_config):
    gc.collect()
    before = _models()
    gc.disable()  # what is left must be let go by the run itself
    try:
        for seed in range(2):
            fit(tiny_config(seed=seed), tmp_path / str(seed))
            assert _models() == before
    finally:
        gc.enable()


def _models() -> int:
    return sum(type(thing) is ClassifierModule for thing in gc.get_objects())
