"""FastAPI: the worker in its lifespan, a transaction for each request, and requests that record once.

`pip install 'ensue[fastapi]'`.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from typing import Any, overload

from fastapi import Depends, HTTPException, Request

from ensue.app import App
from ensue.events import Event, Receipt, Recorded, context, fault_in
from ensue.integrations.starlette import RequestContext, lifespan
from ensue.log import ANY, AsyncConnection, Expected, Selection, Steps, SyncConnection, is_async

__all__ = ["Once", "RequestContext", "lifespan", "once", "transaction"]

_FINGERPRINT = "idempotency-fingerprint"
"""The header of an event's metadata that knows the request's body."""
_LONGEST_KEY = 255


def transaction(opens: Callable[[], AbstractAsyncContextManager[Any] | AbstractContextManager[Any]]) -> Any:
    """Return a dependency that lends what `opens` lends, in a transaction that ends before the answer is sent.

    `Session = Annotated[AsyncSession, transaction(sessions.begin)]`, or `transaction(app.transaction)` for a connection
    of ensue's own. It commits when the function returns, and rolls back when it raises, an `HTTPException` too; an
    answer says what has been committed. A sync one is opened and ended in a thread, as sync functions are called.
    """

    async def lent() -> AsyncGenerator[Any]:
        made = opens()
        assert isinstance(made, AbstractAsyncContextManager)  # noqa: S101 looked at below
        async with made as connection:
            yield connection

    def lent_sync() -> Generator[Any]:
        made = opens()
        assert isinstance(made, AbstractContextManager)  # noqa: S101 looked at below
        with made as connection:
            yield connection

    return Depends(lent if isinstance(opens(), AbstractAsyncContextManager) else lent_sync, scope="function")


def once(app: App, *, who: Callable[[Request], str] = lambda _: "", header: str = "Idempotency-Key") -> Any:
    """Return a dependency that lends a `Once`: it records once for each key that clients send in a header.

    `Key = Annotated[Once, once(app)]`. A key counts for one method and path, and for one client if `who` says which.
    A request without the header, or with one of more than 255 characters, is answered with 400.
    """

    async def lent(request: Request) -> Once:
        key = request.headers.get(header, "")
        if not key or len(key) > _LONGEST_KEY or fault_in(key):
            raise HTTPException(400, f"send a header {header} with 1 to {_LONGEST_KEY} characters, a new one for each")
        body = hashlib.sha256(await request.body()).hexdigest()
        identity = "\n".join((request.method, request.url.path, who(request), key))
        return Once(app, f"http:{hashlib.sha256(identity.encode()).hexdigest()}", body)

    return Depends(lent)


class Once:
    """Records once under the key of a request."""

    def __init__(self, app: App, dedupe: str, body: str) -> None:
        self.dedupe = dedupe
        """The key in the log."""
        self._app = app
        self._recording: Callable[..., Any] = app.record
        self._body = body

    @overload
    def record(
        self, event: Event, *more: Event, via: SyncConnection, stream: str | None = None, expected: Expected = ANY
    ) -> Receipt: ...

    @overload
    def record(
        self, event: Event, *more: Event, via: AsyncConnection, stream: str | None = None, expected: Expected = ANY
    ) -> Coroutine[Any, Any, Receipt]: ...

    def record(
        self,
        event: Event,
        *more: Event,
        via: SyncConnection | AsyncConnection,
        stream: str | None = None,
        expected: Expected = ANY,
    ) -> Receipt | Coroutine[Any, Any, Receipt]:
        """Record events as `App.record` does, once and for ever under the request's key.

        Call it before you change anything else: if the receipt is a `duplicate`, the request has been carried out, and
        what is left is to answer. A request that comes while the first one is carried out waits for its end. Raises
        `HTTPException` 422 if the first request under the key had another body.
        """
        if is_async(via):
            return self._record_async((event, *more), via, stream, expected)
        with context(headers={_FINGERPRINT: self._body}):
            receipt: Receipt = self._recording(
                event, *more, via=via, stream=stream, expected=expected, dedupe=self.dedupe
            )
        if receipt.duplicate:
            self._check(self._app.log.run(self._first(receipt), via))
        return receipt

    async def _record_async(
        self, events: tuple[Event, ...], via: Any, stream: str | None, expected: Expected
    ) -> Receipt:
        with context(headers={_FINGERPRINT: self._body}):
            receipt: Receipt = await self._recording(
                *events, via=via, stream=stream, expected=expected, dedupe=self.dedupe
            )
        if receipt.duplicate:
            self._check(await self._app.log.run(self._first(receipt), via))
        return receipt

    def _first(self, receipt: Receipt) -> Steps[list[Recorded[Any]]]:
        """Read the event of the first request, beyond the horizon too: that it is committed is known."""
        return self._app.log.read(Selection(id=receipt.id_texts[0]), 1)

    def _check(self, found: list[Recorded[Any]]) -> None:
        if found and found[0].metadata.headers.get(_FINGERPRINT) != self._body:  # none: it has been pruned
            raise HTTPException(422, "this key was used for another request: send a new one")
