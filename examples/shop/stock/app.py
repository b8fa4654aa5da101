"""The application of stock: orders are recorded as they come, items answer, and the answers are translated."""

from __future__ import annotations

import os
from pathlib import Path

from ensue import App, Snapshots

from .events import StockRefused, StockReserved
from .item import GoodsRefused, GoodsReserved, Item
from .others import OrderCancelled, OrderPlaced

BROKER = os.environ.get("SHOP_BROKER", "nats://localhost:4222/shop")
DATABASE = os.environ.get("SHOP_DATABASE", "sqlite:///{service}.db").format(service="stock")
RETRY = 20
"""How often a command is repeated when somebody else has changed the item meanwhile."""

app = App("stock", DATABASE, contracts=Path(__file__).parent / "contracts")
if "OTEL_EXPORTER_OTLP_ENDPOINT" in os.environ:
    from ensue.integrations.opentelemetry import export_traces

    export_traces(app)
items = app.repository(Item, snapshots=Snapshots(every=100))

app.inbox(BROKER, OrderPlaced, OrderCancelled, name="orders")
app.relay(BROKER, StockReserved, StockRefused)


@app.on(OrderPlaced, OrderCancelled)
def decide(event: OrderPlaced | OrderCancelled) -> None:
    """Change the one item that the order is about. It may be called twice: the item knows its orders."""
    match event:
        case OrderPlaced():
            items.edit(event.item, lambda item: item.reserve(event.order_id, event.quantity), create=True, retry=RETRY)
        case OrderCancelled():
            items.edit(event.item, lambda item: item.release(event.order_id), create=True, retry=RETRY)


@app.translate(GoodsReserved, GoodsRefused)
def answer(event: GoodsReserved | GoodsRefused) -> StockReserved | StockRefused:
    """Say it in the words of the contract. What else happens to an item is nobody's business."""
    if isinstance(event, GoodsReserved):
        return StockReserved(order_id=event.order_id, item=event.item, quantity=event.quantity)
    return StockRefused(order_id=event.order_id, reason=event.reason)
