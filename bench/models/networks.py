"""Names of networks and simulated chips -> graphs and fitted costs, measured once and kept by content.

Used by the benches that plan: the graphs of `make models` under build/models, the bundled one, and a ResNet-50 that
needs no torch. Costs are kept under build/costs for the same graph, chip file and version.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import amble
from amble.core import files
from amble.core.graph import Graph
from amble.devices.simulated import device
from amble.jobs import costing
from amble.stages.fit.costs import COSTS, Costs
from bench.kit import code
from bench.kit.places import BUILD
from bench.kit.reach import PROJECT, reached

MODELS = BUILD / "models"
KEPT = BUILD / "costs"
TOKENS = (1, 128)
SHAPES = {"bert_mini": {"input_ids": TOKENS, "attention_mask": TOKENS}}


def graph(name: str) -> Graph | None:
    """Read a network, batch 1; None where its file was not built."""
    if name == "fashion-resnet":
        return amble.load(name)
    path = MODELS / f"{name}.onnx"
    if name == "resnet50" and not path.exists():
        path = _without_torch()
    return amble.load(path, shapes=SHAPES.get(name)) if path.exists() else None


def _without_torch() -> Path:
    import onnx

    from examples import resnet50

    path = BUILD / "demo" / "resnet50.onnx"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        onnx.save(resnet50.resnet50(), str(path))
    return path


def costs(network: Graph, chip: str) -> Costs:
    """Measure and fit on a fresh simulated chip, seed 0."""
    kept = KEPT / f"{network.name}-{chip}-{_version(network, chip)}.json"
    if kept.exists():
        return files.load(kept, COSTS)
    kept.parent.mkdir(parents=True, exist_ok=True)
    found = amble.fit(amble.measure(network, amble.open(f"sim:{chip}")))
    files.save(found, kept, COSTS)
    return found


def _version(network: Graph, chip: str) -> str:
    """Digest what the costs depend on: the graph, the chips' files, and the code that measures and fits."""
    found = hashlib.sha256(f"{network.digest} {network.shapes} {chip}".encode())
    made_by = {path for module in (costing, device) for path in reached(PROJECT, Path(str(module.__file__)))}
    found.update(code.whole(*sorted(made_by)).encode())
    return found.hexdigest()[:16]
