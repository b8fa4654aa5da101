"""Finding the application that a command is about."""

from __future__ import annotations

import importlib
import os
import shlex
import sys
import tomllib
import traceback
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from urllib.parse import urlsplit

import ensue
from ensue.app import App
from ensue.errors import EnsueError

_PACKAGE = str(Path(ensue.__file__).parent)


class TargetError(EnsueError):
    """The application cannot be found."""


@dataclass(frozen=True)
class Target:
    """An application, and how it was named."""

    app: App
    spec: str
    """`module:name`."""
    explicit: bool
    """It was named on the command line, so the commands that are proposed have to name it too."""

    def command(self, *words: str) -> str:
        """Return a command about this application, to be typed as it is."""
        if not self.explicit:
            return shlex.join(["ensue", *words])
        named = [self.spec] if words[0] in ("run", "console", "migrate", "map", "contracts") else ["--app", self.spec]
        return shlex.join(["ensue", *words, *named])


def find(spec: str | None) -> Target:
    """Import the application; raise `TargetError` that says what is missing.

    Without a `spec`, [tool.ensue] of the nearest pyproject.toml that has one names it.
    """
    folder = Path.cwd()
    explicit = bool(spec) and spec != os.environ.get("ENSUE_APP")
    if not spec:
        spec, folder = _from_pyproject(folder)
    for each in (str(folder), str(Path.cwd())):
        if each not in sys.path:
            sys.path.insert(0, each)
    module_name, colon, attribute = spec.partition(":")
    if not module_name or (colon and not attribute) or "/" in spec or spec.endswith(".py"):
        raise TargetError(
            f"{spec!r} names no application: write module:name, for example shop.app:app for `app` in shop/app.py"
        )
    module = _import(module_name)
    app, found_as = _pick(module, attribute)
    return Target(app, f"{module_name}:{found_as}", explicit)


def find_log(spec: str | None) -> Target:
    """As `find`, for commands that need a log which is there already."""
    target = find(spec)
    place = target.app.log.place
    if place.in_memory:
        raise TargetError(f"the log of {target.app.name!r} is in the memory of another process ({place.url})")
    if urlsplit(place.url).scheme.startswith("sqlite") and not Path(place.database).exists():
        raise TargetError(
            f"{target.app.name!r} has no database yet: there is no file {place.database}. "
            f"Make it with `{target.command('migrate')}`, or go to the folder where it is"
        )
    return target


def folder_of(target: Target, folder: Path | None) -> Path:
    """Return where the application's contract files are; raise `TargetError` if that is no folder."""
    place = folder or target.app.contracts or Path("contracts")
    if place.exists() and not place.is_dir():
        raise TargetError(f"{place} is no folder: contract files are kept in one")
    return place


def _from_pyproject(folder: Path) -> tuple[str, Path]:
    for each in (folder, *folder.parents):
        file = each / "pyproject.toml"
        if not file.is_file():
            continue
        try:
            named = tomllib.loads(file.read_text("utf-8")).get("tool", {}).get("ensue", {}).get("app")
        except (OSError, ValueError) as error:
            raise TargetError(f"{file} cannot be read: {error}") from error
        if isinstance(named, str) and named:
            return named, each
        if named is not None:
            raise TargetError(f"{file}: app in [tool.ensue] is {named!r}; it must be text such as 'shop.app:app'")
    raise TargetError(
        "which application? Name it as module:name (ensue run shop.app:app, ensue lag --app shop.app:app), "
        'in ENSUE_APP, or in pyproject.toml: [tool.ensue] app = "shop.app:app"'
    )


def _import(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(error.name + ".")):
            raise TargetError(
                f"there is no module {error.name!r}: looked in {Path.cwd()} and among the installed packages"
            ) from error
        raise TargetError(f"module {name!r} cannot be imported: {error}{_place(error)}") from error
    except (Exception, SystemExit) as error:
        what = f"{type(error).__name__}: {error}".removesuffix(": ")
        raise TargetError(f"module {name!r} cannot be imported: {what}{_place(error)}") from error


def _place(error: BaseException) -> str:
    """Say which line of the user's code it came from."""
    if isinstance(error, SyntaxError):
        return ""
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if not frame.filename.startswith(("<", _PACKAGE)) and f"{os.sep}importlib{os.sep}" not in frame.filename:
            return f" ({frame.filename}:{frame.lineno})"
    return ""


def _pick(module: ModuleType, attribute: str) -> tuple[App, str]:
    apps = {name: value for name, value in vars(module).items() if isinstance(value, App)}
    if not attribute:
        if len({id(app) for app in apps.values()}) == 1:
            name, app = next(iter(apps.items()))
            return app, name
        raise TargetError(
            f"module {module.__name__!r} holds {len(apps) or 'no'} applications; "
            + (f"say which: {_list(module, apps)}" if apps else "name the module that makes the App: module:name")
        )
    value: object = module
    for part in attribute.split("."):
        try:
            value = getattr(value, part)
        except AttributeError:
            hint = f"it has {_list(module, apps)}" if apps else "it makes no App"
            raise TargetError(f"module {module.__name__!r} has no {attribute!r}; {hint}") from None
    if not isinstance(value, App):
        hint = f"; did you mean {_list(module, apps)}?" if apps else ""
        raise TargetError(f"{module.__name__}:{attribute} is no ensue.App but a {type(value).__name__}{hint}")
    return value, attribute


def _list(module: ModuleType, apps: dict[str, App]) -> str:
    return ", ".join(f"{module.__name__}:{name}" for name in apps)
