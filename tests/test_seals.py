"""The seal: what was sealed can be verified and proved, and what was done to it is named with its position."""

from __future__ import annotations

import base64
import shutil
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from ensue import App
from ensue.errors import NotSealed, SealBroken, SealError, StillNeeded, UnknownName, UnusableKey
from ensue.seals import SigningKey, verifier
from tests.sealing import (
    ANY_AGE,
    KEY,
    KEYS,
    Opened,
    Shipped,
    auditor,
    do,
    fill,
    found,
    is_postgres,
    positions,
    record,
    seal,
    verify,
)


@pytest.fixture(params=["sqlite", "postgresql"])
def app(request: pytest.FixtureRequest, tmp_path: Path, schema: str) -> App:
    url = f"sqlite:///{tmp_path}/log.db" if request.param == "sqlite" else request.getfixturevalue("postgres_url")
    made = App("sealed", url, schema=schema)
    made.migrate()
    return made


@pytest.fixture
def full(app: App) -> App:
    """A log with 700 events, of which 690 were sealed, in three goes."""
    for more in (300, 300, 90):
        fill(app, more, at_once=150)
        seal(app)
    record(app, *[Shipped(n=n) for n in range(10)])
    return app


# --- sealing


def test_everything_recorded_is_sealed_and_what_is_new_is_told(app: App) -> None:
    with pytest.raises(NotSealed):
        verify(app)
    fill(app, 100)
    first = seal(app)
    assert (first.origin, first.size, first.added, first.signed) == ("seals.test", 100, 100, True)
    assert first.position == positions(app)[-1]
    again = seal(app)
    assert (again.size, again.added, again.signed, again.note) == (100, 0, False, first.note)
    record(app, Shipped(n=1))
    told = verify(app)
    assert (told.holds, told.size, told.checked, told.unsealed, told.checkpoints) == (True, 100, 100, 1, 1)
    assert seal(app).size == 101
    assert [each.size for each in app.seals.checkpoints(trusted=KEYS)] == [100, 101]


async def test_in_an_event_loop_it_is_the_same(app: App, tmp_path: Path) -> None:
    fill(app, 60)
    first = await app.seals.seal_async(KEY)
    assert await app.seals.take_async(tmp_path / "out", trusted=KEYS) == 1
    record(app, Shipped(n=1))
    await app.seals.seal_async(KEY)
    told = await app.seals.verify_async(keys=KEYS, kept=[tmp_path / "out"])
    assert (told.holds, told.size, told.outside) == (True, first.size + 1, 1)
    assert (await app.seals.prove_async(3, keys=KEYS)).index == 2
    growth = await app.seals.prove_growth_async(tmp_path / "out" / "checkpoint", keys=KEYS)
    assert growth == app.seals.prove_growth(tmp_path / "out" / "checkpoint", keys=KEYS)
    assert len(await app.seals.checkpoints_async(trusted=KEYS)) == 2


def test_an_empty_log_has_a_seal_too(app: App) -> None:
    done = seal(app)
    assert (done.size, done.signed) == (0, False)
    record(app, Shipped(n=1))
    assert seal(app).size == 1
    assert verify(app).holds


def test_several_seal_at_once_and_nothing_is_sealed_twice(app: App) -> None:
    failures: list[BaseException] = []

    def work() -> None:
        try:
            for _ in range(5):
                record(app, Shipped(n=1))
                seal(app)
        except BaseException as error:  # noqa: BLE001 raised by the test
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert failures == []
    seal(app)
    told = verify(app)
    assert (told.holds, told.size, told.checked) == (True, 15, 15)


def test_what_is_stored_is_sealed_whatever_it_is(app: App) -> None:
    """Values that ensue itself would never write, and texts that are long or odd."""
    record(app, Opened(about="ключ \N{PILE OF POO}", n=1), Opened(about="\x7f\u2028", n=2), Shipped(n=3))
    if not is_postgres(app):
        do(
            app,
            "update {events} set data = cast(x'7b22ff' as text), key = x'00ff', metadata = x'31' where position = 1",
        )
    seal(app)
    assert verify(app).holds
    if not is_postgres(app):
        for other in ("data = x'7b22ff'", "key = cast(x'00ff' as text)", "metadata = '1'", "metadata = null"):
            before = _row(app, 1)
            do(app, f"update {{events}} set {other} where position = 1")
            assert found(app) == [("changed", 1, 1)], other
            do(app, "update {events} set data = ?, key = ?, metadata = ? where position = 1", *before)
            do(app, "update {events} set data = cast(data as text) where position = 1")


