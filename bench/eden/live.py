"""A folder and a case -> the case retrained anew there, as one JSON line: for the bench that replays.

`python -m bench.eden.live FOLDER lenet 1 int8 better`; nothing in `build/train/hardened` is looked at.
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

import torch

from bench.eden import judging, retrain


def main() -> None:
    folder, network, seed, precision, recipe = sys.argv[1:]
    torch.set_num_threads(1)
    retrain.HARDENED = Path(folder)
    case = retrain.Case(network, int(seed), "int8" if precision == "int8" else "fp32", recipe)
    path = retrain.deployed(case)
    found = {"held_out_accuracy": judging.clean(path, network, "held_out")}
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    print(json.dumps({**found, "onnx_sha256": digest, **retrain.provenance()}))


if __name__ == "__main__":
    main()
