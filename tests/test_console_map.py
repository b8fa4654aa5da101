"""The map in the console: brokers and other services around the service, rates that move."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import httpx
import pytest

from ensue import App
from ensue.console import Console
from tests.bookshop import BookSent, Bookshop
from tests.console_running import eventually, serving, working

BROKER = "nats://shop:secret@127.0.0.1:4"


@pytest.fixture
def shop(tmp_path: Path) -> Bookshop:
    made = Bookshop(f"sqlite:///{tmp_path}/shop.db", broker=BROKER)
    made.app.migrate()
    return made


@pytest.fixture
def client(shop: Bookshop, tmp_path: Path) -> Iterator[httpx.Client]:
    courier = App("courier", f"sqlite:///{tmp_path}/courier.db", migrate=True)

    @courier.receive(BookSent, source=BROKER)
    def deliver(event: BookSent) -> None: ...

    with serving(Console(shop.app, also=[courier])) as address, httpx.Client(base_url=address) as made:
        yield made


def boxes(text: str) -> dict[str, str]:
    """Return what stands in each box of a drawing, by its name."""
    return dict(re.findall(r'<text class="name"[^>]*>([^<]*)</text>\n<text class="note"[^>]*>([^<]*)</text>', text))


def test_brokers_and_services_stand_around_the_service(client: httpx.Client) -> None:
    text = client.get("/map").text
    found = boxes(text)
    assert found["nats://127.0.0.1:4"] == "broker"
    assert found["courier"] == "another service"
    assert found["relay"] == "relay"
    assert "secret" not in text
    assert "→" in text.partition("Brokers")[2]


def test_the_drawing_is_asked_for_again_with_the_rates_of_the_moment(client: httpx.Client, shop: Bookshop) -> None:
    page, numbers = client.get("/map").text, count()
    assert boxes(page)["BookPaid"] == "⚠ never recorded"
    assert 'hx-get="/map"' in page

    def rates() -> str | None:
        shop.order(next(numbers), take=False)
        part = client.get("/map", headers={"HX-Request": "true"}).text
        assert "<html" not in part
        assert part.count("<svg") == 1
        found = boxes(part)
        moves = found["BookPaid"].endswith("/s") and found["send_confirmation"].endswith("/s")
        return part if moves else None

    with working(shop):
        assert "BookPaid" in eventually(rates).partition('id="rates"')[2]
