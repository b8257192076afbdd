"""FP32 and INT8 of the bundled network on this real CPU under a rising load: what switching between them is worth.

The load is one staircase of Poisson arrivals, each step a tenth higher. A step is held while 99 % of its requests are
answered within the SLO (2 x the FP32 service time + 10 ms), refused ones counted as late, and every step below it is
held. Three governors serve the same arrivals through the same engine: FP32 alone, and two that switch: `pit` (FP32
while there is slack) and `amble` (whatever costs least within its accuracy budget of 1 %). Without a meter time stands
for energy. INT8 is what `amble quantize` chose here, calibrated on held-out images; the requests are test images.

`clock` says what time is. "cpu": the thread's own CPU time for all work, the engine's included, and no waiting for the
time between: what this CPU does when nobody else uses it. "wall": real time, which other load on the machine lengthens.
One core, one thread; the generator of the load is the list of arrivals.

A slice is the preparation (``--slice prepare``: variants, and times on both clocks) or one governor on one clock
(``--slice wall/amble``), each a few minutes at most. Slices of this code are kept under build/ and not measured again
(``--fresh``: all of them anew), so that a run can be taken in pieces on one kind of CPU; ``--kept`` sums up what there
is, and ``--judge FILE`` judges the records of FILE, those of a clock replaced by the slices that are kept here.
"""

from __future__ import annotations

from bench.kit import ages, document
from bench.kit.cells import kept, slices
from bench.kit.places import BUILD

document.on_one_core()

import hashlib  # noqa: E402
import json  # noqa: E402
import shutil  # noqa: E402
import time  # noqa: E402
from collections.abc import Callable, Sequence  # noqa: E402
from dataclasses import dataclass  # noqa: E402
from functools import partial  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any, cast  # noqa: E402

import numpy as np  # noqa: E402

import amble  # noqa: E402
from amble import bundled  # noqa: E402
from amble.core import files  # noqa: E402
from amble.core.graph import Graph  # noqa: E402
from amble.core.ladder import Ladder, Rung  # noqa: E402
from amble.core.point import Clocks, OperatingPoint  # noqa: E402
from amble.core.ports import Clock, Device  # noqa: E402
from amble.core.schedule import Deadline  # noqa: E402
from amble.core.variants import FORMAT as VARIANTS  # noqa: E402
from amble.core.variants import Variant, Variants  # noqa: E402
from amble.devices.host import MonotonicClock, Unmetered  # noqa: E402
from amble.levers.precision import quantizing  # noqa: E402
from amble.runtimes import processors  # noqa: E402
from amble.runtimes.onnx import OnnxRunner  # noqa: E402
from amble.stages.control.batcher import Refusal, Request  # noqa: E402
from amble.stages.control.engine import Batch, Engine, Lane  # noqa: E402
from amble.stages.control.governor import Governor  # noqa: E402
from amble.stages.control.governors import Amble, Budget, Pit, max_clocks  # noqa: E402
from amble.stages.measure.accuracy import Examples  # noqa: E402
from amble.stages.measure.rounds import rounds  # noqa: E402
from amble.stages.plan.ladder import build  # noqa: E402

SEED = 20_261_121
FIRST, LAST, FACTOR = 0.3, 1.15, 1.1  # of the FP32 capacity, of the INT8 capacity, from step to step
HELD = 0.99
GOVERNORS = ("max", "pit", "amble", "amble-bound")


class BusyClock:
    """The thread's CPU time, and sleep that takes none: a real CPU's work in a time of its own."""

    def __init__(self) -> None:
        self._slept_s = 0.0

    def now_s(self) -> float:
        return time.thread_time() + self._slept_s

    def sleep(self, duration_s: float) -> None:
        self._slept_s += max(0.0, duration_s)


class FixedClocks:
    """Nothing to set."""

    def available(self) -> tuple[Clocks, ...]:
        return (Clocks(),)

    def current(self) -> Clocks:
        return Clocks()

    def apply(self, clocks: Clocks) -> None:
        assert clocks == Clocks()


