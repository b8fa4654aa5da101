"""One order of the shop is one trace: from the request through four services and a broker."""

from __future__ import annotations

import contextlib
import http.client
import json
import random
import secrets
from pathlib import Path
from uuid import uuid4

import pytest

from examples.shop.running import SERVICES, Shop, shop
from tests.broker_servers import OwnNats
from tests.otlp_collector import Collected, collector
from tests.patience import until_sync


@pytest.mark.slow
def test_an_order_is_one_connected_tree_over_four_services_and_a_broker(tmp_path: Path) -> None:
    trace, request = secrets.token_hex(16), secrets.token_hex(8)
    with contextlib.closing(OwnNats()) as server, collector() as collected:
        server.start_now()
        environment = {
            "SHOP_BROKER": f"nats://127.0.0.1:{server.port}/shop",
            "SHOP_DATABASE": f"sqlite:///{tmp_path}/{{service}}.db",
            "OTEL_EXPORTER_OTLP_ENDPOINT": collected.url,
            "OTEL_BSP_SCHEDULE_DELAY": "100",
            "PYTHONWARNINGS": "error",
        }
        with shop(tmp_path, environment, random.Random(1), 0) as opened:
            opened.open(*SERVICES)
            opened.carry_out(("examples.shop.stock.deliver", "lamp=5"))
            opened.open_web()
            place(opened, f"00-{trace}-{request}-01")
            last = {("orders", "process OrderShipped.v1"), ("orders", "record OrderPlaced.v1")}
            until_sync(lambda: last <= names(collected.trace(trace)))
        spans = collected.trace(trace)  # the others send what they have when they stop

    parents = {span.id: span.parent for span in spans}
    assert len(parents) == len(spans)
    assert {span.service for span in spans} == set(SERVICES)
    for span in spans:  # each leads up to the request, so it is one tree
        at = span.id
        for _ in range(len(spans)):
            at = parents[at]
            if at == request:
                break
        assert at == request, f"{span} hangs on nothing"
    assert [span.name for span in spans if span.parent == request] == ["record OrderPlaced.v1"]

    said = names(spans)
    for published, by, to in (
        ("OrderPlaced.v1", "orders", {"payments", "stock"}),
        ("StockReserved.v1", "stock", {"shipping"}),
        ("PaymentAuthorised.v1", "payments", {"shipping"}),
        ("OrderShipped.v1", "shipping", {"orders"}),
    ):
        assert (by, f"record {published}") in said
        assert (by, f"publish {published}") in said
        assert {service for service, name in said if name == f"process {published}"} >= to
        assert {service for service, name in said if name == f"receive {published}"} >= to
    publishing = next(span for span in spans if span.name == "publish OrderPlaced.v1")
    assert publishing.attributes["messaging.system"] == "nats"
    assert publishing.attributes["messaging.operation.type"] == "send"


def names(spans: list[Collected]) -> set[tuple[str, str]]:
    return {(span.service, span.name) for span in spans}


def place(opened: Shop, traceparent: str) -> None:
    """Place one order, as a client does that traces."""
    id = uuid4()

    def put() -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", opened.port, timeout=10)
        try:
            body = json.dumps({"customer": "ada", "item": "lamp", "quantity": 1})
            connection.request("PUT", f"/orders/{id}", body, {"traceparent": traceparent})
            return connection.getresponse().status == 201
        except OSError:
            return False
        finally:
            connection.close()

    until_sync(put)
