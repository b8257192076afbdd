"""Options that several verbs share, each group as one object; configuration files and ``AMBLE_*`` variables."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

import amble
from amble.cli.terminal import Terminal, reporting
from amble.core.delimited import is_delimited
from amble.core.quantity import parse_time_s

if TYPE_CHECKING:
    from amble.core.graph import Graph
    from amble.core.schedule import Deadline
    from amble.fit.costs import Costs

__all__ = [
    "PLACE",
    "Network",
    "Place",
    "Wish",
    "device_if_any",
    "device_option",
    "network_options",
    "output_option",
    "shape_of",
    "verb",
    "wish_options",
]

Function = Callable[..., None]
OnProgress = Callable[[int, int], None]


class Place(click.Path):
    """A path to be written, refused before any work where it plainly cannot be."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Read the path; the nearest folder that exists must be one, and writable."""
        path = Path(os.fsdecode(super().convert(value, param, ctx)))
        nearest = next(each for each in (path.absolute(), *path.absolute().parents) if each.exists())
        folder = nearest.parent if nearest == path.absolute() and nearest.is_file() else nearest
        if not folder.is_dir():
            self.fail(f"{path} cannot be written: {folder} is not a folder", param, ctx)
        if not os.access(folder, os.W_OK):
            self.fail(f"{path} cannot be written: the folder {folder} may not be changed", param, ctx)
        return path


PLACE = Place(dir_okay=False, path_type=Path)
PLANNERS = ("trellis", "punctual", "greedy", "single", "max")

_USER_FILE = Path.home() / ".config" / "amble" / "config.yaml"


def verb(group: click.Group, *, name: str | None = None) -> Callable[[Function], click.Command]:
    """Make a function a verb: it gets a ``Terminal`` first, and every verb's own options are added."""

    def decorate(function: Function) -> click.Command:
        @wraps(function)
        def run(*, as_json: bool, dry_run: bool, **options: Any) -> None:
            terminal = Terminal(as_json, dry_run)
            with reporting(terminal):
                function(terminal, **options)

        decorated: Function = run
        for option in _EVERYWHERE:
            decorated = option(decorated)
        return group.command(name=name)(decorated)

    return decorate


def _configure(context: click.Context, _: click.Parameter, path: Path | None) -> None:
    """Take this verb's section of the configuration files as defaults; the nearer file wins."""
    defaults: dict[str, Any] = {}
    verbs = (
        context.parent.command.commands if context.parent and isinstance(context.parent.command, click.Group) else {}
    )
    for file in (path,) if path else (_USER_FILE, Path("amble.yaml")):
        if path or file.is_file():
            defaults |= _section(file, context.info_name or "", verbs)
    known = {parameter.name for parameter in context.command.params}
    if unknown := sorted(defaults.keys() - known):
        raise click.UsageError(f"the configuration of {context.info_name} has unknown options: {', '.join(unknown)}")
    context.default_map = defaults


def _section(file: Path, name: str, verbs: Collection[str]) -> dict[str, Any]:
    import yaml

    try:
        document = yaml.safe_load(file.read_text()) or {}
    except (OSError, yaml.YAMLError) as error:
        raise click.UsageError(f"cannot read {file} as YAML: {error}") from error
    if isinstance(document, dict) and (others := sorted(str(key) for key in document if verbs and key not in verbs)):
        raise click.UsageError(f"{file} names {', '.join(others)}, which are no verbs; there are {', '.join(verbs)}")
    section = document.get(name, {}) if isinstance(document, dict) else None
    if not isinstance(section, dict):
        raise click.UsageError(f"{file} must map verbs to options, as in 'plan: {{deadline: 20ms}}'")
    return {str(key).replace("-", "_"): value for key, value in section.items()}


