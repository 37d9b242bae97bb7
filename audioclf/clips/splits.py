"""Who trains and who tests: grouped, stratified splits, and the guard that no recording sits on both sides."""

from __future__ import annotations

import warnings
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from types import MappingProxyType

import numpy as np
from sklearn.model_selection import StratifiedGroupKFold

from audioclf.clips.clip import Clip
from audioclf.clips.manifest import count_by_label
from audioclf.config import SPLITS, Data
from audioclf.errors import UserError


@dataclass(frozen=True)
class Splits:
    """The three parts of a run.

    Attributes:
        train: clips that are learnt from; statistics come from these alone.
        val: clips that choose (epoch, settings).
        test: clips that are scored once, at the end.
        leaks: groups that sit in more than one part; empty unless the user allowed it.
        rule: how the parts were made, in words.
    """

    train: list[Clip]
    val: list[Clip]
    test: list[Clip]
    leaks: list[str]
    rule: str

    def parts(self) -> dict[str, list[Clip]]:
        """The parts by name, in the order train, val, test."""
        return {"train": self.train, "val": self.val, "test": self.test}


def split_clips(clips: Sequence[Clip], data: Data, audio: Mapping[str, str] = MappingProxyType({})) -> Splits:
    """Splits clips into train, val and test; the same clips and settings always give the same parts.

    A published split is kept; else ``data.fold`` of the published folds (or of folds made here) is test; else a
    grouped, stratified ``data.test_fraction`` is. Where val is not published it is a grouped, stratified
    ``data.val_fraction`` of what remains. Clips of several labels are stratified by all of them.

    Args:
        clips: what to split.
        data: the ``data`` section.
        audio: sha256 of each clip's samples by its id, where known: copies under other names are one recording too.

    Raises:
        UserError: a fold that does not exist, a table that names splits or folds for some rows only, a recording in
            two parts (unless ``data.allow_leak``), or a class without training clips.
    """
    clips = sorted(clips, key=lambda clip: clip.id)
    test, rest, val, rule = _test(clips, data)
    if val is None:
        val_index = _grouped_part(rest, data.val_fraction, data.split_seed, "val")
        val = [rest[i] for i in val_index]
        chosen = set(val_index)
        rest = [clip for i, clip in enumerate(rest) if i not in chosen]
        rule += f", val {data.val_fraction:.0%} of the rest by recording"
    splits = Splits(rest, val, test, _leaks((rest, val, test), audio), rule)
    if splits.leaks and not data.allow_leak:
        names = ", ".join(splits.leaks[:3]) + (", ..." if len(splits.leaks) > 3 else "")
        raise UserError(
            f"{len(splits.leaks)} recordings sit in more than one split ({names}): their scores would be too good",
            "give the clips of one recording one split, or insist with data.allow_leak=true (every table will say leaky)",
        )
    for name, part in splits.parts().items():
        if not part:
            raise UserError(
                f"no clips in the {name} split; expected at least one", f"check the split and fold columns ({rule})"
            )
    missing = sorted(set(count_by_label(clips)) - set(count_by_label(splits.train)))
    if missing:
        raise UserError(
            f"class {missing[0]} has no training clips"
            + (f" (and {len(missing) - 1} more classes)" if len(missing) > 1 else ""),
            "give it more recordings, or leave the class out of the table",
        )
    return splits


def fold_numbers(clips: Sequence[Clip], data: Data) -> list[int]:
    """The values that ``data.fold`` can take: the published folds, else 1 to ``data.folds``.

    Raises:
        UserError: the table fixes the splits, so there is no fold to choose.
    """
    if {clip.split for clip in clips} != {None}:
        raise UserError("fold=all: the table fixes the splits, so there is no fold to choose", "leave fold=all out")
    published = sorted({clip.fold for clip in clips if clip.fold is not None})
    return published or list(range(1, data.folds + 1))


def _test(clips: list[Clip], data: Data) -> tuple[list[Clip], list[Clip], list[Clip] | None, str]:
    """Test, the rest, val where it is published, and the rule in words."""
    published = {clip.split for clip in clips}
    folds = {clip.fold for clip in clips}
    if published != {None}:
        _all_or_none(published, "split", clips)
        if data.fold is not None:
            raise UserError(
                f"data.fold={data.fold}: the table fixes the splits, so there is no fold to choose",
                "leave data.fold out",
            )
        by = {name: [clip for clip in clips if clip.split == name] for name in SPLITS}
        return by["test"], by["train"], by["val"] or None, "published split"
    if folds != {None}:
        _all_or_none(folds, "fold", clips)
        numbers = sorted(f for f in folds if f is not None)
        fold = numbers[0] if data.fold is None else data.fold
        if fold not in numbers:
            raise UserError(f"data.fold={fold}: no such fold; expected one of {', '.join(map(str, numbers))}")
        test = [clip for clip in clips if clip.fold == fold]
        return test, [clip for clip in clips if clip.fold != fold], None, f"published fold {fold} of {len(numbers)}"
    if data.fold is not None:
        if data.fold > data.folds:
            raise UserError(f"data.fold={data.fold}: no such fold; expected 1 to data.folds={data.folds}")
        parts = _grouped_folds(clips, data.folds, data.split_seed)
        index, rule = parts[data.fold - 1], f"grouped fold {data.fold} of {data.folds}"
    else:
        index = _grouped_part(clips, data.test_fraction, data.split_seed, "test")
        rule = f"test {data.test_fraction:.0%} by recording"
    chosen = set(index)
    return [clips[i] for i in index], [c for i, c in enumerate(clips) if i not in chosen], None, rule


