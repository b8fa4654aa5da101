"""Run the four designs under the same schedule, and compare what is left."""

from __future__ import annotations

import secrets
import tempfile
import time
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

import httpx
import msgspec
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from sqlalchemy import text
from sqlalchemy.orm import Session

from ensue import App
from ensue.demo.accounts import DESIGNS
from ensue.demo.counting import Outcome, count, entries
from ensue.demo.models import Account, Base, Plan
from ensue.demo.processes import Process
from ensue.demo.schedule import CLIENT_TIMEOUT, Planned, plan
from ensue.demo.setting import Setting

PATIENCE = 60.0
"""Seconds that the last sign-ups may take to be carried out."""


def run_demo(*, sign_ups: int = 150, seed: int = 1, database: str | None = None, json: bool = False) -> int:
    """Run the demo and print its table; return 0 if the row of ensue ends in three zeros, 1 otherwise."""
    console = Console(stderr=json)
    columns = (TextColumn("{task.description:16}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    outcomes: list[Outcome] = []
    with Progress(*columns, console=console) as progress:
        tasks = {design: progress.add_task(design, total=sign_ups) for design in DESIGNS}
        for design, task in tasks.items():
            outcomes.append(_run(design, sign_ups, seed, database, partial(progress.advance, task)))
    if json:
        print(msgspec.json.format(msgspec.json.encode(outcomes), indent=2).decode())
    else:
        _show(console, outcomes)
    return verdict(outcomes)


def verdict(outcomes: list[Outcome]) -> int:
    """Return the exit code: the last row must end in three zeros."""
    return 0 if outcomes[-1].flawless else 1


def table_of(outcomes: list[Outcome]) -> Table:
    """Return what is printed at the end."""
    table = Table(title="What is left after the same sign-ups under the same faults", box=None)
    table.add_column("design", no_wrap=True)
    for name in ("accounts", "subscribers", "mails", "ghosts", "missing", "duplicates"):
        table.add_column(name, justify="right", no_wrap=True)
    for outcome in outcomes:
        numbers = [outcome.accounts, outcome.subscribers, outcome.mails]
        flaws = [outcome.ghosts, outcome.missing, outcome.duplicates]
        table.add_row(
            outcome.design, *map(str, numbers), *(f"[{'red' if flaw else 'green'}]{flaw}[/]" for flaw in flaws)
        )
    return table


def _show(console: Console, outcomes: list[Outcome]) -> None:
    console.print(table_of(outcomes))
    console.print("ghosts: entries at the newsletter or the mailer for somebody who has no account")
    console.print("missing: accounts that the newsletter, or the mailer, never heard of")
    console.print("duplicates: second entries or mails for one account")
    if verdict(outcomes):
        console.print("[red]ensue has lost, doubled or invented something: this is a fault, please report it[/]")


def _run(design: str, sign_ups: int, seed: int, database: str | None, advance: Callable[[], None]) -> Outcome:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ensue-demo-")))
        files = {name: folder / f"{name}.db" for name in ("newsletter", "mailer")}
        services = {
            name: stack.enter_context(Process("service", name, str(file), str(seed))) for name, file in files.items()
        }
        here = stack.enter_context(_databases(design, folder, database, services))
        accounts = stack.enter_context(Process("accounts", setting=here))
        worker = stack.enter_context(Process("signup", setting=here, port=False)) if design == "ensue" else None
        browser = stack.enter_context(httpx.Client(limits=httpx.Limits(max_keepalive_connections=0), timeout=10))
        for number in range(sign_ups):
            planned = plan(seed, number)
            if planned.worker_killed and worker is not None:
                worker.restart()
            _sign_up(browser, accounts, planned)
            advance()
        if worker is not None:
            _wait(here)
        else:
            httpx.get(accounts.url, timeout=PATIENCE)  # answers when its background threads are done
        with Session(here.engine()) as session:
            emails = [email for (email,) in session.query(Account.email)]
            session.get_bind().engine.dispose()
        return count(design, emails, entries(files["newsletter"]), entries(files["mailer"]))


def _sign_up(browser: httpx.Client, accounts: Process, planned: Planned) -> None:
    """Sign up as a person does: once, and once more if there was an error or no answer."""
    for killed_after_step in (planned.killed_after_step, None):
        body = {
            "email": planned.email,
            "plan": "gone" if planned.commit_fails else "free",
            "killed_after_step": killed_after_step,
        }
        try:
            if browser.post(accounts.url, json=body).status_code < 500:
                return
        except httpx.TransportError:
            accounts.restart()


def _wait(here: Setting) -> None:
    """Wait until every event has been carried out."""
    operations = App("accounts", here.log_url, schema=here.log_schema).operations
    deadline = time.monotonic() + PATIENCE
    while any(each.behind or each.retrying or each.dead for each in operations.standings()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"after {PATIENCE:g} s there is still work left: {operations.standings()}")
        time.sleep(0.1)


@contextmanager
def _databases(design: str, folder: Path, database: str | None, services: dict[str, Process]) -> Generator[Setting]:
    """Make the accounts' tables, and the log where it is wanted; drop what is not in the folder afterwards."""
    name = f"ensue_demo_{secrets.token_hex(4)}" if database else None
    here = Setting(
        design=design,
        database=database.replace("postgresql://", "postgresql+psycopg://") if database else f"sqlite:///{folder}/a.db",
        schema=name,
        log_url=database or f"sqlite:///{folder}/a.db",
        log_schema=f"{name}_log" if name else "ensue",
        newsletter=services["newsletter"].url,
        mailer=services["mailer"].url,
        client_timeout=CLIENT_TIMEOUT,
    )
    engine = here.engine()
    try:
        if name:
            with engine.begin() as connection:
                connection.execute(text(f"create schema {name}"))
        Base.metadata.create_all(engine)
        with Session(engine) as session:
            session.add(Plan(name="free"))
            session.commit()
        yield here
    finally:
        if name:
            with engine.begin() as connection:
                connection.execute(text("set local client_min_messages = warning"))
                for schema in (name, here.log_schema):
                    connection.execute(text(f"drop schema if exists {schema} cascade"))
        engine.dispose()
