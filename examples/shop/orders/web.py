"""How customers place orders: `PUT /orders/<id>`.

`python -m examples.shop.orders.web PORT` serves until it is killed.
"""

from __future__ import annotations

import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from uuid import UUID

from sqlalchemy import exc

from ensue import context

from .app import Sessions, place


class Handler(BaseHTTPRequestHandler):
    """Places an order for each request: the order and the event are committed together, then it answers."""

    def do_PUT(self) -> None:
        """Answer 201 if the order is placed now, 200 if it was before."""
        try:
            order_id = UUID(self.path.removeprefix("/orders/"))
            wanted = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with context(traceparent=self.headers["traceparent"]), Sessions.begin() as session:
                new = place(session, order_id, wanted["customer"], wanted["item"], int(wanted["quantity"]))
        except (ValueError, KeyError, TypeError):
            self._answer(400)
        except exc.SQLAlchemyError:
            self._answer(503)
        else:
            self._answer(201 if new else 200)

    def _answer(self, status: int) -> None:
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing of requests that went well."""


if __name__ == "__main__":
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
