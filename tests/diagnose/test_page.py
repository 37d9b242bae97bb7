"""``diagnosis.html`` in a real browser: that it says what the diagnosis says, loads nothing, and can be listened to."""

from __future__ import annotations

import html
import io
import math
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from audioclf.diagnose.diagnosis import Diagnosis, NotRun, Step
from audioclf.diagnose.figures import curves, read_test, waterfall
from audioclf.diagnose.lab import Lab
from audioclf.diagnose.listening import LONGEST_S, RATE, seen_part, sound, spectrograms, worst_mistakes
from audioclf.diagnose.page import MISTAKES, page
from audioclf.diagnose.page import said as typeset
from audioclf.diagnose.record import diagnose_record, write_record
from audioclf.diagnose.report import write_diagnosis
from audioclf.diagnose.run import read_run
from audioclf.diagnose.verdict import Gap, Verdict
from audioclf.training.scores import macro_f1

NASTY = '"><script>document.title=1</script><img src=x onerror="document.title=1">'
SUSPECT = {"clip": "clip-7", "label": "dog", "suggested": "cat", "score": 0.98}
VERDICTS = [
    Verdict(
        "lr_too_high", "explains", 0.784, (0.61, 1.0), ["F1 0.08 -> 0.63", "a jump of 980"], ["lr=1e-5"], {"jump": 980}
    ),
    Verdict("bad_clips", "contributes", 0.2, (-0.1, 0.3), ["half are silent"], "drop them", {}),
    Verdict("label_noise", "undetermined", None, None, ["12 % look wrong"], None, {"suspects": [SUSPECT]}),
    *(Verdict(f"cause_{i}", "cleared", None, None, [f"nothing at {i}"], None, {}) for i in range(12)),
]
STEPS = [
    Step("guessing", 0.1, None, "level"),
    Step("this run", 0.17, (0.1, 0.24), "level"),
    Step("mended: the learning rate is too high", 0.36, (0.3, 0.4), "gain", "lr_too_high"),
    Step("mended: clips are broken", -0.04, (-0.08, 0.01), "gain", "bad_clips"),
    Step("not explained", 0.3, None, "rest"),
    Step("best probe", 0.79, None, "level"),
]


@pytest.fixture(scope="module")
def bench(finished_run: Path) -> Lab:
    """A run on the bench with its base trial and a column of levels; read only."""
    lab = Lab(read_run(finished_run), budget_s=60)
    assert lab.gap.base > 0  # trains the base
    lab.note("rms_db", [*np.linspace(-60, -10, len(lab.everything) - 1).tolist(), None])
    return lab


@pytest.fixture(scope="module")
def diagnosis(bench: Lab) -> Diagnosis:
    return Diagnosis(
        run=str(bench.run.folder.path),
        summary="The F1 of 0.08 is what it is because the learning rate is too high (78%).",
        healthy=False,
        verdicts=VERDICTS,
        gap=Gap(chance=0.1, test=0.083, base=0.17, probe=0.79, reference=0.81),
        steps=STEPS,
        command="python train.py lr=1e-5 'data.classes=[a,\"b\"]'",
        not_run=[NotRun("frozen_embedding", "takes about 90 s")],
        seconds={"lr_too_high": 3.25, "attribution": 1.0},
        facts={
            "scores": {"train": 0.8, "test": 0.083},
            "interval": [0.05, 0.12],
            "preflight": [{"sentence": "a jump"}],
        },
        titles={"lr_too_high": "the learning rate is too high"},
    )


