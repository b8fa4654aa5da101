"""How a worker logs."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from enum import StrEnum

import msgspec

from ensue.cli.output import clean
from ensue.integrations.logs import ids_of


class LogFormat(StrEnum):
    """How a log line looks."""

    TEXT = "text"
    JSON = "json"


class _Utc(logging.Formatter):
    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: N802
        at = datetime.fromtimestamp(record.created, UTC)
        return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


class _Text(_Utc):
    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(name)s: %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802
        """Keep what others have written from passing for a line of its own, and from steering a terminal."""
        record.message = clean(record.message).replace("\n", "\n    ")
        return super().formatMessage(record)


class _Json(_Utc):
    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, object] = {
            "time": self.formatTime(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        entry |= ids_of(record)
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return msgspec.json.encode(entry).decode()


def set_up(level: str | None, format: LogFormat | None) -> None:
    """Log to the standard error, unless the application logs by itself and nothing was asked for."""
    root = logging.getLogger()
    if root.handlers and level is None and format is None:
        return
    if not root.handlers or format is not None:
        handler = logging.StreamHandler()
        handler.setFormatter(_Json() if format is LogFormat.JSON else _Text())
        root.handlers[:] = [handler]
    root.setLevel((level or "info").upper())
