"""One NVIDIA GPU, read only, in under eight minutes, with torch alone -> recorded tables, by hand on such a machine.

    python bench/hardware/gpu.py [--out DIR] [--limit SECONDS] [--tiny]

Sets nothing: the clocks are what the driver's governor makes of them, and every row tells the clock that ran. Measured
are energy by the board's counter against power that is summed up, operators' times and energy of a ResNet-50 and a
transformer layer in every precision the GPU has, and staircases of time over width. Steps that do not fit into the
limit are left out and said. `--tiny` runs the same steps on torch's CPU with a clock of its own, to try this script.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "src"), str(ROOT)]

from amble.core.errors import Refused  # noqa: E402
from amble.core.ports import FloatArray  # noqa: E402
from amble.runtimes.torch.runner import replayed_s  # noqa: E402
from bench.models.architectures import initialise, resnet18, resnet50  # noqa: E402

RUNS, WIDTH_STEP = 30, 8
PRECISIONS = {"fp32": torch.float32, "tf32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
Timer = Callable[[Callable[[], object], Callable[[], object], int], FloatArray]
Record = dict[str, object]


@dataclass(slots=True)
class Card:
    """What is read of the board while work runs; nothing where there is no NVML."""

    place: str
    timer: Timer
    board: Any = None
    until_s: float = field(default=float("inf"))
    window_s: float = 1.5

    def late(self, need_s: float) -> bool:
        """Tell whether a step of this length would end after the limit."""
        return time.monotonic() + need_s > self.until_s

    def now(self) -> Record:
        """Clocks, power, temperature and what holds the clocks back."""
        if self.board is None:
            return {}
        return {
            "core_hz": self.board.core_hz(),
            "memory_hz": self.board.memory_hz(),
            "power_w": self.board.power_w(),
            "temperature_c": self.board.temperature_c(),
            "throttled": list(self.board.throttled()),
        }

    def energy_j(self) -> float | None:
        """Return the board's counter."""
        try:
            return None if self.board is None else float(self.board.energy_j())
        except Refused:
            return None


def metered(card: Card, work: Callable[[], object]) -> Record:
    """Repeat work for a window: time and energy of one run, by the counter and by power that is summed up."""
    powers: list[tuple[float, float]] = []
    count, before_j, begin_s = 0, card.energy_j(), time.perf_counter()
    while time.perf_counter() - begin_s < card.window_s and not card.late(0.0):
        for _ in range(10):
            work()
        count += 10
        synchronise(card.place)
        if card.board is not None:
            powers.append((time.perf_counter(), float(card.board.power_w())))
    passed_s, after_j = time.perf_counter() - begin_s, card.energy_j()
    counted_j = None if before_j is None or after_j is None else (after_j - before_j) / max(count, 1)
    mean_w = _mean_w(powers) if len(powers) > 2 else None
    return {
        "window_s": passed_s,
        "runs": count,
        "counter_j": counted_j,
        "power_j": None if mean_w is None else mean_w * passed_s / max(count, 1),
        **card.now(),
    }


def _mean_w(powers: list[tuple[float, float]]) -> float:
    """Return the mean over time of (time [s], power [W])."""
    times_s, watts = np.array(powers).T
    return float(np.trapezoid(watts, times_s) / (times_s[-1] - times_s[0]))


def synchronise(place: str) -> None:
    """Wait for the GPU."""
    if place.startswith("cuda"):
        torch.cuda.synchronize()


def operators(card: Card, name: str, model: nn.Module, given: torch.Tensor, precision: str) -> Iterator[Record]:
    """Time the whole network and each of its leaf layers on the tensors that they really get, and meter the whole."""
    dtype = PRECISIONS[precision]
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision == "tf32"
    ready, tensor = model.to(card.place, dtype).eval(), given.to(card.place, dtype)
    taken: list[tuple[str, nn.Module, tuple[Any, ...]]] = []
    hooks = [
        layer.register_forward_pre_hook(lambda layer, args, label=label: taken.append((label, layer, args)))
        for label, layer in ready.named_modules()
        if not list(layer.children())
    ]
    with torch.inference_mode():
        ready(tensor)
        for hook in hooks:
            hook.remove()
        common = {"network": name, "precision": precision}
        whole_s = card.timer(lambda: ready(tensor), lambda: None, RUNS)
        yield {
            **common,
            "what": "whole",
            "latency_s": float(np.median(whole_s)),
            **metered(card, lambda: ready(tensor)),
        }
        for label, layer, args in taken:
            if card.late(5.0):
                return
            times_s = card.timer(partial(layer, *args), lambda: None, RUNS)
            yield {**common, "what": "operator", "operator": label, "kind": type(layer).__name__,
                   "latency_s": float(np.median(times_s))}  # fmt: skip


