"""The application of shipping: two services must have said yes, in whatever order their words arrive."""

from __future__ import annotations

import datetime as dt
import os
from pathlib import Path

from sqlalchemy import create_engine
from sqlalchemy.orm import Session, sessionmaker

from ensue import App

from .events import OrderShipped
from .models import Parcel
from .others import PaymentAuthorised, StockReserved

BROKER = os.environ.get("SHOP_BROKER", "nats://localhost:4222/shop")
DATABASE = os.environ.get("SHOP_DATABASE", "sqlite:///{service}.db").format(service="shipping")

app = App("shipping", DATABASE, contracts=Path(__file__).parent / "contracts")
if "OTEL_EXPORTER_OTLP_ENDPOINT" in os.environ:
    from ensue.integrations.opentelemetry import export_traces

    export_traces(app)
engine = create_engine(DATABASE)
Sessions = sessionmaker(engine)

app.relay(BROKER, OrderShipped)


@app.receive(PaymentAuthorised, StockReserved, source=BROKER, transaction=Sessions.begin)
def ship(event: PaymentAuthorised | StockReserved, session: Session) -> None:
    """Ship what is paid and reserved."""
    parcel = session.get(Parcel, event.order_id)
    if parcel is None:
        parcel = Parcel(order_id=event.order_id)
        session.add(parcel)
    match event:
        case PaymentAuthorised():
            parcel.paid = True
        case StockReserved():
            parcel.reserved = True
    if parcel.paid and parcel.reserved:
        parcel.shipped_at = dt.datetime.now(dt.UTC)
        app.record(OrderShipped(order_id=event.order_id), via=session)
