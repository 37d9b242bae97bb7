"""What surrounds a run and cannot change its numbers: ``search``, ``diagnose``, ``fetch``, ``paths``."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from audioclf.config.section import Section


class SearchConfig(Section):
    """How a sweep chooses what it runs; none of it can change a run's numbers."""

    name: Literal["grid", "optuna"]
    trials: int = Field(30, ge=1, description="settings that are tried, by all calls of the same search together")
    prune: bool = Field(True, description="give up early what is worse than two thirds of the others")
    study: str | None = Field(None, description="folder name of the search that a run belongs to; a search sets it")
    trial: int | None = Field(None, ge=0, description="number of the trial that a run is of; a search sets it")


class DiagnoseConfig(Section):
    """How a finished run is diagnosed."""

    budget_minutes: float = Field(
        10.0, gt=0, description="time for retraining; what does not fit is listed as not run [min]"
    )
    yamnet: str | None = Field(
        None,
        description="file of YAMNet's weights: a frozen embedding that features are held against; null: the downloaded one",
    )


class FetchConfig(Section):
    """How links become clips: politeness, limits, access. None of it can change a number."""

    enabled: bool = Field(True, description="train.py fetches what is missing; false: it trains on what is there")
    workers: int = Field(8, ge=1, le=256, description="recordings fetched at the same time")
    workers_per_site: int = Field(1, ge=1, le=256, description="of them, at most this many at one site")
    sleep: float = Field(5.0, ge=0, description="mean pause between two recordings of a site, randomised [s]")
    per_hour: int | None = Field(300, ge=1, description="recordings of a site in an hour, at most; null: no cap")
    patience: float = Field(60.0, ge=0, description="the longest wait for a retry or a blocked site [s]")
    timeout: float = Field(20.0, gt=0, description="a connection without an answer is given up after this [s]")
    max_seconds: float = Field(600.0, gt=0, description="time limit for one clip [s]")
    max_mb: float = Field(256.0, gt=0, description="bytes fetched for one clip, at most [MB]")
    cookies: str | None = Field(None, description="file with cookies in Netscape's format; never copied or logged")
    proxy: str | None = Field(None, description="http or socks5 address; null: what the environment says")
    allow_private: bool = Field(False, description="follow links to loopback, link-local and private addresses")


class PathsConfig(Section):
    """Where things are kept; none of it can change a number."""

    cache: str = Field("cache", description="audio store, features and demo recordings")
    outputs: str = Field("outputs", description="run folders")
