"""The application of loyalty: a point for each whole euro of an order, once it is shipped.

It publishes nothing, and no other service knows of it: it has their contract files, and the broker's address.
"""

from __future__ import annotations

import os
from pathlib import Path

from sqlalchemy import create_engine
from sqlalchemy.orm import Session, sessionmaker

from ensue import App

from .models import Account, Purchase
from .others import OrderPlaced, OrderShipped

BROKER = os.environ.get("SHOP_BROKER", "nats://localhost:4222/shop")
DATABASE = os.environ.get("SHOP_DATABASE", "sqlite:///{service}.db").format(service="loyalty")

app = App("loyalty", DATABASE, contracts=Path(__file__).parent / "contracts")
if "OTEL_EXPORTER_OTLP_ENDPOINT" in os.environ:
    from ensue.integrations.opentelemetry import export_traces

    export_traces(app)
engine = create_engine(DATABASE)
Sessions = sessionmaker(engine)


@app.receive(OrderPlaced, OrderShipped, source=BROKER, transaction=Sessions.begin)
def collect(event: OrderPlaced | OrderShipped, session: Session) -> None:
    """Give the points when both are known: two services say them, and either may be heard first."""
    purchase = session.get(Purchase, event.order_id)
    if purchase is None:
        purchase = Purchase(order_id=event.order_id)
        session.add(purchase)
    match event:
        case OrderPlaced():
            purchase.customer, purchase.points = event.customer, int(event.amount)
        case OrderShipped():
            purchase.shipped = True
    if purchase.shipped and purchase.customer is not None:
        account = session.get(Account, purchase.customer)
        if account is None:
            session.add(Account(customer=purchase.customer, points=purchase.points))
        else:
            account.points += purchase.points
