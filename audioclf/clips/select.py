"""Which of a table's clips are wanted, and their labels: classes, several labels, a limit per class."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

from audioclf.clips.clip import Clip
from audioclf.config import Data
from audioclf.errors import UserError, nearest, shown

RULES = {
    "first": "the first label was kept",
    "most_specific": "the label with the fewest rows in the table was kept",
    "drop": "left out",
    "keep": "all their labels are kept",
}


@dataclass(frozen=True)
class Selection:
    """What was done to a table's clips, in numbers of clips.

    Attributes:
        other_classes: left out, as they have no class of ``data.classes``.
        narrowed: kept without their labels outside ``data.classes``.
        multi_label: that still had several labels, and were dealt with by the rule.
        rule: ``data.multi_label``.
        over_limit: left out by ``data.limit_per_class``.
    """

    other_classes: int = 0
    narrowed: int = 0
    multi_label: int = 0
    rule: str = "error"
    over_limit: int = 0

    def lines(self) -> list[str]:
        """The same for people: a line for each setting that touched a clip."""
        lines = []
        if self.other_classes:
            lines.append(f"{self.other_classes} clips of other classes left out (data.classes)")
        if self.narrowed:
            lines.append(f"{self.narrowed} clips kept without their labels of other classes (data.classes)")
        if self.multi_label:
            what = RULES[self.rule]
            lines.append(f"{self.multi_label} clips with several labels: {what} (data.multi_label={self.rule})")
        if self.over_limit:
            lines.append(f"{self.over_limit} clips above the limit left out (data.limit_per_class)")
        return lines


def select(clips: list[Clip], data: Data) -> tuple[list[Clip], Selection]:
    """Chooses clips, and makes their labels single unless ``data.multi_label=keep``.

    First ``data.classes``: other labels are taken off, and clips that have none left are left out, so a clip labelled
    "Dog" and "Outside" is a Dog where only Dog and Siren are asked for. Then ``data.multi_label``, for clips that still
    have several. Then ``data.limit_per_class``, in which a clip counts as one of its first class.

    Args:
        clips: all of a table; its rarest labels are found in these.
        data: the ``data`` section.

    Returns:
        The clips in their order, and what was done.

    Raises:
        UserError: a class that no clip has, or clips with several labels and no rule for them.
    """
    total, rows = len(clips), Counter(label for clip in clips for label in clip.labels)
    narrowed = 0
    if data.classes is not None:
        clips, narrowed = _of_classes(clips, data.classes, rows)
    other_classes = total - len(clips)
    several = sum(len(clip.labels) > 1 for clip in clips)
    if several and data.multi_label != "keep":
        clips = _single_label(clips, data.multi_label, several, rows)
    there = len(clips)
    if data.limit_per_class is not None:
        clips = _limited(clips, data.limit_per_class, data.split_seed)
    return clips, Selection(other_classes, narrowed, several, data.multi_label, there - len(clips))


def _of_classes(clips: Sequence[Clip], classes: Sequence[str], rows: Counter[str]) -> tuple[list[Clip], int]:
    """The clips of some classes without their other labels, and how many of them lost labels."""
    unknown = [name for name in classes if not rows[name]]
    if unknown:
        guess = nearest(unknown[0], rows)
        more = f" (and {len(unknown) - 1} more)" if unknown[1:] else ""
        raise UserError(
            f"data.classes: no clip of the table is labelled {shown(unknown[0])}{more}",
            f"did you mean {shown(guess)}?"
            if guess
            else f"its classes are {shown(', '.join(f'{name} ({n})' for name, n in rows.most_common(10)))}",
        )
    wanted, chosen, narrowed = frozenset(classes), [], 0
    for clip in clips:
        labels = tuple(label for label in clip.labels if label in wanted)
        if labels and len(labels) < len(clip.labels):
            narrowed += 1
            chosen.append(replace(clip, labels=labels))
        elif labels:
            chosen.append(clip)
    return chosen, narrowed


def _single_label(clips: Sequence[Clip], rule: str, several: int, rows: Counter[str]) -> list[Clip]:
    """The clips with one label each, by the rule; ``rows`` counts each label in the whole table."""
    if rule == "error":
        example = next(clip for clip in clips if len(clip.labels) > 1)
        raise UserError(
            f"{several} of {len(clips)} clips have several labels, e.g. {example.id}: {shown(', '.join(example.labels))}; "
            "expected one label a clip",
            "data.multi_label=first keeps the first label, most_specific the one with the fewest rows in the table; "
            "data.multi_label=drop leaves those clips out; data.multi_label=keep loss=bce trains on all their labels",
        )
    if rule == "drop":
        return [clip for clip in clips if len(clip.labels) == 1]
    one: dict[tuple[str, ...], tuple[str, ...]]
    if rule == "most_specific":  # a class lies within larger ones: AudioSet's Dogs are labelled Animal, too
        one = {clip.labels: (min(clip.labels, key=rows.__getitem__),) for clip in clips}
    else:
        one = {clip.labels: clip.labels[:1] for clip in clips}
    return [replace(clip, labels=one[clip.labels]) if len(clip.labels) > 1 else clip for clip in clips]


def _limited(clips: Sequence[Clip], limit: int, seed: int) -> list[Clip]:
    """At most ``limit`` clips of each class: from as many recordings as there are, published parts in proportion.

    Which ones is decided by a hash of the seed and the clip's id alone, so that a larger limit adds clips and takes
    none away.
    """
    draws = [hashlib.sha256(f"{seed}/{clip.id}".encode()).digest()[:8] for clip in clips]
    parts: dict[tuple[str, str | None, int | None], list[int]] = defaultdict(list)
    for i in sorted(range(len(clips)), key=draws.__getitem__):
        parts[clips[i].label, clips[i].split, clips[i].fold].append(i)
    order: dict[str, list[tuple[float, bytes, int]]] = defaultdict(list)
    for (label, _, _), members in parts.items():
        seen: Counter[str] = Counter()
        turns = []  # a recording's second clip comes after every recording's first
        for i in members:
            seen[clips[i].group] += 1
            turns.append((seen[clips[i].group], draws[i], i))
        order[label] += [((place + 0.5) / len(turns), draw, i) for place, (_, draw, i) in enumerate(sorted(turns))]
    kept = {i for ranked in order.values() for _, _, i in sorted(ranked)[:limit]}
    return [clip for i, clip in enumerate(clips) if i in kept]
