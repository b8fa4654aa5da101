"""A Django project with ensue among its apps: its commands, its checks, its admin, over HTTP."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import urllib.error
import urllib.parse
import urllib.request
from http.cookiejar import CookieJar
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

from tests.patience import until_sync
from tests.servers import free_port

SETTINGS = """
SECRET_KEY = "test"
DEBUG = True
ALLOWED_HOSTS = ["*"]
USE_TZ = True
ROOT_URLCONF = "urls"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
DATABASES = {"default": %s}
STATIC_URL = "static/"
ENSUE_APP = "store.events:app"
ENSUE_CONSOLE = "https://console.example.org"
INSTALLED_APPS = [
    "django.contrib.admin", "django.contrib.auth", "django.contrib.contenttypes", "django.contrib.sessions",
    "django.contrib.messages", "ensue.integrations.django", "store",
]
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware", "django.contrib.messages.middleware.MessageMiddleware",
]
TEMPLATES = [{
    "BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True,
    "OPTIONS": {"context_processors": [
        "django.template.context_processors.request", "django.contrib.auth.context_processors.auth",
        "django.contrib.messages.context_processors.messages",
    ]},
}]
"""
FILES = {
    "urls.py": """
from django.contrib import admin
from django.urls import path

urlpatterns = [path("admin/", admin.site.urls)]
""",
    "manage.py": """
import os, sys
from django.core.management import execute_from_command_line

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "settings")
execute_from_command_line(sys.argv)
""",
    "prepare.py": """
import os
import django
from django.core.management import CommandError, call_command

os.environ["DJANGO_SETTINGS_MODULE"] = "settings"
django.setup()
call_command("ensue", "migrate")
call_command("makemigrations", "store")
call_command("migrate")
call_command("createsuperuser", interactive=False, username="dora", email="dora@example.org")
try:
    call_command("ensue", "show", "12345")
except CommandError as error:
    assert str(error) == "ensue show 12345 failed"
else:
    raise AssertionError("there is no such event")
""",
    "store/__init__.py": "",
    "store/apps.py": """
from django.apps import AppConfig

class StoreConfig(AppConfig):
    name = "store"

    def ready(self):
        from ensue.integrations.django import entities
        from store.events import app
        from store.models import Order
        entities(app, Order)
""",
    "store/events.py": """
from ensue import App, DomainEvent
from ensue.integrations.django import url_of

app = App("store", url_of("default"), schema=%r)

class Placed(DomainEvent, name="store.placed"):
    article: str

class Noted(DomainEvent, name="store.noted"):
    article: str

@app.on(Placed, start="beginning")
def note(event):
    with app.transaction() as connection:
        app.record(Noted(article=event.article), via=connection)
""",
    "store/models.py": """
from django.db import models
from ensue.integrations.django import Entity
from store.events import Placed

class Order(Entity, models.Model):
    article = models.CharField(max_length=50)

    def __str__(self):
        return self.article

    def save(self, **options):
        if self.pk is None:
            self.raise_event(Placed(article=self.article))
        super().save(**options)
""",
    "store/admin.py": """
from django.contrib import admin
from ensue.integrations.django.admin import EventsAdmin
from store.models import Order

@admin.register(Order)
class OrderAdmin(EventsAdmin, admin.ModelAdmin):
    pass
""",
    "store/tests.py": """
from django.test import TransactionTestCase
from ensue.integrations.django import url_of
from ensue.testing.moving import log_at
from ensue.testing.settling import Settle
from store.events import Noted, app
from store.models import Order

class OrderTest(TransactionTestCase):
    def test_it_is_noted(self):
        with log_at(app, url_of("default")):
            Order(article="pen").save()
            Settle(app)()
            self.assertEqual([each.event for each in app.read(types=[Noted])], [Noted(article="pen")])
