"""Options of the verb ``serve``, as one object that runs it; its log goes to stderr, as text or as JSON lines."""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import wraps
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import click

import amble
from amble.cli.options import PLACE, Named, max_loss_option, shapes_of
from amble.cli.terminal import Terminal
from amble.core.errors import Refused
from amble.core.quantity import parse_time_s

if TYPE_CHECKING:
    from amble.services.serve.doors.access import Keys
    from amble.services.serve.doors.shared_memory import Regions
    from amble.services.serve.doors.tls import Certificate
    from amble.services.serve.front import Addresses, Doors, OnReady
    from amble.services.serve.serving import Serve
    from amble.stages.control.engine import Totals

__all__ = ["Serving", "serving_options"]

_FILE = click.Path(dir_okay=False, path_type=Path)


def _governors() -> tuple[str, ...]:
    from amble.stages.control.governors.named import known

    return known()


_PORT = click.IntRange(-1, 65535)


@dataclass(frozen=True, slots=True)
class Serving:
    """What the options of ``serve`` said: what is asked for, and how it is told."""

    asked: Serve
    log_format: str
    explain: bool
    shared_memory: bool = False
    devices: tuple[str, ...] = ("host",)
    ray: bool = False
    power_budget: float | None = None

    def run(self, terminal: Terminal) -> None:
        """Serve until told to stop, then print what was served."""
        _configure(self.log_format)
        self._refuse_mixtures()
        if self.explain:
            self._explain(terminal)
            return
        totals = self._served(lambda addresses, stop: _tell(addresses, terminal))
        terminal.result(totals, lambda: ())
        refused = sum(totals.refused.values())
        terminal.note(f"amble: {totals.answered} answered, {totals.late} of them late, {refused} refused")

    @property
    def would(self) -> str:
        """Say what would be served; refused where it cannot be."""
        from amble.services.serve.serving import wishes

        self._refuse_mixtures()
        wishes(self.asked)
        return f"serve {self.asked.about} on {', '.join(self.devices)}"

    def _served(self, on_ready: OnReady) -> Totals:
        """Serve on one device, or on all of a cluster."""
        from amble.services.serve.serving import served

        if not self.ray:
            with _regions(self.shared_memory) as regions:
                return served(replace(self.asked, doors=replace(self.asked.doors, regions=regions)), on_ready)
        return amble.serve_on_ray(
            self.asked.models,
            devices=self.devices,
            objective=self.asked.objective,
            repository=self.asked.repository,
            doors=self.asked.doors,
            options=self.asked.options,
            budget_w=self.power_budget,
            on_ready=on_ready,
        )

    def _refuse_mixtures(self) -> None:
        """Refuse what one device cannot do, or several cannot."""
        log, explain = self.asked.log is not None, self.explain
        if self.ray and (log or explain):
            raise Refused(f"{'--log' if log else '--explain'} is of one device: leave --ray out for it")
        if self.ray and self.shared_memory:
            raise Refused("--shared-memory is of one process: leave --ray out for it")
        if self.ray and self.asked.fronts is not None:
            raise Refused("--fronts is of one machine: leave --ray out for it")
        if not self.ray and self.power_budget is not None:
            raise Refused("--power-budget is divided among the devices of a cluster: add --ray")

    def _explain(self, terminal: Terminal) -> None:
        """Say which models are batched, and why others are not."""
        from amble.services.serve.explaining import explain
        from amble.stages.check.tables import Table

        told = explain(self.asked)
        why = ("; ".join(filter(None, (each.reason, each.lengths))) for each in told)
        rows = [
            (each.model, each.version, "yes" if each.batched else "no", reason)
            for each, reason in zip(told, why, strict=True)
        ]
        terminal.result(told, lambda: (Table("", ("model", "version", "batched", "because"), tuple(rows)),))


def serving_options(function: Callable[..., None]) -> Callable[..., None]:
    """Give a function what the options of ``serve`` say, as ``serving``."""

    @wraps(function)
    def run(terminal: Terminal, *, log_format: str, explain: bool, shared_memory: bool, **options: Any) -> None:
        from amble.core.variants import Allowance
        from amble.services.serve.models.options import Options
        from amble.services.serve.serving import Serve

        doors = _doors(options)
        chosen = {name: options.pop(name) for name in ("governor", "max_batch", "threads", "trace")}
        max_loss, shapes = Allowance.parse(options.pop("max_loss")), shapes_of(options.pop("shape"))
        served_as = Options(**chosen, max_loss=max_loss, shapes=shapes)
        devices, ray, budget_w = (options.pop(name) for name in ("device", "ray", "power_budget"))
        asked = Serve(objective=options.pop("slo"), device=devices, doors=doors, options=served_as, **options)
        function(terminal, serving=Serving(asked, log_format, explain, shared_memory, devices, ray, budget_w))

    decorated: Callable[..., None] = run
    for option in _OPTIONS:
        decorated = option(decorated)
    return decorated


def _doors(options: dict[str, Any]) -> Doors:
    """Take what says where to listen, and whom to let in, out of the options."""
    from amble.services.serve.front import Doors

    http, grpc, metrics = (options.pop(f"{door}_port") for door in ("http", "grpc", "metrics"))
    return Doors(
        host=options.pop("host"),
        http_port=http,
        grpc_port=None if grpc < 0 else grpc,
        metrics_port=None if metrics < 0 else metrics,
        drain_s=parse_time_s(options.pop("drain")),
        keys=_keys(options.pop("api_keys")),
        control=options.pop("model_control") == "explicit",
        hosts=options.pop("allow_host"),
        tls=_certificate(*(options.pop(f"tls_{file}") for file in ("cert", "key", "client_ca"))),
    )


