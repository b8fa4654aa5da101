"""Read-your-writes over HTTP: who has written something sees it in what is read next, whichever process answers.

An ASGI middleware, for FastAPI, Starlette and all others; it needs none of them.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from contextvars import ContextVar
from datetime import timedelta
from typing import Any

from ensue.app import App
from ensue.errors import DeclarationError, NotReached
from ensue.events import Receipt
from ensue.subscriptions import seconds

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Asgi = Callable[[Scope, Receive, Send], Awaitable[None]]

RECEIPT = "ensue-receipt"
"""The header of an answer that says what was written, and of a request that wants to see it."""
STALE = "ensue-stale"
"""The header of an answer that names the projections which do not show it yet."""
_MOST_IDS = 20
_TOKEN = re.compile(r"([0-9]{1,18})((?:\.[0-9a-f]{32})*)")
_READS = ("GET", "HEAD")

_written: ContextVar[list[Receipt] | None] = ContextVar("ensue_written", default=None)


def shows(receipt: Receipt) -> None:
    """Let the answer to the request in hand say that this was recorded; to be called in the request's function.

    Of several calls all count. Outside of a request that came through `ReadYourWrites` nothing happens.
    """
    written = _written.get()
    if written is not None:
        written.append(receipt)


class ReadYourWrites:
    """A middleware: an answer says what was recorded, and a request that says it too waits until it can be seen.

    `api.add_middleware(ReadYourWrites, to=app, projections=("balances",))`. The function of a request that records
    calls `shows(receipt)`; the answer then has a header `Ensue-Receipt`, unless it says that the request failed. A GET
    or HEAD request with that header waits until all the projections have come so far, at most `timeout` in all. If they
    have not, or have set the event aside, it is answered all the same, from what is there, and a header `Ensue-Stale`
    names them; with `refuse` it is answered with 503 and `Retry-After`. A receipt that is none is answered with 400.

    Raises `DeclarationError` if there is nothing to wait for, or a projection is not declared.
    """

    def __init__(
        self,
        app: Asgi,
        *,
        to: App,
        projections: Iterable[str],
        timeout: float | timedelta | str = 2.0,
        refuse: bool = False,
    ) -> None:
        self._app = app
        self._to = to
        self._projections = tuple(projections)
        self._timeout = seconds(timeout)
        self._refuse = refuse
        if not self._projections:
            raise DeclarationError("ReadYourWrites(projections=()): there is nothing to wait for")
        if unknown := set(self._projections).difference(to.declarations.projections):
            raise DeclarationError(f"ReadYourWrites: projection {', '.join(sorted(unknown))} is not declared")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        stale: list[str] = []
        said = next((value for name, value in scope["headers"] if name.lower() == RECEIPT.encode()), None)
        if said is not None and scope["method"] in _READS:
            receipt = receipt_of(said.decode("latin-1"))
            if receipt is None:
                await _answer(send, 400, f"the header {RECEIPT} is not one that an answer had")
                return
            stale = await self._wait(receipt)
            if stale and self._refuse:
                words = f"{', '.join(stale)}: what was written cannot be seen yet"
                await _answer(send, 503, words, (b"retry-after", b"1"))
                return
        written: list[Receipt] = []
        token = _written.set(written)

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                more = [(STALE.encode(), ", ".join(stale).encode())] if stale else []
                if written and message["status"] < 400:
                    more.append((RECEIPT.encode(), token_of(written).encode()))
                message["headers"] = [*message.get("headers", ()), *more]
            await send(message)

        try:
            await self._app(scope, receive, answer)
        finally:
            _written.reset(token)

    async def _wait(self, receipt: Receipt) -> list[str]:
        """Wait for all of them at once; return those that do not show it."""

        async def wait(projection: str) -> bool:
            try:
                await self._to.wait_async(receipt, projection, timeout=self._timeout)
            except NotReached:
                return False
            return True

        shown = await asyncio.gather(*map(wait, self._projections))
        return [projection for projection, there in zip(self._projections, shown, strict=True) if not there]


def token_of(receipts: Iterable[Receipt]) -> str:
    """Return receipts as a header has them: the last position, and the ids of at most twenty events."""
    found = sorted(((at, id) for each in receipts for at, id in zip(each.positions, each.id_texts, strict=True)))
    return ".".join([str(found[-1][0]), *(id.replace("-", "") for _, id in found[-_MOST_IDS:])])


def receipt_of(token: str) -> Receipt | None:
    """Return what a header says; None if it is none."""
    found = _TOKEN.fullmatch(token)
    if found is None:
        return None
    ids = [each for each in found[2].split(".") if each][:_MOST_IDS]
    texts = tuple(f"{id[:8]}-{id[8:12]}-{id[12:16]}-{id[16:20]}-{id[20:]}" for id in ids)
    return Receipt(texts, (int(found[1]),), None, None, "", False)


async def _answer(send: Send, status: int, words: str, *headers: tuple[bytes, bytes]) -> None:
    start = {"type": "http.response.start", "status": status}
    await send({**start, "headers": [(b"content-type", b"text/plain; charset=utf-8"), *headers]})
    await send({"type": "http.response.body", "body": words.encode()})
