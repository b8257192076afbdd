"""Artefacts → stdout, as tables or one JSON document; progress and errors → stderr; errors → exit codes."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, NoReturn

import click

import amble
from amble.cli.progress import OnProgress, told

if TYPE_CHECKING:
    from amble.stages.check.tables import Table

__all__ = ["Terminal", "kept_below", "kept_in", "reporting"]

_WIDTH = 160  # of output that goes to a file or a pipe
_INTERRUPTED = 130
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
    def progress(self, what: str, *, kept: Callable[[], str]) -> Iterator[OnProgress]:
        """Show how much is done and how much time is left; ``kept`` says, once interrupted, what is left of it."""
        try:
            with told(what) as on_progress:
                yield on_progress
        except KeyboardInterrupt:
            self.note(f"amble: interrupted; {kept()}")
            sys.exit(_INTERRUPTED)


def kept_in(part: Path | None) -> Callable[[], str]:
    """Return what says that the file so far is there for the next call; None where nobody asked for one."""

    def kept() -> str:
        if part is None:
            return "nothing is kept; with -o what was found would be, and the same call would go on from there"
        return (
            f"what was found is in {part}; the same call goes on from there" if part.exists() else "nothing is kept yet"
        )

    return kept


def kept_below(folder: Path, what: str) -> Callable[[], str]:
    """Return what says that a folder holds something for the next call, if it does."""

    def kept() -> str:
        if not folder.is_dir() or not any(folder.iterdir()):
            return "nothing is kept yet"
        return f"{folder} holds {what}; the same call goes on from there"

    return kept


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
        _fail(terminal, error, 1, fastest_s=error.fastest_s, fastest=error.fastest)
    except (amble.AmbleError, ValueError) as error:
        _fail(terminal, error, 2)
    except OSError as error:
        _fail(terminal, _told(error), 2)
    except KeyboardInterrupt:
        terminal.note("amble: interrupted")
        sys.exit(_INTERRUPTED)
    finally:
        signal.signal(signal.SIGTERM, before)


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


def _told(error: OSError) -> amble.Refused:
    """Return what the system did not allow as one line that names the file."""
    where = f"{error.filename}: " if error.filename else ""
    return amble.Refused(f"{where}{error.strerror or error}")


def _fail(terminal: Terminal, error: Exception, code: int, **facts: object) -> NoReturn:
    if terminal.as_json:
        import msgspec

        known = {name: value for name, value in facts.items() if value is not None}
        click.echo(msgspec.json.encode({"error": str(error), **known}).decode())
    terminal.note(f"amble: {error}")
    sys.exit(code)