@pytest.fixture(scope="module")
def written(diagnosis: Diagnosis, bench: Lab, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_diagnosis(diagnosis, tmp_path_factory.mktemp("page"), bench)


def words(content: str) -> str:
    """The text of a page."""
    return " ".join(html.unescape(re.sub(r"<[^>]+>", "", content)).split())


def test_the_page_says_what_the_diagnosis_says(diagnosis: Diagnosis, written: Path):
    content = written.read_text()
    said = words(content[content.index("<body>") :])
    for part in (
        *(
            diagnosis.summary.replace("78%", "78 %"),
            diagnosis.command,
            "78 % [61, 100]",
            "20 % [−10, 30]",
            "Mended by lr=1e-5",
            "drop them",
        ),
        *("test F10.08", "out of fold0.17", "best probe0.79", "best reached0.81", "guessing0.10"),
        "frozen embedding: takes",
        *(
            "clip-7dogcat0.98",
            '"jump": 980',
            "train 0.8, test 0.083",
            "0.05, 0.12",
            "a jump",
            "It took 4 s",
            "lr_too_highexplains3.2",
        ),
    ):
        assert part in said, part
    for verdict in diagnosis.verdicts:
        assert all(sentence.replace("->", "→") in said for sentence in verdict.evidence)
    assert "12 causes looked for and not found" in said
    assert "--m:78%;--l:61%;--h:100%" in content and "--m:20%;--l:0%;--h:30%" in content
    assert len(content) < 1_500_000


def test_signs_are_those_of_print():
    printed = {
        "F1 0.11 -> 0.08, -0.03 [-0.1, +0.2]": "F1 0.11 → 0.08, −0.03 [−0.1, +0.2]",
        "53% and 5 %": "53\N{NO-BREAK SPACE}% and 5\N{NO-BREAK SPACE}%",
        "lr=1e-4 seed=-1 16-bit ESC-10": "lr=1e-4 seed=-1 16-bit ESC-10",
    }
    for typed, expected in printed.items():
        assert html.unescape(re.sub(r"<[^>]+>", "", typeset(typed))) == expected


def test_every_figure_that_a_run_gives_is_there(written: Path):
    names = re.findall(r"<figure id=(\w+)>", written.read_text())
    assert names == ["waterfall", "curves", "confusion", "confidence", "clips", "levels"]


def test_the_waterfall_stands_floats_and_ends_where_its_steps_do():
    bars = waterfall(STEPS).figure.axes[0].patches
    ends = [(round(bar.get_x(), 6), round(bar.get_x() + bar.get_width(), 6)) for bar in bars]
    assert ends == [(0, 0.1), (0, 0.17), (0.17, 0.53), (0.53, 0.49), (0.49, 0.79), (0, 0.79)]
    assert [bar.get_hatch() for bar in bars] == [None, None, None, None, "////", None]
    assert waterfall([]) is None


def test_the_waterfall_says_where_a_run_lies_below_guessing():
    def labels(run: float) -> list[str]:
        steps = [STEPS[0], replace(STEPS[1], value=run), STEPS[5]]
        return [text.get_text() for text in waterfall(steps).figure.axes[0].texts]

    assert labels(0.04) == ["0.10", "0.04, below guessing", "0.79"]
    assert labels(0.099) == ["0.10", "0.10", "0.79"] and labels(0.5) == ["0.10", "0.50", "0.79"]


def test_nothing_is_written_into_the_loss_curves(bench: Lab):
    _, loss = curves(bench).figure.axes
    assert not loss.texts and loss.get_title(loc="right").startswith("— guessing: ln ")


def test_the_worst_mistakes_are_wrong_and_in_the_order_of_their_loss(bench: Lab):
    worst = worst_mistakes(bench, 1000)
    by_id = dict(zip(bench.test.ids, bench.test.targets.tolist(), strict=True))
    wrong = [i for i, t in by_id.items() if int(bench.predictions[i].argmax()) != t]
    assert sorted(one.clip.id for one in worst) == sorted(wrong) and wrong
    assert [one.loss for one in worst] == sorted((one.loss for one in worst), reverse=True)
    first = worst[0]
    p = torch.softmax(torch.tensor(bench.predictions[first.clip.id]).double(), 0)
    assert first.sure == pytest.approx(float(p.max()))
    assert first.loss == pytest.approx(-math.log(p[by_id[first.clip.id]]))
    assert [one.clip.id for one in worst_mistakes(bench, 2)] == [one.clip.id for one in worst[:2]]


def test_all_test_predictions_are_counted(bench: Lab):
    targets, logits = read_test(bench)
    assert macro_f1(targets, logits.argmax(1), logits.shape[1]) == pytest.approx(bench.run.result["test"]["f1_macro"])


def test_the_sound_is_the_part_of_the_clip_that_the_model_sees(bench: Lab):
    clip, config = bench.test.clips[0], bench.config.features
    samples, rate = soundfile.read(io.BytesIO(sound(bench, clip)))
    seconds = config.target_length * config.hop_length / config.sample_rate
    assert rate == RATE and samples.ndim == 1
    assert len(samples) / rate == pytest.approx(
        min(seconds, len(bench.samples(clip)) / bench.rate, LONGEST_S), abs=0.01
    )
    ramp = np.arange(10_000.0)
    part = seen_part(ramp, config.sample_rate // 20, config)
    assert part[0] + part[-1] == pytest.approx(ramp[-1], abs=1), "the middle"
    assert np.array_equal(seen_part(ramp[:50], config.sample_rate, config), ramp[:50])


def test_features_without_two_axes_have_no_picture():
    plane = torch.linspace(-100, 0, 60).reshape(6, 10)
    assert spectrograms([torch.zeros(5), plane])[0] is None
    assert spectrograms([plane, plane * 0])[0].startswith(b"\x89PNG")
    assert spectrograms([torch.full((2, 2), torch.nan)])[0].startswith(b"\x89PNG")


@pytest.mark.parametrize(("width", "scheme"), [(1366, "light"), (390, "dark")])
def test_it_opens_from_the_disk_without_network_errors_or_sideways_scrolling(browser, written, width, scheme):
    browser.open(written, width, scheme=scheme)
    browser.run("document.querySelectorAll('details').forEach(d => d.open = true)")
    asked = [params["request"]["url"] for method, params in browser.events if method == "Network.requestWillBeSent"]
    assert [url[:80] for url in asked if not url.startswith(("file:", "data:"))] == []
    assert len([url for url in asked if url.startswith("file:")]) == 1  # the page itself
    said = [
        e for e in browser.events if e[0] in ("Log.entryAdded", "Runtime.consoleAPICalled", "Runtime.exceptionThrown")
    ]
    assert said == []
    assert browser.run("document.documentElement.scrollWidth") == width
    ends = browser.run(
        "[...document.querySelectorAll('h1,p,td,.plot,dd,audio,img')].map(e => e.getBoundingClientRect().right)"
    )
    assert max(ends) <= width
    sizes = browser.run(
        "[...document.querySelectorAll('svg text')].map(t => parseFloat(getComputedStyle(t).fontSize)"
        " * t.closest('svg').getBoundingClientRect().width / t.closest('svg').viewBox.baseVal.width)"
    )
    assert min(sizes) > 9, "letters can be read on a phone"


def test_every_sound_can_be_played_and_every_picture_is_seen(browser, bench, written):
    browser.open(written)
    loaded = (
        "Promise.all([...document.querySelectorAll('audio')].map(a => a.readyState ? a.duration :"
        " new Promise((yes, no) => { a.onloadedmetadata = () => yes(a.duration); a.onerror = () => yes(-1); })))"
    )
    seconds = browser.run(loaded)
    assert len(seconds) == min(MISTAKES, len(worst_mistakes(bench, 1000)))
    assert min(seconds) > 0.5
    assert browser.run("[...document.querySelectorAll('.mistakes img')].every(i => i.naturalWidth > 0)") is True


def test_the_button_copies_the_command(browser, diagnosis, written):
    browser.open(written)
    assert browser.run("document.querySelector('.line button').checkVisibility()") is True
    browser.run("window.copied = []; navigator.clipboard.writeText = async (t) => { copied.push(t); }")
    browser.run("document.querySelector('.line button').click()")
    assert browser.run("copied") == [diagnosis.command]
    browser.run("navigator.clipboard.writeText = async () => { throw new Error('no'); }")
    browser.run("document.querySelector('.line button').click()")
    assert browser.run("getSelection().toString()") == diagnosis.command


def test_without_a_script_all_content_is_there(browser, written):
    browser.open(written, script=False)
    browser.send("Emulation.setScriptExecutionDisabled", value=False)
    assert browser.run("document.querySelector('.line button').checkVisibility()") is False
    assert browser.run("document.querySelector('.line code').checkVisibility()") is True
    assert browser.run("[...document.querySelectorAll('.causes tr.explains')].every(r => r.checkVisibility())") is True


def test_names_from_data_are_text_and_run_nothing(browser, bench, diagnosis, tmp_path, monkeypatch):
    verdicts = [
        Verdict("label_noise", "explains", 1.0, (1.0, 1.0), [NASTY, NASTY], [NASTY], {"suspects": [{NASTY: NASTY}]}),
        Verdict(NASTY, "undetermined", None, None, [NASTY], NASTY, {NASTY: [NASTY]}),
    ]
    odd = replace(
        diagnosis,
        run=f"/nowhere/{NASTY.replace('/', '')}",
        summary=NASTY,
        verdicts=verdicts,
        steps=[Step(NASTY, 0.5, None, "level")],
        command=NASTY,
        not_run=[NotRun(NASTY, NASTY)],
        seconds={NASTY: 1.0},
        facts={NASTY: [NASTY, {NASTY: NASTY}]},
        titles={"label_noise": NASTY},
    )
    classes = [NASTY, *bench.data.classes[1:]]
    monkeypatch.setattr(bench.data, "classes", classes)
    monkeypatch.setitem(bench.__dict__, "test", replace(bench.test, classes=[NASTY] * len(classes)))
    browser.open(write_diagnosis(odd, tmp_path, bench))
    assert browser.run("document.querySelectorAll('script, img:not(.mistakes img)').length") == 1  # the page's own
    assert browser.run("document.querySelector('h1').textContent") == NASTY
    assert browser.run("document.title") == f"Diagnosis of {NASTY.replace('/', '')}"
    assert browser.run("document.querySelector('.mistakes b:nth-of-type(2)').textContent") == NASTY
    names = browser.run("[...document.querySelectorAll('#clips svg text')].map(t => t.textContent)")
    assert any(name.startswith(NASTY[:20]) for name in names)


def test_a_bare_record_has_a_page_that_says_what_is_missing(browser, diagnosis, tmp_path):
    record = replace(
        diagnosis,
        run="records/predictions.csv",
        summary="F1 0.09 may be chance. Why cannot be told.",
        gap=None,
        steps=[],
        command=None,
        seconds={},
        not_run=[],
        verdicts=[
            Verdict("overfitting", "undetermined", None, None, ["the F1 on train is missing"], None, {}),
            *(
                Verdict(cause, "undetermined", None, None, ["not to be told without the clips"], None, {})
                for cause in ("bad_clips", "shift")
            ),
        ],
    )
    browser.open(write_diagnosis(record, tmp_path))
    said = words((tmp_path / "diagnosis.html").read_text())
    assert "share of the gap" not in said.partition("How to read it")[0], "no column that would be empty"
    assert "2 causes of which the record says nothing" in said
    assert browser.run("[...document.querySelectorAll('details tr.undetermined')].length") == 2
    assert "the F1 on train is missing" in said and "nothing is convicted" in said
    assert browser.run("[...document.querySelectorAll('h1, .lead')].map(e => e.textContent)") == [
        "F1 0.09 may be chance.",
        "Why cannot be told.",
    ]
    assert browser.run("document.querySelectorAll('figure, audio, .line').length") == 0
    assert browser.run("document.querySelector('.facts').checkVisibility()") is False, "folded, below the causes"
    assert not [e for e in browser.events if e[0] in ("Log.entryAdded", "Runtime.exceptionThrown")]


def test_the_page_of_predictions_says_once_what_would_tell_more(browser, write_file):
    right = [(label, label) for label in ("cat", "cow", "dog") for _ in range(12)]
    rows = [(a, {"cat": "cow", "cow": "dog", "dog": "cat"}[b] if i % 4 else b) for i, (a, b) in enumerate(right)]
    path = write_file("named.csv", "\n".join(["label,predicted,split", *(f"{a},{b},test" for a, b in rows)]))
    diagnosis = diagnose_record(path)
    assert [verdict.cause for verdict in diagnosis.convicted] == ["label_map"]
    _, shown = write_record(diagnosis)
    content = shown.read_text()
    said = words(content[content.index("<body>") :])
    assert "nothing is convicted" not in said and "nothing can be trained again" in said
    assert said.count("python train.py data=csv") == 1 and said.count("compare the order of class names") == 1
    assert "share of the gap to an F1 of 1" in said and "named.diagnosis.json" in said
    facts = said[said.index("What is known") :]
    assert "95 % interval" in facts and "classescat, cow, dog" in facts
    assert not any(name in facts for name in ("f1 macro", "permutation p", "confusion", "drawn"))
    browser.open(shown)
    assert browser.run("[...document.querySelectorAll('figure')].map(f => f.id)") == ["confusion"]
    heads = browser.run("[...document.querySelectorAll('h2')].map(h => h.textContent)")
    assert heads[2] == "Causes" and heads.index("What is known") > 2
    browser.run("window.copied = []; navigator.clipboard.writeText = async (t) => { copied.push(t); }")
    browser.run("document.querySelector('.line button').click()")
    assert browser.run("copied") == ["python train.py data=csv data.csv=TABLE\npython -m audioclf diagnose outputs/RUN"]


def test_a_record_with_nothing_to_explain_has_a_page_without_lists(write_file):
    rows = "\n".join(f"{label},{label}" for label in ("cat", "cow", "dog") for _ in range(12))
    said = words(page(diagnose_record(write_file("best.csv", f"label,predicted\n{rows}"))))
    assert "There is nothing to explain." in said and "undetermined" not in said.partition("How to read it")[0]
    assert "What would tell more" not in said and "nothing can be trained again" not in said


def test_a_healthy_run_is_told_its_headroom(diagnosis):
    healthy = replace(
        diagnosis,
        healthy=True,
        verdicts=VERDICTS[3:],
        command=None,
        gap=Gap(0.1, 0.66, 0.63, 0.8, 0.8),
        steps=STEPS[:2],
    )
    said = words(page(healthy))
    assert "No cause is convicted." in said
    assert "Headroom: 0.80 can be reached on the same clips, 0.17 above its setting out of fold." in said
    assert "What mends it" not in said
