"""What a person reads of a run's data."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from audioclf.clips.select import Selection
from audioclf.training.report import _data_lines


def test_of_hundreds_of_classes_those_that_lack_most_are_shown_and_the_rest_counted() -> None:
    per_class = {f"class {i:03}": {"rows": 1000, "usable": 999 - i} for i in range(500)}
    data: dict[str, Any] = {
        **{"name": "links", "synthetic": False, "format": "audioset", "clips": 9, "groups": 9, "classes": ["a"]},
        **{"split_rule": "published split", "skipped": {}, "bad_rows": [], "partial": 0},
        "selection": asdict(Selection()),
        "coverage": {"rows": 10, "usable": 9, "retriable": 0, "per_class": per_class},
    }
    (line,) = (line for line in _data_lines(data) if line.startswith("  by class: "))
    assert line.startswith("  by class: class 499 500/1000, class 498 501/1000, ")
    assert line.count("/1000") == 40 and line.endswith(" and 460 more (result.json has all)")
