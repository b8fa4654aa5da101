"""The JSON API: as its OpenAPI document says, whatever is sent to it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from ensue.console import Console
from tests.bookshop import Bookshop
from tests.console_running import eventually, serving, working
from tests.test_console_access import SECRETS, TOKENS

FULL = "ENSUE_TEST_EXAMPLES" in os.environ
EXAMPLES = os.environ.get("ENSUE_TEST_EXAMPLES", "3")
"""So many requests for each operation. With a number given, also what lies at the limits of every parameter, requests
that follow from answers, and both databases."""
PHASES = "examples,coverage,fuzzing,stateful" if FULL else "fuzzing"
CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def address(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    postgres = request.param == "postgres"
    url = request.getfixturevalue("postgres_url") if postgres else f"sqlite:///{tmp_path_factory.mktemp('a')}/shop.db"
    shop = Bookshop(url, schema="console_api" if postgres else "ensue")
    shop.app.migrate()
    shop.fill()
    operations = shop.app.operations
    with working(shop), serving(Console(shop.app, access=TOKENS)) as served:
        for number in range(6):
            shop.order(number, email="nowhere" if number % 3 == 0 else None, paid=number % 2 == 0)
        shop.order(0, email="queues", paid=False, take=False)
        eventually(lambda: len(found := operations.dead_letters()) == 2 and any(operations.queued(found)))
        yield served


def test_every_query_of_the_document_answers(address: str) -> None:
    with httpx.Client(base_url=address, headers={"Authorization": f"Bearer {SECRETS['ann']}"}) as client:
        document = client.get("/api/openapi.json").json()
        assert document["openapi"].startswith("3.1")
        event = client.get("/api/events?limit=1").json()["events"][0]
        known = {
            "{name}": "sold",
            "{id}": event["id"],
            "{stream}": "Shelf-emma",
            "{process}": "order",
            "{key}": "o-00001",
            "{number}": "1",
            "{event}": "BookOrdered",
            "{position}": str(client.get("/api/dead-letters?limit=1").json()[0]["position"]),
        }
        asked = {
            "/aggregates/{stream}/diff": "?first=0&last=1",
            "/processes": "?process=order",
            "/dead-letters/{position}/queue": "?subscription=send_confirmation",
        }
        answers: dict[str, int] = {}
        for path, methods in document["paths"].items():
            if "get" in methods:
                filled = path
                for name, value in known.items():
                    filled = filled.replace(name, value)
                answers[path] = client.get(f"/api{filled}{asked.get(path, '')}").status_code
        assert answers.pop("/jobs/{number}") == 404
        assert set(answers.values()) == {200}, answers
        assert len(answers) > 15


def test_dead_letters_are_gone_through_page_by_page(address: str) -> None:
    with httpx.Client(base_url=address, headers={"Authorization": f"Bearer {SECRETS['eve']}"}) as client:
        (first,) = client.get("/api/dead-letters?limit=1&all=true").json()
        behind = {"after": first["position"], "behind": first["subscription"]}
        (second,) = client.get("/api/dead-letters", params={"limit": 1, "all": True, **behind}).json()
        assert second["position"] > first["position"]
        assert client.get("/api/dead-letters?since=rubbish").status_code == 422
        assert client.get("/api/dead-letters?limit=501").status_code == 422
        assert client.get("/api/dead-letters?color=red").status_code == 422


def test_what_queues_behind_a_dead_letter_is_told_in_its_order(address: str) -> None:
    def queue(name: str, position: int, **given: str) -> httpx.Response:
        headers = {"Authorization": f"Bearer {SECRETS[name]}"}
        asked = {"subscription": "send_confirmation", **given}
        return httpx.get(f"{address}/api/dead-letters/{position}/queue", headers=headers, params=asked)

    letters = httpx.get(f"{address}/api/dead-letters", headers={"Authorization": f"Bearer {SECRETS['eve']}"}).json()
    first, second = (each["position"] for each in letters)
    found = queue("eve", first).json()
    assert (found["letter"]["position"], found["queued"]) == (first, 1)
    (event,) = found["events"]
    assert (event["key"], event["data"]["email"]) == ("o-00000", "queues")
    assert event["position"] > first
    assert queue("eve", second).json()["events"] == []
    hidden = queue("una", first)
    assert [each["position"] for each in hidden.json()["events"]] == [event["position"]]
    assert "queues" not in hidden.text
    assert "nowhere" not in hidden.text
    assert queue("eve", event["position"]).status_code == 404, "it is not parked itself"
    assert queue("eve", first, subscription="pack").status_code == 404
    assert queue("eve", first, subscription="").status_code == 422, "whose it is has to be said"
    assert queue("eve", first, limit="501").status_code == 422


def test_contracts_are_told_version_by_version_with_who_reads_them(address: str) -> None:
    with httpx.Client(base_url=address, headers={"Authorization": f"Bearer {SECRETS['una']}"}) as client:
        told = client.get("/api/contracts").json()
        published = {each["name"]: each["versions"] for each in told["published"]}  # of other tests' events, too
        assert (published["BookOrdered"], published["BookSent"]) == ([1, 2], [1])
        assert "BookPaid" not in published
        assert (told["folder"], told["problems"]) == (None, [])
        shown = client.get("/api/contracts/BookOrdered").json()
        assert [each["type"] for each in shown["versions"]] == ["BookOrdered.v1", "BookOrdered.v2"]
        differing = {each["name"]: each["told"] for each in shown["members"] if each["differs"]}
        assert differing == {"gift": ["", "boolean, false by default"]}
        (verdict,) = shown["verdicts"]
        assert (verdict["old"], verdict["new"]) == ("BookOrdered.v1", "BookOrdered.v2")
        readers = {each["name"]: each["types"] for each in shown["readers"]}
        assert readers["send_confirmation"] == ["BookOrdered.v2"]
        assert client.get("/api/contracts/BookOrdered.v2").json() == shown
        assert client.get("/api/contracts/BookPaid").status_code == 404, "it never leaves the service"


def test_what_is_wrong_is_said(address: str) -> None:
    with httpx.Client(base_url=address, headers={"Authorization": f"Bearer {SECRETS['ann']}"}) as client:

        def act(name: str, **given: object) -> tuple[int, str]:
            answer = client.post(f"/api/actions/{name}", json=given)
            return answer.status_code, answer.json()["error"]

        assert act("pause", subscription="none") == (404, "the log has no subscription 'none'")
        assert act("retry")[0] == 422, "which ones has to be said"
        assert act("skip", all=True)[0] == 422, "a reason is needed"
        assert act("replay", projection="none")[0] == 404
        assert act("switch", projection="sold", build=1, reason="because")[0] == 403
        status, told = act("edit", subscription="send_confirmation", id="x", data="{", reason="because")
        assert (status, "no JSON" in told) == (422, True)
        assert act("nothing")[0] == 404
        assert client.get("/api/events/abc").status_code == 404
        huge = client.post("/api/actions/pause", content=b" " * 2_100_000, headers={"Content-Type": "application/json"})
        assert huge.status_code == 413


@pytest.mark.slow
@pytest.mark.timeout(3600 if FULL else 120)
@pytest.mark.parametrize("address", ["sqlite", "postgres"] if FULL else ["postgres"], indirect=True)
def test_schemathesis_finds_no_fault(address: str, tmp_path: Path) -> None:
    command = [
        sys.executable, "-m", "schemathesis.cli", "run", f"{address}/api/openapi.json",
        "--header", f"Authorization: Bearer {SECRETS['ann']}", "--max-examples", EXAMPLES, "--seed", "7",
        "--checks", CHECKS, "--phases", PHASES, "--no-color",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=3600, check=False)
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