@dataclass(slots=True)
class Staircase:
    """All steps' arrivals [s] with images, on a device's clock: a source of the engine."""

    arrivals_s: list[float]
    clock: Clock
    deadline_s: float
    examples: Examples
    taken: int = 0

    @property
    def closed(self) -> bool:
        return self.taken >= len(self.arrivals_s)

    def take(self, now_s: float) -> Sequence[Request]:
        found = []
        while not self.closed and self.arrivals_s[self.taken] <= now_s:
            index, at = self.taken, self.arrivals_s[self.taken]
            inputs = self.examples.request(index)
            found.append(Request(at, at + self.deadline_s, model="m", inputs=inputs, ticket=index))
            self.taken += 1
        return found

    def wait(self, until_s: float) -> None:
        until_s = until_s if self.closed else min(until_s, self.arrivals_s[self.taken])
        if until_s < float("inf"):
            self.clock.sleep(until_s - self.clock.now_s())


class Ledger:
    """What became of every request: a sink of the engine.

    latency_s: [request], infinite where refused; is_int8, is_right: [request], False where refused.
    """

    def __init__(self, examples: Examples, num_requests: int) -> None:
        self._examples = examples
        self.latency_s = np.full(num_requests, np.inf)
        self.is_int8 = np.zeros(num_requests, dtype=bool)
        self.is_right = np.zeros(num_requests, dtype=bool)

    def answered(self, batch: Batch) -> None:
        for request, outputs in zip(batch.requests, batch.outputs, strict=True):
            self.latency_s[request.ticket] = batch.finish_s - request.arrival_s
            self.is_int8[request.ticket] = batch.rung.variant != "fp32"
            self.is_right[request.ticket] = bool(self._examples.judge(request.ticket, outputs))

    def refused(self, request: Request, refusal: Refusal) -> None:
        assert request.ticket is not None


@dataclass(frozen=True, slots=True)
class Setting:
    """What all runs share. ``fp32_right``: which test images FP32 answers rightly [image]."""

    graphs: dict[str, Graph]
    runner: OnnxRunner
    examples: Examples
    fp32_right: np.ndarray
    variants: Variants
    step_s: float
    factor: float

    @property
    def int8(self) -> Variant:
        return self.variants.fastest("int8")

    @property
    def speedup(self) -> float:
        assert self.int8.speedup is not None
        return self.int8.speedup.value


@dataclass(frozen=True, slots=True)
class Bench:
    """One clock: the device that keeps it, and what the rungs take on it."""

    name: str
    device: Device
    ladder: Ladder
    fp32_s: float
    slo_s: float


def main() -> None:
    own, rest = slices("prepare|CLOCK/GOVERNOR")
    options = document.options("precision_on_host", __doc__, rest, judges=True)
    cpu = hashlib.sha256(str(processors.here()).encode()).hexdigest()[:8]
    code = ages.key("precision_on_host")
    folder = BUILD / "precision_on_host" / ("quick" if options.quick else "full") / cpu / code
    if options.judge:
        records = replaced(document.stored(options.judge), folder)
        document.judged(options, records, goals(records))
        return
    if own.fresh:
        shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    setting = prepared(folder, quick=options.quick)
    results: list[document.Record] = []
    clocks: tuple[tuple[str, Clock], ...] = (("cpu", BusyClock()), ("wall", MonotonicClock()))
    for name, clock in clocks:
        bench = opened(setting, name, clock, folder)
        wanted = {word: each for word, each in governors(bench).items() if own.slice in (None, f"{name}/{word}")}
        if own.kept:
            wanted = {word: each for word, each in wanted.items() if (folder / f"{name}-{word}.json").exists()}
        for word, each in wanted.items():
            results += kept(folder / f"{name}-{word}.json", partial(staircase, setting, bench, word, each))
    if own.slice is None:
        document.finish(options, results, goals(results))


def replaced(records: Sequence[document.Record], folder: Path) -> Sequence[document.Record]:
    """Put the slices that are kept in place of the records of the same clock, if FP32 alone is among them."""
    for clock in ("cpu", "wall"):
        slices = [folder / f"{clock}-{word}.json" for word in GOVERNORS]
        if slices[0].exists():
            new = [each for path in slices if path.exists() for each in json.loads(path.read_text())]
            records = [*new, *(each for each in records if each["clock"] != clock)]
    return records


