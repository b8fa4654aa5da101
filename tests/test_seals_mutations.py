"""A random bit, row or order of a stored history is changed: verifying names it, always; and it raises no false alarm.

`ENSUE_TEST_MUTATIONS` says how many are tried (80 on SQLite, a tenth of that on PostgreSQL).
"""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import psycopg
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from ensue import App
from ensue.seals import verifying
from tests.sealing import ANY_AGE, KEYS, Shipped, auditor, do, fill, is_postgres, positions, record, seal, table, verify

MUTATIONS = int(os.environ.get("ENSUE_TEST_MUTATIONS", "80"))
COLUMNS = ("id", "type", "kind", "stream", "version", "key", "data", "metadata", "correlation_id", "recorded_at")


class Refused(Exception):
    """The database would not have it, or nothing was changed by it."""


class Done(NamedTuple):
    """What was done."""

    positions: set[int]
    """One of these has to be named; none: nothing that was sealed has changed."""
    history: bool
    """It is the history that has changed, not the seal."""


@dataclass
class Template:
    """A history with its seal, and an export of it."""

    app: App
    folder: Path
    sealed: int
    """The position of the last sealed event."""
    renew: Callable[[], None]
    """Makes it as it was."""


def make(app: App, folder: Path) -> int:
    """Record 620 events, prune some, and leave a few that are not sealed."""
    app.migrate()
    fill(app, 150)
    seal(app)
    app.history.prune(ANY_AGE, types=["test.seals.shipped.v1"], actor="anna")
    fill(app, 270)
    seal(app)
    fill(app, 200)
    last = seal(app).position
    app.seals.take(folder, trusted=KEYS)
    record(app, *[Shipped(n=n) for n in range(5)])
    return int(last)


@pytest.fixture(scope="module")
def sqlite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Template]:
    place = tmp_path_factory.mktemp("mutations")
    file = place / "log.db"
    app = App("mutated", f"sqlite:///{file}")
    sealed = make(app, place / "out")
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        connection.execute(f"vacuum into '{place}/template.db'")

    def renew() -> None:
        app.log.own.close()
        for end in ("", "-wal", "-shm"):
            Path(f"{file}{end}").unlink(missing_ok=True)
        shutil.copy(place / "template.db", file)

    yield Template(app, place / "out", sealed, renew)
    app.log.own.close()


@pytest.fixture
def postgres(postgres_url: str, schema: str, tmp_path: Path) -> Template:
    app = App("mutated", postgres_url, schema=schema)
    sealed = make(app, tmp_path / "out")
    names = ("events", "seal", "seal_tiles", "seal_checkpoints")
    for name in names:
        do(app, f"create table {table(app, name)}_template as select * from {table(app, name)}")

    def renew() -> None:
        for name in names:
            do(app, f"truncate {table(app, name)}")
            do(app, f"insert into {table(app, name)} select * from {table(app, name)}_template")

    return Template(app, tmp_path / "out", sealed, renew)


# --- what is done


def flip_a_bit(made: Template, chance: random.Random) -> Done:
    """Of any value of any event."""
    app, position = made.app, chance.choice(positions(made.app))
    column = chance.choice(COLUMNS)
    where = f"from {table(app)} where position = {position}"
    value_of = column if is_postgres(app) else f"cast({column} as blob)"
    ((before,),) = ask(app, f"select {value_of} {where}")
    if before is None:
        raise Refused
    if isinstance(before, int) or column == "version":
        value: Any = int(before) ^ 1 << chance.randrange(16)
        do(app, f"update {{events}} set {column} = {value} where position = {position}")
    elif is_postgres(app):
        value = str(before) if column not in ("data", "metadata") else ask(app, f"select {column}::text {where}")[0][0]
        if column == "recorded_at":
            later = "recorded_at + interval '1 microsecond'"
            do(app, f"update {{events}} set recorded_at = {later} where position = {position}")
        else:
            letters = list(value)
            at = chance.randrange(len(letters))
            letters[at] = chr(ord(letters[at]) ^ 1 << chance.randrange(5))
            do(app, f"update {{events}} set {column} = ? where position = {position}", "".join(letters))
    else:
        value = bytearray(before)
        value[chance.randrange(len(value))] ^= 1 << chance.randrange(8)
        do(app, f"update {{events}} set {column} = cast(x'{value.hex()}' as text) where position = {position}")
    return Done({position} if position <= made.sealed else set(), True)


def delete_a_row(made: Template, chance: random.Random) -> Done:
    position = chance.choice(positions(made.app))
    do(made.app, f"delete from {{events}} where position = {position}")
    return Done({position} if position <= made.sealed else set(), True)


def insert_a_row(made: Template, chance: random.Random) -> Done:
    app, there = made.app, set(positions(made.app))
    free = [each for each in range(1, made.sealed) if each not in there]
    to, source = chance.choice(free), chance.choice(sorted(there))
    columns = "type, kind, key, data, metadata, correlation_id, causation_id, recorded_at"
    do(
        app,
        f"insert into {{events}} (position, id, {columns}) select {to}, '01a2238b-3b0c-720f-8210-f54d60f0974c', "
        f"{columns.replace('kind', chr(39) + 'domain' + chr(39))} from {{events}} where position = {source}",
    )
    return Done({to}, True)


