"""Lakes in object storage, in every format: on servers that speak as Amazon's and Azure's storage do."""

from __future__ import annotations

import base64
import email.utils
import hashlib
import hmac
import os
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ensue import App, IntegrationEvent
from ensue.errors import LakeError, Overtaken
from ensue.lake import Checkpoint, Collector, Lake
from ensue.lake.places import Bucket
from tests import node
from tests.patience import until_sync
from tests.servers import free_port

AZURITE = "azurite@3.37.0"
ACCOUNT = "devstoreaccount1"
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="  # Azurite's, for all


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


@contextmanager
def _running(command: list[str], request: urllib.request.Request, home: Path) -> Iterator[None]:
    """Run a server until the block ends; the request, which makes the bucket, is the first that it answers."""
    quiet = subprocess.DEVNULL
    server = subprocess.Popen(command, stdout=quiet, stderr=quiet, env=os.environ | {"HOME": str(home)}, cwd=home)

    def made() -> bool:
        try:
            urllib.request.urlopen(request).close()
        except OSError:
            return False
        return True

    try:
        until_sync(made, seconds=60)
        yield
    finally:
        server.kill()
        server.wait()


@pytest.fixture
def s3(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    address = f"http://127.0.0.1:{(port := free_port())}"
    for name, value in {
        "AWS_ENDPOINT_URL": address,
        "AWS_ALLOW_HTTP": "true",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    bucket = urllib.request.Request(f"{address}/lakes", method="PUT")
    with _running([sys.executable, "-m", "moto.server", "-p", str(port)], bucket, tmp_path):
        yield "s3://lakes"


@pytest.fixture
def azure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    program = node.installed(AZURITE) / "dist/src/blob/main.js"
    port = free_port()
    for name, value in {
        "AZURE_STORAGE_USE_EMULATOR": "true",
        "AZURITE_BLOB_STORAGE_URL": f"http://127.0.0.1:{port}",
        "AZURE_STORAGE_ACCOUNT_NAME": ACCOUNT,
        "AZURE_STORAGE_ACCOUNT_KEY": KEY,
    }.items():
        monkeypatch.setenv(name, value)
    date = email.utils.formatdate(usegmt=True)
    about = f"x-ms-date:{date}\nx-ms-version:2021-08-06\n/{ACCOUNT}/{ACCOUNT}/lakes\nrestype:container"
    signed = hmac.new(base64.b64decode(KEY), b"PUT" + b"\n" * 12 + about.encode(), hashlib.sha256).digest()
    container = urllib.request.Request(
        f"http://127.0.0.1:{port}/{ACCOUNT}/lakes?restype=container",
        method="PUT",
        headers={
            "x-ms-date": date,
            "x-ms-version": "2021-08-06",
            "Content-Length": "0",
            "Authorization": f"SharedKey {ACCOUNT}:{base64.b64encode(signed).decode()}",
        },
    )
    command = [
        str(node.PROGRAM),
        str(program),
        "--blobPort",
        str(port),
        "--inMemoryPersistence",
        "--skipApiVersionCheck",
    ]
    with _running(command, container, tmp_path):
        yield "az://lakes"


def _lake(address: str, app: App) -> None:
    """Collect, look, erase: all that a lake does with its storage."""
    lake = Lake(address)
    assert Collector(app.log, lake, rows=4).collect() == 10
    assert lake.check() == []
    assert lake.sql("select count(*) as n from lake_storage_parked_v1").to_pylist() == [{"n": 10}]
    assert lake.compact()["events"].after == 1
    assert len(lake.erase("p1")) == 2
    assert lake.check() == []
    assert [each.key for each in Lake(address).read("urn:ensue:garage", after=7)] == ["p2", "p3", "p4"]


@pytest.mark.parametrize("format", ["delta", "parquet", "jsonl"])
def test_azure(format: str, azure: str, app: App) -> None:
    _lake(f"{format}+{azure}/{format}", app)


def test_who_is_overtaken_in_object_storage_leaves_nothing(azure: str, app: App) -> None:
    lake = Lake(f"parquet+{azure}/contended")
    Collector(app.log, lake, rows=3).step()
    rows = lake.events.data().to_table()
    before = lake.events.checkpoint("urn:ensue:garage")
    with pytest.raises(Overtaken):
        Lake(lake.address).events.append(rows, "urn:ensue:garage", Checkpoint(), Checkpoint(9, 9))
    bucket = Bucket(f"{azure}/contended/events")
    assert bucket.create("_journal/000000000009.json", b"{}") is True
    assert bucket.create("_journal/000000000009.json", b"{}") is False
    bucket.delete("_journal/000000000009.json")
    assert lake.events.checkpoint("urn:ensue:garage") == before
    _park(app, 60)
    several = [
        threading.Thread(target=Collector(app.log, Lake(lake.address), rows=9, types=False).collect) for _ in range(2)
    ]
    for each in several:
        each.start()
    for each in several:
        each.join()
    assert lake.check() == []
    assert lake.sources()[0].events == 70
    files = [each.partition("contended/events/")[2] for each in lake.events.data().files]
    assert sorted(files) == sorted(_files(azure))


def test_amazon(s3: str, app: App, tmp_path: Path) -> None:
    with pytest.raises(LakeError, match="say where the catalog is"):
        Lake(f"iceberg+{s3}/nowhere")
    for format in ("delta", "parquet", "jsonl"):
        _lake(f"{format}+{s3}/{format}", app)
    _lake(f"iceberg+{s3}/iceberg?catalog=sqlite:///{tmp_path}/catalog.db", app)


def _files(bucket: str) -> list[str]:
    import obstore
    from obstore.store import from_url

    found = [each["path"] for part in obstore.list(from_url(f"{bucket}/contended/events")) for each in part]
    return [each for each in found if each.endswith(".parquet")]
