"""What can be wrong with an application in operation, and how to mend it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from typing import Literal

import msgspec

from ensue.app.judging import CHECKS, Facts, Problem, facts_of, judge
from ensue.cli.output import count, is_outage, line, span
from ensue.cli.seal_findings import seal_findings
from ensue.cli.target import Target
from ensue.contracts import check_contracts
from ensue.errors import ContractBroken, MasterKeyMissing, NotMigrated, UnusableContract
from ensue.log import Sqlite

SKEW = 2.0
"""Seconds by which this machine's clock may differ from the database's."""

Level = Literal["ok", "note", "wrong"]


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that was looked at. A note is worth knowing; only what is wrong makes the doctor fail."""

    check: str
    level: Level
    what: str
    mend: str | None = None


def examine(target: Target) -> Iterator[Finding]:
    """Look at everything, the foundations first; stop where the rest cannot be seen."""
    operations, where = target.app.operations, target.app.log.place.shown
    try:
        pending = operations.pending_migrations()
    except NotMigrated as error:
        yield _wrong("migrations", str(error), "install the newer release of ensue here")
        return
    except Exception as error:
        if not is_outage(error):
            raise
        yield _wrong("database", line(str(error)), f"start the database, or correct the URL: {where}")
        return
    yield Finding(check="database", level="ok", what=f"answers: {where}")
    if pending:
        yield _wrong("migrations", f"not applied: {', '.join(pending)}", target.command("migrate"))
        return
    yield Finding(check="migrations", level="ok", what="all applied")
    yield from _writes(target)
    yield from _owner(target)
    yield from _contracts(target)
    yield from _keys(target)
    yield from _clock(target)
    facts = facts_of(target.app)
    yield from _judged(target, judge(target.app, facts), facts)
    yield from _windows(target)
    yield from _seal(target)


def _wrong(check: str, what: str, mend: str) -> Finding:
    return Finding(check=check, level="wrong", what=what, mend=mend)


def _writes(target: Target) -> Iterator[Finding]:
    """Look whether PostgreSQL takes writes; for SQLite the lock is tried below."""
    if _is_sqlite(target):
        return
    with target.app.log.own.lend() as connection:
        standby, read_only = connection.execute(
            "select pg_is_in_recovery(), current_setting('transaction_read_only') = 'on'"
        ).fetchone()
    if standby:
        yield _wrong(
            "database",
            "it is a standby, which takes no writes: nothing can be recorded, and no worker can work",
            f"let the URL lead to the primary, or promote this one: {target.app.log.place.shown}",
        )
    elif read_only:
        yield _wrong(
            "database",
            "it takes no writes from here, as default_transaction_read_only is on: nothing can be recorded, and no "
            "worker can work",
            "see who has set it: show default_transaction_read_only; then unset it for the server, the database, the "
            "role or in the URL",
        )


def _owner(target: Target) -> Iterator[Finding]:
    owner = target.app.operations.owner()
    if owner != target.app.name:
        yield _wrong(
            "log",
            f"it belongs to {owner!r}, and this application is {target.app.name!r}",
            f"correct the name, the URL or the schema of the App in {target.spec}",
        )


def _contracts(target: Target) -> Iterator[Finding]:
    if target.app.contracts is None:
        return
    try:
        check_contracts(target.app.service(), target.app.contracts)
    except ContractBroken as broken:
        differences = count(len(broken.differences), "difference")
        yield _wrong(
            "contracts",
            f"{differences} from the files in {target.app.contracts}, the first: {line(broken.differences[0])}; "
            "no worker starts like this",
            target.command("contracts", "check"),
        )
    except UnusableContract as error:
        yield _wrong("contracts", str(error), target.command("contracts", "check"))
    else:
        yield Finding(check="contracts", level="ok", what=f"as the files in {target.app.contracts} say")


def _keys(target: Target) -> Iterator[Finding]:
    """Look at the master keys, where there is anything personal."""
    try:
        found = target.app.keys.masters()
    except MasterKeyMissing as error:
        yield _wrong("keys", str(error), "correct ENSUE_MASTER_KEY")
        return
    used = sum(each.keys for each in found)
    if used and not any(each.current for each in found):
        yield _wrong(
            "keys",
            f"personal data of {count(used, 'person')} is encrypted, and there is no master key here to read it",
            "set ENSUE_MASTER_KEY as the service has it",
        )
    elif old := sum(each.keys for each in found if not each.current):
        yield Finding(
            check="keys",
            level="note",
            what=f"another master key than the current one has wrapped {count(old, 'key')} of persons",
            mend=target.command("keys", "rotate"),
        )


