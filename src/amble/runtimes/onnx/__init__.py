"""An ONNX file → a Graph; a Graph and inputs → outputs, computed and timed by ONNX Runtime."""

from amble.core.errors import Refused, how_to_install

try:
    import onnxruntime as _runtime
except ImportError as error:  # which of its wheels is the user's choice
    raise Refused(f"there is no ONNX Runtime here: {how_to_install('cpu')} (or the extra cuda, or openvino)") from error
del _runtime, how_to_install, Refused

from amble.runtimes.onnx.addressing import OPTIONS, execution  # noqa: E402
from amble.runtimes.onnx.choosing import quickest  # noqa: E402
from amble.runtimes.onnx.execution import Execution  # noqa: E402
from amble.runtimes.onnx.providers import TORCH, Provider, installed, named, refuse_mixture  # noqa: E402
from amble.runtimes.onnx.remote import RemoteRunner, far_execution, far_form  # noqa: E402
from amble.runtimes.onnx.runner import (  # noqa: E402
    OnnxRunner,
    Sessions,
    compute,
    example_inputs,
    load,
)

__all__ = [
    "OPTIONS",
    "TORCH",
    "Execution",
    "OnnxRunner",
    "Provider",
    "RemoteRunner",
    "Sessions",
    "compute",
    "example_inputs",
    "execution",
    "far_execution",
    "far_form",
    "installed",
    "load",
    "named",
    "quickest",
    "refuse_mixture",
]
