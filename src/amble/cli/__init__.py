"""The command line over ``jobs``: parses, calls, prints. Nothing is decided here."""

from amble.cli.verbs import main

__all__ = ["main"]
