"""Whether a worker lives and keeps up, asked over HTTP of real processes that are stopped, blocked and killed."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from ensue import App, DomainEvent
from ensue.cli.http import beside
from ensue.cli.target import TargetError
from ensue.integrations.endpoints import Endpoints
from ensue.integrations.health import Health, Pulse, keeping_up
from ensue.integrations.prometheus import Metrics
from tests.patience import PATIENCE, until, until_sync
from tests.servers import free_port

MODULE = """
import logging
from ensue import App, DomainEvent, Park

app = App("healthy", {url!r}, schema={schema!r})

class Pinged(DomainEvent, key="who", name="test.health.pinged"):
    who: str

@app.on(Pinged, start="beginning")
async def ping(event):
    logging.getLogger("shop").warning("pinged %s", event.who)
    if event.who == "bad":
        return Park("no such person")
"""


class Pinged(DomainEvent, key="who", name="test.health.pinged"):
    who: str


class Answer(NamedTuple):
    status: int
    body: Any


def get(port: int, path: str, timeout: float = 3.0) -> Answer | None:
    """Return an answer; None if there is none in time."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=timeout) as answer:
            return Answer(answer.status, answer.read())
    except urllib.error.HTTPError as error:
        with error:
            return Answer(error.code, error.read())
    except OSError:
        return None


def asked(port: int, path: str, timeout: float = 3.0) -> Answer | None:
    answer = get(port, path, timeout)
    return None if answer is None else Answer(answer.status, json.loads(answer.body))


class Site:
    """An application in a folder, and its workers."""

    def __init__(self, folder: Path, url: str, schema: str) -> None:
        self.folder, self.url, self.schema = folder, url, schema
        (folder / "healthy.py").write_text(MODULE.format(url=url, schema=schema))
        self.app = App("healthy", url, schema=schema)
        self.app.on(Pinged, name="ping")(lambda event: None)
        self.workers: list[subprocess.Popen[str]] = []
        self.app.migrate()

    def start(self, port: int, *more: str) -> subprocess.Popen[str]:
        options = ("--lease", "1", "--grace", "0.2", "--http", str(port))
        with (self.folder / f"{port}.log").open("w") as log:
            worker = subprocess.Popen(
                [sys.executable, "-W", "error", "-m", "ensue.cli", "run", "healthy:app", *options, *more],
                cwd=self.folder,
                stderr=log,
                text=True,
            )
        self.workers.append(worker)
        return worker

    def log(self, port: int) -> str:
        return (self.folder / f"{port}.log").read_text()

    def record(self, who: str) -> None:
        with self.app.transaction() as connection:
            self.app.record(Pinged(who=who), via=connection)


@pytest.fixture(params=["sqlite", "postgresql"])
def site(request: pytest.FixtureRequest, tmp_path: Path, schema: str) -> Iterator[Site]:
    url = f"sqlite:///{tmp_path}/log.db"
    if request.param == "postgresql":
        url = request.getfixturevalue("postgres_url")
    with closing_site(tmp_path, url, schema) as made:
        yield made


@contextmanager
def closing_site(folder: Path, url: str, schema: str) -> Iterator[Site]:
    made = Site(folder, url, schema)
    try:
        yield made
    finally:
        for worker in made.workers:
            if worker.poll() is None:
                worker.kill()
            worker.wait()


def well(port: int, path: str = "/healthz") -> bool:
    answer = asked(port, path)
    return answer is not None and answer.status == 200


def test_a_worker_that_is_stopped_or_killed_does_not_look_healthy(site: Site) -> None:
    one, other = free_port(), free_port()
    worker = site.start(one)
    until_sync(lambda: well(one) and well(one, "/readyz"))
    site.record("ada")
    until_sync(lambda: (answer := asked(one, "/readyz")) and answer.body["subscriptions"]["ping"]["checkpoint"] > 0)

    # it is stopped: it answers nothing, and who asks the log from elsewhere is told
    worker.send_signal(signal.SIGSTOP)
    assert get(one, "/healthz", timeout=1.0) is None
    ran_out = "1 lease on ping ran out and nobody took over"
    until_sync(lambda: any(ran_out in each for each in keeping_up(site.app).problems))
    assert not keeping_up(site.app).well

    # another one takes over: then all is well again, and the first one knows that it was left behind when it goes on
    site.start(other)
    until_sync(lambda: well(other, "/readyz"))
    worker.send_signal(signal.SIGCONT)
    until_sync(lambda: well(one))

    worker.kill()
    assert get(one, "/healthz", timeout=1.0) is None
    site.workers[1].kill()
    until_sync(lambda: not keeping_up(site.app).well)


