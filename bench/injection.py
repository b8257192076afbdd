"""Cost of reading weights and feature maps with bit errors, beside MRFI (PyPI) on the same network, rate and machine.

The bundled network in torch, FP32, one thread, every convolution's and linear layer's weights and input, bit error
rate 1e-4. Cost is CPU time of an injected forward pass over that of a plain one, medians of runs in turn, after the
set-up of weak cells. MRFI counts values, so its rate is 32 times as high; its usual selector may take a position twice,
its `classic` one is exact, as ours is. At lower rates the shares of right answers are compared. The ONNX Runtime path
is cut at every feature map: its cost is reported with that of the cuts.
"""

from __future__ import annotations

import document

document.on_one_core()

import json  # noqa: E402  after the threads are set
import subprocess  # noqa: E402
import time  # noqa: E402
from dataclasses import dataclass  # noqa: E402
from pathlib import Path  # noqa: E402

import injection_network as common  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402

from amble.core.dram import Bitline, DramErrors, ErrorModel, Uniform  # noqa: E402
from amble.core.memories import line_rates  # noqa: E402
from amble.runtimes.faults import Home  # noqa: E402
from amble.runtimes.faulty_onnx import FaultyOnnx  # noqa: E402
from amble.runtimes.faulty_torch import FaultyTorch  # noqa: E402

ROOT = Path(__file__).resolve().parent.parent
PEER = ROOT / ".venv-peer-mrfi" / "bin" / "python"
BER = 1e-4
RATES = (1e-8, 1e-7, 1e-6)  # of the accuracy curve
LINE_SHAPE = 0.0033  # as fitted for vendors A and B


def main() -> None:
    options = document.options("injection", __doc__)
    batch, repeats, trials = (20, 5, 4) if options.quick else (50, 15, 10)
    torch.set_num_threads(1)
    costs: dict[str, tuple[float, float]] = {}
    results: list[dict[str, object]] = []
    for name, model in models().items():
        plain_s, extra_s, setup_s = in_torch(model, batch, repeats)
        costs[name] = plain_s, extra_s
        results.append(cost("torch", name, plain_s, extra_s, setup_s))
    results += in_onnx(batch, repeats)
    peer = mrfi(batch, repeats, trials)
    if peer is not None:
        results.append(cost("mrfi", "uniform", peer.plain_s, peer.extra_s, None))
        results.append(cost("mrfi", "uniform, classic selector", peer.plain_s, peer.classic_s, None))
    targets = [
        document.target(f"torch, {name}: injection over forward pass", want="<= 0.1", value=extra / plain, unit="1")
        for name, (plain, extra) in costs.items()
    ]
    targets.append(
        document.target(
            "MRFI's injection over ours, model 0 in torch",
            want=">= 10",
            value=peer.extra_s / costs["uniform, transient"][1] if peer else None,
            unit="1",
        )
    )
    for rate, theirs in (peer.accuracy if peer else {}).items():
        row = curve(float(rate), accuracy(float(rate), batch, trials), theirs)
        results.append(dict(row))
        name = f"accuracy against MRFI at BER {rate}: difference over its 95 % interval"
        targets.append(document.target(name, want="<= 1", value=row["difference"] / row["interval"], unit="1"))
    document.finish(options, results, targets)


def models() -> dict[str, ErrorModel]:
    lines = line_rates(BER, LINE_SHAPE, num_lines=65_536, module=0)
    return {
        "uniform, transient": Uniform(1.0, BER),
        "uniform, persistent": Uniform(BER, 1.0),
        "bitline, persistent": Bitline(lines, np.ones(len(lines))),
    }


def cost(path: str, model: str, plain_s: float, extra_s: float, setup_s: float | None) -> dict[str, object]:
    return {
        "path": path,
        "model": model,
        "plain_s": plain_s,
        "extra_s": extra_s,
        "ratio": extra_s / plain_s,
        "setup_s": setup_s,
    }


