"""Metrics by Prometheus, in its text format or as OpenMetrics. `pip install 'ensue[prometheus]'`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from ensue.app import App
from ensue.integrations.counting import Counting
from ensue.integrations.figures import figures
from ensue.integrations.instruments import ASKED, BUCKETS, COUNTED, Instrument


class Metrics:
    """The metrics of an application: what this process does is counted, and the log is asked when somebody looks.

    They are in a registry of their own, or in yours. Make it once, before a worker is started. Safe for threads.
    """

    def __init__(self, app: App, registry: CollectorRegistry | None = None) -> None:
        self.registry = registry or CollectorRegistry(auto_describe=False)
        app.observe(Counting(_Counts(app.name, self.registry)))
        self.registry.register(_Asking(app))

    def exposition(self, accept: str = "") -> tuple[str, bytes]:
        """Return the content type and the text, as OpenMetrics if the `Accept` header asks for that.

        Raises what the database raises.
        """
        encode, content_type = choose_encoder(accept)
        return content_type, encode(self.registry)


class _Counts:
    """Keeps counts in Prometheus' own metrics."""

    def __init__(self, app: str, registry: CollectorRegistry) -> None:
        self._app = app
        self._kept: dict[Instrument, Any] = {}
        for each in COUNTED:
            labels = ("app", *each.labels)
            if each.kind == "counter":
                self._kept[each] = Counter(each.prometheus, each.about, labels, registry=registry)
            else:
                self._kept[each] = Histogram(each.prometheus, each.about, labels, registry=registry, buckets=BUCKETS)

    def add(self, instrument: Instrument, amount: int, *labels: str) -> None:
        self._kept[instrument].labels(self._app, *labels).inc(amount)

    def note(self, instrument: Instrument, seconds: float, *labels: str) -> None:
        self._kept[instrument].labels(self._app, *labels).observe(seconds)


class _Asking(Collector):
    """Asks the log."""

    def __init__(self, app: App) -> None:
        self._app = app

    def collect(self) -> Iterator[Metric]:
        families = {
            each: GaugeMetricFamily(each.prometheus, each.about, labels=("app", *each.labels)) for each in ASKED
        }
        for figure in figures(self._app):
            families[figure.instrument].add_metric((self._app.name, *figure.labels), figure.value)
        yield from families.values()

    def describe(self) -> Iterator[Metric]:
        """Describe them without asking: the log may not be there yet."""
        for each in ASKED:
            yield GaugeMetricFamily(each.prometheus, each.about, labels=("app", *each.labels))
