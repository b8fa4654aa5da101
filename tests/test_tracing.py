"""Spans of what is recorded and handled: whose child each is, and what it says."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from ensue import App, Backoff, Delivery, DomainEvent, IntegrationEvent, Park, context
from ensue.brokers.memory import _all
from ensue.errors import EventValueError
from ensue.integrations.logs import IdsFilter, log_ids
from ensue.integrations.opentelemetry import trace_with
from ensue.integrations.prometheus import Metrics
from tests.patience import until


class Asked(DomainEvent, key="who", name="test.tracing.asked"):
    who: str


class Answered(DomainEvent, key="who", name="test.tracing.answered"):
    who: str


class Told(IntegrationEvent, version=1, key="who", name="test.tracing.told"):
    who: str


class Spans:
    """The spans that have ended."""

    def __init__(self) -> None:
        self._memory = InMemorySpanExporter()
        self.provider = TracerProvider(shutdown_on_exit=False)
        self.provider.add_span_processor(SimpleSpanProcessor(self._memory))
        self.tracer = self.provider.get_tracer("test")

    def named(self, name: str) -> list[ReadableSpan]:
        return [each for each in self._memory.get_finished_spans() if each.name == name]

    def one(self, name: str) -> ReadableSpan:
        (found,) = self.named(name)
        return found


def parent(span: ReadableSpan) -> int | None:
    return None if span.parent is None else span.parent.span_id


def id_of(span: ReadableSpan) -> int:
    assert span.context is not None
    return int(span.context.span_id)


@pytest.fixture
def spans() -> Spans:
    return Spans()


@pytest.fixture(params=["sqlite", "postgresql"])
def app(request: pytest.FixtureRequest, tmp_path: Path, schema: str, spans: Spans) -> Iterator[App]:
    if request.param == "sqlite":
        made = App("tracing", f"sqlite:///{tmp_path / 'log.db'}", schema=schema, migrate=True)
    else:
        made = App("tracing", request.getfixturevalue("postgres_url"), schema=schema, migrate=True)
    trace_with(made, spans.provider)
    yield made
    _all.clear()


def record(app: App, *events: Any) -> None:
    with app.transaction() as connection:
        app.record(*events, via=connection)


async def test_a_sync_handler_is_a_child_of_the_recording_and_its_recording_a_child_of_it(
    app: App, spans: Spans
) -> None:
    @app.on(Asked)
    def answer(event: Asked) -> None:
        record(app, Answered(who=event.who))

    @app.on(Answered)
    def end(_: Answered) -> None: ...

    async with app.running():
        with spans.tracer.start_as_current_span("request"):
            record(app, Asked(who="ada"))
        await until(lambda: spans.named("process test.tracing.answered"))
    request, recorded = spans.one("request"), spans.one("record test.tracing.asked")
    handled, again = spans.one("process test.tracing.asked"), spans.one("record test.tracing.answered")
    assert [parent(each) for each in (recorded, handled, again, spans.one("process test.tracing.answered"))] == [
        id_of(each) for each in (request, recorded, handled, again)
    ]
    assert recorded.kind is trace.SpanKind.PRODUCER
    assert handled.kind is trace.SpanKind.CONSUMER
    assert handled.attributes is not None
    (event,) = app.read(types=[Asked])
    assert (event.metadata.traceparent or "").startswith(f"00-{trace_of(recorded):032x}-{id_of(recorded):016x}-")
    assert dict(handled.attributes) == {
        "messaging.system": "ensue",
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.destination.name": "test.tracing.asked",
        "messaging.consumer.group.name": "answer",
        "messaging.message.id": str(event.id),
        "messaging.message.conversation_id": str(event.id),
        "ensue.service": "tracing",
        "ensue.subscription": "answer",
        "ensue.key": "ada",
        "ensue.position": event.position,
    }


async def test_an_async_handler_and_an_async_recording(app: App, spans: Spans) -> None:
    @app.on(Asked)
    async def answer(event: Asked) -> None:
        async with app.transaction() as connection:
            await app.record(Answered(who=event.who), via=connection)

    async with app.running():
        with spans.tracer.start_as_current_span("request"):
            async with app.transaction() as connection:
                await app.record(Asked(who="ada"), via=connection)
        await until(lambda: spans.named("process test.tracing.asked"))
    recorded = spans.one("record test.tracing.asked")
    handled = spans.one("process test.tracing.asked")
    assert parent(recorded) == id_of(spans.one("request"))
    assert parent(handled) == id_of(recorded)
    assert parent(spans.one("record test.tracing.answered")) == id_of(handled)


def trace_of(span: ReadableSpan) -> int:
    assert span.context is not None
    return int(span.context.trace_id)


async def test_what_fails_says_so_and_every_try_is_a_span(app: App, spans: Spans) -> None:
    @app.on(Asked, retry=Backoff(first=0.01, most=0.02))
    async def flaky(_: Asked, delivery: Delivery) -> Park | None:
        if delivery.attempt == 1:
            raise ConnectionError("they are away")
        return Park("no such customer")

    record(app, Answered(who="nobody"))
    async with app.running():
        record(app, Asked(who="ada"))
        await until(lambda: len(spans.named("process test.tracing.asked")) == 2)
    first, second = spans.named("process test.tracing.asked")
    assert parent(first) == parent(second) == id_of(spans.one("record test.tracing.asked"))
    assert first.status.status_code is second.status.status_code is StatusCode.ERROR
    assert first.status.description == "ConnectionError: they are away"
    assert first.attributes is not None
    assert second.attributes is not None
    assert first.attributes["error.type"] == "ConnectionError"
    assert "they are away" in str((first.events[0].attributes or {})["exception.stacktrace"])
    assert (second.attributes["ensue.outcome"], second.attributes["ensue.attempt"]) == ("park", 2)


async def test_a_transaction_of_several_events_is_a_span_of_its_own_linked_to_each(
    app: App, spans: Spans, schema: str
) -> None:
    for who in ("ada", "bert"):
        with spans.tracer.start_as_current_span(who):
            record(app, Asked(who=who))

    table = f"asked_{schema}"
    with app.transaction() as connection:
        connection.execute(f"create table {table} (who text primary key)")

    @app.projection(Asked, tables=[table])
    def count(event: Asked, connection: Any) -> None: ...

    async with app.running():
        await until(lambda: spans.named("process test.tracing.asked"))
    (handled,) = spans.named("process test.tracing.asked")
    asked = spans.named("record test.tracing.asked")
    assert parent(handled) is None
    assert trace_of(handled) not in {trace_of(each) for each in asked}
    assert [link.context.span_id for link in handled.links] == [id_of(each) for each in asked]
    assert (handled.attributes or {})["messaging.batch.message_count"] == 2


def test_a_recording_that_is_refused_is_a_span_that_says_so(app: App, spans: Spans) -> None:
    with app.transaction() as connection, pytest.raises(EventValueError):
        app.record(Asked(who=""), via=connection)
    assert spans.one("record test.tracing.asked").status.status_code is StatusCode.ERROR


def test_without_a_span_the_metadata_says_where_it_belongs(app: App, spans: Spans) -> None:
    with context(traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"):
        record(app, Asked(who="ada"))
    recorded = spans.one("record test.tracing.asked")
    assert (trace_of(recorded), parent(recorded)) == (0x0AF7651916CD43DD8448EB211C80319C, 0xB7AD6B7169203331)


async def test_a_timer_belongs_to_who_set_it(app: App, spans: Spans) -> None:
    @app.on(Asked)
    async def late(_: Asked) -> None: ...

    async with app.running():
        with spans.tracer.start_as_current_span("request"), app.transaction() as connection:
            app.after(0.01, Asked(who="ada"), via=connection)
        await until(lambda: spans.named("process test.tracing.asked"))
    assert parent(spans.one("process test.tracing.asked")) == id_of(spans.one("request"))


async def test_what_was_recorded_before_there_were_traces_begins_one(app: App, spans: Spans) -> None:
    app.log.observer = None
    record(app, Asked(who="ada"))
    trace_with(app, spans.provider)

    @app.on(Asked, start="beginning")
    async def late(_: Asked) -> None: ...

    with spans.tracer.start_as_current_span("what the worker was started in"):
        async with app.running():
            await until(lambda: spans.named("process test.tracing.asked"))
    assert parent(spans.one("process test.tracing.asked")) is None


async def test_over_a_broker_and_an_inbox(app: App, spans: Spans, schema: str) -> None:
    broker = f"memory://{schema.replace('_', '-')}"
    app.relay(broker, Told)
    taken: list[str] = []

    @app.receive(Told, source=broker)
    def take(event: Told) -> None:
        taken.append(event.who)

    async with app.running():
        with spans.tracer.start_as_current_span("request"):
            record(app, Told(who="ada"))
        await until(lambda: taken)
        await until(lambda: spans.named("receive test.tracing.told.v1"))
        await until(lambda: spans.named("publish test.tracing.told.v1"))
    recorded = id_of(spans.one("record test.tracing.told.v1"))
    for name in ("publish", "receive", "process"):
        assert parent(spans.one(f"{name} test.tracing.told.v1")) == recorded, name


@pytest.mark.parametrize("observed", [False, True])
async def test_when_nobody_is_told_nothing_is_prepared_for_it(tmp_path: Path, spans: Spans, observed: bool) -> None:
    """Count the calls of what is there for observers, in all threads, while an event is recorded and handled."""
    app = App("off", f"sqlite:///{tmp_path / 'log.db'}", migrate=True)
    done: list[Asked] = []
    app.on(Asked, name="note", start="beginning")(done.append)
    if observed:
        trace_with(app, spans.provider)
    seen: list[str] = []

    def note(frame: FrameType, event: str, _: Any) -> None:
        where = frame.f_code.co_filename
        if event == "call" and where.endswith(("observer.py", "witnessing.py", "opentelemetry/tracing.py")):
            seen.append(where)

    threading.setprofile(note)
    sys.setprofile(note)
    try:
        async with app.running():
            record(app, Asked(who="ada"))
            await until(lambda: done)
    finally:
        sys.setprofile(None)
        threading.setprofile(None)
    assert bool(seen) is observed


class Kept(logging.Handler):
    """Keeps what is logged."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record)


