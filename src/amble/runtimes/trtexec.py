"""A layer profile of TensorRT (``trtexec --exportProfile=FILE``) → a Graph of its layers, and a Profile at one point.

The file is a list: ``{"count": runs}``, then for each layer ``name``, ``timeMs`` (all runs), ``averageMs`` and, since
TensorRT 8.2, ``medianMs``. It tells neither work nor traffic nor energy, so flops and bytes are 0 and energy unknown.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import msgspec

from amble.core.errors import Refused
from amble.core.graph import Graph, Operator
from amble.core.point import Clocks, OperatingPoint
from amble.core.profile import Profile, Sample
from amble.core.subject import Subject, Where

__all__ = ["load", "load_profile"]

_MS = 1e-3
_KIND = "TensorRT"


class _Entry(msgspec.Struct, frozen=True, rename="camel"):
    """The head (with a count) or a layer (with a name)."""

    count: int | None = None
    name: str | None = None
    average_ms: float | None = None
    median_ms: float | None = None

    @property
    def latency_s(self) -> float | None:
        """Return the median of one run [s], the mean where there is none."""
        time_ms = self.median_ms if self.median_ms is not None else self.average_ms
        return None if time_ms is None else time_ms * _MS


def load(path: Path | str, *, batch: int = 1, precision: str = "fp32") -> Graph:
    """Read the layers as a graph without known work; its digest is that of the layers' names."""
    _, layers = _read(Path(path))
    operators = tuple(Operator(name, _KIND, 0.0, 0.0, 0.0) for name, _ in layers)
    return Graph(Path(path).stem, operators, batch, _digest(layers, batch), precision=precision)


def load_profile(path: Path | str, *, device: str, clocks: Clocks, batch: int = 1, precision: str = "fp32") -> Profile:
    """Read the times as a profile at one point: ``clocks`` are those that ran, which the file does not tell.

    Refused when the file is missing or not of this form.
    """
    repeats, layers = _read(Path(path))
    point = OperatingPoint(clocks, precision)
    samples = tuple(Sample(name, point, clocks, latency_s, None, repeats) for name, latency_s in layers)
    whole = Sample("", point, clocks, sum(latency_s for _, latency_s in layers), None, repeats)
    return Profile(
        Subject(Path(path).stem, digest=_digest(layers, batch), batch=batch),
        Where(device),
        operators=tuple(name for name, _ in layers),
        samples=samples,
        totals=(whole,),
        points=(point,),
    )


def _read(path: Path) -> tuple[int, list[tuple[str, float]]]:
    """Return the number of runs, and each layer's name (made unique) and time [s]."""
    try:
        entries = msgspec.json.decode(path.read_bytes(), type=list[_Entry])
    except OSError as error:
        raise Refused(
            f"cannot read {path}: {error.strerror or error}; name a file of trtexec --exportProfile"
        ) from error
    except msgspec.DecodeError as error:
        raise Refused(f"{path} is not a profile of trtexec --exportProfile: {error}") from error
    counts = [entry.count for entry in entries if entry.count is not None]
    layers = [(entry.name, entry.latency_s) for entry in entries if entry.name is not None]
    timed = [(name, latency_s) for name, latency_s in layers if latency_s is not None]
    if not timed or len(timed) < len(layers) or len(counts) != 1:
        raise Refused(f"{path} is not a profile of trtexec --exportProfile: it needs a count and layers with averageMs")
    return counts[0], _unique(timed)


def _unique(layers: list[tuple[str, float]]) -> list[tuple[str, float]]:
    """Number the layers that share a name with an earlier one: ``copy``, ``copy #2``."""
    seen: dict[str, int] = {}
    named: list[tuple[str, float]] = []
    for name, latency_s in layers:
        seen[name] = seen.get(name, 0) + 1
        named.append((name if seen[name] == 1 else f"{name} #{seen[name]}", latency_s))
    return named


def _digest(layers: list[tuple[str, float]], batch: int) -> str:
    return hashlib.sha256(repr((batch, [name for name, _ in layers])).encode()).hexdigest()
