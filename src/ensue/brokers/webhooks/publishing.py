"""Posting events to a URL: what the answers mean, and when to ask again."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus

import httpx

from ensue.brokers.broker import Outgoing, Refused
from ensue.brokers.webhooks.settings import Settings
from ensue.errors import BrokerRefused, BrokerUnavailable

_LATER = (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS)
_ASKING = (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE)
_GONE_ELSEWHERE = (HTTPStatus.MOVED_PERMANENTLY, HTTPStatus.PERMANENT_REDIRECT)
_TOLD = 200  # characters of an answer that are quoted
_LONGEST_WAIT = 3600.0  # seconds; a receiver that asks for more is asked again all the same


class WebhookPublisher:
    """Posts messages, some at a time. Whether the receiver has one for good is what its 2xx says."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._client: httpx.AsyncClient | None = None
        self._not_before = 0.0  # the loop's time at which the receiver wants to be asked again

    async def open(self, topics: Sequence[str] = ()) -> None:
        """Make the client; nothing is sent, so whether anybody is there shows with the first message."""
        self._ready()

    async def publish(self, messages: Sequence[Outgoing]) -> list[Refused | None]:
        client = self._ready()
        results: list[Refused | httpx.TransportError | None] = [self._late() for _ in messages]
        places = asyncio.Semaphore(self._settings.most)

        async def send(number: int) -> None:
            async with places:
                results[number] = await self._post(client, messages[number])

        tasks = [asyncio.ensure_future(send(number)) for number in range(len(messages))]
        try:
            if tasks:
                await asyncio.wait(tasks, timeout=self._settings.address.timeout)
        finally:
            for task in tasks:
                task.cancel()
            errors = await asyncio.gather(*tasks, return_exceptions=True)
        for error in errors:
            if isinstance(error, Exception):
                raise error
        return self._judge(results)

    async def close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()

    def _ready(self) -> httpx.AsyncClient:
        if self._client is None:
            address = self._settings.address
            who = None if address.user is None else httpx.BasicAuth(address.user, address.password or "")
            self._client = httpx.AsyncClient(
                auth=who,
                verify=address.tls() if address.scheme == "https" else True,
                timeout=httpx.Timeout(address.timeout, pool=None),
                limits=httpx.Limits(max_connections=self._settings.most, max_keepalive_connections=self._settings.most),
                follow_redirects=False,
                headers={"user-agent": "ensue"},
            )
        return self._client

    async def _post(self, client: httpx.AsyncClient, message: Outgoing) -> Refused | httpx.TransportError | None:
        now = asyncio.get_running_loop().time()
        if now < self._not_before:
            wait = self._not_before - now
            return Refused(f"the receiver has asked to wait {wait:.0f} s more", after=wait, sent=False)
        try:
            signed = self._settings.signing.sign(message.id, datetime.now(UTC), message.body)
            headers = {"content-type": message.content_type, **message.headers, **signed}
            async with client.stream(
                "POST", self._settings.url(message.topic), content=message.body, headers=headers
            ) as answer:
                if answer.is_success:
                    return None
                return await self._refusal(answer)
        except (httpx.LocalProtocolError, httpx.InvalidURL, UnicodeEncodeError) as error:
            return Refused(f"it cannot be written as HTTP: {error}", permanent=True)
        except httpx.TransportError as error:
            return error

    async def _refusal(self, answer: httpx.Response) -> Refused:
        status = answer.status_code
        told = f"the receiver answers {status} {answer.reason_phrase}".rstrip()
        if answer.has_redirect_location:
            elsewhere = answer.headers["location"]
            told += f": a redirect to {elsewhere[:_TOLD]}, which is not followed; if it is right, write it as the URL"
            return Refused(told, permanent=status in _GONE_ELSEWHERE)
        if status in _ASKING and (wait := _retry_after(answer)) is not None:
            self._not_before = max(self._not_before, asyncio.get_running_loop().time() + wait)
            return Refused(f"{told}, and asks to wait {wait:.0f} s", after=wait)
        if words := await _beginning(answer):
            told += f": {words}"
        return Refused(told, permanent=400 <= status < 500 and status not in _LATER)

    def _judge(self, results: Sequence[Refused | httpx.TransportError | None]) -> list[Refused | None]:
        """Raise if nobody is there; otherwise a connection that fails is a matter of one message."""
        failed = [result for result in results if isinstance(result, httpx.TransportError)]
        address = self._settings.address
        for error in failed:
            if _is_certificate(error):
                raise BrokerRefused(f"{address}: {error}") from error
        if failed and len(failed) == len(results) and all(isinstance(error, httpx.ConnectError) for error in failed):
            raise BrokerUnavailable(f"{address}: {failed[0]}") from failed[0]
        return [
            Refused(f"no answer: {str(result) or type(result).__name__}")
            if isinstance(result, httpx.TransportError)
            else result
            for result in results
        ]

    def _late(self) -> Refused:
        return Refused(f"no answer within {self._settings.address.timeout:g} s; the receiver may have it all the same")


def _retry_after(answer: httpx.Response) -> float | None:
    """Return the seconds of Retry-After, a number or a date, at most an hour; None for what is neither."""
    text = answer.headers.get("retry-after", "").strip()
    if text.isascii() and text.isdecimal():
        return min(_LONGEST_WAIT, float(text[:9]))
    with contextlib.suppress(ValueError, TypeError, OverflowError):
        moment = parsedate_to_datetime(text)
        if moment.tzinfo is None:  # the zone -0000, which says that it is in UTC
            moment = moment.replace(tzinfo=UTC)
        return min(_LONGEST_WAIT, max(0.0, (moment - datetime.now(UTC)).total_seconds()))
    return None


async def _beginning(answer: httpx.Response) -> str:
    with contextlib.suppress(httpx.HTTPError):
        async for chunk in answer.aiter_bytes(4 * _TOLD):
            return " ".join(chunk.decode(errors="replace").split())[:_TOLD]
    return ""


def _is_certificate(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError) or "CERTIFICATE_VERIFY_FAILED" in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False
