"""Traces and metrics by OpenTelemetry. `pip install 'ensue[opentelemetry]'`."""

from ensue.integrations.opentelemetry.measuring import measure_with
from ensue.integrations.opentelemetry.tracing import export_traces, trace_with

__all__ = ["export_traces", "measure_with", "trace_with"]
