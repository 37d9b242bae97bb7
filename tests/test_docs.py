"""Every command in the README and in docs/ runs, on tiny data."""

import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
import soundfile

from audioclf.compose import load_config
from audioclf.config import Config, keys_of

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")])
COMMAND = re.compile(r"^(?:python|make|tensorboard) .*$", re.MULTILINE)
INLINE = re.compile(r"`((?:python|make|tensorboard) [^`]+)`")
RATE = 8_000
FEW = {  # as many axes, fewer values
    **{"epochs": "1,2", "seed": "0,1", "lr": "1e-3", "data.fold": "1", "search.trials": "2"},
    "loss.class_weights": "balanced",
    "sampler": "balanced",
}
FEWER = re.compile(rf"^({'|'.join(map(re.escape, FEW))})=(?!interval).*")
TINY = {
    "data.num_classes": "2",
    "data.recordings_per_class": "3",
    "features.n_mels": "8",
    "features.target_length": "20",
    "model.hidden": "8",
}

USED = {  # what a trained model is used on, and what comes of it
    "outputs/RUN": "used",
    "dog.wav": "folder/low/0.wav",
    "hour.wav": "folder/low/1.wav",
    "recordings/": "folder/high",
    "TABLE": "folder/clips.csv",
    **{name: f"made/{name}" for name in ("predictions.jsonl", "embeddings.parquet", "projector", "model.onnx")},
}


def commands(page: Path) -> list[str]:
    text = page.read_text()
    blocks = "\n".join(re.findall(r"```bash\n(.*?)```", text, re.DOTALL))
    return [c.split("  #")[0].strip() for c in COMMAND.findall(blocks) + INLINE.findall(text)]


ALL = sorted({command for page in PAGES for command in commands(page)})
TRAIN = [c for c in ALL if c.startswith("python train.py")]
MAKE = [c for c in ALL if c.startswith("make ")]
OTHER = [c for c in ALL if c not in TRAIN + MAKE]


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """A folder for all commands: they share one cache, so that demo recordings are synthesised once."""
    return tmp_path_factory.mktemp("docs")


@pytest.fixture(scope="module")
def material(work):
    """What stands for DIR and TABLE: a folder per class, the same as ESC, as a table, and as links with files."""
    names = [(label, i) for label in ("low", "high") for i in range(10)]
    esc, links = ["filename,fold,target,category,src_file,take"], ["url,label"]
    table = ["path,label"]
    for label, i in names:
        hertz = (200 if label == "low" else 2000) + 10 * i
        tone = 0.5 * np.sin(2 * np.pi * hertz * np.arange(RATE) / RATE)
        for path in (f"folder/{label}/{i}.wav", f"esc/audio/{label}{i}.wav", f"held/{label}_{i}.wav"):
            (work / path).parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(work / path, tone, RATE)
        esc.append(f"{label}{i}.wav,{i % 5 + 1},0,{label},{label}{i},A")
        links.append(f"https://youtu.be/{label}_{i},{label}")
        table.append(f"{label}/{i}.wav,{label}")
    named = ["file,label", *table[1:]]
    tables = {"esc/meta.csv": esc, "held/links.csv": links, "folder/clips.csv": table, "named.csv": named}
    for path, lines in tables.items():
        (work / path).write_text("\n".join(lines) + "\n")
    return work


