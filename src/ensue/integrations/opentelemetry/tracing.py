"""Traces by OpenTelemetry: recording, publishing, receiving and handling an event are spans of one trace.

An event carries the trace context of its recording, in the log and to other services. Names and attributes follow
OpenTelemetry's semantic conventions for messaging.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Literal

from msgspec.structs import replace
from opentelemetry import context as contexts
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Link, Span, SpanKind, Status, StatusCode, Tracer, TracerProvider
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from ensue.app import App
from ensue.events import Act, Ending, Event, Receipt, Seen, current_metadata, restored
from ensue.log import Steps

_SYSTEM = "ensue"
_wire = TraceContextTextMapPropagator()
Attributes = dict[str, str | int]


def trace_with(app: App, provider: TracerProvider | None = None) -> None:
    """Trace an application: what it records, publishes, receives and handles becomes spans of a tracer provider.

    Without one it is the global one, looked up now. An event that is recorded inside a span belongs to its trace; so
    does everything that follows from it, in this service and in others. Call it once, before a worker is started.
    """
    app.observe(Tracing(app.name, trace.get_tracer("ensue", tracer_provider=provider)))


def export_traces(app: App) -> TracerProvider:
    """Trace an application and send the spans to an OTLP collector over HTTP; return the provider that does.

    It is set up by OpenTelemetry's own variables, `OTEL_EXPORTER_OTLP_ENDPOINT` first of all. The service's name is the
    application's unless `OTEL_SERVICE_NAME` says otherwise. Spans go out in batches, by a thread of the provider's own;
    what waits is sent when the process ends. Needs `ensue[opentelemetry]`.
    """
    import os

    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import SERVICE_NAME, Resource
    from opentelemetry.sdk.trace import TracerProvider as SdkTracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    made = SdkTracerProvider(resource=Resource.create({SERVICE_NAME: os.environ.get("OTEL_SERVICE_NAME", app.name)}))
    made.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace_with(app, made)
    return made


class Tracing:
    """Makes spans of what happens in one application."""

    def __init__(self, service: str, tracer: Tracer) -> None:
        self._service = service
        self._tracer = tracer

    # --- recording

    def record(
        self, events: Sequence[Event], stream: str | None, append: Callable[[], Steps[Receipt]]
    ) -> Steps[Receipt]:
        """Begin a span, let the events carry its context, and end it when they are recorded."""
        types = sorted({getattr(type(each), "__type__", type(each).__name__) for each in events})
        destination = ", ".join(types)
        attributes = self._attributes("record", "create", destination)
        if stream is not None:
            attributes["ensue.stream"] = stream
        if len(events) > 1:
            attributes["messaging.batch.message_count"] = len(events)
        span = self._tracer.start_span(
            f"record {destination}", context=_here(), kind=SpanKind.PRODUCER, attributes=attributes
        )
        try:
            with restored(
                replace(current_metadata(), traceparent=_traceparent(span) or current_metadata().traceparent)
            ):
                steps = append()
        except BaseException as error:
            _fail(span, error)
            span.end()
            raise
        return _ended(span, steps)

    def traceparent(self) -> str | None:
        """Return the context of the current span, if there is one."""
        span = trace.get_current_span()
        return _traceparent(span)

    # --- carrying

    @contextmanager
    def publish(self, subscription: str, system: str, topics: Sequence[str], events: Sequence[Seen]) -> Generator[Act]:
        """Make a span for each event: each belongs to the trace of its own event."""
        spans: list[Span] = []
        for topic, event in zip(topics, events, strict=True):
            attributes = self._attributes("publish", "send", topic, system) | _about(event, subscription)
            spans.append(
                self._tracer.start_span(
                    f"publish {topic}", context=_context_of(event), kind=SpanKind.CLIENT, attributes=attributes
                )
            )
        with _until_left(spans) as act:
            yield act

    def receive(self, subscription: str, system: str, messages: Sequence[Seen]) -> AbstractContextManager[Act]:
        """Make a span for what was fetched together, linked to each message."""
        return self._together("receive", "receive", system, subscription, messages, SpanKind.CLIENT)

    def process(self, subscription: str, events: Sequence[Seen]) -> AbstractContextManager[Act]:
        """Make a span for a handler's call, or for the transaction in which several events are applied."""
        return self._together("process", "process", _SYSTEM, subscription, events, SpanKind.CONSUMER)

    @contextmanager
    def _together(
        self, name: str, kind_of: str, system: str, subscription: str, events: Sequence[Seen], kind: SpanKind
    ) -> Generator[Act]:
        destination = ", ".join(sorted({each.type for each in events}))
        attributes = self._attributes(name, kind_of, destination, system)
        attributes["messaging.consumer.group.name"] = subscription
        parent: Context | None = None
        links: list[Link] = []
        if len(events) == 1:
            parent = _context_of(events[0])
            attributes |= _about(events[0], subscription)
        else:
            attributes["messaging.batch.message_count"] = len(events)
            links = list(_links(events))
            parent = Context()  # of a trace of its own: it belongs to all of them alike
        span = self._tracer.start_span(
            f"{name} {destination}", context=parent, kind=kind, attributes=attributes, links=links
        )
        # What is recorded on behalf of one event among many belongs to the trace of that event, not to the batch's.
        current = trace.set_span_in_context(span) if len(events) == 1 else contexts.get_current()
        token = contexts.attach(current)
        try:
            with _until_left([span]) as act:
                yield act
        finally:
            contexts.detach(token)

    # --- what is counted, not traced

    def failed(self, subscription: str, *, waits: bool) -> None:
        """Nothing: its span says so."""

    def leased(self, subscription: str, change: Literal["taken", "given back", "lost"]) -> None:
        """Nothing."""

    def waited(self, seconds: float) -> None:
        """Nothing."""

    def _attributes(self, name: str, kind: str, destination: str, system: str = _SYSTEM) -> Attributes:
        return {
            "messaging.system": system,
            "messaging.operation.name": name,
            "messaging.operation.type": kind,
            "messaging.destination.name": destination,
            "ensue.service": self._service,
        }


