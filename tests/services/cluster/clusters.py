"""A Ray cluster of two nodes on this machine, for as long as a test needs it: its own folder, its own ports."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

import pytest

from bench.ray.rack import rack


@contextmanager
def two_nodes() -> Iterator[Any]:
    """Start a cluster whose address is RAY_ADDRESS meanwhile; skip where Ray is not installed."""
    if find_spec("ray") is None:
        pytest.skip("Ray is not installed")
    with rack() as found:
        yield found
