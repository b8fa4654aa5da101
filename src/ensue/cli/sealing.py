"""Commands about the seal: seal, verify, prove."""

from __future__ import annotations

import sys
from collections.abc import Generator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from ensue.app import App
from ensue.cli.options import AppOption, JsonOption
from ensue.cli.output import (
    BAD,
    DIM,
    GOOD,
    complain,
    count,
    is_database_error,
    note,
    parse_moment,
    print_json,
    progress,
    put_facts,
    say,
)
from ensue.cli.target import TargetError, find, find_log
from ensue.errors import EnsueError
from ensue.seals import Verified, write_key

KeyOption = Annotated[
    str | None,
    typer.Option(
        "--key", metavar="KEY", help="The key to sign with: its file. Default: the App's, else ENSUE_SEAL_KEY."
    ),
]
PublicOption = Annotated[
    list[str] | None,
    typer.Option(
        "--public-key",
        metavar="KEY",
        help="Whose seal it should be: a public key, or its file; may be given again. Default: ENSUE_SEAL_PUBLIC_KEY, "
        "else that of the key.",
    ),
]
OutOption = Annotated[Path | None, typer.Option("--out", metavar="FILE", help="Write it there.")]


def add_to(cli: typer.Typer) -> None:
    """Add the commands."""
    cli.command(short_help="Seal the log, so that nobody changes it unnoticed.")(seal)
    cli.command(short_help="Find what is not as it was sealed.")(verify)
    cli.command(short_help="Prove that an event was sealed.")(prove)


# --- seal


def seal(
    to: Annotated[
        list[str] | None,
        typer.Option(
            "--to",
            metavar="PLACE",
            help="Take checkpoints and hashes there: a folder, git:FOLDER, a URL of object storage, or "
            "app:MODULE:NAME, the log of another application; may be given again.",
        ),
    ] = None,
    key: KeyOption = None,
    trusted: Annotated[
        list[str] | None,
        typer.Option("--trusted", metavar="KEY", help="A public key that signed before this key; may be given again."),
    ] = None,
    make_key: Annotated[
        Path | None, typer.Option("--make-key", metavar="FILE", help="Only make a key: FILE, and FILE.pub.")
    ] = None,
    name: Annotated[
        str | None,
        typer.Option("--name", metavar="NAME", help="With --make-key: the name of the log. Default: the App's."),
    ] = None,
    events: Annotated[
        Path | None,
        typer.Option("--events", metavar="FILE", help="Also write the sealed events there, for an auditor."),
    ] = None,
    app: AppOption = None,
    json: JsonOption = False,
) -> None:
    """Seal everything that has been recorded so far: its hash is signed, and can be taken elsewhere.

    Every event becomes a leaf of a Merkle tree, whose root is the checkpoint. It may run beside a worker that seals, or
    instead of one, now and then. If what was sealed before was altered, nothing is signed. The file of --events holds
    the events themselves, one line of JSON each.
    """
    if make_key is not None:
        _make_key(make_key, name or "-".join(find(app).app.name.replace("+", " ").split()), json=json)
        return
    if name is not None:
        raise TargetError("--name is about a new key: say --make-key FILE too")
    seals = find_log(app).app.seals
    with progress("Sealing") as step:
        done = seals.seal(key, trusted=trusted or (), tell=step)
    public = _public(key, trusted)
    taken: dict[str, int] = {}
    for place in to or ():
        with progress(f"Taking it to {place}"):
            taken[place] = seals.take(_place(place), trusted=public)
    if events is not None and done.note:
        with progress("Writing events"), events.open("wb") as out:
            for line in seals.events(keys=public):
                out.write(line)
    if json:
        print_json({"sealed": done, "taken": taken})
        return
    if not done.note:
        say("There is nothing to seal: the log is empty.")
        return
    new = f"{done.added:,} new" if done.signed else "nothing new"
    say(f"sealed {count(done.size, 'event')}, up to position {done.position} ({new}), as {done.origin}", GOOD)
    for place, checkpoints in taken.items():
        say(f"{place}: {count(checkpoints, 'new checkpoint')}")
    if not to:
        note("It is in the database only: take it where its holder cannot change it, with --to.")


def _place(text: str) -> str | App:
    """Return another application if one is named."""
    return find(text.removeprefix("app:")).app if text.startswith("app:") else text


def _public(key: str | None, trusted: list[str] | None) -> tuple[str, ...]:
    """Return the public keys that count when a key was named; none: those of the application or the environment."""
    from ensue.seals.keys import public_keys

    if key is None and not trusted:
        return ()
    return (*public_keys((), key), *(public_keys(trusted) if trusted else ()))


