"""An item in stock: an aggregate, whose history is the ledger of its goods."""

from __future__ import annotations

from uuid import UUID

from ensue import Aggregate, SourcedEvent, evolves


class GoodsDelivered(SourcedEvent, name="stock.delivered"):
    """Goods came in."""

    quantity: int


class GoodsReserved(SourcedEvent, name="stock.reserved"):
    """Goods are kept for an order."""

    order_id: UUID
    item: str
    quantity: int


class GoodsRefused(SourcedEvent, name="stock.refused"):
    """There was nothing to keep."""

    order_id: UUID
    reason: str


class GoodsReleased(SourcedEvent, name="stock.released"):
    """What was kept for an order is free again."""

    order_id: UUID
    quantity: int


class Item(Aggregate):
    """One item. A command about an order may come twice: the second time it changes nothing."""

    available: int = 0
    kept: dict[UUID, int] = {}  # noqa: RUF012 each aggregate gets its own
    """How much is kept for each order; 0 for one that gets nothing."""

    def deliver(self, quantity: int) -> None:
        """Put goods in."""
        self.apply(GoodsDelivered(quantity=quantity))

    def reserve(self, order_id: UUID, quantity: int) -> None:
        """Keep goods for an order or refuse; that is decided here, and once."""
        if order_id in self.kept:
            return
        if quantity <= self.available:
            self.apply(GoodsReserved(order_id=order_id, item=self.id, quantity=quantity))
        else:
            self.apply(GoodsRefused(order_id=order_id, reason=f"{self.id}: {self.available} left"))

    def release(self, order_id: UUID) -> None:
        """Give up what is kept for an order. One that nobody has asked for yet will get nothing."""
        if order_id not in self.kept:
            self.apply(GoodsRefused(order_id=order_id, reason="it was cancelled"))
        elif self.kept[order_id]:
            self.apply(GoodsReleased(order_id=order_id, quantity=self.kept[order_id]))

    @evolves
    def _(self, event: GoodsDelivered) -> None:
        self.available += event.quantity

    @evolves
    def _(self, event: GoodsReserved) -> None:
        self.available -= event.quantity
        self.kept[event.order_id] = event.quantity

    @evolves
    def _(self, event: GoodsRefused) -> None:
        self.kept[event.order_id] = 0

    @evolves
    def _(self, event: GoodsReleased) -> None:
        self.available += event.quantity
        self.kept[event.order_id] = 0
