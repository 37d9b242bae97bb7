"""The one interface of all probes, and how their files are found."""

from __future__ import annotations

import importlib
import pkgutil
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar

from audioclf.diagnose import probes
from audioclf.diagnose.verdict import Gap, Limits, Numbers, Verdict, share_of, status_of

if TYPE_CHECKING:
    from audioclf.diagnose.lab import Lab


class Probe(ABC):
    """Looks for one cause of a low F1.

    A file in ``audioclf/diagnose/probes/`` with one subclass is all that a new cause needs.

    Attributes:
        cause: its name, as in ``diagnosis.json``.
        title: what it is, in a few words after "The F1 is low because": ``"the learning rate is too high"``.
        order: cheap and decisive ones first; what the budget does not reach is listed as not run.
    """

    cause: ClassVar[str]
    title: ClassVar[str]
    order: ClassVar[int] = 50

    @abstractmethod
    def examine(self, lab: Lab) -> Numbers:
        """Measures: symptoms first and, where they nominate the cause, the intervention. Concludes nothing.

        Returns:
            Plain JSON values. ``"nominated"``: bool. An intervention's effect stands under ``"effect"``
            (:func:`audioclf.diagnose.trial.effect`); its ``after`` may raise the reference.
        """

    @abstractmethod
    def judge(self, numbers: Numbers, gap: Gap, limits: Limits) -> Verdict:
        """Concludes from the numbers alone, so that a diagnosis can be judged again with other limits."""

    def convict(
        self, numbers: Numbers, gap: Gap, limits: Limits, evidence: list[str], mend: list[str] | str
    ) -> Verdict:
        """The verdict that ``numbers["effect"]`` gives, by the rule that all interventions share.

        A setting that learns nothing, with the repair or without, shows nothing: the cause may hide behind another.
        """
        effect = numbers["effect"]
        share, interval = share_of(effect, gap)
        status = status_of(effect, gap, limits)
        learnt = max(effect["before"], effect["after"]) - gap.chance >= limits["least_gain"]
        if status == "cleared" and not learnt and gap.reference - gap.chance >= limits["least_gain"]:
            status = "undetermined"
            evidence = [*evidence, "the setting learns nothing either way: mend what is named, and diagnose again"]
        wanted = mend if status in ("explains", "contributes") else None
        return Verdict(self.cause, status, share, interval, evidence, wanted, numbers)

    def cleared(self, numbers: Numbers, *evidence: str) -> Verdict:
        """The verdict where no symptom nominates the cause."""
        return Verdict(self.cause, "cleared", None, None, list(evidence), None, numbers)

    def undetermined(self, numbers: Numbers, *evidence: str) -> Verdict:
        """The verdict where the evidence is not enough."""
        return Verdict(self.cause, "undetermined", None, None, list(evidence), None, numbers)


def all_probes() -> list[Probe]:
    """One of each, in their order."""
    found = []
    for module in pkgutil.iter_modules(probes.__path__):
        content = vars(importlib.import_module(f"{probes.__name__}.{module.name}"))
        found += [
            kind()
            for kind in content.values()
            if isinstance(kind, type) and issubclass(kind, Probe) and kind.__module__.endswith(f".{module.name}")
        ]
    return sorted(found, key=lambda probe: (probe.order, probe.cause))
