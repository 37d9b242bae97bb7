"""What a diagnosis says: verdicts, the gap and where it went, and what was not run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from audioclf.diagnose.verdict import Gap, Verdict
from audioclf.runs.folder import finite

SCHEMA = 1
"""Of ``diagnosis.json``."""
WITHOUT = "not to be told without "
"""Begins the evidence that says what a bare record lacks."""


@dataclass(frozen=True)
class Step:
    """One bar of "where did the F1 go".

    Attributes:
        name: in words, e.g. ``"guessing"``, ``"this run"``, ``"lower learning rate"``, ``"best probe"``.
        value: macro-F1 that it stands at (kind ``level``) or adds (kind ``gain``).
        interval: 95 %, or None where it is not known.
        kind: ``level``: a bar from 0; ``gain``: a bar that floats on what is below; ``rest``: what nobody explained.
        cause: the verdict's, for gains.
    """

    name: str
    value: float
    interval: tuple[float, float] | None
    kind: str
    cause: str | None = None


@dataclass(frozen=True)
class NotRun:
    """A probe that was not run, and why."""

    cause: str
    why: str


@dataclass(frozen=True)
class Diagnosis:
    """The answer.

    Attributes:
        run: the run's folder as given, or the record's file.
        summary: one or two sentences for people: what it is, or that it cannot be told.
        healthy: whether nothing is convicted and no gap is left unexplained.
        verdicts: of every probe that ran; convicted ones first, by share.
        gap: what there was to explain; None for a bare record.
        steps: the waterfall, from chance to the best probe; empty for a bare record.
        command: what mends it, whole: ``python train.py ...``; None where no change of settings does.
        not_run: probes left out.
        seconds: of each probe.
        facts: what the report shows beside: scores, sizes, settings.
        titles: of each cause, in words.
        repair: the overrides that ``command`` adds to the run's own; empty where it has none.
    """

    run: str
    summary: str
    healthy: bool
    verdicts: list[Verdict]
    gap: Gap | None
    steps: list[Step]
    command: str | None
    not_run: list[NotRun]
    seconds: Mapping[str, float]
    facts: Mapping[str, Any] = field(default_factory=dict)
    titles: Mapping[str, str] = field(default_factory=dict)
    repair: list[str] = field(default_factory=list)

    @property
    def convicted(self) -> list[Verdict]:
        """The causes that are named."""
        return [verdict for verdict in self.verdicts if verdict.convicted]

    @property
    def symptoms(self) -> list[Verdict]:
        """What is seen and is no cause."""
        return [v for v in self.verdicts if v.status == "undetermined" and v.numbers.get("symptom")]

    @property
    def unmentioned(self) -> list[Verdict]:
        """The causes of which a bare record says nothing: all that is known of them is what is missing."""
        undetermined = [v for v in self.verdicts if v.status == "undetermined" and self.gap is None]
        return [v for v in undetermined if v.evidence and all(said.startswith(WITHOUT) for said in v.evidence)]

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Diagnosis:
        """What :meth:`to_dict` gave.

        Raises:
            KeyError, TypeError: it is of another layout.
        """
        if content["schema"] != SCHEMA:
            raise KeyError("schema")
        fields = {
            key: content[key]
            for key in ("run", "summary", "healthy", "command", "seconds", "facts", "titles", "repair")
        }
        return cls(
            **fields,
            verdicts=[Verdict(**one) for one in content["verdicts"]],
            gap=None if content["gap"] is None else Gap(**content["gap"]),
            steps=[Step(**one) for one in content["steps"]],
            not_run=[NotRun(**one) for one in content["not_run"]],
        )

    def to_dict(self) -> dict[str, Any]:
        """The content of ``diagnosis.json``."""
        content: dict[str, Any] = finite({"schema": SCHEMA, **asdict(self)})
        return content
