"""A worker that seals: every event once, however often it dies; signed, and taken elsewhere."""

from __future__ import annotations

import asyncio
import importlib
import logging
import os
import random
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ensue import App, Delivery
from ensue.errors import DeclarationError, DuplicateName, SealBroken, SealError, UnusableKey
from ensue.seals import CheckpointSealed, verifier
from tests.patience import until, until_sync
from tests.processes import crew
from tests.sealing import KEY, KEYS, Opened, Shipped, do, fill, found, positions, record, seal, verify

KILLS = int(os.environ.get("ENSUE_TEST_KILLS", "4"))


@pytest.fixture(params=["sqlite", "postgresql"])
def app(request: pytest.FixtureRequest, tmp_path: Path, schema: str) -> App:
    url = f"sqlite:///{tmp_path}/log.db" if request.param == "sqlite" else request.getfixturevalue("postgres_url")
    return App("sealed", url, schema=schema)


@pytest.fixture
def small(tmp_path: Path) -> App:
    made = App("sealed", f"sqlite:///{tmp_path}/log.db")
    made.migrate()
    return made


def signed(app: App) -> int:
    """Return how many events have been signed."""
    return max((each.size for each in app.seals.checkpoints(trusted=KEYS)), default=0)


# --- at work


async def test_a_worker_seals_everything_beside_its_other_work(app: App, tmp_path: Path) -> None:
    seen: list[int] = []
    app.seal(KEY, every=0.05, to=tmp_path / "out")

    @app.on(Shipped, start="beginning")
    def ship(event: Shipped, delivery: Delivery) -> None:
        seen.append(event.n)

    app.migrate()
    fill(app, 100)
    (standing,) = [each for each in app.operations.standings() if each.subscription == "seal"]
    assert (standing.types, standing.behind) == ((), 100)
    async with app.running(lease=1.0):
        await until(lambda: signed(app) == 100)
        for n in range(20):
            await asyncio.to_thread(record, app, Opened(about="x", n=n), Shipped(n=1000 + n))
        await until(lambda: signed(app) == 140)
        await until(lambda: len(seen) == 33 + 20)
        await until(lambda: _size(tmp_path / "out") == 140)
    told = verify(app, kept=[tmp_path / "out"])
    assert (told.holds, told.checked, told.unsealed) == (True, 140, 0)
    (standing,) = [each for each in app.operations.standings() if each.subscription == "seal"]
    assert (standing.behind, standing.checkpoint) == (0, positions(app)[-1])
    assert (standing.retrying, standing.dead) == (0, 0)


def _size(folder: Path) -> int:
    file = folder / "checkpoint"
    return int(file.read_text().splitlines()[1]) if file.is_file() else 0


async def test_many_events_are_signed_without_waiting(small: App) -> None:
    small.seal(KEY, every="1h", events=50)
    small.migrate()
    async with small.running(lease=1.0):
        await asyncio.to_thread(fill, small, 100)
        await until(lambda: signed(small) >= 50)


async def test_what_was_left_unsigned_is_signed_by_who_comes_next(small: App) -> None:
    small.seal(KEY, every="1h")
    small.migrate()
    fill(small, 10)
    async with small.running(lease=1.0):
        await until(lambda: all(each.behind == 0 for each in small.operations.standings()))
    assert signed(small) == 0
    again = App("sealed", small.log.place.url)
    again.seal(KEY, every=0.01)
    async with again.running(lease=1.0):
        await until(lambda: signed(small) == 10)


async def test_the_command_and_the_worker_do_not_disturb_each_other(app: App) -> None:
    app.seal(KEY, every=0.02)
    app.migrate()
    async with app.running(lease=1.0):
        for _ in range(20):
            await asyncio.to_thread(fill, app, 10)
            await asyncio.to_thread(seal, app)
        await until(lambda: signed(app) == 200)
        await until(lambda: all(each.behind == 0 for each in app.operations.standings()))
    told = verify(app)
    assert (told.holds, told.checked) == (True, 200)


async def test_a_broken_seal_stops_the_signing_and_nothing_else(small: App, caplog: pytest.LogCaptureFixture) -> None:
    seen: list[int] = []
    small.seal(KEY, every=0.01)

    @small.on(Shipped, start="beginning")
    def ship(event: Shipped) -> None:
        seen.append(event.n)

    small.migrate()
    fill(small, 10)
    seal(small)
    do(small, "update {seal_tiles} set hashes = zeroblob(length(hashes))")
    with caplog.at_level(logging.ERROR, "ensue"):
        async with small.running(lease=1.0):
            await asyncio.to_thread(record, small, Shipped(n=4711))
            await until(lambda: 4711 in seen)
            await until(lambda: "the seal is broken" in caplog.text)
    assert signed(small) == 10
    do(small, "delete from {seal_tiles}")
    with caplog.at_level(logging.WARNING, "ensue"):
        async with small.running(lease=1.0):
            await asyncio.to_thread(record, small, Shipped(n=4712))
            await until(lambda: 4712 in seen)
            await until(lambda: "lacks hashes" in caplog.text)