def _row(app: App, position: int) -> tuple[Any, ...]:
    with app.transaction() as connection:
        row = connection.execute(
            f"select cast(data as blob), key, metadata from {app.log.place.schema}_events where position = {position}"
        ).fetchone()
    return tuple(row)


# --- what is found


CHANGES = [
    "data = '{\"n\":4711}'",
    'metadata = \'{"actor":"mallory"}\'',
    "type = 'test.seals.other'",
    "kind = 'integration'",
    "key = 'k9'",
    "correlation_id = 'r'",
    "causation_id = 'c'",
    "id = '01a2238b-3b0c-720f-8210-f54d60f0974c'",
    "recorded_at = '2026-01-01T00:00:00.000000Z'",
    "stream = 's', version = 1",
]


def test_whatever_is_changed_of_an_event_is_found(app: App) -> None:
    fill(app, 49)
    seal(app)
    for number, change in enumerate(CHANGES):
        do(app, f"update {{events}} set {change} where position = {3 + 3 * number}")
    told = verify(app)
    wanted = [("changed", 3 + 3 * number, 3 + 3 * number, 1) for number in range(len(CHANGES))]
    assert [(each.kind, each.first_position, each.last_position, each.events) for each in told.findings] == wanted
    assert "position 3:" in told.findings[0].what
    assert told.findings[0].mend


def test_deleted_events_are_found(full: App) -> None:
    do(full, "delete from {events} where position in (5, 6, 7, 300, 301, 512)")
    assert found(full) == [("deleted", 5, 7), ("deleted", 300, 301), ("deleted", 512, 512)]


def test_inserted_events_are_found(full: App) -> None:
    gap = next(p for p in range(100, 200) if p not in positions(full))
    _copy(full, 20, gap)
    assert found(full) == [("inserted", gap, gap)]


def test_reordered_events_are_found(full: App) -> None:
    for one, other in ((10, 11), (30, 600)):
        do(full, "update {events} set position = -1 where position = ?", one)
        do(full, "update {events} set position = ? where position = ?", one, other)
        do(full, "update {events} set position = ? where position = -1", other)
    assert found(full) == [("reordered", 10, 11), ("reordered", 30, 600)]
    gap = next(p for p in range(100, 200) if p not in positions(full))
    do(full, "update {events} set position = ? where position = 40", gap)
    assert found(full) == [("reordered", 10, 11), ("reordered", 30, 600), ("reordered", 40, gap)]


def test_a_truncated_log_is_found(full: App) -> None:
    last = positions(full)[689]
    do(full, "delete from {events} where position > 500")
    assert found(full) == [("truncated", 501, last)]


def test_a_replaced_tail_is_found(full: App) -> None:
    last = positions(full)[689]
    do(full, "delete from {events} where position > 500")
    record(full, *[Shipped(n=n) for n in range(500)])
    assert found(full) == [("replaced", 501, last)]
    seal(full)
    assert ("deleted", 501, last) in found(full), "the seal goes on over it, and forgets nothing"


def test_what_is_not_sealed_yet_is_not_judged(full: App) -> None:
    last = positions(full)[-1]
    do(full, "update {events} set key = 'other' where position = ?", last)
    assert verify(full).holds


