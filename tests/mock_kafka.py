"""librdkafka's built-in mock cluster, in a process of its own: a Kafka whose errors a test chooses.

The wheel confluent-kafka brings librdkafka, whose C functions for the mock cluster it does not offer in Python; this
calls them. Run as a program it is the cluster, and obeys commands on its standard input, one JSON list a line.
"""

from __future__ import annotations

import ctypes
import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Self

from tests.servers import NoServer

PRODUCE, FETCH, METADATA, OFFSET_COMMIT, FIND_COORDINATOR, JOIN_GROUP, HEARTBEAT = 0, 1, 3, 8, 10, 11, 12
"""Kinds of request, by Kafka's protocol."""

DISCONNECT = -195
"""Instead of an answer, the connection is broken off."""


class MockKafka:
    """A cluster of brokers that keep what they are given in memory, and fail when they are told to."""

    def __init__(self, brokers: int = 1) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.mock_kafka", str(brokers)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        )
        self.servers = self._answer()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    def topic(self, name: str, partitions: int = 1, replication: int = 1) -> None:
        """Make a topic; the cluster does not let clients do it."""
        self._do("topic", name, partitions, replication)

    def fail(self, request: int, *codes: int) -> None:
        """Answer the next requests of a kind with these errors, one each; 0 is none."""
        self._do("fail", request, *codes)

    def fail_no_more(self, request: int) -> None:
        self._do("clear", request)

    def slow(self, broker: int, milliseconds: int) -> None:
        self._do("slow", broker, milliseconds)

    def down(self, broker: int) -> None:
        self._do("down", broker)

    def up(self, broker: int) -> None:
        self._do("up", broker)

    def _do(self, *command: str | int) -> None:
        assert self._process.stdin is not None
        print(json.dumps(command), file=self._process.stdin, flush=True)
        answer = self._answer()
        assert answer == "0", f"{command}: librdkafka's error {answer}"

    def _answer(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline().strip()
        if not line:
            raise NoServer("the mock cluster of the wheel confluent-kafka does not start")
        return line


def _library() -> ctypes.CDLL:
    found = find_spec("confluent_kafka")
    if found is None or found.origin is None:
        raise SystemExit("the wheel confluent-kafka is not installed")
    folder = Path(found.origin).parent.parent / "confluent_kafka.libs"
    for dependency in sorted(folder.glob("*.so*")):
        if not dependency.name.startswith("librdkafka"):
            ctypes.CDLL(str(dependency), ctypes.RTLD_GLOBAL)
    library = ctypes.CDLL(str(next(folder.glob("librdkafka-*"))))
    for name in ("rd_kafka_conf_new", "rd_kafka_new", "rd_kafka_mock_cluster_new"):
        getattr(library, name).restype = ctypes.c_void_p
    library.rd_kafka_mock_cluster_bootstraps.restype = ctypes.c_char_p
    return library


def main(brokers: int) -> None:
    library = _library()
    words = ctypes.create_string_buffer(512)
    handle = library.rd_kafka_new(0, ctypes.c_void_p(library.rd_kafka_conf_new()), words, 512)
    cluster = ctypes.c_void_p(library.rd_kafka_mock_cluster_new(ctypes.c_void_p(handle), brokers))
    print(library.rd_kafka_mock_cluster_bootstraps(cluster).decode(), flush=True)
    for line in sys.stdin:
        result = 0
        match json.loads(line):
            case ["topic", str(name), int(partitions), int(replication)]:
                result = library.rd_kafka_mock_topic_create(cluster, name.encode(), partitions, replication)
            case ["fail", int(request), *codes]:
                array = (ctypes.c_int * len(codes))(*codes)
                count = ctypes.c_size_t(len(codes))
                library.rd_kafka_mock_push_request_errors_array(cluster, ctypes.c_int16(request), count, array)
            case ["clear", int(request)]:
                library.rd_kafka_mock_clear_request_errors(cluster, ctypes.c_int16(request))
            case ["slow", int(broker), int(milliseconds)]:
                result = library.rd_kafka_mock_broker_set_rtt(cluster, broker, milliseconds)
            case ["down", int(broker)]:
                result = library.rd_kafka_mock_broker_set_down(cluster, broker)
            case ["up", int(broker)]:
                result = library.rd_kafka_mock_broker_set_up(cluster, broker)
            case other:
                raise SystemExit(f"unknown command {other}")
        print(result, flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]))
