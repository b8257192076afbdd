"""Fixtures of the device tests: a user without rights, a runner that runs nothing."""

import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from amble.core.graph import Graph
from amble.core.point import OperatingPoint
from amble.core.ports import Tensors, Timings

NOBODY = 65534


class NoRunner:
    """Stands where a runner must be; devices never run anything of themselves."""

    def run(self, graph: Graph, point: OperatingPoint, inputs: Tensors) -> Tensors:
        raise AssertionError("nothing was to be run")

    def profile(self, graph: Graph, point: OperatingPoint, repeats: int) -> Timings:
        raise AssertionError("nothing was to be profiled")


@pytest.fixture
def runner() -> NoRunner:
    return NoRunner()


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user may enter, unlike tmp_path."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture
def lose_rights() -> Iterator[Callable[[], None]]:
    """Become a user without rights, until the test ends."""
    was = os.geteuid()

    def lose() -> None:
        if was == 0:
            os.seteuid(NOBODY)

    yield lose
    os.seteuid(was)
