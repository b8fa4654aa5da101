"""A broker's URL: what it says, and what it never shows."""

from __future__ import annotations

import pytest

from ensue.brokers import Address, broker_at
from ensue.errors import DeclarationError


def test_an_address_is_taken_apart() -> None:
    address = Address("nats://me:p%40ss@one:4222,two,[::1]:4224/shop%2Dorders?timeout=5")
    assert address.servers == ["one:4222", "two", "[::1]:4224"]
    assert (address.host, address.port(1), address.path) == ("one", 4222, "shop-orders")
    assert (address.user, address.password, address.timeout) == ("me", "p@ss", 5)
    assert str(address) == "nats://me@one:4222,two,[::1]:4224/shop-orders".replace("shop-orders", "shop%2Dorders")


@pytest.mark.parametrize(
    "url",
    [
        "",
        "nats://",
        "nats://me:secret@",
        "nats://me:secret@host:port",
        "nats://me:secret@host:1,",
        "nats://me:secret@[::1",
        "nats://me:secret@host?timeout=0",
        "nats://me:secret@host?timeout=nan",
        "nats://me:secret@host?timeout=soon",
        "gopher://me:secret@host",
    ],
)
def test_what_is_none_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(DeclarationError) as caught:
        broker_at(url)
    assert "secret" not in str(caught.value)