def faulty(model: ErrorModel) -> FaultyTorch:
    """Every layer's tensors one after the other in memory."""
    network = common.network()
    kinds = (torch.nn.Conv2d, torch.nn.Linear)
    layers = [name for name, module in network.named_modules() if isinstance(module, kinds)]
    home = Home(DramErrors(model))
    return FaultyTorch(network, weights=dict.fromkeys(layers, home), inputs=dict.fromkeys(layers, home))


def in_torch(model: ErrorModel, batch: int, repeats: int) -> tuple[float, float, float]:
    network, (images, _) = faulty(model), common.images(batch)
    seeds = iter(range(10_000))

    def injected() -> None:
        with network.reading(next(seeds)) as module:
            module(images)

    start = time.process_time()
    injected()
    first_s = time.process_time() - start
    with torch.inference_mode():
        plain_s, extra_s = common.overhead(lambda: network.module(images), injected, repeats)
    return plain_s, extra_s, max(first_s - plain_s - extra_s, 0.0)


def in_onnx(batch: int, repeats: int) -> list[dict[str, object]]:
    """The same in ONNX Runtime: feature maps (with the cost of cutting alone), then weights."""
    path = common.BUNDLED / "fashion-resnet.onnx"
    plain, clean = FaultyOnnx(path), FaultyOnnx(path)
    inputs = {"image": common.images(batch)[0].numpy()}
    names = {layer.input for layer in plain.layers}
    clean.place(dict.fromkeys(names, Home(DramErrors(Uniform(1.0, 0.0)))))
    read = FaultyOnnx(path, dict.fromkeys(names, Home(DramErrors(Uniform(1.0, BER)))))
    weights = FaultyOnnx(path, dict.fromkeys(plain.weights, Home(DramErrors(Uniform(1.0, BER)))))
    seeds = iter(range(10_000))
    calls = {
        "cuts alone": lambda: clean.run(inputs, 0),
        "feature maps, uniform, transient": lambda: read.run(inputs, next(seeds)),
    }
    found, plain_s = [], 0.0
    for name, call in calls.items():
        plain_s, extra_s = common.overhead(lambda: plain.run(inputs, 0), call, repeats)
        found.append(cost("onnx", name, plain_s, extra_s, None))
    _, extra_s = common.overhead(lambda: None, lambda: weights.inject_weights(next(seeds)), repeats)
    return [*found, cost("onnx", "weights, uniform, transient: a new session", plain_s, extra_s, None)]


@dataclass(frozen=True, slots=True)
class Peer:
    """What MRFI took [s], and its accuracies by rate."""

    plain_s: float
    extra_s: float
    classic_s: float
    accuracy: dict[str, list[float]]


def mrfi(batch: int, repeats: int, trials: int) -> Peer | None:
    if not PEER.exists():
        return None
    given = [str(batch), str(repeats), ",".join(map(str, RATES)), str(trials)]
    script = Path(__file__).with_name("injection_mrfi.py")
    answer = subprocess.run([PEER, script, *given], capture_output=True, text=True, check=True, timeout=900)
    return Peer(**json.loads(answer.stdout.strip().splitlines()[-1]))


def accuracy(rate: float, batch: int, trials: int) -> list[float]:
    network, (images, labels) = faulty(Uniform(1.0, rate)), common.images(batch)
    found = []
    for seed in range(trials):
        with network.reading(seed) as module:
            found.append(float((module(images).argmax(1).numpy() == labels).mean()))
    return found


def curve(rate: float, ours: list[float], theirs: list[float]) -> dict[str, float]:
    """Mean accuracy over error seeds of both, their difference, and the 95 % interval of a difference of equals."""
    spread = np.hypot(np.std(ours, ddof=1) / np.sqrt(len(ours)), np.std(theirs, ddof=1) / np.sqrt(len(theirs)))
    return {
        "ber": rate,
        "accuracy": float(np.mean(ours)),
        "mrfi_accuracy": float(np.mean(theirs)),
        "difference": abs(float(np.mean(ours) - np.mean(theirs))),
        "interval": float(max(2.1 * spread, 0.01)),
    }


if __name__ == "__main__":
    main()
