"""A server on the clock files under a folder, whose device never comes back once there is a file ``stuck`` in it.

``python -m tests.services.serve.sticking_process ROOT MODEL PORT``
"""

from __future__ import annotations

import json
import sys
import threading
from pathlib import Path

from amble.core.graph import Graph
from amble.core.point import OperatingPoint
from amble.core.ports import Tensors
from amble.devices import host, lease
from amble.runtimes.onnx.batched import BatchedRunner
from amble.services.serve import front
from amble.services.serve.models.loading import ModelLoader
from amble.services.serve.models.options import Options

STUCK = "stuck"


class Sticking(BatchedRunner):
    """Runs until it sticks."""

    def __init__(self, root: Path) -> None:
        super().__init__()
        self.root = root

    def run(self, graph: Graph, point: OperatingPoint, inputs: Tensors) -> Tensors:
        if (self.root / STUCK).exists():
            (self.root / "begun").touch()
            threading.Event().wait()
        return super().run(graph, point, inputs)


def main() -> None:
    """Serve."""
    root, model, port = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    runner = Sticking(root)
    device = lease.guarded(host.open(runner, sysfs_root=root))
    loader = ModelLoader(device, runner, Options(max_batch=1))
    doors = front.Doors(http_port=port, grpc_port=None, metrics_port=None, drain_s=0.2)
    front.serve(device, loader.load, doors, named={"slow": model}, on_ready=_tell)


def _tell(at: front.Addresses, stop: object) -> None:
    sys.stderr.write(json.dumps({"ready": {"http": at.http}}) + "\n")


if __name__ == "__main__":
    main()
