"""MRFI on the bundled network, in its own environment: one JSON line for `bench/injection.py`.

.venv-peer-mrfi/bin/python bench/injection_mrfi.py BATCH REPEATS RATES_BER TRIALS
"""

from __future__ import annotations

import json
import sys

import injection_network as common
import torch
from mrfi import MRFI, EasyConfig

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
    batch, repeats, trials = int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[4])
    rates = [float(rate) for rate in sys.argv[3].split(",")]
    torch.set_num_threads(1)
    torch.manual_seed(0)
    plain = common.network()
    inputs, labels = common.images(batch)
    with torch.inference_mode():
        faulty = at_rate(1e-4)
        plain_s, extra_s = common.overhead(lambda: plain(inputs), lambda: faulty(inputs), repeats)
        exact = at_rate(1e-4, FAULTS.replace("Rate, poisson: True,", "Rate_classic,"))
        _, classic_s = common.overhead(lambda: plain(inputs), lambda: exact(inputs), max(repeats // 3, 2))
        accuracy = {str(rate): [right(at_rate(rate)(inputs), labels) for _ in range(trials)] for rate in rates}
    print(json.dumps({"plain_s": plain_s, "extra_s": extra_s, "classic_s": classic_s, "accuracy": accuracy}))


def at_rate(ber: float, faults: str = FAULTS) -> MRFI:
    return MRFI(common.network(), EasyConfig.load_string(faults.replace("rate: 0.0", f"rate: {ber * BITS}")))


def right(scores: torch.Tensor, labels) -> float:  # type: ignore[no-untyped-def]
    return float((scores.argmax(1).numpy() == labels).mean())


if __name__ == "__main__":
    main()
