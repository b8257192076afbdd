"""One ONNX file -> a model of Triton's Python back end that runs it in ONNX Runtime on one thread, batches of up to 8.

python triton_repository.py REPOSITORY NAME MODEL.onnx VENV      VENV: whose packages the back end imports
"""

import sys
from pathlib import Path

import onnxruntime

TYPES = {
    "tensor(float)": "TYPE_FP32",
    "tensor(float16)": "TYPE_FP16",
    "tensor(int64)": "TYPE_INT64",
    "tensor(int32)": "TYPE_INT32",
    "tensor(uint8)": "TYPE_UINT8",
}
MODEL = """
import sys

sys.path[:0] = {packages!r}
import numpy as np
import onnxruntime
import triton_python_backend_utils as backend


class TritonPythonModel:
    def initialize(self, given):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession({path!r}, options, providers=["CPUExecutionProvider"])
        self.inputs = [each.name for each in self.session.get_inputs()]
        self.outputs = [each.name for each in self.session.get_outputs()]

    def execute(self, requests):
        feeds = {{name: [] for name in self.inputs}}
        for request in requests:
            for name in self.inputs:
                feeds[name].append(backend.get_input_tensor_by_name(request, name).as_numpy())
        rows = [len(each) for each in feeds[self.inputs[0]]]
        joined = {{name: np.concatenate(parts) for name, parts in feeds.items()}}
        cuts = np.cumsum(rows)[:-1]
        split = [np.split(each, cuts) for each in self.session.run(self.outputs, joined)]
        return [
            backend.InferenceResponse([backend.Tensor(name, parts[at]) for name, parts in zip(self.outputs, split)])
            for at in range(len(requests))
        ]
"""


def main(repository: str, name: str, model: str, venv: str) -> None:
    """Write the folder of one model."""
    path = Path(model).resolve()
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    folder = Path(repository) / name
    (folder / "1").mkdir(parents=True, exist_ok=True)
    packages = [str(each) for each in Path(venv).glob("lib/python*/site-packages")]
    (folder / "1/model.py").write_text(MODEL.format(packages=packages, path=str(path)))
    lines = [f'name: "{name}"', 'backend: "python"', "max_batch_size: 8", "dynamic_batching {}"]
    lines.append("instance_group [{kind: KIND_CPU count: 1}]")
    for kind, ports in (("input", session.get_inputs()), ("output", session.get_outputs())):
        for each in ports:
            dims = ", ".join(str(axis if isinstance(axis, int) else -1) for axis in each.shape[1:])
            lines.append(f'{kind} [{{name: "{each.name}" data_type: {TYPES[each.type]} dims: [{dims}]}}]')
    (folder / "config.pbtxt").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
