"""``comparison.html`` in a real browser: what it says, that its table works by mouse and keyboard, and that it loads nothing."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from audioclf.compare.axis import score_text
from audioclf.compare.comparison import Comparison, PassedOver
from audioclf.compare.html import page, write_page

Make = Callable[..., Comparison]
NASTY = '"><script>document.title=1</script><img src=x onerror="document.title=1">'
RANKS = (
    "[...document.querySelectorAll('tbody[id]')].filter(b => b.checkVisibility()).map(b => Number(b.id.slice(1)) + 1)"
)


@pytest.fixture(scope="module")
def study(make_comparison: Make) -> Comparison:
    return make_comparison()


@pytest.fixture(scope="module")
def written(study: Comparison, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_page(study, tmp_path_factory.mktemp("page"))


def filtered(browser: Any, words: str) -> Any:
    """Ranks of the settings that are left when those words stand in the filter."""
    script = f"(() => {{ const i = document.querySelector('#filter input'); i.value = {words!r};"
    return browser.run(script + f" i.dispatchEvent(new Event('input')); return {RANKS}; }})()")


def click(browser: Any, selector: str) -> None:
    browser.run(f"document.querySelector({selector!r}).click()")


def by(study: Comparison, key: str) -> list[int]:
    """Ranks of the settings by a hyper-parameter, smallest first."""
    order = sorted(range(len(study.settings)), key=lambda i: (study.settings[i].values[key], i))
    return [i + 1 for i in order]


def test_the_page_holds_the_answer_and_every_setting_and_run(study: Comparison, written: Path) -> None:
    html = written.read_text()
    plain = re.sub(r"<span class=whole>([^<]*)</span>", r"\1", html)
    for sentence in study.sentences + study.warnings:
        assert sentence in plain
    assert "lr=<span class=whole>1e-4</span> beats" in html, "no line ends within a number"
    assert "<span class=whole>[.41, .56]</span>" in html, "nor within an interval"
    assert html.count("<tbody id=s") == 12
    assert html.count("<tr class=run>") == 36
    assert f"<b>{score_text(study.selected.test.mean)}</b> <span>test F1" in html
    assert html.count("<svg ") == 6
    assert len(html) < 1_000_000


class Ids(HTMLParser):
    """Collects ids and what refers to them."""

    def __init__(self) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.references: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name == "id":
                self.ids.append(value or "")
            elif name in ("xlink:href", "aria-labelledby", "aria-describedby"):
                self.references.add((value or "").removeprefix("#"))
            self.references.update(re.findall(r"url\(#([^)]*)\)", value or ""))


def test_ids_of_all_figures_are_apart_and_lead_somewhere(written: Path) -> None:
    parser = Ids()
    parser.feed(written.read_text())
    assert len(parser.ids) == len(set(parser.ids)) > 100
    assert parser.references <= set(parser.ids)


@pytest.mark.parametrize(("width", "scheme"), [(1366, "light"), (390, "dark")])
def test_it_opens_from_the_disk_without_network_errors_or_sideways_scrolling(
    browser: Any, written: Path, width: int, scheme: str
) -> None:
    browser.open(written, width, scheme=scheme)
    asked = [params["request"]["url"] for method, params in browser.events if method == "Network.requestWillBeSent"]
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []
    assert len([url for url in asked if url.startswith("file:")]) == 1  # the page itself
    said = [
        e for e in browser.events if e[0] in ("Log.entryAdded", "Runtime.consoleAPICalled", "Runtime.exceptionThrown")
    ]
    assert said == []
    assert browser.run("document.documentElement.scrollWidth") == width
    ends = browser.run("[...document.querySelectorAll('h1,p,td,svg,dd')].map(e => e.getBoundingClientRect().right)")
    assert max(ends) <= width


def test_headings_sort_both_ways_and_say_so(browser: Any, study: Comparison, written: Path) -> None:
    browser.open(written)
    assert browser.run(RANKS) == list(range(1, 13))
    click(browser, "th[data-key=lr] button")
    assert browser.run(RANKS) == by(study, "lr")
    assert browser.run("document.querySelector('th[data-key=lr]').ariaSort") == "ascending"
    click(browser, "th[data-key=lr] button")
    assert browser.run("document.querySelector('th[data-key=lr]').ariaSort") == "descending"
    assert browser.run(RANKS)[:3] == by(study, "lr")[-3:]
    click(browser, "th[data-key=test] button")
    assert browser.run("document.querySelectorAll('[aria-sort]').length") == 1
    tests = [study.settings[rank - 1].test.mean for rank in browser.run(RANKS)]
    assert tests == sorted(tests, reverse=True)


def test_what_is_missing_is_sorted_last_both_ways(browser: Any, study: Comparison, written: Path) -> None:
    browser.open(written)
    baseline = study.settings.index(study.baseline) + 1  # it has no difference to itself
    for _ in range(2):
        click(browser, "th[data-key=val_difference] button")
        assert browser.run(RANKS)[-1] == baseline


def test_the_keyboard_sorts_and_opens(browser: Any, study: Comparison, written: Path) -> None:
    browser.open(written)
    browser.run("document.querySelector('#filter input').focus()")
    for _ in range(3):  # the table's own scroller, #, lr
        browser.press("Tab")
    assert browser.run("document.activeElement.parentNode.dataset.key") == "lr"
    browser.press("Enter", "\r")
    assert browser.run(RANKS) == by(study, "lr")
    assert browser.run("getComputedStyle(document.activeElement).outlineStyle") == "solid"  # the focus is seen
    for _ in range(9):  # the other headings, then the first row
        browser.press("Tab")
    assert browser.run("document.activeElement.className") == "more"
    first = f"#s{by(study, 'lr')[0] - 1}"
    assert browser.run(f"document.querySelector('{first} .run').checkVisibility()") is False
    browser.press(" ", " ")
    assert browser.run(f"document.querySelector('{first} .run').checkVisibility()") is True
    assert browser.run("document.activeElement.ariaExpanded") == "true"
    assert browser.run(f"document.querySelectorAll('#parallel-setting-{first[2:]}.lit').length") == 1


def test_of_many_changes_the_first_stand_open_and_all_conclusions(
    browser: Any, make_comparison: Make, tmp_path: Path
) -> None:
    study = make_comparison({}, seeds=1, classes=["only"], curves=False)
    sentences = [f"change {i}" for i in range(9)] + ["selected", "in the end"]
    browser.open(write_page(replace(study, sentences=sentences, changes=9), tmp_path))
    shown = "[...document.querySelectorAll('.said p')].filter(p => p.checkVisibility()).map(p => p.textContent)"
    assert browser.run(shown) == ["selected", *sentences[:5], "in the end"]
    click(browser, ".said summary")
    assert browser.run(shown) == ["selected", *sentences[:9], "in the end"]


@pytest.mark.parametrize(
    ("words", "fits"),
    [
        ("lr=1e-4", lambda s: s.values["lr"] == 1e-4),
        ("lr=0.0001 epochs=10,", lambda s: False),
        ("LR=0.0001 epochs>3", lambda s: s.values["lr"] == 1e-4 and s.values["epochs"] > 3),
        ("epochs!=3 epochs<=10", lambda s: s.values["epochs"] == 10),
        ("val>.5", lambda s: s.val.mean > 0.5),
        ("val_difference<0.2", lambda s: s.val_difference is not None and s.val_difference.mean < 0.2),
        ("noise", lambda s: s.val_difference is not None and s.val_difference.verdict == "noise"),
        ("nothing=such", lambda s: False),
        ("", lambda s: True),
    ],
)
def test_words_and_values_filter(
    browser: Any, study: Comparison, written: Path, words: str, fits: Callable[[Any], bool]
) -> None:
    browser.open(written, 390)
    expected = [i for i, setting in enumerate(study.settings, 1) if fits(setting)]
    assert filtered(browser, words) == expected
    said = browser.run("document.getElementById('count').textContent")
    assert said == (f"{len(expected)} of 12 settings" if words else "12 settings")
    assert browser.run("document.querySelectorAll('#parallel .out').length") == 12 - len(expected)


def test_a_row_lights_its_line_and_opens_to_its_runs(browser: Any, study: Comparison, written: Path) -> None:
    browser.open(written)
    place = browser.run(
        "(() => { const r = document.querySelector('#s3 tr'); r.scrollIntoView(); const b = r.getBoundingClientRect();"
        " return [b.x + 200, b.y + 10]; })()"
    )
    mouse = {"x": place[0], "y": place[1], "button": "left", "clickCount": 1}
    browser.send("Input.dispatchMouseEvent", type="mouseMoved", **mouse | {"button": "none"})
    assert browser.run("[...document.querySelectorAll('.lit')].map(e => e.id)") == ["parallel-setting-3"]
    for kind in ("mousePressed", "mouseReleased"):
        browser.send("Input.dispatchMouseEvent", type=kind, **mouse)
    links = browser.run("[...document.querySelectorAll('#s3 .run a')].map(a => a.href)")
    assert browser.run("document.querySelector('#s3 .run').checkVisibility()") is True
    assert links == [f"{run.folder.as_uri()}/" for run in study.settings[3].runs]


def test_without_a_script_all_content_is_there(browser: Any, written: Path) -> None:
    browser.open(written, script=False)
    browser.send("Emulation.setScriptExecutionDisabled", value=False)
    assert browser.run("[...document.querySelectorAll('tr.run')].every(r => r.checkVisibility())") is True
    assert browser.run("document.getElementById('filter').checkVisibility()") is False
    assert browser.run("document.querySelectorAll('.for-js')[0].checkVisibility()") is False


def test_names_from_data_are_text_and_run_nothing(browser: Any, make_comparison: Make, tmp_path: Path) -> None:
    comparison = make_comparison(
        {"data.csv": (NASTY, "\udcff $x"), "lr": (1e-3,)}, seeds=1, classes=(NASTY, 'id="a" #1b1d20'), curves=False
    )
    runs = [replace(comparison.selected.runs[0], folder=tmp_path / f"javascript:x{NASTY.replace('/', '')}")]
    odd = replace(comparison.selected, runs=runs)
    comparison = replace(
        comparison,
        title=NASTY,
        data=NASTY,
        settings=[odd, *comparison.settings[1:]],
        selected=odd,
        sentences=[NASTY],
        warnings=[NASTY],
        passed_over=[PassedOver(tmp_path / NASTY, NASTY)],
    )
    browser.open(write_page(comparison, tmp_path))
    assert browser.run("document.title") == NASTY
    assert browser.run("document.querySelectorAll('img, script').length") == 1  # the page's own script
    assert browser.run("document.querySelector('h1').textContent") == NASTY
    assert browser.run("document.querySelector('.folder a').protocol") == "file:"
    names = browser.run("[...document.querySelectorAll('#confusion svg text')].map(t => t.textContent)")
    assert 'id="a" #1b1d20' in names


def test_one_setting_without_curves_has_a_page(browser: Any, make_comparison: Make, tmp_path: Path) -> None:
    comparison = make_comparison({}, seeds=1, classes=["only"], curves=False)
    browser.open(write_page(comparison, tmp_path))
    assert browser.run("document.querySelectorAll('figure').length") == 2
    assert browser.run(RANKS) == [1]
    click(browser, "th[data-key=val] button")
    assert browser.run(RANKS) == [1]
    assert page(comparison, tmp_path) == (tmp_path / "comparison.html").read_text()  # the same for the same study


def test_a_page_of_many_runs_stays_small(make_comparison: Make, tmp_path: Path) -> None:
    axes = {
        "lr": tuple(10 ** -(1 + i / 50) for i in range(200)),
        "batch_size": (8, 16),
        "features.n_mels": (32, 64, 96, 128, 256),
    }
    comparison = make_comparison(axes, settings=250, seeds=1, curves=False, importance=[])
    assert len(page(comparison, tmp_path)) < 5_000_000 / 8
