"""In a large log PostgreSQL finds events by its indexes: the plans are looked at."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

import psycopg
import pytest

from bench.stores import Pair, fill, pair
from ensue.log import Call, Selection
from ensue.log.reading import read_batch
from ensue.log.statements import Style


@pytest.fixture(scope="module")
def large(installed_postgres_url: str) -> Iterator[Pair]:
    with pair(installed_postgres_url) as made:
        fill(made, 30_000, lambda _: None)
        yield made


class HasUrl(Protocol):
    """Says where a database is."""

    @property
    def url(self) -> str: ...


def plan(made: HasUrl, call: Call) -> Iterator[dict[str, Any]]:
    """Yield the nodes of the plan of a statement."""
    with psycopg.connect(made.url) as connection:
        query = psycopg.ClientCursor(connection).mogrify(
            call.query.text(Style.FORMAT), call.query.arrange(Style.FORMAT, call.values)
        )
        (found,) = connection.execute(f"explain (format json) {query}".encode()).fetchone() or ([],)
    todo = [found[0]["Plan"]]
    while todo:
        node = todo.pop()
        yield node
        todo += node.get("Plans", [])


@pytest.mark.parametrize(
    ("selection", "index"),
    [
        (Selection(key="k-7"), "events_key"),
        (Selection(key="k-7", after=20_000), "events_key"),
        (Selection(correlation_id="request-7"), "events_correlation"),
        (Selection(correlation_id="0195f3a0-5c1e-7b1e-9d6c-2f1a4be0c001"), "events_correlation"),
        (Selection(id="0195f3a0-5c1e-7b1e-9d6c-2f1a4be0c001"), "events_id"),
        (Selection(stream="wallet-7"), "events_stream"),
        (Selection(types=("rare",)), "events_type"),
        (Selection(after=20_000), "events_pkey"),
    ],
)
def test_a_selection_is_read_by_an_index(large: Pair, selection: Selection, index: str) -> None:
    app = large.app()
    call = next(read_batch(app.log.dialect, selection, 500))
    assert isinstance(call, Call)
    nodes = list(plan(large, call))

    assert index in {node.get("Index Name") for node in nodes}
    assert "Seq Scan" not in {node["Node Type"] for node in nodes}


@pytest.mark.parametrize("name", ["window", "prune"])
def test_pruning_reads_events_by_the_index_of_types(large: Pair, name: str) -> None:
    query = large.app().log.dialect.sql[name]
    values = {"type": "rare", "after": 20_000, "until": 21_000, "limit": 1000}
    nodes = list(plan(large, query(**{each: values[each] for each in query.names})))

    assert "events_type" in {node.get("Index Name") for node in nodes}
    assert "events" not in {node.get("Relation Name") for node in nodes if node["Node Type"] == "Seq Scan"}


def test_a_moment_is_looked_for_by_the_index_of_times_too(large: Pair) -> None:
    call = large.app().log.dialect.sql["position_at"](moment="2100-01-01T00:00:00Z")

    assert {"events_pkey", "events_recorded_at"} <= {node.get("Index Name") for node in plan(large, call)}
