"""The command that says what is wrong, and how to mend it."""

from __future__ import annotations

import typer
from rich.text import Text

from ensue.cli.findings import Finding, examine
from ensue.cli.options import AppOption, JsonOption
from ensue.cli.output import BAD, DIM, GOOD, WARN, clean, count, print_json, progress, say
from ensue.cli.target import find_log

_STYLES = {"ok": GOOD, "note": WARN, "wrong": BAD}


def add_to(cli: typer.Typer) -> None:
    """Add the command."""
    cli.command(short_help="Find what is wrong, and how to mend it.")(doctor)


def doctor(app: AppOption = None, json: JsonOption = False) -> None:
    """Find what is wrong in operation, and say how to mend it; the exit code is 1 if something is.

    It looks at the database, the migrations, the master key, the clock, the subscriptions, the workers, their leases
    and progress, what is held because a broker is away, receivers and their brokers, long transactions, and dead
    letters. It changes nothing.
    """
    target = find_log(app)
    with progress("Examining"):
        findings = list(examine(target))
    wrong = sum(each.level == "wrong" for each in findings)
    if json:
        print_json({"healthy": not wrong, "findings": findings})
    else:
        for each in findings:
            _print(each)
        say()
        say(f"{count(wrong, 'thing')} to mend" if wrong else "all is well", BAD if wrong else GOOD)
    if wrong:
        raise typer.Exit(1)


def _print(finding: Finding) -> None:
    level = finding.level.upper() if finding.level == "wrong" else finding.level
    say(Text.assemble((f"{level:<7}", _STYLES[finding.level]), f"{finding.check:<15}", clean(finding.what)))
    if finding.mend:
        say(Text.assemble(" " * 22, ("mend: ", DIM), clean(finding.mend)))
