"""An ONNX file -> Ray Serve on a port, one replica, one thread, no batching; run in .venv-peer-ray by `study.py`."""

from __future__ import annotations

import signal
import sys
from typing import Any

import ray
from ray import serve


@serve.deployment(num_replicas=1, max_ongoing_requests=1000, ray_actor_options={"num_cpus": 0.5})
class Network:
    """One tensor in as raw bytes, its first output back as raw bytes."""

    def __init__(self, path: str, shape: tuple[int, ...]) -> None:
        import numpy as np
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self.read: Any = lambda body: np.frombuffer(body, np.float32).reshape(shape)

    async def __call__(self, request: Any) -> Any:
        from starlette.responses import Response

        x = self.read(await request.body())
        output = self.session.run(None, {self.session.get_inputs()[0].name: x})[0]
        return Response(output.tobytes(), media_type="application/octet-stream")


if __name__ == "__main__":
    path, port, shape = sys.argv[1], int(sys.argv[2]), tuple(int(size) for size in sys.argv[3].split(","))
    ray.init(num_cpus=1, include_dashboard=False, object_store_memory=100 << 20, log_to_driver=False)
    serve.start(http_options={"host": "127.0.0.1", "port": port})
    network: Any = Network
    serve.run(network.bind(path, shape), route_prefix="/predict")
    signal.sigwait({signal.SIGTERM, signal.SIGINT})
    serve.shutdown()
    ray.shutdown()
