"""Personal data: encrypted wherever ensue writes, readable where it is handled, gone for good once forgotten."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import datetime
from enum import Enum
from pathlib import Path
from typing import Annotated, Any
from uuid import UUID, uuid4

import msgspec
import psycopg
import pyarrow as pa
import pytest
from pyarrow import parquet

from ensue import (
    Aggregate,
    App,
    Backoff,
    Command,
    DomainEvent,
    IntegrationEvent,
    PastEvent,
    Personal,
    Process,
    Snapshots,
    SourcedEvent,
    evolves,
    moves,
    personal,
    starts,
    upcast,
)
from ensue.brokers import Outgoing, broker_at
from ensue.contracts.cloudevents import structured
from ensue.contracts.schemas import schema_of
from ensue.contracts.structures import contract_of
from ensue.errors import (
    EventDefinitionError,
    EventValueError,
    MasterKeyMissing,
    PersonalDataError,
    SubjectForgotten,
    UndecodableEvent,
)
from ensue.events import kinds
from ensue.events.personal import PERSONAL
from ensue.history import forgetting
from ensue.keys import LocalKeys, make_master_key, vault
from ensue.lake import Collector, Lake
from ensue.lake.typed import view_name
from ensue.seals import SigningKey
from ensue.subscriptions.operating import Filter
from ensue.testing import given
from tests.lake_files import contents
from tests.patience import until

NAMES = "test.personal."
SECRET = "ada.lovelace@example.org"
PHONE = "+44 1815 12101815"


class Joined(DomainEvent, key="user_id", subject="user_id", name=NAMES + "joined"):
    user_id: UUID
    email: Personal[str]
    phone: Personal[str | None] = None
    plan: str = "free"


class Invited(DomainEvent, subject="by", name=NAMES + "invited"):
    by: str
    friend: str
    note: Personal[str]
    friends_name: Annotated[str, personal(subject="friend", mask="somebody")]


class Opened(SourcedEvent, subject="owner", name=NAMES + "opened"):
    owner: str
    holder: Personal[str]


class Renamed(SourcedEvent, subject="owner", name=NAMES + "renamed"):
    owner: str
    holder: Personal[str]


class Account(Aggregate):
    holder: str = ""
    renames: int = 0

    def open(self, owner: str, holder: str) -> None:
        self.apply(Opened(owner=owner, holder=holder))

    def rename(self, owner: str, holder: str) -> None:
        self.apply(Renamed(owner=owner, holder=holder))

    @evolves
    def _(self, event: Opened) -> None:
        self.holder = event.holder

    @evolves
    def _(self, event: Renamed) -> None:
        self.holder, self.renames = event.holder, self.renames + 1


class Reminded(DomainEvent, key="user", subject="user", name=NAMES + "reminded"):
    user: str
    email: Personal[str]


class Write(Command, key="user", subject="user", name=NAMES + "write"):
    user: str
    email: Personal[str]


class Took(DomainEvent, key="user", subject="user", name=NAMES + "took"):
    user: str
    email: Personal[str]


class Went(DomainEvent, key="user", name=NAMES + "went"):
    user: str


class Courtship(Process, name="courtship"):
    email: Personal[str] = ""
    seen: int = 0

    @starts
    def _(self, event: Took) -> None:
        self.email = event.email
        self.after("9d", Reminded(user=event.user, email=event.email), name="remind")
        self.undo(Write(user=event.user, email=event.email))

    @moves
    def _(self, event: Went) -> None:
        self.seen += 1


@pytest.fixture
def make(url: str, schema: str) -> Callable[..., App]:
    def make(secrets: tuple[bytes, ...] = (b"m",), **options: Any) -> App:
        keys = options.pop("master_keys", None) or LocalKeys(*(each * 32 for each in secrets))
        return App("personal", url, schema=schema, migrate=True, master_keys=keys, **options)

    return make


@pytest.fixture
def app(make: Callable[..., App]) -> App:
    return make()


def record(app: App, *events: Any, **how: Any) -> Any:
    with app.transaction() as connection:
        return app.record(*events, via=connection, **how)


def dump(app: App) -> bytes:
    """Return everything that the database's tables hold, as a dump does; of SQLite also the bytes of its files."""
    place = app.log.place
    if not place.url.startswith("postgresql"):
        files = [Path(place.database), Path(place.database + "-wal")]
        return b"".join(each.read_bytes() for each in files if each.exists())
    found: list[bytes] = []
    with closing(psycopg.connect(place.conninfo, autocommit=True)) as connection:
        names = connection.execute("select tablename from pg_tables where schemaname = %s", (place.schema,)).fetchall()
        for (name,) in names:
            with connection.cursor().copy(f'copy "{place.schema}"."{name}" to stdout') as copy:
                found += [bytes(each) for each in copy]
    return b"".join(found)


def stored(app: App) -> list[str]:
    return [each.data for each in app.read()]


def rows(app: App, sql: str) -> list[tuple[Any, ...]]:
    """Return what a statement gives, with the log's name put in for `$.`."""
    place = app.log.place
    prefix = f"{place.schema}{'.' if place.url.startswith('postgresql') else '_'}"
    with app.transaction() as connection:
        answer = connection.execute(sql.replace("$.", prefix))
        return [tuple(each) for each in answer.fetchall()] if answer.description else []


