"""What is published is read, exactly as it was or not at all."""

from __future__ import annotations

import asyncio
from collections import defaultdict

from ensue.brokers import Outgoing, Refused
from ensue.contracts.cloudevents import JSON
from tests.broker_suite.case import (
    Ability,
    Case,
    R,
    assert_carried,
    fetched,
    needs,
    published,
)

# --- there and back


@needs(R)
async def what_was_published_is_read(case: Case) -> None:
    sent = case.message(1, "customer 7/ä", more={"subject": 'a "b" c', "traceparent": "00-" + "a" * 32 + "-01"})
    async with case.consumer() as consumer, case.publisher() as publisher:
        assert await publisher.publish([sent]) == [None]
        (came,) = await fetched(consumer, 1)
        await consumer.acknowledge([came])
    assert came.body == sent.body
    assert came.topic == sent.topic
    event = case.event(came)
    assert (event.id, event.source, event.type) == (sent.id, "urn:ensue:suite", "OrderPlaced")
    assert (event.key, event.subject, event.datacontenttype) == ("customer 7/ä", 'a "b" c', JSON)
    assert event.time is not None
    assert event.time.isoformat() == "2026-03-01T09:30:00.123456+00:00"
    assert event.extensions["traceparent"].startswith("00-aaaa")
    assert event.data == sent.body
    assert_carried(sent, came)


@needs(R | Ability.KEYS)
async def the_key_is_the_brokers_own(case: Case) -> None:
    async with case.consumer() as consumer, case.publisher() as publisher:
        await published(publisher, [case.message(1, "customer-7")])
        (came,) = await fetched(consumer, 1)
    assert came.key == "customer-7"


@needs(R)
async def one_event_may_go_to_several_topics(case: Case) -> None:
    """A broker that drops second messages by their id must not take these for the same one."""
    topics = [case.topic, case.new_topic("copies")]
    async with case.consumer(topics=topics) as consumer, case.publisher(topics=topics) as publisher:
        for topic in topics:
            await published(publisher, [case.message(1, "customer-7", topic=topic)])
        came = await fetched(consumer, 2)
        await consumer.acknowledge(came)
    assert sorted(each.topic for each in came) == sorted(topics)
    assert len({case.event(each).id for each in came}) == 1


@needs(R)
async def order_is_kept_by_key(case: Case) -> None:
    async with case.consumer() as consumer, case.publisher() as publisher:
        for first in range(0, 400, 8):  # no two messages of a call have one key
            outcomes = await publisher.publish([case.message(first + each, f"k{each}") for each in range(8)])
            assert outcomes == [None] * 8
        came = await fetched(consumer, 400)
        await consumer.acknowledge(came)
    numbers = defaultdict(list)
    for each in came:
        numbers[case.event(each).key].append(case.number(each))
    assert numbers == {f"k{each}": list(range(each, 400, 8)) for each in range(8)}


@needs(R)
async def a_thousand_are_in_flight_at_once(case: Case) -> None:
    sent = [case.message(number, body=b"x" * 900) for number in range(1000)]
    async with case.consumer() as consumer, case.publisher() as publisher:
        assert await publisher.publish(sent) == [None] * 1000
        came = await fetched(consumer, 1000, most=300)
        await consumer.acknowledge(came)
        assert await consumer.fetch(10, 0.1) == []
    assert sorted(case.numbers(came)) == list(range(1000))


@needs(R)
async def nothing_at_all_is_published_at_once(case: Case) -> None:
    async with case.publisher() as publisher:
        assert await publisher.publish([]) == []


@needs(R)
async def an_empty_body_is_carried(case: Case) -> None:
    async with case.consumer() as consumer, case.publisher() as publisher:
        assert await publisher.publish([case.message(1, body=b"")]) == [None]
        assert [each.body for each in await fetched(consumer, 1)] == [b""]


@needs(R)
async def any_bytes_are_carried(case: Case) -> None:
    body = bytes(range(256)) * 100
    async with case.consumer() as consumer, case.publisher() as publisher:
        assert await publisher.publish([case.message(1, body=body)]) == [None]
        assert [each.body for each in await fetched(consumer, 1)] == [body]


@needs(R | Ability.KEEPS)
async def a_group_that_is_made_later_reads_from_the_beginning(case: Case) -> None:
    async with case.publisher() as publisher:
        await published(publisher, case.messages(range(5)))
    async with case.consumer() as consumer:
        assert sorted(case.numbers(await fetched(consumer, 5))) == [0, 1, 2, 3, 4]


@needs(R | Ability.GROUPS)
async def every_group_reads_everything(case: Case) -> None:
    async with (
        case.consumer() as one,
        case.consumer(group=case.new_group("shipping")) as two,
        case.publisher() as publisher,
    ):
        await published(publisher, case.messages(range(5)))
        for consumer in (one, two):
            assert sorted(case.numbers(await fetched(consumer, 5))) == [0, 1, 2, 3, 4]


