"""An ONNX file -> the barest server of grpcio on a port: what a request costs that meets no server of ours at all."""

from __future__ import annotations

import sys
import time
from typing import Any

import grpc
import numpy as np
import onnxruntime
import uvloop
from tritonclient.grpc import service_pb2, service_pb2_grpc

from amble.services.serve.process import tuned


class Bare(service_pb2_grpc.GRPCInferenceServiceServicer):  # type: ignore[misc]
    """Runs the network in the event loop itself: no queue, no thread, no checks."""

    def __init__(self, path: str) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self._name = self._session.get_inputs()[0].name

    async def ModelInfer(self, request: Any, context: Any) -> Any:  # noqa: N802
        x = np.frombuffer(request.raw_input_contents[0], np.float32).reshape(request.inputs[0].shape)
        start_s = time.perf_counter()
        output = self._session.run(None, {self._name: x})[0]
        took_s = time.perf_counter() - start_s
        made = service_pb2.ModelInferResponse(model_name="model", raw_output_contents=[output.tobytes()])
        made.outputs.add(name="y", datatype="FP32", shape=output.shape)
        made.parameters["service_s"].double_param = took_s
        return made


async def main() -> None:
    server = grpc.aio.server()
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(Bare(sys.argv[1]), server)
    server.add_insecure_port(f"127.0.0.1:{sys.argv[2]}")
    await server.start()
    sys.stderr.write('{"ready": true}\n')
    await server.wait_for_termination()


if __name__ == "__main__":
    with tuned():
        uvloop.run(main())
