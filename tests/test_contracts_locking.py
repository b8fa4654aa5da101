"""Contracts are locked in files; what is no longer as it was locked is refused, at start-up and by command."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ensue import App, DomainEvent, IntegrationEvent
from ensue.brokers.relays import topic_of
from ensue.cli import main
from ensue.contracts import Folder, Publication, Reading, Service
from ensue.contracts.folder import find_folders
from ensue.contracts.locking import compare, lock
from ensue.contracts.readers import readers
from ensue.errors import ContractBroken, EventDefinitionError, UnusableContract
from tests.contracting import Money, event, fresh_events

__all__ = ["fresh_events"]
pytestmark = pytest.mark.usefixtures("fresh_events")

app: App
"""The application of the test that runs, for commands."""


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> App:
    monkeypatch.chdir(tmp_path)
    made = App("shop", "memory://shop", contracts="contracts", migrate=True)
    monkeypatch.setitem(globals(), "app", made)
    return made


def ensue(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Run a command about the test's application; return its exit code, what it prints, and what it says besides."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as leaving:
        main(["contracts", *arguments])
    out, err = capsys.readouterr()
    return int(leaving.value.code or 0), out, err


TARGET = f"{__name__}:app"


# --- lock


def test_locking_writes_a_file_for_each_version_and_a_manifest(
    shop: App, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    event("Paid", 1, order=int, amount=Money, with_key="order")
    event("Sent", 1, order=int, with_name="shop/Sent")
    event("Foreign", 1, it=int, with_service="other")
    code, out, _ = ensue(capsys, "lock", TARGET, "--dry-run")
    assert (code, out) == (
        0,
        (
            "would write contracts/Paid.v1.json\n"
            "would write contracts/shop%2FSent.v1.json\n"
            "would write contracts/service.json\n"
        ),
    )
    assert not (tmp_path / "contracts").exists()
    assert ensue(capsys, "lock", TARGET)[:2] == (0, out.replace("would write", "wrote"))
    assert json.loads((tmp_path / "contracts" / "service.json").read_text()) == {
        "service": "shop",
        "publishes": [
            {"event": "Paid", "version": 1, "type": "Paid.v1", "channel": None},
            {"event": "shop/Sent", "version": 1, "type": "shop/Sent.v1", "channel": None},
        ],
        "reads": [],
    }
    text = (tmp_path / "contracts" / "Paid.v1.json").read_text()
    assert text.endswith("}\n")
    assert json.loads(text)["x-ensue"] == {
        "service": "shop",
        "name": "Paid",
        "version": 1,
        "key": "order",
        "changes": "none",
    }
    assert ensue(capsys, "lock", TARGET)[:2] == (0, "nothing to do: the contract files are up to date\n")
    assert ensue(capsys, "check", TARGET)[:2] == (0, "2 contracts in contracts, all kept\n")
    shop.check()


def test_a_locked_version_is_never_overwritten(shop: App, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    event("Paid", 1, order=int)
    lock(compare(shop.service(), Folder(tmp_path / "contracts")), Folder(tmp_path / "contracts"))
    before = (tmp_path / "contracts" / "Paid.v1.json").read_text()
    event("Paid", 1, {"note": ""}, order=str, note=str)
    event("New", 1, it=int)
    code, out, err = ensue(capsys, "lock", TARGET)
    assert (code, out) == (1, "")
    assert err == (
        "error: nothing was written: the contracts in contracts are not kept:\n"
        "  - Paid.v1, order: was integer, is string\n"
        "  - Paid.v1, note: was not there, is string (optional, '' by default)\n"
        "Within a version nothing changes: undo it, or keep the class as it was and define another one with the next "
        "version=; @app.downcast(new, old) publishes the old version beside it while somebody reads it\n"
    )
    assert (tmp_path / "contracts" / "Paid.v1.json").read_text() == before
    assert not (tmp_path / "contracts" / "New.v1.json").exists()
    code, out, _ = ensue(capsys, "lock", TARGET, "--json")
    assert code == 1
    assert [each["path"] for each in json.loads(out)["refused"]] == ["order", "note"]


def test_what_is_only_said_may_change(shop: App, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    class Paid(IntegrationEvent, version=1):
        order: int

    ensue(capsys, "lock", TARGET)
    Paid.__doc__ = "Somebody paid."
    assert ensue(capsys, "check", TARGET)[0] == 0
    code, out, _ = ensue(capsys, "lock", TARGET)
    assert (code, out) == (0, "wrote contracts/Paid.v1.json (the same structure, in other words)\n")
    assert "Somebody paid." in (tmp_path / "contracts" / "Paid.v1.json").read_text()


def test_an_additive_version_may_grow(shop: App, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    event("Paid", 1, order=int, with_changes="additive")
    ensue(capsys, "lock", TARGET)
    event("Paid", 1, {"note": ""}, order=int, note=str, with_changes="additive")
    shop.check()
    code, out, _ = ensue(capsys, "check", TARGET)
    assert code == 0
    assert "Paid.v1.json: members were added, as its contract allows; lock them with `ensue contracts lock`" in out
    assert ensue(capsys, "lock", TARGET)[1] == "wrote contracts/Paid.v1.json (with the members that were added)\n"
    event("Paid", 1, order=int, with_changes="additive")
    with pytest.raises(ContractBroken, match=r"Paid.v1, note: was string .* is gone"):
        shop.check()
    event("Paid", 1, {"note": ""}, order=int, note=str, must=int, with_changes="additive")
    with pytest.raises(
        ContractBroken, match=r"Within a version fields may be added that need not be there, and nothing else"
    ):
        shop.check()
    event("Paid", 1, {"note": ""}, order=int, note=str)
    with pytest.raises(ContractBroken, match='changes="additive" has become changes="none"'):
        shop.check()


# --- check


def test_everything_that_differs_is_told(shop: App, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    event("Paid", 1, order=int)
    event("Sent", 1, order=int)
    ensue(capsys, "lock", TARGET)
    from ensue.events import kinds

    del kinds._classes["Sent.v1"]
    event("Paid", 1, order=str)
    event("New", 1, it=int)
    code, out, _ = ensue(capsys, "check", TARGET)
    assert code == 1
    assert "New.v1: it is published and has no contract file contracts/New.v1.json" in out
    assert "Paid.v1, order: was integer, is string" in out
    assert "Sent.v1: contracts/Sent.v1.json is its contract, and the application has no such event" in out
    assert "shop: contracts/service.json is not what the service publishes and reads" in out
    for mend in ("ensue contracts lock, and commit", "undo it", "(ensue contracts readers), then delete its file"):
        assert mend in out
    code, out, _ = ensue(capsys, "check", TARGET, "--json")
    found = json.loads(out)
    assert (code, found["kept"]) == (1, False)
    assert [(each["type"], each["problem"], each["path"]) for each in found["differences"]] == [
        ("New.v1", "not locked", ""),
        ("Paid.v1", "changed", "order"),
        ("Sent.v1", "gone", ""),
        ("shop", "manifest", ""),
    ]


def test_check_judges_neighbouring_versions(shop: App, capsys: pytest.CaptureFixture[str]) -> None:
    event("Paid", 1, order=int)
    event("Paid", 2, {"note": ""}, order=int, note=str)
    event("Paid", 3, order=int, note=str)
    event("Paid", 4, order=str)
    ensue(capsys, "lock", TARGET)
    code, out, _ = ensue(capsys, "check", TARGET)
    assert code == 0
    assert out == (
        "Paid.v1 to Paid.v2: full, each can be read as the other\n"
        "Paid.v2 to Paid.v3: forward, the new one can be read as the old one\n"
        "  who reads the new version: note: need not be there, and its reader requires it\n"
        "Paid.v3 to Paid.v4: none, neither can be read as the other\n"
        "  who reads the new version: order: is integer, and is read as string\n"
        "  who reads the old version: order: is string, and is read as integer\n"
        "  who reads the old version: note: is not there, and its reader requires it\n"
        "4 contracts in contracts, all kept\n"
    )
    assert [each["compatibility"] for each in json.loads(ensue(capsys, "check", TARGET, "--json")[1])["verdicts"]] == [
        "full",
        "forward",
        "none",
    ]


def test_an_application_without_contracts_keeps_them_all(shop: App, capsys: pytest.CaptureFixture[str]) -> None:
    assert ensue(capsys, "check", TARGET)[:2] == (0, "0 contracts in contracts, all kept\n")
    shop.check()


def test_another_folder(shop: App, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    event("Paid", 1, order=int)
    assert ensue(capsys, "lock", TARGET, "--folder", "elsewhere")[0] == 0
    assert (tmp_path / "elsewhere" / "Paid.v1.json").exists()
    assert ensue(capsys, "check", TARGET, "--folder", "elsewhere")[0] == 0
    (tmp_path / "file").touch()
    code, _, err = ensue(capsys, "check", TARGET, "--folder", "file")
    assert (code, err) == (1, "error: file is no folder: contract files are kept in one\n")


def test_files_that_are_no_contracts(shop: App, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    event("Paid", 1, order=int)
    ensue(capsys, "lock", TARGET)
    folder = tmp_path / "contracts"
    (folder / "copy.json").write_text((folder / "Paid.v1.json").read_text())
    with pytest.raises(UnusableContract, match=r"copy.json is the contract of Paid.v1, of which there is a file"):
        shop.check()
    (folder / "copy.json").write_text("{}")
    with pytest.raises(UnusableContract, match=r"copy.json is no contract"):
        shop.check()
    (folder / "copy.json").unlink()
    (folder / "service.json").write_text("[]")
    with pytest.raises(UnusableContract, match=r"service.json is no manifest of a service"):
        find_readers = readers(shop.service(), [Folder(folder)])
        assert not find_readers


def test_a_file_of_another_name_counts(shop: App, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    event("Paid", 1, order=int)
    ensue(capsys, "lock", TARGET)
    (tmp_path / "contracts" / "Paid.v1.json").rename(tmp_path / "contracts" / "payments.json")
    shop.check()
    assert ensue(capsys, "lock", TARGET)[1] == "nothing to do: the contract files are up to date\n"


def test_a_folder_of_another_service(shop: App, capsys: pytest.CaptureFixture[str]) -> None:
    ensue(capsys, "lock", TARGET)
    globals()["app"] = App("stock", "memory://stock")
    code, _, err = ensue(capsys, "lock", TARGET)
    assert code == 1
    assert err.startswith(
        "error: contracts holds the contracts of service 'shop', and this is 'stock': give each service"
    )


def test_a_type_that_is_nowhere(shop: App) -> None:
    class Paid(IntegrationEvent, version=1):
        it: Nowhere  # type: ignore[name-defined]  # noqa: F821

    with pytest.raises(EventDefinitionError, match=r"name 'Nowhere' is not defined"):
        shop.check()


# --- at start-up


async def test_start_up_is_refused_with_every_difference(shop: App, tmp_path: Path) -> None:
    event("Paid", 1, order=int)
    with pytest.raises(ContractBroken, match="it is published and has no contract file") as refused:
        shop.migrate()
    assert "ensue contracts lock" in str(refused.value)
    assert refused.value.differences == ("Paid.v1: it is published and has no contract file contracts/Paid.v1.json",)
    with pytest.raises(ContractBroken):
        async with shop.running():
            raise AssertionError("it has started")
    lock(compare(shop.service(), Folder(tmp_path / "contracts")), Folder(tmp_path / "contracts"))
    async with shop.running():
        pass
    event("Paid", 1, order=str)
    with pytest.raises(ContractBroken, match=r"Paid.v1, order: was integer, is string"):
        shop.migrate()


def test_without_a_folder_nothing_is_checked(tmp_path: Path) -> None:
    event("Paid", 1, order=int)
    App("unchecked", "memory://unchecked").check()


def test_the_doctor_looks_at_them(shop: App, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    globals()["app"] = shop = App("shop", f"sqlite:///{tmp_path}/shop.db", contracts="contracts")
    shop.migrate()

    def finding() -> tuple[str, str]:
        capsys.readouterr()
        with pytest.raises(SystemExit):
            main(["doctor", "--json", "--app", TARGET])
        (found,) = [each for each in json.loads(capsys.readouterr().out)["findings"] if each["check"] == "contracts"]
        return found["level"], found["what"]

    assert finding() == ("ok", "as the files in contracts say")
    event("Paid", 1, order=int)
    level, what = finding()
    assert level == "wrong"
    assert what.startswith("1 difference from the files in contracts, the first: Paid.v1: it is published and has no")
    (tmp_path / "contracts").mkdir()
    (tmp_path / "contracts" / "x.json").touch()
    assert finding() == ("wrong", "contracts/x.json is no JSON: Expecting value: line 1 column 1 (char 0)")


def test_run_and_migrate_are_refused_on_the_command_line(tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(
        "from ensue import App, IntegrationEvent\n"
        "app = App('shop', 'sqlite:///shop.db', contracts='contracts')\n"
        "class Paid(IntegrationEvent, version=1):\n    order: int\n"
        "@app.on(Paid)\ndef handle(event: Paid) -> None: ...\n"
    )
    for command in ("migrate", "run"):
        done = subprocess.run(
            [sys.executable, "-m", "ensue.cli", command, "shop:app"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 1
        assert done.stderr.startswith("error: the contracts in contracts are not kept:\n  - Paid.v1: it is published")
    assert not (tmp_path / "shop.db").exists()


# --- what a service is


def test_another_broker_is_no_other_contract(
    shop: App, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    paid, sent = event("Paid", 1, it=int), event("Sent", 1, it=int, with_service="other")

    def declared(*urls: str, topic: Callable[[type], str] = topic_of) -> None:
        made = App("shop", "memory://shop")
        monkeypatch.setitem(globals(), "app", made)
        for number, url in enumerate(urls):
            made.relay(url, paid, name=f"relay-{number}", topic=topic)
        made.inbox(urls[0], sent)

    declared("nats://localhost/shop")
    assert ensue(capsys, "lock", TARGET)[0] == 0
    for urls in (["kafka://one:9092,two:9092"], ["amqps://user:word@host/"], ["redis://host", "nats://host/shop"]):
        declared(*urls)
        assert ensue(capsys, "check", TARGET)[0] == 0
    declared("nats://localhost/shop", topic=lambda _: "elsewhere")
    assert ensue(capsys, "check", TARGET)[0] == 1, "a channel is what services have agreed on"


def test_what_a_service_publishes_and_reads(shop: App) -> None:
    own, named = event("Paid", 1, it=int), event("Named", 1, it=int, with_service="shop")
    theirs, received = event("Theirs", 1, it=int, with_service="other"), event("Received", 1, it=int)
    told = event("Told", 1, it=int)

    class Placed(DomainEvent):
        it: int

    @shop.on(theirs, Placed, own)
    def handle(event: Any) -> None: ...

    reading = Reading(event=received, channel="received", source="amqps://host", consumer="shop")
    shop.declarations.readings.append(reading)
    shop.declarations.publications.append(Publication(event=told, channel="told", protocol="nats"))
    found = shop.service()
    assert found == Service(
        name="shop",
        publishes=(
            Publication(event=told, channel="told", protocol="nats"),
            Publication(event=named),
            Publication(event=own),
        ),
        reads=(reading, Reading(event=theirs, consumer="handle")),
    )
    assert reading.protocol == "amqp"
    assert [Reading(event=told, source=each).protocol for each in ("nats://x", "postgresql+psycopg://x", None)] == [
        "nats",
        "postgresql",
        None,
    ]


# --- show


def test_showing_an_event(shop: App, capsys: pytest.CaptureFixture[str]) -> None:
    event("Paid", 1, order=int, with_key="order")
    ensue(capsys, "lock", TARGET)
    event("Paid", 2, {"note": "x"}, order=int, note=str, amount=Money, with_changes="additive").__doc__ = "Money came."
    code, out, _ = ensue(capsys, "show", "Paid", "--app", TARGET)
    assert (code, out) == (
        0,
        """Paid.v1  key order
