"""Statements that are held back in a pipeline: in order, as they were when they were given, and never lost."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg.types.json import Jsonb

from ensue.log.pipelining import PipeliningConnection

INSERT = "insert into held (number, word) values (%s, %s)"


@pytest.fixture
def connection(postgres_url: str, schema: str) -> Iterator[PipeliningConnection]:
    made: Any = PipeliningConnection.connect(postgres_url)
    with made as connection:
        connection.execute("create temporary table held (number int, word text, about jsonb) on commit drop")
        yield connection
        connection.rollback()


def held(connection: psycopg.Connection[Any]) -> list[tuple[Any, ...]]:
    return connection.execute("select number, word from held order by number").fetchall()


def test_many_statements_are_sent_together_and_in_order(connection: PipeliningConnection) -> None:
    with connection.pipeline():
        for number in range(1, 201):
            connection.execute(INSERT, (number, "new"))
            if number % 7 == 0:
                connection.execute("update held set word = %s where number = %s", ["seventh", number])
            if number % 50 == 0:
                connection.execute("update held set word = word || '!'")
    assert held(connection) == [
        (number, ("seventh" if number % 7 == 0 else "new") + "!" * (4 - (number - 1) // 50)) for number in range(1, 201)
    ]


def test_another_cursor_sees_what_was_held_back(connection: PipeliningConnection) -> None:
    before = connection.cursor()
    with connection.pipeline():
        connection.execute(INSERT, (1, "a"))
        assert before.execute("select count(*) from held").fetchone() == (1,)
        connection.execute(INSERT, (2, "b"))
        with connection.transaction():
            assert connection.execute("select count(*) from held").fetchone() == (2,)
            connection.execute(INSERT, (3, "c"))
        connection.execute(INSERT, (4, "d"))
        assert psycopg.Cursor(connection).execute("select count(*) from held").fetchone() == (4,)


def test_what_is_rolled_back_to_a_savepoint_takes_nothing_else_along(connection: PipeliningConnection) -> None:
    with connection.pipeline():
        connection.execute(INSERT, (1, "before"))
        with connection.transaction() as inner:
            connection.execute(INSERT, (2, "inside"))
            raise psycopg.Rollback(inner)
        connection.execute(INSERT, (3, "behind"))
    assert held(connection) == [(1, "before"), (3, "behind")]


def test_an_answer_that_is_kept_is_that_of_its_statement(connection: PipeliningConnection) -> None:
    returning = INSERT + " returning number * 10"
    with connection.pipeline():
        connection.execute(returning, (1, "a"))
        second = connection.execute(returning, (2, "b"))
        connection.execute(returning, (3, "c"))
        fourth = connection.execute(returning, (4, "d"))
        fifth = connection.execute(returning, (5, "e"))
        assert [each.fetchall() for each in (fifth, second, fourth)] == [[(50,)], [(20,)], [(40,)]]
        assert connection.execute(INSERT, (6, "f")).rowcount == 1
        with connection.execute(returning, (7, "g")) as cursor:
            assert [*cursor] == [(70,)]
    assert [number for number, _ in held(connection)] == [1, 2, 3, 4, 5, 6, 7]


def test_an_answer_stays_while_others_are_held_back(connection: PipeliningConnection) -> None:
    with connection.pipeline():
        first = connection.execute("select %s::jsonb ->> 'a'", (Jsonb({"a": 1}),))
        for number in range(100):
            connection.execute(INSERT, (number, "a"))
        assert connection.execute("select count(*) from held").fetchone() == (100,)
        assert first.fetchall() == [("1",)]


def test_values_are_those_of_the_moment_at_which_they_were_given(connection: PipeliningConnection) -> None:
    values, about = [1, "first"], {"state": "first"}
    with connection.pipeline():
        connection.execute(INSERT, values)
        values[:] = [2, "second"]
        connection.execute(INSERT, values)
        connection.execute("insert into held (number, about) values (%s, %s)", (3, Jsonb(about)))
        about["state"] = "second"
        connection.execute("insert into held (number, about) values (%s, %s)", (4, Jsonb(about)))
    assert held(connection)[:2] == [(1, "first"), (2, "second")]
    states = connection.execute("select about ->> 'state' from held where number > 2 order by number").fetchall()
    assert states == [("first",), ("second",)]


def test_who_swallows_an_error_cannot_commit_without_the_statement(connection: PipeliningConnection) -> None:
    with connection.pipeline():
        connection.execute(INSERT, (1, "a"))
        connection.execute(INSERT, (2, "no PostgreSQL text \0"))
        connection.execute(INSERT, (3, "c"))
        with pytest.raises(psycopg.DataError):
            connection.execute("select 1").fetchone()
        connection.execute(INSERT, (4, "d"))
    with pytest.raises(psycopg.DataError):
        connection.commit()
    connection.rollback()
    connection.execute("select 1")
    connection.commit()


def test_an_error_at_the_end_leaves_the_connection_usable(connection: PipeliningConnection) -> None:
    with pytest.raises(psycopg.DataError), connection.pipeline():
        connection.execute(INSERT, (1, "no PostgreSQL text \0"))
    with pytest.raises(psycopg.DataError):
        connection.commit()
    connection.rollback()
    with pytest.raises(psycopg.errors.UndefinedTable), connection.pipeline():
        for number in range(100):
            connection.execute("insert into nowhere (number) values (%s)", (number,))
    connection.rollback()
    assert connection.execute("select 1").fetchone() == (1,)


def test_another_error_is_not_hidden_by_what_was_held_back(connection: PipeliningConnection) -> None:
    with pytest.raises(KeyError, match="mine"), connection.pipeline():
        connection.execute(INSERT, (1, "no PostgreSQL text \0"))
        raise KeyError("mine")
    connection.rollback()
    assert connection.execute("select 1").fetchone() == (1,)


def test_a_new_adapter_does_not_change_what_was_given_before(connection: PipeliningConnection) -> None:
    class Shouting(psycopg.adapt.Dumper):
        def dump(self, obj: str) -> bytes:
            return obj.upper().encode()

    with connection.pipeline():
        connection.execute(INSERT, (1, "quiet"))
        connection.adapters.register_dumper(str, Shouting)
        connection.execute(INSERT, (2, "loud"))
    assert held(connection) == [(1, "quiet"), (2, "LOUD")]
