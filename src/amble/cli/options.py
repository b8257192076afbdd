"""Options that several verbs share, each group as one object."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

import amble
from amble.cli.progress import OnProgress
from amble.cli.settings import configure, long_name, named_by_variables
from amble.cli.terminal import Terminal, reporting
from amble.core.delimited import is_delimited
from amble.core.names import nearest
from amble.core.quantity import parse_time_s

if TYPE_CHECKING:
    from amble.core.graph import Graph
    from amble.core.schedule import Deadline
    from amble.core.spreading import Spread
    from amble.stages.fit.costs import Costs

__all__ = [
    "FOLDER",
    "PLACE",
    "Named",
    "Network",
    "device_if_any",
    "device_option",
    "device_to_run_on",
    "devices_option",
    "max_loss_option",
    "network_options",
    "output_option",
    "ray_option",
    "shapes_of",
    "spreading",
    "verb",
    "wish_options",
]

Function = Callable[..., None]


class Place(click.Path):
    """A path to be written, tried before any work is done for it."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Read the path; the nearest folder that exists must take a file."""
        from amble.core.files import try_writing

        path = Path(os.fsdecode(super().convert(value, param, ctx)))
        try:
            try_writing(path, folder=not self.file_okay)
        except amble.Refused as error:
            self.fail(str(error), param, ctx)
        return path


class Loss(click.ParamType):  # type: ignore[type-arg]
    """An accuracy that may be lost: points, or a share of what there is."""

    name = "LOSS"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Read it, and give it as it was written."""
        from amble.core.variants import Allowance

        try:
            Allowance.parse(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)
        return str(value)


class Named(click.ParamType):  # type: ignore[type-arg]
    """One of several names, which are looked up when they are needed: nothing is imported to show other help."""

    name = "NAME"

    def __init__(self, names: Callable[[], Sequence[str]]) -> None:
        """Take what looks the names up."""
        self._names = names

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Take a name that is known."""
        if value not in (known := self._names()):
            near = nearest(str(value), known)
            self.fail(f"{value!r} is none of {', '.join(known)}; did you mean {near!r}?", param, ctx)
        return value

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:
        """List the names in the help."""
        return f"[{'|'.join(self._names())}]"


class Several(click.Option):
    """An option that may be given as often as needed, in a file of options also as a single value."""

    def type_cast_value(self, ctx: click.Context, value: Any) -> Any:
        """Take one value for a list of it."""
        return super().type_cast_value(ctx, (value,) if isinstance(value, str) else value)


PLACE = Place(dir_okay=False, path_type=Path)
FOLDER = Place(file_okay=False, path_type=Path)


def verb(group: click.Group, *, name: str | None = None) -> Callable[[Function], click.Command]:
    """Make a function a verb: it gets a ``Terminal`` first, and every verb's own options are added."""

    def decorate(function: Function) -> click.Command:
        @wraps(function)
        def run(*, as_json: bool, dry_run: bool, **options: Any) -> None:
            terminal = Terminal(as_json, dry_run)
            _refuse_no_numbers(click.get_current_context(), options)
            _refuse_overwriting(click.get_current_context(), options)
            with reporting(terminal):
                function(terminal, **options)

        decorated: Function = run
        for option in _EVERYWHERE:
            decorated = option(decorated)
        command = group.command(name=name)(decorated)
        named_by_variables(command)
        return command

    return decorate


def _refuse_no_numbers(context: click.Context, options: Mapping[str, Any]) -> None:
    """Refuse NaN, which lies in every range since nothing is beyond it, and infinity."""
    for option in context.command.params:
        value = options.get(option.name or "")
        if isinstance(value, float) and not isfinite(value):
            raise click.BadParameter(f"{value} is not a finite number.", context, option)


def _refuse_overwriting(context: click.Context, options: Mapping[str, Any]) -> None:
    """Let nothing be written over a file that is read, or over another that is written."""
    taken: dict[Path, str] = {}
    places = [each for each in context.command.params if isinstance(each.type, Place)]
    for option in sorted(context.command.params, key=places.__contains__):
        given = options.get(option.name or "")
        if not isinstance(given, str | Path) or (not os.path.isfile(given) and option not in places):
            continue
        named = f"--{long_name(option)}" if isinstance(option, click.Option) else str(option.human_readable_name)
        real = Path(given).resolve()
        regular = not real.exists() or real.is_file()
        if option in places and regular and taken.setdefault(real, named) != named:
            raise click.UsageError(f"{named} would overwrite {given}, which is {taken[real]} too; name another file")
        taken.setdefault(real, named)


_EVERYWHERE = (
    click.option("--json", "as_json", is_flag=True, help="Print one JSON document and nothing else."),
    click.option("--dry-run", is_flag=True, help="Say what would be done; change and write nothing."),
    click.option(
        "--config",
        type=click.Path(dir_okay=False, path_type=Path),
        is_eager=True,
        expose_value=False,
        callback=configure,
        help="YAML file of options by verb (else amble.yaml here, then ~/.config/amble/config.yaml).",
    ),
)


