"""What a stranger, or somebody who may only look, tries on the console."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

import httpx
import msgspec
import pytest
from starlette.requests import HTTPConnection

from ensue import Aggregate, SourcedEvent, evolves
from ensue.app.judging import facts_of
from ensue.console import Console, Visitor, rendering
from ensue.console.access import loopback
from ensue.console.api.answers import veiled_seen
from ensue.subscriptions.standings import Held
from tests.bookshop import Bookshop, ShelfFilled
from tests.console_running import eventually, serving
from tests.test_console_access import SECRETS, TOKENS

SECRET = "moby-dick@example.org"
"""What an event holds that not everybody may see."""


class CoatHung(SourcedEvent):
    """Somebody has come in; nobody whose name is an address."""

    owner: str

    def __post_init__(self) -> None:
        if "@" in self.owner:
            raise ValueError(f"{self.owner} is no name")


class Peg(Aggregate):
    """Where coats hang."""

    owner: str = ""

    @evolves
    def _hung(self, event: CoatHung) -> None:
        self.owner = event.owner


@dataclass
class Place:
    """A shop without a worker, and its console, to which tokens are asked for."""

    shop: Bookshop
    console: Console
    address: str

    def client(self, name: str | None = None) -> httpx.Client:
        """Return a client with somebody's token."""
        headers = {"Authorization": f"Bearer {SECRETS[name]}"} if name else {}
        return httpx.Client(base_url=self.address, headers=headers, timeout=20)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    shop = Bookshop(f"sqlite:///{tmp_path_factory.mktemp('c')}/shop.db")
    shop.app.repository(Peg)
    shop.app.migrate()
    shop.fill()
    console = Console(shop.app, access=TOKENS)
    with serving(console) as address:
        yield Place(shop, console, address)


# --- strangers


def test_nothing_but_the_files_that_pages_need_is_served(place: Place) -> None:
    with place.client() as client:
        for name in rendering.assets():
            assert client.get(f"/static/{name}").status_code == 200
        for name in ("nothing", "vendor", "", "..%2Faccess.py", "vendor%2F..%2F..%2Faccess.py", "%2Fetc%2Fpasswd"):
            assert client.get(f"/static/{name}").status_code == 404, name


def test_numbers_that_are_none_are_no_faults_of_the_console(place: Place) -> None:
    with place.client("eve") as client:
        for number in ("9" * 5000, "9" * 30, "0x1", "٣"):
            for path in (f"/jobs/{number}", f"/api/jobs/{number}", f"/dead/{number}", f"/events/{number}"):
                assert client.get(path).status_code == 404, path[:30]


@pytest.mark.parametrize("origin", ["http://[", "http://[::1", "null", "", "://"])
def test_an_origin_that_cannot_be_read_is_another_one(place: Place, origin: str) -> None:
    with place.client("ann") as client:
        answer = client.post("/api/actions/pause", json={"subscription": "sold"}, headers={"Origin": origin})
        assert answer.status_code == 403


@pytest.mark.parametrize("header", ["X-Forwarded-For", "X-Forwarded-Host", "X-Real-IP", "Via", "Forwarded"])
def test_who_comes_through_a_proxy_does_not_sit_at_this_machine(header: str) -> None:
    def come(*headers: tuple[bytes, bytes]) -> Visitor | None:
        given = [(b"host", b"127.0.0.1:8470"), *headers]
        return loopback(HTTPConnection({"type": "http", "headers": given, "client": ("127.0.0.1", 5)}))

    assert come() is not None
    assert come((header.lower().encode(), b"x")) is None


def test_who_is_refused_is_told_of_in_the_log(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "ensue.console")
    with place.client() as client:
        csrf = client.get("/sign-in").text.partition('name="csrf" value="')[2][:32]
        assert client.post("/sign-in", data={"csrf": csrf, "token": "guessed-and-wrong"}).status_code == 401
        assert client.get("/api/audit", headers={"Authorization": "Bearer guessed-too"}).status_code == 401
    with place.client("eve") as client:
        assert client.post("/api/actions/pause", json={"subscription": "sold"}).status_code == 403
    with place.client("una") as client:
        assert client.get("/events?text=moby").status_code == 403
    told = [each.getMessage() for each in caplog.records]
    assert [each.partition(": ")[0] for each in told] == [
        "refused 127.0.0.1 POST '/sign-in'",
        "refused 127.0.0.1 GET '/api/audit'",
        "refused 'eve' POST '/api/actions/pause'",
        "refused 'una' GET '/events'",
    ]
    assert "guessed" not in caplog.text


def test_a_form_with_more_fields_than_any_has_is_refused(place: Place) -> None:
    with place.client() as client:
        many = "&".join(f"f{number}=" for number in range(1001))
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        answer = client.post("/sign-in", content=many, headers=headers)
        assert answer.status_code == 403
        assert "a thousand fields" in answer.text


def test_more_letters_than_a_page_can_tick_are_refused(place: Place) -> None:
    with place.client("ann") as client:
        letters = [f"id@subscription-{number}" for number in range(1001)]
        answer = client.post("/api/actions/retry", json={"letters": letters})
        assert answer.status_code == 422
        assert client.post("/api/actions/retry", json={"letters": letters[:2]}).status_code == 200


