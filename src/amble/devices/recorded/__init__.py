"""A table of real measurements → Device that replays it, in its own time."""

from amble.devices.recorded.device import (
    describe,
    graph,
    open,  # noqa: A004
    resolve,
    tables,
    workloads,
)

__all__ = ["describe", "graph", "open", "resolve", "tables", "workloads"]
