"""A network, examples and the memories its tensors live in → the accuracy lost, on one module or on many fresh ones."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from amble.core.dram import Bitline, DramErrors, ErrorModel, Uniform
from amble.core.draws import key_of
from amble.core.examples import Examples
from amble.core.spreading import OnProgress, Spread, in_order
from amble.levers.memory import tolerance
from amble.levers.memory.partitions import DramPlan, Proof, Shown
from amble.levers.memory.profiles import MemoryProfile, line_rates
from amble.levers.memory.tolerance import CONFIDENCE, KEPT_ON_OTHERS, KEPT_SHARE
from amble.runtimes.faults import Bounds, Home, bounds_of
from amble.runtimes.onnx import hardening
from amble.runtimes.onnx.faulty import FaultyOnnx
from amble.runtimes.onnx.stored import cut_to

__all__ = ["SEEDS_APART", "Faulty", "Proving", "on_module", "trials"]

SEEDS_APART = 1_000
"""Between the seeds of two mappings that are proven, so that each is shown on modules of its own."""
_PROVING, _TRYING = 1_000_000, 2_000_000  # first modules of proofs and of trials, above a seed

Bools = NDArray[np.bool_]
Answers = NDArray[np.int8]


@dataclass(frozen=True, slots=True)
class Faulty:
    """A network, examples, the bounds of its tensors, and its accuracy without errors.

    ``right`` tells for each example whether the answer is right without errors.
    """

    network: FaultyOnnx
    examples: Examples
    bounds: Mapping[str, Bounds]
    clean: float
    right: Bools = field(default_factory=lambda: np.zeros(0, dtype=bool))

    @classmethod
    def of(cls, network: FaultyOnnx, examples: Examples) -> Faulty:
        """Watch the clean network: floating-point tensors get bounds from what it does, or are cut to by itself."""
        limits = cut_to(network.model)
        bounds = {
            name: Bounds(*limits[name], "zero") if name in limits else bounds_of(each, mode="zero")
            for name, each in {**network.extremes(examples.inputs), **network.weights}.items()
            if _floating(each.dtype)
        }
        return cls(network, examples, bounds, 0.0).on(examples)

    @property
    def types(self) -> tuple[str, ...]:
        """Return the tensors that may have errors."""
        weights = self.network.weights
        features = dict.fromkeys(layer.input for layer in self.network.layers)
        return (*weights, *features)

    def on(self, examples: Examples) -> Faulty:
        """Return the same network on other examples."""
        self.network.place({})
        right = _right(self.network, examples, 0)
        return replace(self, examples=examples, clean=float(right.mean()), right=right)

    def loss(self, homes: Mapping[str, tuple[DramErrors, int]], seed: int) -> float:
        """Return the accuracy lost when tensors live in these memories, at these addresses."""
        return float(self.lost(homes, seed).sum()) / len(self.examples)  # one in a hundred is 0.01, and keeps one point

    def lost(self, homes: Mapping[str, tuple[DramErrors, int]], seed: int) -> Answers:
        """Return for each example 1 where errors cost the right answer, -1 where they gave it, and 0 [example]."""
        features = {layer.input for layer in self.network.layers}
        self.network.place(
            {
                name: Home(errors, start, self.bounds.get(name), name in features, name in features)
                for name, (errors, start) in homes.items()
            }
        )
        self.network.injector.forget()
        self.network.inject_weights(seed)
        return self.right.astype(np.int8) - _right(self.network, self.examples, seed).astype(np.int8)

    def hardened(self) -> onnx.ModelProto:
        """Return the network with the bounds of its feature maps checked in the graph."""
        features = {layer.input for layer in self.network.layers}
        return hardening.hardened(self.network.model, {n: each for n, each in self.bounds.items() if n in features})

    def __reduce__(self) -> tuple[object, ...]:
        """Travel as data."""
        content = self.network.model.SerializeToString()
        return _arrived, (content, self.examples, dict(self.bounds), self.clean, self.right)

    def at_rates(self, rates: Mapping[str, float], seed: int) -> float:
        """Return the accuracy lost with uniform errors at these rates."""
        return self.loss({name: (DramErrors(Uniform(1.0, rate)), 0) for name, rate in rates.items()}, seed)


def _arrived(content: bytes, examples: Examples, bounds: Mapping[str, Bounds], clean: float, right: Bools) -> Faulty:
    with tempfile.TemporaryDirectory(prefix="amble-") as folder:
        path = Path(folder) / "network.onnx"
        path.write_bytes(content)
        return Faulty(FaultyOnnx(path), examples, bounds, clean, right)


def _floating(dtype: np.dtype[Any]) -> bool:
    return np.issubdtype(dtype, np.floating) or dtype.name == "bfloat16"  # which is none of numpy's own


def _right(network: FaultyOnnx, examples: Examples, seed: int) -> Bools:
    """Answer as many examples at once as memory is meant to hold → which answers are right [example]."""
    assert examples.labels is not None
    once = network.examples_at_once(examples.inputs)
    found = []
    for read, start in enumerate(range(0, len(examples), once)):
        part = examples.rows(start, start + once)
        scores = next(iter(network.run(part.inputs, seed, read=read).values()))
        found.append(scores.reshape(len(part), -1).argmax(axis=1) == part.labels)
    return np.concatenate(found)


@dataclass(frozen=True, slots=True)
class _OnModules:
    """What errors cost a mapping on a module, by the module's number."""

    network: Faulty
    profile: MemoryProfile

    def __call__(self, item: tuple[DramPlan, int], on_progress: OnProgress) -> Answers:
        """Show a mapping on one module."""
        plan, module = item
        return _on_module(plan, self.network, self.profile, module)


