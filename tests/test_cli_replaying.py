"""Replay on the command line, on both databases."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.patience import until
from tests.shop import Shop, open_shop

MODULE = """
from ensue import App, DomainEvent

app = App("shop", {url!r}, schema={schema!r})
FEE = 2


class Sold(DomainEvent, key="customer", name="shop.replaying.sold"):
    customer: str
    amount: int


def forget(customer, db):
    db.execute("delete from turnover where customer = '" + customer + "'")


@app.projection(
    Sold,
    tables="turnover",
    version=1,
    set_up="create table turnover (customer text primary key, amount bigint not null)",
    clear=forget,
)
def turnover(event, db):
    db.execute(
        "insert into turnover (customer, amount) values ({mark}, {mark}) "
        "on conflict (customer) do update set amount = turnover.amount + excluded.amount",
        (event.customer, event.amount - FEE),
    )


letters = []


@app.on(Sold, start="beginning")
async def send_letter(event):
    letters.append(event.customer)
"""


@pytest.fixture(params=["sqlite", "postgresql"])
def shop(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    schema: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Iterator[Shop]:
    if request.param == "sqlite":
        url, mark = f"sqlite:///{tmp_path}/shop.db", "?"
    else:
        postgres: str = request.getfixturevalue("postgres_url")
        with psycopg.connect(postgres, autocommit=True) as connection:
            connection.execute(f"create schema {schema}_readers")
        url, mark = f"{postgres}{'&' if '?' in postgres else '?'}options=-csearch_path%3D{schema}_readers", "%s"
    for shop in open_shop(tmp_path, url, schema, monkeypatch, capsys):
        shop.write(MODULE.format(url=url, schema=schema, mark=mark))
        shop.good("migrate")
        sell(shop, *(f"c{n % 5}" for n in range(50)))
        yield shop
    if request.param == "postgresql":
        with psycopg.connect(request.getfixturevalue("postgres_url"), autocommit=True) as connection:
            found = connection.execute("select nspname from pg_namespace where nspname like %s", [f"{schema}_%"])
            for (name,) in found.fetchall():
                connection.execute(f"drop schema {name} cascade")


def sell(shop: Shop, *customers: str) -> list[str]:
    module = shop.module
    with shop.app.transaction() as connection:
        events = [module.Sold(customer=each, amount=10) for each in customers]
        return list(shop.app.record(*events, via=connection).id_texts)


def turnover(shop: Shop) -> dict[str, int]:
    with shop.app.transaction() as connection:
        return dict(connection.execute("select customer, amount from turnover").fetchall())


def work(shop: Shop) -> None:
    """Let a worker come to the end of the log."""

    async def run() -> None:
        async with shop.app.running():
            await until(lambda: not any(each.behind for each in shop.app.operations.standings()))

    asyncio.run(run())


def builds(shop: Shop) -> list[tuple[int, int, str]]:
    found: list[Any] = shop.good("projection", "list", "--json").json
    return [(each["build"]["number"], each["build"]["version"], each["build"]["state"]) for each in found]


def test_a_mended_projection_is_built_compared_switched_and_switched_back(shop: Shop) -> None:
    work(shop)
    shop.change("FEE = 2", "FEE = 1")
    shop.change("version=1", "version=2")
    assert "build turnover anew" in shop.good("replay", "turnover", "--shadow", "--dry-run").out
    done = shop.good("replay", "turnover", "--shadow")
    assert "build 2 has come to position" in done.out
    assert "ensue projection switch turnover --app shop:app" in done.out
    assert builds(shop) == [(1, 1, "live"), (2, 2, "building")]
    compared = shop("projection", "compare", "turnover")
    assert compared.code == 1
    assert "turnover: 5 rows live, 5 in the build; 5 rows only live, 5 only in the build" in compared.out
    assert shop("projection", "compare", "turnover", "--json").json["tables"][0]["sample_new"][0] == ["c0", "90"]
    assert "say --yes" in shop("projection", "switch", "turnover").err
    switched = shop.good("projection", "switch", "turnover", "--yes", "--reason", "the fee")
    assert "ensue projection switch turnover --build 1 --app shop:app" in switched.out
    assert set(turnover(shop).values()) == {90}
    assert builds(shop) == [(1, 1, "kept"), (2, 2, "live")]
    assert "live" in shop.good("projection", "list").out
    shop.good("projection", "switch", "turnover", "--build", "1", "--yes")
    assert set(turnover(shop).values()) == {80}
    shop.good("projection", "drop", "turnover", "2", "--yes")
    assert builds(shop) == [(1, 1, "live")]
    assert [each["state"] for each in shop.good("lag", "--json").json] == ["up to date", "beside"]
    shop.good("replay", "turnover", "--shadow")
    shop.good("projection", "switch", "turnover", "--yes")
    shop.good("projection", "drop", "turnover", "1", "--yes")
    seen = {each["subscription"]: each["state"] for each in shop.good("lag", "--json").json}
    assert seen == {"send_letter": "up to date", "turnover:3": "up to date"}, "and not that 'turnover' is missing"
    assert "turnover was never registered" not in shop("doctor").out
    assert shop.good("migrate", "--json").json["vanished"] == []
    assert "it has 3 (live)" in shop("projection", "drop", "turnover", "1", "--yes").err
    assert [each["action"] for each in shop.good("audit", "--json").json] == [
        "drop build 1",
        "switch from build 1 to 3",
        "replay into a shadow",
        "drop build 2",
        "switch from build 2 to 1",
        "switch from build 1 to 2",
        "replay into a shadow",
    ]


def test_a_build_begins_with_the_live_rows(shop: Shop) -> None:
    work(shop)
    shop.change("amount bigint not null)", "amount bigint not null, note text)")
    shop.change("version=1", "version=2")
    assert "build 1, from its rows" in shop.good("replay", "turnover", "--shadow", "--from-live", "--dry-run").out
    assert "build 2" in shop.good("replay", "turnover", "--shadow", "--from-live").out
    assert "goes on as it was begun" in shop.good("replay", "turnover", "--shadow", "--from-live").err
    assert shop("projection", "compare", "turnover").code == 0
    shop.good("projection", "drop", "turnover", "2", "--yes")
    shop.change("note text)", "note text not null)")
    refused = shop("replay", "turnover", "--shadow", "--from-live")
    assert refused.code != 0
    assert "cannot begin with what build 1 holds" in " ".join(refused.err.split())


def test_several_processes_build(shop: Shop) -> None:
    work(shop)
    done = shop.good("replay", "turnover", "--shadow", "--jobs", "2", "--json").json
    assert done["build"]["number"] == 2
    assert "the same" in shop.good("projection", "compare", "turnover").out


def test_keys_are_repaired_from_an_event_on(shop: Shop) -> None:
    work(shop)
    with shop.app.transaction() as connection:
        connection.execute("update turnover set amount = 0")
    id = sell(shop, "c1", "c3")[0]
    work(shop)
    dry = shop.good("replay", "turnover", "--since", id, "--dry-run", "--json").json
    assert dry == {"keys": ["c1", "c3"]}
    assert "--yes" in shop("replay", "turnover", "--since", id).err
    done = shop.good("replay", "turnover", "--since", id, "--yes")
    assert "2 keys repaired in build 1, from 22 events" in done.out
    assert turnover(shop) == {"c0": 0, "c1": 88, "c2": 0, "c3": 88, "c4": 0}
    shop.good("replay", "turnover", "--key", "c0", "--shadow")
    assert turnover(shop)["c0"] == 0
    shop.good("projection", "switch", "turnover", "--yes")
    assert turnover(shop) == {"c0": 80, "c1": 88, "c2": 0, "c3": 88, "c4": 0}


def test_reactions_are_called_again_only_with_effects(shop: Shop) -> None:
    work(shop)
    assert len(shop.module.letters) == 50
    assert "--with-effects" in shop("replay", "send_letter", "--since", "0").err
    assert len(shop.module.letters) == 50
    assert (
        "for 10 events"
        in shop.good("replay", "send_letter", "--with-effects", "-k", "c1", "--since", "0", "--dry-run").out
    )
    done = shop.good(
        "replay", "send_letter", "--with-effects", "--key", "c1", "--since", "1h", "--yes", "--reason", "lost"
    )
    assert "called again for 10 events" in done.out
    assert shop.module.letters[50:] == ["c1"] * 10
    assert any("with effects" in each["action"] for each in shop.good("audit", "--json").json)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("replay", "turnover"), "say --shadow"),
        (("replay", "nothing"), "it declares turnover, send_letter"),
        (("replay", "turnover", "--with-effects"), "no effects but its tables"),
        (("replay", "turnover", "--shadow", "--until", "5"), "keys that are repaired"),
        (("replay", "turnover", "--shadow", "--key", "c0", "--from-live"), "leave --from-live out"),
        (("replay", "turnover", "--since", "01a222b0-4b8a-727a-9b7a-962594eb94e2"), "the log has no event"),
        (("replay", "send_letter", "--with-effects"), "say from where"),
        (("replay", "turnover", "--since", "5x"), "or give a position, or the id of an event"),
        (
            ("replay", "send_letter", "--with-effects", "--since", "0", "--type", "no"),
            "gets no no; it gets shop.replay",
        ),
        (("projection", "compare", "turnover"), "ensue replay turnover --shadow makes one"),
        (("projection", "switch", "turnover", "--yes"), "has no such build"),
    ],
    ids=lambda each: " ".join(each) if isinstance(each, tuple) else "",
)
def test_what_cannot_be_done_is_told(shop: Shop, arguments: tuple[str, ...], words: str) -> None:
    done = shop(*arguments)
    assert done.code != 0
    assert words in " ".join(done.err.split())