""",
}


class Project:
    """A project in a folder."""

    def __init__(self, folder: Path, database: dict[str, Any], schema: str) -> None:
        self.folder = folder
        (folder / "settings.py").write_text(SETTINGS % database)
        for name, text in FILES.items():
            path = folder / name
            path.parent.mkdir(exist_ok=True)
            path.write_text(text % schema if name == "store/events.py" else text)
        (folder / "store" / "migrations").mkdir()
        (folder / "store" / "migrations" / "__init__.py").touch()

    def manage(self, *arguments: str, code: int = 0) -> str:
        """Return what a command says."""
        return self.run("manage.py", *arguments, code=code)

    def run(self, program: str, *arguments: str, code: int = 0) -> str:
        """Return what a program says."""
        done = subprocess.run(
            [sys.executable, "-W", "error", program, *arguments],
            cwd=self.folder,
            env={**os.environ, "NO_COLOR": "1", "DJANGO_SUPERUSER_PASSWORD": "secret"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == code, done.stdout
        return done.stdout


@pytest.fixture
def project(tmp_path: Path, schema: str) -> Project:
    """Return a project on SQLite."""
    name, test = str(tmp_path / "db.sqlite3"), {"NAME": str(tmp_path / "test.sqlite3")}
    return Project(tmp_path, {"ENGINE": "django.db.backends.sqlite3", "NAME": name, "TEST": test}, schema)


@pytest.fixture
def on_postgres(tmp_path: Path, postgres_url: str, schema: str) -> Project:
    """Return a project on PostgreSQL."""
    parts = urlsplit(postgres_url)
    name = unquote(parts.path.removeprefix("/"))
    database = {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": name,
        "HOST": parts.hostname or "",
        "PORT": parts.port or "",
        "USER": unquote(parts.username or ""),
        "PASSWORD": unquote(parts.password or ""),
        "TEST": {"NAME": f"{name}_django"},
    }
    return Project(tmp_path, database, schema)


class Browser:
    """Somebody at a browser, with cookies."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(CookieJar()))

    def get(self, path: str) -> str:
        with self._opener.open(self._url + path, timeout=20) as answer:
            text: str = answer.read().decode()
        return text

    def post(self, path: str, form: dict[str, str]) -> str:
        found = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', self.get(path))
        assert found is not None
        body = urllib.parse.urlencode({**form, "csrfmiddlewaretoken": found[1]}).encode()
        with self._opener.open(self._url + path, body, timeout=20) as answer:
            text: str = answer.read().decode()
        return text


@pytest.mark.slow
def test_a_project(project: Project) -> None:
    # the check says what is missing, and manage.py does it
    missing = project.manage("check", "--database", "default")
    assert "ensue.W002" in missing
    assert "manage.py ensue migrate" in missing
    assert "applied migration 0001_log" in project.run("prepare.py")

    # somebody places an order in the admin, and looks at what happened to it
    port = free_port()
    server = subprocess.Popen(
        [sys.executable, "manage.py", "runserver", "--noreload", "--skip-checks", f"127.0.0.1:{port}"],
        cwd=project.folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        browser = Browser(f"http://127.0.0.1:{port}")
        until_sync(lambda: answers(browser))
        stranger = browser.get("/admin/store/order/1/events/")
        assert "Log in" in stranger
        browser.post("/admin/login/", {"username": "dora", "password": "secret", "next": "/admin/"})
        browser.post("/admin/store/order/add/", {"article": "fountain pen"})
        page = browser.get("/admin/store/order/1/change/")
        assert '<a href="/admin/store/order/1/events/" class="historylink">Events</a>' in page
        shown = browser.get("/admin/store/order/1/events/")
        assert "store.placed" in shown
        assert "fountain pen" in shown
        assert "Order-1" in shown
        assert "https://console.example.org" in shown
        with pytest.raises(urllib.error.HTTPError, match="404"):
            browser.get("/admin/store/order/2/events/")
    finally:
        server.kill()
        server.wait()

    # every command is there, about this application
    (standing,) = json.loads(project.manage("ensue", "lag", "--json"))
    assert (standing["subscription"], standing["behind"]) == ("note", 1)


def test_a_project_on_postgresql_under_djangos_own_test_runner(on_postgres: Project) -> None:
    shutil.rmtree(on_postgres.folder / "store" / "migrations")  # then the test runner makes the tables without
    assert "applied migration 0001_log" in on_postgres.manage("ensue", "migrate")
    assert "OK" in on_postgres.manage("test", "--noinput")


def answers(browser: Browser) -> bool:
    try:
        browser.get("/admin/login/")
    except OSError:
        return False
    return True


CHECKS = """
import os
import django
from django.core.checks import run_checks
from django.test import override_settings

os.environ["DJANGO_SETTINGS_MODULE"] = "settings"
django.setup()
for named, found in (
    ("store.events:app", []),
    (None, ["ENSUE_APP = None: name the application as module:name"]),
    ("store.events:none", ["there is no App none in store.events"]),
    ("nowhere:app", ["ENSUE_APP = 'nowhere:app' cannot be imported: No module named 'nowhere'"]),
    ("elsewhere:app", ["the log of elsewhere is in none of DATABASES"]),
):
    with override_settings(ENSUE_APP=named):
        said = [each.msg for each in run_checks() if each.id.startswith("ensue.")]
    assert len(said) == len(found) and all(each in one for each, one in zip(found, said)), (named, said)
"""


def test_what_the_check_finds(project: Project) -> None:
    (project.folder / "elsewhere.py").write_text(
        'from ensue import App\napp = App("elsewhere", "sqlite:///other.db")\n'
    )
    (project.folder / "checks.py").write_text(CHECKS)
    project.run("checks.py")
