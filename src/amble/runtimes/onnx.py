"""An ONNX file → a Graph; a Graph and inputs → outputs, computed and timed by ONNX Runtime on this machine's CPU."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from amble.core.graph import Graph
from amble.runtimes.network import Network

__all__ = ["load"]


def load(path: Path | str, *, batch: int = 1, shapes: Mapping[str, tuple[int, ...]] | None = None) -> Graph:
    """Read an ONNX file → its operators as ONNX Runtime executes them here.

    ``batch`` binds the open batch axes; every other open axis of an input must be in ``shapes`` (input name → shape,
    which may also replace fixed axes). Runs the network once. Refused when the file is missing or no ONNX model, is
    older than opset 13, leaves an axis open, or holds an operator that ONNX Runtime cannot run.
    """
    return Network.open(Path(path), batch, dict(shapes or {})).graph
