"""What a broker does not take, and from whom."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from urllib.parse import quote, urlsplit

from ensue.brokers import Refused
from tests.broker_suite.case import (
    SECRET,
    Ability,
    Case,
    R,
    Wanted,
    fetched,
    needs,
    published,
    refused,
    soon,
    with_password,
    without_password,
)

# --- who may


@needs(Ability.PASSWORD)
async def the_right_password_opens(case: Case) -> None:
    async with case.site.own(Wanted(password=True)) as server:
        assert quote(SECRET, safe="") in server.url
        async with case.publisher(server.url) as publisher:
            assert await publisher.publish([case.message(1)]) == [None]
        if R in case.site.abilities:
            async with case.consumer(server.url):
                pass


@needs(Ability.PASSWORD)
async def wrong_credentials_are_refused_and_never_shown(case: Case) -> None:
    async with case.site.own(Wanted(password=True)) as server:
        user = urlsplit(server.url).username or "user"
        await refused(lambda: case.broker(without_password(server.url)).publisher().open([case.topic]))
        for url in (
            with_password(server.url, user, "Wrong-1-word"),
            with_password(server.url, "nobody", "Wrong-1-word"),
        ):
            opened: list[Callable[[], Awaitable[None]]] = []
            publisher, topics = case.broker(url).publisher(), [case.topic]
            opened.append(lambda publisher=publisher: publisher.open(topics))  # type: ignore[misc]
            if R in case.site.abilities:
                opened.append(case.broker(url).consumer(topics, case.group).open)
            for opening in opened:
                refusal = await refused(opening)
                assert "Wrong-1-word" not in f"{refusal!r} {refusal.__cause__!r} {refusal.__context__!r}"
            assert "Wrong-1-word" not in f"{case.broker(url)!r} {publisher!r}"
            await soon(publisher.close())


@needs(Ability.TLS)
async def tls_protects_the_connection(case: Case) -> None:
    async with case.site.own(Wanted(tls=True)) as server:
        async with case.publisher(server.url) as publisher:
            assert await publisher.publish([case.message(1)]) == [None]
        if R in case.site.abilities:
            async with case.consumer(server.url):
                pass
        untrusted = urlsplit(server.url)._replace(query="timeout=5").geturl()
        await refused(lambda: case.broker(untrusted).publisher().open([case.topic]))


@needs(R | Ability.LARGEST)
async def one_that_is_too_large_is_refused_for_good(case: Case) -> None:
    async with (
        case.site.own(Wanted(largest=1_000_000)) as server,
        case.publisher(server.url) as publisher,
        case.consumer(server.url) as consumer,
    ):
        outcomes = await publisher.publish(
            [case.message(0), case.message(1, body=b"x" * 2_000_000), case.message(2, body=b"x" * 100_000)]
        )
        assert [outcome is None for outcome in outcomes] == [True, False, True]
        assert outcomes[1] is not None
        assert outcomes[1].permanent
        assert sorted(case.numbers(await fetched(consumer, 2))) == [0, 2]
        assert await publisher.publish([case.message(3)]) == [None]


# --- full, and slow


@needs(R | Ability.FILLS)
async def a_full_broker_refuses_for_now(case: Case) -> None:
    async with (
        case.site.own(Wanted(room=4_000_000)) as server,
        case.publisher(server.url) as publisher,
    ):
        refusal: Refused | None = None
        number = 0
        while refusal is None:
            assert number < 400, "it is never full"
            (refusal,) = await publisher.publish([case.message(number, body=b"x" * 100_000)])
            number += 1
        assert not refusal.permanent
        assert len(refusal.reason) > 10
        await server.make_room()
        await published(publisher, [case.message(number, body=b"x" * 100_000)])
