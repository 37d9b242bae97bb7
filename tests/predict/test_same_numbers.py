"""A checkpoint alone, in a fresh process, gives the run's own saved logits from the original files: every front-end, every model.

Found by listing conf/, as in ``tests/test_every_config.py``, whose tiny settings it takes.
"""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pyarrow.parquet as pq
import pytest
from torchaudio import pipelines

from audioclf.compose import load_config
from audioclf.training.fit import fit

PROGRAM = """
import json, sys
from torchaudio import pipelines
from audioclf import load
# the small bundle is one of torchaudio's own in this process, too
pipelines.TINY = pipelines.Wav2Vec2Bundle("", json.loads(sys.argv[2]), 16_000, _normalize_waveform=True, _model_type="Wav2Vec2")
answers = {}
for checkpoint in sys.argv[3:]:
    found = load(checkpoint, device="cpu").predict([sys.argv[1]])
    answers[checkpoint] = {p.clip: [p.status, p.logits.tolist()] for p in found}
print(json.dumps(answers))
"""


def _every_config() -> ModuleType:
    spec = importlib.util.spec_from_file_location("every_config", Path(__file__).parents[1] / "test_every_config.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


EVERY = _every_config()
CHOICES = [
    *(choice for choice in EVERY.choices() if choice.partition("=")[0] in ("features", "model")),
    *("features.engine=librosa", "features.normalisation=none", "features.storage=float16", "features.scale=power"),
]


features_for = EVERY.features_for


@pytest.fixture(scope="module")
def both(
    features_for: Callable[[str], list[str]],
    tiny_bundle: tuple[str, Path],
    tiny_cache: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, tuple[dict, dict]]:
    """For each choice: what the run saved, and what a fresh process says with nothing but the checkpoint and the table."""
    folder = tmp_path_factory.mktemp("same")
    (table,) = EVERY.table(folder / "data")
    saved, alone = {}, {}
    for number, choice in enumerate(CHOICES):
        group, _, option = choice.partition("=")
        overrides = ["data=csv", table, f"paths.cache={tiny_cache}", "trainer.tensorboard=false"]
        overrides += [choice, "epochs=2", "lr=1e-3", "trainer.keep_state=false"]
        if choice == "model=finetune":
            overrides += ["features=waveform", "features.seconds=0.5"]
        else:
            overrides += features_for(option if group == "features" else "mel")
        overrides += features_for(option if group == "model" else "audio_classifier")
        run = fit(load_config(overrides), folder / f"run{number}")
        known = pq.read_table(run.folder / "predictions.parquet").to_pydict()
        saved[choice] = dict(zip(known["clip"], known["logits"], strict=True))
        alone[choice] = shutil.copyfile(run.folder / "checkpoints" / "model.ckpt", folder / f"alone{number}.ckpt")
        shutil.rmtree(run.folder)
    bundle = json.dumps(getattr(pipelines, tiny_bundle[0])._params)
    command = [sys.executable, "-c", PROGRAM, table.partition("=")[2], bundle, *map(str, alone.values())]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    return {choice: (saved[choice], found[str(alone[choice])]) for choice in CHOICES}


@pytest.mark.parametrize("choice", CHOICES)
def test_a_checkpoint_alone_gives_the_runs_saved_logits(choice: str, both: dict[str, tuple[dict, dict]]) -> None:
    saved, found = both[choice]
    assert set(saved) == set(found) and len(saved) == 30
    for clip, logits in saved.items():
        status, predicted = found[clip]
        assert status == "ok"
        np.testing.assert_allclose(predicted, logits, rtol=0, atol=1e-5)


def test_a_light_import_is_enough_until_a_model_is_loaded() -> None:
    program = "import sys, audioclf; audioclf.load; print(sorted({'torch', 'numpy', 'hydra'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_rates_channels_and_formats_of_the_original_do_not_matter(
    run_folder: Path, tones: Path, tmp_path: Path, launch: Callable, model
) -> None:
    import soundfile

    table = pq.read_table(run_folder / "predictions.parquet").to_pydict()
    saved = dict(zip(table["clip"], table["logits"], strict=True))
    samples, rate = soundfile.read(tones.parent / "low0.wav", dtype="float32")
    (tmp_path / "low0").mkdir()
    soundfile.write(tmp_path / "low0" / "two.flac", np.stack([samples, samples], 1), rate, subtype="PCM_16")
    soundfile.write(tmp_path / "low0" / "float.wav", samples, rate, subtype="FLOAT")
    (tmp_path / "t.csv").write_text("path,start,end,id\nlow0/two.flac,0.5,1.0,b\nlow0/float.wav,0,0.5,a\n")
    second, first = model.predict(tmp_path / "t.csv")
    np.testing.assert_allclose(first.logits, saved["low0_0"], rtol=0, atol=1e-5)
    np.testing.assert_allclose(second.logits, saved["low0_0.5"], rtol=0, atol=1e-5)
    assert first.labels == ()