def test_what_a_worker_serves_and_logs(tmp_path: Path, schema: str) -> None:
    with closing_site(tmp_path, f"sqlite:///{tmp_path}/log.db", schema) as site:
        port = free_port()
        site.start(port, "--log-format", "json")
        until_sync(lambda: well(port))

        site.record("bad")
        until_sync(lambda: b'ensue_events_handled_total{app="healthy",outcome="park"' in _metrics(port))
        assert b'ensue_subscription_lag{app="healthy",subscription="ping"}' in _metrics(port)
        found = get(port, "/other")
        assert found is not None
        assert found.status == 404

        lines = [json.loads(line) for line in site.log(port).splitlines()]
        (event,) = site.app.read()
        own = next(line for line in lines if line["logger"] == "shop")
        assert own["message"] == "pinged bad"
        ours = next(line for line in lines if line["level"] == "error")
        for line in (own, ours):
            assert line["subscription"] == "ping"
            assert line["event_id"] == str(event.id)
            assert line["event_type"] == "test.health.pinged"
            assert line["position"] == event.position
        assert own["correlation_id"] == event.correlation_id
        assert ours["attempt"] == 1
        assert ours["key"] == "bad"

        with pytest.raises(TargetError, match=f"--http {port}: Address already in use; name another port"):
            beside(site.app, str(port)).__enter__()


def _metrics(port: int) -> bytes:
    answer = get(port, "/metrics")
    assert answer is not None
    assert isinstance(answer.body, bytes)
    return answer.body


@pytest.mark.parametrize("where", ["x", "localhost", "1:x", "70000", ""])
def test_a_place_that_is_none(where: str) -> None:
    with pytest.raises(TargetError, match="write it as a port"):
        beside(App("nowhere", "memory://nowhere"), where).__enter__()


# --- what is judged


def test_a_transaction_that_holds_the_horizon_back(postgres_url: str, schema: str) -> None:
    app = App("held", postgres_url, schema=schema)
    app.migrate()
    assert keeping_up(app).well
    with app.transaction() as connection:
        app.record(Pinged(who="slow"), via=connection)
        assert keeping_up(app, within=60).well
        until_sync(lambda: not keeping_up(app, within=0.05).well)
        (problem,) = keeping_up(app, within=0.05).problems
        assert "nothing behind position 0 can be delivered before it ends" in problem
        assert "insert" not in problem, "what it does is not for the probe to tell"
    assert keeping_up(app, within=0.05).well


def test_lag_counts_from_the_head_and_not_if_somebody_has_paused(tmp_path: Path) -> None:
    app = App("judged", f"sqlite:///{tmp_path}/log.db")
    app.on(Pinged, name="ping")(lambda event: None)
    assert Endpoints(app).page("/readyz").status != 200, "there is no log yet"
    app.migrate()
    with app.transaction() as connection:
        app.record(Pinged(who="ada"), via=connection)
    until_sync(lambda: "ping is 1 event and 0." in keeping_up(app, within=0.01).problems[-1])
    app.operations.pause("ping", actor="test", reason="test")
    assert keeping_up(app, within=0.01).problems == ("no worker is alive; 0 events wait for one",)


def test_of_many_that_wait_not_all_are_counted(tmp_path: Path) -> None:
    app = App("healthy", f"sqlite:///{tmp_path}/log.db", migrate=True)
    app.on(Pinged, name="ping", start="beginning")(lambda event: None)
    app.migrate()
    with app.transaction() as connection:
        connection.execute(
            "insert into ensue_events (id, type, kind, data, recorded_at) with recursive each (number) as "
            "(select 1 union all select number + 1 from each where number < 20100) select "
            "printf('01a00000-0000-7000-8000-%012d', number), 'test.health.pinged', 'domain', '{\"who\":\"a\"}', "
            "'2026-01-01T00:00:00Z' from each"
        )
    found = keeping_up(app)
    assert found.problems[-1].startswith("ping is more than 20,000 events and ")
    assert found.facts["subscriptions"]["ping"]["behind"] == 20_000


