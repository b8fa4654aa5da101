"""The accounts service: a real HTTP service in a process of its own, in each of the four designs.

`python -m ensue.demo.accounts` prints its port and serves until it is killed: by the demo, or by itself with SIGKILL
where the schedule wants it.
"""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, HTTPServer

import httpx
from sqlalchemy import exc
from sqlalchemy.orm import Session

from ensue.demo.models import Account
from ensue.demo.setting import Setting, setting

_http = httpx.Client(limits=httpx.Limits(max_keepalive_connections=0))
BACKGROUND = "in the background"
Step = Callable[[], None]
Design = Callable[[Setting, Session, str, str, Step], None]


def in_line(here: Setting, session: Session, email: str, plan: str, step: Step) -> None:
    """Commit, then call the others, one after the other."""
    session.add(Account(email=email, plan=plan))
    session.commit()
    step()
    call(here, here.newsletter, email)
    step()
    call(here, here.mailer, email)
    step()


def in_transaction(here: Setting, session: Session, email: str, plan: str, step: Step) -> None:
    """Call the others inside the transaction; if one fails, roll back."""
    session.add(Account(email=email, plan=plan))
    session.flush()
    call(here, here.newsletter, email)
    step()
    call(here, here.mailer, email)
    step()
    session.commit()
    step()


def fire_and_forget(here: Setting, session: Session, email: str, plan: str, step: Step) -> None:
    """Commit, and call the others in the background, three times if need be."""
    session.add(Account(email=email, plan=plan))
    session.commit()

    def persist(url: str) -> None:
        for _ in range(3):
            try:
                call(here, url, email)
            except httpx.HTTPError:
                continue  # nobody will ever know
            return

    step()
    for url in (here.newsletter, here.mailer):
        threading.Thread(target=persist, args=(url,), name=BACKGROUND).start()
        step()


def with_ensue(_: Setting, session: Session, email: str, plan: str, step: Step) -> None:
    """Record what happened with the account; the worker does the rest."""
    from ensue.demo.signup import sign_up

    sign_up(session, email, plan)
    step()
    session.commit()
    step()
    step()


DESIGNS: dict[str, Design] = {
    "in line": in_line,
    "in transaction": in_transaction,
    "fire and forget": fire_and_forget,
    "ensue": with_ensue,
}


def call(here: Setting, url: str, email: str) -> None:
    """Ask a service once."""
    _http.post(url, json={"email": email}, timeout=here.client_timeout).raise_for_status()


def killer(after: int | None) -> Step:
    """Return what is called after each step: it kills this process after the given one."""
    steps = 0

    def step() -> None:
        nonlocal steps
        steps += 1
        if steps == after:
            os.kill(os.getpid(), signal.SIGKILL)

    return step


def serve() -> None:
    """Serve until killed."""
    here = setting()
    engine = here.engine()
    design = DESIGNS[here.design]

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with Session(engine) as session:
                try:
                    design(here, session, body["email"], body["plan"], killer(body["killed_after_step"]))
                except exc.IntegrityError as error:
                    known = "plans" not in str(error) and "FOREIGN" not in str(error)
                    status = 409 if known else 500  # has an account, or the commit failed
                except (httpx.HTTPError, exc.SQLAlchemyError):
                    status = 500
                else:
                    status = 201
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def do_GET(self) -> None:
            for thread in threading.enumerate():
                if thread.name == BACKGROUND:
                    thread.join()
            self.send_response(204)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing: the faults are the point, not news."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    print(server.server_address[1], flush=True)
    server.serve_forever()


if __name__ == "__main__":
    serve()
