"""The programs of the storm between two services: who publishes, and who has the effect."""

from __future__ import annotations

import logging
import signal
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiokafka  # type: ignore[import-untyped,unused-ignore]

from ensue import App, Backoff, IntegrationEvent
from ensue.brokers import Incoming, receiving
from ensue.brokers.messages import read


class Moved(IntegrationEvent, version=1, key="tenant", name="test.storm.moved"):
    tenant: str
    n: int


@dataclass(frozen=True)
class Passage:
    """What all processes have to know."""

    database: str
    schema: str
    broker: str
    raw: Path
    """Grows by a byte for every message that comes, known or not."""
    session: float | None = None
    """Seconds after which Kafka takes a member that is silent for dead; its client says 10 otherwise."""
    tenants: int = 400
    partitions: int = 2
    lease: float = 0.6

    def orders(self) -> App:
        """Return the service that publishes."""
        app = App("orders", self.database, schema=f"{self.schema}_orders")
        app.relay(
            self.broker, Moved, start="beginning", partitions=self.partitions, retry=Backoff(first=0.05, most=0.5)
        )
        return app

    def shipping(self) -> App:
        """Return the service that has the effect, in the transaction of the mark."""
        app = App("shipping", self.database, schema=f"{self.schema}_shipping")
        statement = f"insert into {self.schema}_shipping.effects (tenant, n) values (%s, %s)"

        @app.receive(
            Moved, source=self.broker, partitions=self.partitions, retry=Backoff(first=0.05, most=0.5), timeout=10
        )
        def ship(event: Moved, connection: Any) -> None:
            connection.execute(statement, (event.tenant, event.n))

        return app

    def record(self, app: App, numbers: Sequence[int]) -> None:
        with app.transaction() as connection:
            app.record(*(Moved(tenant=f"t{n % self.tenants}", n=n) for n in numbers), via=connection)

    def publish(self) -> None:
        """Run the relay in this process."""
        self._brave_it()
        self.orders().run(lease=self.lease)

    def ship(self) -> None:
        """Run the receiver in this process, and count what comes."""
        self._brave_it()
        if self.session is not None:
            usual = aiokafka.AIOKafkaConsumer.__init__.__kwdefaults__
            usual |= {"session_timeout_ms": int(self.session * 1000), "heartbeat_interval_ms": int(self.session * 250)}
        with self.raw.open("ab", buffering=0) as file:

            def counted(incoming: Incoming, *more: Any) -> Any:
                file.write(b".")
                return read(incoming, *more)

            vars(receiving)["read"] = counted
            self.shipping().run(lease=self.lease)

    def _brave_it(self) -> None:
        logging.disable(logging.ERROR)  # it is a storm: failures are no news
        database = urlsplit(self.database).port or 5432
        signal.signal(signal.SIGURG, lambda *_: break_off_all_but(database))


def break_off_all_but(port: int) -> None:
    """Break off every connection of this process, with what is under way, but those that lead to this port."""
    for each in list(Path("/dev/fd").iterdir()):
        try:
            found = socket.socket(fileno=int(each.name))
        except OSError:  # no socket
            continue
        try:
            if found.family in (socket.AF_INET, socket.AF_INET6) and found.getpeername()[1] != port:
                found.shutdown(socket.SHUT_RDWR)
        except OSError:  # not connected
            pass
        finally:
            found.detach()
