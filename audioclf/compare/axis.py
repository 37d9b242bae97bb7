"""The values of a hyper-parameter in their order, on a scale and as text: what figures and tables share."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from audioclf.compare.comparison import Setting

LOG_FROM = 10.0  # largest over smallest value from which a scale is logarithmic


class Axis:
    """The values that a hyper-parameter takes in a study.

    Attributes:
        key: the hyper-parameter.
        values: distinct, numbers by size, then others by name.
        numeric: whether all are numbers.
        log: whether their scale is logarithmic: positive numbers that span a factor of 10 or more.
    """

    def __init__(self, key: str, settings: Iterable[Setting]) -> None:
        self.key = key
        self.values: list[Any] = sorted({setting.values.get(key) for setting in settings}, key=in_order)
        self.numeric = all(is_number(value) for value in self.values)
        self.log = self.numeric and self.values[0] > 0 and self.values[-1] / self.values[0] >= LOG_FROM
        self._rank = {value: rank for rank, value in enumerate(self.values)}

    def rank(self, value: Any) -> int:
        """The place of one of the values, from 0."""
        return self._rank[value]

    def position(self, value: Any) -> float:
        """Where a value stands from 0 to 1: to scale where all are numbers, else evenly spaced."""
        if len(self.values) == 1:
            return 0.5
        if not self.numeric:
            return self.rank(value) / (len(self.values) - 1)
        low, high, at = (math.log10(v) if self.log else float(v) for v in (self.values[0], self.values[-1], value))
        return (at - low) / (high - low)


def in_order(value: Any) -> tuple[int, float, str]:
    """Sorts the values of a key: numbers by size, then others by name."""
    return (0, float(value), "") if is_number(value) else (1, 0.0, str(value))


def is_number(value: Any) -> bool:
    """Whether a value is a finite number, not a truth value."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def value_text(value: Any, digits: int = 5) -> str:
    """A setting's value as a person writes it: ``1e-4`` for 0.0001, ``0.05`` for 0.05; printable in any case."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and math.isfinite(value):
        if value == 0 or 0.01 < abs(value) < 1e5:
            return f"{value:.{digits}g}"
        mantissa, _, exponent = f"{value:.{digits - 1}e}".partition("e")
        return f"{mantissa.rstrip('0').rstrip('.') if '.' in mantissa else mantissa}e{int(exponent)}"
    return printable(value)


def setting_text(setting: Setting, keys: Sequence[str]) -> str:
    """Some of a setting's values as on a command line, ``lr=1e-4 features.n_mels=64``; its label without any."""
    words = (f"{printable(key)}={value_text(setting.values.get(key))}" for key in keys)
    return " ".join(words) or printable(setting.label)


def short_keys(keys: Sequence[str]) -> dict[str, str]:
    """Each key's last word, ``n_mels`` for ``features.n_mels``, or the whole key where two end in the same word.

    A group's choice is named after the group, as on a command line: ``model`` for ``model.name``.
    """
    last = {key: key.removesuffix(".name").rpartition(".")[2] for key in keys}
    return {key: last[key] if list(last.values()).count(last[key]) == 1 else key for key in keys}


def short_text(setting: Setting, keys: Sequence[str], short: Mapping[str, str]) -> str:
    """Some of a setting's values by their short keys, ``lr=1e-4 n_mels=64``: for headings."""
    return " ".join(f"{printable(short[key])}={value_text(setting.values.get(key), 3)}" for key in keys)


def printable(text: object) -> str:
    """Text from files and folder names, with a replacement for what no page or picture can show."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in str(text))


def shortened(text: object, characters: int) -> str:
    """Printable text of at most so many characters."""
    whole = printable(text)
    return whole if len(whole) <= characters else f"{whole[: characters - 1]}…"


def score_text(score: float) -> str:
    """An F1 as papers print it: ``.63``; ``1.00`` for 1, ``–`` for none."""
    if not math.isfinite(score):
        return "–"
    text = f"{abs(score):.2f}"
    sign = "−" if score < 0 and float(text) else ""
    return sign + (text[1:] if text.startswith("0") else text)


def interval_text(low: float, high: float) -> str:
    """An interval of F1: ``[.55, .70]``."""
    return f"[{score_text(low)}, {score_text(high)}]"
