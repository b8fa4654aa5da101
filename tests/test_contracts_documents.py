"""Documents made of contracts: AsyncAPI for the official parser, Avro for a real writer, a catalogue for people."""

from __future__ import annotations

import io
import json
from datetime import UTC, date, datetime, time
from decimal import Decimal
from html.parser import HTMLParser
from pathlib import Path
from typing import Annotated, Any, Literal
from uuid import UUID, uuid4

import fastavro
import msgspec
import pytest
from msgspec import Meta, Struct

from ensue import App
from ensue.cli import main
from ensue.contracts import Folder, Publication, Reading, Service
from ensue.contracts.asyncapi import asyncapi
from ensue.contracts.avro import avro_of
from ensue.contracts.catalogue import catalogue
from ensue.contracts.folder import find_folders
from ensue.contracts.locking import compare, lock
from ensue.errors import UnusableContract
from tests import node
from tests.contracting import DEFAULTS, FIELDS, Card, Cash, Colour, Level, Money, Node, contract, event, fresh_events

__all__ = ["fresh_events"]
pytestmark = pytest.mark.usefixtures("fresh_events")

app: App
TARGET = f"{__name__}:app"


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> App:
    monkeypatch.chdir(tmp_path)
    made = App("shop", "memory://shop")
    monkeypatch.setitem(globals(), "app", made)
    return made