def quantised(folder: Path, *, quick: bool) -> Variants:
    """Quantise on held-out images, unless that was done before."""
    path = folder / quantizing.FILE
    if path.exists():
        return files.load(path, VARIANTS)
    images, labels = bundled.fashion_mnist("held_out")
    count = 500 if quick else 4000
    np.savez(folder / "held_out.npz", image=bundled.model_input(images[:count]), labels=labels[:count])
    allowed = "4pt" if quick else "1pt"  # fewer images show less
    return amble.quantize(
        "fashion-resnet", data=folder / "held_out.npz", device="host", output=folder, max_loss=allowed, examples=count
    )


def prepared(folder: Path, *, quick: bool) -> Setting:
    """Quantise; answer the test images in FP32 once."""
    variants = quantised(folder, quick=quick)
    if not any(each.precision == "int8" for each in variants.kept):
        raise SystemExit(f"no INT8 variant was kept: {[each.reason for each in variants.variants]}")
    graphs = quantizing.graphs(folder / quantizing.FILE)
    images, labels = bundled.fashion_mnist("test")
    count = 500 if quick else 5000
    examples = Examples({"image": bundled.model_input(images[:count])}, labels[:count].astype(np.int64))
    runner = OnnxRunner()
    for precision in ("fp32", "int8") * 10:  # a server is warm before it is asked
        runner.run(graphs[precision], OperatingPoint(precision=precision), examples.request(0))
    point = OperatingPoint(precision="fp32")

    def judged() -> list[bool]:
        found = (examples.judge(i, runner.run(graphs["fp32"], point, examples.request(i))) for i in range(count))
        return [bool(each) for each in found]

    right = kept(folder / "fp32_right.json", judged)
    step_s, factor = (0.7, 1.35) if quick else (2.0, FACTOR)
    return Setting(graphs, runner, examples, np.array(right, dtype=bool), variants, step_s, factor)


def opened(setting: Setting, name: str, clock: Clock, folder: Path) -> Bench:
    """Time both variants side by side on this clock → the ladder that the governors choose from."""
    device = Device("host", clock, Unmetered(clock), FixedClocks(), setting.runner, "real", ("fp32", "int8"))
    inputs = setting.examples.request(0)

    def work(precision: str) -> Callable[[], object]:
        point = OperatingPoint(precision=precision)
        return lambda: setting.runner.run(setting.graphs[precision], point, inputs)

    def timed() -> list[list[float]]:
        found: list[list[float]] = rounds(
            [work("fp32"), work("int8")], clock.now_s, num_rounds=15, round_s=0.05
        ).tolist()
        return found

    times_s = np.array(kept(folder / f"{name}-times.json", timed))
    fp32_s, int8_s = (float(each) for each in np.median(times_s, axis=0))
    margin = float(np.quantile(times_s / np.median(times_s, axis=0), 0.99))
    accuracy = min(1.0, setting.variants.relative(setting.int8))
    rungs = [rung("fp32", fp32_s, 1.0), rung("int8", int8_s, min(accuracy, 0.9999))]
    ladder = build(rungs, graph="fashion-resnet", device="host", margin=margin)
    return Bench(name, device, ladder, fp32_s, 2.0 * fp32_s + 0.010)


def rung(precision: str, latency_s: float, accuracy: float) -> Rung:
    """Without a meter time stands for energy, one watt while busy."""
    return Rung(precision, Clocks(), (latency_s,), (latency_s,), accuracy)


def governors(bench: Bench) -> dict[str, Governor[Any]]:
    """FP32 alone, and those that switch; the last with a budget that binds."""
    objective, stated = Deadline(bench.slo_s), 1.0 - min(rung.accuracy for rung in bench.ladder.rungs)
    found: tuple[Governor[Any], ...] = (
        max_clocks(bench.ladder),
        Pit(bench.ladder),
        Amble(bench.ladder, objective, Budget(allowed=0.01)),
        Amble(bench.ladder, objective, Budget(allowed=stated / 2)),
    )
    return dict(zip(GOVERNORS, found, strict=True))


