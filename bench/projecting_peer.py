"""The projection in the eventsourcing library: its runner, and a tracking recorder that makes the same upsert.

Its events are read and written by msgspec, the fastest that its documentation shows.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import psycopg
from eventsourcing.application import Application
from eventsourcing.persistence import Tracking
from eventsourcing.postgres import PostgresTrackingRecorder
from eventsourcing.projection import Projection, ProjectionRunner
from eventsourcing.utils import get_topic
from psycopg.sql import SQL

from bench.delivering import PATIENCE
from bench.events import about
from bench.projector import SET_UP, UPSERT
from bench.stores import Pair
from bench.wallets_peer import PeerEvent, StructMapper, settings_of

PEER = "eventsourcing, ProjectionRunner"


class PeerSignedUp(PeerEvent, frozen=True, kw_only=True):
    user_id: UUID
    email: str
    name: str
    plan: str
    referrer: str
    signed_up_at: datetime


class PeerSignUps(Application[UUID]):
    """Where the events are recorded."""


class PeerPlans(PostgresTrackingRecorder):
    """Its read model: the table, and how far it is."""

    def __init__(self, datastore: Any, **options: Any) -> None:
        super().__init__(datastore, **options)
        table = f"{datastore.schema}.plans"
        create: Any = SET_UP.format(table=table).replace("table", "table if not exists", 1)
        upsert: Any = UPSERT.format(table=table, mark="%s")
        self.sql_create_statements.append(SQL(create).format())
        self._upsert = SQL(upsert)

    def apply(self, event: PeerSignedUp, tracking: Tracking) -> None:
        with self.datastore.transaction(commit=True) as cursor:
            self._insert_tracking(cursor, tracking)
            cursor.execute(self._upsert, (str(event.user_id), event.plan), prepare=True)


class PeerProjection(Projection[PeerPlans]):
    """Its projection."""

    name = "plans"

    def process_event(self, domain_event: Any, tracking: Tracking) -> None:  # pyright: ignore[reportIncompatibleVariableOverride] it dispatches
        self.view.apply(domain_event, tracking)


class PeerBacklog:
    """A log of its own with events in it, and a projection that catches up with them."""

    def __init__(self, made: Pair, users: Sequence[UUID]) -> None:
        self._made = made
        self._env = {
            **settings_of(made, made.twin),
            "MAPPER_TOPIC": get_topic(StructMapper),
            "POSTGRES_ENABLE_DB_FUNCTIONS": "yes",
        }
        versions = Counter[UUID]()
        with PeerSignUps(env=self._env) as app:
            for first in range(0, len(users), 1000):
                app.save(*(self._signed_up(user, versions) for user in users[first : first + 1000]))
        self._count = len(users)

    @staticmethod
    def _signed_up(user: UUID, versions: Counter[UUID]) -> PeerSignedUp:
        versions[user] += 1
        return PeerSignedUp(originator_id=user, originator_version=versions[user], **about(user))

    def catch_up(self) -> float:
        """Return events per second, from the start of the runner until the last has been applied."""
        begin = time.perf_counter()
        with ProjectionRunner(
            application_class=PeerSignUps, projection_class=PeerProjection, view_class=PeerPlans, env=self._env
        ) as runner:
            runner.wait(self._count, timeout=PATIENCE)
            taken = time.perf_counter() - begin
        with psycopg.connect(self._made.url) as connection:
            schema = self._made.twin
            connection.execute(f"truncate {schema}.plans".encode())
            connection.execute(
                f"delete from {schema}.plans_tracking where application_name = %s".encode(), (PeerSignUps.name,)
            )
        return self._count / taken
