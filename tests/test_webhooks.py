"""Webhooks: signed as Standard Webhooks, judged by what the receiver answers, and received."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from ensue import IntegrationEvent
from ensue.brokers import Address, Outgoing, Refused, broker_at
from ensue.brokers.relays import Mode, relay
from ensue.brokers.webhooks import Receiver, Secrets, new_secret, receive
from ensue.brokers.webhooks.settings import Settings
from ensue.contracts.cloudevents import JSON, STRUCTURED, CloudEvent
from ensue.errors import BrokerRefused, BrokerUnavailable, DeclarationError, MalformedMessage, UnverifiedMessage
from tests.broker_servers import Certificates
from tests.broker_suite.case import with_options
from tests.http_server import Answer, HttpServer, Request
from tests.patience import until

OLD, NEW = new_secret(), new_secret()
NOW = datetime(2026, 3, 1, 9, 30, tzinfo=UTC)


class Settled(IntegrationEvent, version=1, key="order", name="test.hooks.settled"):
    order: str


def body_of(id: str, key: str = "k") -> bytes:
    attributes = {"specversion": "1.0", "id": id, "source": "/shop", "type": "Paid", "partitionkey": key}
    return json.dumps({**attributes, "data": {"a": 1}}).encode()


BODY = body_of("id-1")


def message(number: int, more: dict[str, str] | None = None, key: str = "k") -> Outgoing:
    """Make a message as a relay would."""
    id = f"id-{number}"
    headers = {"content-type": STRUCTURED, **(more or {})}
    return Outgoing("orders.paid", f"key-{number}", id, STRUCTURED, headers, body_of(id, key))


async def fine(_: Request) -> Answer:
    return Answer()


@pytest.fixture(autouse=True)
def secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOOK_SECRET", f"{NEW} {OLD}")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@asynccontextmanager
async def publishing(server: HttpServer, **options: object) -> AsyncIterator[Any]:
    broker = broker_at(with_options(server.url, **{"secret_env": "HOOK_SECRET", "timeout": 5, **options}))
    publisher = broker.publisher()
    try:
        await publisher.open(["orders.paid"])
        yield publisher
    finally:
        await publisher.close()


# --- the address


def test_a_secret_is_needed_and_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DeclarationError, match="secret_env=NAME"):
        broker_at("https://user:word@h/hook")
    with pytest.raises(DeclarationError, match="NOT_SET is not set"):
        broker_at("https://h/hook?secret_env=NOT_SET")
    monkeypatch.setenv("HOOK_SECRET", "whsec_c2hvcnQ=")
    with pytest.raises(DeclarationError, match="base64 of 24 to 64 bytes") as told:
        broker_at("https://h/hook?secret_env=HOOK_SECRET")
    assert "c2hvcnQ" not in str(told.value)
    assert repr(Secrets(NEW)) == "<1 secrets>"


def test_what_is_no_option_stays_in_the_url() -> None:
    settings = Settings.of(Address("https://u:p@h:1/a/{topic}?secret_env=HOOK_SECRET&token=x%20y&timeout=3&most=2"))
    assert settings.url("orders/paid") == "https://h:1/a/orders%2Fpaid?token=x+y"
    with pytest.raises(DeclarationError, match="most='0'"):
        broker_at("https://h/?secret_env=HOOK_SECRET&most=0")


def test_webhooks_cannot_be_fetched() -> None:
    with pytest.raises(DeclarationError, match=r"app\.webhooks"):
        broker_at("https://h/?secret_env=HOOK_SECRET").consumer(["orders"], "g")


# --- out


async def test_a_message_is_posted_as_a_signed_cloudevent() -> None:
    async with HttpServer(fine) as server, publishing(server, token="t") as publisher:
        assert await publisher.publish([message(1)]) == [None]
        (request,) = server.requests
    assert (request.method, request.target, request.body) == ("POST", "/hook?token=t", BODY)
    assert request.headers["content-type"] == STRUCTURED
    assert request.headers["webhook-id"] == "id-1"
    for each in (OLD, NEW):  # by the official library, for each of the secrets
        assert Webhook(each).verify(request.body, request.headers) == json.loads(BODY)
    with pytest.raises(WebhookVerificationError):
        Webhook(new_secret()).verify(request.body, request.headers)


async def test_user_and_password_of_the_url_are_sent_as_basic_authentication() -> None:
    async with HttpServer(fine) as server:
        url = server.url.replace("://", "://u:p%40ss@") + "?secret_env=HOOK_SECRET"
        publisher = broker_at(url).publisher()
        assert await publisher.publish([message(1)]) == [None]
        await publisher.close()
        assert server.requests[0].headers["authorization"] == "Basic dTpwQHNz"


@pytest.mark.parametrize("status", [200, 201, 202, 204])
async def test_two_hundred_something_is_taken(status: int) -> None:
    async def answer(_: Request) -> Answer:
        return Answer(status)

    async with HttpServer(answer) as server, publishing(server) as publisher:
        assert await publisher.publish([message(1)]) == [None]


@pytest.mark.parametrize(
    "status, permanent",
    [
        *((400, True), (401, True), (404, True), (410, True), (422, True)),
        *((408, False), (425, False), (429, False), (500, False), (502, False), (503, False)),
    ],
)
async def test_what_is_refused_for_good_and_what_for_now(status: int, permanent: bool) -> None:
    async def answer(_: Request) -> Answer:
        return Answer(status, body=b"because\n of that" + b"x" * 10_000)

    async with HttpServer(answer) as server, publishing(server) as publisher:
        (outcome,) = await publisher.publish([message(1)])
    assert isinstance(outcome, Refused)
    assert outcome.permanent is permanent
    assert str(status) in outcome.reason
    assert "because of that" in outcome.reason
    assert len(outcome.reason) < 300


@pytest.mark.parametrize("status, permanent", [(301, True), (308, True), (302, False), (303, False), (307, False)])
async def test_a_redirect_is_not_followed(status: int, permanent: bool) -> None:
    async def answer(request: Request) -> Answer:
        return Answer(status, {"location": "/elsewhere"}) if request.target.startswith("/hook") else Answer()

    async with HttpServer(answer) as server, publishing(server) as publisher:
        (outcome,) = await publisher.publish([message(1)])
        assert len(server.requests) == 1
    assert isinstance(outcome, Refused)
    assert outcome.permanent is permanent
    assert "/elsewhere" in outcome.reason


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("as_date", [False, True])
async def test_a_receiver_that_asks_to_wait_is_not_asked_before(status: int, as_date: bool) -> None:
    wait = format_datetime(datetime.now(UTC) + timedelta(seconds=100), usegmt=True) if as_date else "100"

    async def answer(_: Request) -> Answer:
        return Answer(status, {"retry-after": wait})

    async with HttpServer(answer) as server, publishing(server) as publisher:
        first, second = [(await publisher.publish([message(1)]))[0] for _ in range(2)]
        assert len(server.requests) == 1
    assert isinstance(first, Refused)
    assert isinstance(second, Refused)
    assert "asks to wait" in first.reason
    assert "has asked to wait" in second.reason
    assert not first.permanent
    assert not second.permanent
    assert 90 < second.after <= first.after <= 100
    assert (first.sent, second.sent) == (True, False)


@pytest.mark.parametrize(
    "asked, after",
    [
        ("7200", 3600.0),
        ("9" * 400, 3600.0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", 3600.0),
        ("Fri, 31 Dec 9999 23:59:59 -2359", 3600.0),
        ("Fri, 31 Dec 1999 23:59:59 GMT", 0.0),
        ("Fri, 31 Dec 1999 23:59:59 -0000", 0.0),
        *((text, None) for text in ("", "-5", "1.5", "soon", "٣", f"Fri, 31 Dec 1999 23:59:59 +{10**20}", "1, 2")),
    ],
)
async def test_nobody_is_waited_for_longer_than_an_hour_or_for_what_is_no_time(asked: str, after: float | None) -> None:
    async def answer(_: Request) -> Answer:
        return Answer(503, {"retry-after": asked}, b"not now")

    async with HttpServer(answer) as server, publishing(server) as publisher:
        (refused,) = await publisher.publish([message(1)])
        await publisher.publish([message(1)])
        assert len(server.requests) == (1 if after else 2)
    assert ("asks to wait" in refused.reason) is (after is not None)
    assert refused.after == (after or 0.0)


@pytest.mark.parametrize("status", [400, 500, 502])
async def test_other_answers_cannot_ask_to_wait(status: int) -> None:
    async def answer(_: Request) -> Answer:
        return Answer(status, {"retry-after": "100"})

    async with HttpServer(answer) as server, publishing(server) as publisher:
        (refused,) = await publisher.publish([message(1)])
        await publisher.publish([message(1)])
        assert len(server.requests) == 2
    assert refused.after == 0.0


async def test_after_the_wait_it_is_asked_again() -> None:
    answers = [Answer(503, {"retry-after": "0"}), Answer()]

    async def answer(_: Request) -> Answer:
        return answers.pop(0)

    async with HttpServer(answer) as server, publishing(server) as publisher:
        assert isinstance((await publisher.publish([message(1)]))[0], Refused)
        assert await publisher.publish([message(1)]) == [None]


async def test_one_that_fails_leaves_the_others_alone() -> None:
    async def answer(request: Request) -> Answer:
        await until(lambda: server.most == 4, "four at a time")
        return Answer(500 if request.headers["webhook-id"] == "id-3" else 204)

    async with HttpServer(answer) as server, publishing(server, most=4) as publisher:
        sent = [message(number) for number in range(10)]
        sent[5] = message(5, {"x-bad": "a\r\nwebhook-id: forged"})
        sent[6] = message(6, {"x-bad": "\ud800"})
        outcomes = await publisher.publish(sent)
        assert server.most == 4
    assert [number for number, outcome in enumerate(outcomes) if outcome is not None] == [3, 5, 6]
    assert [outcomes[number].permanent for number in (3, 5, 6)] == [False, True, True]


async def test_one_that_does_not_answer_is_waited_for_no_longer_than_the_timeout() -> None:
    async def answer(request: Request) -> Answer:
        if request.headers["webhook-id"] == "id-2":
            await asyncio.Event().wait()
        return Answer()

    async with HttpServer(answer) as server, publishing(server, timeout=0.5) as publisher:
        began = asyncio.get_running_loop().time()
        outcomes = await publisher.publish([message(number) for number in range(4)])
        assert asyncio.get_running_loop().time() - began < 2
    assert [outcome is None for outcome in outcomes] == [True, True, False, True]
    assert not outcomes[2].permanent


async def test_a_cancelled_publish_leaves_the_publisher_usable() -> None:
    hold = asyncio.Event()

    async def answer(_: Request) -> Answer:
        await hold.wait()
        return Answer()

    async with HttpServer(answer) as server, publishing(server, most=2) as publisher:
        task = asyncio.create_task(publisher.publish([message(number) for number in range(5)]))
        await until(lambda: server.requests, "it is sent")
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        hold.set()
        assert await publisher.publish([message(9)]) == [None]


async def test_nobody_there_is_unavailable_and_later_there() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        broker = broker_at(f"http://127.0.0.1:{closed.getsockname()[1]}/?secret_env=HOOK_SECRET")
        publisher = broker.publisher()
        with pytest.raises(BrokerUnavailable):
            await publisher.publish([message(1), message(2)])
        await publisher.close()
        await publisher.close()
        assert await publisher.publish([]) == []
        await publisher.close()


async def test_tls_needs_a_certificate_that_is_trusted(tmp_path: Path) -> None:
    certificates = Certificates(tmp_path)
    async with HttpServer(fine, certificates.context()) as server:
        async with publishing(server, ca=certificates.ca) as publisher:
            assert await publisher.publish([message(1)]) == [None]
        async with publishing(server) as publisher:
            with pytest.raises(BrokerRefused, match="CERTIFICATE_VERIFY_FAILED"):
                await publisher.publish([message(1)])


# --- in


def signed(
    more: dict[str, str] | None = None, body: bytes = BODY, at: datetime = NOW, secret: str = NEW
) -> dict[str, str]:
    """Headers as any sender by the convention makes them: with the official library."""
    return {
        "Content-Type": STRUCTURED,
        "Webhook-Id": "id-1",
        "Webhook-Timestamp": str(int(at.timestamp())),
        "Webhook-Signature": Webhook(secret).sign("id-1", at, body.decode()),
        **(more or {}),
    }


def test_what_the_official_library_has_signed_is_received() -> None:
    event = receive(signed(), BODY, Secrets(OLD, NEW), now=NOW)
    assert (event.id, event.source, event.type, event.key) == ("id-1", "/shop", "Paid", "k")
    assert event.data is not None
    assert json.loads(event.data) == {"a": 1}
    raw = [(name.encode(), value.encode()) for name, value in signed().items()]
    assert receive(raw, BODY, Secrets(NEW), now=NOW) == event


@pytest.mark.parametrize(
    "headers, body, why",
    [
        (signed(secret=new_secret()), BODY, "no signature"),
        (signed(), BODY.replace(b"1}", b"2}"), "no signature"),
        (signed({"Webhook-Id": "id-2"}), BODY, "no signature"),
        (signed({"Webhook-Signature": "v2,abc v1, v1,ä"}), BODY, "no signature"),
        (signed({"Webhook-Signature": ""}), BODY, "is not signed"),
        (signed({"Webhook-Timestamp": "soon"}), BODY, "no number"),
        (signed({"Webhook-Timestamp": "9" * 30}), BODY, "no number"),
        (signed(at=NOW - timedelta(minutes=6)), BODY, "360 s ago"),
        (signed(at=NOW + timedelta(minutes=6)), BODY, "-360 s ago"),
        ({}, b"", "is not signed"),
    ],
)
def test_what_is_not_signed_as_it_should_be_is_refused(headers: dict[str, str], body: bytes, why: str) -> None:
    with pytest.raises(UnverifiedMessage, match=why):
        receive(headers, body, Secrets(OLD, NEW), now=NOW)


def test_no_attribute_is_taken_from_a_header() -> None:
    forged = {"ce-type": "Refunded", "ce-source": "/bank", "ce-id": "id-7", "ce-partitionkey": "other"}
    assert receive(signed(forged), BODY, Secrets(NEW), now=NOW) == receive(signed(), BODY, Secrets(NEW), now=NOW)


BINARY = {"ce-specversion": "1.0", "ce-id": "id-1", "ce-source": "/shop", "ce-type": "Paid", "Content-Type": JSON}


@pytest.mark.parametrize("kind", [JSON, "text/plain", ""])
def test_in_binary_mode_the_attributes_are_not_signed_and_nothing_is_received(kind: str) -> None:
    for body in (b'{"a":1}', BODY):
        with pytest.raises(MalformedMessage, match="structured mode"):
            receive(signed({**BINARY, "Content-Type": kind}, body), body, Secrets(NEW), now=NOW)


@pytest.mark.parametrize("body", [b"", b"{}", b"[", b'{"specversion":"1.0","id":"id-1","type":"Paid"}'])
def test_what_is_signed_and_no_event_is_malformed(body: bytes) -> None:
    with pytest.raises(MalformedMessage):
        receive(signed(body=body), body, Secrets(NEW), now=NOW)


@pytest.mark.parametrize("mode", [None, "structured"])
def test_a_relay_to_webhooks_writes_all_of_an_event_into_the_body(mode: Mode | None) -> None:
    made, _ = relay("https://h/?secret_env=HOOK_SECRET", (Settled,), "shop", mode=mode)
    assert made.mode == "structured"


def test_a_relay_to_webhooks_cannot_leave_the_attributes_unsigned() -> None:
    with pytest.raises(DeclarationError, match="only the body of a webhook is signed"):
        relay("https://h/?secret_env=HOOK_SECRET", (Settled,), "shop", mode="binary")
    with pytest.raises(DeclarationError, match="use 'binary' or 'structured'"):
        relay("https://h/?secret_env=HOOK_SECRET", (Settled,), "shop", mode="odd")  # type: ignore[arg-type]


async def test_the_receiver_answers_what_the_sender_understands() -> None:
    handled: list[CloudEvent] = []

    async def handle(event: CloudEvent) -> None:
        if event.id == "id-13":
            raise RuntimeError("the database is down")
        handled.append(event)

    receiver: Any = Receiver(handle, OLD, NEW, largest=1000)
    transport = httpx.ASGITransport(receiver)
    async with httpx.AsyncClient(transport=transport, base_url="http://shop.example") as client:
        right = signed(at=datetime.now(UTC))
        assert (await client.post("/", content=BODY, headers=right)).status_code == 204
        wrong = await client.post("/", content=BODY.replace(b"1}", b"2}"), headers=right)
        assert (wrong.status_code, wrong.text) == (401, "no signature of the request fits one of the secrets")
        assert (await client.get("/")).status_code == 405
        assert (await client.post("/", content=b"x" * 1001, headers=right)).status_code == 413
        assert (await client.post("/", content=BODY, headers={**right, **BINARY})).status_code == 400
        body = body_of("id-13")
        with pytest.raises(RuntimeError, match="the database is down"):
            await client.post("/", content=body, headers=signed(body=body, at=datetime.now(UTC)))
    assert [event.id for event in handled] == ["id-1"]


async def test_what_is_published_is_received() -> None:
    handled: list[CloudEvent] = []

    async def handle(event: CloudEvent) -> None:
        handled.append(event)

    receiver: Any = Receiver(handle, OLD)

    async def answer(request: Request) -> Answer:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(receiver), base_url="http://shop") as client:
            answered = await client.request(
                request.method, request.target, content=request.body, headers=request.headers
            )
        return Answer(answered.status_code, body=answered.content)

    async with HttpServer(answer) as server, publishing(server) as publisher:
        assert await publisher.publish([message(1, key="Grüße")]) == [None]
    assert [(event.id, event.key) for event in handled] == [("id-1", "Grüße")]
