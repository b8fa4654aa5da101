"""The command line: what people do with an application, in words."""

from ensue.cli.command import cli, main

__all__ = ["cli", "main"]
