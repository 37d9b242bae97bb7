"""What was written about clips: whether it gives the class away."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

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
    """Looks for each clip's classes in its annotation: all words of a name, in any order, case and English ending.

    ``crying_baby`` stands in "the babies cried", ``dog`` not in "dogma".
    """
    found: list[str] = []
    count = 0
    for clip in clips:
        count += 1
        text = _stems(clip.annotation)
        named = next((label for label in clip.labels if _stems(label) and _stems(label) <= text), None)
        if named is not None:
            found.append(f"class {named!r}: {clip.annotation[:80]}")
    return GivenAway(count, len(found), found[0] if found else "")


def _stems(text: str) -> frozenset[str]:
    """The words of a text without case and endings; ``_`` and ``-`` are spaces."""
    return frozenset(map(_stem, re.sub(r"[\W_]+", " ", text.casefold()).split()))


@lru_cache(maxsize=65_536)
def _stem(word: str) -> str:
    """A word without plural, -ed and -ing: about the first step of M. F. Porter's "An algorithm for suffix stripping", 1980."""
    stem = re.sub(r"(?<=\w{3})(?:ing|ed|es|s|e)$", "", word)
    stem = re.sub(r"([^aeiou\W\d])\1$", r"\1", stem)  # clapp(ing) as clap
    return re.sub(r"(?<=\w{2})y$", "i", stem)  # cry as cri(es)
