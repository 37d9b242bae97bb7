"""``diagnosis.html``: the verdict, its evidence and what to look at and listen to, in one file that loads nothing.

The page can be read without its script, which only copies commands. Whatever comes from data is escaped, and the
policy in the page's head lets no other script run than the one whose hash it names.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Any

from audioclf import __version__
from audioclf.compare import html as shared
from audioclf.compare.axis import is_number, value_text
from audioclf.compare.figures import Drawing
from audioclf.compare.html import prose, text
from audioclf.diagnose.diagnosis import Diagnosis
from audioclf.diagnose.figures import draw
from audioclf.diagnose.report import f1_text, headroom, percent, sentence_of, share_text, title
from audioclf.diagnose.verdict import Verdict
from audioclf.runs.folder import finite

if TYPE_CHECKING:
    from audioclf.diagnose.lab import Lab

MISTAKES = 9  # rows of three
SUSPECTS = 30
MOST_SOUND = 4_000_000  # characters of sound in a page
HERE = Path(__file__).parent
NAMES = {
    "f1_macro": "macro-F1",
    "f1_weighted": "weighted F1",
    "f1_by_class": "F1 of each class",
    "interval": "95 % interval",
    "chance": "guessing",
    "majority": "always the most frequent class",
    "stratified": "by the classes' shares",
    "permutation": "these predictions, shuffled",
    "permutation_p": "share of shuffles that score as much",
    "drawn": "rows behind interval and guessing",
    "num_classes": "number of classes",
    "train_loss": "train loss by epoch",
}
"""Facts in words, where their names are none."""
ELSEWHERE = ("confusion", "to_get_it")
"""Facts that the page shows in a place of their own."""
OF_RUNS = """<dt>out of fold</dt><dd>Train and val clips are cut into folds by recording, and each clip is scored by a model that was trained without its fold.</dd>
<dt>best probe</dt><dd>A support vector machine on simple statistics of the same features, on the same folds: what a cheap classifier reads from them. What the run scores below it is the gap.</dd>
<dt>share</dt><dd>Of the gap, what mending the cause returned when the setting was trained again with that one change; [low, high]: 95&nbsp;% interval over recordings. Causes may overlap, so shares need not sum to 100&nbsp;%.</dd>"""
OF_RECORDS = """<dt>share</dt><dd>Of what is missing to a perfect F1 of 1, what reading the predictions in another way returns; the best within reach is not known, so this is the least that it can be. [low, high]: 95&nbsp;% interval over recordings.</dd>"""


def page(diagnosis: Diagnosis, lab: Lab | None = None) -> str:
    """The page's HTML.

    Args:
        diagnosis: what to show.
        lab: the run that it is about; None for a bare record: nothing to draw or to listen to.
    """
    script = (HERE / "page.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    style = [(folder / "page.css").read_text(encoding="utf-8") for folder in (shared.HERE, HERE)]
    drawings = {drawing.name: drawing for drawing in draw(diagnosis, lab)}
    waterfall = drawings.pop("waterfall", None)
    headline, _, rest = re.sub(r"(?<=[.!?]) (?=[A-Z])", "\n", diagnosis.summary, count=1).partition("\n")
    bare = diagnosis.gap is None
    return Template((HERE / "page.html").read_text(encoding="utf-8")).substitute(
        name=text(Path(diagnosis.run).name or diagnosis.run),
        style="\n".join(style),
        script=script,
        script_hash=f"sha256-{digest}",
        headline=said(headline),
        summary=f"<p class=lead>{said(rest)}</p>" if rest else "",
        scores=_scores(diagnosis),
        mend=_mend(diagnosis),
        waterfall=_figure(waterfall) if waterfall else "",
        causes="\n".join(_causes(diagnosis)),
        figures=_section("figures", "Figures", f"<div class=figures>{''.join(map(_figure, drawings.values()))}</div>")
        if drawings
        else "",
        mistakes="" if lab is None else _mistakes(lab),
        suspects=_suspects(diagnosis),
        facts=_facts(diagnosis),
        run=_run(diagnosis),
        reading=OF_RECORDS if bare else OF_RUNS,
        numbers=text(f"{Path(diagnosis.run).stem}.diagnosis.json" if bare else "diagnosis.json"),
        version=__version__,
    )


def said(content: object) -> str:
    """Prose of the page, with arrows, minus signs and percent as in print: ``F1 0.11 → 0.08, −3 %``."""
    printed = re.sub(r"(?<![\w.=-])-(?=\.?\d)", "−", str(content).replace("->", "→"))
    return re.sub(r"(?<=\d) ?%", "\N{NO-BREAK SPACE}%", prose(printed))


def _section(name: str, heading: str, content: str) -> str:
    return f'<section aria-labelledby="{name}"><h2 id="{name}">{heading}</h2>\n{content}\n</section>'


def _scores(diagnosis: Diagnosis) -> str:
    """What there is to explain; for a bare record, that nothing could be tried."""
    gap, facts = diagnosis.gap, diagnosis.facts
    note = ""
    if gap is not None:
        rows = {"test F1": gap.test, "out of fold": gap.base, "best probe": gap.probe}
        if gap.reference > max(gap.probe, gap.base):
            rows["best reached"] = gap.reference
        rows["guessing"] = gap.chance
    else:
        named = {"macro-F1": "f1_macro", "weighted F1": "f1_weighted", "accuracy": "accuracy"}
        rows = {name: facts[key] for name, key in named.items() if key in facts}
        if not diagnosis.healthy:
            note = "Without the run's folder nothing can be trained again"
            note += ": " if diagnosis.convicted else ", so nothing is convicted: "
            note = f"<p class=note>{note}below is what is known, and what is missing to tell more.</p>"
    items = "".join(f"<div><dt>{name}</dt><dd>{f1_text(value)}</dd></div>" for name, value in rows.items())
    return (f"<dl class=scores>{items}</dl>" if items else "") + note


def _mend(diagnosis: Diagnosis) -> str:
    """What to do: sentences, and the commands as they are typed."""
    todo = [f"<li>{said(words)}</li>" for verdict in diagnosis.convicted if (words := sentence_of(verdict))]
    lines = f"<ul>{''.join(todo)}</ul>" if todo else ""
    if diagnosis.command:
        lines += _command(diagnosis.command)
    box = f"<div class=mend><h2>What mends it</h2>{lines}</div>" if lines else ""
    if ways := diagnosis.facts.get("to_get_it"):
        told = "".join(f"<p>{said(what)}:</p>{_command(*commands)}" for what, commands in ways.items())
        box += f"<div class=mend><h2>What would tell more</h2>{told}</div>"
    more = headroom(diagnosis.gap)
    return box or (f"<div class=mend><p>Headroom: {said(more)}.</p></div>" if diagnosis.healthy and more else "")


def _command(*lines: str) -> str:
    code = "\n".join(map(text, lines))
    return f"<div class=line><code>{code}</code><button type=button aria-live=polite hidden>Copy</button></div>"


def _causes(diagnosis: Diagnosis) -> Iterator[str]:
    """The verdicts: what is named and what cannot be told stands open, what was cleared or not mentioned is folded."""
    unmentioned = diagnosis.unmentioned
    cleared = [verdict for verdict in diagnosis.verdicts if verdict.status == "cleared"]
    others = [verdict for verdict in diagnosis.verdicts if verdict.status != "cleared" and verdict not in unmentioned]
    if not diagnosis.convicted:
        yield "<p class=note>No cause is convicted.</p>"
    if others:
        yield _table(diagnosis, others)
    for folded, words in ((unmentioned, "of which the record says nothing"), (cleared, "looked for and not found")):
        if folded:
            noun = "cause" if len(folded) == 1 else "causes"
            yield (
                f"<details class=cleared-ones><summary>{len(folded)} {noun} {words}</summary>"
                f"{_table(diagnosis, folded)}</details>"
            )


def _table(diagnosis: Diagnosis, verdicts: list[Verdict]) -> str:
    shared_out = any(verdict.share is not None for verdict in verdicts)  # else the column would be empty
    gap = "to an F1 of 1" if diagnosis.gap is None else ""
    names = {"cause": "cause", "part": f"share of the gap {gap}".strip(), "evidence": "evidence"}
    heads = "".join(
        f"<th scope=col class={kind}>{name}</th>" for kind, name in names.items() if shared_out or kind != "part"
    )
    rows = "".join(_verdict(diagnosis, verdict, shared_out) for verdict in verdicts)
    return f"<table class=causes><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table>"


def _verdict(diagnosis: Diagnosis, verdict: Verdict, shared_out: bool) -> str:
    first, *more = [f"<p>{said(sentence)}</p>" for sentence in verdict.evidence] or ["<p>–</p>"]
    if isinstance(verdict.next, list):
        first += f"<p>Mended by <code>{text(' '.join(verdict.next))}</code></p>"
    elif verdict.next and diagnosis.gap is not None:  # what to do about a record is said once, above
        first += f"<p>{said(verdict.next)}</p>"
    folded = [f"{len(more)} more"] * bool(more) + ["the numbers"] * bool(verdict.numbers)
    if folded:
        numbers = _json(verdict.numbers) if verdict.numbers else ""
        first += f"<details><summary>{' and '.join(folded)}</summary>{''.join(more)}{numbers}</details>"
    share = f"<td>{_share(verdict)}</td>" if shared_out else ""
    status = "symptom" if verdict in diagnosis.symptoms else verdict.status
    return (
        f"<tr class={verdict.status}><th scope=row>{said(title(diagnosis, verdict.cause))}"
        f"<span class=status>{status}</span></th>{share}<td>{first}</td></tr>"
    )


def _share(verdict: Verdict) -> str:
    if verdict.share is None or not math.isfinite(verdict.share):
        return ""
    low, high = verdict.interval or (verdict.share, verdict.share)
    marks = ";".join(f"--{end}:{_width(value)}" for end, value in (("m", verdict.share), ("l", low), ("h", high)))
    return f'{said(share_text(verdict))}<div class=share style="{marks}" aria-hidden=true><b></b><i></i></div>'


def _width(share: float) -> str:
    return f"{percent(min(max(share, 0.0), 1.0))}%"


def _json(content: Mapping[str, Any]) -> str:
    return f"<pre>{_escaped(json.dumps(finite(content), indent=1, ensure_ascii=False, default=str))}</pre>"


def _escaped(lines: str) -> str:
    """Text of several lines; what cannot be shown is replaced within each."""
    return "\n".join(text(line) for line in lines.splitlines())


def _figure(drawing: Drawing) -> str:
    svg = shared.inline(drawing)
    width = f"{drawing.figure.get_figwidth() * 96:.0f}px"
    return (
        f"<figure id={drawing.name}><figcaption><h3>{text(drawing.title)}</h3></figcaption>"
        f'<div class=plot style="--w:{width}">{svg}</div><p class=note>{said(drawing.caption)}</p></figure>'
    )


def _mistakes(lab: Lab) -> str:
    """The worst errors on test, to look at and to listen to."""
    from audioclf.diagnose.listening import LONGEST_S, sound, spectrograms, worst_mistakes

    worst = worst_mistakes(lab, MISTAKES)
    if not worst:
        return _section(
            "mistakes", "Worst errors on test", "<p class=note>No test clip was taken for another class.</p>"
        )
    cards, room = [], MOST_SOUND
    for mistake, picture in zip(worst, spectrograms([one.features for one in worst]), strict=True):
        clip = mistake.clip
        words = f"{clip.label}, taken for {mistake.taken_for}"
        shown = f'<img src="{_data("image/png", picture)}" alt="spectrogram of {text(clip.id)}">' if picture else ""
        played = sound(lab, clip)
        source = _data("audio/mpeg", played) if played else ""
        room -= len(source)
        player = f'<audio controls preload=metadata aria-label="{text(words)}" src="{source}"></audio>'
        if not source or room < 0:
            player = "<small>its audio file is gone</small>" if not source else "<small>too long for this page</small>"
        cards.append(
            f"<figure><figcaption><b>{text(clip.label)}</b> taken for <b>{text(mistake.taken_for)}</b> "
            f"<small>loss {_nats(mistake.loss)}, probability {f1_text(mistake.sure)}</small></figcaption>"
            f"{shown}{player}<small>{text(clip.id)}</small></figure>"
        )
    note = (
        "The test clips with the highest loss: −ln of the probability that their own class was given. Pictures: what the network is given before normalisation, low bands "
        f"below, all on one scale. Sound: the same part of the clip, at most its first {LONGEST_S:g} s."
    )
    return _section(
        "mistakes", "Worst errors on test", f"<p class=note>{note}</p><div class=mistakes>{''.join(cards)}</div>"
    )


def _nats(loss: float) -> str:
    return f"{loss:,.0f}" if loss >= 100 else f"{loss:.3g}"


def _data(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def _suspects(diagnosis: Diagnosis) -> str:
    """Clips whose label is suspected wrong, where they were listed."""
    found = next((v.numbers.get("suspects") for v in diagnosis.verdicts if v.cause == "label_noise"), None)
    if not isinstance(found, list) or not all(isinstance(one, Mapping) for one in found) or not found:
        return ""
    columns = list(found[0])
    heads = "".join(f"<th scope=col>{text(column)}</th>" for column in columns)
    rows = "".join(
        "<tr>" + "".join(f"<td class=key>{text(value_text(one.get(column), 3))}</td>" for column in columns) + "</tr>"
        for one in found[:SUSPECTS]
    )
    more = f" The first {SUSPECTS} of {len(found)}." if len(found) > SUSPECTS else ""
    note = f"<p class=note>Clips whose label the others contradict most: listen before changing any.{more}</p>"
    table = f"<div class=wide tabindex=0 role=region aria-labelledby=suspects><table class=runs><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table></div>"
    return _section("suspects", "Labels to check", note + table)


def _facts(diagnosis: Diagnosis) -> str:
    """What is known beside, folded."""
    shown = {str(key): value for key, value in diagnosis.facts.items() if key not in ELSEWHERE}
    if not shown:
        return ""
    rows = "".join(f"<dt>{_name(key)}</dt><dd>{_value(value, key)}</dd>" for key, value in shown.items())
    noun = "fact" if len(shown) == 1 else "facts"
    folded = f"<details><summary>{len(shown)} {noun}</summary><dl class=facts>{rows}</dl></details>"
    return _section("facts", "What is known", folded)


def _name(key: object) -> str:
    return said(NAMES.get(str(key), str(key).replace("_", " ")))


def _value(value: Any, key: str = "") -> str:
    if isinstance(value, Mapping):
        if any(isinstance(one, Mapping | list | tuple) for one in value.values()):
            return _json(value)
        return ", ".join(f"{_name(name)} {said(value_text(one, 3))}" for name, one in value.items())
    if isinstance(value, list | tuple):
        if key == "classes" or all(is_number(one) for one in value):
            return said(", ".join(value_text(one, 3) for one in value))
        items = [one["sentence"] if isinstance(one, Mapping) and "sentence" in one else one for one in value]
        return f"<ul>{''.join(f'<li>{_value(one)}</li>' for one in items)}</ul>"
    return said(value_text(value, 3))


def _run(diagnosis: Diagnosis) -> str:
    """What was run, how long it took, and what was not."""
    left_out = "".join(
        f"<li><b>{text(title(diagnosis, one.cause))}</b>: {said(one.why)}</li>" for one in diagnosis.not_run
    )
    content = f"<p class=note>Not run:</p><ul>{left_out}</ul>" if left_out else ""
    if diagnosis.seconds:
        status = dict.fromkeys((one.cause for one in diagnosis.not_run), "not run")
        status |= {verdict.cause: verdict.status for verdict in diagnosis.verdicts}
        slowest = sorted(diagnosis.seconds.items(), key=lambda item: -item[1])
        rows = "".join(
            f"<tr><td>{text(cause)}</td><td>{status.get(cause, '')}</td><td>{seconds:.1f}</td></tr>"
            for cause, seconds in slowest
        )
        head = "<tr><th scope=col>probe</th><th scope=col>verdict</th><th scope=col>seconds</th></tr>"
        content += (
            f"<details><summary>It took {sum(diagnosis.seconds.values()):.0f} s</summary>"
            f"<table class=runs><thead>{head}</thead><tbody>{rows}</tbody></table></details>"
        )
    return _section("run", "What was run", content) if content else ""