def test_a_database_that_is_away_is_an_answer() -> None:
    app = App("away", f"postgresql://127.0.0.1:{free_port()}/nothing")
    page = Endpoints(app, metrics=Metrics(app)).page("/readyz")
    assert page.status == 503
    assert b"the log cannot be asked" in page.body
    assert Endpoints(app, metrics=Metrics(App("other", "memory://other"))).page("/metrics").status == 503


def test_builds_that_this_code_does_not_work_on_count_for_nothing(tmp_path: Path) -> None:
    app = App("builds", f"sqlite:///{tmp_path}/log.db")

    @app.projection(Pinged, tables="pings", set_up="create table pings (who text)")
    def pings(event: Pinged, connection: Any) -> None: ...

    assert [each.startswith("pings was never registered") for each in _problems_of_none(app)] == [True]
    app.replays.begin("pings")  # beside the live one, by hand: no worker works on it
    assert keeping_up(app).problems == ("no worker is alive; 0 events wait for one",)
    text = Metrics(app).exposition()[1].decode()
    assert 'subscription="pings"' in text
    assert 'subscription="pings:2"' not in text


def _problems_of_none(app: App) -> tuple[str, ...]:
    """Return what is wrong when the log's tables are there and nothing is registered, which is then made good."""
    App(app.name, app.log.place.url).migrate()
    found = keeping_up(app).problems
    app.migrate()
    return found


def test_without_the_library_there_is_health_and_no_metrics(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("prometheus_client", "ensue.integrations.prometheus"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    port = free_port()
    with beside(App("bare", f"sqlite:///{tmp_path}/log.db", migrate=True), str(port)):
        missing, unwell = get(port, "/metrics"), asked(port, "/healthz")
    assert missing is not None
    assert missing.status == 404
    assert unwell is not None
    assert unwell.body["problems"] == ["no worker has started yet"]


async def test_a_pulse_of_a_worker_that_has_ended(tmp_path: Path) -> None:
    app = App("ended", f"sqlite:///{tmp_path}/log.db", migrate=True)
    pulse = Pulse()
    assert pulse.feel().problems == ("no worker has started yet",)
    async with app.running() as worker:
        pulse.watch(worker)
        assert (await asyncio.to_thread(pulse.feel)).well
        worker.leased_until = time.monotonic() - 1
        assert (await asyncio.to_thread(pulse.feel)).problems[0].startswith("its leases ran out 1.")
    assert (await asyncio.to_thread(pulse.feel)).problems == ("the worker has ended",)


async def test_a_handler_that_blocks_the_loop_is_found_by_another_thread(tmp_path: Path) -> None:
    app = App("blocked", f"sqlite:///{tmp_path}/log.db", migrate=True)
    begun, goes_on = threading.Event(), threading.Event()

    @app.on(Pinged, name="ping")
    async def ping(_: Pinged) -> None:
        begun.set()
        goes_on.wait(PATIENCE)  # it should await

    pulse = Pulse(patience=0.1)
    found: list[Health] = []

    def look() -> None:
        begun.wait(PATIENCE)
        found.append(pulse.feel())
        goes_on.set()

    def record() -> None:
        with app.transaction() as connection:
            app.record(Pinged(who="ada"), via=connection)

    async with app.running() as worker:
        pulse.watch(worker)
        looking = threading.Thread(target=look)
        looking.start()
        await asyncio.to_thread(record)
        await until(lambda: found)
        looking.join()
        assert (await asyncio.to_thread(pulse.feel)).well
    assert found[0].problems == ("the worker's event loop has not turned for 0.1 s: a handler blocks it",)


async def test_as_an_asgi_application(tmp_path: Path) -> None:
    import uvicorn

    app = App("asgi", f"sqlite:///{tmp_path}/log.db", migrate=True)
    pulse = Pulse()
    port = free_port()
    endpoints = Endpoints(app, pulse=pulse, metrics=Metrics(app))
    server = uvicorn.Server(uvicorn.Config(endpoints, port=port, log_level="warning", lifespan="off"))
    async with app.running() as worker:
        pulse.watch(worker)
        serving = asyncio.ensure_future(server.serve())
        try:
            await until(lambda: server.started)
            for path in ("/healthz", "/readyz", "/metrics"):
                answer = await asyncio.to_thread(get, port, path)
                assert answer is not None
                assert answer.status == 200, path
        finally:
            server.should_exit = True
            await serving
