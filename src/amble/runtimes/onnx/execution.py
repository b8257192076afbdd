"""How networks are to be run → open sessions of ONNX Runtime that run so, and what of them does not.

ONNX Runtime falls back in silence twice: a provider that cannot start is left out, and an operator that a provider
does not take runs on the CPU. The first is refused here, the second is listed.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import onnxruntime

from amble.core.errors import Refused
from amble.core.files import cache_folder
from amble.runtimes.onnx.preparing import options
from amble.runtimes.onnx.providers import CPU, Provider, Request
from amble.runtimes.onnx.trace import Kernel

__all__ = [
    "Execution",
    "Fallback",
    "cpu_flags",
    "fallbacks",
    "now_s_of",
    "pinned",
    "refuse_mostly_elsewhere",
    "whose_time",
]

_BF16 = frozenset({"avx512_bf16", "amx_bf16", "bf16"})
_MOST = 0.5
"""Share of a run's time that may run elsewhere than on the provider that was asked for."""


@dataclass(frozen=True, slots=True)
class Execution:
    """How networks are run: by which provider, on how many threads, on which CPUs (all, unless named).

    ``precision`` is what an FP32 network is computed in; ``index`` the GPU, where the provider drives one.
    """

    provider: Provider = CPU
    threads: int = 1
    cpus: tuple[int, ...] = ()
    precision: str = "fp32"
    index: int = 0
    engines: Path | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        """ValueError for no threads, Refused for what the provider or this machine has not."""
        if self.threads < 1:
            raise ValueError(f"at least one thread, not {self.threads}")
        if self.precision == "bf16" and self.provider.place == "cpu" and not _BF16 & cpu_flags():
            raise Refused(f"this CPU has no BF16 ({' or '.join(sorted(_BF16))}): leave out precision=bf16")
        if self.precision not in self.provider.precisions:
            can = ", ".join(self.provider.precisions)
            raise Refused(f"provider {self.provider.name} computes FP32 networks in {can}, not in {self.precision}")
        _refuse_absent(self.cpus, self.threads)

    @property
    def fused(self) -> bool:
        """Tell whether a network is fused by ONNX Runtime for its CPU kernels before it is given to the provider."""
        return not self.provider.fuses

    @property
    def form(self) -> str:
        """Return what, beside the file, a network's operators depend on; empty for ONNX Runtime's own CPU kernels."""
        return "" if self.fused else f"unfused, computed in {self.precision}"

    @property
    def times_own_work(self) -> bool:
        """Tell whether a run's work is all done by the thread that asks for it, whose CPU time then is its time."""
        return self.threads == 1 and self.provider.place == "cpu"

    def open(
        self, path: Path, *, fused: bool = False, profile: Path | None = None, graphs: bool = False
    ) -> onnxruntime.InferenceSession:
        """Open a network; ``fused`` says that the file is as it is to be executed. ``profile`` begins a profile's name.

        ``graphs`` allows CUDA graphs, whose inputs must stay where they are. Refused where the provider does not start.
        """
        chosen = options(self.threads, optimised=fused)
        if profile is not None:
            chosen.enable_profiling = True
            chosen.profile_file_prefix = str(profile)
        providers: list[object] = [CPU.full]
        if self.provider.full != CPU.full:
            settings = self.provider.settings(self._request())
            if not graphs:
                settings = {name: value for name, value in settings.items() if "cuda_graph" not in name}
            providers.insert(0, (self.provider.full, settings))
        with pinned(self.cpus):
            session = onnxruntime.InferenceSession(str(path), chosen, providers=providers)
        if self.provider.full not in session.get_providers():
            raise Refused(
                f"ONNX Runtime has the provider {self.provider.name} and cannot start it: its libraries or its driver "
                f"are missing or of another version (log: ORT_LOGGING_LEVEL=1); provider=cpu runs without it"
            )
        return session

    def _request(self) -> Request:
        folder = self.engines or cache_folder() / "engines" / f"{self.provider.name}-{onnxruntime.__version__}"
        folder.mkdir(parents=True, exist_ok=True)
        return Request(self.precision, self.threads, self.index, folder)


@dataclass(frozen=True, slots=True)
class Fallback:
    """Operators of one kind that the provider did not take: how many, and their share of a run's time."""

    kind: str
    count: int
    share: float

    def __str__(self) -> str:
        """Write it as a part of a sentence."""
        return f"{self.count} {self.kind} ({self.share:.1%} of the time)"


def fallbacks(found: Sequence[Kernel], whole_s: float, provider: Provider) -> tuple[Fallback, ...]:
    """Return what of one run's kernels ran on the CPU instead, the most costly first; ``whole_s`` is the run's time."""
    if provider.full == CPU.full:
        return ()
    seen: dict[str, list[float]] = {}
    for kernel in found:
        if kernel.details.provider == CPU.full:
            seen.setdefault(kernel.details.op_name, []).append(kernel.duration_s)
    listed = [Fallback(kind, len(times_s), min(1.0, sum(times_s) / whole_s)) for kind, times_s in seen.items()]
    return tuple(sorted(listed, key=lambda each: -each.share))


def refuse_mostly_elsewhere(name: str, found: Sequence[Fallback], provider: Provider) -> None:
    """Refused where most of a run's time is not the provider's: its numbers would be the CPU's."""
    share = min(1.0, sum(each.share for each in found))
    if share > _MOST:
        raise Refused(
            f"{name} runs on the CPU for {share:.0%} of its time, as {provider.name} does not take "
            f"{', '.join(map(str, found[:4]))}; use provider=cpu, or export it without them"
        )


def now_s_of(execution: Execution) -> Callable[[], float]:
    """Return the clock that tells what a run's work takes [s]."""
    return time.thread_time if execution.times_own_work else time.perf_counter


def whose_time(execution: Execution) -> str:
    """Say whose time times are."""
    if execution.times_own_work:
        return "times are the thread's own CPU time: other load on this machine does not lengthen them"
    places = f" on CPUs {','.join(map(str, execution.cpus))}" if execution.cpus else ""
    return f"times are of the wall clock, {execution.threads} threads{places}: other load lengthens them"


@contextmanager
def pinned(cpus: Sequence[int]) -> Iterator[None]:
    """Keep this thread, and threads that it starts, on these CPUs inside the block; all it may use where empty."""
    if not cpus:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cpus)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def cpu_flags(path: Path = Path("/proc/cpuinfo")) -> frozenset[str]:
    """Return what this CPU can do, in Linux' words; empty where nothing tells."""
    with suppress(OSError):
        for line in path.read_text().splitlines():
            if line.startswith(("flags", "Features")):
                return frozenset(line.partition(":")[2].split())
    return frozenset()


def _refuse_absent(cpus: tuple[int, ...], threads: int) -> None:
    if not cpus:
        return
    absent = sorted(set(cpus) - os.sched_getaffinity(0))
    if absent:
        raise Refused(f"cpus={absent[0]} is not one that this process may use ({_ranges(os.sched_getaffinity(0))})")
    if threads > len(set(cpus)):
        raise Refused(f"threads={threads} do not fit on {len(set(cpus))} CPUs; name as many in cpus=, or fewer threads")


def _ranges(cpus: set[int]) -> str:
    return ",".join(str(each) for each in sorted(cpus))
