"""Networks on the hardware that is here: the quicker of two providers found, and operators' times that add up.

    python -m bench.hardware [--quick] [--json]      after make setup-peers and make models

Provider-independent code is tried for real by ONNX Runtime's own CPU kernels and by OpenVINO, in one process of an
environment that has both; times are the thread's own CPU time. What needs a GPU is `gpu.py`, by hand.
"""

from __future__ import annotations

import json
import os
import subprocess
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

from bench.kit import document

ROOT = Path(__file__).resolve().parents[2]
PEER = ROOT / ".venv-peer-openvino" / "bin" / "python"
BUNDLED = ROOT / "src" / "amble" / "bundled" / "fashion-resnet.onnx"
MODELS = ROOT / "build" / "models"
TEN = ("resnet18", "mobilenetv2", "alexnet", "tiny_yolov3", "resnet50", "inceptionv4", "resnet152", "vgg16", "vgg19")
APART = ("resnet18", "mobilenetv2", "alexnet", "tiny_yolov3")
REGRET, SUM, SEGMENTS = 0.02, 0.03, 0.10


def asked(networks: Sequence[str], *options: str, limit_s: float) -> Iterator[dict[str, object]]:
    """Let the other Python measure; a network that was not built, or not reached within the limit, is left out."""
    files = [str(MODELS / f"{name}.onnx") for name in networks if (MODELS / f"{name}.onnx").exists()]
    environment = os.environ | {"PYTHONPATH": f"{ROOT / 'src'}", "OMP_NUM_THREADS": "1"}
    command = [str(PEER), str(ROOT / "bench" / "hardware" / "here.py"), *options, str(BUNDLED), *files]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as running:
        timer = threading.Timer(limit_s, running.kill)
        timer.start()
        try:
            assert running.stdout is not None
            for line in running.stdout:
                yield json.loads(line)
        finally:
            timer.cancel()


def main() -> None:
    """Compare whole runs of ten networks, and tell operators of some apart."""
    options = document.options("hardware", __doc__)
    if not PEER.exists():
        raise SystemExit(f"{PEER} is missing: make setup-peers")
    limit_s = float(os.environ.get("HARDWARE_LIMIT_S", "540"))
    wanted = TEN[:2] if options.quick else TEN
    apart = list(asked(() if options.quick else APART, limit_s=limit_s / 2))
    whole = {str(record["network"]): record for record in asked(wanted, "-w", limit_s=limit_s / 2)}
    targets = []
    for name in (BUNDLED.stem, *wanted):
        value = float(str(whole[name]["regret"])) if name in whole else None
        what = f"{name}: the chosen provider's time over the quicker one's, less 1"
        targets.append(document.target(what, want=f"<= {REGRET}", value=value, unit="1"))
    for record in apart:
        for name, want in (("sum_off", SUM), ("segments_off", SEGMENTS)):
            what = "operators' sum off the whole" if name == "sum_off" else "segments that were left out, median error"
            value = abs(float(str(record[name])))
            targets.append(
                document.target(
                    f"{record['network']}, {record['provider']}: {what}", want=f"<= {want}", value=value, unit="1"
                )
            )
    document.finish(options, [*whole.values(), *apart], targets)


if __name__ == "__main__":
    main()
