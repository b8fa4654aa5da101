"""Projections are built anew beside the live ones, compared, switched, switched back, and repaired key by key."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from ensue import App, IntegrationEvent, errors
from ensue.app.seeing import look
from ensue.brokers.memory import _all
from ensue.handlers.projections import Reach
from ensue.subscriptions.declared import slot_of
from tests.patience import until
from tests.test_projections import ADD, SET_UP, SOON, TABLE, Closed, Paid, app, declare, mark, record, rows, url

__all__ = ["app", "url"]


class Announced(IntegrationEvent, version=1, key="owner", name="test.replaying.announced"):
    owner: str
    n: int


def published(broker: str) -> list[tuple[str, str]]:
    """Return what a broker has got, as key and id."""
    topics = _all[broker.removeprefix("memory://")].messages
    return [(each.key, each.id) for messages in topics.values() for each in messages]


ROWS = [(f"o{n}", 100, 10) for n in range(10)]


def fill(app: App, amount: int = 10) -> None:
    record(app, *(Paid(owner=f"o{n % 10}", amount=amount) for n in range(100)))


def newer(app: App, *, fee: int = 0, version: int = 2, set_up: str | None = SET_UP, **options: Any) -> App:
    """Return the application as the next release declares it."""
    place = app.log.place
    after = App(place.app, place.url, schema=place.schema)
    add = ADD.format(mark(app))

    @after.projection(Paid, tables=TABLE, set_up=set_up, retry=SOON, version=version, **options)
    def balances(event: Paid, db: Any) -> None:
        db.execute(add, (event.owner, event.amount - fee))

    return after


async def caught_up(app: App) -> None:
    async with app.running(lease=1.0):
        await app.wait_async(record(app, Paid(owner="last", amount=1)), "balances", timeout=20)


async def test_a_changed_projection_is_built_beside_the_live_one_and_switched(app: App) -> None:
    declare(app)
    app.migrate()
    fill(app)
    await caught_up(app)
    after = newer(app, fee=1)
    after.migrate()
    assert [(each.build.number, each.build.state) for each in app.replays.builds()] == [(1, "live"), (2, "building")]
    async with app.running(lease=1.0), after.running(lease=1.0):
        await until(lambda: after.replays.compare("balances").tables[0].new_rows == 11)
        await until(lambda: (c := after.replays.compare("balances")).live_reach == c.new_reach)
        found = after.replays.compare("balances").tables[0]
        assert (found.live_rows, found.only_live, found.only_new) == (11, 11, 11)
        assert ("o1", "100", "10") in found.sample_live
        assert ("o1", "90", "10") in found.sample_new
        assert rows(app)[1:] == ROWS  # readers see nothing of it

        was = await asyncio.to_thread(after.replays.switch, "balances", actor="me", reason="the fee")
        assert was.number == 1
        assert rows(app)[1:] == [(f"o{n}", 90, 10) for n in range(10)]
        fill(app)
        await until(lambda: rows(app)[1:] == [(f"o{n}", 180, 20) for n in range(10)])
        back = await asyncio.to_thread(app.replays.switch, "balances", 1, actor="me", reason="it was right before")
        assert back.number == 2
        assert rows(app)[1:] == [(f"o{n}", 200, 20) for n in range(10)]
        receipt = record(app, Paid(owner="me", amount=5))
        await app.wait_async(receipt, "balances", timeout=20)
        assert ("me", 5, 1) in rows(app)
    assert [each.action for each in app.operations.audit()] == [
        "switch from build 2 to 1",
        "switch from build 1 to 2",
    ]


async def test_a_build_by_hand_is_broken_off_and_goes_on(app: App) -> None:
    declare(app)
    app.migrate()
    fill(app)
    await caught_up(app)
    build = app.replays.begin("balances")
    assert (build.number, build.by_hand) == (2, True)

    seen: list[tuple[int, int]] = []
    task = asyncio.ensure_future(app.replays.build(build, progress=lambda done, of: seen.append((done, of))))
    await until(lambda: seen)
    task.cancel()
    await asyncio.wait([task])
    assert app.replays.begin("balances") == build
    reached = await app.replays.build(build, progress=lambda done, of: seen.append((done, of)))
    assert seen[-1][0] == seen[-1][1] <= reached.slowest
    assert app.replays.compare("balances").same
    async with app.running(lease=1.0):
        fill(app)
        was = await app.replays.follow_and_switch(build, actor="me", reason="anew")
        assert was.number == 1
        fill(app)
        await until(lambda: rows(app)[1:] == [(f"o{n}", 300, 30) for n in range(10)])
    app.replays.drop("balances", 1, actor="me", reason="no more")
    assert [each.build.number for each in app.replays.builds("balances")] == [2]
    with pytest.raises(errors.ProjectionError, match="no build beside the live one"):
        app.replays.compare("balances")


def test_the_number_of_a_build_is_never_used_again(app: App) -> None:
    """The audit would speak of two builds under one number, and dead letters and checkpoints belong to the cursor."""
    declare(app)
    app.migrate()
    for number in (2, 3):
        assert app.replays.begin("balances").number == number
        app.replays.drop("balances", number, actor="me", reason="no")
    build = app.replays.begin("balances")
    app.replays.switch("balances", build.number, actor="me", reason="yes", force=True)
    app.replays.drop("balances", 1, actor="me", reason="old")
    assert (build.number, app.replays.begin("balances").number) == (4, 5)
    app.replays.drop("balances", 5, actor="me", reason="no")
    assert app.replays.begin("balances").number == 6
    dropped = [each for each in app.operations.audit() if each.action.startswith("drop")]
    assert [each.action for each in dropped] == ["drop build 5", "drop build 1", "drop build 3", "drop build 2"]


async def test_tables_without_set_up_get_the_structure_of_the_live_ones(app: App) -> None:
    with app.transaction() as connection:
        for statement in SET_UP.split(";")[:-1]:
            connection.execute(statement)
    declare_bare = newer(app, version=1, set_up=None)
    declare_bare.migrate()
    fill(app)
    await caught_up(declare_bare)
    after = newer(app, version=2, set_up=None)
    build = after.replays.begin("balances")
    await after.replays.build(build)
    assert after.replays.compare("balances").same
    after.replays.switch("balances", build.number, actor="me", reason="anew")
    assert rows(app)[1:] == ROWS


async def test_switching_waits_for_a_build_that_is_behind(app: App) -> None:
    declare(app)
    app.migrate()
    fill(app)
    await caught_up(app)
    build = app.replays.begin("balances")
    with pytest.raises(errors.ProjectionError, match="has not come as far as the live one"):
        app.replays.switch("balances", build.number, actor="me", reason="too early", timeout=0.1)
    assert rows(app)[1:] == ROWS


def clear(key: str, db: Any) -> None:
    db.execute(f"delete from balances where owner = '{key}'")


async def test_keys_are_repaired_in_place_while_others_go_on(app: App) -> None:
    declare(app, clear=clear)
    app.migrate()
    fill(app)
    await caught_up(app)
    position = app.log.own.run(app.log.horizon())
    with app.transaction() as connection:
        connection.execute("update balances set amount = -1 where owner in ('o1', 'o2')")
    record(app, Paid(owner="o1", amount=10), Paid(owner="o2", amount=10))
    async with app.running(lease=1.0):
        keys = app.replays.touched("balances", since=position)
        assert keys == ["o1", "o2"]
        (standing,) = app.replays.builds("balances")
        events = await app.replays.repair(standing.build, keys)
        assert 20 <= events <= 22
        await until(lambda: rows(app)[2:4] == [("o1", 110, 11), ("o2", 110, 11)])
    assert [each for each in rows(app) if each[0] not in ("o1", "o2", "last")] == [ROWS[0], *ROWS[3:]]


async def test_what_was_done_before_the_parts_were_cut_anew_is_repaired_too(app: App) -> None:
    """Two parts that have come to different places become one, which begins where the slower one was."""
    declare(app, clear=clear, partitions=2)
    app.migrate()
    fill(app)
    await caught_up(app)
    low, high = (next(f"o{n}" for n in range(10) if (slot_of(f"o{n}") < 32768) is below) for below in (True, False))
    position = record(app, Paid(owner=high, amount=10)).position
    async with app.running(lease=1.0):
        await until(lambda: (high, 110, 11) in rows(app))
    (standing,) = app.replays.builds()
    with app.transaction() as connection:  # as if nobody had got round to note that it is further
        prefix = f"{app.log.place.schema}{'.' if mark(app) == '%s' else '_'}"
        sql = f"update {prefix}partitions set checkpoint = {position - 1} where first_slot = 0"
        connection.execute(sql)
    app.operations.repartition("balances", 1, actor="me", reason="fewer machines")
    assert app.replays.builds()[0].reach == Reach(position - 1, position, 0, 0)
    for key, amount, changes in ((low, 100, 10), (high, 110, 11)):
        assert await app.replays.repair(standing.build, [key]) == changes
        assert (key, amount, changes) in rows(app)


async def test_a_copy_is_repaired_from_a_moment_on_and_switched(app: App) -> None:
    """The mended code reads again what the keys have that were touched since; all others are copied as they are."""
    wrong = newer(app, version=1, fee=2, clear=clear)
    wrong.migrate()
    fill(app)
    await caught_up(wrong)
    right = newer(app, version=2, clear=clear)
    build = right.replays.begin("balances", copied=True)
    since = app.log.own.run(app.log.horizon())
    record(app, Paid(owner="o3", amount=10))
    await right.replays.build(build)
    await right.replays.repair(build, right.replays.touched("balances", since=since))
    found = right.replays.compare("balances").tables[0]
    assert (found.only_live, found.only_new) == (1, 1)
    assert found.sample_new == (("o3", "110", "11"),)
    right.replays.switch("balances", actor="me", reason="mended", force=True)
    assert rows(app)[4] == ("o3", 110, 11)
    assert rows(app)[5] == ("o4", 80, 10)


async def test_repairing_needs_to_know_what_belongs_to_a_key(app: App) -> None:
    declare(app)
    app.migrate()
    (standing,) = app.replays.builds("balances")
    with pytest.raises(errors.DeclarationError, match="clear="):
        await app.replays.repair(standing.build, ["o1"])
    with pytest.raises(errors.UnknownName, match="gets no test"):
        app.replays.touched("balances", since=0, types=[Closed.__type__])
    with pytest.raises(errors.UnknownName, match="there are: balances"):
        app.replays.begin("nothing")


async def test_replaying_calls_no_reaction_unless_it_is_named(app: App) -> None:
    """Neither by building anew nor by repairing; and by name only what is asked for, under the same idempotency key."""
    declare(app, clear=clear)
    mails: list[tuple[str, int, str]] = []

    @app.on(Paid)
    async def send_mail(event: Paid, delivery: Any) -> None:
        mails.append((event.owner, delivery.position, delivery.idempotency_key))

    app.migrate()
    fill(app)
    async with app.running():
        await until(lambda: len(mails) == 100)
        await app.wait_async(record(app, Paid(owner="last", amount=1)), "balances", timeout=20)
        await until(lambda: len(mails) == 101)
    build = app.replays.begin("balances")
    await app.replays.build(build)
    await app.replays.repair(build, ["o1", "o2"])
    assert len(mails) == 101
    before = list(mails)
    middle = mails[49][1]
    count = await app.replays.again("send_mail", since=middle, keys=["o3"], actor="me", reason="they were lost")
    assert count == 5
    assert sorted(mails[101:]) == sorted(each for each in before if each[1] > middle and each[0] == "o3")
    async with app.running():
        record(app, Paid(owner="new", amount=1))
        await until(lambda: len(mails) == 107)
    assert [each.subscription for each in app.operations.standings()] == ["balances", "balances:2", "send_mail"]


async def test_a_relay_publishes_again_if_it_is_named(app: App, schema: str) -> None:
    broker = f"memory://{schema}"
    app.relay(broker, Announced, name="outward")
    app.migrate()
    with app.transaction() as connection:
        app.record(*[Announced(owner=f"o{n % 2}", n=n) for n in range(6)], via=connection)
    async with app.running():
        await until(lambda: len(published(broker)) == 6)
    first = published(broker)
    topics = _all[broker.removeprefix("memory://")]
    topics.messages.clear()
    topics.ids.clear()
    positions = [each.position for each in app.read(types=[Announced])]
    again = app.replays.again("outward", since=positions[1], keys=["o0"], actor="me", reason="the broker lost them")
    assert await again == 2
    assert published(broker) == [first[2], first[4]], "under the ids of the first time"
    assert [each.subscription for each in app.operations.standings()] == ["outward"]


async def test_a_replay_that_is_not_done_is_gone_on_with_and_not_taken_for_another(app: App) -> None:
    seen: list[str] = []

    @app.on(Paid, retry=SOON)
    async def remember(event: Paid) -> None:
        seen.append(event.owner)
        if event.amount == 7:
            raise ValueError(event.owner)

    app.migrate()
    replays = app.replays
    record(app, Paid(owner="a", amount=7), Paid(owner="b", amount=1))
    again = replace(app.subscriptions["remember"].retry, attempts=1)
    app.declarations.subscriptions["remember"] = replace(app.subscriptions["remember"], retry=again)
    assert await replays.again("remember", since=0, actor="me", reason="") == 2
    assert [each.key for each in app.operations.dead_letters()] == ["a"]

    @app.on(Paid)
    async def something_new(event: Paid) -> None: ...

    app.migrate()  # it is not taken for what the other one was called before
    assert {each.subscription: each.state for each in look(app)}["remember:again"] != "vanished"
    with pytest.raises(errors.DeclarationError, match="ensue retire remember:again"):
        await replays.again("remember", since=0, keys=["b"], actor="me", reason="")
    assert await replays.again("remember", since=0, actor="me", reason="") == 0
    app.operations.retire("remember:again", actor="me", reason="")
    assert await replays.again("remember", since=0, keys=["b", "c"], actor="me", reason="") == 1
    assert [each.action for each in app.operations.audit(subscription="remember")][:1] == [
        f"replay with effects from 1 to {app.operations.horizon()}"
    ]
    with pytest.raises(errors.UnknownName, match=r"gets no test\.projections\.closed"):
        await replays.again("remember", since=0, types=[Closed.__type__], actor="me", reason="")
    with pytest.raises(errors.UnknownName, match="there are: remember"):
        await replays.again("nobody", since=0, actor="me", reason="")


async def test_a_build_is_done_when_what_failed_in_it_has_been_tried_again(app: App) -> None:
    declare(app)
    app.migrate()
    fill(app)
    await caught_up(app)
    after = App(app.log.place.app, app.log.place.url, schema=app.log.place.schema)
    add, failures = ADD.format(mark(app)), {"o3": 3, "o5": 1}

    @after.projection(Paid, tables=TABLE, set_up=SET_UP, retry=SOON, version=2)
    def balances(event: Paid, db: Any) -> None:
        db.execute(add, (event.owner, event.amount))
        if failures.get(event.owner, 0):
            failures[event.owner] -= 1
            raise OSError("not today")

    reached = await after.replays.build(after.replays.begin("balances"))
    assert (reached.parked, reached.soon) == (0, 0)
    assert after.replays.compare("balances").same
    assert failures == {"o3": 0, "o5": 0}


async def test_what_was_pruned_cannot_be_built_or_repaired(app: App) -> None:
    """The rows of a key would be cleared, and made anew of what is left: they stay as they are."""
    declare(app, clear=clear)
    app.migrate()
    fill(app)
    await caught_up(app)
    await until(lambda: not any(each.behind for each in app.operations.standings()))
    assert app.history.prune(datetime(2100, 1, 1, tzinfo=UTC), actor="me").events
    (standing,) = app.replays.builds("balances")
    with pytest.raises(errors.ProjectionError, match="have been pruned"):
        await app.replays.repair(standing.build, ["o1"])
    with pytest.raises(errors.ProjectionError, match="have been pruned"):
        app.replays.begin("balances")
    assert rows(app)[1:] == ROWS


async def test_rows_that_one_build_has_more_often_are_told(app: App) -> None:
    """Nothing says that they are different: the same rows, as many in all, but not each as often."""

    @app.projection(Paid, tables="entries", set_up="create table entries (owner text, amount bigint)", retry=SOON)
    def entries(event: Paid, db: Any) -> None:
        db.execute(f"insert into entries values ({mark(app)}, {mark(app)})", (event.owner, event.amount))

    app.migrate()
    record(app, *(Paid(owner=owner, amount=1) for owner in ("a", "a", "b", "%s")))
    await app.replays.build(build := app.replays.begin("entries"))
    async with app.running(lease=1.0):
        await app.wait_async(record(app, Paid(owner="c", amount=1)), "entries", timeout=20)
        await app.replays.build(build)
    same = app.replays.compare("entries").tables[0]
    assert same.same
    assert same.live_checksum == same.new_checksum != "0"
    with app.transaction() as connection:
        connection.execute("delete from entries where owner = 'a'")
        connection.execute("insert into entries values ('a', 1)")
        connection.execute("insert into entries values ('b', 1)")
    found = app.replays.compare("entries").tables[0]
    assert not found.same
    assert (found.live_rows, found.new_rows) == (5, 5)
    assert found.live_checksum != found.new_checksum
    assert (found.only_live, found.sample_live) == (2, (("a", "1"), ("b", "1")))
    assert (found.only_new, found.sample_new) == (2, (("a", "1"), ("b", "1")))


async def test_a_change_that_only_adds_begins_with_the_live_rows(app: App) -> None:
    """And goes on from where they are, with what is set aside there."""
    declare(app)
    app.migrate()
    fill(app)
    await caught_up(app)
    set_up = SET_UP.replace("changes bigint not null", "changes bigint not null, note text default 'none'")
    after = newer(app, set_up=set_up)
    build = after.replays.begin("balances", copied=True)
    live, copied = (each.reach for each in app.replays.builds())
    assert live == copied
    fill(app)
    await after.replays.build(build)
    await caught_up(app)
    await after.replays.build(build)
    assert after.replays.compare("balances").same
    after.replays.switch("balances", actor="me", reason="it has notes")
    assert rows(app, "select distinct note from balances") == [("none",)]
    assert rows(app)[1:] == [(f"o{n}", 200, 20) for n in range(10)]


async def test_a_copy_that_cannot_be_right_is_refused(app: App) -> None:
    declare(app)
    app.migrate()
    fill(app)
    record(app, Closed(owner="o1"))
    await caught_up(app)
    place, add = app.log.place, ADD.format(mark(app))

    def release(*types: Any, tables: Any = TABLE, set_up: str = SET_UP) -> App:
        found = App(place.app, place.url, schema=place.schema)

        @found.projection(*types, name="balances", tables=tables, set_up=set_up, version=2)
        def balances(event: Any, db: Any) -> None:
            db.execute(add, (event.owner, 1))

        return found

    more = SET_UP + "create table notes (owner text primary key);"
    narrow = "create table balances (owner text primary key, amount bigint not null)"
    strict = SET_UP.replace("changes bigint", "note text not null, changes bigint")
    for wrong, why in (
        (release(Paid, Closed), "has not applied test.projections.closed"),
        (release(Closed), "has applied test.projections.paid|has not applied test.projections.closed"),
        (release(Paid, tables=(TABLE, "notes"), set_up=more), "that one has no table notes"),
        (release(Paid, set_up=narrow), "its table 'balances' has no changes"),
        (release(Paid, set_up=strict), "its table 'balances' does not take the rows"),
    ):
        with pytest.raises(errors.ProjectionError, match=why):
            wrong.replays.begin("balances", copied=True)
    assert [each.build.number for each in app.replays.builds()] == [1]
