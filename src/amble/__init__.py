"""amble: deep neural networks that answer on time with the least energy, and the proof of both.

::

    import amble
    device = amble.open("sim:jetson-tx2")
    graph = amble.load("resnet50.onnx")
    costs = amble.fit(amble.measure(graph, device))
    schedule = amble.plan(graph, costs, deadline=amble.Deadline(0.060, percentile=0.99))
    print(amble.show(schedule))

What is named in ``__init__.pyi`` is imported when it is first used, so that ``amble --help`` needs neither numpy nor
ONNX Runtime.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
