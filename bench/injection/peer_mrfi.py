"""MRFI on the bundled network, in its own environment: one JSON line for the study.

.venv-peer-mrfi/bin/python -m bench.injection.peer_mrfi BATCHES REPEATS RATES_BER TRIALS

Of several batch sizes (1,8,50) all are timed, and the last is that of the accuracies.
"""

from __future__ import annotations

import json
import sys

import torch
from mrfi import MRFI, EasyConfig

from bench.injection import network as common

FAULTS = """
faultinject:
  - type: activation
    enabled: True
    selector: {method: RandomPositionByRate, poisson: True, rate: 0.0}
    error_mode: {method: FloatRandomBitFlip, floattype: float32}
    module_type: [Conv2d, Linear]
  - type: weight
    name: [weight]
    enabled: True
    selector: {method: RandomPositionByRate, poisson: True, rate: 0.0}
    error_mode: {method: FloatRandomBitFlip, floattype: float32}
    module_type: [Conv2d, Linear]
"""
BITS = 32  # MRFI counts values, each losing one random bit


def main() -> None:
    batches, repeats, trials = [int(each) for each in sys.argv[1].split(",")], int(sys.argv[2]), int(sys.argv[4])
    rates = [float(rate) for rate in sys.argv[3].split(",")]
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    torch.manual_seed(0)
    with torch.inference_mode():
        costs = [cost for batch in batches for cost in timed(batch, repeats)]
        inputs, labels = common.images(batches[-1])
        accuracy = {str(rate): [right(at_rate(rate)(inputs), labels) for _ in range(trials)] for rate in rates}
    print(json.dumps({"costs": costs, "accuracy": accuracy}))


def timed(batch: int, repeats: int) -> list[dict[str, object]]:
    """Time both selectors: the usual one, which may take a position twice, and the exact one."""
    inputs, _ = common.images(batch)
    plain = common.network()
    found: list[dict[str, object]] = []
    for name, faults in (("sparse", FAULTS), ("classic", FAULTS.replace("Rate, poisson: True,", "Rate_classic,"))):
        watch = common.Stopwatch()
        watched, faulty = at_rate(1e-4, faults, watch), at_rate(1e-4, faults)
        own_s = common.own_s(watch, lambda: watched(inputs), repeats)  # noqa: B023  called at once
        plain_s, extra_s = common.overhead(lambda: plain(inputs), lambda: faulty(inputs), repeats)  # noqa: B023
        found.append({"selector": name, "batch": batch, "plain_s": plain_s, "own_s": own_s, "extra_s": extra_s})
    return found


def at_rate(ber: float, faults: str = FAULTS, watch: common.Stopwatch | None = None) -> MRFI:
    network = common.network()
    modules = list(network.modules())
    if watch is not None:
        watch.before(modules)
    made = MRFI(network, EasyConfig.load_string(faults.replace("rate: 0.0", f"rate: {ber * BITS}")))
    if watch is not None:
        watch.behind(modules)
    return made


def right(scores: torch.Tensor, labels) -> float:  # type: ignore[no-untyped-def]
    return float((scores.argmax(1).numpy() == labels).mean())


if __name__ == "__main__":
    main()
