"""An ONNX file -> LitServe on a port, one worker, one thread, no batching; run in .venv-peer-litserve by `study.py`."""

import base64
import sys
from typing import Any

import litserve
import numpy as np
import onnxruntime


class Network(litserve.LitAPI):  # type: ignore[misc]
    """One tensor in, as base64 in JSON, which is how LitServe takes bytes; its first output back."""

    def setup(self, device: str) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
        self.shape = tuple(int(size) for size in sys.argv[3].split(","))

    def decode_request(self, request, **kwargs):  # type: ignore[no-untyped-def]  # LitServe reads the annotations
        return np.frombuffer(base64.b64decode(request["tensor"]), np.float32).reshape(self.shape)

    def predict(self, x: Any, **kwargs: Any) -> Any:
        return self.session.run(None, {self.session.get_inputs()[0].name: x})[0]

    def encode_response(self, output: Any, **kwargs: Any) -> Any:
        return {"tensor": base64.b64encode(output.tobytes()).decode()}


if __name__ == "__main__":
    server = litserve.LitServer(Network(), accelerator="cpu", workers_per_device=1, timeout=30)
    server.run(host="127.0.0.1", port=int(sys.argv[2]), generate_client_file=False, log_level="warning")
