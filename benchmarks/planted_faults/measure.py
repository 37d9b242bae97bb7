"""Folds 3 to 5, which nothing was tuned on: refuses to run before the thresholds are frozen."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import yaml

from audioclf.errors import UserError

FOLDS = (3, 4, 5)


def frozen(thresholds: Path) -> dict[str, Any]:
    """What each line of a measurement says of the thresholds, and of all code that judges: the files' sha256.

    Raises:
        UserError: the file does not say that it is frozen.
    """
    content = thresholds.read_bytes()
    if (yaml.safe_load(content) or {}).get("frozen") is not True:
        raise UserError(
            f"{thresholds}: the thresholds are not frozen, so nothing may be measured on folds 3 to 5",
            "tune them on folds 1 and 2, then write frozen: true at its top, and leave it alone",
        )
    code = hashlib.sha256()
    for file in sorted(thresholds.parent.rglob("*.py")):
        code.update(file.read_bytes())
    return {"thresholds_sha256": hashlib.sha256(content).hexdigest(), "code_sha256": code.hexdigest()}
