"""What can be wrong with an application in operation, and how to mend it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Literal

import msgspec

from ensue.cli.output import ago, count, is_outage, line, span, until
from ensue.cli.seal_findings import seal_findings
from ensue.cli.target import Target, address
from ensue.contracts import check_contracts
from ensue.errors import ContractBroken, MasterKeyMissing, NotMigrated, UnusableContract
from ensue.log import Sqlite
from ensue.subscriptions.operating import Holder, Standing

LONG_TRANSACTION = 10.0
"""Seconds for which a transaction may hold back the horizon before it is worth a word; six times that is wrong."""
STUCK = 300.0
"""Seconds in which a checkpoint should have moved while events wait."""
HELD = 60.0
"""Seconds for which a subscription may be held before that is wrong: services restart."""
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
    operations, where = target.app.operations, address(target.app)
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
    yield from _owner(target)
    yield from _contracts(target)
    yield from _keys(target)
    yield from _clock(target)
    standings = operations.standings()
    workers = operations.alive()
    yield from _declarations(target, standings)
    yield from _workers(target, standings, workers)
    yield from _leases(target, standings, workers)
    yield from _progress(standings)
    yield from _held(standings)
    yield from _windows(target)
    yield from _holders(target)
    yield from _dead_letters(target, standings)
    yield from _seal(target)


def _wrong(check: str, what: str, mend: str) -> Finding:
    return Finding(check=check, level="wrong", what=what, mend=mend)


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


def _declarations(target: Target, standings: list[Standing]) -> Iterator[Finding]:
    declared = target.app.subscriptions
    known = {each.subscription: each for each in standings}
    missing = [declared[name] for name in target.app.declarations.missing(known)]
    vanished = [each for each in standings if not target.app.declarations.declares(each.subscription)]
    for new in missing:
        heirs = [each.subscription for each in vanished if set(each.types) & set(new.types)]
        if heirs:
            yield _wrong(
                "subscriptions",
                f"{new.name} is new where {', '.join(heirs)} vanished: no worker starts like this, "
                "since a rename would lose events or deliver them again",
                f"if it was renamed, keep its name in the code: name={heirs[0]!r}; "
                f"if {heirs[0]} is gone for good: {target.command('retire', heirs[0])}",
            )
        else:
            yield _wrong(
                "subscriptions",
                f"{new.name} was never registered: what is recorded now is not for it, unless it starts earlier",
                target.command("migrate"),
            )
    for old in vanished:
        yield Finding(
            check="subscriptions",
            level="note",
            what=f"{old.subscription} has vanished: the log knows it, {target.spec} does not declare it; "
            f"{count(old.behind, 'event')} wait for it",
            mend=f"declare it again, or if it is gone for good: {target.command('retire', old.subscription)}",
        )
    for standing in standings:
        if standing.subscription in declared and set(declared[standing.subscription].types) != set(standing.types):
            yield Finding(
                check="subscriptions",
                level="note",
                what=f"{standing.subscription} wants other types in the code than in the log",
                mend=target.command("migrate"),
            )
        if standing.paused:
            yield Finding(
                check="subscriptions",
                level="note",
                what=f"{standing.subscription} is paused; {count(standing.behind, 'event')} wait",
                mend=target.command("resume", standing.subscription),
            )
    if not missing and not vanished:
        yield Finding(
            check="subscriptions", level="ok", what=f"{count(len(known), 'subscription')} declared and registered"
        )


def _workers(target: Target, standings: list[Standing], workers: list[str]) -> Iterator[Finding]:
    if workers:
        yield Finding(check="workers", level="ok", what=f"{count(len(workers), 'worker')} alive: {', '.join(workers)}")
    elif standings:
        waiting = sum(each.behind for each in standings if not each.paused)
        yield _wrong("workers", f"no worker is alive; {count(waiting, 'event')} wait", target.command("run"))
    else:
        yield Finding(check="workers", level="note", what="no worker is alive, and there is no subscription")


def _leases(target: Target, standings: list[Standing], workers: list[str]) -> Iterator[Finding]:
    well = True
    for standing in standings:
        if not target.app.declarations.declares(standing.subscription):
            continue
        expired = [each for each in standing.partitions if each.expired]
        free = [each for each in standing.partitions if each.owner is None]
        if expired:
            well = False
            owners = ", ".join(sorted({each.owner or "" for each in expired}))
            yield _wrong(
                "leases",
                f"{count(len(expired), 'lease')} on {standing.subscription} ran out and nobody took over; "
                f"{owners} is dead or cut off from the database",
                _put_to_work(target, workers),
            )
        elif workers and free and standing.behind and not standing.paused:
            well = False
            yield _wrong(
                "leases",
                f"nobody works on {len(free)} of {count(len(standing.partitions), 'partition')} of "
                f"{standing.subscription}, and {count(standing.behind, 'event')} wait, "
                f"the oldest for {span(standing.seconds_behind)}",
                _put_to_work(target, workers),
            )
    if well and workers:
        yield Finding(check="leases", level="ok", what="none has run out, and nothing waits without a worker")


def _put_to_work(target: Target, workers: list[str]) -> str:
    run = target.command("run")
    if not workers:
        return run
    return f"the workers that live run older code, or have just begun: restart them, or add one: {run}"


def _progress(standings: list[Standing]) -> Iterator[Finding]:
    for standing in standings:
        if standing.paused or standing.seconds_behind < STUCK:
            continue
        for each in standing.partitions:
            last = each.checkpoint == standing.checkpoint and each.owner is not None and not each.expired
            if not last or each.held is not None or datetime.now(UTC) - each.moved_at < timedelta(seconds=STUCK):
                continue
            yield _wrong(
                "progress",
                f"{standing.subscription} has not moved for {ago(each.moved_at)} with "
                f"{count(standing.behind, 'event')} before it: a handler hangs, or takes very long "
                f"(worker {each.owner})",
                "look at its log; give the handler a timeout=; restart that worker: others go on where it was",
            )


def _held(standings: list[Standing]) -> Iterator[Finding]:
    for standing in standings:
        if (held := standing.held) is not None:
            long = datetime.now(UTC) - held.since >= timedelta(seconds=HELD)
            waiting = f", and {count(standing.behind, 'event')} wait" if standing.behind else ""
            yield Finding(
                check="held",
                level="wrong" if long else "note",
                what=f"{standing.subscription} has been held for {ago(held.since)}{waiting}: {line(held.reason)[:200]}",
                mend=f"bring back what it needs; then it goes on by itself (next try: {until(held.again_at)})",
            )


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


def _holders(target: Target) -> Iterator[Finding]:
    if isinstance(target.app.log.dialect, Sqlite):
        yield from _write_lock(target)
        return
    holders = [each for each in target.app.operations.holders() if each.seconds >= LONG_TRANSACTION]
    for holder in holders:
        yield Finding(
            check="horizon",
            level="wrong" if holder.seconds >= 6 * LONG_TRANSACTION or holder.pid is None else "note",
            what=f"a transaction that has recorded is open for {span(holder.seconds)}: nothing behind position "
            f"{holder.position} can be delivered before it ends ({_about(holder)})",
            mend="list prepared transactions: select * from pg_prepared_xacts; then: rollback prepared '<gid>'"
            if holder.pid is None
            else f"end it where it was begun; or break it off, which takes back what it recorded: "
            f'psql -c "select pg_terminate_backend({holder.pid})"',
        )
    if not holders:
        yield Finding(check="horizon", level="ok", what="no long transaction holds events back")


def _about(holder: Holder) -> str:
    if holder.pid is None:
        return "prepared"
    name = f", {holder.application}" if holder.application else ""
    return f"pid {holder.pid}{name}, {holder.state}: {line(holder.query)[:80]}"


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


def _dead_letters(target: Target, standings: list[Standing]) -> Iterator[Finding]:
    errors = target.app.operations.last_errors()
    for standing in standings:
        name, error = standing.subscription, errors.get(standing.subscription)
        if standing.dead:
            last = "" if error is None else f"; the last error: {line(error.reason)[:120]}"
            yield _wrong(
                "dead letters",
                f"{count(standing.dead, 'event')} of {name} {'wait' if standing.dead > 1 else 'waits'} for a person"
                f"{last}",
                target.command("dead", "list", "--subscription", name),
            )
        if standing.retrying:
            yield Finding(
                check="dead letters",
                level="note",
                what=f"{count(standing.retrying, 'event')} of {name} failed and will be tried again",
                mend=target.command("dead", "list", "--all", "--subscription", name),
            )
    if not any(each.dead or each.retrying for each in standings):
        yield Finding(check="dead letters", level="ok", what="none")


def _seal(target: Target) -> Iterator[Finding]:
    for level, what, mend in seal_findings(target):
        yield Finding(check="seal", level=level, what=what, mend=mend)
