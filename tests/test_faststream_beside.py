"""FastStream and ensue in one process, as docs/how-to/brokers/faststream.md has it: either one's lifespan, one end."""

from __future__ import annotations

import contextlib
import json
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import nats
import pytest
from nats.js import JetStreamContext
from nats.js.errors import NotFoundError

from tests.broker_servers import OwnNats
from tests.patience import PATIENCE, until
from tests.servers import free_port
from tests.test_docs import ROOT, blocks

PAGE = ROOT / "docs" / "how-to" / "brokers" / "faststream.md"


@pytest.fixture
def server() -> Iterator[OwnNats]:
    with closing(OwnNats()) as made:
        made.start_now()
        yield made


@pytest.mark.parametrize("owner", ["faststream", "server"])
async def test_both_work_in_one_process_and_end_together(owner: str, server: OwnNats, tmp_path: Path) -> None:
    for block in blocks(PAGE.read_text()):
        if block.file is not None:
            code = "\n".join(block.code).replace("localhost:4222", f"127.0.0.1:{server.port}")
            (tmp_path / block.file).write_text(code)
    command = ["faststream", "run", "one_process:service"]
    if owner == "server":
        command = ["uvicorn", "web:api", "--port", str(free_port())]
    with closing(sqlite3.connect(tmp_path / "shop.db")) as database:
        database.execute("create table points (customer text, points integer)")

        def rows(sql: str) -> list[tuple[object, ...]]:
            return database.execute(sql).fetchall()

        with (tmp_path / "log").open("wb") as log:
            program = subprocess.Popen(  # noqa: ASYNC220 it returns at once
                [sys.executable, "-m", *command], cwd=tmp_path, stdout=log, stderr=subprocess.STDOUT
            )
        try:
            client = await nats.connect(f"nats://127.0.0.1:{server.port}")
            stream = client.jetstream()
            while not await is_there(stream):
                assert program.poll() is None, (tmp_path / "log").read_text()
            for number in (1, 1, 2):
                sale = {"number": str(number), "customer": "ada", "amount": 10 * number}
                await stream.publish("sales", json.dumps(sale).encode())
            await client.close()
            await until(lambda: len(rows("select * from points")) == 2)
            program.send_signal(signal.SIGTERM)
            # uvicorn has ended everything, and then ends by the signal that it was given
            assert program.wait(PATIENCE) == (0 if owner == "faststream" else -signal.SIGTERM)
        finally:
            program.kill()
            program.wait()
        assert rows("select customer, points from points order by points") == [("ada", 1), ("ada", 2)]
        assert rows("select * from ensue_workers") == []  # it has given its leases back
        assert rows("select * from ensue_parked") == []
    assert "Traceback" not in (tmp_path / "log").read_text()


async def is_there(stream: JetStreamContext) -> bool:
    """Tell whether FastStream has made the stream of the tills."""
    with contextlib.suppress(NotFoundError):
        await stream.stream_info("tills")
        return True
    return False
