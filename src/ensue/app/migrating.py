"""The schema of an application's log: made, upgraded, and told what is declared; also on first use."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from ensue.app.building import make_missing_here
from ensue.app.declarations import Declarations
from ensue.log import Log, Steps
from ensue.subscriptions import register

T = TypeVar("T")


class Migration:
    """Migrates the log of an application and registers its subscriptions: when asked, or before its first operation.

    `check` raises if something is declared wrongly; then nothing is made or registered.
    """

    def __init__(self, log: Log, declarations: Declarations, check: Callable[[], None], *, on_first_use: bool) -> None:
        self.on_first_use = on_first_use
        self._log = log
        self._declarations = declarations
        self._check = check
        self._wanted = on_first_use
        self._migrated_here = False

    def run(self) -> list[str]:
        """Migrate in a transaction of its own, on a connection of ensue's own; return what was applied.

        What functions of the user's make for projections follows, each in a transaction of its own.
        """
        steps = self._log.transaction(self._checked())
        with self._log.own.lend() as connection:
            applied: list[str] = self._log.run(steps, connection)
        make_missing_here(self._log, self._declarations)
        return applied

    def first(self, steps: Steps[T], *, own: bool) -> Steps[T]:
        """Put the migration before an operation if it is wanted on first use; on an `own` connection it commits."""
        if self._wanted and own:
            self.run()
            self._wanted = False
        return self._after(steps) if self._wanted else steps

    def _after(self, steps: Steps[T]) -> Steps[T]:
        """Put the migration before an operation, in its transaction, until it is seen to have been committed.

        What this application has migrated itself it may see before that: then it goes on looking.
        """
        yield from self._log.begin()
        if (yield from self._log.pending()):
            self._migrated_here = True
            yield from self._checked()
        elif not self._migrated_here:
            yield from self._log.migrate()  # there is nothing to do; it looks whose log this is
            self._wanted = False
        return (yield from steps)

    def _checked(self) -> Steps[list[str]]:
        self._check()  # here and now, before a connection is opened
        return self._steps()

    def _steps(self) -> Steps[list[str]]:
        applied = yield from self._log.migrate()
        yield from register(self._log, (yield from self._declarations.cursors(self._log, create=True)))
        return applied
