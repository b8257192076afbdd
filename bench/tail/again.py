"""One line of `prune.jsonl`, cut and fine-tuned once more: `-m bench.tail.again vgg 1 harsh "round to 16"`.

Prints the line that is in the log and what was found now, the accuracy of the ONNX file with it, as one JSON document.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import argparse
import json
import tempfile
import time
from pathlib import Path

import torch

from amble.runtimes.torch import exporting, training
from bench.bases.base import KEPT, labelled, learning, prepare, trained
from bench.bases.export import accuracy
from bench.tail import surgery
from bench.tail.prune import NUM_RANKING, Cell, first, logged, tuned
from bench.tail.timing import Times

_NUM_TEST = 10_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, kind in (("network", str), ("seed", int), ("level", str), ("variant", str)):
        parser.add_argument(name, type=kind)
    asked = vars(parser.parse_args())
    torch.set_num_threads(1)
    record = next(each for each in logged() if all(each[key] == value for key, value in asked.items()))
    begin_s = time.perf_counter()
    module, example = trained(asked["network"], asked["seed"]), torch.rand(2, 1, 28, 28)
    coupled = surgery.coupling(module, example, name=asked["network"])
    coupled = surgery.importance(module, coupled, first(learning(), NUM_RANKING), prepare=prepare)
    of = Cell(asked["network"], asked["seed"], module, coupled, Times(coupled.network, KEPT / "none.json"), {})
    smaller = tuned(of, record["widths"])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "again.onnx"
        exporting.to_onnx(smaller, path, example)
        found = {
            "test_accuracy": training.accuracy(smaller, labelled("t10k"), prepare=prepare),
            "onnx_test_accuracy": accuracy(path, _NUM_TEST),
            "time_s": time.perf_counter() - begin_s,
        }
    print(json.dumps({"logged": record, "again": found}))


if __name__ == "__main__":
    main()
