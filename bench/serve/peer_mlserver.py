"""An ONNX file -> MLServer on a port, one process, one thread, no batching; run in .venv-peer-mlserver."""

import asyncio
import base64
import socket
import sys
from typing import Any

import numpy as np
import onnxruntime
from mlserver import MLModel, MLServer, ModelSettings, Settings
from mlserver.types import InferenceResponse, ResponseOutput


class Network(MLModel):  # type: ignore[misc]
    """One tensor in, as base64 in JSON, since MLServer takes no binary tensors over HTTP; its first output back."""

    async def load(self) -> bool:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
        self.shape = tuple(int(size) for size in sys.argv[3].split(","))
        return True

    async def predict(self, payload: Any) -> Any:
        x = np.frombuffer(base64.b64decode(payload.inputs[0].data[0]), np.float32).reshape(self.shape)
        output = self.session.run(None, {self.session.get_inputs()[0].name: x})[0]
        text = base64.b64encode(output.tobytes()).decode()
        found = ResponseOutput(name="y", datatype="BYTES", shape=[1], data=[text])
        return InferenceResponse(model_name=self.name, outputs=[found])


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


async def main() -> None:
    settings = Settings(
        host="127.0.0.1", http_port=int(sys.argv[2]), grpc_port=free_port(), metrics_port=free_port(),
        parallel_workers=0, debug=False,
    )  # fmt: skip
    await MLServer(settings).start([ModelSettings(name="model", implementation=Network)])


if __name__ == "__main__":
    asyncio.run(main())
