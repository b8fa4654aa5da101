"""The parts of aiokafka that are used here; it has no types."""

from __future__ import annotations

from importlib import import_module
from typing import Any

aiokafka: Any = import_module("aiokafka")
abc: Any = import_module("aiokafka.abc")
admin: Any = import_module("aiokafka.admin")
conn: Any = import_module("aiokafka.conn")
errors: Any = import_module("aiokafka.errors")
metadata: Any = import_module("aiokafka.protocol.metadata")
