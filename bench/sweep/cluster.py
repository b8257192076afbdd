"""Two nodes of a Ray cluster here, one CPU each; sweeps on them beside bare processes, in turn -> records as JSON.

Run by the Python of `.venv-peer-ray-amble`: -m bench.sweep.cluster quick|full REPEATS

Both are timed from the same state: the cluster is up, as it is for its users, and no process of the sweep runs. So
the bare ones pay for starting Python, and Ray's workers for being started; results are fetched in both.
"""

import json
import os
import pickle
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from amble.services.cluster.sweeping import on_ray
from bench.sweep.work import NAMES, untold, work

WORKERS = 2


def main(size: str, repeats: str) -> None:
    """Print one record for every sweep, way and repeat."""
    os.environ |= {"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"}
    from ray.cluster_utils import Cluster

    node = {"include_dashboard": False, "object_store_memory": 200 << 20}
    folder = tempfile.mkdtemp(prefix="ray", dir="/tmp")
    cluster = Cluster(initialize_head=True, head_node_args={**node, "num_cpus": 0, "temp_dir": folder})
    try:
        for _ in range(WORKERS):
            cluster.add_node(num_cpus=1, **node)
        os.environ["RAY_ADDRESS"] = cluster.address
        for name in NAMES:
            for number in range(int(repeats)):
                print(json.dumps(_both(name, size, number)), flush=True)
    finally:
        cluster.shutdown()
        shutil.rmtree(folder, ignore_errors=True)


def _both(name: str, size: str, number: int) -> dict[str, Any]:
    """Do a sweep both ways, every second time the other way first."""
    done: dict[str, tuple[float, list[Any]]] = {}
    for way in ("bare", "ray") if number % 2 == 0 else ("ray", "bare"):
        begin_s = time.perf_counter()
        found = _bare(name, size) if way == "bare" else _spread(name, size)
        done[way] = (time.perf_counter() - begin_s, found)
    (bare_s, bare), (ray_s, ray) = done["bare"], done["ray"]
    alike = pickle.dumps(bare) == pickle.dumps(ray) or bare == ray
    return {"sweep": name, "repeat": number, "items": len(ray), "bare_s": bare_s, "ray_s": ray_s, "identical": alike}


def _bare(name: str, size: str) -> list[Any]:
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / str(part) for part in range(WORKERS)]
        shared = [sys.executable, "-m", "bench.sweep.bare", name, size]
        started = [subprocess.Popen([*shared, str(at), str(WORKERS), str(each)]) for at, each in enumerate(files)]
        if any(each.wait() for each in started):
            raise SystemExit("a bare process failed")
        parts = [pickle.loads(each.read_bytes()) for each in files]  # noqa: S301 - our own
    found: list[Any] = [None] * sum(map(len, parts))
    for at, part in enumerate(parts):
        found[at::WORKERS] = part
    return found


def _spread(name: str, size: str) -> list[Any]:
    with on_ray() as spread:
        function, items = work(name, quick=size == "quick")
        return list(spread(function, items, untold))


main(*sys.argv[1:])
