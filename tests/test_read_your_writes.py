"""Read-your-writes as an HTTP header: a request waits for what an earlier one has written."""

from __future__ import annotations

import threading
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from ensue import App, errors
from ensue.integrations.read_your_writes import ReadYourWrites, receipt_of, shows, token_of
from ensue.subscriptions.operating import Filter
from tests.patience import until
from tests.test_projections import ADD, SET_UP, SOON, TABLE, Paid, app, mark, record, rows, url

__all__ = ["app", "url"]


class Bank:
    """A service of two requests: one that records, and one that reads what the projection shows."""

    def __init__(self, app: App) -> None:
        self.app = app
        self.failing = False
        self.held = threading.Event()
        self.held.set()

        @app.projection(Paid, tables=TABLE, set_up=SET_UP, retry=SOON)
        def balances(event: Paid, db: Any) -> None:
            assert self.held.wait(20)
            if event.amount < 0:
                raise ValueError("less than nothing")
            db.execute(ADD.format(mark(app)), (event.owner, event.amount))

        app.migrate()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            return
        if scope["method"] == "POST":
            owner, amount = scope["query_string"].decode().split("=")
            shows(record(self.app, Paid(owner=owner, amount=1)))
            shows(record(self.app, Paid(owner=owner, amount=int(amount) - 1)))
            body = b""
        else:
            body = repr(rows(self.app, "select owner, amount from balances order by 1")).encode()
        await send({"type": "http.response.start", "status": 500 if self.failing else 200, "headers": []})
        await send({"type": "http.response.body", "body": body})


@asynccontextmanager
async def client(bank: Bank, **options: Any) -> AsyncGenerator[httpx.AsyncClient]:
    served = ReadYourWrites(bank, to=bank.app, projections=("balances",), **options)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(served), base_url="http://bank") as made:
        yield made


async def test_a_request_sees_what_was_written_before(app: App) -> None:
    bank = Bank(app)
    async with client(bank, timeout="20s") as http, app.running(lease=1.0):
        for amount in range(2, 10):
            receipt = (await http.post("/", params={f"o{amount}": amount})).headers["Ensue-Receipt"]
            answer = await http.get("/", headers={"Ensue-Receipt": receipt})
            assert f"('o{amount}', {amount})" in answer.text
            assert "ensue-stale" not in answer.headers
            assert "ensue-receipt" not in answer.headers


async def test_one_that_waits_too_long_is_told_that_what_it_sees_is_old(app: App) -> None:
    bank = Bank(app)
    async with client(bank, timeout=0.05) as http:
        written = await http.post("/", params={"ada": 5})
        answer = await http.get("/", headers=written.headers)
        assert (answer.status_code, answer.headers["Ensue-Stale"], answer.text) == (200, "balances", "[]")
        assert "ensue-stale" not in (await http.get("/")).headers
        assert "ensue-stale" not in (await http.post("/", params={"ada": 5}, headers=written.headers)).headers
    async with client(bank, timeout=0.05, refuse=True) as http:
        answer = await http.get("/", headers=written.headers)
        assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
        assert "balances" in answer.text


async def test_an_event_that_was_set_aside_is_waited_for_no_longer(app: App) -> None:
    bank = Bank(app)
    async with client(bank, timeout=20) as http, app.running(lease=1.0):
        written = await http.post("/", params={"ada": -5})
        await until(lambda: app.operations.dead_letters(Filter(waiting_only=False)))
        answer = await http.get("/", headers=written.headers)
        assert answer.headers["Ensue-Stale"] == "balances"


async def test_a_request_that_failed_says_nothing(app: App) -> None:
    bank = Bank(app)
    bank.failing = True
    async with client(bank) as http:
        assert "ensue-receipt" not in (await http.post("/", params={"ada": 5})).headers


@pytest.mark.parametrize("wrong", ["", "x", "-1", "1.x", "1" * 30, "1.", "1 2"])
async def test_what_is_no_receipt_is_refused(app: App, wrong: str) -> None:
    async with client(Bank(app)) as http:
        answer = await http.get("/", headers={"Ensue-Receipt": wrong})
        assert answer.status_code == 400


def test_a_token_is_short_however_much_was_recorded(app: App) -> None:
    app.migrate()
    receipt = record(app, *(Paid(owner="a", amount=1) for _ in range(100)))
    found = receipt_of(token_of([receipt, record(app, Paid(owner="b", amount=1))]))
    assert found is not None
    assert found.position == receipt.position + 1
    assert found.id_texts[:-1] == receipt.id_texts[-19:]
    assert len(token_of([receipt])) < 700


def test_what_cannot_be_waited_for_is_told(app: App) -> None:
    bank = Bank(app)
    with pytest.raises(errors.DeclarationError, match="projection nothing is not declared"):
        ReadYourWrites(bank, to=app, projections=("nothing", "balances"))
    with pytest.raises(errors.DeclarationError, match="nothing to wait for"):
        ReadYourWrites(bank, to=app, projections=())
    shows(record(app, Paid(owner="a", amount=1)))  # outside of a request: nobody is told
