"""Artefacts → stdout, as tables or one JSON document; progress and errors → stderr; errors → exit codes."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import TYPE_CHECKING, NoReturn

import click

import amble

if TYPE_CHECKING:
    from amble.stages.check.tables import Table

__all__ = ["Terminal", "reporting"]

_WIDTH = 160  # of output that goes to a file or a pipe
_NAME = 40  # of the first column, which names the row


@dataclass(frozen=True, slots=True)
class Terminal:
    """Where a verb writes. ``as_json``: exactly one document on stdout; ``dry_run``: say what would be done."""

    as_json: bool
    dry_run: bool

    def result(self, document: object, tables: Callable[[], Sequence[Table]]) -> None:
        """Print a result: the document itself, or its tables."""
        if self.as_json:
            import msgspec

            from amble.core.files import plain

            click.echo(msgspec.json.encode(document, enc_hook=plain).decode())
        else:
            _print(tables())

    def would(self, what: str) -> None:
        """Tell what a dry run leaves undone."""
        if self.as_json:
            import msgspec

            click.echo(msgspec.json.encode({"would": what}).decode())
        else:
            self.note(f"would {what}")

    def note(self, text: str) -> None:
        """Tell something on the side."""
        click.echo(text, err=True)

    @contextmanager
    def progress(self, what: str) -> Iterator[Callable[[int, int], None]]:
        """Show how much is done and how much time is left, on stderr."""
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as bar:
            task = bar.add_task(what, total=None)
            yield lambda done, total: bar.update(task, completed=done, total=total)


def _print(tables: Sequence[Table]) -> None:
    from rich.console import Console
    from rich.table import Column
    from rich.table import Table as Grid

    console = Console(width=None if sys.stdout.isatty() else _WIDTH, markup=False, emoji=False, highlight=False)
    for table in tables:
        columns = [Column(name, overflow="fold") for name in table.columns]  # nothing is cut: names are copied
        names = (line for row in table.rows for line in row[0].split("\n"))
        columns[0].min_width = min(_NAME, max(map(len, names), default=0))
        grid = Grid(*columns, title=table.title, title_justify="left", title_style="bold")
        for row in table.rows:
            grid.add_row(*row)
        console.print(grid)
        for note in table.notes:
            console.print(f"  {note}", style="dim")


@contextmanager
def reporting(terminal: Terminal) -> Iterator[None]:
    """Turn what goes wrong into one line and an exit code, and SIGTERM into an orderly end that puts clocks back."""
    before = signal.signal(signal.SIGTERM, _interrupt)
    try:
        yield
    except amble.Infeasible as error:
        _fail(terminal, error, 1, fastest_s=error.fastest_s)
    except (amble.AmbleError, ValueError) as error:
        _fail(terminal, error, 2)
    except KeyboardInterrupt:
        terminal.note("amble: interrupted; clocks are as they were found, and what was measured is kept")
        sys.exit(130)
    finally:
        signal.signal(signal.SIGTERM, before)


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


def _fail(terminal: Terminal, error: Exception, code: int, **facts: float) -> NoReturn:
    if terminal.as_json:
        import msgspec

        click.echo(msgspec.json.encode({"error": str(error), **facts}).decode())
    terminal.note(f"amble: {error}")
    sys.exit(code)