def test_a_restored_backup_is_found_by_whoever_kept_a_checkpoint(full: App, tmp_path: Path) -> None:
    backup = _backup(full)
    fill(full, 300)
    seal(full)
    full.seals.take(tmp_path / "out", trusted=KEYS)
    sealed = verify(full).position
    _restore(full, backup)
    assert verify(full).holds, "it agrees with itself"
    last = positions(full)[-1]
    for kept in (tmp_path / "out", tmp_path / "out" / "checkpoint"):
        assert found(full, kept=[kept]) == [("restored", last + 1, sealed)]
    with pytest.raises(SealBroken, match="older backup"):
        full.seals.take(tmp_path / "out", trusted=KEYS)
    fill(full, 400)
    seal(full)
    ((kind, first, _),) = found(full, kept=[tmp_path / "out" / "checkpoint"])
    assert (kind, first) == ("rewritten", 1)
    kinds = found(full, kept=[tmp_path / "out"])
    assert kinds[0][1] > last - 11, "the folder has the hashes, so it is known from where on"
    with pytest.raises(SealBroken, match="rewritten"):
        full.seals.take(tmp_path / "out", trusted=KEYS)


def test_a_history_that_was_rewritten_with_its_hashes_is_found(full: App, tmp_path: Path) -> None:
    """Whoever rewrites the tree too cannot sign it; and an export names the event."""
    full.seals.take(tmp_path / "out", trusted=KEYS)
    do(full, "update {events} set key = 'other' where position = 350")
    _rebuild_tree(full)
    (finding,) = verify(full).findings
    first, second = (each.position for each in full.seals.checkpoints(trusted=KEYS)[:2])
    assert (finding.kind, finding.first_position, finding.last_position) == ("rewritten", first + 1, second)
    assert ("changed", 350, 350) in found(full, kept=[tmp_path / "out"])
    record(full, Shipped(n=1))
    with pytest.raises(SealBroken, match="not those that were signed last"):
        seal(full)


