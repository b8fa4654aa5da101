"""What is checked before an application starts: the declarations, without a database."""

from __future__ import annotations

from ensue.app.boundaries import check_boundaries
from ensue.app.declarations import Declarations
from ensue.app.ownership import Ownership
from ensue.app.processing import check_commands
from ensue.app.serving import describe
from ensue.contracts import check_contracts


def check_declarations(name: str, declarations: Declarations, ownership: Ownership) -> None:
    """Raise what `App.check` raises for the application of this name, whose contract files are in a folder, if any."""
    check_boundaries(declarations, ownership)
    check_commands(declarations)
    if declarations.contracts is not None:
        check_contracts(describe(name, declarations), declarations.contracts)
