"""Builds whose tables a function of the user's makes: it is called in a transaction of its own, before work begins."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

from ensue.app.declarations import Declarations
from ensue.app.working import in_loop
from ensue.errors import DatabaseUnavailable, DeclarationError
from ensue.handlers.carrying import Carrier, Work
from ensue.handlers.projections import Projection, create_build, lacking
from ensue.log import Log, passes
from ensue.subscriptions import register

T = TypeVar("T")


def carrier_of(log: Log, projection: Projection) -> Carrier:
    """Return who opens the transaction in which a build is made: for a function of the user's, as the projection's."""
    if not callable(projection.set_up):
        return Carrier(log, projection.name, asynchronous=False)
    return Carrier(
        log,
        projection.name,
        asynchronous=projection.function.is_async,
        transaction=projection.transaction,
        timeout=projection.timeout,
    )


async def make_missing(log: Log, declarations: Declarations) -> None:
    """Make the builds that are missing. Raises `DatabaseUnavailable` for what may succeed later."""
    if not declarations.projections:
        return
    for projection in await log.own.run_async(lacking(log, declarations.projections.values())):
        try:
            await carrier_of(log, projection).carry(_making(log, declarations, projection))
        except Exception as error:
            if passes(error) and not isinstance(error, DatabaseUnavailable):
                raise DatabaseUnavailable(str(error)) from error
            raise


def make_missing_here(log: Log, declarations: Declarations) -> None:
    """As `make_missing`, where nothing is awaited; what is async is left to a worker if an event loop runs here."""
    if not declarations.projections:
        return
    for projection in log.own.run(lacking(log, declarations.projections.values())):
        carrier = carrier_of(log, projection)
        if not (carrier.asynchronous and in_loop()):
            carried(carrier, _making(log, declarations, projection))


def carried(carrier: Carrier, make: Callable[[], Work[T]]) -> T:
    """Carry work out here and now, in a new event loop if it has to be awaited; `DeclarationError` if one runs here."""
    if not carrier.asynchronous:
        return carrier.directly(make)
    if in_loop():
        raise DeclarationError(
            "its set_up is async, and this is called where an event loop runs: call it in a thread, "
            "await asyncio.to_thread(…)"
        )
    return asyncio.run(carrier.carry(make))


def _making(log: Log, declarations: Declarations, projection: Projection) -> Callable[[], Work[None]]:
    def make() -> Work[None]:
        yield from create_build(log, projection, by_hand=False)
        cursors = yield declarations.cursors(log, create=False)
        yield register(log, cursors)

    return make
