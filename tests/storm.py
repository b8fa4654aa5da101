"""The programs of the kill storm: a writer, workers, and two services that honour an idempotency key."""

from __future__ import annotations

import asyncio
import json
import logging
import random
import sqlite3
import time
from dataclasses import dataclass
from http.client import HTTPConnection
from multiprocessing.connection import Connection
from typing import Any

import psycopg

from ensue import App, Backoff, Delivery, IntegrationEvent, errors

SERVICES = ("newsletter", "mailer")


class UserSignedUp(IntegrationEvent, version=1, key="tenant", name="test.storm.user-signed-up"):
    tenant: str
    account: int
    email: str


@dataclass(frozen=True)
class Storm:
    """What all processes have to know."""

    url: str
    schema: str
    sign_ups: int
    per_second: float
    tenants: int = 200
    lease: float = 0.6

    @property
    def on_postgres(self) -> bool:
        return self.url.startswith("postgres")

    def connect(self) -> Any:
        """Open a connection as an application would."""
        if self.on_postgres:
            return psycopg.connect(self.url, connect_timeout=5)
        return sqlite3.connect(self.url.removeprefix("sqlite:///"), timeout=10)

    # --- the writer

    def write(self) -> None:
        """Sign users up, one transaction each; after any failure try again what may or may not be committed."""
        app = App("storm", self.url, schema=self.schema)
        connection, began = self.connect(), time.monotonic()
        unsure: set[int] = set()
        for account in range(self.sign_ups):
            time.sleep(max(0.0, began + account / self.per_second - time.monotonic()))
            while True:
                try:
                    if account % 20 == 7:  # an insert that fails in the end: nobody may hear of it
                        self._sign_up(app, connection, -1 - account)
                        connection.rollback()
                    self._sign_up(app, connection, account)
                    connection.commit()
                    if account % 50 == 3 and account not in unsure:
                        unsure.add(account)
                        raise errors.DatabaseUnavailable("the answer to the commit is lost")
                    break
                except (psycopg.OperationalError, sqlite3.OperationalError, errors.DatabaseUnavailable):
                    connection = self._reconnect(connection)
        connection.close()

    def _sign_up(self, app: App, connection: Any, account: int) -> None:
        place = "%s" if self.on_postgres else "?"
        connection.execute(f"insert into accounts (account) values ({place}) on conflict do nothing", (account,))
        event = UserSignedUp(tenant=f"t{account % self.tenants}", account=account, email=f"{account}@example.org")
        app.record(event, via=connection, dedupe=f"sign-up {account}")

    def _reconnect(self, connection: Any) -> Any:
        connection.close()
        while True:
            try:
                return self.connect()
            except psycopg.OperationalError:
                time.sleep(0.05)  # the server starts again

    # --- the worker

    def work(self, port: int) -> None:
        """Carry sign-ups to both services: one with an async handler, one with a sync one."""
        logging.disable(logging.ERROR)  # it is a storm: failures are no news
        self.app(port).run(lease=self.lease)

    def app(self, port: int) -> App:
        app = App("storm", self.url, schema=self.schema)
        patience = Backoff(first=0.05, most=0.5)

        @app.on(UserSignedUp, start="beginning", partitions=2, concurrency=20, timeout=10, retry=patience)
        async def newsletter(event: UserSignedUp, delivery: Delivery) -> None:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                writer.write(request("newsletter", event, delivery))
                answer = await reader.readline()
                assert b" 200 " in answer, answer
            finally:
                writer.close()

        @app.on(UserSignedUp, start="beginning", partitions=2, concurrency=5, timeout=10, retry=patience)
        def mailer(event: UserSignedUp, delivery: Delivery) -> None:
            connection = HTTPConnection("127.0.0.1", port, timeout=5)
            try:
                connection.request("POST", "/mailer", body(event), {"Idempotency-Key": delivery.idempotency_key})
                assert connection.getresponse().status == 200
            finally:
                connection.close()

        return app


def body(event: UserSignedUp) -> bytes:
    return json.dumps([event.tenant, event.account]).encode()


def request(service: str, event: UserSignedUp, delivery: Delivery) -> bytes:
    content = body(event)
    head = (
        f"POST /{service} HTTP/1.1\r\nHost: localhost\r\nIdempotency-Key: {delivery.idempotency_key}\r\n"
        f"Content-Length: {len(content)}\r\n\r\n"
    )
    return head.encode() + content


# --- the services


class Services:
    """Two services behind one port. A call under a key that is known has no effect and gets the same answer.

    Now and then one fails: before the effect, or, what is worse, after it.
    """

    def __init__(self) -> None:
        self._random = random.Random(7)
        self.calls = dict.fromkeys(SERVICES, 0)
        self.effects: dict[str, list[tuple[str, int]]] = {service: [] for service in SERVICES}
        """Tenant and account, in the order of the effects."""
        self._known: set[str] = set()

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            lines = head.split("\r\n")
            headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
            content = await reader.readexactly(int(headers.get("content-length", "0")))
            service = lines[0].split()[1].strip("/")
            if service == "book":
                self._reply(writer, json.dumps([self.calls, self.effects]).encode())
            else:
                self.calls[service] += 1
                trouble = self._random.random()
                if trouble < 0.01:
                    raise ConnectionError("broken off before the effect")
                key = headers["idempotency-key"]
                if key not in self._known:
                    self._known.add(key)
                    tenant, account = json.loads(content)
                    self.effects[service].append((tenant, account))
                if trouble < 0.02:
                    raise ConnectionError("broken off after the effect")
                self._reply(writer, b"{}")
            await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # trouble, or the caller was killed on the way
        finally:
            writer.close()

    def _reply(self, writer: asyncio.StreamWriter, content: bytes) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s" % (len(content), content))


def serve(told: Connection) -> None:
    """Run the services; tell their port."""

    async def run() -> None:
        server = await asyncio.start_server(Services().answer, "127.0.0.1", 0, backlog=500)
        told.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(run())


def book(port: int) -> tuple[dict[str, int], dict[str, list[tuple[str, int]]]]:
    """Ask the services how often they were called, and what came of it."""
    connection = HTTPConnection("127.0.0.1", port, timeout=20)
    connection.request("GET", "/book")
    calls, effects = json.loads(connection.getresponse().read())
    connection.close()
    return calls, {service: [(tenant, account) for tenant, account in done] for service, done in effects.items()}
