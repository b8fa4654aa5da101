"""The application: what can happen, the process, and who carries its commands out."""

from __future__ import annotations

import os
from datetime import timedelta

from ensue import App, Command, Delivery, DomainEvent, Process, moves, starts

app = App("accounts", os.environ.get("SIGNUP_URL", "sqlite:///accounts.db"), migrate=True)

DAY = timedelta(seconds=float(os.environ.get("SIGNUP_DAY", "86400")))
"""How long a day takes: less where nobody wants to wait for three of them."""

active: set[str] = set()
flagged: set[str] = set()
newsletter: set[str] = set()
refused: set[str] = set()
"""Whom the newsletter refuses."""


# --- what can happen


class UserSignedUp(DomainEvent, key="user"):
    """Somebody has an account."""

    user: str


class AddedToNewsletter(DomainEvent, key="user"):
    """The newsletter has taken the address."""

    user: str


class NewsletterRefused(DomainEvent, key="user"):
    """The newsletter has not taken the address."""

    user: str


class TryAgain(DomainEvent, key="user"):
    """Some time has passed since it was refused."""

    user: str


class NewsletterOverdue(DomainEvent, key="user"):
    """Three days have passed since the sign-up."""

    user: str


# --- what can be wanted


class ActivateAccount(Command, key="user"):
    """Let the user in."""

    user: str


class FlagAccount(Command, key="user"):
    """Let the user in no more, until somebody has looked."""

    user: str


class AddToNewsletter(Command, key="user"):
    """Ask the newsletter to take the address."""

    user: str


class RemoveFromNewsletter(Command, key="user"):
    """Ask the newsletter to forget the address, if it has it."""

    user: str


class InformOperator(Command, key="user"):
    """Tell a person."""

    user: str
    refusals: int


# --- what follows from what


@app.process(key="user")
class SignUp(Process, name="sign-up", version=1):
    """The account is active at once; if the newsletter has not taken the address within three days, it is flagged."""

    refusals: int = 0

    @starts
    def begin(self, event: UserSignedUp) -> None:
        """Do two things, and say what undoes each of them."""
        self.send(ActivateAccount(user=event.user))
        self.undo(FlagAccount(user=event.user))
        self.send(AddToNewsletter(user=event.user))
        self.undo(RemoveFromNewsletter(user=event.user))
        self.after(3 * DAY, NewsletterOverdue(user=event.user), name="deadline")

    @moves
    def try_later(self, event: NewsletterRefused) -> None:
        """Count, and wait for some hours."""
        self.refusals += 1
        self.after(DAY / 3, TryAgain(user=event.user), name="again")

    @moves
    def try_again(self, event: TryAgain) -> None:
        """Ask once more."""
        self.send(AddToNewsletter(user=event.user))

    @moves
    def finish(self, event: AddedToNewsletter) -> None:
        """All is well: the timers that are left are cancelled."""
        self.end()

    @moves
    def give_up(self, event: NewsletterOverdue) -> None:
        """Undo what was done, the last first, and tell somebody."""
        self.compensate()
        self.send(InformOperator(user=event.user, refusals=self.refusals))
        self.end("the newsletter did not take it")


# --- who carries the commands out: each may be called twice, and does no harm then


@app.handle(ActivateAccount)
def activate(command: ActivateAccount) -> None:
    """Let the user in."""
    active.add(command.user)


@app.handle(FlagAccount)
def flag(command: FlagAccount) -> None:
    """Let the user in no more."""
    active.discard(command.user)
    flagged.add(command.user)


@app.handle(AddToNewsletter)
def add_to_newsletter(command: AddToNewsletter, delivery: Delivery) -> None:
    """Call the newsletter, and record what it said, once for each command."""
    answer: DomainEvent
    if command.user in refused:
        answer = NewsletterRefused(user=command.user)
    else:
        newsletter.add(command.user)
        answer = AddedToNewsletter(user=command.user)
    with app.transaction() as connection:
        app.record(answer, via=connection, dedupe=delivery.idempotency_key)


@app.handle(RemoveFromNewsletter)
def remove_from_newsletter(command: RemoveFromNewsletter) -> None:
    """Call the newsletter; it is no error if it does not have the address."""
    newsletter.discard(command.user)
