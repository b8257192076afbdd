"""Networks on the hardware that is here: the quicker of two providers found, and operators' times that add up.

    python -m bench.hardware [--quick] [--json]      after make setup-peers and make models

Provider-independent code is tried for real by ONNX Runtime's own CPU kernels and by OpenVINO, in one process of an
environment that has both; times are the thread's own CPU time. Parts that are done are kept in `build/bench/`, as long
as the code is the same: a call that ran out of `HARDWARE_LIMIT_S` goes on where the last one stopped. What needs a GPU
is `gpu.py`, by hand.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.kit import ages, document

ROOT = Path(__file__).resolve().parents[2]
PEER = ROOT / ".venv-peer-openvino" / "bin" / "python"
BUNDLED = ROOT / "src" / "amble" / "bundled" / "fashion-resnet.onnx"
MODELS = ROOT / "build" / "models"
TEN = ("resnet18", "mobilenetv2", "alexnet", "tiny_yolov3", "resnet50", "inceptionv4", "resnet152", "vgg16", "vgg19")
APART = ("resnet18", "mobilenetv2", "alexnet", "tiny_yolov3")
REGRET, SUM, SEGMENTS = 0.02, 0.03, 0.10


@dataclass(frozen=True, slots=True)
class Part:
    """One network by one question: which provider is quicker (`chosen`), or what its operators take (`operators`)."""

    network: str
    what: str

    @property
    def file(self) -> Path:
        """Return the network's file, which may not have been built."""
        return BUNDLED if self.network == BUNDLED.stem else MODELS / f"{self.network}.onnx"


class Kept:
    """Records of parts that were measured by this very code, in a file that outlives the call."""

    def __init__(self, place: Path, code: Mapping[str, str]) -> None:
        self._place = place
        self._code = hashlib.sha256(json.dumps(code, sort_keys=True).encode()).hexdigest()
        lines = map(json.loads, place.read_text().splitlines()) if place.exists() else ()
        self.records: list[dict[str, object]] = [each["record"] for each in lines if each["code"] == self._code]

    def of(self, part: Part) -> list[dict[str, object]]:
        """Return the records of a part; empty where it is still to be measured."""
        return [each for each in self.records if (each["network"], each["what"]) == (part.network, part.what)]

    def add(self, record: dict[str, object]) -> None:
        """Keep a record."""
        self.records.append(record)
        self._place.parent.mkdir(parents=True, exist_ok=True)
        with self._place.open("a") as file:
            file.write(json.dumps({"code": self._code, "record": record}) + "\n")


def measured(part: Part) -> Iterator[dict[str, object]]:
    """Let the other Python measure a part; a network that was not built gives nothing."""
    if not part.file.exists():
        return
    environment = os.environ | {"PYTHONPATH": f"{ROOT / 'src'}", "OMP_NUM_THREADS": "1"}
    command = [str(PEER), str(ROOT / "bench" / "hardware" / "here.py"), part.what, str(part.file)]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    yield from map(json.loads, done.stdout.splitlines())


def targets(records: Sequence[Mapping[str, object]], networks: Sequence[str]) -> list[document.Target]:
    """Judge every network's choice, and the operators of those that were told apart."""
    regrets = {str(each["network"]): each["regret"] for each in records if each["what"] == "chosen"}
    found = []
    for name in networks:
        what = f"{name}: the chosen provider's time over the quicker one's, less 1"
        value = float(str(regrets[name])) if name in regrets else None
        found.append(document.target(what, want=f"<= {REGRET}", value=value, unit="1"))
    for record in records:
        if record["what"] != "operators":
            continue
        whose = f"{record['network']}, {record['provider']}"
        for name, what, want in (
            ("sum_off", "operators' sum off the whole", SUM),
            ("segments_off", "segments that were left out, median error", SEGMENTS),
        ):
            value = abs(float(str(record[name])))
            found.append(document.target(f"{whose}: {what}", want=f"<= {want}", value=value, unit="1"))
    return found


def main() -> None:
    """Compare whole runs of ten networks, and tell operators of some apart."""
    options = document.options("hardware", __doc__)
    if not PEER.exists():
        raise SystemExit(f"{PEER} is missing: make setup-peers")
    networks = (BUNDLED.stem, *(TEN[:2] if options.quick else TEN))
    apart = (BUNDLED.stem, *(() if options.quick else APART))
    parts = [*(Part(each, "operators") for each in apart), *(Part(each, "chosen") for each in networks)]
    kept = Kept(ROOT / "build" / "bench" / "hardware.jsonl", ages.digests(options.name))
    until_s = time.monotonic() + float(os.environ.get("HARDWARE_LIMIT_S", "inf"))
    for part in parts:
        if kept.of(part):
            continue
        if time.monotonic() > until_s:
            left = sum(not kept.of(each) for each in parts)
            raise SystemExit(f"out of time with {left} of {len(parts)} parts to go; call it again to go on")
        for record in measured(part):
            kept.add(record)
    records = [record for part in parts for record in kept.of(part)]
    document.finish(options, records, targets(records, networks))


if __name__ == "__main__":
    main()
