"""Counters → Prometheus' text: the ecosystem's ``nv_*`` names, and our own in SI units.

Written by hand, because some readers take ``1.005e+02`` for 1.005 and want ``gpu_uuid`` alone: plain decimals, and no
metric at all for what is unknown.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

from amble.core.point import DOMAINS, Clocks
from amble.services.serve.telling.ledger import Book, Histogram, Ledger
from amble.stages.control.engine import Totals

__all__ = ["Host", "Seen", "host", "processes", "text"]

Labels = Mapping[str, str]
Row = tuple[Labels, float]


@dataclass(frozen=True, slots=True)
class Host:
    """This machine: the share of its processors that works (0 to 1), its memory [bytes]."""

    utilization: float | None = None
    total_bytes: int | None = None
    used_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Seen:
    """What is known of a device at one moment beside the ledger: over the last moments.

    ``limit_w`` is the power limit, ``asked`` and ``ran_at`` are clocks; None is unknown.
    """

    device: str
    version: str
    calibration: str
    energy_j: float | None = None
    power_w: float | None = None
    utilization: float | None = None
    ran_at: Clocks = Clocks()
    asked: Clocks | None = None


def text(ledger: Ledger, devices: Iterable[tuple[Totals, Seen]], machine: Host) -> str:
    """Write everything that is known, of each device under its name."""
    written = _Page()
    for (name, version), book in list(ledger.books.items()):
        labels = {"model": name, "version": version}
        _triton(written, labels, book)
        _own(written, labels, book)
    for totals, seen in devices:
        _device(written, seen)
        _clocks(written, seen)
        _totals(written, totals, seen)
    _host(written, machine)
    return written.text()


def processes(found: Iterable[tuple[str, bool, Mapping[str, int]]]) -> str:
    """Write of each process of a server whether it does its work, and how many were replaced, by cause."""
    written = _Page()
    for name, up, replaced in found:
        written.add("amble_process_up", "gauge", "Whether a process does its work", [({"process": name}, float(up))])
        rows = [({"process": name, "cause": cause}, float(count)) for cause, count in replaced.items()]
        written.add("amble_process_replaced_total", "counter", "Processes that died, or hung and were ended", rows)
    return written.text()


class _Page:
    """Metrics in order of their first row; every one is described once."""

    def __init__(self) -> None:
        self._lines: dict[str, list[str]] = {}

    def add(self, name: str, kind: str, help_text: str, rows: Iterable[Row]) -> None:
        """Add rows of a metric that is one number each."""
        self._under(name, kind, help_text).extend(f"{name}{_labels(labels)} {_plain(value)}" for labels, value in rows)

    def histogram(self, name: str, help_text: str, labels: Labels, found: Histogram) -> None:
        """Add a histogram."""
        below = 0
        lines = self._under(name, "histogram", help_text)
        for bound, count in zip((*found.bounds, float("inf")), found.counts, strict=True):
            below += count
            edge = "+Inf" if bound == float("inf") else _plain(bound)
            lines.append(f"{name}_bucket{_labels({**labels, 'le': edge})} {below}")
        lines.append(f"{name}_sum{_labels(labels)} {_plain(found.total)}")
        lines.append(f"{name}_count{_labels(labels)} {below}")

    def text(self) -> str:
        """Return the page."""
        return "\n".join(line for lines in self._lines.values() for line in lines) + "\n"

    def _under(self, name: str, kind: str, help_text: str) -> list[str]:
        return self._lines.setdefault(name, [f"# HELP {name} {help_text}", f"# TYPE {name} {kind}"])


def _triton(page: _Page, labels: Labels, book: Book) -> None:
    """Write what dashboards for Triton read; times in µs."""
    counters = (
        ("nv_inference_request_success", "Requests that were answered", book.success),
        ("nv_inference_count", "Inferences, a batch of n counts n", book.rows),
        ("nv_inference_exec_count", "Batches that were run", book.batches),
        ("nv_inference_request_duration_us", "Time from arrival to answer", book.success_ns / 1e3),
        ("nv_inference_queue_duration_us", "Time in the queue", book.queue_ns / 1e3),
        ("nv_inference_compute_input_duration_us", "Time for the inputs", book.input_ns / 1e3),
        ("nv_inference_compute_infer_duration_us", "Time in the network", book.infer_ns / 1e3),
        ("nv_inference_compute_output_duration_us", "Time for the outputs", book.output_ns / 1e3),
    )
    for name, help_text, value in counters:
        page.add(name, "counter", help_text, [(labels, value)])
    reasons = ("REJECTED", "CANCELED", "BACKEND", "OTHER")
    rows = [({**labels, "reason": reason}, float(book.failures[reason])) for reason in reasons]
    page.add("nv_inference_request_failure", "counter", "Requests without an answer", rows)
    page.add("nv_inference_pending_request_count", "gauge", "Requests that wait", [(labels, book.pending)])


def _own(page: _Page, labels: Labels, book: Book) -> None:
    outcomes = {"met": book.met, "late": book.late, "refused": sum(book.refused.values()) - book.refused["canceled"]}
    page.add("amble_requests_total", "counter", "Requests by outcome", _each(labels, "outcome", outcomes))
    page.add(
        "amble_refusals_total", "counter", "Requests without an answer, by cause", _each(labels, "cause", book.refused)
    )
    page.add("amble_answers_total", "counter", "Answers by precision", _each(labels, "precision", book.precisions))
    page.histogram("amble_request_duration_seconds", "Time from arrival to answer", labels, book.duration)
    page.histogram("amble_queue_duration_seconds", "Time in the queue", labels, book.queue)
    page.histogram("amble_slack_seconds", "Time left until the deadline; below zero is late", labels, book.slack)
    if book.energy.count:
        page.histogram("amble_request_energy_joules", "Energy of one request, without idling", labels, book.energy)
    if book.error_ratio is not None:
        row = (labels, book.error_ratio)
        page.add("amble_prediction_error_ratio", "gauge", "Measured over predicted time, less one", [row])


def _each(labels: Labels, name: str, counts: Mapping[str, int]) -> Iterator[Row]:
    for key, count in list(counts.items()):
        yield {**labels, name: key}, count


def _device(page: _Page, seen: Seen) -> None:
    labels = {"gpu_uuid": seen.device.replace(":", "-")}  # perf_analyzer's readers split at the colon
    known = (
        ("nv_gpu_utilization", "gauge", "Share of the time in which the device works", seen.utilization),
        ("nv_gpu_power_usage", "gauge", "Power in W", seen.power_w),
        ("nv_gpu_power_limit", "gauge", "Power limit in W", seen.ran_at.power_limit_w),
        ("nv_energy_consumption", "counter", "Energy in J since the start", seen.energy_j),
    )
    for name, kind, help_text, value in known:
        if value is not None:
            page.add(name, kind, help_text, [(labels, value)])


def _clocks(page: _Page, seen: Seen) -> None:
    for kind, clocks in (("asked", seen.asked), ("ran", seen.ran_at)):
        rows: list[Row] = []
        for domain in DOMAINS:
            if clocks is not None and (clock_hz := clocks.of(domain)) is not None:
                rows.append(({"device": seen.device, "domain": domain, "kind": kind}, clock_hz))
        if rows:
            page.add("amble_clock_hertz", "gauge", "Clocks that were asked for, and that ran", rows)


def _totals(page: _Page, totals: Totals, seen: Seen) -> None:
    labels = {"device": seen.device}
    page.add("amble_clock_changes_total", "counter", "Changes of clocks", [(labels, totals.changes)])
    page.add(
        "amble_clock_refusals_total", "counter", "Changes of clocks that were refused", [(labels, totals.unchanged)]
    )
    if totals.active_j is not None and totals.idle_j is not None and seen.energy_j is not None:
        rows = [({**labels, "kind": "active"}, totals.active_j), ({**labels, "kind": "idle"}, totals.idle_j)]
        page.add("amble_energy_joules_total", "counter", "Energy in batches, and between them", rows)
    facts = {"version": seen.version, "device": seen.device, "calibration": seen.calibration}
    page.add("amble_build_info", "gauge", "What runs here", [(facts, 1)])


def _host(page: _Page, seen: Host) -> None:
    known = (
        ("nv_cpu_utilization", "Share of the processors' time in use", seen.utilization),
        ("nv_cpu_memory_total_bytes", "Memory", seen.total_bytes),
        ("nv_cpu_memory_used_bytes", "Memory in use", seen.used_bytes),
    )
    for name, help_text, value in known:
        if value is not None:
            page.add(name, "gauge", help_text, [({}, value)])


def host(before: tuple[int, int] | None, root: Path = Path("/proc")) -> tuple[Host, tuple[int, int] | None]:
    """Read how busy this machine is, since ``before`` → that, and the counters for the next time."""
    try:
        ticks = [int(word) for word in (root / "stat").read_text().split("\n", 1)[0].split()[1:9]]
        lines = dict(line.split(":") for line in (root / "meminfo").read_text().splitlines())
        total, free = (int(lines[name].split()[0]) * 1024 for name in ("MemTotal", "MemAvailable"))
    except (OSError, ValueError, KeyError):
        return Host(), None
    now = (sum(ticks) - ticks[3] - ticks[4], sum(ticks))
    passed = now[1] - before[1] if before else 0
    busy = (now[0] - before[0]) / passed if before and passed > 0 else None
    return Host(busy, total, total - free), now


def _labels(labels: Labels) -> str:
    if not labels:
        return ""
    inside = ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items())
    return f"{{{inside}}}"


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def _plain(value: float) -> str:
    """Write a number without an exponent."""
    if value == int(value):
        return str(int(value))
    return format(Decimal(repr(float(value))), "f")
