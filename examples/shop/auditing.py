"""The auditor: looks into all five databases, as nobody else in the shop may, and says whether it all adds up."""

from __future__ import annotations

import json
from collections import Counter
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import Engine, create_engine, text

from ensue import App

_SIGNS = {"stock.delivered": 1, "stock.reserved": -1, "stock.refused": 0, "stock.released": 1}
"""What an event of an item does to what is on hand."""


class Books(msgspec.Struct, frozen=True, kw_only=True):
    """What the five services have written down."""

    orders: dict[UUID, tuple[str, str, int, Decimal]]
    """State, item, quantity and amount of each."""
    payments: dict[UUID, str]
    """State of each."""
    delivered: Counter[str]
    """How much of each item has come in."""
    on_hand: Counter[str]
    """How much of each is left."""
    kept: dict[UUID, int]
    """How much is kept for an order; 0 if that was refused or released."""
    released: int
    shipments: Counter[UUID]
    """How often each order was shipped."""
    purchases: int
    """How many orders the fifth reader has heard of."""
    points: int
    dead: list[str]
    """Subscriptions with dead letters, as service/name."""

    @property
    def states(self) -> Counter[str]:
        """How many orders are in each state."""
        return Counter(state for state, _, _, _ in self.orders.values())

    def faults(self) -> list[str]:
        """Return what does not add up, or not yet."""
        found: list[str] = []
        for id, (state, _, quantity, _) in self.orders.items():
            paid = self.payments.get(id) == "authorised"
            kept = self.kept.get(id) == quantity
            times = self.shipments[id]
            if state == "placed":
                found.append(f"order {id} waits")
            elif state == "shipped" and not (paid and kept and times == 1):
                found.append(f"order {id} is shipped: paid {paid}, reserved {kept}, {times} shipments")
            elif state == "cancelled" and (paid or self.kept.get(id) != 0 or times or id not in self.payments):
                found.append(f"order {id} is cancelled: paid {paid}, kept {self.kept.get(id)}, {times} shipments")
        strangers = (self.payments.keys() | self.kept.keys() | self.shipments.keys()) - self.orders.keys()
        found += [f"order {id} is known to others only" for id in strangers]
        earned = sum(int(amount) for state, _, _, amount in self.orders.values() if state == "shipped")
        if self.purchases != len(self.orders) or self.points != earned:
            found.append(f"loyalty knows {self.purchases} orders and {self.points} points: {earned} were earned")
        for item, delivered in self.delivered.items():
            sold = [quantity for state, name, quantity, _ in self.orders.values() if (state, name) == ("shipped", item)]
            if self.on_hand[item] != delivered - sum(sold):
                found.append(f"{delivered} {item} came in, {sum(sold)} were shipped, {self.on_hand[item]} are left")
        return [*found, *(f"dead letters of {name}" for name in self.dead)]


class Auditor:
    """Reads the books."""

    def __init__(self, database: str) -> None:
        names = ("orders", "payments", "stock", "shipping", "loyalty")
        self._engines: dict[str, Engine] = {name: create_engine(database.format(service=name)) for name in names}
        self._logs = {name: App(name, database.format(service=name)) for name in names}

    def look(self) -> Books:
        """Read all five, one after the other: while they work, they need not fit together."""
        orders = self._rows("orders", "select id, state, item, quantity, amount from orders")
        payments = self._rows("payments", "select order_id, state from payments")
        purchases = self._rows("loyalty", "select count(*) from purchases")
        points = self._rows("loyalty", "select coalesce(sum(points), 0) from accounts")
        delivered: Counter[str] = Counter()
        on_hand: Counter[str] = Counter()
        kept: dict[UUID, int] = {}
        released = 0
        for recorded in self._logs["stock"].read(types=list(_SIGNS)):
            item, data = (recorded.stream or "").removeprefix("Item-"), json.loads(recorded.data)
            on_hand[item] += _SIGNS[recorded.type] * data.get("quantity", 0)
            if recorded.type == "stock.delivered":
                delivered[item] += data["quantity"]
            else:
                kept[UUID(data["order_id"])] = data["quantity"] if recorded.type == "stock.reserved" else 0
                released += recorded.type == "stock.released"
        shipments = Counter(
            UUID(json.loads(recorded.data)["order_id"])
            for recorded in self._logs["shipping"].read(types=["OrderShipped.v1"])
        )
        return Books(
            orders={
                UUID(str(id)): (state, item, quantity, Decimal(str(amount)))
                for id, state, item, quantity, amount in orders
            },
            payments={UUID(str(id)): state for id, state in payments},
            delivered=delivered,
            on_hand=on_hand,
            kept=kept,
            released=released,
            shipments=shipments,
            purchases=purchases[0][0],
            points=points[0][0],
            dead=[
                f"{service}/{each.subscription}"
                for service, log in self._logs.items()
                for each in log.operations.standings()
                if each.dead
            ],
        )

    def _rows(self, service: str, sql: str) -> list[tuple[Any, ...]]:
        with self._engines[service].connect() as connection:
            return [tuple(row) for row in connection.execute(text(sql))]
