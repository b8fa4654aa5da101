"""What is counted and asked, through Prometheus and OpenTelemetry alike; the dashboard and the alerts name no other."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from ensue import App, Backoff, Delivery, DomainEvent, IntegrationEvent, Park, Retry
from ensue.brokers.memory import _all
from ensue.integrations import figures
from ensue.integrations.instruments import ASKED, COUNTED, Instrument
from ensue.integrations.opentelemetry import measure_with
from ensue.integrations.prometheus import Metrics
from tests.debian import program
from tests.patience import until
from tests.servers import NoServer, missing

DEPLOY = Path(__file__).parent.parent / "deploy"


class Metered(DomainEvent, key="who", name="test.metrics.metered"):
    who: str


class Sent(IntegrationEvent, version=1, key="who", name="test.metrics.sent"):
    who: str


@pytest.fixture(params=["sqlite", "postgresql"])
def app(request: pytest.FixtureRequest, tmp_path: Path, schema: str) -> Iterator[App]:
    if request.param == "sqlite":
        yield App("metrics", f"sqlite:///{tmp_path / 'log.db'}", schema=schema, migrate=True)
    else:
        yield App("metrics", request.getfixturevalue("postgres_url"), schema=schema, migrate=True)
    _all.clear()


def value(metrics: Metrics, instrument: Instrument, suffix: str = "", **labels: str) -> float | None:
    found: float | None = metrics.registry.get_sample_value(
        instrument.prometheus + suffix, {"app": "metrics", **labels}
    )
    return found


def named(name: str) -> Instrument:
    return next(each for each in (*COUNTED, *ASKED) if each.name == name)


async def test_what_is_counted_and_what_is_asked(app: App, schema: str) -> None:
    broker = f"memory://{schema.replace('_', '-')}"
    metrics = Metrics(app)
    app.relay(broker, Sent)
    gone: list[str] = []

    @app.on(Metered, retry=Backoff(first=0.01, most=0.02))
    async def mind(event: Metered, delivery: Delivery) -> Retry | Park | None:
        if event.who == "bad":
            return Park("no")
        return Retry(0.01) if event.who == "later" and delivery.attempt == 1 else None

    @app.receive(Sent, source=broker)
    def take(event: Sent) -> None:
        gone.append(event.who)

    def record() -> None:
        with app.transaction() as connection:
            app.record(*[Metered(who=each) for each in ("good", "later", "bad")], Sent(who="ada"), via=connection)
            app.record(Metered(who="bad"), via=connection, dedupe="once")
            app.record(Metered(who="bad"), via=connection, dedupe="once")

    async with app.running():
        await asyncio.to_thread(record)
        await until(lambda: gone)
        await until(lambda: value(metrics, named("ensue.events.retried"), subscription="mind"))
        await until(lambda: value(metrics, named("ensue.subscription.lag"), subscription="mind") == 0)
        await until(
            lambda: value(metrics, named("ensue.subscription.parked"), subscription="mind", waits_for="retry") == 0
        )
        content_type, text = await asyncio.to_thread(metrics.exposition, "application/openmetrics-text")
        assert value(metrics, named("ensue.subscription.partitions"), subscription="mind", state="worked") == 1
        assert value(metrics, named("ensue.workers")) == 1
    assert content_type.startswith("application/openmetrics-text")
    assert text.endswith(b"# EOF\n")

    def count(name: str, **labels: str) -> float | None:
        return value(metrics, named(name), **labels)

    assert count("ensue.events.recorded", type="test.metrics.metered") == 4
    assert count("ensue.events.recorded", type="test.metrics.sent.v1") == 1
    assert count("ensue.events.handled", subscription="mind", outcome="done") == 2
    assert count("ensue.events.handled", subscription="mind", outcome="retry") == 1
    assert count("ensue.events.handled", subscription="mind", outcome="park") == 1
    assert count("ensue.events.retried", subscription="mind") == 1
    assert count("ensue.events.parked", subscription="mind", waits_for="retry") == 1
    assert count("ensue.events.parked", subscription="mind", waits_for="person") == 1
    assert count("ensue.messages.published", subscription="relay", outcome="done") == 1
    assert count("ensue.messages.received", subscription="take") == 1
    assert count("ensue.lease.changes", subscription="mind", change="taken") == 1
    assert value(metrics, named("ensue.handling.duration"), "_count", subscription="mind") == 4
    assert value(metrics, named("ensue.publishing.duration"), "_count", subscription="relay") == 1
    assert (value(metrics, named("ensue.connection.wait"), "_count") or 0) > 0
    assert count("ensue.subscription.parked", subscription="mind", waits_for="person") == 1
    assert count("ensue.subscription.partitions", subscription="mind", state="free") == 1
    assert count("ensue.subscription.age", subscription="mind") == 0
    assert count("ensue.log.horizon") == app.operations.horizon()


async def test_of_a_batch_only_the_one_that_fails_counts_as_failed(app: App, schema: str) -> None:
    metrics, table = Metrics(app), f"metered_{schema}"
    with app.transaction() as connection:
        connection.execute(f"create table {table} (who text)")
        app.record(*[Metered(who=each) for each in ("a", "bad", "c")], via=connection)

    @app.projection(Metered, tables=[table])
    def kept(event: Metered, connection: Any) -> Park | None:
        return Park("no") if event.who == "bad" else None

    def count(outcome: str) -> float | None:
        return value(metrics, named("ensue.events.handled"), subscription="kept", outcome=outcome)

    async with app.running():
        await until(lambda: value(metrics, named("ensue.subscription.lag"), subscription="kept") == 0)
    assert (count("done"), count("park")) == (2, 1)
    assert (count("undone") or 0) > 0
    assert count("failed") is None


def test_lag_and_age_of_what_nobody_works_on(app: App) -> None:
    metrics = Metrics(app)

    @app.on(Metered)
    async def mind(_: Metered) -> None: ...

    app.migrate()
    with app.transaction() as connection:
        app.record(Metered(who="a"), Metered(who="b"), via=connection)
    assert value(metrics, named("ensue.subscription.lag"), subscription="mind") == 2
    assert (value(metrics, named("ensue.subscription.age"), subscription="mind") or 0) > 0
    app.operations.pause("mind", actor="test", reason="test")
    assert value(metrics, named("ensue.subscription.paused"), subscription="mind") == 1


def test_the_lag_is_counted_up_to_what_a_scrape_may_cost(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figures, "_COUNTED", 2)
    app.on(Metered, name="meter", start="beginning")(lambda event: None)
    app.migrate()
    with app.transaction() as connection:
        app.record(*(Metered(who="ann") for _ in range(5)), via=connection)
    assert value(Metrics(app), named("ensue.subscription.lag"), subscription="meter") == 2


def test_the_age_of_what_holds_the_horizon(postgres_url: str, schema: str) -> None:
    app = App("metrics", postgres_url, schema=schema, migrate=True)
    app.migrate()
    metrics = Metrics(app)
    assert value(metrics, named("ensue.log.horizon.age")) == 0
    with app.transaction() as connection:
        app.record(Metered(who="slow"), via=connection)
        assert (value(metrics, named("ensue.log.horizon.age")) or 0) > 0
        assert value(metrics, named("ensue.log.horizon")) == 0


def test_opentelemetry_has_the_same_instruments(app: App) -> None:
    reader = InMemoryMetricReader()
    measure_with(app, MeterProvider([reader], shutdown_on_exit=False))

    @app.on(Metered)
    async def mind(_: Metered) -> None: ...

    app.migrate()
    with app.transaction() as connection:
        app.record(Metered(who="a"), via=connection)
    data = reader.get_metrics_data()
    assert data is not None
    found = {
        metric.name: metric
        for each in data.resource_metrics
        for scope in each.scope_metrics
        for metric in scope.metrics
    }
    assert found.keys() == {each.name for each in ASKED} | {"ensue.events.recorded", "ensue.connection.wait"}
    (recorded,) = found["ensue.events.recorded"].data.data_points
    assert (recorded.value, dict(recorded.attributes or {})) == (1, {"app": "metrics", "type": "test.metrics.metered"})  # type: ignore[union-attr]
    (lag,) = found["ensue.subscription.lag"].data.data_points
    assert (lag.value, dict(lag.attributes or {})) == (1, {"app": "metrics", "subscription": "mind"})  # type: ignore[union-attr]


async def test_where_nobody_looks_nothing_of_it_runs(app: App) -> None:
    called: set[str] = set()
    seen: list[str] = []

    def note(frame: FrameType, event: str, _: object) -> None:
        if event == "call":
            called.add(frame.f_code.co_filename)

    @app.on(Metered)
    async def mind(event: Metered) -> None:
        seen.append(event.who)

    async with app.running():
        sys.setprofile(note)
        try:
            with app.transaction() as connection:
                app.record(Metered(who="a"), via=connection)
            await until(lambda: seen)
        finally:
            sys.setprofile(None)
    assert any(each.endswith("/subscriptions/attempting.py") for each in called)
    assert not [each for each in called if "/integrations/" in each or "/events/observer" in each]


# --- the dashboard and the alerts

NAME = re.compile(r"\bensue_[a-z_]+")


def exposed(app: App) -> set[str]:
    """Return every name under which something is found in Prometheus, and the labels it has."""
    names: set[str] = set()
    for each in (*COUNTED, *ASKED):
        names |= (
            {f"{each.prometheus}_{suffix}" for suffix in ("bucket", "count", "sum")}
            if each.kind == "histogram"
            else {each.prometheus}
        )
    text = Metrics(app).exposition()[1].decode()
    declared = set(re.findall(r"^# TYPE (\S+)", text, re.MULTILINE))
    assert declared == {each.prometheus for each in (*COUNTED, *ASKED)} | {
        each.prometheus.removesuffix("_total") + "_total" for each in COUNTED if each.kind == "counter"
    }
    return names


def test_the_dashboard_and_the_alerts_name_metrics_that_exist(tmp_path: Path) -> None:
    app = App("metrics", f"sqlite:///{tmp_path / 'log.db'}", migrate=True)
    app.migrate()
    known = exposed(app)
    dashboard = json.loads((DEPLOY / "grafana" / "ensue.json").read_text())
    alerts = (DEPLOY / "prometheus" / "alerts.yml").read_text()
    shown = {name for expr in expressions(dashboard) for name in NAME.findall(expr)}
    watched = {name for line in alerts.splitlines() if "expr:" in line for name in NAME.findall(line)}
    assert shown <= known
    assert watched <= known
    bases = {re.sub(r"_(bucket|count|sum)$", "", name) for name in shown}
    assert {each.prometheus for each in (*COUNTED, *ASKED)} - bases == set(), "everything is shown"
    assert {"ensue_subscription_age_seconds", "ensue_log_horizon_age_seconds", "ensue_subscription_parked"} <= watched


def test_labels_that_the_dashboard_and_the_alerts_ask_for_exist() -> None:
    labels = {each.prometheus: {"app", "le", *each.labels} for each in (*COUNTED, *ASKED)}
    dashboard = json.loads((DEPLOY / "grafana" / "ensue.json").read_text())
    alerts = (DEPLOY / "prometheus" / "alerts.yml").read_text()
    asked = [*expressions(dashboard), *(line for line in alerts.splitlines() if "expr:" in line)]
    for expr in asked:
        for name, inside in re.findall(r"\b(ensue_[a-z_]+)\{([^}]*)\}", expr):
            base = re.sub(r"_(bucket|count|sum)$", "", name)
            assert set(re.findall(r"(\w+)\s*(?:=~|!=|=)", inside)) <= labels[base], expr


def expressions(thing: Any) -> Iterator[str]:
    if isinstance(thing, dict):
        for key, each in thing.items():
            if key in ("expr", "query", "definition") and isinstance(each, str):
                yield each
            else:
                yield from expressions(each)
    elif isinstance(thing, list):
        for each in thing:
            yield from expressions(each)


def test_promtool_takes_the_alerts_and_they_fire_when_they_should() -> None:
    try:
        promtool = program("promtool", "prometheus")
    except NoServer as reason:
        missing(reason)
    for command in (("check", "alerts.yml"), ("test", "alerts_test.yml")):
        done = subprocess.run(
            [promtool, command[0], "rules", DEPLOY / "prometheus" / command[1]],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_has_a_test_in_which_it_fires_and_one_in_which_it_does_not() -> None:
    alerts = re.findall(r"^ +- alert: (\w+)$", (DEPLOY / "prometheus" / "alerts.yml").read_text(), re.MULTILINE)
    text = (DEPLOY / "prometheus" / "alerts_test.yml").read_text()
    tried = re.findall(r"alertname: (\w+)\n( +exp_alerts:)?", text)
    assert {name for name, fires in tried if fires} == set(alerts)
    assert {name for name, fires in tried if not fires} == set(alerts)
