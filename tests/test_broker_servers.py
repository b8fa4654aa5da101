"""The servers that brokers' tests rely on do what they say."""

from __future__ import annotations

import pytest

from tests.broker_servers import OwnNats, OwnRedis, shared_nats, shared_redis
from tests.broker_suite import Wanted


@pytest.mark.parametrize("own", [OwnNats, OwnRedis])
@pytest.mark.parametrize("wanted", [Wanted(), Wanted(password=True), Wanted(tls=True), Wanted(largest=2**20)], ids=str)
async def test_a_server_of_ones_own_stops_and_starts(own: type[OwnNats | OwnRedis], wanted: Wanted) -> None:
    async with own(wanted) as server:
        port = server.port
        for end in (server.stop, server.kill):
            await end()
            assert not server.answers()
            await server.start()
            assert server.answers()
        assert server.port == port
    assert not server.folder.exists()


def test_there_is_one_to_share() -> None:
    with shared_nats() as nats, shared_redis() as redis:
        assert nats.rpartition(":")[2].isdigit()
        assert redis.rpartition(":")[2].isdigit()