# --------------------------------------------------------------------------------------------------- declaring


def test_a_field_is_what_stands_in_the_brackets() -> None:
    event = Joined(user_id=uuid4(), email=SECRET)
    assert event.email.upper() == SECRET.upper()
    assert [each.name for each in Joined.__structure__.personal] == ["email", "phone"]
    assert [bytes(each.mask) for each in Joined.__structure__.personal] == [b'""', b"null"]
    assert [(each.subject, bytes(each.mask)) for each in Invited.__structure__.personal] == [
        ("by", b'""'),
        ("friend", b'"somebody"'),
    ]


class Colour(Enum):
    RED = "red"


def _define(fields: dict[str, Any], **keywords: Any) -> Any:
    number = next(_numbers)
    space = {"__module__": __name__, "__annotations__": fields}
    meta: Any = type(DomainEvent)
    return meta(f"Made{number}", (DomainEvent,), space, name=f"{NAMES}made.{number}", **keywords)


_numbers: Iterator[int] = iter(range(1000))


@pytest.mark.parametrize(
    ("fields", "keywords", "says"),
    [
        ({"email": Personal[str]}, {}, "say whose it is"),
        ({"user": str, "email": Personal[str]}, {"subject": "usr"}, "not one of its fields"),
        ({"user": str}, {"subject": "user"}, "it has none"),
        ({"user": Personal[str], "email": Personal[str]}, {"subject": "user"}, "is personal itself"),
        ({"user": str, "email": Personal[str]}, {"subject": "user", "key": "email"}, "the key that keeps the order"),
        ({"user": str, "emails": list[Personal[str]]}, {"subject": "user"}, "around the whole type"),
        ({"user": str, "email": Personal[str] | None}, {"subject": "user"}, "around the whole type"),
        ({"user": str, "colour": Personal[Colour]}, {"subject": "user"}, "give it a mask"),
        ({"user": str, "n": Annotated[int, personal(mask="x")]}, {"subject": "user"}, "must fit the field"),
        (
            {"user": str, "name": Personal[Annotated[str, msgspec.Meta(min_length=1)]]},
            {"subject": "user"},
            "must fit the field",
        ),
        ({"user": str, "n": Annotated[str, personal(subject="usr")]}, {}, "not one of the fields"),
        ({"user": str, "n": Personal[complex]}, {"subject": "user"}, "complex"),
    ],
)
def test_what_cannot_be_forgotten_is_refused_when_it_is_defined(
    fields: dict[str, Any], keywords: dict[str, Any], says: str
) -> None:
    with pytest.raises(EventDefinitionError, match=says):
        _define(fields, **keywords)


def test_every_usual_type_has_a_mask() -> None:
    marked: Any = Personal
    types = {
        "a": int, "b": float, "c": bool, "d": bytes, "e": datetime, "f": UUID, "g": list[str], "h": dict[str, int],
        "i": set[int], "j": tuple[int, ...], "k": str | int, "l": Colour | None,
    }  # fmt: skip
    cls = _define({"user": str, **{name: marked[type] for name, type in types.items()}}, subject="user")
    masks = {each.member: bytes(each.mask).decode() for each in cls.__structure__.personal}
    assert cls.__structure__.decode("{" + ",".join(f'"{name}":{mask}' for name, mask in masks.items()) + ',"user":"x"}')


class Early(DomainEvent, subject="id", name=NAMES + "early"):
    id: str
    email: Personal[str]
    place: Late | None = None  # known only below


def test_a_class_that_could_not_be_looked_at_when_it_was_defined_is_masked_too(app: App) -> None:
    record(app, Early(id="ada", email=SECRET))
    app.forget("ada")
    Early.__structure__._decoder = None  # as in a process that has not used it yet
    PERSONAL.pop(Early.__type__)
    assert [each.event for each in app.read()] == [Early(id="ada", email="")]


class Late(msgspec.Struct, frozen=True):
    street: str


def test_who_it_is_about_must_be_said(app: App) -> None:
    marked: Any = Personal
    cls = _define({"user": str | None, "email": marked[str | None]}, subject="user")
    record(app, cls(user=None, email=None))
    with pytest.raises(EventValueError, match="nobody can say whose"):
        record(app, cls(user=None, email=SECRET))
    with pytest.raises(EventValueError, match="nobody can say whose"):
        record(app, cls(user="", email=SECRET))
    with pytest.raises(EventValueError, match="400"):
        record(app, cls(user="x" * 401, email=SECRET))


# ------------------------------------------------------------------------------------------- stored and read


def test_a_token_is_bound_to_its_event_and_its_field(app: App) -> None:
    one, other = uuid4(), uuid4()
    record(app, Joined(user_id=one, email=SECRET, phone=PHONE), Joined(user_id=other, email="bob"))
    first, second = (json.loads(each) for each in stored(app))
    tables = "$.events"
    rows(app, f"update {tables} set data = '{json.dumps(first | {'email': first['phone']})}' where position = 1")
    rows(app, f"update {tables} set data = '{json.dumps(second | {'email': first['email']})}' where position = 2")
    for found in app.read():
        with pytest.raises(UndecodableEvent, match="changed, or moved from another event or field"):
            assert found.event
        assert "(personal)" in found.shown


