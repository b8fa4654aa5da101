"""The figures as a table for people and as JSON for machines."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import msgspec
from rich import box
from rich.console import Console
from rich.table import Table

from bench.harness import Figure, Series
from bench.machine import Machine

VERDICTS = {None: "", True: "[green]met[/]", False: "[red bold]missed[/]"}


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """One run of the benchmarks."""

    at: datetime
    machine: Machine
    runs: int
    quick: bool
    figures: list[Figure]
    failed: dict[str, str]
    """Groups that broke, and how."""

    @property
    def good(self) -> bool:
        """True if every target was met and nothing broke."""
        return not self.failed and all(figure.met is not False for figure in self.figures)

    def save(self, path: Path) -> None:
        path.write_bytes(msgspec.json.format(msgspec.json.encode(self), indent=2) + b"\n")


def show(found: Report, console: Console) -> None:
    """Print the table, and below it where the figures come from."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column()
    table.add_column("Figure", ratio=1)
    table.add_column("ensue", justify="right")
    table.add_column("Compared with", justify="right")
    table.add_column("Ratio", justify="right", no_wrap=True)
    table.add_column("Target", justify="right", no_wrap=True)
    table.add_column(no_wrap=True)
    for figure in found.figures:
        table.add_row(
            figure.group,
            figure.title + (f"\n[dim]{figure.note}[/]" if figure.note else ""),
            _series(figure.measured, figure.per),
            "\n".join(_series(each, figure.per) for each in (figure.against, *figure.beside) if each is not None),
            _ratio(figure),
            _target(figure),
            VERDICTS[figure.met],
        )
    console.print(table)
    for group, reason in found.failed.items():
        console.print(f"[red]{group} broke: {reason}[/]")
    for line in (*found.machine.lines(), _method(found)):
        console.print(line, style="dim", highlight=False)


def line(figure: Figure) -> str:
    """Return a figure in one line, for those who wait for the table."""
    return f"{figure.group}  {figure.title}: {figure.value:,.2f} {figure.unit} {VERDICTS[figure.met]}"


def _method(found: Report) -> str:
    quick = " Quick sizes: not for comparing." if found.quick else ""
    return (
        f"Medians of up to {found.runs} interleaved runs. Ratio: of the medians; below it the least and the greatest "
        f"of two neighbouring runs.{quick}"
    )


def _series(series: Series, per: str) -> str:
    return f"{_number(series.median)} {per}\n[dim]{series.name}[/]"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:,.1f}" if value >= 10 else f"{value:,.2f}"


def _ratio(figure: Figure) -> str:
    if figure.unit != "x":
        return ""
    return f"[bold]{figure.value:.2f}[/]\n[dim]{figure.lowest:.2f} to {figure.highest:.2f}[/]"


def _target(figure: Figure) -> str:
    if figure.target is None:
        return ""
    sign = "≤" if figure.target.most else "≥"
    unit = "" if figure.unit == "x" else f" {figure.unit}"
    return f"{sign} {figure.target.bound:g}{unit}"
