"""The console as JSON: the same queries and actions under `/api/`, with an OpenAPI document."""

from ensue.console.api.serving import Api

__all__ = ["Api"]