def test_a_key_that_the_log_lacks_is_no_mask(app: App) -> None:
    record(app, Joined(user_id=uuid4(), email=SECRET))
    rows(app, "delete from $.personal_keys")
    (found,) = app.read()
    with pytest.raises(UndecodableEvent, match="a key that is not in this log"):
        assert found.event


def test_an_event_that_was_not_read_from_its_log_is_not_taken_for_readable(app: App) -> None:
    record(app, Joined(user_id=uuid4(), email=SECRET))
    (found,) = app.read()
    elsewhere = msgspec.structs.replace(found, opener=None)
    with pytest.raises(UndecodableEvent, match="not read from its log"):
        assert elsewhere.event


def test_without_the_master_key_it_says_so_and_people_see_that_something_is_there(
    make: Callable[..., App], app: App
) -> None:
    record(app, Joined(user_id=uuid4(), email=SECRET))
    (found,) = make((b"other",), master_keys=LocalKeys(b"o" * 32)).read()
    with pytest.raises(UndecodableEvent, match="wrapped with the master key"):
        assert found.event
    assert json.loads(found.shown)["email"] == "(personal)"


def test_a_text_that_looks_encrypted_is_only_a_text(app: App) -> None:
    text = "ensue.personal.1:AAAAAAAAAAAAAAAA:AAAA"
    record(app, Joined(user_id=uuid4(), email=text, plan=text))
    (found,) = app.read()
    assert (found.event.email, found.event.plan) == (text, text)


def test_each_person_of_an_event_is_forgotten_alone(app: App) -> None:
    record(app, Invited(by="ada", friend="bob", note=SECRET, friends_name="Bob"))
    app.forget("bob")
    (found,) = app.read()
    assert found.event == Invited(by="ada", friend="bob", note=SECRET, friends_name="somebody")
    assert found.masked == {"friends_name"}


class Entered(DomainEvent, subject="id", name=NAMES + "entered"):
    id: str
    mail: Personal[str]