def ensue(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Run a command; return its exit code, what it prints, and what it says besides."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as leaving:
        main(["contracts", *arguments])
    out, err = capsys.readouterr()
    return int(leaving.value.code or 0), out, err


# --- AsyncAPI


def everywhere() -> Service:
    """Return a service that publishes on and reads from every kind of broker."""
    big = event("Everything", 3, DEFAULTS, with_key="id", **FIELDS)
    big.__doc__ = "All that there is.\nAnd more."
    paid, tree = event("shop.Paid", 1, order=int), event("Tree", 1, tree=Node)
    protocols = {"nats": "shop.events", "kafka": "events", "amqp": "shop", "redis": "shop:events", "http": "/hooks"}
    return Service(
        name="my shop",
        publishes=(
            *(
                Publication(event=each, channel=channel, protocol=protocol, address=f"{protocol}.example:1")
                for protocol, channel in protocols.items()
                for each in (big, paid)
            ),
            Publication(event=tree),
        ),
        reads=tuple(
            Reading(event=tree, channel=channel, source=f"{protocol}://user:word@broker:7", consumer="shop")
            for protocol, channel in protocols.items()
        ),
    )


def test_the_official_parser_accepts_what_is_published_and_read(shop: App, capsys: pytest.CaptureFixture[str]) -> None:
    event("Placed", 1, order=int)
    documents = [
        json.dumps(asyncapi(everywhere(), "2.0.0", "A shop.")),
        ensue(capsys, "asyncapi", TARGET, "--document-version", "7.1.0")[1],
        json.dumps(asyncapi(Service(name="silent"))),
    ]
    assert json.loads(documents[1])["info"] == {"title": "shop", "version": "7.1.0"}
    found = node.parse(*documents, '{"asyncapi":"3.0.0"}')
    assert [one["errors"] for one in found[:3]] == [[], [], []]
    assert found[3]["errors"]
    assert {"shop.events", "events", "shop", "shop:events", "/hooks"} <= set(found[0]["channels"])
    assert set(found[0]["messages"]) == {"Everything.v3", "shop.Paid.v1", "Tree.v1"}


def test_what_the_document_says() -> None:
    document = asyncapi(everywhere())
    assert "user:word" not in json.dumps(document)
    assert document["servers"]["kafka-broker-7"] == {"host": "broker:7", "protocol": "kafka"}
    message = document["components"]["messages"]["Everything.v3-kafka"]
    assert message["summary"] == "All that there is."
    assert message["headers"]["properties"]["ce_type"] == {"type": "string", "const": "Everything.v3"}
    assert message["headers"]["properties"]["ce_source"]["examples"] == ["urn:ensue:my%20shop"]
    assert message["payload"] == {"$ref": "#/components/schemas/Everything.v3"}
    assert message["bindings"]["kafka"]["key"] == {"type": "string"}
    operations = document["operations"]
    assert operations["send-nats-shop.events"]["action"] == "send"
    assert len(operations["send-nats-shop.events"]["messages"]) == 2
    assert operations["receive-kafka-events-shop"]["bindings"]["kafka"]["groupId"] == {
        "type": "string",
        "enum": ["shop"],
    }
    assert operations["receive-nats-shop.events-shop"]["bindings"]["nats"]["queue"] == "shop"
    assert document["channels"]["Tree"]["address"] is None
    schemas = document["components"]["schemas"]
    assert schemas["Tree.v1.Node"]["properties"]["next"]["anyOf"][0] == {"$ref": "#/components/schemas/Tree.v1.Node"}


def test_amqp_is_described_as_the_relay_publishes_and_the_receiver_reads(shop: App) -> None:
    placed, paid = event("Placed", 1, order=int), event("Paid", 1, order=int)
    shop.relay("amqp://user:word@broker/?exchange=orders", placed)
    shop.relay("amqp://user:word@broker", placed, name="usual")
    shop.inbox("amqp://user:word@broker/?exchange=payments", paid)
    document = asyncapi(shop.service())
    (found,) = node.parse(json.dumps(document))
    assert found["errors"] == []
    channels = document["channels"]
    assert channels.keys() == {"amqp-orders-Placed.v1", "amqp-ensue-Placed.v1", "amqp-payments-Paid.v1"}
    for exchange in ("orders", "ensue", "payments"):
        (channel,) = (each for name, each in channels.items() if name.startswith(f"amqp-{exchange}-"))
        assert channel["bindings"]["amqp"] == {
            "is": "routingKey",
            "exchange": {"name": exchange, "type": "topic", "durable": True, "autoDelete": False},
            "bindingVersion": "0.3.0",
        }
    assert channels["amqp-payments-Paid.v1"]["address"] == "Paid.v1"
    assert document["operations"]["receive-amqp-payments-Paid.v1-shop.inbox"]["bindings"]["amqp"] == {
        "ack": True,
        "x-queue": "shop.inbox",
        "bindingVersion": "0.3.0",
    }


# --- Avro


class Sizes(Struct, frozen=True):
    at: datetime
    prices: tuple[Decimal, ...]
    note: str = ""


AVRO: dict[str, Any] = {
    "flag": bool,
    "whole": int,
    "real": float,
    "text": str,
    "blob": bytes,
    "id": UUID,
    "price": Decimal,
    "at": datetime,
    "day": date,
    "hour": time,
    "numbers": tuple[int, ...],
    "table": dict[str, Sizes],
    "by_id": dict[UUID, int],
    "level": Level,
    "money": Money,
    "node": Node,
    "paid": Card | Cash,
    "maybe": int | str | None,
    "size": Literal["s", "m"],
    "odd": Literal["1a", "b"],
    "few": Literal[1, 2] | None,
    "again": Money | None,
    "later": datetime,
    "other": Annotated[int | None, Meta(description="One more.")],
    "unset": int | msgspec.UnsetType,
    "blobs": bytes,
    "days": date,
    "clock": time,
    "moneys": tuple[Money, ...],
    "price2": Decimal,
    "share": float,
    "table2": dict[str, int],
}
AVRO_DEFAULTS: dict[str, Any] = {
    "again": Money(Decimal(1)),
    "later": datetime(2026, 3, 1, 9, 30, tzinfo=UTC),
    "other": None,
    "unset": msgspec.UNSET,
    "blobs": b"\xff",
    "days": date(1970, 1, 3),
    "clock": time(0, 0, 1),
    "moneys": (),
    "price2": Decimal("1.5"),
    "share": 1.0,
    "table2": {},
}


def test_a_real_writer_takes_the_schema() -> None:
    event_contract = contract("shop.Sold", 2, AVRO_DEFAULTS, with_key="id", **AVRO)
    schema = avro_of(event_contract)
    assert (schema["name"], schema["namespace"], schema["version"], schema["key"]) == ("Sold", "shop", 2, "id")
    fields = {each["name"]: each for each in schema["fields"]}
    assert fields["id"]["type"] == {"type": "string", "logicalType": "uuid"}
    assert fields["at"]["type"] == {"type": "long", "logicalType": "timestamp-micros"}
    assert fields["price"]["type"] == "string"
    assert (fields["again"]["type"][0], fields["again"]["default"]) == ("Money", {"amount": "1", "currency": "EUR"})
    assert (fields["later"]["default"], fields["days"]["default"]) == (1772357400000000, 2)
    assert (fields["clock"]["default"], fields["blobs"]["default"]) == (1_000_000, "ÿ")
    assert fields["other"] == {"name": "other", "doc": "One more.", "type": ["null", "long"], "default": None}
    assert fields["unset"] == {"name": "unset", "type": ["null", "long"], "default": None}
    money = {"amount": "1.20", "currency": "EUR"}
    at = datetime(2026, 3, 1, tzinfo=UTC)
    record = {
        "flag": True,
        "whole": 2**40,
        "real": 1.5,
        "text": "x",
        "blob": b"\x00",
        "id": uuid4(),
        "price": "1.20",
        "at": at,
        "day": date(2026, 3, 1),
        "hour": time(9, 30),
        "numbers": [1, 2],
        "table": {"a": {"at": at, "prices": ["1"], "note": ""}},
        "by_id": {str(uuid4()): 1},
        "level": 1,
        "money": money,
        "node": {"value": 1, "next": {"value": 2, "next": None}},
        "paid": ("shop.Card", {"by": "card", "number": "7"}),
        "maybe": "x",
        "size": "s",
        "odd": "1a",
        "few": None,
        "blobs": b"x",  # this writer does not take its own default
    }
    parsed = fastavro.parse_schema(schema)
    file = io.BytesIO()
    fastavro.schemaless_writer(file, parsed, record)
    file.seek(0)
    back: Any = fastavro.schemaless_reader(file, parsed, None)
    assert back["id"] == record["id"]
    assert (back["at"], back["hour"], back["node"]) == (at, time(9, 30), record["node"])
    assert (back["unset"], back["again"], back["moneys"]) == (None, {"amount": "1", "currency": "EUR"}, [])


def test_decimals_with_a_precision() -> None:
    schema = avro_of(contract("Sold", 1, price=Decimal), decimal=(18, 4))
    assert schema["fields"][0]["type"] == {"type": "bytes", "logicalType": "decimal", "precision": 18, "scale": 4}
    assert fastavro.parse_schema(schema)


class FromDate(Struct, rename={"start": "from-date"}):
    start: int


@pytest.mark.parametrize(
    "shape, default, said",
    [
        (Any, None, r"Sold.v1 cannot be written as Avro: Sold.it: it may be anything"),
        (tuple[int, str], None, r"Sold.it: .* has items of different types"),
        (UUID | int | None, None, None),
        (dict[int, str], None, r"the keys of a map are text in Avro, and not integer"),
        (FromDate, None, r"FromDate.from-date: 'from-date' is no Avro name"),
        (Literal["a", 1], None, r"an Avro enum is all text"),
        (list[int] | Level, None, None),
        (Decimal, Decimal(1), r"the default '1' of a decimal cannot be written; leave out --decimal"),
    ],
)
def test_what_avro_cannot_express(shape: Any, default: Any, said: str | None) -> None:
    drawn = contract("Sold", 1, {} if default is None else {"it": default}, it=shape)
    if said is None:
        assert fastavro.parse_schema(avro_of(drawn))
        return
    with pytest.raises(UnusableContract, match=said):
        avro_of(drawn, decimal=(9, 2))


def test_avro_on_the_command_line(shop: App, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    event("Paid", 1, order=int, price=Decimal)
    event("Paid", 2, order=int, price=Decimal)
    assert [each["version"] for each in json.loads(ensue(capsys, "avro", "--app", TARGET)[1])] == [1, 2]
    code, out, _ = ensue(capsys, "avro", "Paid.v2", "--app", TARGET, "--decimal", "9,2")
    assert (code, [each["version"] for each in json.loads(out)]) == (0, [2])
    assert '"scale": 2' in out
    code, _, err = ensue(capsys, "avro", "--app", TARGET, "-o", "avro")
    assert (code, err) == (0, "wrote avro/Paid.v1.avsc\nwrote avro/Paid.v2.avsc\n")
    assert json.loads((tmp_path / "avro" / "Paid.v1.avsc").read_text())["name"] == "Paid"
    assert ensue(capsys, "avro", "Nothing", "--app", TARGET)[::2] == (1, "error: 'shop' publishes no event 'Nothing'\n")
    for wrong in ("9", "9,x", "2,9"):
        code, _, err = ensue(capsys, "avro", "--app", TARGET, "--decimal", wrong)
        assert code == 2
        assert "write the precision and the scale, for example 18,4" in " ".join(err.replace("│", " ").split())


# --- the catalogue


class Page(HTMLParser):
    """Looks whether tags match, what is linked to, and what comes from elsewhere."""

    VOID = ("meta", "rect", "path", "br")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.outside: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.ids += [found["id"] or ""] if "id" in found else []
        if tag == "a":
            self.links.append(found["href"] or "")
        self.outside += [value for name, value in attrs if name in ("src", "href") and value and value[0] != "#"]
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def services(tmp_path: Path) -> None:
    one = event("Paid", 1, order=int, with_key="order")
    two = event("Paid", 2, {"note": "<b>"}, order=int, note=str, amount=Money, colour=Colour, with_changes="additive")
    two.__doc__ = 'Money <came> & "went".'
    gone, empty = event("gone/Elsewhere", 1, it=int, with_service="elsewhere"), event("Empty", 1)
    for service in (
        Service(
            name="orders & co",
            publishes=(
                Publication(event=one, channel="paid", protocol="nats"),
                Publication(event=two, channel="paid", protocol="nats"),
                Publication(event=empty),
            ),
        ),
        Service(name="stock", reads=(Reading(event=one, channel="paid", source="nats://x", consumer="stock"),)),
        Service(name="mail", reads=(Reading(event=two), Reading(event=gone))),
        Service(name="idle"),
    ):
        folder = Folder(tmp_path / service.name / "contracts")
        lock(compare(service, folder), folder)


def test_the_catalogue_is_one_page_that_needs_nothing_else(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    services(tmp_path)
    code, _, err = ensue(capsys, "catalogue", str(tmp_path), "-o", str(tmp_path / "site"), "--title", "Our <events>")
    assert (code, err) == (0, f"wrote {tmp_path}/site/index.html\n")
    text = (tmp_path / "site" / "index.html").read_text()
    page = Page(text)
    assert (page.open, page.outside) == ([], [])
    assert {each[1:] for each in page.links} <= set(page.ids)
    assert len(page.ids) == len(set(page.ids))
    assert "<title>Our &lt;events&gt;</title>" in text
    assert 'name="viewport"' in text
    assert "prefers-color-scheme: dark" in text
    for said in (
        "orders &amp; co",
        "Money &lt;came&gt; &amp; &quot;went&quot;.",
        "&#x27;&lt;b&gt;&#x27; by default",
        "(<code>paid</code> as <code>stock</code>)",
        "nobody here",
        "Its contract is in none of the folders.",
        "publishes and reads nothing",
        "who reads the version before can read it too",
        "new reader, old event: amount: is not there, and its reader requires it",
        "Colour (&#x27;dark blue&#x27; | &#x27;red&#x27;)",
        "It has no members.",
        "members may be added that need not be there",
        "<svg",
        "JSON Schema",
    ):
        assert said in text, said


def test_two_services_of_one_name(tmp_path: Path) -> None:
    for name in ("a", "b"):
        folder = Folder(tmp_path / name)
        lock(compare(Service(name="same"), folder), folder)
    with pytest.raises(UnusableContract, match=r"b: there is a service 'same' in another folder already"):
        catalogue(find_folders([tmp_path]))


def test_a_place_that_cannot_be_written(shop: App, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    code, _, err = ensue(capsys, "asyncapi", TARGET, "-o", "file/asyncapi.json")
    assert (code, err) == (1, "error: file/asyncapi.json cannot be written: File exists\n")
