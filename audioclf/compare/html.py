"""``comparison.html``: the answer, the table of settings and the figures in one file that loads nothing.

All content is in the page itself; its script only sorts, filters, folds and highlights. Whatever comes from data is
escaped, and the policy in the page's head lets no other script run than the one whose hash it names.
"""

from __future__ import annotations

import base64
import hashlib
import math
import os
import re
from collections.abc import Iterable, Iterator
from html import escape
from pathlib import Path
from string import Template
from urllib.parse import quote

from audioclf import __version__
from audioclf.compare.axis import (
    interval_text,
    is_number,
    printable,
    score_text,
    setting_text,
    short_keys,
    short_text,
    value_text,
)
from audioclf.compare.comparison import Comparison, Difference, Estimate, RunRow, Setting
from audioclf.compare.figures import ACCENT, INK, MUTED, PAPER, RULE, WIDTH, Drawing, draw
from audioclf.files import write_text

COLOURS = {
    INK: "var(--ink)",
    MUTED: "var(--muted)",
    RULE: "var(--rule)",
    PAPER: "var(--paper)",
    ACCENT: "var(--accent)",
}
SIGNS = {"better": "▲", "worse": "▼", "noise": "≈", "unknown": "?"}
MOST_CHANGES = 5  # sentences about changes of one key that stand open
HERE = Path(__file__).parent


def write_page(comparison: Comparison, into: Path) -> Path:
    """Writes ``comparison.html``.

    Args:
        comparison: what to show.
        into: its folder; links to runs are relative to it.

    Returns:
        The file.
    """
    path = into / "comparison.html"
    write_text(path, page(comparison, into))
    return path


def page(comparison: Comparison, into: Path) -> str:
    """The page's HTML; ``into`` is the folder from which its links lead."""
    script = (HERE / "page.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return Template((HERE / "page.html").read_text(encoding="utf-8")).substitute(
        title=text(comparison.title),
        data=text(comparison.data),
        style=(HERE / "page.css").read_text(encoding="utf-8"),
        script=script,
        script_hash=f"sha256-{digest}",
        sentences=_sentences(comparison),
        selected=_selected(comparison),
        warnings=_list("warnings", "Warnings", map(prose, comparison.warnings)),
        count=_some(len(comparison.settings), "setting"),
        table="".join(_table(comparison, into)),
        figures="\n".join(_figure(drawing, comparison) for drawing in sorted(draw(comparison), key=_wide)),
        passed_over=_list(
            "passed",
            "Passed over, not counted",
            (f"<code>{text(_relative(item.path, into))}</code> {text(item.reason)}" for item in comparison.passed_over),
        ),
        chance=score_text(comparison.chance),
        version=__version__,
    )


def text(content: object) -> str:
    """Anything as text of a page or of an attribute."""
    return escape(printable(content))


def prose(content: object) -> str:
    """Text in which no line ends within a number or an interval: ``1e-4`` would read ``1e-``, then ``4``."""
    return re.sub(r"\b[\d.]+e-\d+|\[[−+\d.]+, [−+\d.]+\]", r"<span class=whole>\g<0></span>", text(content))


def _sentences(comparison: Comparison) -> str:
    """The answer in words: what was concluded first, then the changes of one key, of many only the first open."""
    lines = [f"<p>{prose(sentence)}</p>" for sentence in comparison.sentences]
    changes, conclusions = lines[: comparison.changes], lines[comparison.changes :]
    shown, folded = changes[:MOST_CHANGES], changes[MOST_CHANGES:]
    more = f"<details><summary>{_some(len(folded), 'more change')} of one key</summary>{''.join(folded)}</details>"
    return "\n".join([*conclusions[:1], *shown, *([more] if folded else []), *conclusions[1:]])


def _list(name: str, heading: str, items: Iterable[str]) -> str:
    lines = "\n".join(f"<li>{item}</li>" for item in items)
    return (
        f'<section class="{name}" aria-labelledby="{name}"><h2 id="{name}">{heading}</h2><ul>\n{lines}\n</ul></section>'
        if lines
        else ""
    )


def _selected(comparison: Comparison) -> str:
    """The setting that was selected, with its honest score."""
    setting, chance, short = comparison.selected, comparison.chance, short_keys(comparison.keys)
    test = setting.test
    rows = {
        "val F1": f"{score_text(setting.val.mean)} <small>{_interval(setting.val)}</small>",
        "accuracy": score_text(setting.accuracy.mean),
        "train F1": score_text(setting.train.mean),
        "chance": score_text(chance),
        "runs": f"{len(setting.runs)} <small>{_repetitions(setting)}</small>",
    }
    if setting.test_difference:
        baseline = prose(short_text(comparison.baseline, comparison.keys, short))
        rows["to baseline"] = f"{_gap(setting.test_difference)} <small>on test, {baseline}</small>"
    facts = "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in rows.items())
    marks = f"--m:{_percent(test.mean)};--l:{_percent(test.low)};--h:{_percent(test.high)};--c:{_percent(chance)}"
    return (
        '<aside class="pick" aria-label="Selected setting"><p class="over">Selected on val</p>'
        f"<p class=chosen>{prose(short_text(setting, comparison.keys, short) or setting.label)}</p>"
        f"<p class=honest><b>{score_text(test.mean)}</b> <span>test F1<br>{_interval(test)}</span></p>"
        f'<div class="scale" style="{marks}" aria-hidden="true"><i></i><b></b><span>chance</span></div>'
        f"<dl>{facts}</dl></aside>"
    )


