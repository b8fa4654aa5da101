"""From one service to another: relay and receiver at the two ends of the broker."""

from __future__ import annotations

import asyncio

from ensue import App, IntegrationEvent
from ensue.brokers.relays import Mode
from ensue.contracts.cloudevents import JSON
from ensue.subscriptions.operating import Filter
from tests.broker_suite.case import Case, R, needs, published
from tests.patience import until


class Said(IntegrationEvent, version=1, key="who", name="test.suite.said"):
    who: str
    number: int


def record(app: App, numbers: range) -> None:
    with app.transaction() as connection:
        app.record(*(Said(who=f"Größe/{number % 2}", number=number) for number in numbers), via=connection)


@needs(R)
async def both_modes_of_cloudevents_arrive(case: Case) -> None:
    modes: tuple[Mode, ...] = ("binary", "structured")
    topics = {mode: case.new_topic(mode) for mode in modes}
    reader = App("reader", f"memory://{case.mark}-reader", migrate=True)
    senders: list[App] = []
    for mode in modes:
        sender = App(mode, f"memory://{case.mark}-{mode}", migrate=True)
        sender.relay(case.url, Said, topic=lambda _, mode=mode: topics[mode], mode=mode, start="beginning")  # type: ignore[misc]
        reader.inbox(case.url, Said, name=mode, topic=lambda _, mode=mode: topics[mode], group=case.new_group(mode))  # type: ignore[misc]
        await asyncio.to_thread(record, sender, range(10))
        senders.append(sender)
    reader.migrate()
    await reader.prepare_receivers()
    async with reader.running(), senders[0].running(), senders[1].running():
        await until(lambda: len(list(reader.read(types=[Said]))) == 20)
    for sender in senders:
        sent = list(sender.read(types=[Said]))
        came = [
            each
            for each in reader.read(types=[Said])
            if each.metadata.headers["received-from"] == f"urn:ensue:{sender.name}"
        ]
        for who in ("Größe/0", "Größe/1"):
            assert [each.event for each in came if each.key == who] == [each.event for each in sent if each.key == who]
        assert {each.causation_id for each in came} == {each.id_text for each in sent}
        assert {each.correlation_id for each in came} == {each.correlation_id for each in sent}


@needs(R)
async def what_cannot_be_read_becomes_a_dead_letter(case: Case) -> None:
    app = App("reader", f"memory://{case.mark}", migrate=True)
    app.inbox(case.url, Said, topic=lambda _: case.topic, group=case.group)
    app.migrate()
    await app.prepare_receivers()
    good = {"type": Said.__type__}
    ill = [
        case.message(1, "a", more={"type": "test.suite.unheard-of.v9"}, body=b"{}"),
        case.message(2, "b", more=good, body=b'{"who":"b","number":"two"}'),
        case.message(3, "c", more=good, body=b"\xff\x00 no JSON"),
        case.message(4, "d", more={"specversion": "0.3"}, body=b"{}"),
    ]
    binding = case.broker().binding
    plain = case.message(5, "e", body=b"no event at all")
    headers = {} if binding.content_type is None else {binding.content_type: JSON}
    ill.append(type(plain)(plain.topic, plain.key, plain.id, plain.content_type, headers, plain.body))
    async with case.publisher() as publisher, app.running():
        await published(publisher, ill)
        await published(publisher, [case.message(6, "f", more=good, body=b'{"who":"f","number":6}')])
        await until(lambda: len(app.operations.dead_letters(Filter())) == len(ill))
        await until(lambda: [each.event for each in app.read(types=[Said])] == [Said(who="f", number=6)])
    reasons = sorted(each.reason for each in app.operations.dead_letters(Filter()))
    for said in ("unheard-of", "does not fit its class", "0.3", "is no CloudEvent"):
        assert any(said in reason for reason in reasons), (said, reasons)
    async with case.consumer() as consumer:  # nothing of it is left at the broker
        assert case.numbers(await case.rest(consumer)) == []
