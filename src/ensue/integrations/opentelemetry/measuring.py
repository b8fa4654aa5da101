"""Metrics by OpenTelemetry, of the same instruments as those of Prometheus."""

from __future__ import annotations

import time
from collections.abc import Iterable
from functools import partial
from threading import Lock
from typing import Any

from opentelemetry import metrics
from opentelemetry.metrics import CallbackOptions, Meter, MeterProvider, Observation

from ensue.app import App
from ensue.integrations.counting import Counting
from ensue.integrations.figures import Figure, figures
from ensue.integrations.instruments import ASKED, BUCKETS, COUNTED, Instrument

_FRESH = 1.0
"""Seconds for which what the log has said is still true."""


def measure_with(app: App, provider: MeterProvider | None = None) -> None:
    """Measure an application: counts of this process, and figures of the log whenever the provider's reader asks.

    Without a provider it is the global one, looked up now. Call it once, before a worker is started. Figures come from
    every process alike: let one of them export, or take the maximum.
    """
    meter = metrics.get_meter("ensue", meter_provider=provider)
    app.observe(Counting(_Counts(app.name, meter)))
    asked = _Asked(app)
    for each in ASKED:
        meter.create_observable_gauge(each.name, [partial(asked.of, each)], unit=each.unit, description=each.about)


class _Counts:
    """Keeps counts in OpenTelemetry's instruments."""

    def __init__(self, app: str, meter: Meter) -> None:
        self._app = app
        self._kept: dict[Instrument, Any] = {}
        for each in COUNTED:
            if each.kind == "counter":
                self._kept[each] = meter.create_counter(each.name, unit=each.unit, description=each.about)
            else:
                self._kept[each] = meter.create_histogram(
                    each.name, unit=each.unit, description=each.about, explicit_bucket_boundaries_advisory=BUCKETS
                )

    def add(self, instrument: Instrument, amount: int, *labels: str) -> None:
        self._kept[instrument].add(amount, _labels(self._app, instrument, labels))

    def note(self, instrument: Instrument, seconds: float, *labels: str) -> None:
        self._kept[instrument].record(seconds, _labels(self._app, instrument, labels))


def _labels(app: str, instrument: Instrument, labels: tuple[str, ...]) -> dict[str, str]:
    return {"app": app, **dict(zip(instrument.labels, labels, strict=True))}


class _Asked:
    """Asks the log once for all instruments that a reader goes through."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._lock = Lock()
        self._figures: list[Figure] = []
        self._asked_at = -_FRESH

    def of(self, instrument: Instrument, _: CallbackOptions) -> Iterable[Observation]:
        """Return the values of one instrument; raises what the database raises."""
        with self._lock:
            if time.monotonic() - self._asked_at >= _FRESH:
                self._figures = list(figures(self._app))
                self._asked_at = time.monotonic()
            found = self._figures
        return [
            Observation(each.value, _labels(self._app.name, instrument, each.labels))
            for each in found
            if each.instrument is instrument
        ]
