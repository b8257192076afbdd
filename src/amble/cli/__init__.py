"""The command line over ``jobs``: parses, calls, prints. Nothing is decided here."""

from amble.cli import approximate as _approximate  # noqa: F401  adds its verb
from amble.cli import budgeting as _budgeting  # noqa: F401  adds its verb
from amble.cli import fleets as _fleets  # noqa: F401  adds its verb
from amble.cli import governing as _governing  # noqa: F401  adds its verb
from amble.cli import guarding as _guarding  # noqa: F401  adds its verb
from amble.cli import pruning as _pruning  # noqa: F401  adds its verb
from amble.cli import running as _running  # noqa: F401  adds its verb
from amble.cli import splitting as _splitting  # noqa: F401  adds its verb
from amble.cli.verbs import main

__all__ = ["main"]
