"""A worker that writes one transaction after the other to an SQLite file lets others write, too."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from pathlib import Path
from typing import Any

from ensue import App, DomainEvent
from ensue.log.yielding import PAUSE, Turns

COUNT = 2_000
TOIL = 0.001
"""Seconds that each event takes; the batch is a transaction that holds the file for a tenth of a second."""
PATIENCE = 1.5
"""Seconds for which those wait who record meanwhile: less than drivers do, so that few runs tell."""


class Counted(DomainEvent, name="yielding.counted"):
    number: int


async def test_others_record_while_a_projection_catches_up(tmp_path: Path) -> None:
    app = App("yielding", f"sqlite:///{tmp_path}/log.db")

    @app.projection(
        Counted, tables="counted", batch=100, set_up="create table counted (number integer primary key, many integer)"
    )
    def counted(event: Counted, db: Any) -> None:
        time.sleep(TOIL)
        db.execute("insert into counted values (?, 1) on conflict do update set many = many + 1", (event.number % 7,))

    app.migrate()
    with app.transaction() as connection:
        receipt = app.record(*(Counted(number=number) for number in range(COUNT)), via=connection)
    waits: list[float] = []

    def record() -> None:
        """As a web process would, on a connection of its own."""
        connection = sqlite3.connect(tmp_path / "log.db", timeout=PATIENCE)
        began = time.monotonic()
        with connection:
            app.record(Counted(number=0), via=connection)
        waits.append(time.monotonic() - began)
        connection.close()

    async with app.running():
        caught_up = asyncio.ensure_future(app.wait_async(receipt, "counted", timeout=60))
        while not caught_up.done():
            await asyncio.gather(*(asyncio.to_thread(record) for _ in range(3)))
        await caught_up
    assert len(waits) >= 3  # and none of them raised "database is locked"
    with app.transaction() as connection:
        assert connection.execute("select sum(many) from counted").fetchone()[0] >= COUNT


async def test_pauses_come_only_in_long_runs_that_hold_the_file(tmp_path: Path) -> None:
    async def pauses(hold: float, rest: float, seconds: float) -> int:
        turns = Turns(App("yielding", f"sqlite:///{tmp_path}/log.db").log.place)
        found, end = 0, time.monotonic() + seconds
        while time.monotonic() < end:
            asked = time.monotonic()
            async with turns.turn():
                found += time.monotonic() - asked > PAUSE / 2
                await asyncio.sleep(hold)
            await asyncio.sleep(rest)
        return found

    assert await pauses(0.02, 0.0, 1.2) >= 1
    assert await pauses(0.005, 0.03, 1.2) == 0
    assert await pauses(0.02, PAUSE + 0.01, 1.2) == 0
