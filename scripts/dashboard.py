"""Make the Grafana dashboard from the description of the instruments: `python scripts/dashboard.py [--check]`.

Each instrument is named once below; a name that does not exist is an error.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, NamedTuple

from ensue.integrations import instruments as has
from ensue.integrations.instruments import Instrument

DASHBOARD = Path(__file__).parent.parent / "deploy" / "grafana" / "ensue.json"
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
OURS = 'app=~"$app"'
MINE = f'{OURS}, subscription=~"$subscription"'


class Panel(NamedTuple):
    """A graph; in `lines` each query with its legend."""

    title: str
    about: str
    unit: str
    lines: tuple[tuple[str, str], ...]
    worry: float | None = None
    """From here on it is red."""


def latest(instrument: Instrument, legend: str, more: str = "") -> tuple[str, str]:
    """Return the query of a gauge; every process says the same, so the largest counts."""
    where = (MINE if "subscription" in instrument.labels else OURS) + more
    by = ", ".join(("app", *instrument.labels))
    return f"max by ({by}) ({instrument.prometheus}{{{where}}})", legend


def rate(instrument: Instrument, legend: str, more: str = "") -> tuple[str, str]:
    """Return the query of a counter, per second over all processes."""
    where = (MINE if "subscription" in instrument.labels else OURS) + more
    by = ", ".join(instrument.labels) or "app"
    return f"sum by ({by}) (rate({instrument.prometheus}{{{where}}}[$__rate_interval]))", legend


def quantiles(instrument: Instrument) -> tuple[tuple[str, str], ...]:
    """Return the queries of a histogram."""
    where = MINE if "subscription" in instrument.labels else OURS
    by = ", ".join(("le", *instrument.labels))
    who = "{{subscription}} " if instrument.labels else ""
    bucket = f"sum by ({by}) (rate({instrument.prometheus}_bucket{{{where}}}[$__rate_interval]))"
    return tuple((f"histogram_quantile({q}, {bucket})", f"{who}{name}") for q, name in ((0.5, "p50"), (0.99, "p99")))


ROWS: dict[str, tuple[Panel, ...]] = {
    "Does everything follow": (
        Panel("Age", has.AGE.about, "s", (latest(has.AGE, "{{subscription}}"),), 60),
        Panel("Lag", has.LAG.about, "short", (latest(has.LAG, "{{subscription}}"),)),
        Panel("Parked keys", has.WAITS.about, "short", (latest(has.WAITS, "{{subscription}}: {{waits_for}}"),), 1),
    ),
    "What happens": (
        Panel("Recorded", has.RECORDED.about, "ops", (rate(has.RECORDED, "{{type}}"),)),
        Panel("Handled", has.HANDLED.about, "ops", (rate(has.HANDLED, "{{subscription}}: {{outcome}}"),)),
        Panel("Handling time", has.HANDLING.about, "s", quantiles(has.HANDLING)),
        Panel(
            "Failures",
            "Tries after the first, and what was parked",
            "ops",
            (
                rate(has.RETRIED, "{{subscription}}: tried again"),
                rate(has.PARKED, "{{subscription}}: waits for {{waits_for}}"),
            ),
        ),
    ),
    "Brokers": (
        Panel("Published", has.PUBLISHED.about, "ops", (rate(has.PUBLISHED, "{{subscription}}: {{outcome}}"),)),
        Panel("Received", has.RECEIVED.about, "ops", (rate(has.RECEIVED, "{{subscription}}"),)),
        Panel("Publishing time", has.PUBLISHING.about, "s", quantiles(has.PUBLISHING)),
        Panel("Held", has.HELD.about, "s", (latest(has.HELD, "{{subscription}}"),), 300),
    ),
    "Workers and the log": (
        Panel("Workers", has.WORKERS.about, "short", (latest(has.WORKERS, "{{app}}"),)),
        Panel("Partitions", has.PARTITIONS.about, "short", (latest(has.PARTITIONS, "{{subscription}}: {{state}}"),)),
        Panel("Lease changes", has.LEASES.about, "ops", (rate(has.LEASES, "{{subscription}}: {{change}}"),)),
        Panel("Paused", has.PAUSED.about, "short", (latest(has.PAUSED, "{{subscription}}"),)),
        Panel("Horizon held back", has.HORIZON_AGE.about, "s", (latest(has.HORIZON_AGE, "{{app}}"),), 60),
        Panel(
            "Positions",
            "The horizon, and how far each subscription is",
            "short",
            (latest(has.HORIZON, "horizon of {{app}}"), latest(has.CHECKPOINT, "{{subscription}}")),
        ),
        Panel("Waits for a connection", has.WAITING.about, "s", quantiles(has.WAITING)),
    ),
}


def variable(name: str, query: str) -> dict[str, Any]:
    """Return a choice of values, all of them at first."""
    return {
        "name": name,
        "type": "query",
        "datasource": SOURCE,
        "query": {"query": query, "refId": name},
        "definition": query,
        "multi": True,
        "includeAll": True,
        "current": {"text": "All", "value": "$__all"},
        "refresh": 2,
        "sort": 1,
    }


def dashboard() -> dict[str, Any]:
    """Return it as Grafana imports it."""
    panels: list[dict[str, Any]] = []
    y = 0
    for title, row in ROWS.items():
        panels.append({"type": "row", "title": title, "id": len(panels) + 1, "gridPos": at(0, y, 24, 1), "panels": []})
        y += 1
        for number, each in enumerate(row):
            x = 8 * (number % 3)
            panels.append(graph(each, len(panels) + 1, at(x, y + 8 * (number // 3), 8, 8)))
        y += 8 * ((len(row) + 2) // 3)
    return {
        "title": "ensue",
        "uid": "ensue",
        "tags": ["ensue"],
        "schemaVersion": 39,
        "version": 1,
        "editable": True,
        "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"},
        "templating": {
            "list": [
                {"name": "datasource", "type": "datasource", "query": "prometheus", "label": "Prometheus"},
                variable("app", f"label_values({has.HORIZON.prometheus}, app)"),
                variable("subscription", f'label_values({has.LAG.prometheus}{{app=~"$app"}}, subscription)'),
            ]
        },
        "panels": panels,
    }


def graph(panel: Panel, id: int, place: dict[str, int]) -> dict[str, Any]:
    """Return a panel."""
    steps: list[dict[str, Any]] = [{"color": "green", "value": None}]
    if panel.worry is not None:
        steps.append({"color": "red", "value": panel.worry})
    return {
        "type": "timeseries",
        "id": id,
        "title": panel.title,
        "description": panel.about,
        "datasource": SOURCE,
        "gridPos": place,
        "fieldConfig": {
            "defaults": {
                "unit": panel.unit,
                "min": 0,
                "custom": {"thresholdsStyle": {"mode": "off" if panel.worry is None else "line"}},
                "thresholds": {"mode": "absolute", "steps": steps},
            },
            "overrides": [],
        },
        "options": {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi"}},
        "targets": [
            {"refId": chr(65 + number), "datasource": SOURCE, "expr": expr, "legendFormat": legend}
            for number, (expr, legend) in enumerate(panel.lines)
        ],
    }


def at(x: int, y: int, width: int, height: int) -> dict[str, int]:
    """Return a place on the grid."""
    return {"x": x, "y": y, "w": width, "h": height}


def main() -> int:
    """Write it, or say whether it is up to date."""
    text = json.dumps(dashboard(), indent=2) + "\n"
    if "--check" not in sys.argv[1:]:
        DASHBOARD.parent.mkdir(parents=True, exist_ok=True)
        DASHBOARD.write_text(text)
        return 0
    if DASHBOARD.exists() and DASHBOARD.read_text() == text:
        return 0
    print(f"{DASHBOARD.name} is out of date: run python scripts/dashboard.py", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
