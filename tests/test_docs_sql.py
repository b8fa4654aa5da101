"""The SQL of the page about recording from SQL runs, and its grants suffice."""

from __future__ import annotations

import re
from pathlib import Path

import psycopg

from ensue import App, DomainEvent
from ensue.subscriptions.operating import Filter
from tests.patience import until
from tests.servers import OwnPostgres

PAGE = Path(__file__).parent.parent / "docs" / "how-to" / "sql-and-triggers.md"
PRODUCTION = PAGE.with_name("run-in-production.md")  # has the rights of the worker


class OrderPlaced(DomainEvent, key="customer", name="OrderPlaced"):
    order: int
    customer: str
    total: str


def sql_of(page: Path) -> list[str]:
    return re.findall(r"^```sql\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)


async def test_the_page_about_sql(own_postgres: OwnPostgres) -> None:
    App("shop", own_postgres.url).migrate()
    blocks = [block for page in (PAGE, PRODUCTION) for block in sql_of(page)]
    with psycopg.connect(own_postgres.url, autocommit=True) as connection:
        connection.execute("create role recorder login; create role shop_web login; create role shop_worker login")
        for block in blocks:
            connection.execute(block.encode())
        connection.execute("grant insert on orders to recorder")

    with psycopg.connect(own_postgres.url.replace("postgres@", "recorder@")) as connection:
        connection.execute("insert into orders values (7, 'berta', 12.50)")
        connection.execute(
            """select ensue.record('{"type": "OrderPlaced", "data": {}}', stream => 'orders', dedupe => 'once')"""
        )

    worker = App("shop", own_postgres.url.replace("postgres@", "shop_worker@"))
    seen: list[OrderPlaced] = []

    @worker.on(OrderPlaced, start="beginning")
    async def note(event: OrderPlaced) -> None:
        seen.append(event)

    async with worker.running():
        await until(lambda: seen and len(worker.operations.dead_letters()) == 3)  # what SQL recorded does not fit
        worker.operations.decide(Filter(), "skip", actor="test", reason="test")
        await until(lambda: not worker.operations.dead_letters(Filter(waiting_only=False)))
    assert seen == [OrderPlaced(order=7, customer="berta", total="12.50")]