member  type
order   integer
Paid.v1 to Paid.v2: forward, the new one can be read as the old one
  who reads the new version: amount: is not there, and its reader requires it

Paid.v2  members may be added
Money came.
member  type
order   integer
note    string   'x' by default
amount  Money
""",
    )
    found = json.loads(ensue(capsys, "show", "Paid.v2", "--app", TARGET, "--json")[1])
    assert [each["version"] for each in found["versions"]] == [2]
    assert found["versions"][0]["members"][1] == {"name": "note", "type": "string", "required": False, "default": "x"}
    code, _, err = ensue(capsys, "show", "Nothing", "--app", TARGET)
    assert (code, err) == (1, "error: 'shop' has no integration event 'Nothing': Paid\n")


# --- readers


def test_who_reads_which_version(shop: App, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, two = event("Paid", 1, order=int), event("Paid", 2, order=str)
    mine = event("Mine", 1, order=str)
    gone = event("Gone", 1, order=int, with_service="shop")

    def other(name: str, *reads: Reading) -> None:
        folder = Folder(tmp_path / name / "contracts")
        lock(compare(Service(name=name, reads=reads), folder), folder)

    other("stock", Reading(event=one, channel="paid", consumer="stock"), Reading(event=gone))
    other("billing", Reading(event=two, channel="paid", consumer="billing"))
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv" / "service.json").write_text("nonsense")
    from ensue.events import kinds

    del kinds._classes["Gone.v1"]
    assert mine
    code, out, _ = ensue(capsys, "readers", ".", "--app", TARGET)
    assert code == 0
    assert [line.split() for line in out.splitlines()] == [
        ["event", "version", "read", "by", "as", "from"],
        ["Gone", "(not", "published)", "1", "stock"],
        ["Mine", "1", "nobody"],
        ["Paid", "1", "stock", "stock", "paid"],
        ["Paid", "2", "billing", "billing", "paid"],
    ]
    found = json.loads(ensue(capsys, "readers", "billing", "--app", TARGET, "--json")[1])
    assert [(each["type"], each["published"], [one["service"] for one in each["readers"]]) for each in found] == [
        ("Mine.v1", True, []),
        ("Paid.v1", True, []),
        ("Paid.v2", True, ["billing"]),
    ]


def test_nobody_to_look_at(shop: App, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = ensue(capsys, "readers", "--app", TARGET)
    assert (code, err) == (
        1,
        (
            "error: no service.json is in . or below it: a service writes it into its contracts folder with "
            "`ensue contracts lock`\n"
        ),
    )
    with pytest.raises(UnusableContract, match="there is no folder nowhere"):
        find_folders([Path("nowhere")])
    ensue(capsys, "lock", TARGET)
    assert ensue(capsys, "readers", "--app", TARGET)[:2] == (
        0,
        "shop publishes no integration event, and nobody reads one of it\n",
    )


def test_older_versions_that_are_upcast_are_read_too(shop: App, tmp_path: Path) -> None:
    from ensue import PastEvent, upcast
    from ensue.contracts.folder import manifest_of

    two = event("Paid", 2, order=str, with_service="other")

    class PaidOnce(PastEvent, name="Paid.v1"):
        id: int

    @upcast
    def renamed(old: PaidOnce) -> two:  # type: ignore[valid-type]
        return two(order=str(old.id))

    manifest = manifest_of(Service(name="shop", reads=(Reading(event=two),)))
    assert [(each.type, each.version, each.service) for each in manifest.reads] == [
        ("Paid.v1", 1, "other"),
        ("Paid.v2", 2, "other"),
    ]
