"""A Ray cluster of two nodes on this machine, for as long as a test needs it: its own folder, its own ports."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

ENVIRONMENT = {"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0", "RAY_DEDUP_LOGS": "0"}
_NODE: dict[str, Any] = {"num_cpus": 1, "include_dashboard": False, "object_store_memory": 80 << 20}


@contextmanager
def two_nodes() -> Iterator[Any]:
    """Start a cluster whose address is RAY_ADDRESS meanwhile; skip where Ray is not installed."""
    before = {name: os.environ.get(name) for name in (*ENVIRONMENT, "RAY_ADDRESS")}
    os.environ.update(ENVIRONMENT)
    pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    folder = tempfile.mkdtemp(prefix="ray", dir="/tmp")  # short: Ray's sockets lie in it
    cluster = Cluster(initialize_head=True, head_node_args={**_NODE, "temp_dir": folder})
    try:
        cluster.add_node(**_NODE)
        os.environ["RAY_ADDRESS"] = cluster.address
        yield cluster
    finally:
        cluster.shutdown()
        shutil.rmtree(folder, ignore_errors=True)
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
