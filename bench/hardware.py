"""Networks on the hardware that is here: the quicker of two providers found, and operators' times that add up.

    python bench/hardware.py [--quick] [--json]      after make setup-peers and make models

Provider-independent code is tried for real by ONNX Runtime's own CPU kernels and by OpenVINO, in one process of an
environment that has both; times are the thread's own CPU time. What needs a GPU is `hardware_gpu.py`, by hand.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import document

ROOT = Path(__file__).resolve().parents[1]
PEER = ROOT / ".venv-peer-openvino" / "bin" / "python"
BUNDLED = ROOT / "src" / "amble" / "bundled" / "fashion-resnet.onnx"
MODELS = ROOT / "build" / "models"
TEN = ("resnet18", "mobilenetv2", "alexnet", "tiny_yolov3", "resnet50", "inceptionv4", "resnet152", "vgg16", "vgg19")
APART = ("resnet18", "mobilenetv2", "alexnet", "tiny_yolov3")
REGRET, SUM, SEGMENTS = 0.02, 0.03, 0.10


def asked(networks: Sequence[str], *options: str) -> Iterator[dict[str, object]]:
    """Let the other Python measure; a network that was not built is left out."""
    files = [str(MODELS / f"{name}.onnx") for name in networks if (MODELS / f"{name}.onnx").exists()]
    environment = os.environ | {"PYTHONPATH": f"{ROOT / 'src'}", "OMP_NUM_THREADS": "1"}
    command = [str(PEER), str(ROOT / "bench" / "hardware_here.py"), *options, str(BUNDLED), *files]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    for line in done.stdout.splitlines():
        yield json.loads(line)


def main() -> None:
    """Compare whole runs of ten networks, and tell operators of some apart."""
    options = document.options("hardware", __doc__)
    if not PEER.exists():
        raise SystemExit(f"{PEER} is missing: make setup-peers")
    whole = list(asked(TEN[:2] if options.quick else TEN, "-w"))
    apart = list(asked((), *()) if options.quick else asked(APART))
    targets = [
        document.target(
            f"{record['network']}: the chosen provider's time over the quicker one's, less 1",
            want=f"<= {REGRET}",
            value=float(str(record["regret"])),
            unit="1",
        )
        for record in whole
    ]
    for record in apart:
        for name, want in (("sum_off", SUM), ("segments_off", SEGMENTS)):
            what = "operators' sum off the whole" if name == "sum_off" else "segments that were left out, median error"
            value = abs(float(str(record[name])))
            targets.append(
                document.target(
                    f"{record['network']}, {record['provider']}: {what}", want=f"<= {want}", value=value, unit="1"
                )
            )
    document.finish(options, [*whole, *apart], targets)


if __name__ == "__main__":
    main()