def exchange_two_rows(made: Template, chance: random.Random) -> Done:
    one, other = chance.sample([each for each in positions(made.app) if each <= made.sealed], 2)
    do(made.app, f"update {{events}} set position = -1 where position = {one}")
    do(made.app, f"update {{events}} set position = {one} where position = {other}")
    do(made.app, f"update {{events}} set position = {other} where position = -1")
    return Done({one, other}, True)


def exchange_two_contents(made: Template, chance: random.Random) -> Done:
    one, other = chance.sample([each for each in positions(made.app) if each <= made.sealed], 2)
    rows = dict(ask(made.app, f"select position, data{text(made.app)} from {table(made.app)}"))
    if rows[one] == rows[other]:
        raise Refused
    for position, data in ((one, rows[other]), (other, rows[one])):
        do(made.app, f"update {{events}} set data = ? where position = {position}", data)
    return Done({one, other}, True)


def cut_the_end_off(made: Template, chance: random.Random) -> Done:
    first = chance.choice(positions(made.app))
    do(made.app, f"delete from {{events}} where position >= {first}")
    return Done({first} if first <= made.sealed else set(), True)


def replace_the_end(made: Template, chance: random.Random) -> Done:
    done = cut_the_end_off(made, chance)
    record(made.app, *[Shipped(n=-n) for n in range(chance.randrange(1, 80))])
    return done


def move_the_row(made: Template, chance: random.Random) -> Done:
    there = positions(made.app)
    free = [each for each in range(1, made.sealed) if each not in set(there)]
    one, to = chance.choice([each for each in there if each <= made.sealed]), chance.choice(free)
    do(made.app, f"update {{events}} set position = {to} where position = {one}")
    return Done({one, to}, True)


def flip_a_bit_of_the_seal(made: Template, chance: random.Random) -> Done:
    """Of a hash, of what tells positions, or of a checkpoint."""
    app = made.app
    name, column, key = chance.choice(
        [
            ("seal_tiles", "hashes", "level, number"),
            ("seal_tiles", "steps", "level, number"),
            ("seal_checkpoints", "note", "size, size"),
        ]
    )
    rows = ask(app, f"select {key}, {column} from {table(app, name)} where {column} is not null")
    first, second, value = chance.choice(rows)
    changed = bytearray(value.encode() if isinstance(value, str) else value)
    changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
    where = f"level = {first} and number = {second}" if name == "seal_tiles" else f"size = {first}"
    new: Any = bytes(changed)
    if column == "note":
        try:
            new = new.decode()
        except UnicodeDecodeError:
            raise Refused from None
        if "\0" in new:
            raise Refused
    do(app, f"update {{{name}}} set {column} = ? where {where}", new)
    return Done(set(positions(app)), False)


def nothing(made: Template, chance: random.Random) -> Done:
    return Done(set(), True)


DEEDS: list[Callable[[Template, random.Random], Done]] = [
    flip_a_bit,
    flip_a_bit,
    flip_a_bit,
    delete_a_row,
    insert_a_row,
    exchange_two_rows,
    exchange_two_contents,
    cut_the_end_off,
    replace_the_end,
    move_the_row,
    flip_a_bit_of_the_seal,
    nothing,
]


def ask(app: App, sql: str) -> list[Any]:
    with app.transaction() as connection:
        return list(connection.execute(sql).fetchall())


def text(app: App) -> str:
    return "::text" if is_postgres(app) else ""


# --- what is found


def judge(made: Template, deed: Callable[[Template, random.Random], Done], seed: int) -> None:
    made.renew()
    notes = {each.position for each in made.app.read(types=["ensue.events-pruned"])}
    try:
        done = deed(made, random.Random(seed))
    except (Refused, sqlite3.IntegrityError, psycopg.IntegrityError, psycopg.DataError):
        return
    for kept in ([], [made.folder]):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(verifying, "TILES", 1 + seed % 3)  # it reads in several parts
            told = verify(made.app, kept=kept)
        named = [(each.first_position, each.last_position) for each in told.findings]
        if not done.positions:
            assert named == []
            continue
        assert told.findings, "missed"
        if done.history:
            assert all(each.kind != "seal" for each in told.findings)
            assert any(first <= each <= last for each in done.positions for first, last in named)
            at_end = deed in (cut_the_end_off, replace_the_end)
            if not (at_end or done.positions & notes):  # what a note explained is not explained any more
                assert all({first, last} <= done.positions for first, last in named)
        else:
            kinds = {each.kind for each in told.findings}
            if kept:
                assert kinds == {"seal"}, "the history itself holds"
            else:  # the hash of a pruned event cannot be found again: then it is not known what is true
                assert kinds <= {"seal", "rewritten"}
    if done.history:
        faults = auditor(made.folder, made.app)
        assert bool(faults) == bool(done.positions), "the stand-alone verifier agrees"
        at_end = deed in (cut_the_end_off, replace_the_end)
        assert not faults or at_end or {each.position for each in faults} & done.positions


@settings(
    max_examples=MUTATIONS,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
@given(st.sampled_from(DEEDS), st.integers(0, 2**32))
def test_whatever_is_done_is_named_on_sqlite(
    sqlite: Template, deed: Callable[[Template, random.Random], Done], seed: int
) -> None:
    judge(sqlite, deed, seed)


def test_whatever_is_done_is_named_on_postgresql(postgres: Template) -> None:
    chance = random.Random(os.environ.get("ENSUE_TEST_SEED", "1"))
    for turn in range(max(len(DEEDS), MUTATIONS // 10)):
        judge(postgres, DEEDS[turn % len(DEEDS)], chance.randrange(2**32))
