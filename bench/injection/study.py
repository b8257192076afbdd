"""Cost of reading weights and feature maps with bit errors, beside MRFI (PyPI) on the same network, rate and machine.

The bundled network in torch, FP32, one thread, every convolution's and linear layer's weights and input, bit error
rate 1e-4, batches of 1, 8 and 50. Denormal numbers are flushed on both sides, since errors make many. Two costs, both
after the set-up of weak cells: `own_s` is the CPU time between hooks just before and just behind the injector's own,
the medians of which are compared; `extra_s` is that of an injected pass over a plain one, in turn, with all that
injection does to caches and arithmetic, and with the noise of two forward passes. MRFI counts values, so its rate is
32 times as high; its usual selector (`sparse`) may take a position twice, its `classic` one is exact, as ours is. It
leaves inputs as they were changed; ours are put back. At lower rates the shares of right answers are compared. The
ONNX Runtime path is cut at every feature map: its cost is reported with that of the cuts.
"""

from __future__ import annotations

from bench.kit import document
from bench.kit.places import ROOT

document.on_one_core()

import json  # noqa: E402  after the threads are set
import subprocess  # noqa: E402
import time  # noqa: E402
from collections.abc import Iterator, Sequence  # noqa: E402
from dataclasses import asdict, dataclass  # noqa: E402

import numpy as np  # noqa: E402
import torch  # noqa: E402

from amble.core.dram import Bitline, DramErrors, ErrorModel, Uniform  # noqa: E402
from amble.levers.memory.profiles import line_rates  # noqa: E402
from amble.runtimes.faults import Home  # noqa: E402
from amble.runtimes.onnx.faulty import FaultyOnnx  # noqa: E402
from amble.runtimes.torch.faulty import FaultyTorch  # noqa: E402
from bench.injection import network as common  # noqa: E402

PEER = ROOT / ".venv-peer-mrfi" / "bin" / "python"
BER = 1e-4
RATES = (1e-8, 1e-7, 1e-6)  # of the accuracy curve
LINE_SHAPE = 0.0033  # as fitted for vendors A and B


def main() -> None:
    options = document.options("injection", __doc__)
    batches, repeats, trials = ((1, 20), 5, 4) if options.quick else ((1, 8, 50), 11, 10)
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    ours = [in_torch(name, model, batch, repeats) for batch in batches for name, model in models().items()]
    peer = mrfi(batches, repeats, trials)
    costs = [*ours, *in_onnx(batches[-1], repeats), *(peer.costs if peer else [])]
    targets = [
        document.target(
            f"torch, {each.model}, batch {each.batch}: injection over forward pass",
            want="<= 0.1",
            value=each.own_s / each.plain_s,
            unit="1",
        )
        for each in ours
    ]
    targets += [target for each in ours for target in beside(each, peer.costs if peer else [])]
    curves = []
    for rate, theirs in (peer.accuracy if peer else {}).items():
        row = curve(float(rate), accuracy(float(rate), batches[-1], trials), theirs)
        curves.append(row)
        name = f"accuracy against MRFI at BER {rate}: difference over its 95 % interval"
        targets.append(document.target(name, want="<= 1", value=row["difference"] / row["interval"], unit="1"))
    document.finish(options, [*map(asdict, costs), *curves], targets)


def beside(ours: Cost, theirs: Sequence[Cost]) -> Iterator[document.Target]:
    """How much more of its own time MRFI takes: with its exact selector, which does the same, and its usual one."""
    for selector, said in (("classic", "exact"), ("sparse", "usual, inexact")):
        own_s = [cost.own_s for cost in theirs if (cost.model, cost.batch) == (selector, ours.batch)]
        name = f"{ours.model}, batch {ours.batch}: MRFI's {said} selector over ours"
        yield document.target(name, want=">= 10", value=own_s[0] / ours.own_s if own_s else None, unit="1")


@dataclass(frozen=True, slots=True)
class Cost:
    """What an injector took beside a plain pass [s]; None where it was not measured."""

    path: str
    model: str
    batch: int
    plain_s: float
    own_s: float
    extra_s: float
    setup_s: float | None = None


def models() -> dict[str, ErrorModel]:
    lines = line_rates(BER, LINE_SHAPE, num_lines=65_536, module=0)
    return {
        "uniform, transient": Uniform(1.0, BER),
        "uniform, persistent": Uniform(BER, 1.0),
        "bitline, persistent": Bitline(lines, np.ones(len(lines))),
    }


def faulty(model: ErrorModel) -> FaultyTorch:
    """Every layer's tensors one after the other in memory."""
    network = common.network()
    kinds = (torch.nn.Conv2d, torch.nn.Linear)
    layers = [name for name, module in network.named_modules() if isinstance(module, kinds)]
    home = Home(DramErrors(model))
    return FaultyTorch(network, weights=dict.fromkeys(layers, home), inputs=dict.fromkeys(layers, home))


def in_torch(name: str, model: ErrorModel, batch: int, repeats: int) -> Cost:
    network, (images, _) = faulty(model), common.images(batch)
    layers = [module for module in network.module.modules() if isinstance(module, torch.nn.Conv2d | torch.nn.Linear)]
    seeds, watch = iter(range(10_000)), common.Stopwatch()

    def injected() -> None:
        with network.reading(next(seeds)) as module:
            module(images)

    def watched() -> None:
        handles = watch.before(layers)
        watch.start()
        with network.reading(next(seeds)) as module:
            watch.stop()
            handles += watch.behind(layers)
            module(images)
            watch.start()
        watch.stop()
        for handle in handles:
            handle.remove()

    start = time.process_time()
    injected()
    first_s = time.process_time() - start
    with torch.inference_mode():
        own_s = common.own_s(watch, watched, repeats)
        plain_s, extra_s = common.overhead(lambda: network.module(images), injected, repeats)
    return Cost("torch", name, batch, plain_s, own_s, extra_s, max(first_s - plain_s - own_s, 0.0))


def in_onnx(batch: int, repeats: int) -> list[Cost]:
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
        found.append(Cost("onnx", name, batch, plain_s, extra_s, extra_s))
    _, extra_s = common.overhead(lambda: None, lambda: weights.inject_weights(next(seeds)), repeats)
    return [*found, Cost("onnx", "weights, uniform, transient: a new session", batch, plain_s, extra_s, extra_s)]


@dataclass(frozen=True, slots=True)
class Peer:
    """What MRFI took, and its accuracies by rate."""

    costs: list[Cost]
    accuracy: dict[str, list[float]]


def mrfi(batches: tuple[int, ...], repeats: int, trials: int) -> Peer | None:
    if not PEER.exists():
        return None
    given = [",".join(map(str, batches)), str(repeats), ",".join(map(str, RATES)), str(trials)]
    answer = subprocess.run(
        [PEER, "-m", "bench.injection.peer_mrfi", *given],
        capture_output=True,
        text=True,
        check=True,
        timeout=900,
        cwd=ROOT,
    )
    found = json.loads(answer.stdout.strip().splitlines()[-1])
    costs = [Cost("mrfi", each.pop("selector"), **each) for each in found["costs"]]
    return Peer(costs, found["accuracy"])


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
