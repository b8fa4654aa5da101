"""The application of payments: one table, and a receiver that writes it in the transaction of the message."""

from __future__ import annotations

import os
from decimal import Decimal
from pathlib import Path

from sqlalchemy import create_engine
from sqlalchemy.orm import Session, sessionmaker

from ensue import App

from .events import PaymentAuthorised, PaymentRefused
from .models import Payment
from .others import OrderCancelled, OrderPlaced

BROKER = os.environ.get("SHOP_BROKER", "nats://localhost:4222/shop")
DATABASE = os.environ.get("SHOP_DATABASE", "sqlite:///{service}.db").format(service="payments")

app = App("payments", DATABASE, contracts=Path(__file__).parent / "contracts")
if "OTEL_EXPORTER_OTLP_ENDPOINT" in os.environ:
    from ensue.integrations.opentelemetry import export_traces

    export_traces(app)
engine = create_engine(DATABASE)
Sessions = sessionmaker(engine)

LIMIT = Decimal(500)
"""What a customer may owe for one order."""

app.relay(BROKER, PaymentAuthorised, PaymentRefused)


@app.receive(OrderPlaced, OrderCancelled, source=BROKER, transaction=Sessions.begin)
def settle(event: OrderPlaced | OrderCancelled, session: Session) -> None:
    """Answer an order once, and let go of the money if nothing comes of it."""
    payment = session.get(Payment, event.order_id)
    match event:
        case OrderPlaced() if payment is None:
            fits = event.amount <= LIMIT
            state = "authorised" if fits else "refused"
            session.add(Payment(order_id=event.order_id, amount=event.amount, state=state))
            if fits:
                app.record(PaymentAuthorised(order_id=event.order_id, amount=event.amount), via=session)
            else:
                reason = f"{event.amount} is more than {LIMIT}"
                app.record(PaymentRefused(order_id=event.order_id, reason=reason), via=session)
        case OrderCancelled() if payment is None:  # a broker may bring it before the order: topics know no common order
            session.add(Payment(order_id=event.order_id, amount=Decimal(0), state="refused"))
        case OrderCancelled() if payment is not None and payment.state == "authorised":
            payment.state = "voided"
        case _:
            pass
