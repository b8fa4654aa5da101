"""Replay from a lake into another service's database: what one service has published, in projections of another one."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path
from typing import Any

import pytest

from ensue import App, IntegrationEvent, PastEvent, upcast
from ensue.errors import LakeError, ProjectionError
from ensue.lake import Collector, Lake, source_of


class SoldOnce(PastEvent, name="lake_elsewhere.Sold.v1"):
    shop: str
    euros: int


class SoldNow(IntegrationEvent, version=2, key="shop", name="lake_elsewhere.Sold"):
    shop: str
    cents: int


@upcast
def _in_cents(past: SoldOnce) -> SoldNow:
    return SoldNow(shop=past.shop, cents=100 * past.euros)


SOURCE = source_of("tills")


@pytest.fixture
def tills(tmp_path: Path) -> App:
    """Return a service that has published, in two versions."""
    tills = App("tills", f"sqlite:///{tmp_path}/tills.db", migrate=True)
    tills.migrate()
    with tills.transaction() as connection:
        for number in range(60):
            tills.record(SoldNow(shop=f"s{number % 3}", cents=number), via=connection)
        connection.execute(  # as an older release has recorded it
            "update ensue_events set type = 'lake_elsewhere.Sold.v1', data = replace(data, 'cents', 'euros') "
            "where position <= 30"
        )
    return tills


@pytest.fixture
def lake(tills: App, tmp_path: Path) -> Path:
    """Return a lake of what it has published."""
    Collector(tills.log, Lake(tmp_path / "lake")).collect()
    return tmp_path / "lake"


EXPECTED = [(f"s{shop}", sum(n * (100 if n < 30 else 1) for n in range(shop, 60, 3))) for shop in range(3)]


@pytest.fixture(params=["sqlite", "postgres"])
def place(request: pytest.FixtureRequest, tmp_path: Path, schema: str) -> dict[str, str]:
    on_file = request.param == "sqlite"
    url = f"sqlite:///{tmp_path}/reports.db" if on_file else request.getfixturevalue("postgres_url")
    return {"url": url, "schema": schema}


class Reports:
    """The other service; `wrong` is what it adds to each sale, and `trap` is called with each."""

    def __init__(self, place: dict[str, str], *, wrong: int = 0, version: int = 1, asynchronous: bool = False) -> None:
        self.app = App("reports", place["url"], schema=place["schema"], migrate=True)
        self.table = f"turnover_{self.app.log.place.schema}"
        self.trap: Any = lambda event: None
        mark = "%s" if place["url"].startswith("postgres") else "?"
        sold = (
            f"insert into {self.table} values ({mark}, {mark}) "
            f"on conflict (shop) do update set cents = {self.table}.cents + excluded.cents"
        )
        options: dict[str, Any] = {
            "name": "turnover",
            "tables": self.table,
            "set_up": f"create table {self.table} (shop text primary key, cents bigint not null)",
            "version": version,
            "clear": lambda shop, db: db.execute(f"delete from {self.table} where shop = {mark}", (shop,)),
        }

        def turnover(event: SoldNow, db: Any) -> Any:
            self.trap(event)
            return db.execute(sold, (event.shop, event.cents + wrong))

        def in_sync(event: SoldNow, db: Any) -> None:
            turnover(event, db)

        async def in_async(event: SoldNow, db: Any) -> None:
            await turnover(event, db)

        self.app.projection(SoldNow, **options)(in_async if asynchronous else in_sync)
        self.app.migrate()

    def rows(self) -> list[tuple[str, int]]:
        with self.app.transaction() as connection:
            found = connection.execute(f"select shop, cents from {self.table} order by 1").fetchall()
            return [tuple(each) for each in found]


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_another_services_database_is_built_and_goes_on(
    place: dict[str, str], lake: Path, asynchronous: bool
) -> None:
    reports = Reports(place, asynchronous=asynchronous)
    replays = reports.app.replays_from(lake, source=SOURCE)
    build = await asyncio.to_thread(replays.begin, "turnover")
    seen: list[tuple[int, int]] = []
    reach = await replays.build(build, progress=lambda done, goal: seen.append((done, goal)))
    assert (reach.slowest >= 0, reach.parked, seen[-1]) == (True, 0, (60, 60))
    assert reports.rows() == []  # readers see nothing of it yet
    with reports.app.transaction() as connection:
        reports.app.record(SoldNow(shop="s9", cents=5), via=connection)
    await reports.app.replays.build(build)
    await reports.app.replays.follow_and_switch(build, actor="ann", reason="the first time")
    assert reports.rows() == [*EXPECTED, ("s9", 5)]


async def test_it_is_broken_off_by_what_fails_and_goes_on_there(place: dict[str, str], lake: Path) -> None:
    reports = Reports(place)

    def trap(event: SoldNow) -> None:
        if event.cents == 41:
            socket.create_connection(("127.0.0.1", 9))

    applied: list[int] = []
    reports.trap = trap
    replays = reports.app.replays_from(lake, source=SOURCE)
    reports.app.declarations.projections["turnover"] = _in_batches_of(reports, 7)
    build = await asyncio.to_thread(replays.begin, "turnover")
    with pytest.raises(ProjectionError, match=r"at position 42 of urn:ensue:tills could not be applied: LeavesThe"):
        await replays.build(build)
    with pytest.raises(ProjectionError, match="go on with the same --from-lake and --source"):
        await reports.app.replays.build(build)
    reports.trap = lambda event: applied.append(event.cents)
    again = reports.app.replays_from(lake, source=SOURCE)
    assert await asyncio.to_thread(again.begin, "turnover") == build
    await again.build(build)
    assert applied[0] == 35  # the batch that failed begins with it; what came before is done
    await again.build(build)  # there is nothing left to do
    await reports.app.replays.follow_and_switch(build, actor="ann", reason="")
    assert reports.rows() == EXPECTED


def _in_batches_of(reports: Reports, size: int) -> Any:
    from dataclasses import replace

    return replace(reports.app.declarations.projections["turnover"], batch=size)


async def test_keys_are_repaired_since_a_moment(place: dict[str, str], lake: Path) -> None:
    reports = Reports(place, wrong=1)
    replays = reports.app.replays_from(lake, source=SOURCE)
    build = await asyncio.to_thread(replays.begin, "turnover")
    await replays.build(build)
    await reports.app.replays.follow_and_switch(build, actor="ann", reason="")
    assert reports.rows() != EXPECTED
    mended = Reports(place)
    replays = mended.app.replays_from(lake, source=SOURCE)
    assert replays.touched("turnover", since=58) == ["s1", "s2"]
    await replays.repair(replays.mine("turnover"), ["s1", "s2"], actor="ann", reason="")
    shown = mended.rows()
    assert (shown[0] != EXPECTED[0], shown[1:]) == (True, EXPECTED[1:])
    await replays.repair(replays.mine("turnover"), ["s0"], actor="ann", reason="")
    assert mended.rows() == EXPECTED


def test_a_source_that_the_lake_has_not(place: dict[str, str], lake: Path) -> None:
    with pytest.raises(LakeError, match="has collected nothing of urn:ensue:x; it has collected urn:ensue:tills"):
        Reports(place).app.replays_from(lake, source="urn:ensue:x")


async def test_a_build_that_workers_have_begun_from_the_log_alone_is_refused(place: dict[str, str], lake: Path) -> None:
    Reports(place)
    reports = Reports(place, version=2)  # its release is migrated: there is a build for its workers
    replays = reports.app.replays_from(lake, source=SOURCE)
    with pytest.raises(
        ProjectionError, match=r"begun by workers, .* ensue projection drop turnover 2, and begin again"
    ):
        await asyncio.to_thread(replays.begin, "turnover")
    await asyncio.to_thread(lambda: reports.app.replays.drop("turnover", 2, actor="ann", reason=""))  # as it says
    build = await asyncio.to_thread(replays.begin, "turnover")
    await replays.build(build)
    await reports.app.replays.follow_and_switch(build, actor="ann", reason="")
    assert reports.rows() == EXPECTED