def test_an_upcaster_is_given_what_was_there(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    past = _define({"id": str, "email": Personal[str]}, subject="id")
    record(app, past(id="ada", email=SECRET.upper()))
    monkeypatch.delitem(kinds._classes, past.__type__)  # it has been renamed since

    class OldEntered(PastEvent, name=past.__type__):
        id: str
        email: Annotated[str, personal(mask="GONE")]

    def modern(old: OldEntered) -> Entered:
        return Entered(id=old.id, mail=old.email.lower())

    modern.__annotations__ = {"old": OldEntered, "return": Entered}
    upcast(modern)
    (found,) = app.read()
    assert found.event == Entered(id="ada", mail=SECRET)
    app.forget("ada")
    (found,) = app.read()
    assert found.event.mail in ("", "gone")


class Published(IntegrationEvent, version=1, subject="user", name=NAMES + "published"):
    user: str
    email: Personal[str]


def test_it_is_published_readable_and_masked_when_it_is_published_again(app: App) -> None:
    record(app, Published(user="ada", email=SECRET))
    (found,) = app.read()
    assert SECRET.encode() in structured(found, "/here").body
    app.forget("ada")
    (found,) = app.read()
    assert b'"email":""' in structured(found, "/here").body


class PublishedPlainly(IntegrationEvent, version=1, name=NAMES + "published-plainly"):
    user: str
    email: str


def test_a_contract_does_not_say_what_is_personal() -> None:
    ours, plain = (schema_of(contract_of(each))["properties"] for each in (Published, PublishedPlainly))
    assert ours == plain


# ----------------------------------------------------------------------------------------------- aggregates


def test_a_snapshot_is_readable_until_one_of_its_persons_is_forgotten(make: Callable[..., App]) -> None:
    app = make()
    accounts = app.repository(Account, snapshots=Snapshots(every=2), cache=10)
    with accounts.edit("1", create=True) as account:
        account.open("ada", SECRET)
    for name in ("~Ada", "~Ada King"):
        with accounts.edit("1") as account:
            account.rename("bob", name)
    ((version, state),) = rows(app, "select version, state from $.snapshots")
    assert version == 2
    assert "~Ada" not in str(state)  # "Ada" alone may stand in what is encrypted, by chance: it is base64
    fresh = make().repository(Account, snapshots=Snapshots(every=2))
    assert (fresh.get("1").holder, fresh.get("1").renames) == ("~Ada King", 2)
    app.forget("ada")
    assert (accounts.get("1").holder, accounts.get("1").version) == ("~Ada King", 3)
    assert accounts.get("1", at_version=1).holder == ""
    app.forget("bob")
    assert (accounts.get("1").holder, accounts.get("1").renames) == ("", 2)
    assert [each.diff.get("holder") for each in accounts.history("1")] == [None, None, None]


def test_what_was_loaded_before_is_not_kept_in_a_snapshot_after(make: Callable[..., App]) -> None:
    app = make()
    accounts = app.repository(Account, snapshots=Snapshots(every=2))
    with accounts.edit("1", create=True) as account:
        account.open("ada", SECRET)
    with accounts.edit("1") as account:
        make().forget("ada")
        account.rename("bob", account.holder[:3])  # what the code does with it is its own affair
        account.holder = SECRET
    ((version,),) = rows(app, "select version from $.snapshots")
    assert version == 2
    assert make().repository(Account, snapshots=Snapshots(every=2)).get("1").holder == "ada"
    assert SECRET.encode() not in dump(app)


# ---------------------------------------------------------------------------------- everything, byte by byte


def _busy(make: Callable[..., App], *, table: bool) -> App:
    """Return an application that has something about a person in every place that ensue has."""
    app = make()
    for handled in (Write, Reminded):
        _ = handled

    @app.on(Joined, start="beginning", retry=Backoff(first=60, give_up_after=1e9))
    def fails(event: Joined) -> None:
        raise LookupError(f"nobody at {event.email.upper()} / {event.email}")

    @app.handle(Write)
    def write(event: Write) -> None: ...

    app.process(key="user", start="beginning")(Courtship)
    if table:

        @app.projection(
            Joined, tables="people", set_up="create table if not exists people (id text primary key, email text)"
        )
        def people(event: Joined, connection: Any) -> None:
            mark = "%s" if app.log.place.url.startswith("postgresql") else "?"
            connection.execute(f"insert into people values ({mark}, {mark})", (str(event.user_id), event.email))

    return app


USER = UUID(int=7)


async def _fill(app: App) -> None:
    app.migrate()
    accounts = app.repository(Account, snapshots=Snapshots(every=1))
    user = str(USER)
    with app.transaction() as connection:
        app.record(Joined(user_id=USER, email=SECRET, phone=PHONE), via=connection)
        app.record(Took(user=user, email=SECRET), Went(user=user), via=connection)
        app.after("9d", Reminded(user=user, email=SECRET), via=connection)
    with accounts.edit("1", create=True) as account:
        account.open(user, SECRET)
    async with app.running():
        await until(lambda: app.operations.dead_letters(Filter(waiting_only=False)), "the dead letter")
        await until(lambda: any(each.steps == 2 for each in app.processes.list()), "the process")
    (letter,) = app.operations.dead_letters(Filter(waiting_only=False))
    assert SECRET.upper() in letter.reason
    assert SECRET in (letter.traceback or "")
    assert SECRET in (letter.data or "")
    changed = json.dumps(json.loads(letter.data or "") | {"email": SECRET + ".uk"})
    app.operations.edit("fails", letter.id, changed, actor="me", reason="to see")


SAID = [each.encode() for each in (SECRET, SECRET.upper(), PHONE, "lovelace", "LOVELACE")]


def test_no_copy_of_it_is_anywhere_before_or_after_and_the_key_is_gone(make: Callable[..., App]) -> None:
    app = _busy(make, table=False)
    asyncio.run(_fill(app))
    before = dump(app)
    assert not [each for each in SAID if each in before]
    ((wrapped,),) = rows(app, f"select wrapped from $.personal_keys where subject = '{USER}'")
    assert wrapped.encode() in before
    found = app.appearances(str(USER))
    assert {each.type for each in found.events} == {Joined.__type__, Took.__type__, Opened.__type__}
    assert found.elsewhere == {"snapshots": 1, "dead letters": 1, "timers": 2, "processes": 1, "audit": 1}
    assert found.handlers == ("on fails", "process courtship")
    data = stored(app)

    done = app.forget(str(USER), actor="me", reason="she asked for it")
    assert (done.known, done.swept) == (True, True)
    after = dump(app)
    assert not [each for each in (*SAID, wrapped.encode()) if each in after]
    assert stored(app) == data
    assert app.appearances(str(USER)).forgotten_at == done.forgotten_at

    (letter,) = app.operations.dead_letters(Filter(waiting_only=False))
    assert (letter.reason, letter.traceback) == ("(forgotten)", "(forgotten)")
    assert json.loads(letter.data or "")["email"] == "(forgotten)"
    (process,) = app.processes.list()
    assert json.loads(process.state)["email"] == "(forgotten)"
    assert [each.action for each in app.operations.audit()] == ["forget", "edit"]
    again = app.forget(str(USER))
    assert (again.known, again.forgotten_at) == (False, done.forgotten_at)


def test_no_copy_in_lakes_or_seals_holds_it_and_every_seal_still_verifies(
    make: Callable[..., App], tmp_path: Path
) -> None:
    app = _busy(make, table=False)
    asyncio.run(_fill(app))
    formats, key, out = ("delta", "iceberg", "parquet", "jsonl"), SigningKey.make("personal.test"), tmp_path / "seals"

    def collect_and_seal() -> None:
        for format in formats:
            lake = Lake(f"{format}+{tmp_path}/lakes/{format}")
            Collector(app.log, lake, everything=True, rows=3).collect()
            assert lake.check() == []
        app.seals.seal(key)
        app.seals.take(out, trusted=[key.public])

    def found() -> list[bytes]:
        return [each for copy in (dump(app), *contents(tmp_path)) for each in SAID if each in copy]

    collect_and_seal()
    assert app.forget(str(USER)).swept
    record(app, Went(user="another"))
    collect_and_seal()
    assert found() == []
    for format in formats:
        sql = f"select email from {view_name(Joined.__type__)}"
        ((email,),) = Lake(f"{format}+{tmp_path}/lakes/{format}").sql(sql).to_pandas().to_numpy().tolist()
        assert email.startswith('{"') or "ensue" in email  # what was encrypted, as it was recorded
    assert len(app.seals.checkpoints(trusted=[key.public])) == 2
    for each in ([], [out]):
        told = app.seals.verify(keys=[key.public], kept=each)
        assert (told.holds, told.unsealed) == (True, 0)

    left = tmp_path / "lakes" / "delta" / "left.parquet"  # one copy in the clear, compressed, and it is found
    parquet.write_table(pa.table({"email": [SECRET]}), left)
    assert found()
    left.unlink()
    assert found() == []


async def test_what_goes_on_after_it_is_given_masks(make: Callable[..., App]) -> None:
    app = _busy(make, table=False)
    await _fill(app)
    await app.forget_async(str(USER))
    app = make()
    given: list[Any] = []

    @app.on(Joined, start="beginning", name="fails")
    def fails(event: Joined) -> None:
        given.append(event)

    @app.handle(Write)
    def write(event: Write) -> None:
        given.append(event)

    @app.on(Reminded)
    def reminded(event: Reminded) -> None:
        given.append(event)

    app.process(key="user", start="beginning")(Courtship)
    app.operations.decide(Filter(subscription="fails", waiting_only=False), "retry", actor="me", reason="now")
    rows(app, "update $.timers set due_at = created_at")
    record(app, Went(user=str(USER)))
    async with app.running():
        await until(lambda: len(given) == 3 and app.processes.list()[0].steps == 3, "all of it")
        app.processes.cancel("courtship", str(USER), actor="me", reason="", compensate=True)
        await until(lambda: len(given) == 4, "the compensation")
    user = str(USER)
    assert given[3] == Write(user=user, email="")
    assert [each for each in given if isinstance(each, Reminded)] == [Reminded(user=user, email="")] * 2
    assert Joined(user_id=USER, email="", phone=None) in given


async def test_what_is_still_to_be_undone_stays_encrypted(make: Callable[..., App]) -> None:
    """And so it is while one after the other is undone, by a step and by an operator."""

    class Wooing(Process, name="wooing"):
        email: Personal[str] = ""

        @starts
        def _(self, event: Took) -> None:
            self.email = event.email
            for _ in range(3):
                self.undo(Write(user=event.user, email=event.email))

        @moves
        def _(self, event: Went) -> None:
            self.compensate()
            self.end()

    app, given, go_on = make(), list[str](), asyncio.Semaphore(0)

    @app.handle(Write)
    async def write(event: Write) -> None:
        given.append(event.email)
        await go_on.acquire()

    app.process(key="user", start="beginning")(Wooing)
    app.migrate()
    record(app, Took(user="a", email=SECRET), Took(user="b", email=SECRET), Went(user="a"))
    async with app.running():
        await until(lambda: given == [SECRET] and len(app.processes.list()) == 2)
        await asyncio.to_thread(app.processes.cancel, "wooing", "b", actor="me", reason="", compensate=True)
        for number in range(2, 7):
            await until(lambda number=number: len(given) >= number)  # type: ignore[misc]
            kept = rows(app, "select state, undo from $.processes")
            assert SECRET not in str(kept)
            go_on.release()
        go_on.release()
        await until(lambda: {each.status for each in app.processes.list()} == {"compensated", "cancelled"})
    assert given == [SECRET] * 6
    assert SECRET not in str(rows(app, "select state, undo from $.processes"))
    assert {json.loads(each.state)["email"] for each in app.processes.list()} == {SECRET}


async def test_a_projection_that_is_built_again_holds_masks(make: Callable[..., App], schema: str, url: str) -> None:
    if url.startswith("postgresql"):
        with closing(psycopg.connect(url, autocommit=True)) as connection:
            connection.execute("drop table if exists people")
    app = _busy(make, table=True)
    app.migrate()
    other = UUID(int=8)
    receipt = record(app, Joined(user_id=USER, email=SECRET), Joined(user_id=other, email="bob"))
    async with app.running():
        await app.wait_async(receipt, "people", timeout=20)
    assert sorted(rows(app, "select email from people")) == [(SECRET,), ("bob",)]
    await app.forget_async(str(USER))
    build = await asyncio.to_thread(app.replays.begin, "people")
    await app.replays.build(build)
    await asyncio.to_thread(app.replays.switch, "people", actor="me", reason="forgotten")
    await asyncio.to_thread(app.replays.drop, "people", 1, actor="me", reason="forgotten")
    assert sorted(rows(app, "select email from people")) == [("",), ("bob",)]


# ------------------------------------------------------------------------------------------------------ editing


async def test_an_edited_dead_letter_is_encrypted_like_its_event_and_delivered_readable(
    make: Callable[..., App],
) -> None:
    app, given = make(), list[Any]()

    @app.on(Joined, start="beginning", retry=Backoff(first=60))
    def fails(event: Joined) -> None:
        given.append(event)
        if event.email == SECRET:
            raise LookupError

    record(app, Joined(user_id=USER, email=SECRET, phone=PHONE))
    async with app.running():
        await until(lambda: app.operations.dead_letters(Filter(waiting_only=False)))
        (letter,) = app.operations.dead_letters(Filter(waiting_only=False))
        for bad, says in (('{"user_id": 1}', "does not take"), ('{"email": 1}', "does not take")):
            with pytest.raises(EventValueError, match=says):
                app.operations.edit("fails", letter.id, bad, actor="me", reason="")
        changed = json.dumps(json.loads(letter.data or "") | {"email": "new@example.org", "phone": "(personal)"})
        app.operations.edit("fails", letter.id, changed, actor="me", reason="")
        await until(lambda: len(given) == 2)
    assert given[1] == Joined(user_id=USER, email="new@example.org", phone=PHONE)
    assert b"new@example.org" not in dump(app)


async def test_what_an_operator_adds_to_a_dead_letter_is_encrypted_too(make: Callable[..., App]) -> None:
    app, given = make(), list[Any]()

    @app.on(Joined, start="beginning", retry=Backoff(first=60))
    def fails(event: Joined) -> None:
        given.append(event)
        if event.phone is None:
            raise LookupError

    record(app, Joined(user_id=USER, email=""))
    rows(app, f"""update $.events set data = '{{"user_id":"{USER}","email":"","phone":null}}'""")  # as from SQL
    async with app.running():
        await until(lambda: app.operations.dead_letters(Filter(waiting_only=False)))
        (letter,) = app.operations.dead_letters(Filter(waiting_only=False))
        added = json.dumps(json.loads(letter.data or "") | {"email": SECRET, "phone": PHONE})
        app.operations.edit("fails", letter.id, added, actor="me", reason="")
        assert not [each for each in SAID if each in dump(app)]
        await until(lambda: len(given) == 2)
    assert given[1] == Joined(user_id=USER, email=SECRET, phone=PHONE)


# -------------------------------------------------------------------------------------------- between services


async def test_a_message_that_has_to_wait_is_kept_encrypted(make: Callable[..., App], schema: str) -> None:
    url = f"memory://{schema.replace('_', '-')}"
    app, fails, tried, given = make(), [True], list[Published](), list[Published]()

    @app.receive(Published, source=url, retry=Backoff(first=0.05, most=0.05))
    def take(event: Published, connection: Any) -> None:
        tried.append(event)
        if fails:
            raise LookupError(event.email)
        given.append(event)

    app.migrate()
    await app.prepare_receivers()
    publisher = broker_at(url).publisher()
    await publisher.open([Published.__type__])
    for user in ("ada", "bob"):
        headers = {"ce-specversion": "1.0", "ce-id": user, "ce-source": "/there", "ce-type": Published.__type__}
        body = json.dumps({"user": user, "email": SECRET}).encode()
        sent = Outgoing(Published.__type__, user, user, "application/json", headers, body)
        assert await publisher.publish([sent]) == [None]
    async with app.running():
        await until(lambda: len(app.operations.dead_letters(Filter(waiting_only=False))) == 2, "both wait")
        assert not [each for each in SAID if each in dump(app)]
        assert {each.reason for each in app.operations.dead_letters(Filter(waiting_only=False))} == {
            f"LookupError: {SECRET}"
        }
        await app.forget_async("bob")
        forgotten = Published(user="bob", email="")
        await until(lambda: forgotten in tried, "an attempt that had begun before is over")
        fails.clear()
        await until(lambda: len(given) == 2, "both are handled")
    assert sorted(given, key=lambda each: each.user) == [
        Published(user="ada", email=SECRET),
        forgotten,
    ]


def test_an_inbox_records_it_encrypted(make: Callable[..., App], schema: str) -> None:
    url = f"memory://{schema.replace('_', '-')}"
    app = make()
    app.inbox(url, Published)
    app.migrate()

    async def work() -> None:
        await app.prepare_receivers()
        publisher = broker_at(url).publisher()
        await publisher.open([Published.__type__])
        headers = {"ce-specversion": "1.0", "ce-id": "1", "ce-source": "/there", "ce-type": Published.__type__}
        body = json.dumps({"user": "ada", "email": SECRET}).encode()
        await publisher.publish([Outgoing(Published.__type__, "ada", "1", "application/json", headers, body)])
        async with app.running():
            await until(lambda: list(app.read(types=[Published])), "it is recorded")

    asyncio.run(work())
    (found,) = app.read(types=[Published])
    assert found.event == Published(user="ada", email=SECRET)
    assert not [each for each in SAID if each in dump(app)]


# ------------------------------------------------------------------------------------------------------- testing


def test_what_is_given_in_a_test_needs_no_master_key(monkeypatch: pytest.MonkeyPatch, schema: str) -> None:
    monkeypatch.delenv("ENSUE_MASTER_KEY", raising=False)
    given(Account, Opened(owner="ada", holder=SECRET)).when(lambda account: account.rename("ada", "Ada")).then(
        Renamed(owner="ada", holder="Ada")
    )
    app = App("personal", f"memory://{schema}", migrate=True)
    record(app, Reminded(user="ada", email=SECRET))
    assert [each.event.email for each in app.read()] == [SECRET]
    app.forget("ada")
    assert [each.event.email for each in app.read()] == [""]


# --------------------------------------------------------------------------------------------------- master keys


def test_the_master_key_is_rotated_while_everything_stays_readable(make: Callable[..., App]) -> None:
    old = make((b"o",))
    persons = [f"p{number:04}" for number in range(250)]
    record(old, *(Reminded(user=each, email=each) for each in persons))
    old.forget("p0007")
    data = stored(old)
    both = make((b"n", b"o"))
    told: list[int] = []

    def broken_off(done: int, planned: int) -> None:
        told.append(done)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        both.keys.rotate(progress=broken_off)
    assert told == [100]
    with pytest.raises(PersonalDataError, match="cannot be wrapped anew"):
        make((b"n",)).keys.rotate()
    done = both.keys.rotate()
    assert (done.keys, done.master) == (149, LocalKeys(b"n" * 32).current)
    assert both.keys.rotate().keys == 0
    new = make((b"n",))
    assert [(each.keys, each.current) for each in new.keys.masters()] == [(249, True)]
    assert {each.event.email for each in new.read()} == {"", *persons} - {"p0007"}
    assert stored(new) == data


class Service:
    """A key service, as a user would connect one."""

    current = "first"

    def __init__(self) -> None:
        self.calls: list[tuple[str, bool]] = []
        self.away = False

    def _called(self, what: str) -> None:
        self.calls.append((what, threading.current_thread() is threading.main_thread()))
        if self.away:
            raise ConnectionError("the key service is away")

    def wrap(self, key: bytes) -> bytes:
        self._called("wrap")
        return b"wrapped" + key[::-1]

    def unwrap(self, wrapped: bytes, name: str) -> bytes:
        assert name == "first"
        self._called("unwrap")
        return wrapped.removeprefix(b"wrapped")[::-1]


def test_a_key_service_is_asked_seldom(make: Callable[..., App]) -> None:
    service = Service()
    app = make(master_keys=service)
    for number in range(20):
        record(app, Reminded(user="ada", email=str(number)))
    assert len([each.event for each in app.read()]) == 20
    assert service.calls == [("wrap", True)]
    again = make(master_keys=Service())
    assert len([each.event for each in again.read()]) == 20
    assert again.log.personal.vault.required().calls == [("unwrap", True)]  # type: ignore[attr-defined]


def test_unwrapped_keys_are_kept_for_a_while_and_not_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vault, "_MOST", 3)
    now = [0.0]
    monkeypatch.setattr("ensue.keys.vault.time.monotonic", lambda: now[0])
    ours = vault.Vault(LocalKeys(b"k" * 32), in_memory=False)
    made = [ours.new()[1] for _ in range(4)]
    assert [ours.known(each) is not None for each in made] == [False, True, True, True]
    now[0] = 299.0
    assert ours.unwrap(made[0]).id == made[0].id
    now[0] = 301.0
    assert [ours.known(each) is not None for each in made] == [True, False, False, False]
    ours.forget(made[0].id)
    assert ours.known(made[0]) is None


