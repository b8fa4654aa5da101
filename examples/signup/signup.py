"""A sign-up that loses nothing, in one file: the account is created, the newsletter and the mailer follow.

Run it: `python examples/signup/signup.py`. It makes `accounts.db` in the current folder.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from uuid import UUID, uuid4

from ensue import App, Backoff, Delivery, IntegrationEvent

app = App("accounts", "sqlite:///accounts.db", migrate=True)  # or postgresql://…: the only line that differs
failures = 2  # the newsletter is down for its first two calls
newsletter: dict[str, str] = {}
mails: dict[str, str] = {}
everything_followed = asyncio.Event()


class UserSignedUp(IntegrationEvent, version=1, key="user_id"):
    """Somebody has an account."""

    user_id: UUID
    email: str


def sign_up(connection: sqlite3.Connection, email: str) -> UUID:
    """Create the account and record that it happened, in the caller's transaction: both or neither."""
    user_id = uuid4()
    connection.execute("insert into accounts values (?, ?)", (str(user_id), email))
    app.record(UserSignedUp(user_id=user_id, email=email), via=connection)
    return user_id


@app.on(UserSignedUp, retry=Backoff(first=0.1, most=1))
async def add_to_newsletter(event: UserSignedUp, delivery: Delivery) -> None:
    """Tell the newsletter; the key lets it recognise a call that it has carried out before."""
    global failures
    if failures:
        failures -= 1
        raise ConnectionError("the newsletter is down")
    newsletter[delivery.idempotency_key] = event.email
    print(f"newsletter: {event.email}, at attempt {delivery.attempt}")
    look()


@app.on(UserSignedUp)
def send_welcome_mail(event: UserSignedUp, delivery: Delivery) -> None:
    """Send a mail. A handler may be sync, too."""
    mails[delivery.idempotency_key] = event.email
    print(f"mailer: {event.email}")
    look()


def look() -> None:
    """Tell the main program when all is done."""
    if len(newsletter) == len(mails) == 1:
        loop.call_soon_threadsafe(everything_followed.set)


async def main() -> None:
    """Sign somebody up, and run the worker until everything has followed."""
    global loop
    loop = asyncio.get_running_loop()
    connection = sqlite3.connect("accounts.db")
    connection.execute("create table if not exists accounts (id text primary key, email text not null)")
    sign_up(connection, "ada@example.org")
    connection.commit()  # the account and the event exist from here on, or neither does
    connection.close()
    async with app.running():
        await everything_followed.wait()


loop: asyncio.AbstractEventLoop

if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    asyncio.run(main())
