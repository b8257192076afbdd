"""What learns needs torch: where that is missing, every file of tests here is skipped, and says so."""

from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path

import pytest


class Untested(pytest.Module):
    """A file of tests that cannot even be imported."""

    def collect(self) -> Iterable[pytest.Item | pytest.Collector]:
        raise pytest.skip.Exception("torch is not installed", allow_module_level=True)


def pytest_pycollect_makemodule(module_path: Path, parent: pytest.Collector) -> pytest.Module | None:
    return None if find_spec("torch") else Untested.from_parent(parent, path=module_path)
