"""How far a long piece of work is, and how long it will take yet: a bar on a terminal, lines in logs and pipes."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol

import click

__all__ = ["Lines", "OnProgress", "told"]

_STEP = 0.1  # of the work, that is worth a line
_QUIET_S = 2.0  # between two lines, at least
_PATIENCE_S = 10.0  # after which a smaller step is worth one too


class OnProgress(Protocol):
    """Called with what is done of what there is (0: nobody knows), and in which stage of the work."""

    def __call__(self, done: int, total: int, stage: str = "") -> None:
        """Take note."""


@contextmanager
def told(what: str) -> Iterator[OnProgress]:
    """Show progress on stderr for as long as the work lasts."""
    if not sys.stderr.isatty():
        yield Lines(what)
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=None)

        def update(done: int, total: int, stage: str = "") -> None:
            named = f"{what}: {stage}" if stage else what
            bar.update(task, completed=done, total=total or None, description=named)

        yield update


def _say(line: str) -> None:
    click.echo(line, err=True)


@dataclass(slots=True)
class Lines:
    """Tells progress line by line: at steps of a tenth, and of less where those take long, but never many at once.

    The time left is reckoned from the stage that runs: stages differ in what a step takes.
    """

    what: str
    say: Callable[[str], None] = _say
    now_s: Callable[[], float] = time.monotonic
    _stage: str | None = field(default=None, init=False)
    _begun: tuple[float, int] = field(default=(0.0, 0), init=False)  # when the stage began [s], with how much done
    _said: tuple[float, float] = field(default=(0.0, 0.0), init=False)  # when the last line was [s], at which share

    def __post_init__(self) -> None:
        """Start the clock."""
        self._said = (self.now_s(), 0.0)

    def __call__(self, done: int, total: int, stage: str = "") -> None:
        """Say a line if it is time for one."""
        now_s = self.now_s()
        if (kind := stage.partition(",")[0]) != self._stage:
            self._stage, self._begun, self._said = kind, (now_s, done), (self._said[0], 0.0)
        share = done / total if total else 0.0
        passed_s = now_s - self._said[0]
        if passed_s < _QUIET_S or (share - self._said[1] < _STEP and passed_s < _PATIENCE_S):
            return
        self._said = (now_s, share)
        self.say(f"amble: {self.what}{f': {stage}' if stage else ''}, {self._far(done, total, now_s)}")

    def _far(self, done: int, total: int, now_s: float) -> str:
        begun_s, already = self._begun
        if not total:
            return f"{done} so far, {_long(now_s - begun_s)} gone"
        if done <= already:
            return f"{done} of {total}"
        left_s = (now_s - begun_s) / (done - already) * (total - done)
        return f"{done} of {total}, about {_long(left_s)} left"


def _long(time_s: float) -> str:
    minutes, seconds = divmod(round(time_s), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {seconds} s" if minutes else f"{seconds} s"
