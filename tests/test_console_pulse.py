"""The pulse: one look for all who watch, and what it makes of two."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ensue.console.health import Health, health_of
from ensue.console.jobs import Jobs, Progress
from ensue.console.pulse import Pulse, time_left
from ensue.errors import ConsoleRefused
from tests.bookshop import Bookshop
from tests.console_running import eventually, working


@pytest.fixture
def shop(tmp_path: Path) -> Bookshop:
    made = Bookshop(f"sqlite:///{tmp_path}/shop.db")
    made.app.migrate()
    made.fill()
    return made


def test_one_look_serves_all_who_watch_until_somebody_has_changed_something(shop: Bookshop) -> None:
    pulse = Pulse(shop.app)
    first = pulse.beat()
    assert pulse.beat() is first
    pulse.forget()
    assert pulse.beat() is not first


def test_what_has_flowed_between_two_looks(shop: Bookshop) -> None:
    pulse = Pulse(shop.app)
    with working(shop):
        assert pulse.beat().recorded is None, "one look knows no rate"
        for number in range(20):
            shop.order(number, take=False)
        eventually(lambda: not any(each.behind for each in shop.app.operations.standings()))
        pulse.forget()
        beat = pulse.beat()
    assert beat.types["BookPaid"] == beat.types["BookSent.v1"] > 0
    assert beat.rates["send_confirmation"].handled == beat.types["BookOrdered.v2"]
    assert beat.recorded == pytest.approx(sum(beat.types.values()))
    assert len(pulse.points) == 1


def test_the_time_that_is_left(shop: Bookshop) -> None:
    for number in range(5):
        shop.order(number, take=False)
    beat = Pulse(shop.app).beat()
    seen = next(each for each in beat.facts.seen if each.subscription == "send_confirmation")
    assert time_left(seen, None, beat.head) is None
    assert beat.oldest > 0


def test_the_sentence_names_the_worst_and_the_button(shop: Bookshop) -> None:
    pulse = Pulse(shop.app)

    def health_now() -> Health:
        pulse.forget()
        return health_of(shop.app, pulse.beat(), payloads=True)

    shop.order(1, take=False)
    health = health_now()
    assert health.level == "wrong"
    assert health.sentence.startswith("No worker is alive; ")
    with working(shop):
        shop.order(2, email="nowhere", take=False)
        eventually(shop.app.operations.dead_letters)
        shop.app.operations.pause("print_poster", actor="test", reason="")
        wrong, note = health_now().problems
        assert wrong.what == (
            "1 event of send_confirmation waits for a person: MailRefused: 550 no mailbox 'nowhere' here."
        )
        (veiled, _) = health_of(shop.app, pulse.beat(), payloads=False).problems
        assert veiled.what == "1 event of send_confirmation waits for a person."
        assert note.button is not None
        assert (note.button.label, note.button.action) == ("Resume print_poster", "resume")
        shop.app.operations.resume("print_poster", actor="test", reason="")
        letter = shop.app.operations.dead_letters()[0]
        shop.refuses_bad_addresses = False
        shop.app.operations.edit(
            letter.subscription, letter.id, (letter.data or "").replace("nowhere", "a@b"), actor="test", reason=""
        )
        eventually(lambda: not shop.app.operations.standings()[4].dead)
        eventually(lambda: health_now().level == "well")


def test_a_fault_has_a_trend(shop: Bookshop) -> None:
    with working(shop):
        shop.order(1, email="nowhere", take=False)
        eventually(shop.app.operations.dead_letters)
    (fault,) = shop.app.operations.faults()
    assert (fault.subscription, fault.fault, fault.waiting) == ("send_confirmation", "MailRefused", 1)
    now = datetime.now(UTC)
    assert fault.trend(24, now)[-2:] in ([0, 1], [1, 0])
    assert sum(fault.trend(24, now + timedelta(days=2))) == 0


def test_the_same_job_is_not_begun_twice_and_a_failure_is_told() -> None:
    jobs, enough = Jobs(), threading.Event()

    def fail(progress: Progress) -> str:
        progress(1, 2)
        enough.wait(10)
        raise ValueError("no")

    jobs.begin("count", "ann", fail)
    with pytest.raises(ConsoleRefused, match="at work already"):
        jobs.begin("count", "bob", fail)
    enough.set()
    job = eventually(lambda: jobs.get(1) if jobs.get(1).state == "failed" else None)
    assert (job.done, job.total, job.told) == (1, 2, "ValueError: no")