async def test_a_key_service_does_not_block_the_event_loop(make: Callable[..., App]) -> None:
    service = Service()
    app = make(master_keys=service)
    app.migrate()
    async with app.transaction() as connection:
        await app.record(Reminded(user="ada", email=SECRET), via=connection)
    assert [each.event.email async for each in app.read()] == [SECRET]
    assert service.calls == [("wrap", False)]


def test_a_key_service_that_is_away_keeps_the_event_from_being_recorded_and_nothing_else(
    make: Callable[..., App],
) -> None:
    service = Service()
    app = make(master_keys=service)
    app.migrate()
    record(app, Reminded(user="ada", email=SECRET))
    service.away = True
    with pytest.raises(ConnectionError):
        record(app, Reminded(user="bob", email=SECRET))
    other = Service()
    other.away = True
    (found,) = make(master_keys=other).read()
    with pytest.raises(UndecodableEvent, match="the key service is away"):
        assert found.event
    assert "(personal)" in found.shown
    service.away = False
    record(app, Reminded(user="bob", email=SECRET))
    assert len(stored(app)) == 2


def test_master_keys_are_read_from_the_environment(monkeypatch: pytest.MonkeyPatch, url: str, schema: str) -> None:
    monkeypatch.setenv("ENSUE_MASTER_KEY", make_master_key())
    record(App("personal", url, schema=schema, migrate=True), Reminded(user="ada", email=SECRET))
    assert [each.event.email for each in App("personal", url, schema=schema).read()] == [SECRET]
    monkeypatch.setenv("ENSUE_MASTER_KEY", "nonsense")
    with pytest.raises(MasterKeyMissing, match="number 1 is no master key"):
        record(App("personal", url, schema=schema), Reminded(user="ada", email=SECRET))


