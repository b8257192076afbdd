"""Modules of `train/`, by name."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:
    """Import a module, with those of `train/` and `bench/` that it needs; skips where a package is missing."""
    for package in ("torch", "onnxscript"):
        pytest.importorskip(package)
    root = Path(__file__).parents[2]
    monkeypatch.setattr(sys, "path", [str(root / "train"), str(root / "bench"), *sys.path])

    def load(name: str) -> ModuleType:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # torch warns of what it imports itself
            return import_module(name)

    return load
