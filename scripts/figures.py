"""Write the table of figures into README.md: `python scripts/figures.py FILE…`.

The files are what `make bench ARGS="--json FILE"` has written, on the machine of the README. A figure in several
is taken from the last; one that is in none keeps its row.
"""

import json
import sys
from pathlib import Path
from typing import Any

README = Path(__file__).resolve().parent.parent / "README.md"
BEGIN, END = "<!-- figures -->", "<!-- end of figures -->"
HEAD = "| | ensue | compared with | ratio |"


def main(files: list[str]) -> None:
    reports = [json.loads(Path(file).read_text("utf-8")) for file in files]
    text = README.read_text("utf-8")
    before, _, rest = text.partition(BEGIN)
    after = rest.partition(END)[2] if END in rest else rest
    rows = {_title(line): line for line in rest.partition(END)[0].splitlines() if line.startswith("| ")}
    del rows[_title(HEAD)]
    for report in reports:
        rows |= {figure["title"]: _row(figure) for figure in report["figures"]}
    README.write_text(f"{before}{BEGIN}\n{_section(reports[-1], [*rows.values()])}\n{END}{after}", "utf-8")


def _title(row: str) -> str:
    return row.strip("| ").partition(" |")[0].partition("<br>")[0]


def _section(report: dict[str, Any], rows: list[str]) -> str:
    machine = report["machine"]
    settings = ", ".join(f"{name} {value}" for name, value in machine["settings"].items())
    table = "\n".join(rows)
    packages = ", ".join(f"{name} {version}" for name, version in machine["packages"].items())
    return f"""## Figures

From `make bench`, which compares in one run, in turns; medians. The bare driver makes the same inserts or reads the
same rows, and does nothing else. **Ratio** is ensue to the first that it is compared with; in brackets the least and
the greatest of two neighbouring runs.

<details><summary>The table</summary>

{HEAD}
|---|--:|--:|--:|
{table}

On {machine["processor"]}, {machine["cores"]} cores, {machine["system"]}, Python {machine["python"]}, SQLite
{machine["sqlite"]}, PostgreSQL {machine["postgresql"]} ({settings}); {packages}.

</details>"""


def _row(figure: dict[str, Any]) -> str:
    per = figure["per"]
    others = [each for each in (figure["against"], *figure["beside"]) if each is not None]
    beside = "<br>".join(f"{_number(each['median'])} {per} {each['name']}" for each in others)
    ratio = ""
    if figure["unit"] == "x":
        ratio = f"**{figure['value']:.2f}**<br>({figure['lowest']:.2f} to {figure['highest']:.2f})"
    note = f"<br>{figure['note']}" if figure["note"] else ""
    return f"| {figure['title']}{note} | {_number(figure['measured']['median'])} {per} | {beside} | {ratio} |"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:,.1f}" if value >= 10 else f"{value:,.2f}"


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    main(sys.argv[1:])