@dataclass(frozen=True, slots=True)
class Network:
    """The network a user named, not read yet."""

    model: str
    batch: int
    shapes: dict[str, tuple[int, ...]]

    @property
    def is_measured(self) -> bool:
        """Tell whether it is a file about a network that was measured before."""
        return self.model.endswith(".json")

    def refuse_other(self, graph: Graph) -> None:
        """Refuse a batch and shapes that are not those that were measured."""
        others = [f"--batch {self.batch}"] if self.batch not in (1, graph.batch) else []
        others += [f"--shape {name}" for name, shape in self.shapes.items() if graph.shapes.get(name) != shape]
        if self.is_measured and others:
            raise click.UsageError(f"{self.model} was measured otherwise than {others[0]} says; leave it out")

    def on(self, device: str) -> str:
        """Return the device with its provider=auto made definite for this network; other devices as they are."""
        return amble.quickest(self.model, device, batch=self.batch, shapes=self.shapes)

    def load(self, device: str | None = None) -> Graph:
        """Read it; on a recorded device the name is one of its workloads."""
        return amble.load(self.model, batch=self.batch, shapes=self.shapes, device=device)

    def costs(self, device: str | None, deadline: Deadline, on_progress: OnProgress) -> tuple[Graph, Costs]:
        """Read it with its costs on a device, which are measured and fitted unless they are known."""
        if device is None and not self.is_measured and not is_delimited(self.model):
            raise click.UsageError(f"Missing option '--device' / '-d': where is {self.model} to run?")
        chosen = self.on(device) if device and not self.is_measured else device or ""
        return amble.costs_for(
            self.model, chosen, graph=lambda: self.load(chosen or None), deadline=deadline, on_progress=on_progress
        )


def network_options(function: Function) -> Function:
    """Give a function the network that MODEL and its options name, as ``network``."""

    @wraps(function)
    def run(terminal: Terminal, *, model: str, batch: int, shape: tuple[str, ...], **options: Any) -> None:
        function(terminal, network=Network(model, batch, shapes_of(shape)), **options)

    for option in (
        click.argument("model"),
        click.option("--batch", type=click.IntRange(min=1), default=1, show_default=True, help="Batch size."),
        click.option(
            "--shape",
            multiple=True,
            metavar="INPUT:D,D,…",
            help="Shape of an input with open axes; as often as needed.",
        ),
    ):
        run = option(run)
    return run


def _planners() -> tuple[str, ...]:
    from amble.stages.plan.planners import PLANNERS

    return tuple(PLANNERS)


def wish_options(function: Function) -> Function:
    """Give a function what the user wishes of a plan, as ``wish``."""

    @wraps(function)
    def run(
        terminal: Terminal, *, deadline: str, period: str | None, planner: str, exact: bool, **options: Any
    ) -> None:
        from amble.jobs.checking import Plan

        period_s = None if period is None else parse_time_s(period)
        function(terminal, wish=Plan(amble.Deadline.parse(deadline), period_s, planner, exact), **options)

    for option in (
        click.option("--deadline", required=True, metavar="TIME[@pNN]", help="30ms or 30ms@p99.9; p99 unless given."),
        click.option("--period", metavar="TIME", help="Time from one request to the next (default: the deadline)."),
        click.option("--planner", type=Named(_planners), default="trellis", show_default=True, help="How."),
        click.option("--exact", is_flag=True, help="Close the gap to the lower bound, however long it takes."),
    ):
        run = option(run)
    return run


def shapes_of(texts: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """Read ``INPUT:D,D,…`` as often as it was given; whatever is wrong with any of them is told at once."""
    found: dict[str, tuple[int, ...]] = {}
    wrong = []
    for text in texts:
        name, _, sizes = text.rpartition(":")
        if not name or not all(size.isdecimal() and int(size) > 0 for size in sizes.split(",")):
            wrong.append(f"--shape {text!r} is not like input_ids:1,128")
        elif name in found:
            wrong.append(f"--shape gives {name!r} twice")
        else:
            found[name] = tuple(int(size) for size in sizes.split(","))
    if wrong:
        raise click.UsageError("; ".join(wrong))
    return found


_DEVICE: dict[str, Any] = {
    "envvar": "AMBLE_DEVICE",
    "metavar": "URI",
    "help": "sim:jetson-tx2, recorded:TABLE, host, … (amble devices lists them).",
}
device_option = click.option("--device", "-d", required=True, **_DEVICE)
devices_option = click.option("--device", "-d", cls=Several, required=True, multiple=True, **_DEVICE)
device_to_run_on = click.option("--device", "-d", **_DEVICE)


def max_loss_option(default: str) -> Callable[[Function], Function]:
    """Return the option that says how much accuracy may be lost; the same in every verb."""
    return click.option(
        "--max-loss",
        type=Loss(),
        default=default,
        show_default=True,
        help="Accuracy that may be lost: points of 100 (1pt), or a share of what there is (0.5%).",
    )


device_if_any = click.option(
    "--device",
    "-d",
    envvar="AMBLE_DEVICE",
    metavar="URI",
    help="sim:jetson-tx2, recorded:TABLE, … (amble devices lists them); not needed where MODEL was measured before.",
)

ray_option = click.option(
    "--ray", is_flag=True, help="Spread over the Ray cluster of RAY_ADDRESS, or that runs here, else over these CPUs."
)


@contextmanager
def spreading(ray: bool, *devices: str) -> Iterator[Spread]:
    """Give what spreads independent work: over a Ray cluster if that was asked for, else one after another here.

    Refused for devices whose work cannot be done elsewhere.
    """
    from amble.core.spreading import in_order

    if not ray:
        yield in_order
        return
    from amble.services.cluster.sweeping import on_ray, refuse_real

    for each in devices:
        refuse_real(each)
    with on_ray() as spread:
        yield spread


output_option = click.option("--output", "-o", type=PLACE, help="Write the result to this file.")
