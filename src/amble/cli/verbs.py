"""The verbs of the command line, in the order in which a plan comes about.

Results go to stdout (one JSON document with ``--json``), progress and errors to stderr. Exit codes: 0 done or PASS,
1 FAIL or infeasible, 2 wrong use, 130 interrupted. Options come from the command line, then ``AMBLE_*`` variables, then
``--config`` or ``amble.yaml`` here, then the user's file, then the defaults.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

import amble
from amble.cli.group import Verbs
from amble.cli.options import (
    FOLDER,
    PLACE,
    Network,
    device_if_any,
    device_option,
    device_to_run_on,
    devices_option,
    max_loss_option,
    network_options,
    output_option,
    ray_option,
    spreading,
    verb,
    wish_options,
)
from amble.cli.serving import Serving, serving_options
from amble.cli.surveying import survey
from amble.cli.terminal import Terminal, kept_below, kept_in
from amble.core.quantity import parse_hz, parse_time_s

if TYPE_CHECKING:
    from amble.jobs.artefacts import Artefact
    from amble.jobs.checking import Plan

__all__ = ["main"]

_FILE = click.Path(dir_okay=False, path_type=Path)
_UNFINISHED = "what it held before, and with --mixed what single layers were found to lose"


@click.group(
    cls=Verbs,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog="Start with: amble plan fashion-resnet --device sim:jetson-tx2 --deadline 20ms",
)
@click.version_option(package_name="amble")
def main() -> None:
    """Make neural networks answer on time with the least energy, and prove both.

    amble measures a model on a device (measure), learns what every operator costs at every clock (fit), plans the
    cheapest way to meet a deadline (plan), and runs the plan beside its baselines (check). Each step reads and writes
    a readable JSON file, and may start from one; plan alone measures and fits first.

    MODEL is an ONNX file, or fashion-resnet (bundled). Devices are named by URI: sim:jetson-tx2, host, ...

    Every option can also be set by a variable (AMBLE_PLAN_DEADLINE=20ms; AMBLE_DEVICE for all verbs) or in amble.yaml
    (plan: {deadline: 20ms}).
    """


@verb(main)
@click.option("--check", metavar="URI", help="Examine this device: a verdict and a remedy a line.")
@click.option(
    "--period", default="10ms", show_default=True, metavar="TIME", help="From one request to the next, there."
)
def devices(terminal: Terminal, *, check: str | None, period: str) -> None:
    """List what can be opened here, its clocks and meters, and which right is missing.

    With --check one device is tried with a small network: asked against held clocks, what the governor costs at your
    period, clocks that somebody left locked, throttling, noise, the meter. Exit code 1 when something is bad.
    """
    if check is not None:
        findings = amble.examine(check, period_s=parse_time_s(period))
        terminal.result(findings, lambda: amble.show(findings))
        sys.exit(1 if any(each.verdict == "bad" for each in findings) else 0)
    found = amble.devices()
    terminal.result(found, lambda: amble.show(found))


@verb(main)
@network_options
@devices_option
@output_option
@click.option("--points", type=click.IntRange(min=1), help="Clock settings to measure (default: what a fit needs).")
@click.option("--repeats", type=click.IntRange(min=3), default=20, show_default=True, help="Runs at each setting.")
@click.option("--all-clocks", is_flag=True, help="Run MODEL at every setting instead, and write a table (-o FILE.csv).")
@click.option(
    "--changes", type=click.IntRange(min=3), help="Also time so many changes of each clock, until work feels it."
)
@ray_option
def measure(
    terminal: Terminal,
    *,
    network: Network,
    device: tuple[str, ...],
    output: Path | None,
    points: int | None,
    repeats: int,
    all_clocks: bool,
    changes: int | None,
    ray: bool,
) -> None:
    """Measure every operator of MODEL at the few clock settings that tell most.

    An interrupted measurement goes on where it stopped when it is called again with the same -o. A table of all clocks
    has the time and power of whole runs, and of the idle device, in the schema that amble fit and recorded:FILE read.

    Of several devices each gets a file of its own: -d sim:v100 -d sim:a100 -o profile.json makes profile-v100.json and
    profile-a100.json. Simulated ones may be spread over a cluster (--ray).
    """
    if len(device) > 1 or ray:
        if all_clocks or changes is not None or output is None:
            raise click.UsageError("several devices, or --ray: give -o FILE.json, and no --all-clocks or --changes")
        survey(terminal, network, device, output, (points, repeats), ray)
        return
    from amble.jobs.costing import Measure, measured

    if all_clocks and (points is not None or output is None or not output.name.endswith((".csv", ".csv.gz"))):
        raise click.UsageError("--all-clocks measures every setting into a table: give -o FILE.csv, and no --points")
    uri = network.on(device[0])
    graph, opened = network.load(uri), amble.open(uri)
    if terminal.dry_run:
        terminal.would(f"measure {len(graph.operators)} operators of {graph.name} on {opened.name}")
        return
    asked = Measure(points=points, repeats=repeats, keep=output.with_name(f"{output.name}.part") if output else None)
    left = kept_in(asked.keep)
    with terminal.progress(f"measuring {graph.name}", kept=lambda: left() + _clocks_of(uri)) as on_progress:
        if all_clocks:
            table = amble.tabulate(
                graph, opened, output=output, repeats=repeats, keep=asked.keep, on_progress=on_progress
            )
        else:
            profile = measured(graph, opened, asked, on_progress)
            if changes is not None:
                profile = amble.with_transitions(profile, graph, opened, repeats=changes)
    if all_clocks and output is not None:
        terminal.note(f"wrote {output}")
        terminal.result(table, lambda: amble.show(table))
    else:
        _give(terminal, profile, output)


@verb(main)
@click.argument("source", type=_FILE)
@output_option
@click.option("--model", default="amble", show_default=True, metavar="NAME", help="Which laws to fit.")
@click.option("--trtexec", metavar="CLOCK", help="SOURCE is from trtexec --exportProfile, run at this core clock.")
def fit(terminal: Terminal, *, source: Path, output: Path | None, model: str, trtexec: str | None) -> None:
    """Fit the latency and power laws to SOURCE: a profile, or a table measured elsewhere (.csv, .tsv, .txt, .gz).

    SOURCE may also be the log of a server (amble serve --log): it tells what the settings cost that ran in it.

    Prints the error on points that were held out. TensorRT's layer profiles (trtexec --exportProfile=FILE) can be read
    too; they tell times at one clock only: --trtexec 1410MHz.
    """
    measured = source if trtexec is None else amble.import_layers(source, core_hz=parse_hz(trtexec))
    _give(terminal, amble.fit(measured, model=model), output)


@verb(main)
@click.argument("costs", type=_FILE)
@click.option("--at", type=_FILE, required=True, help="Table of points (.csv); core_hz may be empty.")
@output_option
def predict(terminal: Terminal, *, costs: Path, at: Path, output: Path | None) -> None:
    """Fill in latency_s and power_w, with 90 % intervals, at the points of a table."""
    predicted = amble.predict(costs, at=at, output=None if terminal.dry_run else output)
    if output is not None and not terminal.dry_run:
        terminal.note(f"wrote {output}")
    terminal.result(predicted, lambda: amble.show(predicted))


@verb(main)
@network_options
@device_if_any
@wish_options
@output_option
@click.option("--workload", metavar="NAME", help="Of a fitted table of several: which, or all one after another.")
@click.option("--at", type=_FILE, help="Of a fitted table: a table of settings that may be chosen beside the measured.")
@click.option("--dram", type=_FILE, help="A mapping of amble dram: the memory's energy (predicted) then counts.")
@click.option("--script", type=PLACE, help="Also write the plan as a shell script that needs no amble.")
@click.option("--csv", type=PLACE, help="Also write the plan as stage,instruction,frequency,time,energy.")
def plan(
    terminal: Terminal,
    *,
    network: Network,
    device: str | None,
    wish: Plan,
    output: Path | None,
    workload: str | None,
    at: Path | None,
    dram: Path | None,
    script: Path | None,
    csv: Path | None,
) -> None:
    """Choose the clocks for every operator: least energy within the deadline.

    MODEL may also be a profile, a costs file or a fitted table. A network is measured and fitted first, once (kept by
    content); that takes a --device.
    """
    from amble.jobs.checking import planned

    if workload or at:
        graph, costs = amble.costs_of(network.model, workload=workload, at=at, device=device or "")
    else:
        clocks = "" if network.is_measured else _clocks_of(device or "")
        left = f"what was measured is kept; the same call goes on from there{clocks}"
        with terminal.progress(f"measuring {network.model}", kept=lambda: left) as on_progress:
            graph, costs = network.costs(device, wish.deadline, on_progress)
    network.refuse_other(graph)
    schedule = planned(graph, costs, replace(wish, dram=dram))
    if not terminal.dry_run:
        amble.export_files(schedule, output=output, script=script, csv=csv)
        _wrote(terminal, output)
    terminal.result(schedule, lambda: amble.show(schedule))


@verb(main)
@network_options
@device_option
@click.option("--data", metavar="FILE.npz", help="An array for each input, and labels if there are any; or 'bundled'.")
@max_loss_option("1pt")
@click.option("--examples", type=click.IntRange(min=1), default=2000, show_default=True, help="Most to judge by.")
@click.option("--mixed", is_flag=True, help="Also leave single operators in FP32, where that is worth it.")
@click.option("--alike", type=click.FloatRange(0, 1), default=0.99, show_default=True, help="Least cosine to agree.")
@click.option("--rounds", type=click.IntRange(min=6), default=15, show_default=True, help="Of comparing times.")
@click.option(
    "--output",
    "-o",
    type=FOLDER,
    required=True,
    help="Folder for the variants that are kept, and variants.json about all of them.",
)
@ray_option
def quantize(
    terminal: Terminal,
    *,
    network: Network,
    device: str,
    output: Path,
    ray: bool,
    **wishes: Any,
) -> None:
    """Make MODEL cheaper by INT8, FP16 and BF16, and keep what is worth having on this device.

    Every variant is timed beside the network as given, and answers the same examples. One that is not faster, or
    loses more accuracy than allowed (without labels: agreement with the network as given), is refused with its
    numbers.
    """
    from amble.levers.precision.quantizing import Quantize, quantized

    asked = Quantize(network.model, batch=network.batch, shapes=network.shapes, device=device, output=output, **wishes)
    if terminal.dry_run:
        terminal.would(f"try the variants of {network.model} on {device} and keep the good ones in {output}")
        return
    progress = terminal.progress(f"quantizing {network.model}", kept=kept_below(output, _UNFINISHED))
    with spreading(ray, device) as spread, progress as on_progress:
        found = quantized(asked, lambda what, done, total: on_progress(done, total, what), spread)
    terminal.note(f"wrote {output}")
    terminal.result(found, lambda: amble.show(found))


@verb(main)
@click.argument("schedule", metavar="SCHEDULE|LOG|URL")
@device_to_run_on
@click.option("--load", "arrivals", metavar="LOAD", help="Such as poisson:20/s:60s (default: 1000 periodic requests).")
@click.option("--deadline", "--slo", "deadline", metavar="TIME[@pNN]", help="What a server is held to, as in 50ms@p99.")
@click.option("--data", metavar="FILE.npz", help="Labelled inputs to answer, or 'bundled'; accuracy is then measured.")
@output_option
@click.option("--html", type=PLACE, help="Also write a page with plots.")
@click.option("--trace", type=PLACE, help="Also write a trace for Perfetto or chrome://tracing.")
def check(
    terminal: Terminal,
    *,
    schedule: str,
    device: str | None,
    arrivals: str | None,
    deadline: str | None,
    data: str | None,
    output: Path | None,
    html: Path | None,
    trace: Path | None,
) -> None:
    """Run SCHEDULE and its baselines on a device, or ask the server at URL, and judge: PASS (exit code 0) or FAIL (1).

    The baselines are the maximum clocks, the best single setting and, on simulated devices, the operating system's
    governor. Too few requests for a verdict is INCONCLUSIVE, which is not a PASS. A URL names a server of the Open
    Inference Protocol, amble's or another one, and its model: http://127.0.0.1:8000/v2/models/NAME, the name left out
    where it serves one. It needs --load and --deadline; a request that it refuses counts as late. A LOG is what amble
    serve --log or amble govern kept: it is judged as it is, by its own objectives or --deadline.
    """
    from amble.jobs.checking import Check, checked
    from amble.stages.check.logs import is_log

    if not device and amble.is_governed(schedule):
        _prove(terminal, Path(schedule), output, html)
    log = not device and is_log(schedule)
    if not log:
        device = _device_of(schedule, device, arrivals, deadline)
    if terminal.dry_run:
        what = f"run {schedule} and its baselines on {device}" if device else f"send requests to {schedule}"
        terminal.would(f"judge {schedule}" if log else f"{what} under {arrivals or 'periodic requests'}")
        return
    with terminal.progress("serving", kept=lambda: f"nothing of it is kept{_clocks_of(device or '')}") as on_progress:
        found = checked(Check(schedule, device, deadline, arrivals, data), on_progress)
    amble.export_files(found, output=output, html=html, trace=trace)
    terminal.result(found.report, lambda: amble.show(found.report)[:2])
    sys.exit(0 if found.report.verdict == "PASS" else 1)


def _prove(terminal: Terminal, log: Path, output: Path | None, html: Path | None) -> NoReturn:
    """Judge the log of a governed server."""
    proof = amble.prove(log)
    amble.export_files(proof, output=output, html=html)
    terminal.result(proof, lambda: amble.show(proof))
    sys.exit(0 if proof.verdict == "PASS" else 1)


@verb(main)
@click.argument("models", nargs=-1, metavar="[[NAME=]MODEL]...")
@serving_options
def serve(terminal: Terminal, *, serving: Serving) -> None:
    """Serve models over the Open Inference Protocol: HTTP, gRPC, metrics, and a dashboard at /dashboard.

    MODEL is an ONNX file, fashion-resnet (bundled), a schedule of amble plan, or variants.json of amble quantize; what
    follows a question mark is said of it alone, as in text=encoder.onnx?seq=128&examples=texts.npz&batch=4.
    Clients of Triton and KServe work unchanged. A request may bring a deadline (the parameter timeout, in
    microseconds) and a priority; one that cannot be answered in time is refused at once. SIGTERM and Ctrl-C answer
    what was accepted, put the clocks back and end.
    """
    if terminal.dry_run:
        terminal.would(serving.would)
        return
    serving.run(terminal)


@verb(main)
@click.argument("file", type=_FILE)
@click.option("--html", type=PLACE, help="Also write a page with plots.")
def show(terminal: Terminal, *, file: Path, html: Path | None) -> None:
    """Show any file that amble wrote as tables, or as a page with plots."""
    artefact = amble.read(file)
    if html is not None and not terminal.dry_run:
        amble.export_files(artefact, html=html)
    terminal.result(artefact, lambda: amble.show(artefact))


@verb(main)
def restore(terminal: Terminal) -> None:
    """Put back every clock that a killed run left changed."""
    restored = amble.restore(dry_run=terminal.dry_run)
    if not restored:
        terminal.note("no run left clocks changed")
    terminal.result(restored, lambda: amble.show(restored) if restored else ())


def _give(terminal: Terminal, artefact: Artefact, output: Path | None) -> None:
    """Show an artefact, and save it where it was asked for."""
    if output is not None and not terminal.dry_run:
        amble.save(artefact, output)
        _wrote(terminal, output)
    terminal.result(artefact, lambda: amble.show(artefact))


def _wrote(terminal: Terminal, output: Path | None) -> None:
    if output is not None:
        terminal.note(f"wrote {output}")


def _device_of(schedule: str, device: str | None, arrivals: str | None, deadline: str | None) -> str | None:
    """Return the device to check on; None for a server, whose device is its own affair. UsageError for a mixture."""
    if schedule.startswith(("http://", "https://")):
        if missing := [name for name, value in (("--load", arrivals), ("--deadline", deadline)) if not value]:
            raise click.UsageError(f"to check a server give {' and '.join(missing)}")
        return None
    if "://" in schedule:
        raise click.UsageError(f"a server is asked at http://… or https://…, not at {schedule}")
    if deadline:
        raise click.UsageError("a schedule is held to the deadline it was planned for; leave --deadline out")
    if not device:
        raise click.UsageError("Missing option '--device' / '-d': a schedule is run on a device")
    return device


def _clocks_of(device: str) -> str:
    """Say that clocks were put back, where a device has real ones."""
    from amble.inputs import back_end

    return "" if not device or back_end(device).simulated else "; clocks are as they were found"
