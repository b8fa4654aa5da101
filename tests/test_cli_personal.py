"""The commands about personal data: forget, and those about keys."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ensue.keys import LocalKeys, make_master_key
from tests.shop import Shop, open_shop

MODULE = """
from ensue import App, DomainEvent, Personal

app = App("shop", {url!r}, schema={schema!r})


class Joined(DomainEvent, key="user", subject="user", name="shop.joined"):
    user: str
    email: Personal[str]


@app.on(Joined, start="beginning")
def greet(event): ...
"""
OLD, NEW = make_master_key(), make_master_key()


@pytest.fixture(params=["sqlite", "postgresql"])
def shop(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    schema: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Iterator[Shop]:
    monkeypatch.setenv("ENSUE_MASTER_KEY", OLD)
    url = f"sqlite:///{tmp_path}/shop.db" if request.param == "sqlite" else request.getfixturevalue("postgres_url")
    for shop in open_shop(tmp_path, url, schema, monkeypatch, capsys):
        shop.write(MODULE.format(url=url, schema=schema))
        shop.good("migrate")
        joined = shop.module.Joined
        with shop.app.transaction() as connection:
            for user in ("ada", "bob"):
                shop.app.record(joined(user=user, email=f"{user}@example.org"), via=connection)
        yield shop


def test_forgetting_tells_where_it_is_and_asks(shop: Shop) -> None:
    said = shop.good("forget", "ada", "--report").out
    assert "shop.joined" in said
    assert "on greet" in said
    assert shop.good("forget", "ada", "--dry-run").out.endswith("nothing was done\n")
    refused = shop("forget", "ada")
    assert (refused.code, "Nobody can be asked here" in refused.err) == (1, True)
    assert "ada@example.org" in shop.good("tail", "--no-follow").out
    done = shop.good("forget", "ada", "--yes", "--reason", "asked", "--json").json
    assert (done["known"], done["swept"]) == (True, True)
    said = shop.good("tail", "--no-follow").out
    assert "ada@example.org" not in said
    assert "(forgotten)" in said
    assert "bob@example.org" in said
    assert shop.good("forget", "ada", "--report", "--json").json["forgotten_at"] == done["forgotten_at"]
    assert "There was no key of nobody" in shop.good("forget", "nobody", "-y").out
    (entry,) = [each for each in shop.good("audit", "--json").json if each["key"] == "ada"]
    assert (entry["action"], entry["reason"]) == ("forget", "asked")


def test_without_the_master_key_people_see_that_something_is_there(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENSUE_MASTER_KEY", NEW)
    shop.write(shop.text)
    said = shop.good("tail", "--no-follow").out
    assert "example.org" not in said
    assert '"email":"(personal)"' in said
    assert shop.good("show", "1", "--json").json["data"]["email"] == "(personal)"
    monkeypatch.delenv("ENSUE_MASTER_KEY")
    shop.write(shop.text)
    found = [each for each in shop("doctor", "--json").json["findings"] if each["check"] == "keys"]
    assert [each["level"] for each in found] == ["wrong"]


def test_the_master_key_is_rotated(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    old, new = (LocalKeys.written(each).current for each in (OLD, NEW))
    assert len(shop.good("keys", "make", app=False).out) == 44
    assert [(each["master"], each["keys"]) for each in shop.good("keys", "list", "--json").json] == [(old, 2)]
    monkeypatch.setenv("ENSUE_MASTER_KEY", f"{NEW}, {OLD}")
    shop.write(shop.text)
    noted = [each for each in shop("doctor", "--json").json["findings"] if each["check"] == "keys"]
    assert [(each["level"], "2 keys" in each["what"]) for each in noted] == [("note", True)]
    assert shop.good("keys", "rotate", "--dry-run").out == "would wrap 2 keys anew; nothing was done\n"
    assert shop.good("keys", "rotate", "--json").json == {"master": new, "keys": 2, "swept": True}
    assert "0 keys wrapped anew" in shop.good("keys", "rotate").out
    assert "yes" in shop.good("keys", "list").out
    assert "ada@example.org" in shop.good("tail", "--no-follow").out
