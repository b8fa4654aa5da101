"""How a figure is made: interleaved runs, medians, a ratio, a target and a verdict."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import msgspec
from rich.progress import Progress


@dataclass(frozen=True)
class Side:
    """One of those compared; `measure` makes one run and returns its rate, latency or count."""

    name: str
    measure: Callable[[], float]


class Series(msgspec.Struct, frozen=True):
    """What the runs of one side gave, in the order in which they were made."""

    name: str
    values: list[float]
    median: float

    @classmethod
    def of(cls, name: str, values: Sequence[float]) -> Series:
        return cls(name, list(values), median(values))

    def also(self, values: Sequence[float]) -> Series:
        """Return what else was noted in each of these runs; the run for warmth is left out likewise."""
        return Series.of(self.name, values[-len(self.values) :])


class Target(msgspec.Struct, frozen=True):
    """What a figure has to reach: at least `bound`, or with `most` at most that."""

    bound: float
    most: bool = False

    def met_by(self, value: float) -> bool:
        return value <= self.bound if self.most else value >= self.bound


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the result. `value` is the ratio of the medians, or an absolute number where `unit` is not `x`."""

    group: str
    title: str
    measured: Series
    against: Series | None
    beside: list[Series] = []
    """Measured in the same runs for the reader's sake; no part of the ratio."""
    per: str
    """The unit of the series."""
    value: float
    unit: str = "x"
    lowest: float
    """The smallest and the largest ratio of two neighbouring runs."""
    highest: float
    target: Target | None = None
    met: bool | None = None
    note: str = ""


@dataclass
class Room:
    """What a group of figures has to work with."""

    postgres: str
    folder: Path
    """For SQLite files; on a disk."""
    runs: int
    quick: bool
    progress: Progress
    group: str = ""

    def sized(self, full: int, quick: int) -> int:
        """Return how much to do: `quick` only shows that everything works."""
        return quick if self.quick else full

    @contextmanager
    def steps(self, what: str, total: int) -> Generator[Callable[[int], None]]:
        """Show a bar while something takes its time; call what it lends with each step's size."""
        task = self.progress.add_task(f"{self.group}  {what}", total=total)
        try:
            yield lambda size: self.progress.advance(task, size)
        finally:
            self.progress.remove_task(task)

    def interleave(self, what: str, sides: Sequence[Side], *, runs: int = 0) -> list[Series]:
        """Run all sides in turn; the order is reversed in every other round.

        There is a round for warmth first, unless it is to be quick, or fewer `runs` than usual are asked for because
        they take so long.
        """
        rounds, warmth = (min(runs, self.runs), 0) if runs else (self.runs, 0 if self.quick else 1)
        values: list[list[float]] = [[] for _ in sides]
        with self.steps(what, (rounds + warmth) * len(sides)) as step:
            for number in range(rounds + warmth):
                order = range(len(sides)) if number % 2 else reversed(range(len(sides)))
                for which in order:
                    gc.collect()
                    value = sides[which].measure()
                    if number >= warmth:
                        values[which].append(value)
                    step(1)
        return [Series.of(side.name, found) for side, found in zip(sides, values, strict=True)]

    def compare(
        self,
        title: str,
        per: str,
        measured: Side,
        against: Side,
        *beside: Side,
        target: Target | None = None,
        note: str = "",
        runs: int = 0,
    ) -> Figure:
        """Return the ratio of two sides, and what others did in the same runs."""
        ours, base, *others = self.interleave(title, (measured, against, *beside), runs=runs)
        return ratio(self.group, title, per, ours, base, others, target=target, note=note)


def ratio(
    group: str,
    title: str,
    per: str,
    ours: Series,
    base: Series,
    others: Sequence[Series] = (),
    *,
    target: Target | None = None,
    note: str = "",
) -> Figure:
    """Put two series in relation: the ratio of their medians, and the range over pairs of neighbouring runs."""
    value = ours.median / base.median
    pairs = [mine / theirs for mine, theirs in zip(ours.values, base.values, strict=True)]
    return Figure(
        group=group,
        title=title,
        measured=ours,
        against=base,
        beside=list(others),
        per=per,
        value=value,
        lowest=min(pairs),
        highest=max(pairs),
        target=target,
        met=None if target is None else target.met_by(value),
        note=note,
    )


def absolute(
    group: str,
    title: str,
    per: str,
    ours: Series,
    base: Series | None = None,
    *,
    target: Target | None = None,
    note: str = "",
) -> Figure:
    """Make a figure of a number that stands for itself."""
    return Figure(
        group=group,
        title=title,
        measured=ours,
        against=base,
        per=per,
        value=ours.median,
        unit=per,
        lowest=min(ours.values),
        highest=max(ours.values),
        target=target,
        met=None if target is None else target.met_by(ours.median),
        note=note,
    )


def rate(count: int, work: Callable[[], object]) -> float:
    """Do the work and return how many per second that was."""
    start = time.perf_counter()
    work()
    return count / (time.perf_counter() - start)
