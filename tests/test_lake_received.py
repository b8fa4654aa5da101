"""Replay from a lake into a service whose inbox has recorded some of the same events: nothing is missing or twice."""

from __future__ import annotations

import asyncio
import json
import sys
from collections import Counter
from collections.abc import Collection, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from ensue import App, IntegrationEvent, Recorded
from ensue.brokers import Outgoing, broker_at
from ensue.brokers.memory import _all
from ensue.cli import main
from ensue.contracts.cloudevents import NATS, binary
from ensue.errors import LakeError
from ensue.lake import Collector, Lake, fold_part, source_of
from tests.patience import until


class Sold(IntegrationEvent, version=1, key="shop", name="lake_received.Sold"):
    shop: str
    cents: int


SOURCE = source_of("tills")


@pytest.fixture
def broker(schema: str) -> Iterator[str]:
    """Return the URL of a broker of the test's own."""
    yield f"memory://{schema.replace('_', '-')}"
    _all.clear()


class Company:
    """Tills that publish, a lake of that, and reports that have an inbox and a read model: what each shop has sold."""

    def __init__(self, folder: Path, url: str, schema: str, broker: str) -> None:
        self.broker = broker
        self.address = folder / "lake"
        self.tills = App("tills", f"sqlite:///{folder}/tills.db", migrate=True)
        self.tills.migrate()
        self.reports = App("reports", url, schema=schema, migrate=True)
        self.table = f"turnover_{schema}"
        mark = "%s" if url.startswith("postgres") else "?"

        @self.reports.projection(
            Sold,
            tables=self.table,
            name="turnover",
            set_up=f"create table {self.table} (shop text primary key, cents bigint not null)",
            clear=lambda shop, db: db.execute(f"delete from {self.table} where shop = {mark}", (shop,)),
        )
        def turnover(event: Sold, db: Any) -> None:
            db.execute(
                f"insert into {self.table} values ({mark}, {mark}) "
                f"on conflict (shop) do update set cents = {self.table}.cents + excluded.cents",
                (event.shop, event.cents),
            )

        self.reports.inbox(broker, Sold)
        self.reports.migrate()

    def sell(self, *shops: str) -> None:
        with self.tills.transaction() as connection:
            for number, shop in enumerate(shops, 1):
                self.tills.record(Sold(shop=shop, cents=10**6 + number), via=connection)

    def collect(self) -> None:
        Collector(self.tills.log, Lake(self.address)).collect()

    async def deliver(self, positions: Collection[int], *, broken: int = 0) -> None:
        """Let the inbox receive some of what was sold, one of them broken, and the read model follow."""
        sent = [each for each in self.tills.read() if each.position in positions]
        publisher = broker_at(self.broker).publisher()
        await publisher.open([Sold.__type__])
        outgoing: list[Outgoing] = []
        for each in sent:
            type, headers, body = binary(each, SOURCE, NATS)
            body = b"{}" if each.position == broken else body
            outgoing.append(Outgoing(Sold.__type__, each.key, each.id_text, type, headers, body))
        assert await publisher.publish(outgoing) == [None] * len(sent)
        ids = {each.id_text for each in sent}
        async with self.reports.running():
            await until(lambda: ids <= {each.causation_id for each in self.reports.read()})
            await until(self.followed)

    def followed(self) -> bool:
        live = next(each for each in self.reports.replays.builds("turnover") if each.build.state == "live")
        return live.reach is not None and live.reach.slowest >= live.head

    async def replay(self) -> list[str]:
        """Build anew from the lake, and show it; return the keys that are outstanding."""
        replays = self.reports.replays_from(self.address, source=SOURCE)
        build = await asyncio.to_thread(replays.begin, "turnover")
        await replays.build(build)
        await self.reports.replays.follow_and_switch(build, actor="ann", reason="it was ruined")
        return replays.outstanding("turnover")

    def ruin(self) -> None:
        with self.reports.transaction() as connection:
            connection.execute(f"update {self.table} set cents = -1")

    @property
    def shown(self) -> dict[str, int]:
        with self.reports.transaction() as connection:
            return dict(tuple(each) for each in connection.execute(f"select shop, cents from {self.table}").fetchall())

    def sold(self, positions: Collection[int] | None = None) -> dict[str, int]:
        """Return what was sold in each shop, by the tills' own log."""
        found: Counter[str] = Counter()
        for each in self.tills.read(types=[Sold]):
            if positions is None or each.position in positions:
                found[each.event.shop] += each.event.cents
        return dict(found)


@pytest.fixture(params=["sqlite", "postgres"])
def company(request: pytest.FixtureRequest, tmp_path: Path, schema: str, broker: str) -> Company:
    on_file = request.param == "sqlite"
    url = f"sqlite:///{tmp_path}/reports.db" if on_file else request.getfixturevalue("postgres_url")
    return Company(tmp_path, url, schema, broker)


on_sqlite = pytest.mark.parametrize("company", ["sqlite"], indirect=True)

SHOPS = ("a", "b", "c", "quiet", "a", "b", "c", "a", "b", "a")
"""Positions 1 to 10."""


async def test_the_lake_gives_what_came_before_the_inbox_and_the_log_goes_on(company: Company) -> None:
    company.sell(*SHOPS)
    await company.deliver(range(5, 11))  # the broker had no more when the inbox began
    company.collect()
    company.sell("d", "a")  # behind what the lake has
    await company.deliver((11, 12))
    company.ruin()
    assert await company.replay() == []
    assert company.shown == company.sold()
    company.sell("a", "e", "quiet")
    company.collect()
    await company.deliver(range(9, 16))  # some of them once more
    assert company.shown == company.sold()
    assert await company.replay() == []
    assert company.shown == company.sold()