def _all_or_none(values: set[str | None] | set[int | None], column: str, clips: list[Clip]) -> None:
    if None in values:
        example = next(clip for clip in clips if getattr(clip, column) is None)
        raise UserError(
            f"some rows name a {column} and some do not (e.g. {example.id})",
            f"fill the column {column} for all rows or for none",
        )


def _grouped_part(clips: Sequence[Clip], fraction: float, seed: int, name: str) -> list[int]:
    """Indices of about ``fraction`` of the clips, whole groups, classes in proportion."""
    groups = len({clip.group for clip in clips})
    if groups < 2:
        raise UserError(
            f"{groups} recording cannot give a {name} split; expected at least 2",
            "add recordings, or check the group column",
        )
    share = Fraction(fraction).limit_denominator(max(10, round(1 / fraction)))  # 0.3: three folds of ten
    folds = max(2, min(share.denominator, groups, _largest_class(clips)))
    taken = max(1, min(round(fraction * folds), folds - 1))
    return sorted(i for fold in _grouped_folds(clips, folds, seed)[:taken] for i in fold)


def _grouped_folds(clips: Sequence[Clip], folds: int, seed: int) -> list[list[int]]:
    """Indices of each of ``folds`` parts: by scikit-learn's ``StratifiedGroupKFold``, or by all labels of a clip."""
    groups = len({clip.group for clip in clips})
    if groups < folds:
        raise UserError(f"{folds} folds need as many recordings; there are {groups}", "lower data.folds")
    recordings = Counter(label for label, _ in {(label, clip.group) for clip in clips for label in clip.labels})
    alone = sorted(label for label, number in recordings.items() if number < 2)
    if alone:
        raise UserError(
            f"class {alone[0]} has one recording to share between two splits; expected at least 3 in all, one for each of "
            "train, val and test",
            "add recordings of it, or leave the class out of the table",
        )
    if _largest_class(clips) < folds:
        raise UserError(f"{folds} folds need as many clips of a class; no class has them", "lower data.folds")
    if any(len(clip.labels) > 1 for clip in clips):
        return _folds_by_all_labels(clips, folds, seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # classes with fewer clips than folds: split_clips says what that leads to
        parts = _kfold(folds, seed).split(
            np.zeros(len(clips)), [clip.label for clip in clips], [clip.group for clip in clips]
        )
        return [part.tolist() for _, part in parts]


def _largest_class(clips: Sequence[Clip]) -> int:
    """Clips of the most frequent class."""
    return max(count_by_label(clips).values())


def _folds_by_all_labels(clips: Sequence[Clip], folds: int, seed: int) -> list[list[int]]:
    """Indices of each of ``folds`` parts, whole groups, each label in proportion.

    Iterative stratification (Sechidis et al., ECML 2011), of recordings: those of the rarest label first, each to the
    fold that lacks most clips of that label.
    """
    classes = {name: k for k, name in enumerate(count_by_label(clips))}
    members: dict[str, list[int]] = defaultdict(list)
    for i, clip in enumerate(clips):
        members[clip.group].append(i)
    names = sorted(members)
    counts = np.zeros((len(names), len(classes)), dtype=np.int64)
    for g, name in enumerate(names):
        for i in members[name]:
            counts[g, [classes[label] for label in clips[i].labels]] += 1
    lacking, room = np.tile(counts.sum(0) / folds, (folds, 1)), np.full(folds, len(clips) / folds)
    rng = np.random.default_rng(seed)
    order, parts = rng.permutation(len(names)), list[list[int]]([] for _ in range(folds))
    left = np.ones(len(names), dtype=bool)
    while left.any():
        remaining = counts[left].sum(0)
        rarest = int(np.where(remaining > 0, remaining, remaining.max() + 1).argmin())
        here = [g for g in order if left[g] and counts[g, rarest]]
        for g in sorted(here, key=lambda g: -counts[g, rarest]):
            fold = max(range(folds), key=lambda f: (lacking[f, rarest], room[f]))
            lacking[fold] -= counts[g]
            room[fold] -= len(members[names[g]])
            parts[fold] += members[names[g]]
            left[g] = False
    return [sorted(part) for part in parts]


def _kfold(folds: int, seed: int) -> StratifiedGroupKFold:
    return StratifiedGroupKFold(n_splits=folds, shuffle=True, random_state=seed)


def _leaks(parts: Sequence[Sequence[Clip]], audio: Mapping[str, str]) -> list[str]:
    """Groups of clips that share a group, a source or the very samples with a clip of another part."""
    seen: dict[tuple[str, str | None], dict[int, set[str]]] = defaultdict(lambda: defaultdict(set))
    for i, part in enumerate(parts):
        for clip in part:
            for key in (("group", clip.group), ("source", clip.source), ("audio", audio.get(clip.id))):
                if key[1] is not None:
                    seen[key][i].add(clip.group)
    return sorted({name for where in seen.values() if len(where) > 1 for names in where.values() for name in names})
