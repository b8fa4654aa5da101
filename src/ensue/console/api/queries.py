"""The queries of the JSON API."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from ensue.app.builds import BuildStanding
from ensue.app.telling import read_moment
from ensue.console.acting import Retry, filters_of
from ensue.console.api import answers
from ensue.console.api.answers import Asked
from ensue.console.api.contracts import Contracts, ContractShown, contract, contracts
from ensue.console.health import health_of
from ensue.console.jobs import Job
from ensue.console.pulse import Beat
from ensue.console.views.dead import letter_named
from ensue.console.views.events import event_named
from ensue.console.views.overview import left
from ensue.console.visits import Visit
from ensue.drawing import Map
from ensue.errors import UnknownName
from ensue.handlers.processes import ProcessSeen, ProcessShown
from ensue.handlers.timers import WaitingTimer
from ensue.history import State, Trace
from ensue.log import Selection
from ensue.subscriptions.faults import Fault
from ensue.subscriptions.operating import DeadLetter


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """Something that can be asked."""

    path: str
    takes: type[Asked]
    answers: Any
    """The type of the answer."""
    ask: Callable[[Any, Visit], Any]

    @property
    def about(self) -> str:
        """A sentence, for the document."""
        return (self.ask.__doc__ or "").strip()


def overview(asked: Asked, visit: Visit) -> answers.Overview:
    """Say how the application is."""
    beat = visit.pulse.beat()
    payloads = visit.visitor.payloads
    health = health_of(visit.app, beat, payloads=payloads)
    return answers.Overview(
        level=health.level,
        sentence=health.sentence,
        problems=[
            answers.Problem(
                level=each.level,
                what=each.what,
                mend=each.mend,
                action=each.button.action if each.button else None,
                values=dict(each.button.values) if each.button else {},
            )
            for each in health.problems
        ],
        recorded_per_second=beat.recorded,
        handled_per_second=beat.handled,
        oldest_seconds=beat.oldest,
        dead_letters=beat.dead,
        retrying=beat.retrying,
        workers=beat.facts.workers,
        complete_up_to=beat.head,
        holders=[each if payloads else msgspec.structs.replace(each, query="") for each in beat.facts.holders],
    )


def subscriptions(asked: Asked, visit: Visit) -> list[answers.SubscriptionSeen]:
    """Say how every subscription is."""
    beat = visit.pulse.beat()
    return [_subscription(each, beat, visit) for each in beat.facts.seen]


def subscription(asked: Asked, visit: Visit) -> answers.SubscriptionSeen:
    """Say how a subscription is."""
    name, beat = visit.part("name"), visit.pulse.beat()
    for each in beat.facts.seen:
        if each.subscription == name:
            return _subscription(each, beat, visit)
    raise UnknownName(f"there is no subscription {name!r}")


def _subscription(seen: Any, beat: Beat, visit: Visit) -> answers.SubscriptionSeen:
    rate = beat.rates.get(seen.subscription)
    return answers.SubscriptionSeen(
        seen=answers.veiled_seen(seen, payloads=visit.visitor.payloads),
        handled_per_second=rate.handled if rate else None,
        caught_up_in_seconds=left(seen, beat),
    )


def events(asked: answers.Events, visit: Visit) -> answers.EventsFound:
    """Return the latest events that match, the last first."""
    if asked.text:
        visit.need_payloads()
    history = visit.app.history
    since, before = _moment(asked.since), _moment(asked.before)
    until = asked.until
    if before is not None:
        end = history.position_at(before) - 1
        until = end if until is None else min(until, end)
    wanted = Selection(
        after=history.position_at(since) - 1 if since is not None else 0,
        until=until,
        types=(asked.type,) if asked.type else (),
        key=asked.key or None,
        stream=asked.stream or None,
        correlation_id=asked.correlation or None,
        contains=asked.text or None,
    )
    found = visit.app.operations.search(wanted, limit=asked.limit, seconds=0.4)
    seen = [answers.event_seen(each, payloads=visit.visitor.payloads) for each in found.events]
    return answers.EventsFound(events=seen, down_to=found.down_to)


def _moment(text: str | None) -> Any:
    if not text:
        return None
    if (found := read_moment(text)) is None:
        raise msgspec.ValidationError(f"{text!r} is no moment: write 2026-03-01T09:30, or how long ago: 15m, 2h, 3d")
    return found


def event(asked: Asked, visit: Visit) -> answers.EventShown:
    """Return everything about an event, by its id or its position."""
    recorded, payloads = event_named(visit, visit.part("id")), visit.visitor.payloads
    operations = visit.app.operations
    decisions = operations.audit(50, event_id=recorded.id_text, key=recorded.key)
    return answers.EventShown(
        event=answers.event_seen(recorded, payloads=payloads),
        subscriptions=[answers.veiled_passage(each, payloads=payloads) for each in operations.passages(recorded)],
        decisions=[answers.entry(each, payloads=payloads) for each in decisions],
    )


def trace(asked: Asked, visit: Visit) -> Trace:
    """Return the tree of what caused what around an event."""
    recorded = event_named(visit, visit.part("id"))
    found = visit.app.history.trace(recorded.id_text, also=visit.also, limit=200)
    return answers.veiled_trace(found, payloads=visit.visitor.payloads)


def letters(asked: answers.Letters, visit: Visit) -> list[DeadLetter]:
    """Return dead letters that match, in the log's order; to go on, give the last one's position and subscription."""
    given = msgspec.to_builtins(asked)
    chosen = {name: given[name] for name in ("subscription", "type", "fault", "key", "contains", "since", "before")}
    (filter,) = filters_of(msgspec.convert({**chosen, "all": True}, Retry))
    found = visit.app.operations.dead_letters(
        replace(filter, waiting_only=not asked.all), limit=asked.limit, behind=(asked.after, asked.behind)
    )
    return [answers.veiled_letter(each, payloads=visit.visitor.payloads) for each in found]


def queue(asked: answers.OfQueue, visit: Visit) -> answers.Queue:
    """Return what queues behind a dead letter, in the order that will be kept."""
    letter, operations, payloads = letter_named(visit), visit.app.operations, visit.visitor.payloads
    (queued,) = operations.queued([letter])
    events = operations.waiting(letter)[: asked.limit] if queued else []
    return answers.Queue(
        letter=answers.veiled_letter(letter, payloads=payloads),
        queued=queued,
        events=[answers.event_seen(each, payloads=payloads) for each in events],
    )


def faults(asked: answers.OfSubscription, visit: Visit) -> list[Fault]:
    """Return what fails, in groups by subscription, type and the class of the error."""
    return visit.app.operations.faults(asked.subscription or None)


def state(asked: answers.When, visit: Visit) -> State:
    """Return the state of an aggregate: as it is, as it was at a version, or at a moment."""
    then = None if asked.version is not None else _moment(asked.as_of)
    found = visit.app.history.state(visit.part("stream"), at_version=asked.version, as_of=then)
    return answers.veiled_state(found, payloads=visit.visitor.payloads)


def difference(asked: answers.Versions, visit: Visit) -> answers.Changed:
    """Return what differs between two versions of an aggregate, and the events between."""
    found, payloads = visit.app.history.diff(visit.part("stream"), asked.first, asked.last), visit.visitor.payloads
    return answers.Changed(
        stream=found.stream,
        first=found.first,
        last=found.last,
        before=answers.values(found.before, payloads=payloads),
        after=answers.values(found.after, payloads=payloads),
        events=[answers.event_seen(each.recorded, payloads=payloads) for each in found.events],
    )


def processes(asked: answers.OfProcess, visit: Visit) -> list[ProcessSeen]:
    """Return processes of a name and a status, those that began last first."""
    found = visit.app.processes.begun(asked.process, asked.status, limit=asked.limit)
    return [_veiled_process(each, visit) for each in found]


def process(asked: Asked, visit: Visit) -> ProcessShown:
    """Return everything about a process."""
    found = visit.app.processes.show(visit.part("process"), visit.part("key"))
    return msgspec.structs.replace(found, process=_veiled_process(found.process, visit))


def _veiled_process(seen: ProcessSeen, visit: Visit) -> ProcessSeen:
    return seen if visit.visitor.payloads else msgspec.structs.replace(seen, state="null")


def timers(asked: answers.Some, visit: Visit) -> list[WaitingTimer]:
    """Return the timers that wait, the next one first."""
    return list(visit.app.processes.next_timers(asked.limit))


def builds(asked: answers.OfProjection, visit: Visit) -> list[BuildStanding]:
    """Return the builds of projections, and how far each is."""
    return visit.app.replays.builds(asked.projection or None)


def map(asked: Asked, visit: Visit) -> Map:
    """Say who emits and who handles which event, as it is declared."""
    return visit.app.map()


def audit(asked: answers.Entries, visit: Visit) -> list[answers.Entry]:
    """Return what operators did, the latest first."""
    found = visit.app.operations.audit(
        asked.limit, subscription=asked.subscription or None, key=asked.key or None, before=asked.before
    )
    return [answers.entry(each, payloads=visit.visitor.payloads) for each in found]


def jobs(asked: Asked, visit: Visit) -> list[answers.JobSeen]:
    """Return the long actions of this console, the latest first."""
    return [_job(each, visit) for each in visit.jobs.all()]


def job(asked: Asked, visit: Visit) -> answers.JobSeen:
    """Return a long action, and how far it is."""
    return _job(visit.jobs.get(visit.numbered("number")), visit)


def _job(each: Job, visit: Visit) -> answers.JobSeen:
    return answers.JobSeen(
        number=each.number,
        what=each.what,
        actor=each.actor,
        state=each.state,
        done=each.done,
        total=each.total,
        told=each.told_to(payloads=visit.visitor.payloads),
        began=each.began,
        ended=each.ended,
    )


QUERIES = (
    Query(path="/overview", takes=Asked, answers=answers.Overview, ask=overview),
    Query(path="/subscriptions", takes=Asked, answers=list[answers.SubscriptionSeen], ask=subscriptions),
    Query(path="/subscriptions/{name}", takes=Asked, answers=answers.SubscriptionSeen, ask=subscription),
    Query(path="/events", takes=answers.Events, answers=answers.EventsFound, ask=events),
    Query(path="/events/{id}", takes=Asked, answers=answers.EventShown, ask=event),
    Query(path="/events/{id}/trace", takes=Asked, answers=Trace, ask=trace),
    Query(path="/dead-letters", takes=answers.Letters, answers=list[DeadLetter], ask=letters),
    Query(path="/dead-letters/{position}/queue", takes=answers.OfQueue, answers=answers.Queue, ask=queue),
    Query(path="/faults", takes=answers.OfSubscription, answers=list[Fault], ask=faults),
    Query(path="/aggregates/{stream}", takes=answers.When, answers=State, ask=state),
    Query(path="/aggregates/{stream}/diff", takes=answers.Versions, answers=answers.Changed, ask=difference),
    Query(path="/processes", takes=answers.OfProcess, answers=list[ProcessSeen], ask=processes),
    Query(path="/processes/{process}/{key}", takes=Asked, answers=ProcessShown, ask=process),
    Query(path="/timers", takes=answers.Some, answers=list[WaitingTimer], ask=timers),
    Query(path="/builds", takes=answers.OfProjection, answers=list[BuildStanding], ask=builds),
    Query(path="/map", takes=Asked, answers=Map, ask=map),
    Query(path="/contracts", takes=Asked, answers=Contracts, ask=contracts),
    Query(path="/contracts/{event}", takes=Asked, answers=ContractShown, ask=contract),
    Query(path="/audit", takes=answers.Entries, answers=list[answers.Entry], ask=audit),
    Query(path="/jobs", takes=Asked, answers=list[answers.JobSeen], ask=jobs),
    Query(path="/jobs/{number}", takes=Asked, answers=answers.JobSeen, ask=job),
)
