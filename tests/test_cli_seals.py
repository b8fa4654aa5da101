"""The commands about the seal, on both databases."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from ensue.seals import verifier
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
    for name in ("ENSUE_SEAL_KEY", "ENSUE_SEAL_PUBLIC_KEY"):
        monkeypatch.delenv(name, raising=False)
    yield from open_shop(tmp_path, url, schema, monkeypatch, capsys)


@pytest.fixture
def keyed(shop: Shop) -> Shop:
    """A shop with eight orders, and a key."""
    shop.good("migrate")
    shop.good("seal", "--make-key", "seal.key")
    shop.record(*[f"o{n}" for n in range(8)])
    return shop


def falsify(shop: Shop, sql: str) -> None:
    table = f"{shop.schema}{'.' if shop.url.startswith('postgresql') else '_'}events"
    with shop.app.transaction() as connection:
        connection.execute(sql.format(events=table))


def test_a_key_is_made_once_and_for_its_owner_only(shop: Shop) -> None:
    made = shop.good("seal", "--make-key", "seal.key", "--name", "shop.example/log", "--json").json
    assert made["public"].startswith("shop.example/log+")
    file = shop.folder / "seal.key"
    assert file.stat().st_mode & 0o777 == 0o600
    assert (shop.folder / "seal.key.pub").read_text() == made["public"] + "\n"
    again = shop("seal", "--make-key", "seal.key")
    assert (again.code, "is there already" in again.err) == (1, True)
    assert "no spaces" in shop("seal", "--make-key", "other.key", "--name", "a b").err
    assert "say --make-key" in shop("seal", "--name", "x").err


def test_sealing_verifying_proving(keyed: Shop) -> None:
    first = keyed.good("seal", "--key", "seal.key", "--to", "out", "--events", "events.jsonl")
    assert "sealed 8 events, up to position 8 (8 new), as shop" in first.out
    assert "out: 1 new checkpoint" in first.out
    assert "nothing new" in keyed.good("seal", "--key", "seal.key", "--to", "out").out
    public = ("--public-key", "seal.key.pub")
    told = keyed.good("verify", *public, "--checkpoint", "out", "--json").json
    assert (told["holds"], told["checked"], told["outside"], told["findings"]) == (True, 8, 1, [])
    assert "all is as it was sealed" in keyed.good("verify", *public).out
    proof = keyed.good("prove", "3", *public).json
    assert (proof["index"], proof["event"]["position"]) == (2, 3)
    by_id = keyed.good("prove", proof["event"]["id"], *public, "--out", "proof.json").out
    assert by_id == "proved, in proof.json\n"
    key = (keyed.folder / "seal.key.pub").read_text()
    assert verifier.main(["proof", "proof.json", "--key", key]) == 0
    keyed.record("one more")
    auditors = f"auditors_{keyed.schema}"
    (keyed.folder / f"{auditors}.py").write_text(
        f"from ensue import App\napp = App('auditors', 'sqlite:///{keyed.folder}/auditors.db')\napp.migrate()\n"
    )
    theirs = f"app:{auditors}:app"
    both = ("--to", "out", "--to", theirs)
    assert keyed.good("seal", "--key", "seal.key", *both, "--json").json["taken"] == {"out": 1, theirs: 1}
    assert "1 of them from outside" in keyed.good("verify", *public, "--checkpoint", theirs).out
    keyed.good("prove", "--grown-from", "out/checkpoints/8", *public, "--out", "growth.json")
    assert verifier.main(["consistency", "growth.json", "--key", "seal.key.pub"]) == 0
    lines = [json.loads(line) for line in (keyed.folder / "events.jsonl").read_text().splitlines()]
    assert [each["index"] for each in lines] == list(range(8))


def test_what_was_falsified_is_named_and_the_exit_code_says_so(keyed: Shop) -> None:
    keyed.good("seal", "--key", "seal.key")
    falsify(keyed, "update {events} set key = 'x' where position = 3")
    falsify(keyed, "delete from {events} where position >= 7")
    done = keyed("verify", "--public-key", "seal.key.pub")
    assert done.code == 1
    assert "CHANGED  1 event at position 3: not what was sealed\n      to do: " in done.out
    assert "TRUNCATED  the log ends before positions 7 to 8; sealed there, and gone: 2 events" in done.out
    assert "NOT as it was sealed" in done.out
    told = keyed("verify", "--public-key", "seal.key.pub", "--json")
    assert told.code == 1
    assert [(each["kind"], each["first_position"]) for each in told.json["findings"]] == [
        ("changed", 3),
        ("truncated", 7),
    ]
    assert keyed("verify", "--public-key", "seal.key.pub", "--since", "1h").code == 1
    refused = keyed("prove", "3", "--public-key", "seal.key.pub")
    assert (refused.code, "not the one that was sealed" in refused.err) == (1, True)


def test_what_cannot_be_told_ends_with_two(keyed: Shop) -> None:
    for words, says in (
        (("--public-key", "seal.key.pub"), "nothing has been sealed yet"),
        ((), "whose seal should it be?"),
        (("--public-key", "nowhere.pub"), "cannot be read"),
        (("--public-key", "seal.key.pub", "--checkpoint", "nowhere"), "cannot be read"),
    ):
        done = keyed("verify", *words)
        assert (done.code, says in done.err) == (2, True), done
    assert keyed("verify", "--app", "nowhere:app", app=False).code == 2
    assert "no key to sign with" in keyed("seal").err
    assert "What is to be proved?" in keyed("prove").err or "what is to be proved?" in keyed("prove").err


def test_pruning_waits_for_the_seal(keyed: Shop) -> None:
    for name in ("mail", "stock"):
        keyed.good("retire", name, "--yes")
    keyed.good("seal", "--key", "seal.key")
    keyed.record("one more", "another")
    refused = keyed("prune", "--older-than", "2100-01-01", "--dry-run")
    assert (refused.code, "signed up to position 8 only" in refused.out) == (1, True)
    keyed.good("seal", "--key", "seal.key")
    keyed.good("prune", "--older-than", "2100-01-01", "--yes")
    told = keyed.good("verify", "--public-key", "seal.key.pub")
    assert "9 were pruned since, as the log says" in told.out


def test_the_sealer_is_a_subscription_that_lag_shows(keyed: Shop) -> None:
    keyed.write(keyed.text + "\napp.seal('seal.key', every=0.01)\n")
    keyed.good("migrate")
    (row,) = [each for each in keyed.good("lag", "--json").json if each["subscription"] == "seal"]
    assert (row["behind"], row["types"]) == (8, [])
    keyed.work(lambda: keyed.app.seals.checkpoints())
    (row,) = [each for each in keyed.good("lag", "--json").json if each["subscription"] == "seal"]
    assert (row["behind"], row["state"]) == (0, "up to date")
    assert doctor(keyed) == [("ok", "8 events signed, the last time")]
    keyed.good("verify")
    with keyed.app.transaction() as connection:
        mark = "." if keyed.url.startswith("postgresql") else "_"
        connection.execute(f"delete from {keyed.schema}{mark}seal_tiles")
    assert doctor(keyed) == [("wrong", "the tree of the seal lacks hashes")]


def test_the_doctor_says_what_has_not_been_signed(keyed: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    assert doctor(keyed) == []
    keyed.write(keyed.text + "\napp.seal('nowhere.key')\n")
    keyed.good("migrate")
    assert doctor(keyed) == [("note", "the seal cannot be looked at from here")]
    keyed.change("nowhere.key", "seal.key")
    assert doctor(keyed) == [("note", "nothing has been sealed yet")]
    keyed.work(lambda: all(each.behind == 0 for each in keyed.app.operations.standings() if each.types == ()))
    assert doctor(keyed) == [("wrong", "8 events not signed yet")]
    keyed.good("seal")
    assert doctor(keyed) == [("ok", "8 events signed, the last time")]


def doctor(shop: Shop) -> list[tuple[str, str]]:
    """Return what the doctor says about the seal, the beginning of each."""
    findings = [each for each in shop("doctor", "--json").json["findings"] if each["check"] == "seal"]
    return [
        (each["level"], next((start for start in BEGINNINGS if each["what"].startswith(start)), ""))
        for each in findings
    ]


BEGINNINGS = (
    "the tree of the seal lacks hashes",
    "the seal cannot be looked at from here",
    "nothing has been sealed yet",
    "8 events not signed yet",
    "8 events signed, the last time",
)
