"""Which clips come from one recording, whatever their names and groups say."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from audioclf.clips.clip import Clip
from audioclf.clips.links import recording_id
from audioclf.diagnose.fingerprint import Words, shared


def recordings(clips: Sequence[Clip], twins: Iterable[tuple[int, int]] = ()) -> list[str]:
    """The recording of each clip: of one group, of one source, or twins of one another, all the way through.

    Args:
        clips: N of them.
        twins: places of clips that share sound.

    Returns:
        N names; that of a recording is its first clip's group.
    """
    parent = list(range(len(clips)))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    first: dict[tuple[str, str], int] = {}
    for i, clip in enumerate(clips):
        for key in (("group", clip.group), ("source", recording_id(clip.source))):
            parent[root(i)] = root(first.setdefault(key, i))
    for i, j in twins:
        parent[root(i)] = root(j)
    names: dict[int, str] = {}
    return [names.setdefault(root(i), clip.group) for i, clip in enumerate(clips)]


def twins(words: Sequence[Words], sha256s: Sequence[str], audible: Sequence[bool]) -> list[tuple[int, int]]:
    """Places ``(i, j)``, ``i < j``, of clips that share sound.

    Args:
        words: the fingerprints of N clips.
        sha256s: of their samples: copies that are too short for a fingerprint to tell are found by these.
        audible: whether there is sound in them; near-silent clips share none.
    """
    found = set(shared(words))
    first: dict[str, int] = {}
    for i, sha256 in enumerate(sha256s):
        if audible[i] and (j := first.setdefault(sha256, i)) != i:
            found.add((j, i))
    return sorted(found)