async def test_a_worker_without_a_master_key_does_not_begin(
    monkeypatch: pytest.MonkeyPatch, url: str, schema: str
) -> None:
    monkeypatch.delenv("ENSUE_MASTER_KEY", raising=False)
    app = App("personal", url, schema=schema, migrate=True)

    @app.on(Joined)
    def joined(event: Joined) -> None: ...

    with pytest.raises(MasterKeyMissing, match="ENSUE_MASTER_KEY"):
        async with app.running():
            pass


# ------------------------------------------------------------------------------------------------------ at once


def test_two_transactions_that_begin_with_a_person_use_one_key(make: Callable[..., App], url: str) -> None:
    app = make()
    app.migrate()
    threads = [threading.Thread(target=_record_slowly, args=(app, number)) for number in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert sorted(each.event.email for each in app.read()) == ["0", "1", "2", "3"]
    assert len(rows(app, "select 1 from $.personal_keys")) == 1


def _record_slowly(app: App, number: int) -> None:
    with app.transaction() as connection:
        app.record(Reminded(user="ada", email=str(number)), via=connection)
        connection.execute("select 1")


def test_forgetting_waits_for_who_has_just_made_the_key(make: Callable[..., App], url: str) -> None:
    if not url.startswith("postgresql"):
        pytest.skip("SQLite has one writer at a time")
    app = make()
    app.migrate()
    with app.transaction() as connection:
        app.record(Reminded(user="ada", email=SECRET), via=connection)
        thread = threading.Thread(target=app.forget, args=("ada",))
        thread.start()
        with closing(psycopg.connect(url, autocommit=True)) as other:
            while not other.execute(
                "select 1 from pg_stat_activity where wait_event_type = 'Lock' and query like '%forgotten_at%'"
            ).fetchall():
                assert thread.is_alive()
    thread.join()
    assert [each.event.email for each in app.read()] == [""]


def test_of_many_keys_those_that_are_destroyed_are_nowhere_in_the_file(tmp_path: Path) -> None:
    app = App("personal", f"sqlite:///{tmp_path}/log.db", migrate=True, master_keys=LocalKeys(b"k" * 32))
    app.migrate()
    with closing(sqlite3.connect(tmp_path / "log.db")) as connection:
        connection.execute("pragma secure_delete = off")  # as most builds of SQLite have it
        for number in range(1000):
            app.record(Reminded(user=f"p{number * 7919 % 1000:04}", email=SECRET), via=connection)
            if number % 20 == 0:
                connection.commit()
        connection.commit()
        assert connection.execute("pragma secure_delete").fetchall() == [(0,)]
    wrapped = {subject: key.encode() for subject, key in rows(app, "select subject, wrapped from $.personal_keys")}
    gone = sorted(wrapped)[::20]
    with app.log.own.lend() as own:
        own.execute("pragma secure_delete = off")
    for subject in gone:
        app.forget(subject)
    found = dump(app)
    parts = {subject: [key[at : at + 20] for at in range(0, len(key) - 20, 20)] for subject, key in wrapped.items()}
    assert {subject for subject in parts if any(each in found for each in parts[subject])} == set(wrapped) - set(gone)


def test_a_reader_of_the_file_keeps_it_from_being_swept_and_then_no_more(tmp_path: Path) -> None:
    app = App("personal", f"sqlite:///{tmp_path}/log.db", migrate=True, master_keys=LocalKeys(b"k" * 32))
    record(app, Reminded(user="ada", email=SECRET))
    ((wrapped,),) = rows(app, "select wrapped from $.personal_keys")
    with closing(sqlite3.connect(tmp_path / "log.db", isolation_level=None)) as reader:
        reader.execute("begin")
        reader.execute("select count(*) from ensue_events").fetchall()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(forgetting, "_PATIENCE", 0.0)
            assert not app.forget("ada").swept
        assert wrapped.encode() in dump(app)
        reader.execute("commit")
        assert app.forget("ada").swept
    assert wrapped.encode() not in dump(app)


# --------------------------------------------------------------------------------------------- what cannot be forgotten


def test_what_was_recorded_readable_is_reported(app: App) -> None:
    record(app, Reminded(user="ada", email=SECRET))
    place = app.log.place
    if place.url.startswith("postgresql"):
        rows(
            app, f"""select $.record('{json.dumps({"user": "ada", "email": SECRET})}', type => '{Reminded.__type__}')"""
        )
    else:
        rows(
            app,
            f"""insert into $.events (id, type, kind, data, recorded_at) values ('{uuid4()}',
            '{Reminded.__type__}', 'domain', '{json.dumps({"user": "ada", "email": SECRET})}', '2026-01-01T00:00Z')""",
        )
    assert [each.event.email for each in app.read()] == [SECRET, SECRET]
    (readable,) = app.appearances("ada").readable
    assert (readable.type, readable.field, readable.events) == (Reminded.__type__, "email", 1)
    app.forget("ada")
    assert [each.event.email for each in app.read()] == ["", SECRET]


def test_nobody_is_forgotten_by_accident(app: App) -> None:
    for bad in ("", "a\0", "x" * 401):
        with pytest.raises(EventValueError):
            app.forget(bad)
    app.migrate()
    done = app.forget("nobody")
    assert not done.known
    assert app.appearances("nobody").known is False
    with pytest.raises(SubjectForgotten):
        record(app, Reminded(user="nobody", email=SECRET))


# --------------------------------------------------------------------------------------------------- what it costs


def test_events_without_personal_fields_ask_for_no_key(tmp_path: Path) -> None:
    app = App("personal", f"sqlite:///{tmp_path}/log.db", migrate=True, master_keys=LocalKeys(b"k" * 32))
    app.migrate()
    said: list[str] = []
    with app.transaction() as connection:
        traced: Any = connection
        traced.set_trace_callback(said.append)
        app.record(Went(user="ada"), via=connection)
        traced.set_trace_callback(None)
    assert said
    assert not [each for each in said if "personal_keys" in each]
