"""An ONNX file → a Graph; a Graph and inputs → outputs, computed and timed by ONNX Runtime on this machine's CPU."""

from amble.runtimes.onnx.runner import (
    OnnxRunner,
    Sessions,
    compute,
    example_inputs,
    load,
)

__all__ = ["OnnxRunner", "Sessions", "compute", "example_inputs", "load"]
