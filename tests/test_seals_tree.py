"""The tree, its proofs, its tiles and its notes: known answers, and properties."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Sequence
from hashlib import sha256
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ensue.errors import UnusableKey
from ensue.history.pruning import EventsPruned
from ensue.seals import SigningKey, leaves, stored, verifier
from ensue.seals.positions import Positions
from ensue.seals.tree import (
    Asking,
    TileName,
    consistency_path,
    edge_names,
    full_subtrees,
    grow,
    hashes_in,
    inclusion_path,
    root_of,
    subtree,
)
from ensue.seals.verifier import (
    HASH,
    TILE,
    Frontier,
    Untrue,
    check_consistency,
    leaf_hash,
    node_hash,
    root_by_inclusion,
)

# The leaves and roots with which implementations of RFC 6962 are checked, since the first ones.
INPUTS = [
    bytes.fromhex(each)
    for each in ("", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f")
]
ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]


def numbered(count: int) -> list[bytes]:
    return [sha256(str(number).encode()).digest() for number in range(count)]


_MANY = numbered(70_000)


class Tree:
    """Tiles in memory."""

    def __init__(self, hashes: Sequence[bytes], parts: Sequence[int] = ()) -> None:
        self.tiles: dict[TileName, bytes] = {}
        self.size = 0
        edge: dict[int, bytes] = {}
        for part in (*parts, len(hashes)):
            new = hashes[self.size : max(self.size, min(part, len(hashes)))]
            self.tiles.update(grow(self.size, edge, new))
            self.size += len(new)

    def answer(self, asking: Asking[Any]) -> Any:
        try:
            name = next(asking)
            while True:
                name = asking.send(self.tiles.get(name, b""))
        except StopIteration as done:
            return done.value


def mth(hashes: Sequence[bytes]) -> bytes:
    """Return the Merkle tree hash as RFC 6962, section 2.1, defines it."""
    if not hashes:
        return sha256(b"").digest()
    if len(hashes) == 1:
        return hashes[0]
    k = 1
    while k * 2 < len(hashes):
        k *= 2
    return node_hash(mth(hashes[:k]), mth(hashes[k:]))


# --- RFC 6962


@pytest.mark.parametrize("size", range(1, 9))
def test_roots_are_those_of_other_implementations(size: int) -> None:
    hashes = [leaf_hash(each) for each in INPUTS[:size]]
    frontier = Frontier()
    for each in hashes:
        frontier.add(each)
    tree = Tree(hashes)
    assert frontier.root().hex() == mth(hashes).hex() == tree.answer(subtree(0, size)).hex() == ROOTS[size - 1]


def test_the_empty_tree_has_the_hash_of_nothing() -> None:
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert Frontier().root().hex() == Tree([]).answer(subtree(0, 0)).hex() == empty


def test_proofs_are_those_of_the_examples_of_the_rfc() -> None:
    """Section 2.1.3: the tree of seven leaves d0 to d6, its nodes called as there."""
    d = [leaf_hash(each) for each in INPUTS[:7]]
    a, b, c, f, j = d[0], d[1], d[2], d[5], d[6]
    d3, e = d[3], d[4]
    g, h, i = node_hash(a, b), node_hash(c, d3), node_hash(e, f)
    k, m = node_hash(g, h), node_hash(i, j)
    tree = Tree(d)
    assert tree.answer(subtree(0, 7)) == node_hash(k, m)
    assert tree.answer(inclusion_path(0, 7)) == [b, h, m], "d0"
    assert tree.answer(inclusion_path(3, 7)) == [c, g, m], "d3"
    assert tree.answer(inclusion_path(4, 7)) == [f, j, k], "d4"
    assert tree.answer(inclusion_path(6, 7)) == [i, k], "d6"
    assert tree.answer(consistency_path(3, 7)) == [c, d3, g, m]
    assert tree.answer(consistency_path(4, 7)) == [m]
    assert tree.answer(consistency_path(6, 7)) == [i, j, k]


def test_every_proof_of_small_trees_convinces_and_no_other_does() -> None:
    hashes = numbered(20)
    roots = [mth(hashes[:size]) for size in range(21)]
    tree = Tree(hashes)
    for size in range(1, 21):
        for index in range(size):
            path = tree.answer(inclusion_path(index, size))
            assert root_by_inclusion(index, size, hashes[index], path) == roots[size]
            for wrong in ([*path, hashes[0]], path[:-1], path[::-1]):
                if wrong != path:
                    with pytest.raises((Untrue, AssertionError)):
                        assert root_by_inclusion(index, size, hashes[index], wrong) == roots[size]
        for old in range(1, size + 1):
            path = tree.answer(consistency_path(old, size))
            check_consistency(old, roots[old], size, roots[size], path)
            for wrong in ([*path, hashes[0]], path[:-1], [hashes[7], *path[1:]]):
                if wrong != path:
                    with pytest.raises(Untrue):
                        check_consistency(old, roots[old], size, roots[size], wrong)
            with pytest.raises(Untrue):
                check_consistency(old, hashes[0][::-1], size, roots[size], path)


# --- tiles


@settings(max_examples=40, deadline=None)
@given(size=st.integers(0, 3_000), parts=st.lists(st.integers(0, 3_000), max_size=4).map(sorted))
def test_a_tree_in_tiles_has_the_root_of_a_tree(size: int, parts: list[int]) -> None:
    hashes = _MANY[:size]
    tree, frontier = Tree(hashes, parts), Frontier()
    for each in hashes:
        frontier.add(each)
    assert tree.answer(subtree(0, size)) == frontier.root()
    assert all(len(tree.tiles[name]) == HASH * hashes_in(name, size) for name in tree.tiles)
    assert {name for name in tree.tiles if len(tree.tiles[name]) < HASH * TILE} == set(edge_names(size))
    begun = Frontier()
    for height, first in full_subtrees(size):
        begun.add(tree.answer(subtree(first, first + (1 << height))), height)
    assert (begun.size, begun.root()) == (size, frontier.root())


def test_proofs_go_through_levels_of_tiles() -> None:
    tree = Tree(_MANY)
    root = tree.answer(subtree(0, 70_000))
    assert max(name.level for name in tree.tiles) == 2
    for index in (0, 255, 256, 65_535, 65_536, 69_999):
        path = tree.answer(inclusion_path(index, 70_000))
        assert root_by_inclusion(index, 70_000, _MANY[index], path) == root
    for old in (1, 256, 257, 65_536, 65_537, 69_888, 70_000):
        before = tree.answer(subtree(0, old))
        check_consistency(old, before, 70_000, root, tree.answer(consistency_path(old, 70_000)))


def test_the_root_of_a_tile() -> None:
    assert root_of(b"".join(_MANY[:TILE])) == mth(_MANY[:TILE])


def test_tiles_lie_where_others_look_for_them() -> None:
    assert verifier.tile_path(0, 0) == "tile/0/000"
    assert verifier.tile_path(0, 1234067) == "tile/0/x001/x234/067"
    assert verifier.tile_path(2, 1000, 5) == "tile/2/x001/000.p/5"


# --- positions


@given(st.lists(st.integers(1, 1 << 40), min_size=1, max_size=256))
def test_positions_are_read_back(steps: list[int]) -> None:
    positions = [sum(steps[: number + 1]) for number in range(len(steps))]
    packed = stored.pack(positions)
    assert list(stored.unpack(packed)) == steps[1:]


@given(st.lists(st.tuples(st.integers(1, 200_000), st.integers(0, 140_000)), max_size=6), st.data())
def test_a_set_of_positions(ranges: list[tuple[int, int]], data: st.DataObject) -> None:
    found = Positions()
    for first, length in ranges:
        found.add(first, first + length)
    edges = [edge + step for first, length in ranges for edge in (first, first + length) for step in (-1, 0, 1)]
    for each in (*edges, *data.draw(st.lists(st.integers(0, 400_000), max_size=20))):
        assert (each in found) == any(first <= each <= first + length for first, length in ranges)


# --- leaves

texts = st.one_of(st.none(), st.text(max_size=30))
rows = st.tuples(
    st.integers(1, 1 << 53), st.text(), st.text(), st.text(), texts, st.one_of(st.none(), st.integers(1)), *[texts] * 6
)


@given(rows)
def test_a_leaf_is_made_of_the_same_bytes_by_the_verifier(row: tuple[Any, ...]) -> None:
    event = dict(zip(verifier.FIELDS, row, strict=True))
    entry = leaves.entry_of(row)
    assert verifier.entry_of(event) == entry
    assert verifier.entry_of(json.loads(json.dumps(event))) == entry
    assert leaves.leaf_of(row) == leaf_hash(entry)


def test_what_a_leaf_is_made_of() -> None:
    """The example of docs/reference/seals.md."""
    row = (
        7,
        "0195f3a0-5c1e-7b1e-9d6c-2f1a4be0c001",
        "Opened",
        "domain",
        None,
        None,
        "é/\n",
        '{"n":1}',
        None,
        "r-1",
        None,
    )
    entry = leaves.entry_of((*row, "2026-11-28T12:00:00.000000Z"))
    assert entry.decode() == (
        '["ensue.event/1",7,"0195f3a0-5c1e-7b1e-9d6c-2f1a4be0c001","Opened","domain",null,null,"é/\\n","{\\"n\\":1}",'
        'null,"r-1",null,"2026-11-28T12:00:00.000000Z"]'
    )


def test_the_verifier_knows_the_event_that_tells_of_pruning() -> None:
    assert EventsPruned.__type__ == verifier.PRUNED


# --- notes and keys: the example of golang.org/x/mod/sumdb/note

SECRET = "PRIVATE+KEY+PeterNeumann+c74f20a3+AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz"
PUBLIC = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
TEXT = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n"
NOTE = (
    TEXT
    + "\n— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
)


def test_a_note_is_signed_as_others_sign_it() -> None:
    key = SigningKey.parse(SECRET)
    assert (key.public, key.secret) == (PUBLIC, SECRET)
    assert key.sign(TEXT) == NOTE
    assert verifier.open_note(NOTE, [PUBLIC]) == TEXT


@pytest.mark.parametrize(
    "change", [lambda note: note.replace("answer", "Answer"), lambda note: note.replace("x08go", "x08gp")]
)
def test_a_note_that_was_altered_is_none(change: Callable[[str], str]) -> None:
    with pytest.raises(Untrue):
        verifier.open_note(change(NOTE), [PUBLIC])


def test_a_note_with_several_signatures_needs_one_that_is_trusted() -> None:
    other = SigningKey.make("witness.example/1")
    both = NOTE + other.sign(TEXT).splitlines()[-1] + "\n"
    assert verifier.open_note(both, [other.public]) == verifier.open_note(both, [PUBLIC]) == TEXT
    with pytest.raises(Untrue, match="not signed with a key that is trusted"):
        verifier.open_note(NOTE, [other.public])
    with pytest.raises(Untrue, match="not signed"):
        verifier.open_note(TEXT, [PUBLIC])


@pytest.mark.parametrize("text", ["", "a", "a+b+c", PUBLIC.replace("c7", "c8"), PUBLIC[:-4]])
def test_what_is_no_public_key(text: str) -> None:
    with pytest.raises(Untrue):
        verifier.read_key(text)


@pytest.mark.parametrize("text", ["", PUBLIC, SECRET[:-4], SECRET.replace("c7", "c8")])
def test_what_is_no_key_to_sign_with(text: str) -> None:
    with pytest.raises(UnusableKey) as refused:
        SigningKey.parse(text)
    assert len(text) < 10 or text[-10:] not in str(refused.value), "the error does not tell the key"


def test_a_checkpoint_is_read_back() -> None:
    key = SigningKey.make("shop.example")
    root = base64.b64encode(bytes(range(32))).decode()
    note = key.sign(f"shop.example\n17\n{root}\nposition 20\nsealed 2026-11-28T12:00:00.000000Z\n")
    found = verifier.read_checkpoint(note, [key.public])
    assert (found.origin, found.size, found.root, found.position) == ("shop.example", 17, bytes(range(32)), 20)
    with pytest.raises(Untrue, match="no checkpoint"):
        verifier.read_checkpoint(key.sign("shop.example\n"), [key.public])
