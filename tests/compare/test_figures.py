"""Figures: what they say, and that no study is too small, too large or too strangely named for them."""

from __future__ import annotations

import re
import shutil
import warnings
import xml.etree.ElementTree as ET
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from audioclf.compare.comparison import Comparison, Setting
from audioclf.compare.curves import read_curve, shown_settings
from audioclf.compare.figures import draw, write_figures

Make = Callable[..., Comparison]
ALL = {"heatmap", "parallel", "curves", "per_class", "confusion", "importance"}
SVG = "{http://www.w3.org/2000/svg}"


def words(comparison: Comparison, name: str) -> list[str]:
    """The texts of a figure, which are texts in its SVG as well."""
    (drawing,) = draw(comparison, [name])
    return ["".join(text.itertext()) for text in ET.fromstring(drawing.svg()).iter(f"{SVG}text")]


def caption(comparison: Comparison, name: str) -> str:
    return draw(comparison, [name])[0].caption


def test_figures_are_files_and_the_same_for_the_same_study(make_comparison: Make, tmp_path: Path) -> None:
    comparison = make_comparison({"lr": (1e-3, 1e-4, 1e-5), "epochs": (3, 10)}, seeds=2)
    written = write_figures(comparison, tmp_path)
    assert set(written) == ALL
    for drawing in draw(comparison):
        assert drawing.svg() == written[drawing.name].read_text()
        with Image.open(written[drawing.name].with_suffix(".png")) as image:
            assert image.width > 500


def test_a_figure_with_nothing_to_show_is_not_left_from_before(make_comparison: Make, tmp_path: Path) -> None:
    (tmp_path / "figures").mkdir()
    for name in ("heatmap.svg", "curves.png", "mine.svg"):
        (tmp_path / "figures" / name).write_text("old")
    written = write_figures(make_comparison({}, seeds=1, curves=False), tmp_path)
    assert set(written) == {"per_class", "confusion"}
    assert {path.name for path in (tmp_path / "figures").iterdir()} == {"mine.svg"} | {
        f"{name}.{suffix}" for name in written for suffix in ("svg", "png")
    }


def test_the_heatmap_has_each_setting_with_its_score_and_runs(make_comparison: Make) -> None:
    comparison = make_comparison(seeds=2, curves=False)
    found = words(comparison, "heatmap")
    assert {"1e-2", "1e-3", "1e-4", "1e-5", "3", "10", "50", "lr"} <= set(found)
    assert sorted(t for t in found if re.fullmatch(r"\.\d\d", t)) == sorted(
        f"{s.val.mean:.2f}"[1:] for s in comparison.settings
    )
    assert found.count("n 2") == 12


def test_a_third_key_makes_a_panel_of_each_of_its_values(make_comparison: Make) -> None:
    axes = {"lr": (1e-3, 1e-4), "epochs": (3, 10), "features.normalisation": ("none", "per_band")}
    found = words(make_comparison(axes, curves=False), "heatmap")
    assert {"normalisation=none", "normalisation=per_band"} <= set(found)


def test_a_cell_of_many_settings_shows_the_best_and_says_so(make_comparison: Make) -> None:
    axes = {"lr": tuple(10 ** -(1 + i / 10) for i in range(40)), "epochs": (3, 10), "model.hidden": tuple(range(1, 9))}
    comparison = make_comparison(axes, settings=200, seeds=1, curves=False)
    scores = [t for t in words(comparison, "heatmap") if re.fullmatch(r"\.\d\d", t)]
    assert 10 <= len(scores) <= 20
    assert f"{comparison.selected.val.mean:.2f}"[1:] in scores
    assert "the best of them" in caption(comparison, "heatmap")


def test_curves_are_of_the_selected_the_baseline_and_the_next_trajectories(make_comparison: Make) -> None:
    comparison = make_comparison(curves=False)
    shown = shown_settings(comparison)
    assert shown[0] is comparison.selected
    assert shown[1] is comparison.baseline
    assert len({setting.values["lr"] for setting in shown[2:]}) == len(shown[2:])  # not lr=1e-3 at 50 and 10 epochs


def test_a_band_spans_the_seeds_that_have_a_number(make_comparison: Make) -> None:
    setting = make_comparison({"epochs": (4,)}, seeds=3).selected
    broken = setting.runs[0].folder / "metrics.csv"
    lines = broken.read_text().splitlines()
    lines[2] = "2,nan,,,inf,nan,nan"
    broken.write_text("\n".join([*lines, ""]))
    tables = [(run.folder / "metrics.csv").read_text().splitlines() for run in setting.runs]
    second, last = ([float(table[epoch].split(",")[5]) for table in tables] for epoch in (2, 4))
    curve = read_curve(setting.runs)
    assert curve["epoch"][:, 1] == pytest.approx([1, 2, 3, 4])
    assert curve["val_f1_macro"][3] == pytest.approx([min(last), np.mean(last), max(last)])
    assert curve["val_f1_macro"][1] == pytest.approx([min(second[1:]), np.mean(second[1:]), max(second[1:])])


