"""What every part of the schema is made of."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

NOT_IDENTITY: dict[str, Any] = {"identity": False}
"""Marks a field that cannot change a run's numbers."""

CONTENT: dict[str, Any] = {"identity": "content"}
"""Marks a field that names weights by a path, a URL or a name on a hub: of files, the content is the identity."""

SPLITS = ("train", "val", "test")

Launcher = Literal["basic", "joblib", "submitit", "ray"]
"""Where the runs of a sweep run; ``ray`` fetches and extracts on its cluster as well, the others on this machine."""


class Section(BaseModel):
    """A part of the configuration: immutable, without implicit conversions and without unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)
