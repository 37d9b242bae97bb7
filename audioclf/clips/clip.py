"""The clip: one labelled segment of a recording, and the key its audio is stored under."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

from audioclf.clips.links import recording_id


@dataclass(frozen=True, slots=True)
class Clip:
    """One labelled segment of a recording.

    Attributes:
        id: unique in its manifest, stable from one reading to the next, safe as a file name.
        source: URL or path of the recording.
        start: where the clip begins in the recording, in seconds, >= 0.
        end: where it ends, in seconds, > start; None means "to the end of the recording".
        labels: one or more class names, in the table's order.
        annotation: free text, or empty.
        split: ``"train"``, ``"val"`` or ``"test"`` where the publisher fixed it, else None.
        fold: the publisher's fold, from 1, else None.
        group: the recording's id, never empty; clips of one group never sit in two splits.
    """

    id: str
    source: str
    start: float
    end: float | None
    labels: tuple[str, ...]
    group: str
    annotation: str = ""
    split: str | None = None
    fold: int | None = None

    @property
    def label(self) -> str:
        """The one label that single-label training uses: the first."""
        return self.labels[0]

    @property
    def audio_key(self) -> str:
        """Name of the clip's audio in the store: the same segment of the same recording, however it is named or labelled.

        Two tables that share a segment share its audio; two sources that share a file name do not.
        """
        recording = recording_id(self.source)
        last = re.split(r"[?#]", recording)[0].rstrip("/").rpartition("/")[2]
        name = f"{last}_{self.start:g}"  # for people; the digest tells recordings apart
        digest = hashlib.sha256(f"{recording}|{self.start!r}|{self.end!r}".encode()).hexdigest()[:16]
        return f"{safe_name(name, 60)}-{digest}"


def safe_name(text: str, limit: int = 100) -> str:
    """``text`` with everything but ASCII letters, digits, ``.``, ``_`` and ``-`` made ``_``; never hidden or empty."""
    name = re.sub(r"[^A-Za-z0-9._-]+", "_", text).lstrip(".")[:limit]
    return name or "_"
