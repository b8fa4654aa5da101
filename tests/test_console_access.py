"""Who may come in, see and do what; and requests that are refused."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from django.core.asgi import get_asgi_application
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.requests import HTTPConnection
from starlette.routing import Mount

import tests.django_settings  # noqa: F401 Django is configured
from ensue import App
from ensue.console import Console, Token, Tokens, Visitor
from ensue.console.serving import check
from ensue.errors import ConsoleRefused
from tests.bookshop import Bookshop
from tests.console_running import eventually, serving, working

SECRETS = {name: f"the-secret-of-{name}-0123456789" for name in ("ann", "bob", "eve", "una")}
TOKENS = Tokens(
    (
        Token(SECRETS["ann"], Visitor(name="ann", role="administer")),
        Token(SECRETS["bob"], Visitor(name="bob", role="operate")),
        Token(SECRETS["eve"], Visitor(name="eve", role="see")),
        Token(SECRETS["una"], Visitor(name="una", role="administer", payloads=False)),
    )
)


@dataclass
class Place:
    """A shop with one dead letter, and its console, to which tokens are asked for."""

    shop: Bookshop
    address: str

    def client(self, name: str | None = None, **options: object) -> httpx.Client:
        """Return a client with somebody's token."""
        headers = {"Authorization": f"Bearer {SECRETS[name]}"} if name else {}
        return httpx.Client(base_url=self.address, headers=headers, timeout=20, **options)  # type: ignore[arg-type]

    @contextmanager
    def browser(self, name: str) -> Iterator[httpx.Client]:
        """Yield a client that has signed in, as a browser does."""
        with self.client(follow_redirects=True) as client:
            page = client.get("/sign-in")
            csrf = page.text.partition('name="csrf" value="')[2][:32]
            answer = client.post("/sign-in", data={"csrf": csrf, "token": SECRETS[name], "next": "/audit"})
            assert answer.status_code == 200
            assert answer.url.path == "/audit"
            yield client


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    postgres = request.param == "postgres"
    url = request.getfixturevalue("postgres_url") if postgres else f"sqlite:///{tmp_path_factory.mktemp('c')}/shop.db"
    shop = Bookshop(url, schema="console_access" if postgres else "ensue")
    shop.app.migrate()
    shop.fill()
    with working(shop), serving(Console(shop.app, access=TOKENS)) as address:
        shop.order(1, email="nowhere")
        eventually(shop.app.operations.dead_letters)
        yield Place(shop, address)


def pausing(client: httpx.Client, **headers: str) -> httpx.Response:
    """Ask for something that changes something, as JSON."""
    return client.post("/api/actions/pause", json={"subscription": "print_poster"}, headers=headers)


def resume(place: Place) -> None:
    place.shop.app.operations.resume("print_poster", actor="test", reason="")


# --- nobody, somebody


def test_who_is_not_known_gets_nothing(place: Place) -> None:
    with place.client() as client:
        for path in ("/", "/events", "/dead", "/map", "/asyncapi.json"):
            answer = client.get(path)
            assert (answer.status_code, answer.headers["location"]) == (
                303,
                f"/sign-in?next={path.replace('/', '%2F')}",
            )
        for path in ("/api/overview", "/api/events", "/api/openapi.json", "/api/whatever", "/live/overview"):
            assert client.get(path).status_code == 401
        assert pausing(client).status_code == 401
        assert client.post("/do/pause", data={"subscription": "print_poster"}).status_code == 303
        wrong = client.get("/api/overview", headers={"Authorization": "Bearer the-secret-of-nobody"})
        assert wrong.status_code == 401
        assert client.get("/api/overview", headers={"Cookie": "ensue_session=9999999999.0000"}).status_code == 401
    assert not any(each.paused for each in place.shop.app.operations.standings())


@pytest.mark.parametrize("name, status", [("eve", 403), ("bob", 200), ("ann", 200)])
def test_a_lesser_role_may_look_and_not_touch(place: Place, name: str, status: int) -> None:
    with place.client(name) as client:
        assert client.get("/api/overview").status_code == 200
        assert pausing(client).status_code == status
        assert ("Pause" in client.get("/subscriptions").text) == (status == 200)
    resume(place)


@pytest.mark.parametrize("name", ["eve", "bob"])
def test_what_cannot_be_taken_back_is_for_administrators(place: Place, name: str) -> None:
    (letter,) = place.shop.app.operations.dead_letters()
    asked = {"letters": [f"{letter.id}@{letter.subscription}"], "reason": "because"}
    with place.client(name) as client:
        answer = client.post("/api/actions/discard", json=asked)
        assert answer.status_code == 403
        assert f"{name} has the role" in answer.json()["error"]
        assert client.get("/dead/decide?decision=discard").status_code == 403
    assert place.shop.app.operations.dead_letters() == [letter]