def _clock(target: Target) -> Iterator[Finding]:
    skew = target.app.operations.clock_skew()
    if abs(skew) <= SKEW:
        yield Finding(check="clock", level="ok", what="this machine and the database agree")
        return
    yield _wrong(
        "clock",
        f"this machine is {span(abs(skew))} {'ahead of' if skew > 0 else 'behind'} the database: "
        "ages and moments that it shows are wrong by as much",
        "let both keep time by NTP: timedatectl set-ntp true",
    )


def _judged(target: Target, problems: list[Problem], facts: Facts) -> Iterator[Finding]:
    """Tell of what the console and `/readyz` judge by, too; and of each check that nothing is wrong with."""
    well = {
        "subscriptions": f"{count(len(facts.seen), 'subscription')} declared and registered",
        "workers": f"{count(len(facts.workers), 'worker')} alive: {', '.join(facts.workers)}"
        if facts.workers
        else "none is alive, and there is no subscription",
        "leases": "none has run out, and nothing waits without a worker" if facts.workers else None,
        "horizon": None if _is_sqlite(target) else "no long transaction holds events back",
        "dead letters": "none",
    }
    for check in CHECKS:
        found = [each for each in problems if each.check == check]
        for each in found:
            yield Finding(check=check, level=each.level, what=each.whole, mend=_mend(target, each))
        if not found and (what := well.get(check)) is not None:
            yield Finding(check=check, level="ok" if check != "workers" or facts.workers else "note", what=what)
        if check == "horizon" and _is_sqlite(target):
            yield from _write_lock(target)


def _is_sqlite(target: Target) -> bool:
    return isinstance(target.app.log.dialect, Sqlite)


def _mend(target: Target, problem: Problem) -> str | None:
    command, name = None, problem.subscription or ""
    match problem.cure:
        case "migrate" | "run":
            command = target.command(problem.cure)
        case "retire" | "resume":
            command = target.command(problem.cure, name)
        case "letters":
            command = target.command("dead", "list", "--subscription", name)
        case "retries":
            command = target.command("dead", "list", "--all", "--subscription", name)
        case _:
            pass
    return ": ".join(each for each in (problem.advice, command) if each) or None


def _windows(target: Target) -> Iterator[Finding]:
    windows = target.app.operations.windows()
    for each in windows:
        if each.failure is not None:
            yield Finding(
                check="receivers",
                level="note",
                what=f"the broker of {each.subscription} cannot be asked from here: {line(each.failure)}",
                mend="start the broker, or correct the URL; nothing is received before that, and nothing is lost",
            )
        elif each.too_short:
            yield _wrong(
                "receivers",
                f"{each.subscription} knows for {span(each.keep)} that it has taken a message in, and its broker may "
                f"deliver it again for {span(each.redelivers_for or 0.0)}: after that it would have its effect twice",
                "give the receiver a longer keep=, or let the broker keep messages for less",
            )
    if windows and not any(each.failure or each.too_short for each in windows):
        known = sum(each.redelivers_for is not None for each in windows)
        yield Finding(
            check="receivers",
            level="ok",
            what=f"{count(len(windows), 'receiver')}; {known} of them with a broker that says for how long it delivers "
            "again, and none forgets sooner",
        )


def _write_lock(target: Target) -> Iterator[Finding]:
    try:
        with target.app.transaction():
            pass
    except sqlite3.OperationalError as error:
        yield _wrong(
            "horizon",
            f"another process keeps a write transaction open on the SQLite file: {error}",
            f"see who has it open, and end that transaction or process: fuser -v {target.app.log.place.database}",
        )
    else:
        yield Finding(check="horizon", level="ok", what="no long transaction keeps others from writing")


def _seal(target: Target) -> Iterator[Finding]:
    for level, what, mend in seal_findings(target):
        yield Finding(check="seal", level=level, what=what, mend=mend)