@pytest.mark.parametrize("damage", ["torn", "foreign", "empty", "nan", "gone", "binary", "folder"])
def test_damaged_curves_are_a_curve_less_and_no_more(make_comparison: Make, damage: str) -> None:
    comparison = make_comparison({"lr": (1e-3, 1e-4), "epochs": (8,)}, seeds=1)
    for number, run in enumerate(comparison.selected.runs + comparison.baseline.runs):
        path = run.folder / "metrics.csv"
        lines = path.read_text().splitlines()
        match damage:
            case "torn":
                path.write_text("\n".join(lines[:4])[:-9])
            case "foreign":
                path.write_text("a,b\n1,x\n2,y,3\n")
            case "empty":
                path.write_text("")
            case "nan":
                path.write_text("\n".join([lines[0], *(f"{i},nan,,nan,inf,,nan" for i in range(1, 9)), ""]))
            case "binary":
                path.write_bytes(bytes(range(256)))
            case "gone":
                shutil.rmtree(run.folder)
            case _ if number == 0:
                path.unlink()
                path.mkdir()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        drawn = [drawing.svg() for drawing in draw(comparison, ["curves"])]
    assert bool(drawn) == (damage in ("torn", "nan", "folder"))


NAMES = ("$x_1$", "a_b^c", "<b>&amp;", "\\frac{", 'q"uote', "日本", "tab\there", "lone \udcff")


def test_names_are_letters_whatever_they_hold(make_comparison: Make) -> None:
    axes = {"data.csv": NAMES, "lr": (1e-3, 1e-4)}
    comparison = make_comparison(axes, classes=NAMES, seeds=1, curves=False)
    assert {"$x_1$ (8)", "<b>&amp; (8)", "\\frac{ (8)", "tab\ufffdhere (8)", "lone \ufffd (8)"} <= set(
        words(comparison, "per_class")
    )
    assert {"$x_1$", "<b>&amp;"} <= set(words(comparison, "parallel"))


def test_many_classes_are_cut_to_those_that_go_wrong_and_it_says_so(make_comparison: Make) -> None:
    names = [f"class {i}" for i in range(500)]
    comparison = make_comparison({"lr": (1e-3, 1e-4)}, classes=names, curves=False)
    wrong = comparison.confusion - np.diag(np.diag(comparison.confusion))
    worst = min(comparison.class_scores, key=lambda score: score.f1.mean).name
    most = names[int(np.argmax(wrong.sum(0) + wrong.sum(1)))]
    assert f"{worst} (8)" in words(comparison, "per_class")
    assert "50 lowest of 500" in caption(comparison, "per_class")
    assert most in words(comparison, "confusion")
    assert "30 of 500" in caption(comparison, "confusion")


def test_scores_that_are_missing_leave_gaps(make_comparison: Make) -> None:
    comparison = make_comparison({"lr": (1e-3, 1e-4)}, seeds=1, curves=False)
    nothing = replace(comparison.class_scores[0].f1, mean=np.nan, low=np.nan, high=np.nan)
    scores = [replace(comparison.class_scores[0], f1=nothing), *comparison.class_scores[1:]]
    confusion = comparison.confusion.copy()
    confusion[0] = 0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        made = draw(replace(comparison, class_scores=scores, confusion=confusion, baseline_class_scores=[]))
        assert [drawing.name for drawing in made if drawing.svg()] == ["heatmap", "parallel", "per_class", "confusion"]


def test_every_setting_has_its_line(make_comparison: Make) -> None:
    comparison = make_comparison({"lr": (1e-2, 1e-3), "model.hidden": (16, "null", "wide")}, curves=False)
    svg = draw(comparison, ["parallel"])[0].svg()
    lines = dict(re.findall(r'<g id="setting-(\d+)">\s*<path d="([^"]*)"', svg))
    assert set(lines) == {str(i) for i in range(6)}
    ends = [float(path.split()[-1]) for _, path in sorted(lines.items())]
    assert ends == sorted(ends)  # the best ends highest: y grows downwards

    def start(setting: Setting) -> str:
        return lines[str(comparison.settings.index(setting))].split("L")[0].strip()

    assert len({start(setting) for setting in comparison.settings}) == 2  # the two values of lr
