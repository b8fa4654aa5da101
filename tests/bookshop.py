"""A bookshop, run by the tests of the console: something of everything, and faults that can be switched on."""

from __future__ import annotations

import random
from datetime import timedelta
from typing import Any

from ensue import (
    Aggregate,
    App,
    Backoff,
    Command,
    DomainEvent,
    IntegrationEvent,
    Process,
    SourcedEvent,
    context,
    evolves,
    moves,
    starts,
)

BOOKS = ("Middlemarch", "Emma", "Ulysses", "Walden", "Kim")
PEOPLE = ("ada", "bert", "cleo", "dora", "emil", "fay")


class MailRefused(Exception):
    """The mail server does not take it."""


class BookOrdered(IntegrationEvent, version=1, key="order"):
    """Somebody wants a book."""

    order: str
    book: str
    email: str


class BookOrderedNow(IntegrationEvent, version=2, name="BookOrdered", key="order"):
    """Somebody wants a book."""

    order: str
    book: str
    email: str
    gift: bool = False


class BookPaid(DomainEvent, key="order"):
    """The money is there."""

    order: str
    cents: int


class BookSent(IntegrationEvent, version=1, key="order"):
    """It is on its way."""

    order: str


class PaymentOverdue(DomainEvent, key="order"):
    """Nobody has paid in time."""

    order: str


class SaleAnnounced(DomainEvent):
    """Nobody has ever recorded this."""

    text: str


class PackBook(Command, key="order"):
    """Put it into a parcel."""

    order: str


class UnpackBook(Command, key="order"):
    """Put it back on the shelf."""

    order: str


class ShelfFilled(SourcedEvent):
    """Copies of a book have come."""

    copies: int
    by: str


class CopyTaken(SourcedEvent):
    """A copy has gone."""

    order: str


class Shelf(Aggregate):
    """The copies of a book that are there."""

    copies: int = 0
    filled_by: str = ""
    last_order: str | None = None

    def fill(self, copies: int, by: str) -> None:
        """Put copies on it."""
        self.apply(ShelfFilled(copies=copies, by=by))

    def take(self, order: str) -> None:
        """Take one."""
        self.apply(CopyTaken(order=order))

    @evolves
    def _filled(self, event: ShelfFilled) -> None:
        self.copies += event.copies
        self.filled_by = event.by

    @evolves
    def _taken(self, event: CopyTaken) -> None:
        self.copies -= 1
        self.last_order = event.order


class Bookshop:
    """The application, what goes wrong in it, and what its customers do."""

    def __init__(self, url: str, *, broker: str | None = None, schema: str = "ensue") -> None:
        self.app = App("bookshop", url, schema=schema)
        self.table = "sold" if schema == "ensue" else f"{schema}_sold"
        self.mail_is_down = False
        self.refuses_bad_addresses = True
        self._shelves = self.app.repository(Shelf)
        self._post()
        self._sales()
        if broker is not None:
            self.app.relay(broker, BookSent)

    def _post(self) -> None:
        post = self.app.module("post")
        quick = Backoff(first=0.1, most=0.2, give_up_after=0.3)

        @post.on(BookOrderedNow, retry=quick, start="beginning")
        def send_confirmation(event: BookOrderedNow) -> None:
            if self.mail_is_down:
                raise ConnectionError(f"the mail server does not answer for order {event.order}")
            if self.refuses_bad_addresses and "@" not in event.email:
                raise MailRefused(f"550 no mailbox {event.email!r} here")

        @post.handle(PackBook, start="beginning")
        def pack(command: PackBook) -> None:
            return

        @post.handle(UnpackBook, start="beginning")
        def unpack(command: UnpackBook) -> None:
            return

    def _sales(self) -> None:
        sales, mark = self.app.module("sales"), "?" if self.app.log.place.url.startswith("sqlite") else "%s"

        @sales.process(key="order", start="beginning")
        class Order(Process, name="order", version=1):
            """Paid and packed; nobody who has not paid in time gets it."""

            book: str = ""

            @starts
            def begin(self, event: BookOrderedNow) -> None:
                """Pack it, and wait for the money."""
                self.book = event.book
                self.send(PackBook(order=event.order))
                self.undo(UnpackBook(order=event.order))
                self.after(timedelta(hours=6), PaymentOverdue(order=event.order), name="payment")

            @moves
            def send_it(self, event: BookPaid) -> None:
                """Off it goes."""
                self.record(BookSent(order=event.order))
                self.end("sent")

            @moves
            def give_up(self, event: PaymentOverdue) -> None:
                """Back to the shelf."""
                self.compensate()
                self.end("nobody has paid")

        @sales.on(SaleAnnounced)
        def print_poster(event: SaleAnnounced) -> None:
            return

        def clear(order: str, connection: Any) -> None:
            connection.execute(f"delete from {self.table} where orders = {mark}", (order,))

        @self.app.projection(
            BookOrderedNow,
            tables=self.table,
            set_up=f"create table {self.table} (orders varchar(80) primary key, book varchar(80) not null)",
            clear=clear,
        )
        def sold(event: BookOrderedNow, connection: Any) -> None:
            connection.execute(f"insert into {self.table} values ({mark}, {mark})", (event.order, event.book))

    # --- what people do

    def fill(self) -> None:
        """Fill the shelves."""
        with context(actor="warehouse"):
            for book in BOOKS:
                with self._shelves.edit(book.lower(), create=True) as shelf:
                    shelf.fill(500, "warehouse")

    def order(self, number: int, *, email: str | None = None, paid: bool = True, take: bool = True) -> None:
        """Order a book, take it from its shelf, pay."""
        chance = random.Random(number)
        who, book, name = chance.choice(PEOPLE), chance.choice(BOOKS), f"o-{number:05}"
        event = BookOrderedNow(order=name, book=book, email=email or f"{who}@example.org", gift=number % 7 == 0)
        with context(actor=who):
            with self.app.transaction() as connection:
                self.app.record(event, via=connection)
            if take:
                with self._shelves.edit(book.lower()) as shelf:
                    shelf.take(name)
            if paid:
                with self.app.transaction() as connection:
                    self.app.record(BookPaid(order=name, cents=1200 + number), via=connection)