def _table(comparison: Comparison, into: Path) -> Iterator[str]:
    """One body a setting: its own row and those of its runs."""
    short = short_keys(comparison.keys)
    keys = [(key, short[key], "key") for key in comparison.keys] or [("setting", "setting", "key")]
    scores = [("val", "val F1"), ("val_difference", "Δ val"), ("test", "test F1"), ("test_difference", "Δ test")]
    scores += [("accuracy", "accuracy"), ("train", "train F1"), ("runs", "runs")]
    heads = [("rank", "#", "key"), *keys, *((key, name, "num") for key, name in scores)]
    low, high = _span(comparison.settings)
    yield f'<table style="--b:{_percent((comparison.baseline.val.mean - low) / (high - low))}"><thead><tr>'
    for key, name, kind in heads:
        sort = ' aria-sort="ascending"' if key == "rank" else ""
        title = f' title="{text(key)}"' if key != name else ""
        yield f'<th scope=col class={kind} data-key="{text(key)}"{sort}><button type=button{title}>{text(name)}</button></th>'
    yield "</tr></thead>\n"
    for place, setting in enumerate(comparison.settings):
        yield from _body(comparison, place, setting, [(key, name) for key, name, _ in keys], (low, high))
        yield "".join(_run(run, len(keys), into) for run in setting.runs)
        yield "</tbody>\n"
    yield "</table>"


def _body(
    comparison: Comparison, place: int, setting: Setting, keys: Iterable[tuple[str, str]], span: tuple[float, float]
) -> Iterator[str]:
    """The beginning of a setting's body: its own row."""
    roles = [role for role in ("selected", "baseline") if setting is getattr(comparison, role)]
    label = text(setting_text(setting, comparison.keys))
    tags = "".join(f" <em>{role}</em>" for role in roles)
    yield f'<tbody id=s{place} class="{" ".join(roles)}"><tr><td data-v={place + 1}>'
    yield f'<button type=button class=more aria-expanded=false aria-label="{place + 1}, runs of {label}">{place + 1}</button>{tags}</td>'
    for key, name in keys:
        value = setting.values.get(key) if comparison.keys else setting.label
        yield f'<td class=key data-l="{text(name)}"{_sort_value(value)}>{text(value_text(value))}</td>'
    low, high = span
    ends = {"m": setting.val.mean, "l": setting.val.low, "h": setting.val.high}
    marks = ";".join(f"--{end}:{_percent((value - low) / (high - low))}" for end, value in ends.items())
    yield _score(setting.val, "val", "val F1", f'<i class=ci style="{marks}"></i>')
    yield _difference(setting.val_difference, "Δ val", "baseline" in roles)
    yield _score(setting.test, "test", "test F1")
    yield _difference(setting.test_difference, "Δ test", "baseline" in roles)
    for name, estimate in (("accuracy", setting.accuracy), ("train F1", setting.train)):
        yield f'<td data-l="{name}"{_sort_value(estimate.mean)}>{score_text(estimate.mean)}</td>'
    yield f'<td data-l="runs" data-v={len(setting.runs)}>{len(setting.runs)}<small>{_repetitions(setting)}</small></td></tr>'


def _score(score: Estimate, kind: str, name: str, more: str = "") -> str:
    interval = f"<small>{_interval(score)}</small>"
    return f'<td class={kind} data-l="{name}"{_sort_value(score.mean)}><b>{score_text(score.mean)}</b>{interval}{more}</td>'


def _run(run: RunRow, keys: int, into: Path) -> str:
    """A run's row, its numbers below those of its setting."""
    fold = f", fold {run.fold}" if run.fold is not None else ""
    diverged = " <em>diverged</em>" if run.diverged else ""
    link = quote(os.fsencode(_relative(run.folder, into))) + "/"
    return (
        f"<tr class=run><td></td><td class=key colspan={keys}>seed {run.seed}{fold}{diverged}</td>"
        f'<td data-l="val F1">{score_text(run.val)}</td><td>epoch {run.selected_epoch}</td>'
        f'<td data-l="test F1">{score_text(run.test)}</td><td></td>'
        f'<td data-l="accuracy">{score_text(run.accuracy)}</td><td data-l="train F1">{score_text(run.train)}</td>'
        f'<td class=folder><a href="{link}">{text(run.folder.name)}</a></td></tr>'
    )


def _difference(difference: Difference | None, name: str, baseline: bool) -> str:
    if difference is None:
        return f'<td class=gap data-l="{name}">{"baseline" if baseline else "–"}</td>'
    interval = interval_text(difference.low, difference.high)
    return (
        f'<td class="gap {difference.verdict}" data-l="{name}"{_sort_value(difference.mean)}>'
        f"{_gap(difference)}<small>{interval} {difference.verdict}</small></td>"
    )