def test_a_seal_that_is_damaged_is_told_from_a_history_that_is(full: App) -> None:
    record(full, Shipped(n=1))
    do(full, "update {seal_tiles} set hashes = " + _flipped(full, 100) + " where level = 0 and number = 1")
    ((kind, first, last),) = found(full)
    assert kind == "seal"
    assert first == last == positions(full)[256 + 100 // 32]


DAMAGE = [
    "delete from {seal_tiles} where level = 0 and number = 1",
    "delete from {seal_tiles} where level = 1",
    "update {seal_tiles} set first_position = first_position + 1 where level = 0 and number = 2",
    "update {seal_tiles} set last_position = last_position - 1 where level = 0 and number = 2",
    "update {seal_tiles} set steps = hashes where level = 0 and number = 0",
    "update {seal_checkpoints} set note = replace(note, 'seals', 'sails') where size = 600",
    "update {seal_checkpoints} set position = position + 1 where size = 600",
    "update {seal} set size = size + 1",
    "update {seal} set position = position - 1",
]


def test_damage_to_the_seal_is_found_and_the_history_holds(full: App) -> None:
    tables = ("seal", "seal_tiles", "seal_checkpoints")
    for each in tables:
        do(full, f"create table {{{each}}}_copy as select * from {{{each}}}")
    for damage in DAMAGE:
        do(full, damage)
        told = verify(full)
        assert {each.kind for each in told.findings} == {"seal"}, damage
        for each in tables:
            do(full, f"delete from {{{each}}}")
            do(full, f"insert into {{{each}}} select * from {{{each}}}_copy")
    assert verify(full).holds


def test_events_that_go_with_their_hashes_are_missed(full: App, tmp_path: Path) -> None:
    full.seals.take(tmp_path / "out", trusted=KEYS)
    do(full, "delete from {seal_tiles} where level = 0 and number = 1")
    gone = positions(full)[300]
    do(full, "delete from {events} where position = ?", gone)
    do(full, "update {events} set key = 'other' where position = 650")
    for kept in ([], [tmp_path / "out"]):
        told = verify(full, kept=kept)
        kinds = [each.kind for each in told.findings]
        assert kinds == ["rewritten", "changed"]
        assert told.findings[0].first_position <= gone <= told.findings[0].last_position
        assert "of its 256 events 255 are there" in told.findings[0].what
        assert told.checkpoints == 2 + 4 * len(kept), "but the one inside, if nobody has kept the hashes"
    do(full, "update {seal_tiles} set hashes = steps where level = 0 and number = 2")
    do(full, "delete from {events} where position = 660")
    told = verify(full)
    assert [each.kind for each in told.findings] == ["rewritten", "rewritten"]
    assert any(each.first_position <= 660 <= each.last_position for each in told.findings)
    do(full, "delete from {seal_tiles} where level = 0 and number >= 1")
    assert [each.kind for each in verify(full).findings if each.kind != "seal"] == ["replaced", "replaced"]


def test_hashes_without_a_signature_prove_nothing(full: App) -> None:
    do(full, "delete from {seal_checkpoints}")
    with pytest.raises(NotSealed, match="nothing has been signed"):
        verify(full)


def test_a_tree_that_was_cut_off_is_found(full: App) -> None:
    do(full, "delete from {seal_tiles} where level = 0 and number >= 1")
    do(full, "delete from {seal_tiles} where level >= 1")
    assert {kind for kind, _, _ in found(full)} == {"seal"}
    do(full, "delete from {events} where position > 690")
    kinds = {kind for kind, _, _ in found(full)}
    assert kinds == {"seal", "truncated"}


def test_since_looks_at_the_end_only(full: App) -> None:
    do(full, "update {events} set key = 'other' where position in (20, 650)")
    told = verify(full, since=640)
    assert [(each.kind, each.first_position) for each in told.findings] == [("changed", 650)]
    assert 0 < told.checked < 300
    assert 256 < told.since < 640
    assert not verify(full, since=datetime(2020, 1, 1, tzinfo=UTC)).since
    assert verify(full, since=datetime(2090, 1, 1, tzinfo=UTC)).checked


def test_memory_for_findings_is_bounded(full: App) -> None:
    do(full, "update {events} set key = 'other' where mod(position, 2) = 0")
    told = verify(full)
    assert len(told.findings) > 300
    do(full, "update {events} set key = 'other'")
    assert len(verify(full).findings) < 5, "neighbours are told together"


# --- pruning


def test_pruned_events_keep_their_hash_and_the_seal_holds(full: App, tmp_path: Path) -> None:
    full.seals.take(tmp_path / "out", trusted=KEYS)
    id = next(each.id for each in full.read(types=[Shipped]))
    with pytest.raises(StillNeeded, match="signed up to position"):
        full.history.prune(ANY_AGE, actor="anna")
    seal(full)
    proof = full.seals.prove(id, keys=KEYS)
    record(full, Shipped(n=0))
    done = full.history.prune(ANY_AGE, actor="anna")
    assert done.events > 600
    for _ in range(2):
        told = verify(full, kept=[tmp_path / "out"])
        assert (told.holds, told.pruned) == (True, done.events)
        seal(full)
    full.seals.take(tmp_path / "out", trusted=KEYS)
    assert auditor(tmp_path / "out", full) == []
    with pytest.raises(UnknownName, match="by its position"):
        full.seals.prove(id, keys=KEYS)
    gone = full.seals.prove(proof.position, keys=KEYS)
    assert (gone.event, gone.leaf) == (None, proof.leaf)
    kept = next(each for each in full.read(types=["test.seals.counted"]))
    do(full, "delete from {events} where position = ?", kept.position)
    assert found(full) == [("deleted", kept.position, kept.position)]
    assert [each.position for each in auditor(tmp_path / "out", full)] == [kept.position]


def test_pruning_is_refused_where_the_sealer_has_not_been(app: App) -> None:
    app.seal(KEY)
    app.migrate()
    fill(app, 20)
    plan = app.history.prune(ANY_AGE, actor="anna", dry_run=True)
    assert [(each.kind, each.name) for each in plan.needs] == [("subscription", "seal")]


def test_a_log_without_a_seal_is_pruned_as_ever(app: App) -> None:
    fill(app, 20)
    before = positions(app)
    done = app.history.prune(ANY_AGE, actor="anna")
    assert len(positions(app)) == len(before) - done.events
    seal(app)
    assert verify(app).holds


def test_who_deletes_and_says_that_it_was_pruned_is_seen_in_the_log(full: App) -> None:
    """A record of pruning that did not go into the log explains nothing."""
    do(full, "delete from {events} where position = 50")
    at = "'2026-01-01T00:00:00Z'"
    do(full, f"insert into {{pruned}} values ('r', 'test.seals.opened', 50, 50, 1, {at}, 'x', '', {at})")
    assert found(full) == [("deleted", 50, 50)]


# --- while others work


def test_verifying_gives_no_false_alarm_while_others_record_seal_and_prune(app: App) -> None:
    fill(app, 300)
    seal(app)
    stop = threading.Event()
    failures: list[BaseException] = []

    def work() -> None:
        try:
            while not stop.is_set():
                record(app, *[Shipped(n=n) for n in range(20)])
                seal(app)
                app.history.prune(datetime.now(UTC), actor="anna")
                seal(app)
        except BaseException as error:  # noqa: BLE001 raised by the test
            failures.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        for _ in range(25):
            told = verify(app)
            assert told.holds, told.findings
    finally:
        stop.set()
        thread.join()
    assert failures == []
    assert verify(app).pruned > 0


# --- proofs


def test_a_proof_holds_without_the_log_and_only_for_this_event(full: App) -> None:
    for position in (1, 256, 400, 690):
        if position not in positions(full):
            continue
        proof = full.seals.prove(position, keys=KEYS)
        assert proof.event is not None
        checkpoint = verifier.read_checkpoint(proof.checkpoint, KEYS)
        path = [base64.b64decode(each) for each in proof.path]
        leaf = verifier.leaf_hash(verifier.entry_of(proof.event))
        assert verifier.root_by_inclusion(proof.index, checkpoint.size, leaf, path) == checkpoint.root
    last = positions(full)[-1]
    with pytest.raises(NotSealed, match=f"position {last} has not been sealed"):
        full.seals.prove(last, keys=KEYS)
    with pytest.raises(UnknownName):
        full.seals.prove("01a2238b-3b0c-720f-8210-f54d60f0974c", keys=KEYS)
    gap = next(p for p in range(100, 200) if p not in positions(full))
    with pytest.raises(SealBroken, match="no event was sealed"):
        full.seals.prove(gap, keys=KEYS)
    do(full, "update {events} set key = 'other' where position = 20")
    with pytest.raises(SealBroken, match="not the one that was sealed"):
        full.seals.prove(20, keys=KEYS)


def test_growth_is_proved_between_any_two_checkpoints(full: App, tmp_path: Path) -> None:
    for each in full.seals.checkpoints(trusted=KEYS):
        (tmp_path / "old").write_text(each.note)
        growth = full.seals.prove_growth(tmp_path / "old", keys=KEYS)
        old, new = (verifier.read_checkpoint(note, KEYS) for note in (growth.old, growth.new))
        path = [base64.b64decode(each) for each in growth.path]
        verifier.check_consistency(old.size, old.root, new.size, new.root, path)
    forged = KEY.sign(f"seals.test\n300\n{base64.b64encode(bytes(32)).decode()}\nposition 306\nsealed x\n")
    (tmp_path / "forged").write_text(forged)
    with pytest.raises(SealBroken, match="has not grown out"):
        full.seals.prove_growth(tmp_path / "forged", keys=KEYS)
    with pytest.raises(SealError, match="cannot be read"):
        full.seals.prove_growth(tmp_path / "none", keys=KEYS)


# --- keys


def test_keys_are_found_where_they_are_named(app: App, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(app, 10)
    for name in ("ENSUE_SEAL_KEY", "ENSUE_SEAL_PUBLIC_KEY"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(UnusableKey, match="no key to sign with"):
        app.seals.seal()
    with pytest.raises(UnusableKey, match="whose seal"):
        app.seals.verify()
    (tmp_path / "key").write_text(KEY.secret + "\n")
    monkeypatch.setenv("ENSUE_SEAL_KEY", str(tmp_path / "key"))
    app.seals.seal()
    assert app.seals.verify().holds
    monkeypatch.delenv("ENSUE_SEAL_KEY")
    monkeypatch.setenv("ENSUE_SEAL_PUBLIC_KEY", KEY.public)
    assert app.seals.verify().holds
    app.seal(tmp_path / "key")
    record(app, Shipped(n=1))
    assert app.seals.seal().size == 11


def test_a_new_key_goes_on_where_the_old_one_is_trusted(app: App) -> None:
    fill(app, 10)
    seal(app)
    new = SigningKey("seals.test", bytes(32))
    record(app, Shipped(n=1))
    with pytest.raises(SealBroken, match="trust the old one"):
        app.seals.seal(new)
    app.seals.seal(new, trusted=KEYS)
    assert app.seals.verify(keys=[new.public, *KEYS]).holds
    assert [each.kind for each in app.seals.verify(keys=[new.public]).findings] == ["seal"]


def test_what_is_no_evidence_is_refused(full: App, tmp_path: Path) -> None:
    full.seals.take(tmp_path / "out", trusted=KEYS)
    with pytest.raises(SealError, match="cannot be read"):
        verify(full, kept=[tmp_path / "none"])
    (tmp_path / "note").write_text((tmp_path / "out" / "checkpoint").read_text().replace("690", "689"))
    with pytest.raises(SealError, match="proves nothing"):
        verify(full, kept=[tmp_path / "note"])
    tile = tmp_path / "out" / "tile" / "0" / "001"
    tile.write_bytes(tile.read_bytes()[::-1])
    with pytest.raises(SealError, match="were altered"):
        verify(full, kept=[tmp_path / "out"])
    with pytest.raises(SealError, match="different logs"):
        other = SigningKey("another.test", bytes(32))
        (tmp_path / "note").write_text(other.sign(f"another.test\n1\n{'A' * 43}=\nposition 1\nsealed x\n"))
        full.seals.verify(keys=[*KEYS, other.public], kept=[tmp_path / "note"])


# ---


def _flipped(app: App, byte: int) -> str:
    if is_postgres(app):
        return f"set_byte(hashes, {byte}, get_byte(hashes, {byte}) # 1)"
    return f"cast(substr(hashes, 1, {byte}) || x'ff' || substr(hashes, {byte} + 2) as blob)"


def _copy(app: App, position: int, to: int) -> None:
    columns = "type, kind, stream, version, key, data, metadata, correlation_id, causation_id, recorded_at"
    do(
        app,
        f"insert into {{events}} (position, id, {columns}) "
        f"select {to}, '01a2238b-3b0c-720f-8210-f54d60f0974c', {columns} from {{events}} where position = {position}",
    )


_TABLES = ("events", "seal", "seal_tiles", "seal_checkpoints", "pruned")


def _backup(app: App) -> Path | None:
    if is_postgres(app):
        for each in _TABLES:
            do(app, f"create table {{events}}_backup_{each} as select * from {app.log.place.schema}.{each}")
        return None
    app.log.own.close()
    file = Path(app.log.place.database)
    with app.transaction() as connection:
        connection.execute("select 1")
    copy = file.with_suffix(".backup")
    with app.log.own.lend() as connection:
        connection.execute(f"vacuum into '{copy}'")
    return copy


def _restore(app: App, backup: Path | None) -> None:
    if backup is None:
        for each in _TABLES:
            do(app, f"delete from {app.log.place.schema}.{each}")
            do(app, f"insert into {app.log.place.schema}.{each} select * from {{events}}_backup_{each}")
        do(app, f"select setval('{app.log.place.schema}.positions', (select max(position) from {{events}}))")
        return
    app.log.own.close()
    file = Path(app.log.place.database)
    for end in ("", "-wal", "-shm"):
        Path(f"{file}{end}").unlink(missing_ok=True)
    shutil.copy(backup, file)


def _rebuild_tree(app: App) -> None:
    """Make the tree anew from the events as they are, and leave the checkpoints."""
    do(app, "delete from {seal_tiles}")
    size = app.seals.checkpoints(trusted=KEYS)[-1]
    do(app, "update {seal} set size = 0, position = 0")
    from ensue.seals.sealing import extend

    app.log.own.run(app.log.transaction(extend(app.log, size.position)))
