"""The command line's outer door: what is wrong with a call is told as asked for, as text or as one JSON document."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Any

import click

from amble.cli.settings import refuse_unknown_variables

__all__ = ["Verbs"]

_INTERRUPTED = 130


class Verbs(click.Group):
    """A group whose usage errors are JSON documents on stdout where ``--json`` stands in the call."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> Any:
        """Run a call and end the process; without ``standalone_mode`` return, or raise, as click does."""
        words = sys.argv[1:] if args is None else list(args)
        if not standalone_mode:
            return super().main(args, prog_name, complete_var, standalone_mode, **extra)
        try:
            code = super().main(args, prog_name, complete_var, standalone_mode=False, **extra)
        except click.ClickException as error:
            if "--json" in words:
                click.echo(json.dumps({"error": error.format_message()}))
            error.show()
            sys.exit(error.exit_code)
        except click.Abort:  # Ctrl-C before the verb itself began, or after its end
            click.echo("amble: interrupted", err=True)
            sys.exit(_INTERRUPTED)
        sys.exit(code if isinstance(code, int) else 0)

    def invoke(self, ctx: click.Context) -> Any:
        """Look at the variables before any verb does."""
        for warning in refuse_unknown_variables(self):
            click.echo(warning, err=True)
        return super().invoke(ctx)
