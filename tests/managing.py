"""What tests of process managers do with an application."""

from __future__ import annotations

from ensue import App, DomainEvent
from tests.patience import until


def record(app: App, *events: DomainEvent) -> None:
    with app.transaction() as connection:
        app.record(*events, via=connection)


def idle(app: App) -> bool:
    """Tell whether a worker has nothing left to do."""
    return not any(each.behind or each.retrying for each in app.operations.standings())


async def work(app: App) -> None:
    """Let a worker do all there is to do."""
    async with app.running():
        await until(lambda: idle(app))
