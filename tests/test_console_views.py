"""What single views say, without a browser and without a worker."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from ensue import PastEvent, SourcedEvent, upcast
from ensue.console import Console
from ensue.console.pulse import Pulse
from tests.bookshop import Bookshop
from tests.console_running import serving


class ParcelWeighed(SourcedEvent):
    """In grams, since the post asks for them."""

    grams: int


class ParcelWeighedInPounds(PastEvent, name="ParcelWeighed"):
    """As it was."""

    pounds: int


@upcast
def in_grams(old: ParcelWeighedInPounds) -> ParcelWeighed:
    """A pound, as the post has it."""
    return ParcelWeighed(grams=old.pounds * 500)


@pytest.fixture
def shop(tmp_path: Path) -> Bookshop:
    made = Bookshop(f"sqlite:///{tmp_path}/shop.db")
    made.app.migrate()
    return made


@pytest.fixture
def client(shop: Bookshop) -> Iterator[httpx.Client]:
    with serving(Console(shop.app)) as address, httpx.Client(base_url=address) as made:
        yield made


def store(shop: Bookshop, data: str) -> int:
    """Store an event as an older release did; return its position."""
    with shop.app.transaction() as connection:
        connection.execute(
            "insert into ensue_events (id, type, kind, stream, version, data, recorded_at) "
            "select '01a00000-0000-7000-8000-00000000000' || count(*), 'ParcelWeighed', 'sourced', 'Parcel-1', "
            "count(*) + 1, ?, '2026-01-01T00:00:00Z' from ensue_events",
            (data,),
        )
    return shop.app.operations.horizon()


def test_an_event_as_it_is_stored_and_as_it_is_read_today(shop: Bookshop, client: httpx.Client) -> None:
    old, new, wrong = (store(shop, each) for each in ('{"pounds":3}', '{"grams":200}', '{"ounces":7}'))
    page = client.get(f"/events/{old}").text
    assert "pounds&#34;: 3" in page.partition("As it is read today")[0]
    assert "grams&#34;: 1500" in page.partition("As it is read today")[2]
    assert "As it is read today" not in client.get(f"/events/{new}").text
    assert "It cannot be read" in client.get(f"/events/{wrong}").text


def test_an_integration_event_leads_to_its_contract(shop: Bookshop, client: httpx.Client) -> None:
    shop.order(1, take=False)
    assert 'href="/contracts/BookOrdered.v2"' in client.get("/events/1").text
    assert "version 1" in client.get("/contracts/BookOrdered.v2").text
    assert "/contracts/BookPaid" not in client.get("/events/2").text


def test_where_nothing_matches_no_empty_table_stands(shop: Bookshop, client: httpx.Client) -> None:
    shop.order(1, take=False)
    page = client.get("/events?key=nobody&before=1s").text
    assert "Nothing matches" in page
    assert "<table" not in page


def test_a_build_beside_the_live_one_keeps_nothing_waiting(shop: Bookshop) -> None:
    shop.order(1, take=False)
    pulse = Pulse(shop.app)
    before = pulse.beat()
    build = shop.app.replays.begin("sold", actor="ann", reason="to see")
    pulse.forget()
    beat = pulse.beat()
    assert build.cursor in {each.subscription for each in beat.facts.seen if each.standing and each.standing.behind}
    assert beat.facts.waiting == before.facts.waiting
    waits = {each.subscription for each in beat.facts.ours}
    assert build.cursor not in waits
