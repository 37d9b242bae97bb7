"""The feature store: whole arrays or none, named by what decides them."""

import hashlib
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from audioclf.config import MelConfig
from audioclf.features.build import build_front_end
from audioclf.features.frontend import front_end_settings, settings_hash
from audioclf.features.store import FeatureStore
from audioclf.files import temporary_name

SHAPE = (3, 5)


def sha(i: int) -> str:
    return hashlib.sha256(str(i).encode()).hexdigest()


@pytest.fixture
def store(tmp_path):
    return FeatureStore(tmp_path, {"name": "x"}, SHAPE, "float32")


def test_what_is_written_is_read_back(store):
    features = np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)
    assert sha(0) not in store
    store.write(sha(0), features)
    assert sha(0) in store
    np.testing.assert_array_equal(store.read(sha(0)), features)
    np.testing.assert_array_equal(store.read_all([sha(0), sha(0)]).numpy(), [features, features])


def test_float16_is_half_the_disk_and_read_as_float32(tmp_path):
    half = FeatureStore(tmp_path, {}, SHAPE, "float16")
    half.write(sha(0), np.full(SHAPE, -41.3, np.float32))
    assert sha(0) in half
    assert half.read(sha(0)).dtype == np.float32
    assert abs(half.read(sha(0)) + 41.3).max() < 0.02


@pytest.mark.parametrize("cut", [0, 1, 60, 150])
def test_a_torn_file_is_not_there(store, cut):
    store.write(sha(0), np.ones(SHAPE, np.float32))
    content = store.path(sha(0)).read_bytes()
    store.path(sha(0)).write_bytes(content[:cut])
    assert sha(0) not in store


def test_values_that_are_not_finite_and_other_shapes_are_refused(store):
    with pytest.raises(ValueError, match="not finite"):
        store.write(sha(0), np.full(SHAPE, np.nan, np.float32))
    with pytest.raises(ValueError, match=r"\(2, 5\)"):
        store.write(sha(0), np.ones((2, 5), np.float32))
    assert sha(0) not in store


def test_begin_describes_the_front_end_and_clears_what_a_dead_process_left(store):
    store.write(sha(0), np.ones(SHAPE, np.float32))
    child = subprocess.Popen([sys.executable, "-c", "pass"])
    child.wait()
    live = temporary_name(store.path(sha(0)))
    dead = live.with_name(live.name.replace(f"-{os.getpid()}.", f"-{child.pid}."))
    settings = store.folder / dead.name.replace(f"{sha(0)}.npy", "config.json")
    for path in (live, dead, settings):
        path.touch()
    store.begin()
    assert live.exists()
    assert not dead.exists() and not settings.exists()
    assert (store.folder / "config.json").read_text().strip() == '{\n  "name": "x"\n}'


def test_the_key_holds_all_settings_but_what_is_learnt():
    def key(**changes: object) -> str:
        config = MelConfig.model_validate({"name": "mel", **changes})
        return settings_hash(front_end_settings(config, build_front_end(config).version))

    assert key() == key(normalisation="none") == key(normalisation="global")
    others = [{"n_mels": 32}, {"f_min": 20.0}, {"engine": "librosa"}, {"scale": "power"}, {"storage": "float16"}]
    assert len({key(), *(key(**change) for change in others)}) == 6


WRITER = """
import sys, hashlib, numpy as np
from pathlib import Path
from audioclf.features.store import FeatureStore
store = FeatureStore(Path(sys.argv[1]), {"name": "x"}, (64, 216), "float32")
store.begin()
print("ready", flush=True)
for i in range(100_000):
    store.write(hashlib.sha256(str(i).encode()).hexdigest(), np.full((64, 216), i + 1, np.float32))
"""


@pytest.mark.parametrize("after_s", [0.0, 0.03, 0.11])
def test_sigkill_leaves_no_row_that_is_not_data(tmp_path, after_s):
    writer = subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE)
    assert writer.stdout is not None
    writer.stdout.readline()
    time.sleep(after_s)
    os.kill(writer.pid, signal.SIGKILL)
    writer.wait()
    store = FeatureStore(tmp_path, {"name": "x"}, (64, 216), "float32")
    for i in range(100_000):
        if sha(i) not in store:
            break
        assert (store.read(sha(i)) == i + 1).all()
    assert not any(sha(j) in store for j in range(i + 1, i + 50))
    store.begin()
    assert not list(store.folder.glob("**/*.tmp"))
