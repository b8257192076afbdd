"""MLServer on two ports, one process: products of matrices for some 20 ms a request; run in .venv-peer-mlserver."""

import asyncio
import sys
from typing import Any

import numpy as np
from mlserver import MLModel, MLServer, ModelSettings, Settings
from mlserver.types import InferenceResponse, ResponseOutput


class Products(MLModel):  # type: ignore[misc]
    """Whatever comes in, the same work."""

    async def load(self) -> bool:
        self.factor = np.random.default_rng(0).normal(size=(256, 256))
        return True

    async def predict(self, payload: Any) -> Any:
        found = self.factor
        for _ in range(16):
            found = np.tanh(found @ self.factor / 16.0)
        output = ResponseOutput(name="y", datatype="FP64", shape=[4], data=found[0, :4].tolist())
        return InferenceResponse(model_name=self.name, outputs=[output])


async def main() -> None:
    settings = Settings(
        host="127.0.0.1", http_port=int(sys.argv[1]), metrics_port=int(sys.argv[2]), grpc_port=int(sys.argv[3]),
        parallel_workers=0, debug=False,
    )  # fmt: skip
    await MLServer(settings).start([ModelSettings(name="model", implementation=Products)])


if __name__ == "__main__":
    asyncio.run(main())