# --- a browser behind a proxy that does TLS


def test_cookies_are_secure_where_the_browser_speaks_tls(place: Place) -> None:
    behind = {"X-Forwarded-Proto": "https", "Origin": place.address.replace("http:", "https:")}
    with place.client() as client:
        page = client.get("/sign-in", headers=behind)
        csrf = page.text.partition('name="csrf" value="')[2][:32]
        form = {"csrf": csrf, "token": SECRETS["bob"], "next": "/"}
        cookies = {"Cookie": f"ensue_csrf={csrf}"}
        tls = client.post("/sign-in", data=form, headers={**behind, **cookies})
        plain = client.post("/sign-in", data=form, headers=cookies)
    assert tls.status_code == plain.status_code == 303
    assert ["secure" in each.headers["set-cookie"].lower() for each in (page, tls, plain)] == [True, True, False]


def test_one_signs_out_where_one_signs_in(place: Place) -> None:
    with place.client("ann") as client:
        assert "/sign-out" in client.get("/").text
    hosted = Console(place.shop.app, access=lambda connection: Visitor(name="olga"))
    with serving(hosted) as address:
        assert "/sign-out" not in httpx.get(f"{address}/").text


def test_after_signing_in_the_page_that_was_asked_for_comes(place: Place) -> None:
    with place.client() as client:
        asked = client.get("/events?type=BookPaid&key=o-1").headers["location"]
        assert asked == "/sign-in?next=%2Fevents%3Ftype%3DBookPaid%26key%3Do-1"


# --- somebody who may look, and not see payloads


def test_what_is_live_is_refused_like_the_page(place: Place) -> None:
    with place.client("una") as client:
        answer = client.get("/live/events?text=moby")
        assert (answer.status_code, "may not see" in answer.text) == (403, True)
    with place.client("eve") as client:
        answer = client.get("/live/events?since=rubbish")
        assert (answer.status_code, "is no moment" in answer.text) == (422, True)


def test_reasons_that_hold_payloads_are_hidden_wherever_they_stand(place: Place) -> None:
    def fail(progress: object) -> str:
        raise ValueError(f"nobody lives at {SECRET}")

    job = place.console.entrance.jobs.begin("replay sold into a shadow", "ann", fail)
    eventually(lambda: job.state == "failed")
    paths = (f"/jobs/{job.number}", f"/api/jobs/{job.number}", "/api/jobs", "/subscriptions/sold", "/")
    with place.client("una") as blind, place.client("ann") as seeing:
        assert [path for path in paths if SECRET in blind.get(path).text] == []
        assert [path for path in paths if SECRET in seeing.get(path).text] == [*paths[:4]]
        assert "ValueError" in blind.get(f"/jobs/{job.number}").text


def test_why_an_event_cannot_be_read_is_hidden(place: Place) -> None:
    with place.shop.app.transaction() as connection:
        connection.execute(
            "insert into ensue_events (id, type, kind, stream, version, data, recorded_at) values "
            "('01a00000-0000-7000-8000-000000000001', 'CoatHung', 'sourced', 'Peg-1', 1, ?, '2026-01-01T00:00:00Z')",
            (f'{{"owner": "{SECRET}"}}',),
        )
    paths = ("/aggregates/Peg-1", "/aggregates/Peg-1/diff?first=0&last=1", "/api/aggregates/Peg-1")
    with place.client("una") as blind, place.client("ann") as seeing:
        assert [path for path in paths if SECRET in blind.get(path).text] == []
        assert [path for path in paths if SECRET not in seeing.get(path).text] == []


def test_what_a_subscription_waits_for_is_hidden(place: Place) -> None:
    now = datetime.now(UTC)
    (seen, *_) = [each for each in facts_of(place.shop.app, 10).seen if each.standing is not None]
    assert seen.standing is not None
    held = Held(since=now, again_at=now, reason=f"BrokerAway: {SECRET} does not answer")
    waits = msgspec.structs.replace(seen, standing=msgspec.structs.replace(seen.standing, held=held))
    assert SECRET not in msgspec.json.encode(veiled_seen(waits, payloads=False)).decode()
    assert veiled_seen(waits, payloads=True) is waits


# --- the live tail


def test_a_tail_that_is_taken_up_again_repeats_nothing(place: Place) -> None:
    def first_message(**headers: str) -> list[str]:
        lines: list[str] = []
        with place.client("eve") as client, client.stream("GET", "/live/events?after=0", headers=headers) as answer:
            for line in answer.iter_lines():
                lines.append(line)
                if not line:
                    return lines
        raise AssertionError("nothing has come")

    message = first_message()
    (place_of,) = (line.removeprefix("id: ") for line in message if line.startswith("id: "))
    assert int(place_of) == place.shop.app.operations.horizon()
    with place.shop.app.transaction() as connection:
        place.shop.app.record(ShelfFilled(copies=1, by="afterwards"), via=connection, stream="Shelf-new")
    again = first_message(**{"Last-Event-ID": place_of})
    assert sum("<tr" in line for line in again) == 1
    assert any("Shelf-new" in line for line in again)
