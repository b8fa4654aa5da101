"""Making the schema and bringing it up to date, by numbered migrations."""

from __future__ import annotations

from ensue.errors import NotMigrated, WrongDatabase
from ensue.log.place import Place
from ensue.log.postgres import Postgres
from ensue.log.statements import Call, Query, Steps

OLDEST_POSTGRES = 13


def pending(place: Place) -> Steps[list[str]]:
    """Return the names of the migrations that have not been applied; raise `NotMigrated` if the database is newer."""
    wanted = list(place.dialect.sql.scripts("migrations"))
    if not (yield _exists(place)):
        return wanted
    applied = {name for (name,) in (yield Call(place.dialect.sql["applied_migrations"]))}
    if newer := applied.difference(wanted):
        raise NotMigrated(
            f"the log in {place.shown} was migrated by a newer release of ensue ({', '.join(sorted(newer))}): "
            "upgrade ensue here"
        )
    return [name for name in wanted if name not in applied]


def migrate(place: Place) -> Steps[list[str]]:
    """Apply what is pending, in the open transaction, and make the log the application's; return what was applied."""
    dialect = place.dialect
    if not (yield from pending(place)) and (yield from _owners(place)) == [place.app]:
        return []
    if isinstance(dialect, Postgres):
        yield from _check_release(place)
    for query in dialect.prepare():
        yield Call(query)
    missing = yield from pending(place)  # another process may have done it while we waited
    scripts = dialect.sql.scripts("migrations")
    if len(missing) == len(scripts):
        yield Call(dialect.sql["create_migrations"])
    for name in missing:
        for query in scripts[name]:
            yield Call(query)
        yield Call(dialect.sql["insert_migration"], (name,))
    owners = yield from _owners(place)
    if not owners:
        yield Call(dialect.sql["insert_log"], (place.app,))
    else:
        _check_owner(place, owners)
    for query in dialect.finish():
        yield Call(query)
    return missing


def confirm_ready(place: Place) -> Steps[None]:
    """Raise `NotMigrated` if anything is pending, and `WrongDatabase` if the log is another application's."""
    if missing := (yield from pending(place)):
        what = f"there is no log in {place.shown} yet"
        if len(missing) < len(place.dialect.sql.scripts("migrations")):
            what = f"the log in {place.shown} lacks the migrations {', '.join(missing)}"
        raise NotMigrated(f"{what}: run `ensue migrate`")
    _check_owner(place, (yield from _owners(place)))


def _check_release(place: Place) -> Steps[None]:
    settings = "current_setting('server_version_num')::int, current_setting('server_version')"
    ((number, version),) = yield Call(Query(f"select {settings}"))
    if number < OLDEST_POSTGRES * 10_000:
        raise NotMigrated(
            f"PostgreSQL {version} is too old for the log in {place.shown}: ensue needs {OLDEST_POSTGRES} or newer; "
            "nothing was made"
        )


def _check_owner(place: Place, owners: list[str]) -> None:
    if owners != [place.app]:
        raise WrongDatabase(
            f"the log in {place.shown} belongs to {', '.join(owners)}, not to {place.app!r}: "
            f"one log, one application; give {place.app!r} a log of its own with App(…, schema='…')"
        )


def _owners(place: Place) -> Steps[list[str]]:
    return [name for (name,) in (yield Call(place.dialect.sql["log_names"]))]


def _exists(place: Place) -> Call:
    if isinstance(place.dialect, Postgres):
        return Call(Query(f"select 1 where to_regclass('{place.schema}.migrations') is not null"))
    return Call(Query(f"select 1 from sqlite_master where type = 'table' and name = '{place.schema}_migrations'"))
