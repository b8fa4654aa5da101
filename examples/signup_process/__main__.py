"""Two sign-ups: the newsletter takes one, and refuses the other for three days. `python -m examples.signup_process`.

A day takes a fifth of a second here, unless SIGNUP_DAY says otherwise.
"""

from __future__ import annotations

import asyncio
import os
import secrets

os.environ.setdefault("SIGNUP_DAY", "0.2")

from .app import InformOperator, SignUp, UserSignedUp, active, app, flagged, newsletter, refused

informed = asyncio.Event()
ada, bert = (f"{name}-{secrets.token_hex(3)}" for name in ("ada", "bert"))  # others in every run
groups = {"active": active, "flagged": flagged, "in the newsletter": newsletter}


@app.handle(InformOperator)
async def inform(command: InformOperator) -> None:
    """Print it; the operator sits here."""
    times = "several times" if command.refusals > 1 else "once"
    print(f"operator: the newsletter has refused {name_of(command.user)}, {times}")
    informed.set()


def name_of(user: str) -> str:
    """Return how people call a user."""
    return user.partition("-")[0]


def sign_up(*users: str) -> None:
    """Record that users have signed up; an application would do it in the transaction that creates the account."""
    with app.transaction() as connection:
        app.record(*[UserSignedUp(user=user) for user in users], via=connection)


async def main() -> None:
    """Run the worker until both processes have ended, and what compensates for one of them is done."""
    refused.add(bert)
    async with app.running():
        await asyncio.to_thread(sign_up, ada, bert)
        await informed.wait()
        while any(each.behind for each in await asyncio.to_thread(app.operations.standings)):  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    for user in (ada, bert):
        seen = app.processes.show(SignUp.__process__, user).process
        words = [word for word, group in groups.items() if user in group]
        print(f"{name_of(user)}: {', '.join(words)}; the sign-up is {seen.status}: {seen.outcome}")


if __name__ == "__main__":
    asyncio.run(main())
