"""What a worker serves beside its work."""

from __future__ import annotations

import logging
from collections.abc import Generator
from contextlib import ExitStack, contextmanager

from ensue.app import App
from ensue.cli.target import TargetError
from ensue.integrations.endpoints import Endpoints, served
from ensue.integrations.health import Pulse

logger = logging.getLogger("ensue")


@contextmanager
def beside(app: App, where: str) -> Generator[Pulse]:
    """Serve health, and metrics if they can be had, as long as the block lasts; yield what watches the worker."""
    host, port = _place(where)
    try:
        from ensue.integrations.prometheus import Metrics
    except ModuleNotFoundError as error:
        if error.name != "prometheus_client":
            raise
        metrics = None
    else:
        metrics = Metrics(app)
    pulse = Pulse()
    with ExitStack() as stack:
        try:
            found = stack.enter_context(served(Endpoints(app, pulse=pulse, metrics=metrics), host, port))
        except OSError as error:
            what = error.strerror or error
            raise TargetError(f"--http {where}: {what}; name another port, or 0 for a free one") from error
        what = "/healthz, /readyz and /metrics"
        if metrics is None:
            what = "/healthz and /readyz (for /metrics: pip install 'ensue[prometheus]')"
        logger.info("serving %s at http://%s:%d", what, host, found)
        yield pulse


def _place(where: str) -> tuple[str, int]:
    host, _, port = where.rpartition(":")
    if not port.isdecimal() or int(port) > 65535:
        raise TargetError(f"--http {where}: write it as a port, 9100, or with an address, 0.0.0.0:9100")
    return host.strip("[]") or "127.0.0.1", int(port)
