"""What is made from the contract files, and committed: `python -m examples.shop.generate`; with --check it only looks.

- `others.py` of each service: the classes of what it reads. The file itself says which: to read another event, make it
  once with `ensue contracts import`. From then on it is made again from the contract files of the same events.
- `flows.svg`: who publishes and who reads what.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

from ensue.contracts.catalogue import catalogue
from ensue.contracts.folder import find_folders, read_contract
from ensue.contracts.importing import module_source

SHOP = Path(__file__).parent


def generated() -> Iterator[tuple[Path, str]]:
    """Yield each file, and what it should hold."""
    for path in sorted(SHOP.glob("*/others.py")):
        contracts = [read_contract(each) for each in contract_files(path.read_text("utf-8"))]
        yield path, module_source(contracts)
    page = catalogue(find_folders([SHOP]))
    yield SHOP / "flows.svg", page[page.index("<svg") : page.index("</svg>")] + "</svg>\n"


def contract_files(source: str) -> Iterator[Path]:
    """Yield the contract files of the event classes in a module."""
    for statement in ast.parse(source).body:
        if isinstance(statement, ast.ClassDef):
            said = {each.arg: ast.literal_eval(each.value) for each in statement.keywords}
            if "service" in said:
                name = said.get("name", statement.name)
                yield SHOP / said["service"] / "contracts" / f"{name}.v{said['version']}.json"


def main() -> int:
    """Write what is not as it should be; with --check, name it and return 1."""
    changed = [(path, text) for path, text in generated() if not path.exists() or path.read_text("utf-8") != text]
    for path, text in changed:
        if "--check" in sys.argv:
            print(f"{path} is not as its contracts say: run python -m examples.shop.generate")
        else:
            path.write_text(text, "utf-8")
            print(f"wrote {path}")
    return 1 if changed and "--check" in sys.argv else 0


if __name__ == "__main__":
    sys.exit(main())