def test_payloads_are_hidden_from_who_may_not_see_them(place: Place) -> None:
    (letter,) = place.shop.app.operations.dead_letters()
    paths = (
        "/", "/events", f"/events/{letter.position}", "/subscriptions", "/subscriptions/send_confirmation", "/dead",
        "/dead/list", f"/dead/{letter.position}", "/aggregates/Shelf-emma", "/processes/order/o-00001", "/audit",
        "/aggregates/Shelf-emma/diff?first=0&last=1", "/api/overview", "/api/subscriptions", "/api/events",
        f"/api/events/{letter.position}", f"/api/events/{letter.position}/trace", "/api/dead-letters",
        "/api/aggregates/Shelf-emma", "/api/aggregates/Shelf-emma/diff?first=0&last=1", "/api/processes/order/o-00001",
        "/api/audit", f"/api/dead-letters/{letter.position}/queue?subscription=send_confirmation",
    )  # fmt: skip
    with place.client("una") as blind, place.client("ann") as seeing:
        told = {path: blind.get(path) for path in paths}
        assert {each.status_code for each in told.values()} == {200}
        assert [path for path, each in told.items() if "nowhere" in each.text or "warehouse" in each.text] == []
        shown = [path for path in paths if "nowhere" in (text := seeing.get(path).text) or "warehouse" in text]
        assert len(shown) > 10, "there is something to hide"
        for path in ("/events?text=nowhere", "/api/events?text=nowhere", f"/dead/{letter.position}/edit"):
            assert blind.get(path).status_code == 403
        edit = {"subscription": letter.subscription, "id": letter.id, "data": "{}", "reason": "because"}
        assert blind.post("/api/actions/edit", json=edit).status_code == 403


# --- in a browser


def test_signing_in_and_out(place: Place) -> None:
    with place.browser("bob") as client:
        assert "bob" in client.get("/").text
        cookie = next(each for each in client.cookies.jar if each.name == "ensue_session")
        assert cookie.has_nonstandard_attr("HttpOnly")
        assert cookie.get_nonstandard_attr("SameSite") == "strict"
        assert SECRETS["bob"] not in str(cookie.value)
        client.post("/sign-out")
        assert client.get("/", follow_redirects=False).status_code == 303


def test_signing_in_never_leads_elsewhere(place: Place) -> None:
    with place.client() as client:
        csrf = client.get("/sign-in").text.partition('name="csrf" value="')[2][:32]
        for path in ("https://evil.example/", "//evil.example", "/\\evil.example"):
            form = {"csrf": csrf, "token": SECRETS["bob"], "next": path}
            assert client.post("/sign-in", data=form).headers["location"] == "/"
        assert client.post("/sign-in", data={"csrf": csrf, "token": "wrong", "next": "/"}).status_code == 401


def test_a_forged_form_is_refused(place: Place) -> None:
    with place.browser("bob") as client:
        csrf = client.cookies["ensue_csrf"]
        given = {"subscription": "print_poster", "back": "/"}

        def send(form: dict[str, str], **headers: str) -> int:
            return client.post("/do/pause", data=form, headers=headers, follow_redirects=False).status_code

        assert send(given) == 403
        assert send({**given, "csrf": "0" * 32}) == 403
        assert send({**given, "csrf": csrf}, Origin="https://evil.example") == 403
        assert send({**given, "csrf": csrf}, Origin="null") == 403
        assert send({**given, "csrf": csrf}, **{"Sec-Fetch-Site": "cross-site"}) == 403
        assert not any(each.paused for each in place.shop.app.operations.standings())
        assert send({**given, "csrf": csrf}, Origin=place.address) == 303
        assert any(each.paused for each in place.shop.app.operations.standings())
    resume(place)


def test_json_from_another_sites_page_is_refused(place: Place) -> None:
    with place.client("bob") as client:
        assert pausing(client, Origin="https://evil.example").status_code == 403
        assert pausing(client, **{"Sec-Fetch-Site": "same-site"}).status_code == 403
        text = client.post("/api/actions/pause", content='{"subscription": "print_poster"}')
        assert text.status_code == 415, "what a form can send without being asked is no JSON"
    assert not any(each.paused for each in place.shop.app.operations.standings())