_EVERYWHERE = (
    click.option("--json", "as_json", is_flag=True, help="Print one JSON document and nothing else."),
    click.option("--dry-run", is_flag=True, help="Say what would be done; change and write nothing."),
    click.option(
        "--config",
        type=click.Path(dir_okay=False, path_type=Path),
        is_eager=True,
        expose_value=False,
        callback=_configure,
        help="YAML file of options by verb (else amble.yaml here, then ~/.config/amble/config.yaml).",
    ),
)


@dataclass(frozen=True, slots=True)
class Network:
    """The network a user named, not read yet."""

    model: str
    batch: int
    shapes: dict[str, tuple[int, ...]]

    def load(self, device: str | None = None) -> Graph:
        """Read it; on a recorded device the name is one of its workloads."""
        return amble.load(self.model, batch=self.batch, shapes=self.shapes, device=device)

    def costs(self, device: str | None, deadline: Deadline, on_progress: OnProgress) -> tuple[Graph, Costs]:
        """Read it with its costs on a device, which are measured and fitted unless they are known."""
        if device is None and not self.model.endswith(".json") and not is_delimited(self.model):
            raise click.UsageError(f"Missing option '--device' / '-d': where is {self.model} to run?")
        return amble.costs_for(
            self.model, device or "", graph=lambda: self.load(device), deadline=deadline, on_progress=on_progress
        )


@dataclass(frozen=True, slots=True)
class Wish:
    """What a plan is to keep, and how it is to be found."""

    deadline: Deadline
    period_s: float | None
    planner: str
    exact: bool


def network_options(function: Function) -> Function:
    """Give a function the network that MODEL and its options name, as ``network``."""

    @wraps(function)
    def run(terminal: Terminal, *, model: str, batch: int, shape: tuple[str, ...], **options: Any) -> None:
        function(terminal, network=Network(model, batch, dict(map(shape_of, shape))), **options)

    for option in (
        click.argument("model"),
        click.option("--batch", type=click.IntRange(min=1), default=1, show_default=True, help="Batch size."),
        click.option("--shape", multiple=True, metavar="INPUT:D,D,…", help="Shape of an input with open axes."),
    ):
        run = option(run)
    return run


def wish_options(function: Function) -> Function:
    """Give a function what the user wishes of a plan, as ``wish``."""

    @wraps(function)
    def run(
        terminal: Terminal, *, deadline: str, period: str | None, planner: str, exact: bool, **options: Any
    ) -> None:
        period_s = None if period is None else parse_time_s(period)
        function(terminal, wish=Wish(amble.Deadline.parse(deadline), period_s, planner, exact), **options)

    for option in (
        click.option("--deadline", required=True, metavar="TIME[@pNN]", help="30ms or 30ms@p99.9; p99 unless given."),
        click.option("--period", metavar="TIME", help="Time from one request to the next (default: the deadline)."),
        click.option("--planner", type=click.Choice(PLANNERS), default="trellis", show_default=True, help="How."),
        click.option("--exact", is_flag=True, help="Close the gap to the lower bound, however long it takes."),
    ):
        run = option(run)
    return run


def shape_of(text: str) -> tuple[str, tuple[int, ...]]:
    """Read ``INPUT:D,D,…``."""
    name, _, sizes = text.rpartition(":")
    if not name or not all(size.isdigit() and int(size) > 0 for size in sizes.split(",")):
        raise click.UsageError(f"--shape {text!r} is not like input_ids:1,128")
    return name, tuple(int(size) for size in sizes.split(","))


device_option = click.option(
    "--device",
    "-d",
    envvar="AMBLE_DEVICE",
    required=True,
    metavar="URI",
    help="sim:jetson-tx2, recorded:TABLE, host, … (amble devices lists them).",
)

device_if_any = click.option(
    "--device",
    "-d",
    envvar="AMBLE_DEVICE",
    metavar="URI",
    help="sim:jetson-tx2, recorded:TABLE, … (amble devices lists them); not needed where MODEL was measured before.",
)

output_option = click.option("--output", "-o", type=PLACE, help="Write the result to this file.")
