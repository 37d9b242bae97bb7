"""What was written about clips: whether it gives the class away."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from audioclf.clips.clip import Clip


@dataclass(frozen=True)
class GivenAway:
    """Clips whose annotation contains the name of their class.

    Attributes:
        clips: how many there are.
        named: how many of them say it.
        example: the first, as ``"class 'dog': a dog barks"``; empty where there is none.
    """

    clips: int
    named: int
    example: str

    @property
    def share(self) -> float:
        """Of the clips, those that say it."""
        return self.named / max(self.clips, 1)

    @property
    def sentence(self) -> str:
        """What was found, in words."""
        example = f", e.g. {self.example}" if self.example else ""
        return f"{self.named} of {self.clips} annotations ({self.share:.0%}) contain the name of the class{example}"


def given_away(clips: Iterable[Clip]) -> GivenAway:
    """Looks for each clip's classes in its annotation: whole words, whatever their case, ``_`` and ``-`` as spaces."""
    found: list[str] = []
    count = 0
    for clip in clips:
        count += 1
        text = _words(clip.annotation)
        named = next((label for label in clip.labels if _words(label) and _words(label) in text), None)
        if named is not None:
            found.append(f"class {named!r}: {clip.annotation[:80]}")
    return GivenAway(count, len(found), found[0] if found else "")


def _words(text: str) -> str:
    """Words in small letters between single spaces, e.g. ``" dog bark "``; empty where there is none."""
    found = re.sub(r"[\W_]+", " ", text.casefold()).strip()
    return f" {found} " if found else ""