def _keys(path: Path | None) -> Keys | None:
    """Read the keys of the file, else those in the environment; None where there are neither."""
    from amble.services.serve.doors.access import Keys

    given = os.environ.get("AMBLE_API_KEYS", "")
    return Keys(path, given) if path is not None or given else None


def _certificate(cert: Path | None, key: Path | None, client_ca: Path | None) -> Certificate | None:
    """Read the files for TLS; None where none was named. Refused when one of them is missing."""
    from amble.services.serve.doors.tls import Certificate

    if cert is not None and key is not None:
        return Certificate(cert, key, client_ca)
    if cert is not None:
        raise Refused(f"--tls-cert {cert} needs the key of the certificate: --tls-key FILE")
    for option, path in (("--tls-key", key), ("--tls-client-ca", client_ca)):
        if path is not None:
            raise Refused(f"{option} {path} needs the certificate of the server: --tls-cert FILE --tls-key FILE")
    return None


_OPTIONS = (
    click.option(
        "--device",
        "-d",
        multiple=True,
        envvar="AMBLE_DEVICE",
        default=("host",),
        show_default=True,
        help="host, CPUs of it (host:0-3), nvml:0, or sim:CHIP; as often as there are; with --ray also RESOURCE=URI.",
    ),
    click.option(
        "--fronts",
        type=click.IntRange(min=0),
        help="Processes that talk to clients; 0: one process for everything.  [default: 0 for one device]",
    ),
    click.option(
        "--ray",
        is_flag=True,
        help="Serve on the Ray cluster of RAY_ADDRESS, or that runs here, else on one of its own.",
    ),
    click.option(
        "--power-budget", type=click.FloatRange(min=0), metavar="WATTS", help="For all devices together (with --ray)."
    ),
    click.option("--slo", metavar="TIME[@pNN]", help="Deadline of requests that bring none, as in 50ms@p99."),
    click.option("--repository", type=click.Path(file_okay=False, path_type=Path), help="MODEL/VERSION/model.onnx …"),
    click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on; 0.0.0.0 for all."),
    click.option("--allow-host", multiple=True, metavar="NAME", help="Another name of this server, behind a proxy."),
    click.option("--api-keys", type=_FILE, help="Ask for a key of this file, one a line, read again when it changes."),
    click.option("--tls-cert", type=_FILE, help="Encrypt HTTP and gRPC with this certificate (PEM, with its chain)."),
    click.option("--tls-key", type=_FILE, help="The certificate's key (PEM); both are read again when they change."),
    click.option("--tls-client-ca", type=_FILE, help="Ask clients for a certificate that one of these (PEM) signed."),
    click.option(
        "--model-control",
        type=click.Choice(("none", "explicit")),
        default="none",
        show_default=True,
        help="Whether clients may load and unload models.",
    ),
    click.option("--http-port", type=_PORT, default=8000, show_default=True, help="0 takes a free one."),
    click.option("--grpc-port", type=_PORT, default=8001, show_default=True, help="-1 leaves it out."),
    click.option("--metrics-port", type=_PORT, default=8002, show_default=True, help="-1 leaves it out."),
    click.option("--governor", type=Named(_governors), default="amble", show_default=True, help="Who decides."),
    click.option("--max-batch", type=click.IntRange(min=1), default=8, show_default=True, help="Largest batch."),
    max_loss_option("0.5%"),
    click.option("--threads", type=click.IntRange(min=1), default=1, show_default=True, help="Of the runtime."),
    click.option(
        "--shape",
        multiple=True,
        metavar="INPUT:D,D,…",
        help="Shape of an input with open axes, of all models that have it.",
    ),
    click.option("--drain", default="30s", show_default=True, metavar="TIME", help="Time to answer what was accepted."),
    click.option("--shared-memory", is_flag=True, help="Let clients on this machine pass tensors in /dev/shm."),
    click.option("--explain", is_flag=True, help="Say which models are batched and why others are not; serve nothing."),
    click.option("--trace", is_flag=True, help="Send spans by OTLP (OTEL_* variables say where to)."),
    click.option("--log", type=PLACE, help="Keep what happened in this file: amble check and amble fit read it."),
    click.option(
        "--log-format", type=click.Choice(("text", "json")), default="text", show_default=True, help="On stderr."
    ),
)


@contextmanager
def _regions(offered: bool) -> Iterator[Regions | None]:
    """Make a place where regions of shared memory are noted, where they are offered."""
    if not offered:
        yield None
        return
    from amble.services.serve.doors.shared_memory import Regions

    with TemporaryDirectory(prefix="amble-regions-") as folder:
        yield Regions(Path(folder))


def _tell(addresses: Addresses, terminal: Terminal) -> None:
    """Say where the server listens, once it takes requests."""
    if terminal.as_json:
        click.echo(
            json.dumps({"ready": {name: getattr(addresses, name) for name in type(addresses).__slots__}}), err=True
        )
        return
    terminal.note(f"serving {', '.join(addresses.models) or 'no model yet'}")
    for name, where in (("HTTP", addresses.http), ("gRPC", addresses.grpc), ("metrics", addresses.metrics)):
        if where:
            terminal.note(f"  {name:8} {where}")
    if addresses.dashboard:
        terminal.note(f"  look at  {addresses.dashboard}")


def _configure(log_format: str) -> None:
    """Send amble's own log, and uvicorn's complaints, to stderr."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        _Lines() if log_format == "json" else logging.Formatter("%(asctime)s %(levelname)s %(message)s")
    )
    for name, level in (("amble", logging.INFO), ("uvicorn.error", logging.WARNING)):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(level)


class _Lines(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        """Write a record."""
        found = {
            "time_s": round(record.created, 6),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            found["exception"] = self.formatException(record.exc_info)
        return json.dumps(found)