class _Spans:
    """One span for each event, or one for all."""

    def __init__(self, spans: Sequence[Span]) -> None:
        self.spans = spans
        self.ended = False

    def end(self, endings: Sequence[Ending]) -> None:
        self.ended = True
        if len(self.spans) == len(endings):
            for span, ending in zip(self.spans, endings, strict=True):
                _say(span, ending)
        else:
            different = {each.how: each for each in endings if each.how != "done"}
            for ending in sorted(
                different.values(), key=lambda each: each.how != "undone"
            ):  # why comes last, and stays
                _say(self.spans[0], ending)


@contextmanager
def _until_left(spans: Sequence[Span]) -> Generator[Act]:
    act = _Spans(spans)
    try:
        yield act
    except BaseException as error:
        if not act.ended:
            for span in spans:
                _fail(span, error)
        raise
    finally:
        for span in spans:
            span.end()


def _ended(span: Span, steps: Steps[Receipt]) -> Steps[Receipt]:
    try:
        receipt = yield from steps
    except BaseException as error:
        _fail(span, error)
        raise
    else:
        span.set_attribute("messaging.message.id", receipt.id_texts[-1])
        span.set_attribute("ensue.position", receipt.positions[-1])
        if receipt.duplicate:
            span.set_attribute("ensue.duplicate", True)
        return receipt
    finally:
        span.end()


def _say(span: Span, ending: Ending) -> None:
    if ending.how == "done":
        return
    span.set_attribute("ensue.outcome", ending.how)
    if ending.how == "undone":
        return
    if ending.how == "hold":  # nothing is wrong with the event
        span.add_event("held", {"reason": ending.reason})
        return
    span.set_status(Status(StatusCode.ERROR, ending.reason))
    span.set_attribute("error.type", ending.error or ending.how)
    if ending.trace:
        span.add_event(
            "exception",
            {
                "exception.type": ending.error,
                "exception.message": ending.reason,
                "exception.stacktrace": ending.trace,
            },
        )


def _fail(span: Span, error: BaseException) -> None:
    span.record_exception(error)
    span.set_status(Status(StatusCode.ERROR, f"{type(error).__qualname__}: {error}"))
    span.set_attribute("error.type", type(error).__qualname__)


def _about(event: Seen, subscription: str) -> Attributes:
    about: Attributes = {"messaging.message.id": event.id, "ensue.subscription": subscription, "ensue.key": event.key}
    if event.correlation_id is not None:
        about["messaging.message.conversation_id"] = event.correlation_id
    if event.position is not None:
        about["ensue.position"] = event.position
    if event.attempt > 1:
        about["ensue.attempt"] = event.attempt
    return about


def _here() -> Context | None:
    """Return where a recording belongs: in the current span, else in the trace that the metadata names."""
    if trace.get_current_span().get_span_context().is_valid:
        return None
    traceparent = current_metadata().traceparent
    return None if traceparent is None else _extracted(traceparent)


def _context_of(event: Seen) -> Context:
    """Return where the handling of an event belongs, which is never what goes on in the worker at the time."""
    return Context() if event.traceparent is None else _extracted(event.traceparent)


def _extracted(traceparent: str) -> Context:
    return _wire.extract({"traceparent": traceparent}, Context())


def _links(events: Iterable[Seen]) -> Generator[Link]:
    for each in events:
        if each.traceparent is not None:
            found = trace.get_current_span(_extracted(each.traceparent)).get_span_context()
            if found.is_valid:
                yield Link(found, {"messaging.message.id": each.id})


def _traceparent(span: Span) -> str | None:
    carrier: dict[str, Any] = {}
    _wire.inject(carrier, trace.set_span_in_context(span))
    return carrier.get("traceparent")
