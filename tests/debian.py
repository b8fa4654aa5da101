"""Programs from Debian's packages that are not installed: unpacked into build/, where they stay."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

from tests.servers import NoServer

BUILD = Path(__file__).parent.parent / "build"


def program(name: str, package: str) -> str:
    """Return where a program is: installed, or unpacked from a package that needs no other."""
    if (found := shutil.which(name)) is not None:
        return found
    place = BUILD / package / "usr" / "bin" / name
    if not place.exists():
        _unpack(package)
    return str(place)


def _unpack(package: str) -> None:
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        raise NoServer(f"the package {package} is not installed, and this is no Debian that could fetch it")
    BUILD.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=BUILD) as name:
        folder = Path(name)
        for command in (["apt-get", "download", package], ["apt-get", "update"], ["apt-get", "download", package]):
            done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)
            if files := list(folder.glob("*.deb")):
                break
        else:
            raise NoServer(f"the package {package} cannot be fetched: {done.stderr.strip()[-500:]}")
        subprocess.run(["dpkg-deb", "-x", files[0], folder / "all"], check=True, timeout=120)
        (folder / "all").rename(BUILD / package)
