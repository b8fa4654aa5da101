"""Replay from a lake: the wallets' balances come out as they do from the log, and as an independent fold says."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from distributed import LocalCluster

from ensue.errors import LakeError, ProjectionError
from ensue.lake import Collector, Lake
from examples.wallet.repair import FEE, at_rest, folded, release, shown, use, wrong
from tests.servers import fresh_database


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/wallets.db"
    else:
        with fresh_database(request.getfixturevalue("postgres_url")) as here:
            yield here


async def _ruined(url: str, lake: Path) -> int:
    """Let people use their wallets while a release takes the fee twice, and collect; return since when it did."""
    app, wallets = release(url, version=1, fee=FEE)
    app.migrate()
    await asyncio.to_thread(use, wallets, 60, random.Random(1))
    async with app.running():
        await asyncio.to_thread(at_rest, app)
    bug: int = app.log.own.run(app.log.horizon())
    app, wallets = release(url, version=1, fee=2 * FEE)
    await asyncio.to_thread(use, wallets, 30, random.Random(2))
    async with app.running():
        await asyncio.to_thread(at_rest, app)
    Collector(app.log, Lake(lake), everything=True).collect()
    await asyncio.to_thread(use, wallets, 5, random.Random(3))  # behind the lake
    assert wrong(app) > 0
    return bug


async def test_a_shadow_is_built_from_the_lake_and_goes_on_from_the_log(url: str, tmp_path: Path) -> None:
    await _ruined(url, tmp_path / "lake")
    app, _ = release(url, version=2, fee=FEE)
    replays = app.replays_from(tmp_path / "lake")
    read = replays.past.covered
    assert 0 < read < app.log.own.run(app.log.horizon())
    build = await asyncio.to_thread(replays.begin, "shown_balances")
    reach = await replays.build(build)
    assert reach.slowest >= read
    await app.replays.follow_and_switch(build, actor="ann", reason="the fee was taken twice")
    assert shown(app) == folded(app)


async def test_keys_are_repaired_from_the_lake_as_they_are_from_the_log(url: str, tmp_path: Path) -> None:
    bug = await _ruined(url, tmp_path / "lake")
    app, _ = release(url, version=1, fee=FEE)
    async with app.running():
        await asyncio.to_thread(at_rest, app)
    replays = app.replays_from(tmp_path / "lake")
    keys = await asyncio.to_thread(lambda: replays.touched("shown_balances", since=bug))
    assert keys == await asyncio.to_thread(lambda: app.replays.touched("shown_balances", since=bug))
    await replays.repair(replays.mine("shown_balances"), keys, actor="ann", reason="the fee was taken twice")
    from_lake = shown(app)
    assert from_lake == folded(app)
    await app.replays.repair(app.replays.mine("shown_balances"), keys, actor="ann", reason="again, from the log")
    assert shown(app) == from_lake


async def test_a_build_that_is_broken_off_goes_on_where_it_was(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/wallets.db"
    await _ruined(url, tmp_path / "lake")
    app, _ = release(url, version=2, fee=FEE)
    replays = app.replays_from(tmp_path / "lake")
    build = await asyncio.to_thread(replays.begin, "shown_balances")

    class Enough(Exception):
        pass

    def stop(done: int, goal: int) -> None:
        raise Enough

    with pytest.raises(Enough):
        await replays.build(build, progress=stop)
    again = app.replays_from(tmp_path / "lake")
    assert await asyncio.to_thread(again.begin, "shown_balances") == build
    await again.build(build)
    await app.replays.follow_and_switch(build, actor="ann", reason="")
    assert shown(app) == folded(app)


async def test_a_lake_that_lacks_events_is_refused(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/wallets.db"
    app, wallets = release(url, version=1, fee=FEE)
    app.migrate()
    await asyncio.to_thread(use, wallets, 20, random.Random(1))
    with pytest.raises(LakeError, match="there is no lake"):
        app.replays_from(tmp_path / "lake")
    Collector(app.log, Lake(tmp_path / "lake")).collect()
    with pytest.raises(LakeError, match="has collected nothing of urn:ensue:wallets"):
        app.replays_from(tmp_path / "lake")


@pytest.fixture(scope="module")
def scheduler() -> Iterator[str]:
    with LocalCluster(  # type: ignore[no-untyped-call]
        n_workers=2, threads_per_worker=1, dashboard_address="127.0.0.1:0", silence_logs=40
    ) as cluster:
        yield cluster.scheduler_address


async def test_two_workers_of_a_cluster_fold_what_one_machine_builds(url: str, tmp_path: Path, scheduler: str) -> None:
    await _ruined(url, tmp_path / "lake")
    app, _ = release(url, version=2, fee=FEE)
    replays = app.replays_from(tmp_path / "lake")
    alone = await asyncio.to_thread(replays.begin, "shown_balances")
    await replays.build(alone)
    await app.replays.follow_and_switch(alone, actor="ann", reason="")
    expected = shown(app)
    assert expected == folded(app)

    app, _ = release(url, version=3, fee=FEE)
    replays = app.replays_from(tmp_path / "lake")
    build = await asyncio.to_thread(replays.begin, "shown_balances")
    events = await asyncio.to_thread(replays.spread, build, scheduler)
    assert events > 0
    with pytest.raises(ProjectionError, match="has come to position"):
        await asyncio.to_thread(replays.spread, build, scheduler)
    await replays.build(build)  # what is behind the lake
    await app.replays.follow_and_switch(build, actor="ann", reason="")
    assert shown(app) == expected
