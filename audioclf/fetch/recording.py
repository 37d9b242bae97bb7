"""The unit of fetching: one recording of one site with all clips that are wanted of it, and what became of each."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from audioclf.audio.ledger import LedgerRow
from audioclf.clips.clip import Clip
from audioclf.clips.links import recording_id, site_of
from audioclf.fetch.failures import Fault


@dataclass(frozen=True, slots=True)
class Recording:
    """A link and the clips wanted of it.

    Attributes:
        url: http or https.
        site: whom to be polite to: the host name without ``www.``; one name for all of YouTube's.
        clips: by start.
    """

    url: str
    site: str
    clips: tuple[Clip, ...]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one clip: its audio lies in the store and ``row`` says so, or ``fault`` says why not.

    Attributes:
        clip: the clip.
        row: to be put into the ledger; its FLAC is committed.
        fault: where there is no audio.
        received: bytes that came over the network for it; a recording's common bytes count for its first clip.
    """

    clip: Clip
    row: LedgerRow | None = None
    fault: Fault | None = None
    received: int = 0


def group_by_recording(clips: Iterable[Clip]) -> list[Recording]:
    """Recordings in the order in which they first occur, however their links are written."""
    found: dict[str, list[Clip]] = defaultdict(list)
    for clip in clips:
        found[recording_id(clip.source)].append(clip)
    return [
        Recording(group[0].source, site_of(group[0].source), tuple(sorted(group, key=lambda clip: clip.start)))
        for group in found.values()
    ]
