"""The application of orders: an order is placed, and follows what the others make of it."""

from __future__ import annotations

import os
from decimal import Decimal
from pathlib import Path
from uuid import UUID

from sqlalchemy import create_engine
from sqlalchemy.orm import Session, sessionmaker

from ensue import App

from .events import OrderCancelled, OrderPlaced
from .models import Order
from .others import OrderShipped, PaymentRefused, StockRefused

BROKER = os.environ.get("SHOP_BROKER", "nats://localhost:4222/shop")
DATABASE = os.environ.get("SHOP_DATABASE", "sqlite:///{service}.db").format(service="orders")

app = App("orders", DATABASE, contracts=Path(__file__).parent / "contracts")
if "OTEL_EXPORTER_OTLP_ENDPOINT" in os.environ:
    from ensue.integrations.opentelemetry import export_traces

    export_traces(app)
engine = create_engine(DATABASE)
Sessions = sessionmaker(engine)

PRICES = {"lamp": Decimal("39.90"), "chair": Decimal("119.00"), "desk": Decimal("310.00")}


def place(session: Session, order_id: UUID, customer: str, item: str, quantity: int) -> bool:
    """Place an order in the caller's transaction; return False if it was placed before.

    The customer's browser makes the id, and asks again under the same one when it gets no answer. Raises `KeyError`
    for an item that is not sold here.
    """
    if session.get(Order, order_id) is not None:
        return False
    amount = PRICES[item] * quantity
    session.add(Order(id=order_id, customer=customer, item=item, quantity=quantity, amount=amount))
    placed = OrderPlaced(order_id=order_id, customer=customer, item=item, quantity=quantity, amount=amount)
    app.record(placed, via=session)
    return True


app.relay(BROKER, OrderPlaced, OrderCancelled)


@app.receive(PaymentRefused, StockRefused, source=BROKER, transaction=Sessions.begin)
def cancel(event: PaymentRefused | StockRefused, session: Session) -> None:
    """Cancel what cannot be had. Both may refuse: the first one decides."""
    order = session.get_one(Order, event.order_id)
    if order.state == "placed":
        order.state, order.reason = "cancelled", event.reason
        app.record(OrderCancelled(order_id=order.id, item=order.item, reason=event.reason), via=session)


@app.receive(OrderShipped, source=BROKER, transaction=Sessions.begin)
def complete(event: OrderShipped, session: Session) -> None:
    """Note that it is on its way."""
    session.get_one(Order, event.order_id).state = "shipped"