def _make_key(file: Path, name: str, *, json: bool) -> None:
    made = write_key(file, name)
    if json:
        print_json({"file": str(file), "public": made.public})
        return
    put_facts({"key": f"{file}  (keep it secret, and away from the database)", "public key": made.public})
    note(f"Give the public key to those who will verify; it is in {file}.pub too.")


# --- verify


def verify(
    since: Annotated[
        str | None,
        typer.Option(
            "--since", metavar="MOMENT", help="Compare only events from there on: a position, a moment, or 3d."
        ),
    ] = None,
    checkpoint: Annotated[
        list[str] | None,
        typer.Option(
            "--checkpoint",
            metavar="FILE",
            help="A checkpoint that was kept outside of the database, the folder of an export, or app:MODULE:NAME; may "
            "be given again.",
        ),
    ] = None,
    public_key: PublicOption = None,
    app: AppOption = None,
    json: JsonOption = False,
) -> None:
    """Compare every event with what was sealed, and name what was changed, deleted, inserted, reordered or cut off.

    The exit code is 0 if all is as it was sealed, 1 if something is not, 2 if that cannot be told. It keeps nobody from
    recording. Without --checkpoint it trusts the checkpoints in the database, as far as they are signed: who holds the
    database and the key can have made others, or have restored an older backup.
    """
    with _cannot():
        seals = find_log(app).app.seals
        with progress("Verifying") as step:
            kept = [_place(each) for each in checkpoint or ()]
            told = seals.verify(keys=public_key or (), kept=kept, since=_since(since), tell=step)
    if json:
        print_json({"holds": told.holds, **msgspec.structs.asdict(told)})
    else:
        _show(told)
    if not told.holds:
        raise typer.Exit(1)


@contextmanager
def _cannot() -> Generator[None]:
    """End with 2 where it cannot be told."""
    try:
        yield
    except Exception as error:
        if not isinstance(error, EnsueError) and not is_database_error(error):
            raise
        complain(str(error).strip())
        raise typer.Exit(2) from None


def _since(text: str | None) -> int | datetime | None:
    if text is None:
        return None
    return int(text) if text.isdecimal() else parse_moment(text)


def _show(told: Verified) -> None:
    for each in told.findings:
        say(f"{each.kind.upper()}  {each.what}", BAD)
        say(f"      to do: {each.mend}", DIM)
    if told.more:
        say(f"… and {told.more:,} more findings", BAD)
    if told.findings:
        say()
    pruned = f"; {told.pruned:,} were pruned since, as the log says" if told.pruned else ""
    behind = f" behind position {told.since}" if told.since else ""
    say(f"{count(told.checked, 'event')} compared{behind}, of {told.size:,} that are sealed{pruned}")
    kept = f"{told.outside:,} of them from outside" if told.outside else "all of them from the database itself"
    say(f"{count(told.checkpoints, 'checkpoint')} of {told.origin} compared, {kept}")
    if told.unsealed:
        say(f"{count(told.unsealed, 'event')} not sealed yet: nothing can be said about them")
    if told.holds:
        say("all is as it was sealed", GOOD)
    else:
        say("NOT as it was sealed", BAD)


# --- prove


def prove(
    event: Annotated[
        str | None,
        typer.Argument(metavar="EVENT_ID", help="The event: its id, or its position.", show_default=False),
    ] = None,
    grown_from: Annotated[
        Path | None,
        typer.Option(
            "--grown-from", metavar="FILE", help="Instead: prove that the log has only grown since this checkpoint."
        ),
    ] = None,
    out: OutOption = None,
    public_key: PublicOption = None,
    app: AppOption = None,
    json: JsonOption = False,
) -> None:
    """Prove that an event is in what was sealed, to somebody who has nothing but the public key.

    The proof is JSON with the event, the hashes from it to the root, and the signed checkpoint; the stand-alone
    verifier checks it (python verifier.py proof FILE --key KEY). With --grown-from it proves that nothing was rewritten
    since a checkpoint that was kept (python verifier.py consistency FILE --key KEY).
    """
    if (event is None) == (grown_from is None):
        raise TargetError("what is to be proved? Name an event by its id or its position, or say --grown-from FILE")
    seals = find_log(app).app.seals
    found: Any
    if grown_from is not None:
        found = seals.prove_growth(grown_from, keys=public_key or ())
    else:
        found = seals.prove(int(event) if event and event.isdecimal() else str(event), keys=public_key or ())
    if out is not None:
        out.write_bytes(msgspec.json.format(msgspec.json.encode(found), indent=2) + b"\n")
        if json:
            print_json({"file": str(out)})
        else:
            say(f"proved, in {out}", GOOD)
        return
    sys.stdout.flush()
    print_json(found)
