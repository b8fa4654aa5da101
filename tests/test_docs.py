"""The documentation builds, and every Python block in it runs.

The ```python blocks of a page are one program, run in an empty folder with warnings as errors. A block with a
title, ```python title="shop.py", is a file of that name, which the program imports where the block stands.
Line numbers in tracebacks are those of the page. What cannot run says so above its block:
<!-- not run: why -->
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]

FENCE = re.compile(r"^(?P<indent> *)```(?P<language>\w*)(?P<options>.*)$")
TITLE = re.compile(r'title="(?P<name>[\w/]+\.py)"')
NOT_RUN = re.compile(r"^\s*<!-- not run: .+ -->$")


class Block(NamedTuple):
    line: int  # of its first line of code, counted from 1
    code: list[str]
    file: str | None


def blocks(page: str) -> Iterator[Block]:
    """Yield the Python blocks of a page that are to be run."""
    lines = page.splitlines()
    number = 0
    while number < len(lines):
        opening = FENCE.match(lines[number])
        number += 1
        if not opening:
            continue
        first, indent = number, len(opening["indent"])
        while lines[number].strip() != "```":
            number += 1
        skipped = first >= 2 and NOT_RUN.match(lines[first - 2])
        if opening["language"] == "python" and not skipped:
            title = TITLE.search(opening["options"])
            code = [line[indent:] for line in lines[first:number]]
            yield Block(first + 1, code, title and title["name"])
        number += 1


def program(page: str, folder: Path) -> str:
    """Return the page's program, each line where it stands in the page; write its files into the folder."""
    lines = [""] * len(page.splitlines())
    for block in blocks(page):
        if block.file is None:
            lines[block.line - 1 : block.line - 1 + len(block.code)] = block.code
        else:
            path = folder / block.file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("\n".join(block.code) + "\n")
            module = block.file.removesuffix(".py").replace("/", ".")
            lines[block.line - 1] = f"import {module}"
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize(
    "page",
    [pytest.param(page, id=str(page.relative_to(ROOT))) for page in PAGES if any(blocks(page.read_text()))],
)
def test_the_code_of_a_page_runs(page: Path, tmp_path: Path) -> None:
    script = tmp_path / f"{page.stem}_page.py"
    script.write_text(program(page.read_text(), tmp_path))
    done = subprocess.run(
        [sys.executable, "-W", "error", script.name],
        cwd=tmp_path,
        env={**os.environ, "NO_COLOR": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, f"{page.relative_to(ROOT)} (line numbers are the page's):\n{done.stdout}"


def test_the_documentation_builds(tmp_path: Path) -> None:
    """With --strict, a broken link or a page without a place in the navigation is an error."""
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", tmp_path],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert (tmp_path / "index.html").exists()


def test_blocks_are_found_as_described(tmp_path: Path) -> None:
    page = """
```python
x = 1
```
text
1. in a list
   ```python title="shop/app.py"
   if True:
       y = 2
   ```
<!-- not run: needs a broker -->
```python
raise
```
```sql
select 1
```
"""
    expected = ["", "", "x = 1", "", "", "", "", "import shop.app", *[""] * 9]
    assert program(page, tmp_path).splitlines() == expected
    assert (tmp_path / "shop" / "app.py").read_text() == "if True:\n    y = 2\n"
