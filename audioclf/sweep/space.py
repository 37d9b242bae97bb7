"""What a search searches in: the swept keys of a command line, read without Optuna."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from hydra.core.override_parser.types import IntervalSweep, Override

from audioclf.errors import UserError, shown

LOG_FROM = 100.0
"""An interval of positive bounds whose upper one is this many times the lower one is searched on a logarithmic scale."""
DIGITS = 4
"""Significant digits of a proposed number: enough to hit any optimum, few enough to type."""


@dataclass(frozen=True)
class Choice:
    """One of several values without an order between them.

    Attributes:
        key: as typed, with a ``+`` where there was one.
        values: as on a command line.
    """

    key: str
    values: tuple[str, ...]

    @property
    def ends(self) -> tuple[str, ...]:
        """A value that can be had."""
        return self.values[:1]

    def text(self, value: object) -> str:
        """A proposed value as on a command line."""
        return str(value)


@dataclass(frozen=True)
class Interval:
    """Numbers between two, both included; whole ones where both are typed as such.

    Attributes:
        key: as typed, with a ``+`` where there was one.
        low, high: the ends.
        log: whether a factor counts the same everywhere, not a difference.
        step: distance between values; None: any.
    """

    key: str
    low: int | float
    high: int | float
    log: bool = False
    step: int | float | None = None

    @property
    def whole(self) -> bool:
        """Whether its values are whole numbers."""
        return isinstance(self.low, int) and isinstance(self.high, int)

    def real(self) -> Interval:
        """The same for a key that takes any number: ``interval(0,1)`` was not meant to be 0 or 1."""
        return replace(self, low=float(self.low), high=float(self.high))

    @property
    def ends(self) -> tuple[str, ...]:
        """Lowest and highest value, as on a command line."""
        return str(self.low), str(self.high)

    def text(self, value: object) -> str:
        """A proposed value as on a command line, rounded to :data:`DIGITS` digits within the interval."""
        if self.whole:
            return str(round(float(str(value))))
        number = float(str(value))
        unit = abs(number) if self.log else self.high - self.low
        if self.step:
            return str(_clean(number))
        digits = DIGITS - 1 - math.floor(math.log10(unit))
        return str(min(max(round(number, digits), float(self.low)), float(self.high)))


Axis = Choice | Interval


def axis_of(override: Override) -> Axis:
    """The axis that a swept override spans.

    ``a,b,c``, ``choice`` and ``glob`` give a :class:`Choice`; ``interval`` and ``range`` an :class:`Interval`, the
    latter with a step. ``tag(log, interval(...))`` and ``tag(linear, interval(...))`` say which scale.

    Raises:
        UserError: an interval that is none, or a tag that is not known.
    """
    key, sweep = override.get_key_element(), override.value()
    if isinstance(sweep, IntervalSweep):
        return _interval(override, key, sweep)
    values = tuple(override.sweep_string_iterator())
    if override.is_range_sweep() and len(values) > 1:
        whole = all(value.lstrip("-").isdigit() for value in values)
        numbers = sorted(int(value) if whole else float(value) for value in values)
        step = numbers[1] - numbers[0]
        return Interval(key, _clean(numbers[0]), _clean(numbers[-1]), step=_clean(step))
    return Choice(key, values)


def _interval(override: Override, key: str, sweep: IntervalSweep) -> Interval:
    low, high, typed = sweep.start, sweep.end, shown(override.input_line or "")
    ends = re.findall(r"interval\(([^,()]*),([^,()]*)\)", typed)  # Hydra makes them floats
    if low is None or high is None or not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise UserError(f"{typed}: expected two numbers, the lower one first", f"write '{key}=interval(LOW,HIGH)'")
    if unknown := sweep.tags - {"log", "linear"}:
        raise UserError(f"{typed}: {sorted(unknown)[0]} is no scale; expected log or linear")
    if "log" in sweep.tags and low <= 0:
        raise UserError(f"{typed}: a logarithmic scale has no {low:g}; expected positive numbers")
    log = "log" in sweep.tags or ("linear" not in sweep.tags and low > 0 and high / low >= LOG_FROM)
    if ends and all(re.fullmatch(r"(\w+=)?[+-]?\d+", end.strip()) for end in ends[0]):
        low, high = int(low), int(high)
    return Interval(key, low, high, log)


def _clean(number: int | float) -> int | float:
    """0.3 for what sums of 0.1 come to."""
    return number if isinstance(number, int) else float(f"{number:.10g}")


def words(axes: Iterable[Axis], values: Mapping[str, object]) -> list[str]:
    """Proposed values as overrides: ``["lr=0.0003162", "model.hidden=128"]``."""
    return [f"{axis.key}={axis.text(values[axis.key])}" for axis in axes]
