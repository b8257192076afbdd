"""Hardware, real and simulated, as devices: clocks, meters, actuators. No runner is made here, one is handed in.

The folder has the name of the verb ``amble devices``; as an attribute of the package it stays that verb's function once
it was imported, too: it can be called.
"""

import sys
from importlib import import_module
from types import ModuleType
from typing import Any


class _Callable(ModuleType):
    def __call__(self) -> Any:
        """Describe what can be opened here (`amble.inputs.devices`)."""
        return import_module("amble.inputs").devices()


sys.modules[__name__].__class__ = _Callable
