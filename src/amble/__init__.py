"""amble: deep neural networks that answer on time with the least energy, and the proof of both.

::

    import amble
    device = amble.open("sim:jetson-tx2")
    graph = amble.load("resnet50.onnx")
    costs = amble.fit(amble.measure(graph, device))
    schedule = amble.plan(graph, costs, deadline=amble.Deadline(0.060, percentile=0.99))
    print(amble.show(schedule))

What is named in ``__init__.pyi`` is imported when it is first used, so that ``amble --help`` needs neither numpy nor
ONNX Runtime. A folder of the same name, once imported, does not take its place: ``amble.devices`` stays the function.
"""

import sys
from types import ModuleType

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)


class _Package(ModuleType):
    """A package whose public names keep their meaning when a folder of that name is imported."""

    def __setattr__(self, name: str, value: object) -> None:
        if not (name in __all__ and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
