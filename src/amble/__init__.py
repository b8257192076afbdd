"""amble: deep neural networks that answer on time with the least energy, and the proof of both.

::

    import amble
    device = amble.open("sim:jetson-tx2")
    graph = amble.load("resnet50.onnx")
    costs = amble.fit(amble.measure(graph, device))
    schedule = amble.plan(graph, costs, deadline=amble.Deadline(0.060, percentile=0.99))
    print(amble.show(schedule))

What is named here is imported when it is first used, so that ``amble --help`` needs neither numpy nor ONNX Runtime.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from amble.core.errors import AmbleError, Infeasible, Refused
    from amble.core.point import Clocks, OperatingPoint
    from amble.core.schedule import Deadline, Schedule
    from amble.jobs import (
        check,
        costs_for,
        costs_of,
        devices,
        export_files,
        fit,
        import_layers,
        load,
        measure,
        open,  # noqa: A004
        plan,
        predict,
        read,
        restore,
        save,
        show,
    )
    from amble.jobs.approximating import dram
    from amble.jobs.pruning import prune
    from amble.jobs.quantizing import quantize
    from amble.jobs.serving import serve

_HOMES = {
    "amble.jobs": (
        "check",
        "costs_for",
        "costs_of",
        "devices",
        "export_files",
        "fit",
        "import_layers",
        "load",
        "measure",
        "open",
        "plan",
        "predict",
        "read",
        "restore",
        "save",
        "show",
    ),
    "amble.jobs.approximating": ("dram",),
    "amble.jobs.pruning": ("prune",),
    "amble.jobs.quantizing": ("quantize",),
    "amble.jobs.serving": ("serve",),
    "amble.core.errors": ("AmbleError", "Infeasible", "Refused"),
    "amble.core.point": ("Clocks", "OperatingPoint"),
    "amble.core.schedule": ("Deadline", "Schedule"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "AmbleError",
    "Clocks",
    "Deadline",
    "Infeasible",
    "OperatingPoint",
    "Refused",
    "Schedule",
    "check",
    "costs_for",
    "costs_of",
    "devices",
    "dram",
    "export_files",
    "fit",
    "import_layers",
    "load",
    "measure",
    "open",
    "plan",
    "predict",
    "prune",
    "quantize",
    "read",
    "restore",
    "save",
    "serve",
    "show",
]


class _Doors(ModuleType):
    """This package as users see it: verbs are functions, also where a stage's folder has the same name.

    Importing ``amble.plan.search`` would set ``amble.plan`` to the folder; the folder stays importable without that.
    """

    def __getattr__(self, name: str) -> Any:
        if name not in _HOME_OF:
            raise AttributeError(f"module 'amble' has no attribute {name!r}")
        return getattr(import_module(_HOME_OF[name]), name)

    def __setattr__(self, name: str, value: object) -> None:
        if not (name in _HOME_OF and isinstance(value, ModuleType)):
            super().__setattr__(name, value)

    def __dir__(self) -> list[str]:
        return sorted(__all__)


sys.modules[__name__].__class__ = _Doors
