"""Make the project's environment in .venv: `python scripts/setup.py run|dev`.

It needs nothing but a Python and a package index, and copes with a Python whose `venv` has no pip (as Debian
ships it without python3-venv). Python 3.8 is enough to start it, so that it can say what is missing.
"""

import importlib.util
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
VENV_PYTHON = VENV / "bin" / "python"
OLDEST = (3, 11)

# Each set contains those before it.
SETS = {
    "run": ("demo", "what the demo needs, about a minute"),
    "dev": ("dev", "everything for tests, checks, benchmarks and docs, two or three minutes"),
}


def main(wanted: str) -> None:
    extra, what = SETS[wanted]
    if sys.version_info < OLDEST:
        version = ".".join(map(str, sys.version_info[:3]))
        fail(
            f"ensue needs Python 3.11 or newer, and found none: {sys.executable} is {version}.",
            "Install one, or name the one to use: make test PYTHON=/path/to/python3.12",
        )
    if not works(VENV_PYTHON):
        say(f"Making .venv with {sys.executable}")
        make_venv()
    say(f"Installing into .venv: {what} (the first time)")
    began = time.monotonic()
    install("--editable", f"{ROOT}[{extra}]")
    say(f"Installed in {time.monotonic() - began:.0f} s.")
    for name in SETS:
        (VENV / f".ready-{name}").touch()
        if name == wanted:
            break


def works(python: Path) -> bool:
    """Tell whether the environment is whole: it may be half made, or its Python gone or too old."""
    if not python.exists():
        return False
    check = f"import sys, pip; sys.exit(sys.version_info < {OLDEST})"
    return subprocess.run([python, "-c", check], capture_output=True, check=False).returncode == 0


def make_venv() -> None:
    def has(*modules: str) -> bool:
        return all(importlib.util.find_spec(module) for module in modules)

    shutil.rmtree(VENV, ignore_errors=True)
    if has("venv", "ensurepip"):
        run(sys.executable, "-m", "venv", str(VENV))
    elif has("virtualenv"):
        run(sys.executable, "-m", "virtualenv", "--quiet", str(VENV))
    elif has("venv", "pip"):
        run(sys.executable, "-m", "venv", "--without-pip", str(VENV))
        run(sys.executable, "-m", "pip", "--python", str(VENV_PYTHON), "install", "--quiet", "pip")
    else:
        fail(
            f"{sys.executable} cannot make .venv: it has neither ensurepip, virtualenv nor pip.",
            "Install one of them, then run make again. Debian and Ubuntu: apt install python3-venv",
        )


def install(*what: str) -> None:
    """Install quietly, with pip's own words when it fails; on a terminal with what it is at."""
    command = [str(VENV_PYTHON), "-m", "pip", "install", "--disable-pip-version-check", "--no-input", *what]
    environment = dict(os.environ, PIP_PROGRESS_BAR="off")
    pip = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    lines = []
    for line in pip.stdout or ():
        lines.append(line)
        show(line.strip())
    show("")
    if pip.wait() != 0:
        sys.stderr.write("".join(lines[-40:]))
        fail("pip could not install it; its last words are above.", "The command was: " + " ".join(command))


def run(*command: str) -> None:
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode != 0:
        sys.stderr.write(done.stdout)
        fail("This failed: " + " ".join(command))


def show(line: str) -> None:
    """Show a passing line, on a terminal only."""
    if sys.stdout.isatty():
        width = shutil.get_terminal_size().columns - 1
        sys.stdout.write("\r\033[K" + line[:width])
        sys.stdout.flush()


def say(line: str) -> None:
    print(line, flush=True)


def fail(*lines: str) -> None:
    sys.exit("\n".join(lines))


if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1] not in SETS:
        fail("usage: python scripts/setup.py " + "|".join(SETS))
    main(sys.argv[1])
