"""How models are served: what may be chosen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from amble.core.variants import Allowance

__all__ = ["NO_LOGGING", "NO_TRACE", "Options"]

NO_TRACE = "trace settings are not changed while serving: start the server with --trace (OTEL_* say where spans go)"
NO_LOGGING = "log settings are not changed while serving: start the server with --log-format; the log is on stderr"


@dataclass(frozen=True, slots=True)
class Options:
    """How models are served. ``max_loss`` is the accuracy that may be lost on the mean.

    ``shapes`` binds open axes of inputs that are not the batch; ``trace`` sends spans to an OpenTelemetry collector.
    """

    governor: str = "amble"
    max_batch: int = 8
    max_loss: Allowance = Allowance(0.5, relative=True)
    threads: int = 1
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    trace: bool = False