def staircase(card: Card, precision: str, widths: range, *, batch: int) -> Iterator[Record]:
    """Time a 3 x 3 convolution and a dense layer over their output widths: steps where a wave of blocks is full."""
    dtype = PRECISIONS[precision]
    image, rows = torch.randn(batch, 256, 28, 28), torch.randn(256 * batch, 1024)
    for width in widths:
        if card.late(5.0):
            return
        layers = {"conv": (nn.Conv2d(256, width, 3, padding=1), image), "dense": (nn.Linear(1024, width), rows)}
        for kind, (layer, given) in layers.items():
            ready, tensor = layer.to(card.place, dtype).eval(), given.to(card.place, dtype)
            with torch.inference_mode():
                times_s = card.timer(partial(ready, tensor), lambda: None, RUNS)
            yield {"what": "width", "kind": kind, "precision": precision, "width": width,
                   "latency_s": float(np.median(times_s)), **card.now()}  # fmt: skip


def float8(card: Card) -> Iterator[Record]:
    """Time a matrix product in FP8, where the GPU and this torch have it."""
    kind = getattr(torch, "float8_e4m3fn", None)
    product = getattr(torch, "_scaled_mm", None)
    if (
        kind is None
        or product is None
        or not card.place.startswith("cuda")
        or torch.cuda.get_device_capability() < (8, 9)
    ):
        yield {"what": "skipped", "step": "fp8", "why": "this GPU or this torch has none"}
        return
    left = torch.randn(4096, 4096, device=card.place).to(kind)
    right = torch.randn(4096, 4096, device=card.place).to(kind).t()
    one = torch.ones((), device=card.place)

    def work() -> object:
        return product(left, right, scale_a=one, scale_b=one, out_dtype=torch.bfloat16)

    times_s = card.timer(work, lambda: None, RUNS)
    yield {"what": "product", "precision": "fp8", "latency_s": float(np.median(times_s)), **metered(card, work)}


def steps(card: Card, *, tiny: bool) -> Iterator[Record]:
    """Yield every record, the most wanted first."""
    has = [each for each in PRECISIONS if each != "tf32" or card.place.startswith("cuda")]
    networks: list[tuple[str, nn.Module, torch.Tensor]] = [
        ("resnet18", initialise(resnet18()), torch.randn(1, 3, 64, 64))
        if tiny
        else ("resnet50", initialise(resnet50()), torch.randn(16, 3, 224, 224)),
        (
            "encoder layer",
            nn.TransformerEncoderLayer(768, 12, 3072, batch_first=True),
            torch.randn(1 if tiny else 8, 128, 768),
        ),
    ]
    yield {"what": "idle", **card.now()}
    for precision in has[:1] if tiny else has:
        for name, model, given in networks:
            if card.late(20.0):
                yield {"what": "skipped", "step": f"{name} {precision}", "why": "the limit"}
                continue
            yield from operators(card, name, model, given, precision)
    yield from float8(card)
    widths = range(WIDTH_STEP, 33 if tiny else 513, WIDTH_STEP)
    yield from staircase(card, "fp32" if tiny else "fp16", widths, batch=1 if tiny else 16)
    yield {"what": "done", **card.now()}


def opened(tiny: bool, limit_s: float) -> Card:
    """Open GPU 0, and its NVML where it is; or the CPU for a trial."""
    until_s = time.monotonic() + limit_s
    if tiny:
        return Card("cpu", lambda work, between, runs: _walled(work, 2), None, until_s, 0.01)
    if not torch.cuda.is_available():
        raise SystemExit("torch sees no NVIDIA GPU here")
    try:
        from amble.devices.nvml import Board

        return Card("cuda", replayed_s, Board(0), until_s)
    except (ImportError, Refused) as reason:
        print(f"no meter and no clocks: {reason}", file=sys.stderr)
        return Card("cuda", replayed_s, None, until_s)


def _walled(work: Callable[[], object], runs: int) -> FloatArray:
    times_s = []
    for _ in range(runs):
        begin_s = time.perf_counter()
        work()
        times_s.append(time.perf_counter() - begin_s)
    return np.array(times_s)


def main(argv: list[str] | None = None) -> Path:
    """Write one line of JSON a record as they come, so that what was measured before a stop is kept."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("."))
    parser.add_argument("--limit", type=float, default=420.0)
    parser.add_argument("--tiny", action="store_true")
    given = parser.parse_args(argv)
    card = opened(given.tiny, given.limit)
    name = torch.cuda.get_device_name(0).replace(" ", "-") if card.place == "cuda" else "trial"
    path: Path = given.out / f"gpu@{name}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        head = {"what": "head", "torch": torch.__version__, "cuda": torch.version.cuda, "gpu": name}
        for record in itertools.chain([head], steps(card, tiny=given.tiny)):
            file.write(json.dumps(record) + "\n")
            file.flush()
    print(f"{path}: {time.monotonic() - card.until_s + given.limit:.0f} s")
    return path


if __name__ == "__main__":
    main()
