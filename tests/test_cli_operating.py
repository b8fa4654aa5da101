"""What operators do on the command line, on both databases."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ensue.app import judging
from tests.patience import until
from tests.shop import Shop, open_shop


@pytest.fixture(params=["sqlite", "postgresql"])
def shop(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    schema: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Iterator[Shop]:
    sqlite = request.param == "sqlite"
    url = f"sqlite:///{tmp_path}/shop.db" if sqlite else request.getfixturevalue("postgres_url")
    yield from open_shop(tmp_path, url, schema, monkeypatch, capsys)


@pytest.fixture
def busy(shop: Shop) -> Shop:
    shop.good("migrate")
    shop.fail_some()
    return shop


# --- migrate


def test_migrate_says_what_it_does_and_does_it_once(shop: Shop) -> None:
    dry = shop.good("migrate", "--dry-run").out
    assert "would apply migration 0001_log\n" in dry
    assert "would register subscription stock\n" in dry
    done = shop.good("migrate").out
    assert "applied migration 0001_log\n" in done
    assert "registered subscription stock\n" in done
    assert "nothing to do" in shop.good("migrate").out
    assert shop.good("migrate", "--json").json == {
        "applied": [],
        "registered": [],
        "vanished": [],
        "prepared": {},
        "unprepared": {},
        "dry_run": False,
    }


def test_a_vanished_subscription_is_reported(shop: Shop) -> None:
    shop.good("migrate")
    shop.change("@app.on(Placed, Noted, start", "@app.on(Noted, start")  # it will want other types
    shop.change("async def mail", "async def unused")
    shop.change('@app.on(Placed, start="beginning")\n', "")
    assert "If it is gone for good: ensue retire mail --app shop:app" in shop.good("migrate").err
    assert [row["state"] for row in shop.good("lag", "--json").json] == ["vanished", "up to date"]


def test_a_renamed_subscription_is_refused(shop: Shop) -> None:
    shop.good("migrate")
    shop.change("async def mail", "async def letter")
    done = shop("migrate")
    assert done.code == 1
    assert "ensue retire mail" in done.err
    assert [row["state"] for row in shop.good("lag", "--json").json] == ["vanished", "up to date", "not registered"]


def test_a_log_of_another_application(shop: Shop) -> None:
    shop.good("migrate")
    shop.change('App("shop"', 'App("bakery"')
    for command in ("migrate", "run"):
        assert "belongs to shop, not to 'bakery'" in shop(command).err
    assert "it belongs to 'shop', and this application is 'bakery'" in shop("doctor").out


# --- tail and show


def positions(shop: Shop, *options: str) -> list[int]:
    done = shop.good("tail", "--no-follow", "--json", *options)
    return [json.loads(line)["position"] for line in done.out.splitlines()]


def test_tail_shows_the_last_events(shop: Shop) -> None:
    shop.good("migrate")
    assert positions(shop) == []
    shop.record(*[f"k{n % 3}" for n in range(25)])
    assert positions(shop) == list(range(16, 26))
    assert positions(shop, "-n", "2") == [24, 25]
    assert positions(shop, "-n", "0") == []
    assert positions(shop, "--after", "22") == [23, 24, 25]
    assert positions(shop, "--since", "1h", "-n", "1") == [25]
    assert positions(shop, "--since", "2100-01-01") == []
    assert positions(shop, "--key", "k1", "-n", "2") == [20, 23]
    assert positions(shop, "--type", "shop.noted") == []
    assert positions(shop, "--type", "shop.noted", "--type", "Placed.v1", "-n", "1") == [25]
    text = shop.good("tail", "--no-follow", "-n", "1").out
    assert text.startswith("      25  20")
    assert text.endswith('  Placed.v1  k0  {"order":"k0","n":24}\n')


def test_tail_selects_by_stream_and_correlation(shop: Shop) -> None:
    shop.good("migrate")
    with shop.app.transaction() as connection:
        shop.app.record(shop.module.Noted(text="a"), stream="note-1", via=connection)
        first = shop.app.record(shop.module.Noted(text="b"), via=connection)
    assert positions(shop, "--stream", "note-1") == [1]
    assert positions(shop, "--correlation", str(first.id)) == [2]


def test_events_are_shown_without_their_classes(shop: Shop) -> None:
    shop.good("migrate")
    shop.record("good")
    shop.change("class Placed(IntegrationEvent, version=1", 'class Placed(IntegrationEvent, name="Else", version=1')
    assert "Placed.v1" in shop.good("tail", "--no-follow").out
    assert '"order": "good"' in shop.good("show", "1").out


def test_tail_shows_nothing_behind_an_open_transaction(shop: Shop) -> None:
    shop.good("migrate")
    others = ["fast"] if shop.url.startswith("postgres") else []  # SQLite has one writer at a time
    with shop.app.transaction() as connection:
        shop.app.record(shop.module.Noted(text="slow"), via=connection)
        if others:
            shop.record(*others)
        assert positions(shop) == []
    assert positions(shop) == [1, 2][: 1 + len(others)]


def test_show_tells_how_far_every_subscription_is(busy: Shop) -> None:
    done = busy.good("show", "4")
    assert '  "order": "bad-1",\n  "n": 3\n' in done.out
    assert "mail          queued  behind 2, which is parked: Permanent: no such" in done.out
    assert re.search(r"\nstock         passed  by 20\S+ \S+Z, within \S+ s of its recording: checkpoint \d+", done.out)
    assert re.search(
        r"parked  waits for a person; 1 attempt, the last .+ ago in \S+: Permanent", busy.good("show", "2").out
    )
    assert "ensue dead show 2 --app shop:app" in busy.good("show", "2").out
    busy.record("good")
    state = {each["subscription"]: each["state"] for each in busy.good("show", "8", "--json").json["subscriptions"]}
    assert state == {"mail": "waiting", "stock": "waiting"}
    event = busy.good("show", "2", "--json").json
    assert event["data"] == {"order": "bad-1", "n": 1}
    assert busy.good("show", event["id"], "--json").json["position"] == 2
    busy.good("dead", "skip", "2", "--reason", "no such person", "--actor", "anna")
    assert "anna said skip for mail: no such person" in busy.good("show", "2").out


def test_show_an_event_from_before_a_subscription_began(shop: Shop) -> None:
    shop.change('Noted, start="beginning"', "Noted")
    shop.good("migrate")
    shop.good("retire", "stock", "--yes")
    shop.record("good")
    shop.good("migrate")
    assert "stock         earlier  recorded before the subscription began" in shop.good("show", "1").out


@pytest.mark.parametrize("id", ["9", "nothing", "01a20744-0089-78a0-bc9a-c052cf2d1ff0"])
def test_show_what_is_not_there(shop: Shop, id: str) -> None:
    shop.good("migrate")
    done = shop("show", id)
    assert done.code == 1
    assert id in done.err


# --- lag


def test_lag(busy: Shop) -> None:
    rows = {row["subscription"]: row for row in busy.good("lag", "--json").json}
    assert rows["mail"]["state"] == "up to date"
    assert rows["mail"]["dead"] == 2
    assert rows["mail"]["retrying"] == 1
    assert rows["mail"]["last_error"]["position"] in (2, 3, 6)
    assert rows["stock"]["last_error"] is None
    assert len(rows["stock"]["partitions"]) == 2
    assert rows["stock"]["free"] == 2
    busy.record("good")
    busy.good("pause", "stock")
    rows = {row["subscription"]: row for row in busy.good("lag", "--json").json}
    assert [(rows[name]["state"], rows[name]["behind"]) for name in ("mail", "stock")] == [("idle", 1), ("paused", 1)]
    text = busy.good("lag").out.splitlines()
    assert text[0].split() == ["subscription", "state", "behind", "age", "retrying", "dead", "partitions", "workers"]
    assert text[1].split()[:3] == ["mail", "idle", "1"]
    assert text[4].split() == ["failing", "last", "position", "error"]


# --- dead letters


def test_list_dead_letters(busy: Shop) -> None:
    found = busy.letters()
    assert [(each["position"], each["key"], each["queued"]) for each in found] == [(2, "bad-1", 2), (6, "bad-2", 0)]
    assert found[0]["data"] == {"order": "bad-1", "n": 1}
    assert [each["position"] for each in busy.letters("--all")] == [2, 3, 6]
    assert [each["position"] for each in busy.letters("--key", "bad-2")] == [6]
    assert len(busy.letters("--type", "Placed.v1", "--subscription", "mail", "--reason-contains", "ADDRESS")) == 2
    assert not busy.letters("--reason-contains", "timeout")
    assert not busy.letters("--before", "1h")
    assert len(busy.letters("--since", "1h")) == 2
    lines = busy.good("dead", "list").out.splitlines()
    assert lines[1].split()[:7] == ["2", "mail", "Placed.v1", "bad-1", "2", "1", "waits"]
    assert lines[1].endswith(r"Permanent: no such [bold]address[/bold] \x1b[31m")
    assert busy.good("dead", "list", "--key", "x").out == "Nothing matches.\n"


def test_show_a_dead_letter(busy: Shop) -> None:
    text = busy.good("dead", "show", "2").out
    assert "2 events of the key queue behind it\n       4  " in text
    assert "Traceback (most recent call last)" in text
    assert "ensue dead skip 2 --subscription mail --app shop:app" in text
    assert "\x1b" not in text
    id = busy.letters()[0]["id"]
    for name in (id, id[-8:], id.upper()):
        assert [each["position"] for each in busy.good("dead", "show", name, "--json").json] == [2]
    for name in ("1", id[-7:], "0" * 8):
        assert f"no parked event is called {name!r}" in busy("dead", "show", name).err
    assert "fits 3 parked events" in busy("dead", "show", id[:8]).err


def test_retry_after_mending(busy: Shop) -> None:
    busy.change('event.order.startswith("bad") and event.n >= 0', "False")
    done = busy.good("dead", "retry", "--all", "--yes", "--reason", "the address is known now", "--actor", "anna")
    assert "retry: 2 events" in done.out
    assert "No worker is alive" in done.err
    assert "ensue run shop:app" in done.err
    busy.work(lambda: {each["position"] for each in busy.letters("--all")} <= {3})
    entries = busy.good("audit", "--json").json
    assert [(each["action"], each["actor"], each["reason"]) for each in entries] == [
        ("retry", "anna", "the address is known now")
    ] * 2


def test_skip_goes_on_behind_it(busy: Shop) -> None:
    busy.good("dead", "skip", "2")
    busy.work(lambda: [each["position"] for each in busy.letters()] == [4, 6])
    assert busy.good("audit", "--json").json[0]["detail"]["position"] == 2


def test_discard_drops_what_queues(busy: Shop) -> None:
    assert "Discard 1 event, and 2 events behind it?" in busy("dead", "discard", "2").err
    busy.good("dead", "discard", "2", "--yes")
    busy.work(lambda: [each["position"] for each in busy.letters()] == [6])
    assert len(busy.good("audit", "--json").json[0]["detail"]["dropped"]) == 3


def test_what_is_tried_again_can_be_given_up_by_its_id(busy: Shop) -> None:
    assert busy.good("dead", "skip", "--key", "flaky").out == "Nothing matches.\n", "a filter means dead letters"
    busy.good("dead", "skip", "3")
    busy.work(lambda: [each["position"] for each in busy.letters("--all")] == [2, 6])


def test_nothing_is_done_without_a_yes(busy: Shop) -> None:
    before = busy.letters("--all")[0]
    for words in (("retry", "--all"), ("skip", "2", "6"), ("discard", "6"), ("edit", "6", "--data", "{}")):
        done = busy("dead", *words)
        assert done.code == 1
        assert "say --yes" in done.err
    assert "would retry 2 events; nothing was done" in busy.good("dead", "retry", "--all", "--dry-run").out
    assert busy.letters("--all")[0] == before
    assert busy.good("audit").out == "Nobody has done anything.\n"


def test_only_what_was_shown_is_decided_on(busy: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """What fails while the operator thinks must not be swept away with the rest."""

    def more_come(*_: object, **__: object) -> None:
        busy.record("bad-3")
        busy.work_off(dead=3)

    monkeypatch.setattr("ensue.cli.deciding.confirm", more_come)
    assert "skip: 2 events" in busy.good("dead", "skip", "--all").out


def test_edit_and_retry(busy: Shop) -> None:
    done = busy.good("dead", "edit", "6", "--data", '{"order": "bad-2", "n": -5}', "--yes", "--reason", "typo")
    assert '-  "n": 5\n+  "n": -5\n' in done.out
    busy.work(lambda: [each["position"] for each in busy.letters()] == [2])
    assert busy.good("show", "6", "--json").json["data"] == {"order": "bad-2", "n": 5}, "the log keeps what happened"
    detail = busy.good("audit", "--json").json[0]["detail"]
    assert json.loads(detail["after"]) == {"order": "bad-2", "n": -5}


@pytest.mark.parametrize(
    "data, says",
    [
        ('{"order": "x"', "this is no JSON"),
        ("@nowhere.json", "nowhere.json cannot be read"),
        ('{"order": "x", "n": "five"}', "does not take these contents"),
    ],
)
def test_edit_into_nonsense(busy: Shop, data: str, says: str) -> None:
    done = busy("dead", "edit", "6", "--yes", "--data", data)
    assert done.code == 1
    assert says in done.err


def test_edit_from_a_file_or_not_at_all(busy: Shop) -> None:
    (busy.folder / "new.json").write_text('{"order": "bad-2", "n": -1}')
    assert "nothing was done" in busy.good("dead", "edit", "6", "--data", "@new.json", "--dry-run").out
    assert "Nothing has changed" in busy.good("dead", "edit", "6", "--data", '{"order":"bad-2","n":5}').out
    assert "give the new contents with --data" in busy("dead", "edit", "6").err


def test_a_letter_of_two_subscriptions(shop: Shop) -> None:
    shop.change("def stock(event, delivery):\n    pass", "def stock(event):\n    raise errors.Permanent('empty')")
    shop.good("migrate")
    shop.record("bad")
    shop.work_off(dead=2)
    assert "parked for mail, stock: say which with --subscription" in shop("dead", "edit", "1", "--data", "{}").err
    assert "Retry 2 events?" in shop("dead", "retry", "1").err
    assert "retry: 1 event;" in shop.good("dead", "retry", "1", "--subscription", "stock").out


# --- steering


def test_pause_and_resume(busy: Shop) -> None:
    assert "ensue resume mail --app shop:app" in busy.good("pause", "mail", "stock").out
    assert [row["state"] for row in busy.good("lag", "--json").json] == ["paused", "paused"]
    assert "mail goes on" in busy.good("resume", "mail").out
    done = busy("pause", "mail", "nothing")
    assert done.code == 1
    assert "it has mail, stock. Nothing was done" in done.err
    assert busy.good("lag", "--json").json[0]["state"] == "up to date"


def test_the_audit_names_who_and_why(busy: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOGNAME", "berta")
    busy.good("pause", "mail", "--reason", "the mail server moves")
    monkeypatch.setenv("ENSUE_ACTOR", "night watch")
    busy.good("resume", "mail")
    busy.good("repartition", "stock", "4", "--actor", "anna")
    entries = busy.good("audit", "--json").json
    assert [(each["actor"], each["action"], each["reason"]) for each in entries] == [
        ("anna", "repartition 2 to 4", ""),
        ("night watch", "resume", ""),
        ("berta", "pause", "the mail server moves"),
    ]
    assert len(busy.good("audit", "--json", "-n", "1").json) == 1
    assert len(busy.good("audit", "--json", "--subscription", "mail").json) == 2
    assert "the mail server moves" in busy.good("audit").out


def test_repartition(busy: Shop) -> None:
    assert busy.good("repartition", "mail", "3").out == "mail has 3 partitions now, and had 1\n"
    assert busy("repartition", "mail", "0").code == 1
    assert busy("repartition", "nothing", "2").code == 1


def test_retire(busy: Shop) -> None:
    refused = busy("retire", "mail")
    assert refused.code == 1
    assert "3 parked keys" in refused.err
    assert "still declares it" in refused.err
    busy.good("retire", "mail", "--yes")
    assert [row["state"] for row in busy.good("lag", "--json").json] == ["up to date", "not registered"]


# --- doctor


def wrong(shop: Shop) -> dict[str, dict[str, str]]:
    """Return what the doctor finds, by check."""
    done = shop("doctor", "--json")
    found = {each["check"]: each for each in done.json["findings"] if each["level"] == "wrong"}
    assert done.json["healthy"] == (not found) == (done.code == 0)
    for each in found.values():
        assert each["mend"]
    return found


@contextmanager
def worker(shop: Shop) -> Iterator[None]:
    """Run a worker in a process of its own, until it holds all leases."""
    process = shop.start("run", "shop:app")
    try:
        asyncio.run(until(lambda: all(not row["free"] for row in shop.good("lag", "--json").json)))
        yield
    finally:
        process.terminate()
        process.communicate(timeout=20)


def test_doctor_finds_nothing_wrong(shop: Shop) -> None:
    shop.good("migrate")
    with worker(shop):
        assert not wrong(shop)
        assert shop("doctor").out.endswith("\nall is well\n")


def test_doctor_without_a_worker(busy: Shop) -> None:
    busy.record("good")
    found = wrong(busy)
    assert "no worker is alive; 2 events wait" in found["workers"]["what"]
    assert found["workers"]["mend"] == "ensue run shop:app"
    assert found["dead letters"]["mend"] == "ensue dead list --subscription mail --app shop:app"
    text = busy("doctor").out
    assert "WRONG  workers        no worker is alive" in text
    assert "mend: ensue run shop:app" in text
    assert "note   dead letters   1 event of mail failed and will be tried again" in text


def test_doctor_before_the_migration(shop: Shop) -> None:
    if shop.url.startswith("sqlite"):
        (shop.folder / "shop.db").touch()
    assert wrong(shop)["migrations"]["mend"] == "ensue migrate shop:app"


def test_doctor_when_the_database_does_not_answer(shop: Shop) -> None:
    if shop.url.startswith("sqlite"):
        (shop.folder / "shop.db").write_text("this is no database" * 1000)
        done = shop("doctor")
        assert done.code == 1
        assert "file is not a database" in done.out + done.err
        return
    shop.change(shop.url, "postgresql://postgres:secret@localhost:1/nothing")
    found = wrong(shop)
    assert found.keys() == {"database"}
    assert "secret" not in str(found)


@pytest.mark.parametrize("shop", ["postgresql"], indirect=True)
def test_doctor_where_postgresql_takes_no_writes(shop: Shop) -> None:
    shop.good("migrate")
    assert "database" not in wrong(shop)
    shop.change(shop.url, f"{shop.url}{'&' if '?' in shop.url else '?'}options=-c%20default_transaction_read_only%3Don")
    found = wrong(shop)["database"]
    assert "it takes no writes from here, as default_transaction_read_only is on" in found["what"]
    assert "show default_transaction_read_only" in found["mend"]


def test_doctor_on_renamed_new_and_vanished_subscriptions(shop: Shop) -> None:
    shop.good("migrate")
    shop.change("async def mail", "async def letter")
    found = wrong(shop)["subscriptions"]
    assert "letter is new where mail vanished" in found["what"]
    assert "name='mail'" in found["mend"]
    assert "ensue retire mail" in found["mend"]
    shop.good("retire", "mail", "--yes")
    assert "letter was never registered" in wrong(shop)["subscriptions"]["what"]


def test_doctor_on_a_pause(shop: Shop) -> None:
    shop.good("migrate")
    shop.good("pause", "mail")
    notes = [each for each in shop("doctor", "--json").json["findings"] if each["level"] == "note"]
    assert notes[0]["mend"] == "ensue resume mail --app shop:app"


def test_doctor_on_a_dead_worker_s_lease_and_a_subscription_without_a_worker(shop: Shop) -> None:
    shop.good("migrate")
    shop.record("good")
    expire(shop, "mail", owner="host:1:dead")
    greet(shop, "host:2:alive")
    done = shop("doctor", "--json").json["findings"]
    leases = [each for each in done if each["check"] == "leases"]
    assert "1 lease on mail ran out and nobody took over; host:1:dead" in leases[0]["what"]
    assert "nobody works on 2 of 2 partitions of stock, and 1 event waits" in leases[1]["what"]


def test_doctor_on_a_handler_that_hangs(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judging, "STUCK", 0.0)
    shop.good("migrate")
    shop.record("good")
    expire(shop, "mail", owner="host:1:slow", until="2100-01-01T00:00:00.000000Z")
    assert "mail has not moved for" in wrong(shop)["progress"]["what"]


def test_doctor_on_a_clock_that_is_wrong(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    shop.good("migrate")
    monkeypatch.setattr(type(shop.app.operations), "clock_skew", lambda _: -90.0)
    assert "1 min 30 s behind the database" in wrong(shop)["clock"]["what"]


def test_doctor_on_a_long_transaction(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judging, "PATIENCE", 0.0)
    monkeypatch.setattr("ensue.log.opening.BUSY_SECONDS", 0.1)
    shop.good("migrate")
    with shop.app.transaction() as connection:
        shop.app.record(shop.module.Noted(text="slow"), via=connection)
        found = wrong(shop)["horizon"]
    if shop.url.startswith("sqlite"):
        assert "keeps a write transaction open" in found["what"]
    else:
        assert "nothing behind position 0 can be delivered before it ends" in found["what"]
        assert "pg_terminate_backend" in found["mend"]
    assert "horizon" not in wrong(shop)


def execute(shop: Shop, sql: str) -> None:
    """Change what only a worker changes."""
    separator = "_" if shop.url.startswith("sqlite") else "."
    with shop.app.transaction() as connection:
        connection.execute(sql.replace("ensue.", shop.schema + separator))


def expire(shop: Shop, subscription: str, *, owner: str, until: str = "2000-01-01T00:00:00.000000Z") -> None:
    """Give a subscription to a worker, until a moment."""
    execute(
        shop,
        f"update ensue.partitions set owner = '{owner}', leased_until = '{until}' "
        f"where subscription = '{subscription}'",
    )


def greet(shop: Shop, name: str) -> None:
    """Let a worker say that it lives."""
    execute(shop, f"insert into ensue.workers (id, host, pid, subscriptions) values ('{name}', 'host', 2, '[]')")
