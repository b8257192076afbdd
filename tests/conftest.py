"""One thread for every library that brings its own, signals that reach what a test starts, and modules that need torch.

Spinning threads collapse as soon as another process is busy. A signal that is ignored, as SIGHUP under ``nohup`` and
SIGINT in a background job, is inherited as ignored by every program that a test starts; one that is handled is not, so
the ignored ones get a handler that does nothing.
"""

from __future__ import annotations

import os
import signal
import warnings
from collections.abc import Callable
from importlib import import_module
from types import ModuleType

import pytest

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(name, "1")


def hear_ignored_signals() -> None:
    """Leave this process as deaf as it was, and let the programs that it starts hear."""
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, lambda number, frame: None)


hear_ignored_signals()


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