@needs(R)
async def several_topics_are_read_together(case: Case) -> None:
    topics = [case.topic, case.new_topic("payments"), case.new_topic("not.read")]
    async with case.publisher(topics=topics) as publisher, case.consumer(topics=topics[:2]) as consumer:
        await published(publisher, [case.message(n, topic=topics[n % 3]) for n in range(30)])
        came = await fetched(consumer, 20)
        await consumer.acknowledge(came)
        assert await consumer.fetch(10, 0.1) == []
    assert sorted(case.numbers(came)) == [n for n in range(30) if n % 3 < 2]
    assert {each.topic for each in came} == set(topics[:2])


@needs(R | Ability.MERGES)
async def several_topics_have_one_order(case: Case) -> None:
    topics = [case.topic, case.new_topic("payments"), case.new_topic("returns")]
    if Ability.KEEPS not in case.site.abilities:
        async with case.consumer(topics=topics):
            pass
    async with case.publisher(topics=topics) as publisher:
        for number in range(100):
            topic = topics[0 if number % 10 else number // 10 % 3]  # most are in one of them
            sent = case.message(number, "one key", topic=topic, more={"sequence": f"{number:020d}"})
            await published(publisher, [sent])
    async with case.consumer(topics=topics) as consumer:
        came = await fetched(consumer, 50, most=7)
        await consumer.acknowledge(came)
    async with case.consumer(topics=topics) as consumer:
        came += await fetched(consumer, 50, most=7)
    assert case.numbers(came) == list(range(100))


@needs(R)
async def calls_may_overlap(case: Case) -> None:
    async with case.consumer() as consumer, case.publisher() as publisher:
        calls = [publisher.publish(case.messages(range(first, first + 50))) for first in range(0, 500, 50)]
        assert await asyncio.gather(*calls) == [[None] * 50] * 10
        assert sorted(case.numbers(await fetched(consumer, 500))) == list(range(500))


@needs(R)
async def opening_again_changes_nothing(case: Case) -> None:
    more = case.new_topic("returns")
    async with case.consumer() as consumer, case.publisher() as publisher:
        await published(publisher, case.messages(range(3)))
        await publisher.open([case.topic])
        async with case.publisher(topics=[case.topic, more]) as other:
            await published(other, case.messages(range(3, 6)))
            await published(publisher, case.messages(range(6, 9)))
        assert sorted(case.numbers(await fetched(consumer, 9))) == list(range(9))


@needs(R | Ability.DEDUPLICATES)
async def a_second_one_of_the_same_id_is_dropped(case: Case) -> None:
    async with case.consumer() as consumer, case.publisher() as publisher:
        assert await publisher.publish(case.messages(range(10))) == [None] * 10
        assert await publisher.publish(case.messages(range(5, 15))) == [None] * 10
        async with case.publisher() as other:
            assert await other.publish(case.messages(range(15))) == [None] * 15
        came = await case.rest(consumer)
    assert sorted(case.numbers(came)) == list(range(15))


# --- what a message may be


HOSTILE = {
    "unicode": "Grüße, 世界 \U0001f600",
    "newline": "first\nsecond\r\nthird",
    "injected header": "x\r\nce-id: forged\r\n\r\n",
    "empty": "",
    "spaces": "  two before, two after  ",
    "control": "\x00\x01\x1b[31m\x7f\t",
    "separators": "a.b.*.> $JS {0} %2F %zz \"quoted\" 'too' \\",
    "half a character": "\ud800",
    "long": "k" * 3000,
    "very long": "ä" * 70000,
}


@needs(R)
async def hostile_keys_and_values_are_carried_exactly_or_refused(case: Case) -> None:
    """A relay's headers are percent-encoded where the protocol wants it; here they are not."""
    sent: list[Outgoing] = []
    prefix = case.broker().binding.prefix
    for number, value in enumerate(HOSTILE.values()):
        message = case.message(number)
        message.headers[f"{prefix}hostile"] = value
        sent.append(message)
        sent.append(Outgoing(message.topic, value, f"{message.id}9", JSON, {**case.message(number).headers}, b"{}"))
        sent[-1].headers[f"{prefix}id"] = sent[-1].id
    sent.append(case.message(1000))
    async with case.consumer() as consumer, case.publisher() as publisher:
        outcomes: dict[str, Refused | None] = {}
        for each in sent:
            (outcomes[each.id],) = await publisher.publish([each])
        assert outcomes[sent[-1].id] is None
        came = {case.event(each).id: each for each in await case.rest(consumer)}
    for each in sent:
        outcome = outcomes[each.id]
        if outcome is None:
            assert_carried(each, came[each.id])
        else:
            assert outcome.permanent, (each.id, outcome)
            assert len(outcome.reason) > 10
            assert each.id not in came


@needs(R)
async def one_that_is_refused_leaves_the_others_alone(case: Case) -> None:
    bad = case.message(1)
    name = f"no such\ntopic \x00 {case.mark}"
    bad = Outgoing(name, bad.key, bad.id, bad.content_type, bad.headers, bad.body)
    async with case.consumer() as consumer, case.publisher() as publisher:
        outcomes = await publisher.publish([case.message(0), bad, case.message(2)])
        if outcomes[1] is None:
            case.topics.append(name)  # to be removed
        else:
            assert outcomes[1].permanent
        assert (outcomes[0], outcomes[2]) == (None, None)
        assert sorted(case.numbers(await fetched(consumer, 2))) == [0, 2]
