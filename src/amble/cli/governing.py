"""The verb ``govern``: a running server's metrics page → its clocks, and the proof of what that saved."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

import amble
from amble.cli.options import output_option, verb
from amble.cli.terminal import Terminal
from amble.cli.verbs import main
from amble.core.errors import Refused
from amble.core.point import Clocks
from amble.core.quantity import parse_time_s

if TYPE_CHECKING:
    from amble.services.govern.maps import Probe
    from amble.services.govern.watching import Told

__all__ = ["govern"]

_FILE = click.Path(dir_okay=False, path_type=Path)
_TOLD_S = 10.0


@verb(main)
@click.argument("urls", nargs=-1, required=True, metavar="URL...")
@click.option("--slo", "objectives", multiple=True, metavar="'KIND pNN < TIME'", help="latency, ttft, itl or queue.")
@click.option("--device", "-d", "devices", multiple=True, metavar="URI", help="nvml:0, host, sysfs:gpu, quota:CGROUP.")
@click.option("--watch", is_flag=True, help="Change nothing; needs no rights.")
@click.option("--probe", is_flag=True, help="Only say what is recognised on the page, and what is missing.")
@click.option("--period", default="1s", show_default=True, metavar="TIME", help="From one look to the next.")
@click.option("--control", type=click.FloatRange(0, 50), default=10.0, show_default=True, help="Percent as found.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of the blocks as found.")
@click.option("--extra", type=click.FloatRange(0, 50), default=0.1, show_default=True, help="Percent it may make late.")
@click.option("--map", "map_file", type=_FILE, help="YAML: what the series of another server mean.")
@click.option("--token-file", type=_FILE, help="File with a bearer token.")
@click.option("--ca", type=_FILE, help="Certificates to trust, PEM.")
@click.option("--canary", type=_FILE, metavar="REQUEST.json", help="Measure by a request of our own.")
@click.option("--canary-rate", type=click.FloatRange(min=0.01), default=0.5, show_default=True, help="A second.")
@click.option("--proxy", metavar=":PORT=:PORT", help="Measure what passes from the first port to the server's.")
@click.option("--costs", "--table", "costs", type=_FILE, help="Measured table or costs.json, at this device's clocks.")
@click.option("--workload", metavar="NAME", help="Which workload of --costs the server runs.")
@click.option("--for", "for_time", metavar="TIME", help="End after this (default: until interrupted).")
@click.option("--metrics-port", type=click.IntRange(1, 65535), help="Serve amble_govern_* here.")
@click.option("--metrics-host", default="127.0.0.1", show_default=True, metavar="HOST", help="Address to serve it on.")
@click.option("--variants", metavar="PROGRAM", help="Turns a router to a faster variant (see docs/govern.md).")
@click.option("--capacity", type=click.FloatRange(min=0, min_open=True), help="Requests/s at top clocks; allows a cap.")
@click.option("--cap-token-file", type=_FILE, help="File with the token of who may set a cap (amble budget).")
@output_option
def govern(terminal: Terminal, *, urls: tuple[str, ...], probe: bool, output: Path | None, **options: Any) -> None:
    """Keep a running server on time at the least energy: read its metrics at URL, set the clocks of its device.

    The server stays as it is: vLLM, SGLang, TGI, Triton, llama.cpp, OpenVINO, KServe, MLServer, Ray Serve, amble, or
    another one with --map. A tenth of the time, by lot, clocks are as found, so that what is saved is measured. At the
    end, and after whatever goes wrong, clocks are as they were found. amble check LOG and amble show LOG read the log.
    """
    from amble.services.govern.governing import Watching

    names = ("watch", "seed", "ca", "canary", "proxy", "costs", "workload", "metrics_port", "metrics_host", "variants")
    how = Watching(
        **{name: options[name] for name in names},
        period_s=_period_s(options["period"]),
        control=options["control"] / 100.0,
        extra=options["extra"] / 100.0,
        map=options["map_file"],
        token=_token(options["token_file"], "--token-file"),
        capacity_hz=options["capacity"],
        cap_token=_token(options["cap_token_file"], "--cap-token-file"),
        canary_hz=options["canary_rate"],
        for_s=None if options["for_time"] is None else parse_time_s(options["for_time"]),
    )
    if probe:
        found = [amble.probe(url, how=how) for url in urls]
        terminal.result(found, lambda: [_probed(each) for each in found])
        sys.exit(0)
    if terminal.dry_run:
        terminal.would(f"govern {', '.join(urls)} on {', '.join(options['devices']) or 'no device'}")
        return
    tell = _Teller(terminal)
    try:
        logs = amble.govern(
            urls,
            objectives=options["objectives"],
            devices=options["devices"],
            output=output,
            how=how,
            on_period=tell.period,
        )
    except KeyboardInterrupt:
        terminal.note("amble: stopped; clocks are as they were found")
        if output is not None:
            terminal.note(f"amble: the log is in {output}; read it with amble check {output}")
        return
    proofs = [amble.prove(each) for each in logs]
    terminal.result(proofs, lambda: [table for each in proofs for table in amble.show(each)])


class _Teller:
    """Says now and then, and whenever something changes for the worse, what happens."""

    def __init__(self, terminal: Terminal) -> None:
        self._terminal = terminal
        self._next_s = 0.0
        self._said = ""

    def period(self, told: Told) -> None:
        now_s, period = time.monotonic(), told.period
        if period.note and period.note != self._said:
            self._terminal.note(f"amble: {period.note}")
        elif now_s >= self._next_s and not self._terminal.as_json:
            power = "" if period.energy_j is None or not period.span_s else f", {period.energy_j / period.span_s:.0f} W"
            rate = period.finished / period.span_s if period.span_s else 0.0
            asked = "as found" if period.asked == Clocks() else str(period.asked)
            self._terminal.note(f"{rate:.1f} requests/s, {asked}{power}: {told.choice.reason}")
            self._next_s = now_s + _TOLD_S
        self._said = period.note


def _period_s(text: str) -> float:
    period_s = parse_time_s(text)
    if not 0.05 <= period_s <= 10.0:
        raise Refused(f"--period {text}: a period is from 50ms to 10s")
    return period_s


def _token(path: Path | None, option: str) -> str | None:
    if path is None:
        return None
    try:
        return path.read_text().strip()
    except OSError as error:
        raise Refused(f"cannot read {option} {path}: {error.strerror}") from error


def _probed(found: Probe) -> Any:
    from amble.stages.check.cells import Table

    rows = [(what, series) for what, series in found.found.items()]
    rows += [(what, f"missing: {why}") for what, why in found.missing.items()]
    return Table(f"Recognised: {found.server}", ("quantity", "series"), tuple(rows), (found.noted,))