def _row(row: dict[str, Any] | None, event: Sold, recorded: Recorded[Sold]) -> dict[str, Any]:
    return {"shop": event.shop, "cents": (row["cents"] if row else 0) + event.cents}


@on_sqlite
async def test_a_cluster_folds_what_the_lake_gives(company: Company) -> None:
    company.sell(*SHOPS)
    company.collect()
    await company.deliver(range(5, 9))
    replays = company.reports.replays_from(company.address, source=SOURCE)
    build = await asyncio.to_thread(replays.begin, "turnover")
    folded = fold_part(replays._whole(build, _row))
    assert (dict(folded.rows), folded.events) == (company.sold(range(1, 5)), 4)


@on_sqlite
async def test_what_is_on_its_way_counts_once_when_it_comes(company: Company) -> None:
    company.sell(*SHOPS, "new", "a")
    company.collect()
    await company.deliver(range(5, 9))
    assert await company.replay() == ["new"]
    assert company.shown == company.sold(range(1, 9))
    await company.deliver(range(9, 13))
    assert company.shown == company.sold()


@on_sqlite
async def test_what_never_comes_is_taken_from_the_lake_by_its_key(
    company: Company, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    module = ModuleType("company_of_the_test")
    vars(module)["app"] = company.reports
    monkeypatch.setitem(sys.modules, module.__name__, module)

    async def ensue(*words: str) -> str:
        with pytest.raises(SystemExit, match="0"):
            await asyncio.to_thread(main, words)
        return capsys.readouterr().out

    company.sell(*SHOPS, "lost", "a")
    company.collect()
    company.sell("b")
    await company.deliver((5, 7, 8, 10, 12, 13))  # 6 and 9 come no more, either: a later one of the same key has come
    app = ("--app", "company_of_the_test:app")
    said = await ensue("replay", "turnover", "--shadow", "--from-lake", f"{company.address}", "--source", SOURCE, *app)
    assert "of 1 key the lake has events that this log has not received: lost" in said
    await ensue("projection", "switch", "turnover", "--yes", *app)
    assert company.shown == {shop: cents for shop, cents in company.sold().items() if shop != "lost"}
    replays = company.reports.replays_from(company.address, source=SOURCE)
    assert replays.touched("turnover", since=10) == ["a", "b"]  # not what may still come
    (advice,) = (line.split()[1:] for line in said.splitlines() if "--key lost" in line)
    await ensue(*advice, "--yes")  # as it says
    assert company.shown == company.sold()


@on_sqlite
async def test_what_an_inbox_keeps_as_a_dead_letter_counts_once_when_it_is_mended(company: Company) -> None:
    company.sell(*SHOPS)
    company.collect()
    await company.deliver(range(5, 11), broken=5)
    assert await company.replay() == []
    assert company.shown == company.sold((1, 2, 3, 4, 6, 7, 9))  # the others of its key wait behind it
    (letter,) = company.reports.operations.dead_letters()
    whole = json.loads(letter.data or "")
    whole["message"]["data"] = {"shop": "a", "cents": 10**6 + 5}
    company.reports.operations.edit("inbox", letter.id, json.dumps(whole), actor="ann", reason="")
    async with company.reports.running():
        await until(lambda: company.shown == company.sold())


async def test_keys_are_repaired_from_both(company: Company) -> None:
    company.sell(*SHOPS)
    await company.deliver(range(5, 11))
    company.collect()
    await company.replay()
    company.sell("b", "d")
    await company.deliver((11, 12))
    company.ruin()
    replays = company.reports.replays_from(company.address, source=SOURCE)
    assert replays.touched("turnover", since=8) == ["a", "b", "d"]  # the lake has 9 and 10
    for keys in (["d", "a"], ["quiet", "b", "c"]):
        await replays.repair(replays.mine("turnover"), keys, actor="ann", reason="")
    assert company.shown == company.sold()


async def test_what_was_pruned_from_the_log_the_lake_gives(company: Company) -> None:
    company.sell(*SHOPS)
    company.collect()
    await company.deliver(range(1, 9))
    assert (
        company.reports.history.prune("0s", types=[Sold], actor="ann", reason="old").events == 7
    )  # it keeps the newest
    await company.deliver((9, 10))
    company.ruin()
    assert await company.replay() == []
    assert company.shown == company.sold()
    with company.reports.transaction() as connection:
        company.reports.record(Sold(shop="own", cents=1), via=connection)
    replays = company.reports.replays_from(company.address, source=SOURCE)
    with pytest.raises(LakeError, match=r"7 events .* have been pruned .* 1 are not of urn:ensue:tills"):
        await asyncio.to_thread(replays.begin, "turnover")


@on_sqlite
async def test_an_inbox_that_has_received_nothing_yet_is_waited_for(company: Company) -> None:
    company.sell(*SHOPS)
    company.collect()
    replays = company.reports.replays_from(company.address, source=SOURCE)
    with pytest.raises(LakeError, match=r"has received none of urn:ensue:tills.* Begin again when it has received one"):
        await asyncio.to_thread(replays.begin, "turnover")
    await company.deliver((8,))  # as it says
    await company.replay()
    await company.deliver((9, 10))
    assert company.shown == company.sold()


@on_sqlite
async def test_a_lake_that_ends_before_the_inbox_began_is_collected_further(company: Company) -> None:
    company.sell(*SHOPS)
    company.collect()
    company.sell("a", "b", "c")
    await company.deliver((12, 13))
    replays = company.reports.replays_from(company.address, source=SOURCE)
    with pytest.raises(
        LakeError, match=r"none of the 2 events .* Collect into the lake what that service has published"
    ):
        await asyncio.to_thread(replays.begin, "turnover")
    company.collect()  # as it says
    assert await company.replay() == []
    assert company.shown == company.sold()