async def test_traces_metrics_and_ids_of_log_lines_together(app: App, spans: Spans) -> None:
    metrics = Metrics(app)
    log_ids(app)
    handler = Kept()
    handler.addFilter(IdsFilter())
    logger = logging.getLogger("test.tracing")
    logger.addHandler(handler)

    @app.on(Asked)
    def note(_: Asked) -> None:
        logger.warning("asked")

    try:
        async with app.running():
            record(app, Asked(who="ada"))
            await until(lambda: spans.named("process test.tracing.asked"))
        logger.warning("outside")
    finally:
        logger.removeHandler(handler)
    handled = spans.one("process test.tracing.asked")
    assert parent(handled) == id_of(spans.one("record test.tracing.asked"))
    (event,) = app.read()
    inside, outside = (vars(each) for each in handler.lines)
    assert [inside[name] for name in ("subscription", "event_id", "position")] == [
        "note",
        str(event.id),
        event.position,
    ]
    assert (inside["trace_id"], inside["span_id"]) == (f"{trace_of(handled):032x}", f"{id_of(handled):016x}")
    assert (outside["event_id"], outside["trace_id"]) == ("-", "-")
    labels = {"app": "tracing", "subscription": "note", "outcome": "done"}
    assert metrics.registry.get_sample_value("ensue_events_handled_total", labels) == 1
