"""`ensue events check` tells whether all that is stored still loads."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.shop import Shop, open_shop


@pytest.fixture(params=["sqlite", "postgresql"])
def shop(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    schema: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Iterator[Shop]:
    sqlite = request.param == "sqlite"
    url = f"sqlite:///{tmp_path}/shop.db" if sqlite else request.getfixturevalue("postgres_url")
    yield from open_shop(tmp_path, url, schema, monkeypatch, capsys)


def test_what_loads_and_what_does_not(shop: Shop) -> None:
    shop.good("migrate")
    assert shop.good("events", "check").out == "there are no events\n"
    shop.record("a", "b")
    assert "everything loads" in shop.good("events", "check").out
    assert shop.good("events", "check", "--json", "--all").json == {
        "loads": True,
        "types": [
            {
                "type": "Placed.v1",
                "total": 2,
                "looked_at": 2,
                "becomes": {"Placed.v1": 2},
                "unknown_fields": {},
                "failed": 0,
                "failures": [],
            }
        ],
    }
    shop.change("    n: int\n", "    number: int\n")
    done = shop("events", "check")
    assert done.code == 1
    assert "2 events would not load" in done.out
    assert "missing required field `number`" in done.out
    shop.change("    number: int\n", "")
    done = shop.good("events", "check")
    assert "n (2)" in done.out
    shop.change("class Noted(", CURE)
    process = shop.start("events", "check", "--sample", "1", "--app", "shop:app")  # of its own: classes are for ever
    out, err = process.communicate()
    assert "everything loads" in out, err


CURE = """from ensue import PastEvent, upcast


class Numbered(PastEvent, name="Placed.v1"):
    order: str
    n: int


@upcast
def without_number(old: Numbered) -> Placed:
    return Placed(order=old.order)


class Noted("""