def _gap(difference: Difference) -> str:
    sign = "+" if difference.mean > 0 else ""
    return f"<span aria-hidden=true>{SIGNS[difference.verdict]}</span> {sign}{score_text(difference.mean)}"


def _figure(drawing: Drawing, comparison: Comparison) -> str:
    attributes = " class=full" if _wide(drawing) else ""
    scrolls = f' tabindex=0 role=region aria-label="{text(drawing.title)}"' if _wide(drawing) else ""
    more = _classes(comparison) if drawing.name == "per_class" else ""
    return (
        f"<figure{attributes} id={drawing.name}><figcaption><h3>{text(drawing.title)}</h3></figcaption>"
        f'<div class=plot style="--w:{drawing.figure.get_figwidth() * 96:.0f}px"{scrolls}>'
        f"{_named(inline(drawing), comparison)}</div><p class=note>{text(drawing.caption)}</p>{more}</figure>"
    )


def _wide(drawing: Drawing) -> bool:
    return bool(drawing.figure.get_figwidth() > WIDTH)


def inline(drawing: Drawing) -> str:
    """A figure as part of a page: in the page's colours and letters, its ids apart from those of other figures."""
    svg = drawing.svg()
    svg = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>", "", svg[svg.index("<svg ") :], count=1, flags=re.DOTALL)

    def fitted(tag: re.Match[str]) -> str:
        inside = re.sub(r"(id=\"|href=\"#|url\(#)", rf"\g<1>{drawing.name}-", tag[0].replace("\n", ""))
        inside = re.sub(r"font-family: [^;\"]*;? ?", "", inside)
        return re.sub("#[0-9a-f]{6}", lambda colour: COLOURS.get(colour[0], colour[0]), inside)

    svg = re.sub(r"<[^>]+>", fitted, svg)  # tags alone: a class may be named like a colour
    label = text(f"{drawing.title}. {drawing.caption}")
    return re.sub(r'width="[^"]*" height="[^"]*"', f'role="img" aria-label="{label}"', svg, count=1)


def _named(svg: str, comparison: Comparison) -> str:
    """Parallel coordinates whose lines say which setting they are."""

    def named(found: re.Match[str]) -> str:
        setting = comparison.settings[int(found[1])]
        words = f"{setting_text(setting, comparison.keys)}: val F1 {score_text(setting.val.mean)}"
        return f"{found[0]}<title>{text(words)}</title>"

    return re.sub(r'<g id="parallel-setting-(\d+)">', named, svg)


def _classes(comparison: Comparison) -> str:
    """Every class's scores as a table, folded."""
    others = {score.name: score.f1 for score in comparison.baseline_class_scores}
    rows = "".join(
        f"<tr><th scope=row>{text(score.name)}</th><td>{score_text(score.f1.mean)} <small>{_interval(score.f1)}</small></td>"
        f"<td>{score_text(others[score.name].mean) if score.name in others else '–'}</td><td>{score.support}</td></tr>"
        for score in comparison.class_scores
    )
    head = "<tr><th scope=col>class</th><th scope=col>selected</th><th scope=col>baseline</th><th scope=col>clips</th></tr>"
    return f"<details><summary>All {len(comparison.class_scores)} classes</summary><div class=wide><table><thead>{head}</thead><tbody>{rows}</tbody></table></div></details>"


def _interval(estimate: Estimate) -> str:
    return interval_text(estimate.low, estimate.high)


def _span(settings: Iterable[Setting]) -> tuple[float, float]:
    """The ends of the scale on which the table draws val F1."""
    ends = [end for setting in settings for end in (setting.val.low, setting.val.high) if math.isfinite(end)]
    low, high = (min(ends), max(ends)) if ends else (0.0, 1.0)
    return (low, high) if high > low else (low - 0.5, low + 0.5)


def _sort_value(value: object) -> str:
    """What a cell is sorted by; nothing where a number is missing."""
    if isinstance(value, float) and not math.isfinite(value):
        return ""
    shown = repr(float(value)) if isinstance(value, int | float) and is_number(value) else value_text(value)
    return f' data-v="{text(shown)}"'


def _percent(share: float) -> str:
    return f"{100 * min(max(share, 0.0), 1.0):.1f}%" if math.isfinite(share) else "0%"


def _repetitions(setting: Setting) -> str:
    """``3 seeds × 5 folds``; of one fold, the seeds."""
    return _some(setting.seeds, "seed") + (f" × {_some(setting.folds, 'fold')}" if setting.folds > 1 else "")


def _some(n: int, word: str) -> str:
    return f"{n} {word}{'s' if n != 1 else ''}"


def _relative(path: Path, into: Path) -> str:
    """A path as it is reached from the page; as it is where it lies on another drive."""
    try:
        return Path(os.path.relpath(path, into)).as_posix()
    except ValueError:
        return path.as_posix()