@pytest.fixture(scope="module")
def web(material):
    """What stands for TABLE where clips are fetched: links to the same files on a server of this machine."""
    script = ROOT / "tests" / "fetch" / "server.py"
    with subprocess.Popen(
        [sys.executable, script, material / "held"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as server:
        port = int(server.stdout.readline())
        names = sorted(path.name for path in (material / "held").glob("*.wav"))
        lines = [f"http://127.0.0.1:{port}/{name},{name.split('_')[0]}" for name in names]
        table = material / "web.csv"
        table.write_text("\n".join(["url,label", *lines]) + "\n")
        yield [f"data.csv={table}", "fetch.allow_private=true", "fetch.sleep=0", "fetch.per_hour=null"]
        server.stdin.close()


@pytest.fixture
def run(launch, work):
    """Runs ``python ...`` to its end: its exit status and what it printed."""

    def start(*words):
        folders = {"AUDIOCLF_CACHE": str(work / "cache"), "AUDIOCLF_OUTPUTS": str(work / "outputs")}
        program = launch(*words, cwd=ROOT, **folders)
        return program.wait(280), program.printed

    return start


def test_there_are_commands_to_check():
    assert len(TRAIN) > 5
    assert len(MAKE) > 3
    assert len(OTHER) > 1


@pytest.mark.parametrize("command", TRAIN)
def test_train_command(command, material, web, shared_data, run, request):
    words = shlex.split(command)[2:]
    sweep = "-m" in words or "experiment=low_f1" in words
    data = next((word.removeprefix("data=") for word in words if word.startswith("data=")), "demo")
    for i, word in enumerate(words):
        words[i] = {
            "data.root=DIR": f"data.root={material / ('folder' if data == 'folder' else 'esc')}",
            "data.csv=TABLE": f"data.csv={material / 'folder' / 'clips.csv'}" if data == "csv" else word,
        }.get(word, word)
    if data == "links":
        words = [word for word in words if word != "data.csv=TABLE"] + web
    tiny = [f"{key}={value}" for key, value in TINY.items() if data == "demo" or not key.startswith("data.")]
    if {"model=linear", "model=finetune", "experiment=cnn", "experiment=yamnet"} & set(words):
        tiny.remove("model.hidden=8")
    if "model=finetune" in words:
        tiny = [word for word in tiny if not word.startswith("features.")] + ["features.seconds=0.5"]
        encoder = request.getfixturevalue("tiny_encoders")["wav2vec2"]
        words = [f"model.model={encoder}" if word == "model.bundle=BUNDLE" else word for word in words]
    if {"features=yamnet", "experiment=yamnet"} & set(words):
        tiny = [word for word in tiny if not word.startswith("features.")]
        tiny += [f"features.weights={shared_data('models/yamnet.tflite')}", "features.seconds=1.0"]
    if sweep:
        words = [re.sub(FEWER, lambda m: f"{m[1]}={FEW[m[1]]}", word) for word in words]
        if "data.multi_label=keep" in words:
            words[words.index("fold=all")] = "data.fold=1,2"
        if "experiment=low_f1" in words:  # its axes stand in its file
            words += ["lr=1e-3", "epochs=1,2", "features.normalisation=none,per_band", "seed=0"]
        if "experiment=cnn" in words:
            words.append("epochs=1")
    else:
        words = [word for word in words if not word.startswith("epochs=")] + ["epochs=1"]
    status, printed = run("train.py", *words, *tiny, "trainer.tensorboard=false")
    assert status == 0, printed


@pytest.mark.parametrize("command", MAKE)
def test_make_command_names_a_target(command):
    target = shlex.split(command)[1]
    finished = subprocess.run(["make", "--dry-run", target], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert finished.returncode == 0, finished.stderr


@pytest.mark.parametrize("command", OTHER)
def test_other_command(command, material, web, run):
    words = shlex.split(command)
    if words[0] == "tensorboard":
        assert words[1] == "--logdir" and words[2] in ("outputs", "projector")
        return
    if words[1:4] == ["-m", "pip", "install"]:
        extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
        assert words[4] in {f"audioclf[{extra}]" for extra in extras}
        return
    if words[:3] == ["python", "-m", "benchmarks.mixtures"]:
        (material / "data").mkdir()
        (material / "data" / "esc10").symlink_to(material / "esc")
        environment = os.environ | {"AUDIOCLF_DATA": str(material / "data")}
        mix = [sys.executable, *words[1:3], str(material / "mixtures")]
        finished = subprocess.run(mix, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=280)
        assert finished.returncode == 0, finished.stderr
        assert finished.stdout.endswith("clips.csv: 10 mixtures\n")
        return
    if words[:3] == ["python", "-m", "benchmarks.planted_faults"]:  # hours: tests/diagnose runs one case
        status, printed = run(*words[1:], "--help")
        assert status == 0, printed
        return
    assert words[:3] == ["python", "-m", "audioclf"], command
    kind, said = words[3], ""
    if kind == "fetch":
        said = "recordings" if "--plan" in words else "20"
        words = [word for word in words if word != "data.csv=TABLE"] + web
    elif kind == "import":
        said = "20 ok"
        words = [w.replace("TABLE", str(material / "held" / "links.csv")) for w in words]
        words = [w.replace("DIR", str(material / "held")) for w in words]
    elif kind == "compare":
        said = "val F1"
        tiny = [f"{key}={value}" for key, value in TINY.items()]
        for seed in ("0", "1"):
            run("train.py", *tiny, "epochs=1", f"seed={seed}", "trainer.tensorboard=false")
        words = [w.replace("outputs", str(material / "outputs")) for w in words]
    elif kind == "diagnose":
        said = "F1"
        fault = ["lr=0.1", "features.normalisation=none", "epochs=12", "trainer.tensorboard=false"]
        tiny = [f"{key}={value}" for key, value in TINY.items()]
        run("train.py", *tiny, *fault, f"hydra.run.dir={material / 'faulty'}")
        (material / "record.csv").write_text("target,predicted\ndog,dog\ncat,dog\n" * 5)
        stand_in = {"outputs/RUN": "faulty", "predictions.csv": "record.csv"}
        words = [str(material / stand_in[word]) if word in stand_in else word for word in words]
    elif kind in ("predict", "embed", "export"):
        said = {
            "predict": "" if "--out" in words else "file,start,end",
            "embed": "20 points" if "--projector" in words else "written to",
            "export": "differ by",
        }[kind]
        stand_in = USED | ({"TABLE": "named.csv"} if "data.columns.path=file" in words else {})
        words = [str(material / stand_in[word]) if word in stand_in else word for word in words]
        words = [word.replace("=DIR", f"={material / 'folder'}") for word in words]
        tiny = [f"{key}={value}" for key, value in TINY.items()]
        used = f"hydra.run.dir={material / USED['outputs/RUN']}"
        run("train.py", *tiny, "epochs=1", "trainer.tensorboard=false", used)
    status, printed = run(*words[1:])
    assert status == 0, printed
    assert said in printed


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_configuration_page_has_every_key():
    page = (ROOT / "docs" / "configuration.md").read_text()
    keys = [key for key in keys_of(load_config().model_dump()) if not key.endswith(".name")]
    missing = [key for key in keys if f"`{key}`" not in page and key not in Config.model_fields]
    assert not missing