def test_every_answer_says_what_a_browser_may_do_with_it(place: Place) -> None:
    with place.client("ann") as client:
        for path in ("/", "/nothing", "/api/overview", "/static/console.css", "/sign-in", "/static/../access.py"):
            headers = client.get(path).headers
            policy = headers["content-security-policy"]
            assert "default-src 'none'" in policy
            assert "frame-ancestors 'none'" in policy
            assert "unsafe" not in policy
            assert headers["x-content-type-options"] == "nosniff"
        assert " style=" not in client.get("/").text
        assert "no-store" in client.get("/events").headers["cache-control"]


def test_everything_an_operator_does_is_in_the_audit(place: Place) -> None:
    with place.client("bob") as client:
        answer = client.post("/api/actions/pause", json={"subscription": "print_poster", "reason": "paper is out"})
        assert answer.json() == {"told": "print_poster is paused: its events wait.", "job": None}
        (entry,) = client.get("/api/audit?limit=1").json()
        assert (entry["actor"], entry["action"], entry["reason"]) == ("bob", "pause", "paper is out")
    resume(place)


# --- how it is opened


def test_without_tokens_it_is_open_to_this_machine_only(tmp_path: Path) -> None:
    app = App("alone", f"sqlite:///{tmp_path}/alone.db", migrate=True)
    app.migrate()
    console = Console(app)
    with serving(console) as address, httpx.Client(base_url=address) as client:
        assert client.get("/").status_code == 200
        assert client.get("/", headers={"Host": "evil.example"}).status_code == 403, "a name that leads to 127.0.0.1"
        assert client.get("/", headers={"X-Forwarded-For": "198.51.100.7"}).status_code == 403
        assert client.get("/api/overview", headers={"Forwarded": "for=198.51.100.7"}).status_code == 401
    with pytest.raises(ConsoleRefused, match="--tokens"):
        check(console, "0.0.0.0")


def in_starlette(console: Console) -> Any:
    return Starlette(routes=[Mount("/ops/console", console)])


def in_fastapi(console: Console) -> Any:
    host = FastAPI()
    host.mount("/ops/console", console)
    return host


def in_django(console: Console) -> Any:
    django = get_asgi_application()

    async def application(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http" and scope["path"].startswith("/ops/console/"):
            await console({**scope, "root_path": scope.get("root_path", "") + "/ops/console"}, receive, send)
        else:
            await django(scope, receive, send)

    return application


@pytest.mark.parametrize("mount", [in_starlette, in_fastapi, in_django])
def test_the_hosts_own_authentication_comes_in_by_one_hook(mount: Callable[[Console], Any], tmp_path: Path) -> None:
    app = App("hosted", f"sqlite:///{tmp_path}/hosted.db", migrate=True)
    app.migrate()

    async def recognise(connection: HTTPConnection) -> Visitor | None:
        user = connection.headers.get("x-user")
        return None if user is None else Visitor(name=user, role="operate")

    with serving(mount(Console(app, access=recognise))) as address, httpx.Client(base_url=address) as client:
        assert client.get("/ops/console/").status_code == 403
        page = client.get("/ops/console/", headers={"X-User": "olga"})
        assert page.status_code == 200
        assert "olga" in page.text
        assert 'href="/ops/console/events"' in page.text
        assert 'href="/events"' not in page.text
        assert client.get("/ops/console/static/console.css").status_code == 200
        document = client.get("/ops/console/api/openapi.json", headers={"X-User": "olga"}).json()
        assert document["servers"] == [{"url": "/ops/console/api"}]
        event = client.get("/ops/console/find?q=7", headers={"X-User": "olga"})
        assert event.headers["location"] == "/ops/console/events/7"


def test_a_file_of_tokens(tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    file.write_text("# who may come in\nann administer 0123456789abcdef\n\nbob see fedcba9876543210 no-payloads\n")
    tokens = Tokens.read(file)
    assert tokens.holder("0123456789abcdef") == Visitor(name="ann", role="administer")
    assert tokens.holder("fedcba9876543210") == Visitor(name="bob", role="see", payloads=False)
    assert tokens.holder("") is None
    for line, what in (
        ("ann rule 0123456789abcdef", "line 1: write a name"),
        ("ann see short", "fewer than 16"),
        ("ann see 0123456789abcdef\nann see fedcba9876543210", "same name"),
    ):
        file.write_text(line)
        with pytest.raises(ConsoleRefused, match=what):
            Tokens.read(file)
    with pytest.raises(ConsoleRefused, match="cannot be read"):
        Tokens.read(tmp_path / "none")
