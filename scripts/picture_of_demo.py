"""Run the demo and draw its table for the README: docs/images/demo.svg."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import msgspec
from rich.console import Console
from rich.terminal_theme import TerminalTheme

from ensue.demo.counting import Outcome
from ensue.demo.running import table_of

PICTURE = Path("docs/images/demo.svg")

_INK, _PAPER, _RED, _GREEN = (36, 41, 47), (255, 255, 255), (190, 30, 30), (20, 120, 60)
_THEME = TerminalTheme(_PAPER, _INK, [_INK, _RED, _GREEN, _INK, _INK, _INK, _INK, _INK])

# Rich's own frame would load a font from elsewhere.
_FRAME = """<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img">
<title>make demo: what is left after the same sign-ups under the same faults</title>
<style>
.{unique_id}-matrix {{ font: {char_height}px ui-monospace, Menlo, Consolas, monospace; }}
{styles}
</style>
<defs><clipPath id="{unique_id}-clip-terminal"><rect width="{terminal_width}" height="{terminal_height}"/></clipPath>
{lines}</defs>
<rect width="100%" height="100%" rx="8" fill="#ffffff" stroke="#d0d7de"/>
<g transform="translate(9, 9)">{backgrounds}<g class="{unique_id}-matrix">{matrix}</g></g>
</svg>
"""


def main() -> int:
    """Write the picture; return what the demo returned."""
    demo = subprocess.run(
        [Path(sys.executable).with_name("ensue"), "demo", "--json"], check=False, stdout=subprocess.PIPE
    )
    outcomes = msgspec.json.decode(demo.stdout, type=list[Outcome])
    console = Console(record=True, width=84, file=io.StringIO(), force_terminal=True)
    console.print(table_of(outcomes))
    PICTURE.parent.mkdir(parents=True, exist_ok=True)
    PICTURE.write_text(console.export_svg(theme=_THEME, code_format=_FRAME, unique_id="demo"), encoding="utf-8")
    print(PICTURE)
    return demo.returncode


if __name__ == "__main__":
    sys.exit(main())
