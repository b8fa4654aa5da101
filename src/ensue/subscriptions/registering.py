"""Subscriptions come into being, are cut into partitions, and go: operations in the open transaction."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import datetime
from itertools import pairwise

import msgspec

from ensue.errors import DeclarationError, RenamedSubscription, UnknownName
from ensue.log import Call, Log, Steps
from ensue.subscriptions.declared import Cursors, Subscription, edges
from ensue.subscriptions.operating import ALL

logger = logging.getLogger("ensue")

_json = msgspec.json.Encoder().encode
_segments = msgspec.json.Decoder(list[tuple[int, int, int]]).decode


def register(log: Log, cursors: Cursors) -> Steps[list[str]]:
    """Register what is new; return the names of the subscriptions in the log that nobody declares any more.

    Raises `RenamedSubscription` if a new one wants the events of one that has vanished: that is what a renamed
    handler looks like, and starting it would lose events or deliver them again. Raises `DeclarationError` if a
    subscription wants a type no more of which events still wait for it: so does a handler whose event was renamed.
    """
    sql = log.dialect.sql
    wanted = cursors.declared
    known: dict[str, tuple[str, ...]] = {}
    reached: dict[str, int] = {}
    for name, _, _, _, checkpoint, *_, types in (yield Call(sql["progress"])):
        known[name] = tuple(msgspec.json.decode(types, type=list[str]))
        reached[name] = min(checkpoint, reached.get(name, checkpoint))
    vanished = [name for name in known if name not in wanted and name not in cursors.others]
    for name, new in wanted.items():
        if name not in known:
            for old in vanished:
                if shared := set(known[old]).intersection(new.types):
                    raise RenamedSubscription(
                        f"subscription {name!r} is new and {old!r} is declared no more, and both want "
                        f"{', '.join(sorted(shared))}. If the handler was renamed, keep its name with name={old!r}; "
                        f"if {old!r} is really gone, say so: ensue retire {old}"
                    )
    for name, new in wanted.items():
        types = _json(sorted(new.types)).decode()
        if name in known:
            if set(known[name]) != set(new.types):
                yield from _refuse_to_pass_over(log, name, set(known[name]).difference(new.types), reached[name])
                yield sql["update_subscription"](name=name, types=types)
            continue
        started_at = yield from _start(log, new)
        if (yield sql["insert_subscription"](name=name, types=types, started_at=started_at)):
            for first, last in _cut(new.partitions):
                yield from _insert(log, name, first, last, started_at, [], 0)
            yield from _say_what_is_missing(log, new, started_at)
    return vanished


def _refuse_to_pass_over(log: Log, name: str, types: set[str], checkpoint: int) -> Steps[None]:
    head = yield from log.horizon()
    for type in sorted(types):
        waiting = (yield log.dialect.sql["count_type"](type=type, after=checkpoint, until=head, most=ALL))[0][0]
        if waiting:
            raise DeclarationError(
                f"subscription {name!r} wants {type!r} no more, but {waiting} recorded events of it still wait to be "
                "handled, and would be passed over. If the event class was renamed, keep its wire name with name=…; if "
                "the handler should not have them, let the release before this one handle them first"
            )


def _start(log: Log, subscription: Subscription) -> Steps[int]:
    match subscription.start:
        case "beginning":
            return 0
        case "now":
            return (yield from log.horizon())
        case datetime() as moment:
            return (yield from log.position_at(moment)) - 1
        case position:
            return max(0, int(position) - 1)


def _say_what_is_missing(log: Log, subscription: Subscription, started_at: int) -> Steps[None]:
    """Warn that a subscription begins where events that it wants have been pruned."""
    missing: dict[str, int] = {}
    for each in (yield from log.pruned(started_at, subscription.types)):
        missing[each.type] = missing.get(each.type, 0) + each.events
    if missing:
        logger.warning(
            "subscription %r begins at position %d, where events that it wants have been pruned: %s; it will not get "
            "them (ensue prune --dry-run shows what was pruned)",
            subscription.name,
            started_at + 1,
            ", ".join(f"up to {number} of {type}" for type, number in sorted(missing.items())),
        )


def _cut(parts: int) -> list[tuple[int, int]]:
    return [(first, after - 1) for first, after in pairwise(edges(parts))]


def _insert(
    log: Log, name: str, first: int, last: int, checkpoint: int, ahead: Sequence[tuple[int, int, int]], epoch: int
) -> Steps[None]:
    yield log.dialect.sql["insert_partition"](
        subscription=name,
        first_slot=first,
        last_slot=last,
        checkpoint=checkpoint,
        ahead=_json(ahead).decode(),
        epoch=epoch,
    )


def repartition(log: Log, name: str, parts: int, *, actor: str, reason: str) -> Steps[int]:
    """Cut a subscription into so many partitions, while it runs; return how many it had.

    What was done up to the saved checkpoints is not done again: a new partition begins at the lowest checkpoint of the
    slots it takes over, and remembers for which of its slots more than that is done. Leases are given up by it: the
    workers that hold them are refused from then on and take new ones, and what they have done since is done again.
    """
    if not 1 <= parts <= 1024:
        raise DeclarationError(f"partitions={parts}: from 1 to 1024")
    sql = log.dialect.sql
    rows = yield sql["partitions_of"](subscription=name)
    if not rows:
        raise UnknownName(f"the log has no subscription {name!r}")
    done: list[tuple[int, int, int]] = []
    for first, last, checkpoint, ahead, _, _ in rows:
        done.append((first, last, checkpoint))
        done.extend(_segments(ahead))
    epoch = max(row[5] for row in rows) + 1  # above all that an earlier owner may still write with
    yield sql["delete_partitions"](subscription=name)
    for first, last in _cut(parts):
        lowest = min(checkpoint for low, high, checkpoint, *_ in rows if low <= last and high >= first)
        ahead = [
            (max(first, low), min(last, high), position)
            for low, high, position in done
            if low <= last and high >= first and position > lowest
        ]
        yield from _insert(log, name, first, last, lowest, ahead, epoch)
    yield from _audit(log, name, f"repartition {len(rows)} to {parts}", actor, reason)
    return len(rows)


def retire(log: Log, name: str, *, actor: str, reason: str) -> Steps[None]:
    """Forget a subscription, its checkpoints and what it has parked; raise `UnknownName` if there is none."""
    sql = log.dialect.sql
    if not (yield sql["delete_subscription"](name=name)):
        raise UnknownName(f"the log has no subscription {name!r}")
    yield from _audit(log, name, "retire", actor, reason)


def pause(log: Log, name: str, paused: bool, *, actor: str, reason: str) -> Steps[None]:
    """Stop or resume a subscription everywhere; workers follow within a lease round."""
    sql = log.dialect.sql
    if not (yield sql["pause"](name=name, paused=int(paused))):
        raise UnknownName(f"the log has no subscription {name!r}")
    yield from _audit(log, name, "pause" if paused else "resume", actor, reason)


def _audit(log: Log, name: str, action: str, actor: str, reason: str) -> Steps[None]:
    yield log.dialect.sql["insert_audit"](
        actor=actor, action=action, subscription=name, key=None, event_id=None, reason=reason, detail=None
    )
