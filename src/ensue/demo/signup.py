"""The application with ensue: what a developer writes.

`python -m ensue.demo.signup` is its worker.
"""

from __future__ import annotations

import logging

import httpx
from sqlalchemy.orm import Session

from ensue import App, Backoff, Delivery, IntegrationEvent
from ensue.demo.models import Account
from ensue.demo.setting import Setting, setting

here: Setting = setting()
app = App("accounts", here.log_url, schema=here.log_schema, migrate=True)

http = httpx.AsyncClient(timeout=here.client_timeout)
retry = Backoff(first=0.2, most=2)


class UserSignedUp(IntegrationEvent, version=1, key="email"):
    """Somebody has an account."""

    email: str


def sign_up(session: Session, email: str, plan: str) -> None:
    """Create the account and record that it happened, in one transaction: the caller's."""
    session.add(Account(email=email, plan=plan))
    app.record(UserSignedUp(email=email), via=session)


@app.on(UserSignedUp, retry=retry)
async def add_to_newsletter(event: UserSignedUp, delivery: Delivery) -> None:
    """Tell the newsletter."""
    await call(here.newsletter, event.email, delivery.idempotency_key)


@app.on(UserSignedUp, retry=retry)
async def send_welcome_mail(event: UserSignedUp, delivery: Delivery) -> None:
    """Tell the mailer."""
    await call(here.mailer, event.email, delivery.idempotency_key)


async def call(url: str, email: str, key: str) -> None:
    """Ask a service; the key lets it recognise a request that it has carried out before."""
    response = await http.post(url, json={"email": email}, headers={"Idempotency-Key": key})
    response.raise_for_status()


if __name__ == "__main__":
    logging.getLogger("ensue").setLevel(logging.CRITICAL)  # failures are the point here, not news
    app.run(lease=2)
