"""The benchmarks run, and their arithmetic is right; how fast anything is, is not tested here."""

from __future__ import annotations

from pathlib import Path

import msgspec
import psycopg
import pytest
from rich.progress import Progress

from bench.__main__ import main
from bench.events import rows
from bench.harness import Room, Side, Target
from bench.report import Report
from bench.stores import pair


@pytest.mark.parametrize("groups", ["a,b", "c,d,e", "f", "g,h", "i", "j,k", "l", "n", "p", "q", "s", "t"])
def test_measures_and_tidies_up(
    groups: str, postgres_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    assert main(["--quick", "--runs=1", f"--only={groups}", f"--postgres={postgres_url}", "--json=found.json"]) == 0

    found = msgspec.json.decode(Path("found.json").read_bytes(), type=Report)
    assert {figure.group for figure in found.figures} == set(groups.split(","))
    assert all(figure.value > 0 and len(figure.measured.values) == 1 for figure in found.figures)
    assert not found.failed
    with psycopg.connect(postgres_url) as connection:
        left = connection.execute(r"select nspname from pg_namespace where nspname like 'bench\_%'").fetchall()
    assert left == []
    assert list(Path("build/bench").iterdir()) == []


def test_the_twin_differs_from_the_log_in_nothing_but_its_name(postgres_url: str) -> None:
    with pair(postgres_url) as made, psycopg.connect(postgres_url) as connection:

        def indexes(schema: str) -> list[str]:
            found = connection.execute(
                "select indexdef from pg_indexes where schemaname = %s and tablename = 'events'", (schema,)
            )
            return sorted(definition.partition(" USING ")[2] for (definition,) in found)

        assert len(indexes(made.schema)) > 3
        assert indexes(made.twin) == indexes(made.schema)


def test_the_event_is_as_large_as_the_figures_say() -> None:
    (row,) = rows(1)
    assert 240 <= len(row[4]) <= 260


def test_runs_are_interleaved_and_the_ratio_is_of_the_medians(tmp_path: Path) -> None:
    order: list[str] = []
    ours, theirs = iter([99.0, 4.0, 6.0, 20.0]), iter([99.0, 2.0, 2.0, 5.0])

    def measure_ours() -> float:
        order.append("ours")
        return next(ours)

    def measure_theirs() -> float:
        order.append("theirs")
        return next(theirs)

    room = Room("", tmp_path, runs=3, quick=False, progress=Progress(disable=True), group="x")
    figure = room.compare("both", "/s", Side("ours", measure_ours), Side("theirs", measure_theirs), target=Target(3))

    assert order == ["theirs", "ours", "ours", "theirs", "theirs", "ours", "ours", "theirs"]
    assert (figure.value, figure.lowest, figure.highest, figure.met) == (3.0, 2.0, 4.0, True)


def test_a_target_is_a_floor_or_a_ceiling() -> None:
    assert Target(0.8).met_by(0.8)
    assert not Target(0.8).met_by(0.79)
    assert Target(4, most=True).met_by(4)
    assert not Target(4, most=True).met_by(4.1)
