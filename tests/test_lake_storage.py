"""Lakes in object storage, in every format, on a server that speaks as S3 does."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import obstore
import pytest
from obstore.store import from_url

from ensue import App, IntegrationEvent
from ensue.errors import LakeError, Overtaken
from ensue.lake import Checkpoint, Collector, Lake, places
from ensue.lake.places import Bucket
from ensue.lake.plain import PlainTable
from tests.object_storage import Way, amazon, to_amazon
from tests.patience import until_sync

SOURCE = "urn:ensue:garage"


class Parked(IntegrationEvent, version=1, key="place", name="lake_storage.Parked"):
    place: str


@pytest.fixture
def app(tmp_path: Path) -> App:
    made = App("garage", f"sqlite:///{tmp_path}/log.db", migrate=True)
    made.migrate()
    _park(made, 10)
    return made


def _park(app: App, count: int) -> None:
    with app.transaction() as connection:
        for number in range(count):
            app.record(Parked(place=f"p{number % 5}"), via=connection)


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with amazon(tmp_path_factory.mktemp("amazon")) as address:
        yield address


@pytest.fixture
def bucket(storage: str, monkeypatch: pytest.MonkeyPatch) -> str:
    for name, value in to_amazon(storage).items():
        monkeypatch.setenv(name, value)
    return f"s3://lakes/{uuid4().hex}"


@pytest.fixture
def way(storage: str, bucket: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Way]:
    with Way(storage).open() as open:
        monkeypatch.setenv("AWS_ENDPOINT_URL", open.address)
        yield open


def _use(address: str, app: App) -> None:
    """Collect, look, erase: all that a lake does with its storage."""
    lake = Lake(address)
    assert Collector(app.log, lake, rows=4).collect() == 10
    assert lake.check() == []
    assert lake.sql("select count(*) as n from lake_storage_parked_v1").to_pylist() == [{"n": 10}]
    assert lake.compact()["events"].after == 1
    assert len(lake.erase("p1")) == 2
    assert lake.check() == []
    assert [each.key for each in Lake(address).read(SOURCE, after=7)] == ["p2", "p3", "p4"]


def test_amazon(bucket: str, app: App, tmp_path: Path) -> None:
    with pytest.raises(LakeError, match="say where the catalog is"):
        Lake(f"iceberg+{bucket}/nowhere")
    for format in ("delta", "parquet", "jsonl"):
        _use(f"{format}+{bucket}/{format}", app)
    _use(f"iceberg+{bucket}/iceberg?catalog=sqlite:///{tmp_path}/catalog.db", app)
    for format in ("parquet", "jsonl"):  # what was erased and compacted is not there any more
        assert _files(f"{bucket}/{format}/events") == _named(Lake(f"{format}+{bucket}/{format}"))


def test_two_collectors_double_and_lose_nothing_when_answers_are_lost(way: Way, bucket: str, app: App) -> None:
    lake = Lake(f"parquet+{bucket}")
    lake.begin("integration")
    _park(app, 40)
    losses = itertools.cycle([None, "dropped", None, "unavailable"])
    way.loses = lambda method, path: next(losses) if method == "PUT" and "/_journal/" in path else None
    failed = list[BaseException]()

    def collect() -> None:
        try:
            Collector(app.log, Lake(lake.address), rows=5, types=False).collect()
        except BaseException as error:
            failed.append(error)
            raise

    several = [threading.Thread(target=collect) for _ in range(2)]
    for each in several:
        each.start()
    for each in several:
        each.join()
    assert failed == []
    assert set(way.lost) == {"dropped", "unavailable"}
    assert lake.check() == []
    assert lake.sources()[0].events == 50
    assert _files(f"{bucket}/events") == _named(lake)


class Interrupted(Bucket):
    """A place where somebody else commits at once after the journal has been read to its end."""

    meanwhile: Iterator[object] = iter(())

    def read(self, name: str) -> bytes | None:
        found = super().read(name)
        if found is None:
            next(self.meanwhile, None)
        return found


def test_a_commit_that_comes_between_reading_the_journal_and_writing_is_noticed(bucket: str, app: App) -> None:
    lake = Lake(f"parquet+{bucket}")
    lake.begin("integration")
    other = Collector(app.log, lake, types=False)
    rows = other._read(Checkpoint(), app.log.own.run(app.log.horizon()))[0]
    place = Interrupted(f"{bucket}/events")
    late = PlainTable(place, "parquet")
    assert late.checkpoint(SOURCE) == Checkpoint()
    place.meanwhile = iter(other.collect, None)
    with pytest.raises(Overtaken, match="by another collector"):
        late.append(rows, SOURCE, Checkpoint(), Checkpoint(10, 10))
    assert lake.check() == []
    assert _files(f"{bucket}/events") == _named(lake)


def test_a_storage_that_cannot_tell_two_collectors_apart_is_refused(
    way: Way, bucket: str, app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    way.heeding = False
    with pytest.raises(LakeError, match="does not heed the condition of a put"):
        Collector(app.log, Lake(f"parquet+{bucket}")).collect()
    way.heeding = True
    monkeypatch.setenv("AWS_CONDITIONAL_PUT", "disabled")
    with pytest.raises(LakeError, match="does not heed the condition of a put"):
        Collector(app.log, Lake(f"jsonl+{bucket}")).collect()
    assert _files(bucket) == []


def test_what_a_killed_collector_left_goes_when_nobody_can_commit_it_any_more(
    bucket: str, app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = f"parquet+{bucket}"
    Collector(app.log, Lake(address), types=False).collect()
    Bucket(f"{bucket}/events").write("left.parquet", b"by somebody who was killed")

    def collect() -> list[str]:
        _park(app, 1)
        Collector(app.log, Lake(address), types=False).collect()
        return _files(f"{bucket}/events")

    assert "left.parquet" in collect()  # perhaps whoever wrote it is still at it
    monkeypatch.setattr(places, "_SKEW", places._SKEW * 0)
    until_sync(lambda: "left.parquet" not in collect())
    assert _files(f"{bucket}/events") == _named(Lake(address))


def _files(url: str) -> list[str]:
    found = [each["path"] for part in obstore.list(from_url(url)) for each in part]
    return sorted(each for each in found if each.endswith((".parquet", ".jsonl")))


def _named(lake: Lake) -> list[str]:
    return sorted(lake.events._state().files)  # type: ignore[attr-defined]
