"""Ten thousand sign-ups are replayed: no mail goes out, nothing is published, and kills change nothing in the rows."""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ensue import App, IntegrationEvent
from ensue.brokers.memory import _all
from tests.patience import until, until_sync
from tests.processes import crew

SIGN_UPS = 10_000
BREAKS = 6
KILLS = 3


class SignedUp(IntegrationEvent, version=1, key="domain", name="test.replaying-signups.signed-up"):
    domain: str
    user: int


@dataclass(frozen=True)
class Club:
    """What all processes have to know."""

    url: str
    schema: str
    folder: Path

    def app(self, *, version: int = 1) -> App:
        app = App("club", self.url, schema=self.schema)
        mark = "%s" if self.url.startswith("postgres") else "?"
        table = f"{self.schema}_members"

        @app.projection(
            SignedUp,
            tables=table,
            name="members",
            set_up=f"create table {table} (domain text primary key, users bigint not null, trace bigint not null)",
            version=version,
        )
        def members(event: SignedUp, db: Any) -> None:
            db.execute(
                f"insert into {table} (domain, users, trace) values ({mark}, 1, {mark}) on conflict (domain) do update "
                f"set users = {table}.users + 1, trace = ({table}.trace * 31 + excluded.trace) % 1000003".replace(
                    " % ", " %% " if mark == "%s" else " % "
                ),
                (event.domain, event.user),
            )

        @app.on(SignedUp, start="beginning", concurrency=100)
        async def send_mail(event: SignedUp) -> None:
            self.note("mails", str(event.user))

        app.relay(self.broker, SignedUp, name="newsletter", start="beginning")
        return app

    @property
    def broker(self) -> str:
        return f"memory://{self.schema}"

    @property
    def published(self) -> int:
        """How many messages the broker of this process has."""
        return sum(map(len, _all[self.schema].messages.values()))

    def note(self, name: str, line: str) -> None:
        with (self.folder / name).open("a") as file:
            file.write(f"{line}\n")

    def noted(self, name: str) -> list[str]:
        file = self.folder / name
        return file.read_text().splitlines() if file.exists() else []

    def replay(self) -> None:
        """Build, as `ensue replay members --shadow` does; whoever comes to the end says so."""
        app = self.app(version=2)
        build = app.replays.begin("members")
        self.note("begun", str(build.number))
        asyncio.run(app.replays.build(build, lease=0.5))
        self.note("done", str(self.published))


def rows(app: App, table: str) -> list[tuple[str, int, int]]:
    with app.transaction() as connection:
        found = connection.execute(f"select domain, users, trace from {table} order by domain").fetchall()
    return [(domain, users, trace) for domain, users, trace in found]


def folded(app: App) -> list[tuple[str, int, int]]:
    """Return what the table has to hold, by the log alone."""
    found: dict[str, tuple[int, int]] = {}
    for each in app.read(types=[SignedUp]):
        users, trace = found.get(each.event.domain, (0, 0))
        found[each.event.domain] = (users + 1, (trace * 31 + each.event.user) % 1000003 if users else each.event.user)
    return sorted((domain, *values) for domain, values in found.items())


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
async def test_replaying_ten_thousand_sign_ups(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path, schema: str
) -> None:
    url = f"sqlite:///{tmp_path}/log.db" if kind == "sqlite" else request.getfixturevalue("postgres_url")
    club, rng = Club(url, schema, tmp_path), random.Random(10_000)
    app, table = club.app(), f"{schema}_members"
    app.migrate()
    with app.transaction() as connection:
        for first in range(0, SIGN_UPS, 500):
            events = [SignedUp(domain=f"d{rng.randrange(100)}", user=n) for n in range(first, first + 500)]
            app.record(*events, via=connection)
    async with app.running():
        await until(lambda: club.published == SIGN_UPS, seconds=60)
        await until(lambda: not any(each.behind for each in app.operations.standings()), seconds=60)
    assert len(club.noted("mails")) == SIGN_UPS
    right = folded(app)
    assert rows(app, table) == right

    build = app.replays.begin("members")
    for _ in range(BREAKS):  # anywhere on the way
        task = asyncio.ensure_future(app.replays.build(build, lease=0.5))
        await asyncio.wait([task], timeout=rng.uniform(0.02, 0.15))
        task.cancel()
        await asyncio.wait([task])
    await app.replays.build(build)
    assert app.replays.compare("members", build.number).same
    await asyncio.to_thread(app.replays.switch, "members", build.number, actor="me", reason="to look at it")
    assert rows(app, table) == right

    def killed() -> None:
        with crew() as hired:
            for number in range(1, KILLS + 1):
                worker = hired.start(club.replay)
                until_sync(lambda number=number: len(club.noted("begun")) >= number)  # type: ignore[misc]
                time.sleep(rng.uniform(0.0, 0.9))  # anywhere on the way; the lease of the one before has to end first
                worker.kill()
                worker.join(30)
            hired.start(club.replay)
            until_sync(lambda: club.noted("done"), seconds=60)

    await asyncio.to_thread(killed)
    again = club.app(version=2)
    assert again.replays.compare("members", 3).same
    assert set(club.noted("begun")) == {"3"}, "all of them went on with the same build"
    assert set(club.noted("done")) == {"0"}, "nothing was published where it was built"
    assert (club.published, len(club.noted("mails"))) == (SIGN_UPS, SIGN_UPS)
    if kind == "postgresql":
        with app.transaction() as connection:
            connection.execute(f"drop table {table}")
            for number in (1, 3):
                connection.execute(f"drop schema {schema}_members_{number} cascade")
