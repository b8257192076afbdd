"""The verb ``guard``: lend clocks to users who have no right to set them."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from amble.cli.options import verb
from amble.cli.terminal import Terminal
from amble.cli.verbs import main
from amble.devices.guarded.protocol import SOCKET

__all__ = ["guard"]


@verb(main)
@click.option("--socket", type=click.Path(path_type=Path), default=SOCKET, show_default=True, help="Where clients ask.")
@click.option(
    "--allow",
    type=click.Path(dir_okay=False, path_type=Path),
    default="/etc/amble/guard.yaml",
    show_default=True,
    help="Who may set what.",
)
@click.option(
    "--state",
    type=click.Path(file_okay=False, path_type=Path),
    default="/var/lib/amble/guard",
    show_default=True,
    help="Folder for what was found before it was changed.",
)
@click.option("--install", is_flag=True, help="Write and start a systemd unit, and an allow-list for you (needs root).")
@click.option("--uninstall", is_flag=True, help="Stop and remove that unit; clocks are put back, the list stays.")
@click.option("--example", is_flag=True, help="Print an allow-list to start from.")
def guard(
    terminal: Terminal, *, socket: Path, allow: Path, state: Path, install: bool, uninstall: bool, example: bool
) -> None:
    """Own the right to set clocks, lend it, and put everything back.

    Runs as root; everybody else asks it through a socket, and amble does so by itself where it finds one. What is found
    is written down before anything changes, and put back when a client ends, crashes or hangs, and when the guard does.
    """
    from amble.services.guard import installing, running

    if install and uninstall:
        raise click.UsageError("--install and --uninstall: which one?")
    if example:
        click.echo(running.EXAMPLE.format(user="1000"), nl=False)
    elif terminal.dry_run:
        done = "install" if install else "uninstall" if uninstall else ""
        terminal.would(f"{done} the guard" if done else f"lend clocks at {socket} to those whom {allow} names")
    elif install:
        for path in installing.install(allow=allow):
            terminal.note(f"wrote {path}")
        if others := installing.changeable(Path(sys.argv[0])):
            terminal.note(f"others than root may change {others}, which root runs now: install amble for root alone")
    elif uninstall:
        for path in installing.uninstall():
            terminal.note(f"removed {path}")
    else:
        running.run(socket=socket, allow=allow, state=state, ready=lambda: terminal.note(f"lending clocks at {socket}"))