def test_a_worker_without_a_key_does_not_start(small: App, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ENSUE_SEAL_KEY", raising=False)
    small.seal()
    small.migrate()
    with pytest.raises(UnusableKey):
        small.run()


def test_what_cannot_be_declared(small: App) -> None:
    wrong: dict[str, Any]
    for wrong in ({"every": 0}, {"events": 0}, {"events": True}):
        with pytest.raises(DeclarationError):
            small.seal(KEY, **wrong)
    small.seal(KEY)
    with pytest.raises(DuplicateName):
        small.seal(KEY)


def test_it_can_be_paused_and_retired_like_any_subscription(small: App) -> None:
    small.seal(KEY)
    small.migrate()
    small.operations.pause("seal", actor="anna", reason="why not")
    small.operations.retire("seal", actor="anna", reason="why not")
    fill(small, 10)
    seal(small)
    assert verify(small).holds


# --- dying


@dataclass(frozen=True)
class Sealed:
    """What a worker process runs."""

    url: str
    schema: str
    folder: Path

    def app(self) -> App:
        made = App("sealed", self.url, schema=self.schema)
        made.seal(KEY, every=0.02, to=self.folder)
        return made

    def work(self) -> None:
        self.app().run(lease=0.5)

    def write(self) -> None:
        app = self.app()
        for n in range(150):
            record(app, Opened(about="x", n=n), Shipped(n=n))
            time.sleep(0.01)  # the load, spread over the time of the kills


def test_workers_are_killed_and_every_event_is_sealed_once(app: App, tmp_path: Path) -> None:
    job = Sealed(app.log.place.url, app.log.place.schema, tmp_path / "out")
    job.app().migrate()
    chance = random.Random(2026)
    with crew() as hired:
        workers = [hired.start(job.work) for _ in range(2)]
        writer = hired.start(job.write)
        for _ in range(KILLS):
            time.sleep(chance.uniform(0.05, 0.4))  # when a worker dies, is left to chance
            victim = chance.randrange(2)
            hired.kill(workers[victim])
            workers[victim] = hired.start(job.work)
        until_sync(lambda: not writer.is_alive())
        until_sync(lambda: signed(app) == 300 and _size(tmp_path / "out") == 300)
        for each in workers:
            assert hired.stop(each) == 0
    told = verify(app, kept=[tmp_path / "out"])
    assert (told.holds, told.checked, told.unsealed) == (True, 300, 0)


# --- places


def test_a_folder_gets_what_it_does_not_have(small: App, tmp_path: Path) -> None:
    place = tmp_path / "out"
    assert small.seals.take(place, trusted=KEYS) == 0
    for size in (10, 300, 1):
        fill(small, size) if size > 1 else record(small, Shipped(n=1))
        seal(small)
        assert small.seals.take(place, trusted=KEYS) == 1
        assert small.seals.take(place, trusted=KEYS) == 0
    checkpoints = verifier.exported_checkpoints(place, KEYS)
    assert [each.size for each in checkpoints] == [10, 310, 311]
    assert sum(len(each) // 32 for each in verifier.exported_tiles(place, checkpoints)) == 311
    assert {str(each.relative_to(place)) for each in place.rglob("*") if each.is_file()} == {
        "checkpoint",
        "checkpoints/10",
        "checkpoints/310",
        "checkpoints/311",
        "tile/0/000",
        "tile/0/000.p/10",
        "tile/0/001.p/54",
        "tile/0/001.p/55",
        "tile/1/000.p/1",
    }


def test_a_place_that_holds_something_else_is_left_alone(small: App, tmp_path: Path) -> None:
    fill(small, 10)
    seal(small)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "checkpoint").write_text("something else")
    with pytest.raises(SealBroken, match="somebody else"):
        small.seals.take(tmp_path / "out", trusted=KEYS)
    (tmp_path / "file").write_text("")
    with pytest.raises(SealError, match="cannot be taken"):
        small.seals.take(tmp_path / "file" / "out", trusted=KEYS)


def git(folder: Path, *words: str) -> str:
    done = subprocess.run(["git", "-C", str(folder), *words], capture_output=True, text=True, check=True)
    return done.stdout


@pytest.fixture
def identity(monkeypatch: pytest.MonkeyPatch) -> None:
    for role in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{role}_NAME", "Tess Ter")
        monkeypatch.setenv(f"GIT_{role}_EMAIL", "tess@example.com")


def test_a_git_repository_gets_a_commit_for_each_and_is_pushed(small: App, tmp_path: Path, identity: None) -> None:
    theirs, ours = tmp_path / "theirs.git", tmp_path / "ours"
    git(tmp_path, "init", "-q", "--bare", "-b", "main", str(theirs))
    git(tmp_path, "init", "-q", "-b", "main", str(ours))
    fill(small, 10)
    seal(small)
    assert small.seals.take(f"git:{ours}", trusted=KEYS) == 1
    git(ours, "remote", "add", "origin", str(theirs))
    git(ours, "push", "-q", "-u", "origin", "main")
    record(small, Shipped(n=1))
    seal(small)
    (ours / "notes").write_text("what lies beside it is not ours")
    assert small.seals.take(f"git:{ours}", trusted=KEYS) == 1
    assert small.seals.take(f"git:{ours}", trusted=KEYS) == 0
    last = positions(small)[-1]
    assert git(theirs, "log", "--format=%s").splitlines() == [
        f"Seal of seals.test: 11 events, up to position {last}",
        f"Seal of seals.test: 10 events, up to position {positions(small)[9]}",
    ]
    assert git(ours, "status", "--short") == "?? notes\n"
    record(small, Shipped(n=2))
    seal(small)
    theirs.rename(tmp_path / "away")
    with pytest.raises(SealError, match="git says"):
        small.seals.take(f"git:{ours}", trusted=KEYS)
    (tmp_path / "away").rename(theirs)
    small.seals.take(f"git:{ours}", trusted=KEYS)
    assert len(git(theirs, "log", "--format=%s").splitlines()) == 3, "what was committed is pushed later"
    with pytest.raises(SealError, match="git says"):
        small.seals.take(f"git:{tmp_path}", trusted=KEYS)


def test_object_storage_by_its_url(small: App) -> None:
    fsspec = importlib.import_module("fsspec")
    fill(small, 300)
    seal(small)
    assert small.seals.take("memory://bucket/seals", trusted=KEYS) == 1
    assert small.seals.take("memory://bucket/seals", trusted=KEYS) == 0
    store = fsspec.filesystem("memory")
    assert store.cat_file("/bucket/seals/checkpoint").startswith(b"seals.test\n300\n")
    assert len(store.cat_file("/bucket/seals/tile/0/000")) == 8192
    with pytest.raises(DeclarationError, match="fsspec"):
        small.seals.take("nonesuch://bucket", trusted=KEYS)
    with pytest.raises(DeclarationError):
        small.seal(KEY, to="")
        small.declarations.sealer and small.declarations.sealer.targets()


def test_another_party_records_it_in_its_log(app: App, tmp_path: Path) -> None:
    app.migrate()
    notary = App("notary", f"sqlite:///{tmp_path}/notary.db")
    notary.migrate()
    for _ in range(2):
        fill(app, 10)
        seal(app)
        assert app.seals.take(notary, trusted=KEYS) == 1
        assert app.seals.take(notary, trusted=KEYS) == 0
    events: list[Any] = [each.event for each in notary.read(types=[CheckpointSealed])]
    assert [(each.origin, each.size) for each in events] == [("seals.test", 10), ("seals.test", 20)]
    (tmp_path / "theirs").write_text(events[-1].note)
    told = verify(app, kept=[notary])
    assert (told.holds, told.outside, told.checkpoints) == (True, 1, 3)
    with pytest.raises(SealError, match="has no checkpoint of this log"):
        verify(app, kept=[app])
    assert verify(app, kept=[tmp_path / "theirs"]).holds
    do(app, "delete from {events} where position > 15")
    assert found(app)[0][0] == "truncated"
    do(app, "delete from {seal_tiles}")
    do(app, "delete from {seal_checkpoints}")
    do(app, "delete from {seal}")
    seal(app)
    with pytest.raises(SealBroken):
        app.seals.take(notary, trusted=KEYS)
    published = {each.event for each in notary.service().publishes}
    assert CheckpointSealed not in published, "it has no contract there"


async def test_a_place_that_is_away_is_tried_again(
    small: App, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("ensue.seals.sealer._AGAIN", 0.05)
    (tmp_path / "out").write_text("in the way")
    small.seal(KEY, every=0.01, to=tmp_path / "out")
    small.migrate()
    fill(small, 10)
    with caplog.at_level(logging.WARNING, "ensue"):
        async with small.running(lease=1.0):
            await until(lambda: "cannot be taken" in caplog.text)
            (tmp_path / "out").unlink()
            await until(lambda: _size(tmp_path / "out") == 10)


# --- the verifier, alone


def alone(*words: str) -> subprocess.CompletedProcess[str]:
    """Run the verifier in a process that has the standard library and cryptography, and nothing of ensue."""
    import cryptography

    packages = str(Path(cryptography.__file__).parents[1])
    program = (
        "import runpy, sys\n"
        f"sys.path.append({packages!r})\n"
        "sys.argv[0] = 'verifier.py'\n"
        "try:\n"
        f"    runpy.run_path({verifier.__file__!r}, run_name='__main__')\n"
        "finally:\n"
        "    assert not {'ensue', 'msgspec', 'sqlite3', 'psycopg'} & sys.modules.keys()\n"
    )
    return subprocess.run(
        [sys.executable, "-I", "-S", "-c", program, *words], capture_output=True, text=True, check=False
    )


def test_the_verifier_needs_nothing_of_ensue(small: App, tmp_path: Path) -> None:
    import msgspec

    fill(small, 300)
    seal(small)
    old = small.seals.checkpoints(trusted=KEYS)[0].note
    (tmp_path / "old").write_text(old)
    fill(small, 30)
    seal(small)
    small.seals.take(tmp_path / "out", trusted=KEYS)
    events = tmp_path / "events.jsonl"
    events.write_bytes(b"".join(small.seals.events(keys=KEYS)))
    proof, growth = tmp_path / "proof.json", tmp_path / "growth.json"
    proof.write_bytes(msgspec.json.encode(small.seals.prove(200, keys=KEYS)))
    growth.write_bytes(msgspec.json.encode(small.seals.prove_growth(tmp_path / "old", keys=KEYS)))
    (tmp_path / "key").write_text(KEY.public)
    key = ("--key", str(tmp_path / "key"))
    checks = [
        ("proof", str(proof), *key),
        ("consistency", str(growth), *key),
        ("history", str(tmp_path / "out"), "--events", str(events), *key),
        ("history", str(tmp_path / "out"), *key),
    ]
    for each in checks:
        done = alone(*each)
        assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "as it was sealed"), done
    _falsify(proof, '"position":200', '"position":201', 1)
    _falsify(growth, '"path":["', '"path":["A', 1)
    _falsify(events, '\\"n\\":7}', '\\"n\\":8}', 1)
    tile = tmp_path / "out" / "tile" / "0" / "000"
    for each in checks[:3]:
        done = alone(*each)
        assert done.returncode in (1, 2), done
        assert "as it was sealed" not in done.stdout.replace("NOT as it was sealed", "")
    assert "position 8: changed" in alone(*checks[2]).stdout
    tile.write_bytes(tile.read_bytes()[:-1] + b"\0")
    done = alone(*checks[3])
    assert (done.returncode, "were altered" in done.stdout) == (1, True)
    assert alone("proof", str(tmp_path / "none"), *key).returncode == 2
    assert alone("history", str(tmp_path / "out"), "--key", "no key").returncode == 1


def _falsify(file: Path, old: str, new: str, count: int) -> None:
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new, count))


