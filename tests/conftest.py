"""One thread for every library that brings its own (spinning threads collapse as soon as another process is busy).

Also modules that need torch, by name.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from importlib import import_module
from types import ModuleType

import pytest

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(name, "1")


@pytest.fixture
def script() -> Callable[[str], ModuleType]:
    """Import a module that trains; skips where a package is missing."""
    for package in ("torch", "onnxscript"):
        pytest.importorskip(package)

    def load(name: str) -> ModuleType:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # torch warns of what it imports itself
            return import_module(name)

    return load
