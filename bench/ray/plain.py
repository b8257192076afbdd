"""Plain Ray Serve: one replica of the bundled network, one thread, no batching, behind Serve's own HTTP proxy.

It takes the body that amble takes (the Open Inference Protocol with a binary tensor), and as little trouble over it as
can be: no JSON is read, nothing is checked, raw bytes go back.
"""

from __future__ import annotations

from typing import Any

from ray import serve

__all__ = ["Network"]


@serve.deployment(num_replicas=1, max_ongoing_requests=1000, ray_actor_options={"num_cpus": 0})
class Network:
    """One tensor in, behind a head of JSON; its first output back as raw bytes."""

    def __init__(self, path: str, shape: tuple[int, ...]) -> None:
        import numpy as np
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self.name = self.session.get_inputs()[0].name
        self.read: Any = lambda body: np.frombuffer(body, np.float32).reshape(shape)

    async def __call__(self, request: Any) -> Any:
        from starlette.responses import Response

        head = int(request.headers["inference-header-content-length"])
        output = self.session.run(None, {self.name: self.read((await request.body())[head:])})[0]
        return Response(output.tobytes(), media_type="application/octet-stream")