@pytest.mark.parametrize(
    "change, named",
    [
        (lambda lines: lines[:5] + lines[6:], "deleted"),
        (lambda lines: lines[:-3], "truncated"),
        (lambda lines: [*lines[:4], lines[5], lines[4], *lines[6:]], "inserted"),
        (lambda lines: [*lines[:4], lines[3], *lines[4:]], "inserted"),
        (lambda lines: [*lines[:4], lines[3].replace('"index":3', '"index":4'), *lines[5:]], "reordered"),
        (lambda lines: [*lines[:4], '{"index":4,"position":5,"gone":true}', *lines[5:]], "no sealed event says"),
    ],
)
def test_an_auditor_is_told_what_is_wrong_with_the_events(small: App, tmp_path: Path, change: Any, named: str) -> None:
    fill(small, 20)
    seal(small)
    small.seals.take(tmp_path / "out", trusted=KEYS)
    lines = [each.decode() for each in small.seals.events(keys=KEYS)]
    checkpoints = verifier.exported_checkpoints(tmp_path / "out", KEYS)

    def check(lines: list[str]) -> list[verifier.Fault]:
        return list(verifier.check_events(lines, verifier.exported_tiles(tmp_path / "out", checkpoints), 20))

    assert check(lines) == []
    assert any(named in each.what for each in check(change(lines)))
