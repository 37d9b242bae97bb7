"""``launcher=ray`` on a real cluster of two nodes, which have an egress address each."""

from __future__ import annotations

import math
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

ray = pytest.importorskip("ray", reason="needs Ray: pip install 'audioclf[ray]'")

from ray.cluster_utils import Cluster  # noqa: E402

from audioclf.audio.importer import import_clips  # noqa: E402
from audioclf.audio.ledger import Ledger, LedgerRow  # noqa: E402
from audioclf.audio.store import AudioStore  # noqa: E402
from audioclf.clips.clip import Clip  # noqa: E402
from audioclf.clips.table import read_table  # noqa: E402
from audioclf.cluster import connected  # noqa: E402
from audioclf.config import Config, FetchConfig  # noqa: E402
from audioclf.errors import EXIT_OK, UserError  # noqa: E402
from audioclf.features.build import build_front_end  # noqa: E402
from audioclf.features.extract import extract  # noqa: E402
from audioclf.features.frontend import front_end_settings  # noqa: E402
from audioclf.features.store import FeatureStore  # noqa: E402
from audioclf.fetch.cluster import egress_of  # noqa: E402
from audioclf.fetch.failures import Reason  # noqa: E402
from audioclf.fetch.fetch import fetch_clips  # noqa: E402
from audioclf.fetch.pace import Block, SitePace  # noqa: E402
from audioclf.fetch.recording import Recording  # noqa: E402
from audioclf.fetch.schedule import Schedule, lane_of  # noqa: E402

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")

EGRESS = ("203.0.113.1", "203.0.113.2")


def config_of(**changes: Any) -> FetchConfig:
    fast = {"sleep": 0.0, "per_hour": None, "workers": 2, "workers_per_site": 1, "timeout": 100.0, "patience": 0.0}
    return FetchConfig.model_validate(fast | {"allow_private": True} | changes)


def clips_of(name: str, url: str, count: int = 1) -> list[Clip]:
    return [Clip(f"{name}-{i}", url, 2.0 * i, 2.0 * i + 1, ("a",), url) for i in range(count)]


def named(title: str) -> list[int]:
    """Running processes with that in their command line."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if title in (process / "cmdline").read_text() and "Z" not in (process / "stat").read_text().split()[2]:
                found.append(int(process.name))
        except OSError:
            continue
    return found


def eventually(done: Callable[[], object]) -> bool:
    deadline = time.monotonic() + 30
    while not done() and time.monotonic() < deadline:
        time.sleep(0.01)
    return bool(done())


class Place:
    """A cache folder that all nodes see: its store, and the driver's ledger."""

    def __init__(self, root: Path) -> None:
        self.store, self.ledger = AudioStore(root / "audio"), Ledger(root / "ledger.sqlite")

    def row(self, clip: Clip) -> LedgerRow:
        return self.ledger.get_many([clip.audio_key])[clip.audio_key]


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    place = Place(tmp_path / "cache")
    yield place
    place.ledger.close()


@pytest.fixture(scope="module")
def two_nodes() -> Iterator[Any]:
    """Two nodes with a CPU each, this process connected to them."""
    folder = tempfile.mkdtemp(prefix="ray-", dir="/tmp")
    Path("/tmp/ray").mkdir(exist_ok=True)  # Ray notes the cluster's address there, wherever its own files lie
    options = {"num_cpus": 1, "include_dashboard": False, "object_store_memory": 80 << 20}
    cluster = Cluster(
        head_node_args=options | {"temp_dir": folder, "labels": {"egress": EGRESS[0]}}, initialize_head=True
    )
    cluster.add_node(num_cpus=1, object_store_memory=80 << 20, labels={"egress": EGRESS[1]})
    ray.init(cluster.address, log_to_driver=False, logging_level="ERROR")
    yield cluster
    ray.shutdown()
    cluster.shutdown()
    shutil.rmtree(folder, ignore_errors=True)


ON_THIS_MACHINE = """
import sys
from audioclf.cli import main
from audioclf.cluster import connected

with connected():
    import ray

    print(ray.nodes()[0]["NodeManagerAddress"], ray.nodes()[0]["NodeID"])
    assert main(["fetch", "data=links", *sys.argv[1:], "launcher=ray"]) == 0
    assert ray.is_initialized()
assert not ray.is_initialized()
"""