@dataclass(frozen=True, slots=True)
class Proving:
    """Runs each mapping on modules that nobody has seen, their errors clustered on bitlines as measured.

    ``max_loss`` is what may be lost, 0.01 being a point. Beside the modules, the examples are a sample: the share of
    modules that keep the target on as many others is estimated from the same trials, and must be a little higher.
    Each mapping has modules of its own, of the typical error rates of their vendor, and more of them the more mappings
    failed before: one that passes by chance is as rare as if there had been one attempt. ``failed_before`` counts
    attempts on other modules than these. ``spread`` does the trials.
    """

    network: Faulty
    profile: MemoryProfile
    max_loss: float
    first_seed: int
    on_progress: OnProgress = lambda what, done, total: None
    failed_before: int = 0
    spread: Spread = in_order

    def __call__(self, plan: DramPlan, attempt: int) -> Shown:
        """Show on the modules of this attempt, before which as many failed, whether a mapping keeps its accuracy."""
        answers: list[Answers] = []

        def trial(_: Mapping[str, float], module: int) -> float:
            answers.append(next(lost))
            self.on_progress("verifying", len(answers), needed)
            return float(answers[-1].sum()) / len(self.network.examples)

        seed = self.first_seed + _PROVING + SEEDS_APART * attempt
        confidence = tolerance.confidence_of(self.failed_before + attempt)
        needed = tolerance.num_needed(KEPT_SHARE, confidence)
        work, modules = _OnModules(self.network, self.profile), [(plan, seed + number) for number in range(needed)]
        with closing(self.spread(work, modules, lambda what, done, total: None)) as lost:
            found = tolerance.verify(
                trial, {}, max_loss=self.max_loss, share=KEPT_SHARE, confidence=confidence, seed=seed
            )
        others = tolerance.on_others(np.array(answers), max_loss=self.max_loss, seed=self.first_seed)
        proof = Proof(self.network.clean, len(self.network.examples), self.max_loss, found.losses)
        said = (
            f"{found.num_kept} of {found.num_trials} fresh modules of typical error rates keep "
            f"{self.max_loss * 100:.3g} points on {len(self.network.examples)} other examples, "
            f"worst loss {found.worst_loss * 100:.3g} points: at least {found.share_low:.1%} do, "
            f"with {CONFIDENCE:.0%} confidence; on as many examples drawn again {others:.1%} do"
        )
        kept = found.share_low >= KEPT_SHARE - 1e-9 and others >= KEPT_ON_OTHERS
        return Shown(kept, said, proof, seed + int(np.argmax(found.losses)))

    def blame(self, plan: DramPlan, shown: Shown) -> str | None:
        """Return the tensor whose errors cost a plan most, on the module that lost most; None if none did.

        It is found by halving: the half of the tensors goes on whose errors alone lose more.
        """
        left = [each for each in plan.placed if each.ber > 0.0]
        while len(left) > 1:
            parts = left[: len(left) // 2], left[len(left) // 2 :]
            plans = [replace(plan, placed=tuple(part)) for part in parts]
            lost = [int(_on_module(each, self.network, self.profile, shown.worst_module).sum()) for each in plans]
            if max(lost) <= 0:
                return None
            left = parts[int(np.argmax(lost))]
        return left[0].tensor if left else None


def trials(plan: DramPlan, *, network: Faulty, profile: MemoryProfile, num: int, seed: int) -> list[float]:
    """Return the accuracy lost on ``num`` fresh modules [trial], on the examples that ``network`` holds.

    Give examples that neither the rates nor the proof have seen (``network.on(examples)``), and a seed whose modules
    they have not seen: those of `Proving` start at its seed plus 1,000,000.
    """
    return [on_module(plan, network, profile, seed + _TRYING + trial) for trial in range(num)]


def on_module(plan: DramPlan, network: Faulty, profile: MemoryProfile, module: int) -> float:
    """Return the accuracy lost with the plan's tensors in this made module, errors persistent and on bitlines."""
    return float(_on_module(plan, network, profile, module).sum()) / len(network.examples)


def _on_module(plan: DramPlan, network: Faulty, profile: MemoryProfile, module: int) -> Answers:
    made: dict[tuple[str, float], DramErrors] = {}
    for each in plan.placed:
        if each.ber > 0.0 and (each.partition, each.ber) not in made:
            bank = key_of(module, each.partition)  # every bank has cells and bitlines of its own
            made[each.partition, each.ber] = DramErrors(_shaped(each.ber, profile, bank), module=bank)
    homes = {each.tensor: (made[each.partition, each.ber], each.start_bit) for each in plan.placed if each.ber > 0.0}
    return network.lost(homes, module)


def _shaped(rate: float, profile: MemoryProfile, module: int) -> ErrorModel:
    """Return persistent errors of this rate, over bitlines as the profile says."""
    if profile.line_shape is None:
        return Uniform(rate, 1.0)
    lines = line_rates(rate, profile.line_shape, num_lines=65_536, module=module)
    return Bitline(lines, np.ones(len(lines)))