def staircase(setting: Setting, bench: Bench, word: str, governor: Governor[Any]) -> list[document.Record]:
    """Serve the whole staircase in one run; FP32 alone as far as its own capacity."""
    top = LAST if word == "max" else LAST * setting.speedup
    rates_hz = [FIRST / bench.fp32_s]
    while rates_hz[-1] < top / bench.fp32_s:
        rates_hz.append(rates_hz[-1] * setting.factor)
    after_s, step_of = arrivals(rates_hz, setting.step_s)
    ledger = Ledger(setting.examples, len(after_s))
    lane = Lane("m", governor, lambda variant, rows: setting.graphs[variant])
    clock = bench.device.clock
    source = Staircase((clock.now_s() + after_s).tolist(), clock, bench.slo_s, setting.examples)
    Engine(bench.device, [lane], ledger).run(source)
    about = {"clock": bench.name, "governor": word, "speedup": setting.speedup}
    return [
        about
        | {"rate_hz": rate_hz, "of_fp32_capacity": rate_hz * bench.fp32_s}
        | step(setting, bench, ledger, np.flatnonzero(step_of == index))
        for index, rate_hz in enumerate(rates_hz)
    ]


def arrivals(rates_hz: Sequence[float], step_s: float) -> tuple[np.ndarray, np.ndarray]:
    """Poisson arrivals [s] of all steps, and the step of each [request]; the same for every governor."""
    rng = np.random.default_rng(SEED)
    times_s = [np.sort(rng.uniform(0.0, step_s, rng.poisson(rate_hz * step_s))) for rate_hz in rates_hz]
    starts_s = step_s * np.arange(len(rates_hz))
    step_of = np.repeat(np.arange(len(rates_hz)), [len(each) for each in times_s])
    return np.concatenate([start_s + each for start_s, each in zip(starts_s, times_s, strict=True)]), step_of


def step(setting: Setting, bench: Bench, ledger: Ledger, asked: np.ndarray) -> dict[str, object]:
    """Sum up the requests of one step."""
    latency_s = ledger.latency_s[asked]
    answered = asked[np.isfinite(latency_s)]
    in_time = float(np.mean(latency_s <= bench.slo_s))
    return {
        "requests": len(asked),
        "p50_s": float(np.quantile(latency_s, 0.5, method="higher")),
        "p99_s": float(np.quantile(latency_s, HELD, method="higher")),
        "slo_s": bench.slo_s,
        "in_time": in_time,
        "held": in_time >= HELD,
        "refused": len(asked) - len(answered),
        "int8_share": float(ledger.is_int8[answered].mean()) if len(answered) else 0.0,
        "right": int(ledger.is_right[answered].sum()),
        "fp32_right": int(setting.fp32_right[answered % len(setting.examples)].sum()),
    }


def goals(records: Sequence[document.Record]) -> list[document.Target]:
    """Compare what each governor holds with FP32 alone, and its answers with FP32's on the same images."""
    found = []
    runs: dict[tuple[str, str], list[document.Record]] = {}
    for record in records:
        runs.setdefault((str(record["clock"]), str(record["governor"])), []).append(record)
    for (clock, governor), run in runs.items():
        if governor == "max" or (clock, "max") not in runs:
            continue
        alone_hz, speedup = held_hz(runs[clock, "max"]), cast(float, run[0]["speedup"])
        ratio = held_hz(run) / (alone_hz * speedup) if alone_hz else None
        name = f"{governor}, {clock} clock"
        found.append(document.target(f"rate held over s x FP32's, {name}", want=">= 0.8", value=ratio, unit="1"))
        held = steps_held(run)
        accuracy = _sum(held, "right") / max(1.0, _sum(held, "fp32_right"))
        found.append(document.target(f"accuracy over FP32's, {name}", want=">= 0.99", value=accuracy, unit="1"))
    return found


def steps_held(run: Sequence[document.Record]) -> list[document.Record]:
    """The steps up to the highest rate that was held."""
    return [record for record in run if cast(float, record["rate_hz"]) <= held_hz(run)]


def held_hz(run: Sequence[document.Record]) -> float:
    """The highest rate up to which every step was held; 0 where not even the first was."""
    held = 0.0
    for record in run:
        if not record["held"]:
            break
        held = cast(float, record["rate_hz"])
    return held


def _sum(records: Sequence[document.Record], name: str) -> float:
    return sum(cast(float, record[name]) for record in records)