def test_without_an_address_this_machine_is_used_alone_and_nothing_is_left(
    media: Any, media_server: Any, tmp_path: Path
) -> None:
    table, folders = tmp_path / "links.csv", set(Path("/tmp").glob("ray-*"))
    table.write_text(f"url,start,end,label\n{media_server.url(media('opus'))},1,2,dog\n")
    settings = (f"data.csv={table}", f"paths.cache={tmp_path / 'cache'}", "fetch.allow_private=true", "fetch.sleep=0")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    finished = subprocess.run(
        [sys.executable, "-c", ON_THIS_MACHINE, *settings],
        env=environment | {"HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr
    address, node = finished.stdout.split()[:2]
    assert address == "127.0.0.1", "its ports are open to nobody else"
    assert len(list((tmp_path / "cache" / "audio").rglob("*.flac"))) == 1 and not finished.stderr
    assert eventually(lambda: not named(node)) and set(Path("/tmp").glob("ray-*")) == folders
    assert not (tmp_path / ".ray").exists(), "no token in the home folder"


def test_two_addresses_fetch_at_the_same_time_and_what_came_is_never_asked_for_again(
    two_nodes: Any, media: Any, media_server: Any, place: Place
) -> None:
    links = [media_server.url(media("opus"), rate=200_000) for _ in range(4)]
    clips = [clip for i, link in enumerate(links) for clip in clips_of(f"r{i}", link, 2)]
    report = fetch_clips(clips, place.store, place.ledger, config_of(per_hour=10_000), launcher="ray")
    assert (report.fetched, report.failed, report.exit_code) == (8, {}, EXIT_OK)
    assert {site.site for site in place.ledger.get_sites()} == {f"127.0.0.1 from {address}" for address in EGRESS}
    logs = map(media_server.requests, links)
    spans = [(min(r["began"] for r in log), max(r["ended"] for r in log)) for log in logs]
    at_once = [sum(began <= now < ended for began, ended in spans) for now, _ in spans]
    assert max(at_once) == 2, "one for each address"
    assert eventually(lambda: not named("ray::Host")), "actors are gone"

    asked = len(media_server.requests())
    assert not fetch_clips(clips, place.store, place.ledger, config_of(), launcher="ray").tried
    place.store.path(clips[3]).unlink()
    assert fetch_clips(clips, place.store, place.ledger, config_of(), launcher="ray").fetched == 1
    assert {r["path"].partition("?")[2] for r in media_server.requests()[asked:]} == {links[1].partition("?")[2]}


def test_an_actor_that_is_killed_costs_no_clip(two_nodes: Any, media: Any, media_server: Any, place: Place) -> None:
    stalled = media_server.url(media("opus"), "stall", times=1)
    clips = [*clips_of("a", stalled, 2), *clips_of("b", media_server.url(media("opus")))]

    def kill() -> None:
        assert eventually(lambda: media_server.requests(stalled))
        for pid in named("ray::Host"):
            os.kill(pid, signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    report = fetch_clips(clips, place.store, place.ledger, config_of(workers=1, patience=30.0), launcher="ray")
    killer.join()
    assert (report.fetched, report.failed) == (3, {})
    assert sorted(place.row(clip).attempts for clip in clips) == [1, 1, 2]
    assert eventually(lambda: not named("audioclf.fetch.worker")), "its process died with it"


def test_a_site_that_refuses_one_address_is_asked_from_the_other(
    two_nodes: Any, media: Any, media_server: Any, place: Place
) -> None:
    refused = clips_of("refused", media_server.url(media("opus"), "429", retry_after=50))
    others = [clip for i in range(3) for clip in clips_of(f"s{i}", media_server.url(media("opus")))]
    report = fetch_clips([*refused, *others], place.store, place.ledger, config_of(), launcher="ray")
    assert [place.row(clip).failure or "ok" for clip in [*refused, *others]] == ["rate_limited", "ok", "ok", "ok"]
    (lane,) = report.blocks
    assert lane in {f"127.0.0.1 from {address}" for address in EGRESS}


def test_what_every_recording_would_meet_ends_the_fetch(
    two_nodes: Any, media: Any, media_server: Any, place: Place
) -> None:
    clips = clips_of("a", media_server.url(media("opus")))
    with pytest.raises(UserError, match=r"cookies\.txt"):
        fetch_clips(clips, place.store, place.ledger, config_of(cookies="cookies.txt"), launcher="ray")
    assert not place.ledger.get_many([clips[0].audio_key])


def test_features_are_those_that_this_machine_makes_to_the_bit(
    two_nodes: Any, tones: Path, tiny_config: Callable[..., Config], tmp_path: Path
) -> None:
    clips, _ = read_table(tones, None)
    audio, features = AudioStore(tmp_path / "audio"), tiny_config().features
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        keys = {str(row.sha256): row.key for row in import_clips(clips, audio, ledger).rows.values()}
    front_end = build_front_end(features)

    def run(folder: str, launcher: str) -> tuple[int, dict[str, bytes]]:
        settings = front_end_settings(features, front_end.version)
        store = FeatureStore(tmp_path / folder, settings, front_end.output_shape, features.storage)
        done = extract(keys, audio, store, front_end, device=torch.device("cpu"), launcher=launcher)  # type: ignore[arg-type]
        return done, {path.name: path.read_bytes() for path in (tmp_path / folder).glob("*/??/*")}

    here, there = run("here", "basic"), run("there", "ray")
    assert there == here and here[0] == len(here[1]) == 36
    lost = next((tmp_path / "there").glob("*/??/*.npy"))
    lost.unlink()
    assert run("there", "ray") == (1, here[1])

    lost.unlink()
    damaged = audio.path(keys[lost.stem])
    damaged.write_bytes(b"text")
    with pytest.raises(UserError, match=damaged.name) as error:
        run("there", "ray")
    assert error.value.hint


@given(
    recordings=st.lists(st.tuples(st.sampled_from("abc"), st.integers(-5, 5)), max_size=30),
    blocked=st.sampled_from("abc"),
    choices=st.randoms(use_true_random=False),
)
def test_each_address_has_a_share_of_its_own_and_a_block_of_one_leaves_its_recordings_to_the_other(
    recordings: list[tuple[str, int]], blocked: str, choices: random.Random
) -> None:
    paces = defaultdict(lambda: SitePace(config_of(), random.Random(0)))
    paces[lane_of(blocked, "x")].block = Block(math.inf, Reason.BOT_CHECK, "")
    schedule, now = Schedule(paces.__getitem__, 1), 95.0
    for number, (site, at) in enumerate(recordings):
        schedule.add(Recording(str(number), site, tuple(clips_of("c", str(number)))), 100.0 + at)
    taken, under_way = list[str](), list[tuple[str, str]]()
    while schedule.clips or under_way:
        found = [(a, r) for a in choices.sample(["x", "y"], 2) if (r := schedule.take(now, a)) is not None]
        for address, recording in found:
            assert 100.0 + recordings[int(recording.url)][1] <= now and (recording.site, address) != (blocked, "x")
            taken.append(recording.url)
            under_way.append((recording.site, address))
        assert len(under_way) == len(set(under_way)), "two of one site by one address"
        if not found:
            assert schedule.next_at(["x", "y"]) > now, "the loop would spin"
            if under_way and choices.random() < 0.5:
                schedule.finished(*under_way.pop(choices.randrange(len(under_way))))
            else:
                now += 1
    assert sorted(taken, key=int) == [str(number) for number in range(len(recordings))]


@pytest.mark.parametrize(
    ("own", "labels", "settings", "address"),
    [
        ("10.0.0.5", {}, {}, ""),  # behind the same router as the others, for all we know
        ("127.0.0.1", {}, {}, ""),
        ("8.8.4.4", {}, {}, "8.8.4.4"),
        ("2001:4860:4860::8844", {}, {}, "2001:4860:4860::8844"),
        ("10.0.0.5", {"egress": "203.0.113.7"}, {}, "203.0.113.7"),
        ("8.8.4.4", {"egress": "203.0.113.7"}, {"proxy": "http://p:3128"}, ""),
    ],
)
def test_machines_share_a_pace_unless_they_are_known_to_leave_by_other_addresses(
    own: str, labels: dict[str, str], settings: dict[str, str], address: str
) -> None:
    assert egress_of({"NodeManagerAddress": own, "Labels": labels}, config_of(**settings)) == address


def test_without_ray_the_user_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError) as error, connected():
        pass
    assert error.value.hint == "pip install 'audioclf[ray]'"


def test_an_address_that_cannot_be_joined_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "ray://head:10001")
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    with pytest.raises(UserError, match="RAY_ADDRESS=ray://head:10001"), connected():
        pass
