"""Independent work → tasks on a Ray cluster, with the results of this machine alone.

Theory of operation. The function travels once, into the object store; a worker keeps the last one that it was given,
so that what the function prepares for itself serves all items that this worker does. At most two tasks for each CPU of
the cluster are under way, so that little is lost when nobody wants more of them. A task whose worker, or whose node,
goes is done again elsewhere; an error of the function itself is not: it would come again. Results are yielded in the
order of the items, whoever finished first, so that nothing after them can tell where they were made.

Sums of floating point are those of the instructions that made them. Each result brings what made it (the versions and
the CPU), and one that was made otherwise than here would be is refused: results are those of this machine, or none.
"""

from __future__ import annotations

import socket
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any, TypeVar

from amble.core.errors import Refused, how_to_install
from amble.core.spreading import OnProgress, Spread
from amble.inputs import back_end
from amble.runtimes import processors

__all__ = ["Facts", "Tasks", "facts_here", "on_ray", "refuse_real"]

Item = TypeVar("Item")
Result = TypeVar("Result")
Facts = tuple[tuple[str, str], ...]

_RETRIES = 8
_AHEAD = 2  # tasks under way for each CPU
_GIVEN_UP_S = 30.0  # for what nobody wants any more to end
_PACKAGES = ("amble", "numpy", "onnx", "onnxruntime", "torch")

_kept: dict[str, Callable[[Any, OnProgress], Any]] = {}
"""In a worker: the function that it was given last, by the key of its object."""


def refuse_real(uri: str) -> None:
    """Refuse a device whose answers no other machine's CPU gives."""
    kind = back_end(uri)
    if not kind.simulated and not kind.here:
        raise Refused(
            f"{uri} is one device, in one place: what runs on it runs there, one after another; leave --ray out, or "
            f"name host or sim:CHIP"
        )


@contextmanager
def on_ray() -> Iterator[Spread]:
    """Join the Ray cluster that RAY_ADDRESS names or that runs here, else start one of this machine's CPUs.

    Refused where Ray is not installed, and where the cluster named cannot be joined.
    """
    ray = _ray()
    joined = ray.is_initialized()
    try:
        ray.init(ignore_reinit_error=True, include_dashboard=False, log_to_driver=False, configure_logging=False)
    except (ConnectionError, OSError, RuntimeError, ValueError) as error:
        raise Refused(
            f"cannot join the Ray cluster: {error}; start one with ray start --head, or mend RAY_ADDRESS"
        ) from error
    try:
        yield Tasks(ray, facts_here())
    finally:
        if not joined:
            ray.shutdown()


def _ray() -> Any:
    try:
        import ray
    except ImportError as error:
        raise Refused(f"Ray is not installed here: {how_to_install('ray')}, or leave --ray out") from error
    return ray


class Tasks:
    """Spreads work over the cluster that this process has joined; results are to be made as ``here`` says."""

    def __init__(self, ray: Any, here: Facts) -> None:
        self._ray, self._here = ray, here
        self._last: tuple[object, Any] | None = None
        self._task = ray.remote(num_cpus=1, max_retries=_RETRIES, scheduling_strategy="SPREAD")(_done)

    def __call__(
        self, function: Callable[[Item, OnProgress], Result], items: Sequence[Item], on_progress: OnProgress
    ) -> Generator[Result, None, None]:
        """Yield the results in the order of the items."""
        ray = self._ray
        if self._last is None or self._last[0] is not function:
            self._last = (function, ray.put(function))
        shared = self._last[1]
        left, due, ready = deque(items), deque[Any](), set[Any]()
        num_done = 0
        try:
            while left or due:
                while left and len(due) < self._most():
                    due.append(self._task.remote([shared], shared.hex(), left.popleft()))
                while due[0] not in ready:
                    found, _ = ray.wait([each for each in due if each not in ready], num_returns=1)
                    ready.update(found)
                    num_done += len(found)
                    on_progress("spread over the cluster", num_done, len(items))
                first = due.popleft()
                ready.discard(first)
                yield self._got(first)
        finally:
            self._give_up(list(due))

    def _most(self) -> int:
        return max(_AHEAD, int(_AHEAD * self._ray.cluster_resources().get("CPU", 1.0)))

    def _got(self, result: Any) -> Any:
        from ray.exceptions import OutOfMemoryError, RayError, RayTaskError

        try:
            facts, host, found = self._ray.get(result)
        except RayTaskError as error:
            raise error.cause from error
        except OutOfMemoryError as error:
            raise Refused(f"a task had no memory left on the cluster, {_RETRIES} times: {_line(error)}") from error
        except RayError as error:
            raise Refused(
                f"a task was lost with its worker {_RETRIES} times, most likely for want of memory: {_line(error)}; "
                f"what was found before is kept, and the same call goes on from there"
            ) from error
        if differing := [f"{name} {theirs} (here {ours})" for (name, ours), (_, theirs) in _pairs(self._here, facts)]:
            raise Refused(
                f"{host} would find other results than this machine: {', '.join(differing)}; use nodes of one kind "
                f"with the same packages"
            )
        return found

    def _give_up(self, due: list[Any]) -> None:
        """Cancel what nobody wants any more, and wait for it: what is timed next is timed alone."""
        for each in due:
            with suppress(Exception):
                self._ray.cancel(each)
        if due:
            self._ray.wait(due, num_returns=len(due), timeout=_GIVEN_UP_S)


def _pairs(ours: Facts, theirs: Facts) -> Iterator[tuple[tuple[str, str], tuple[str, str]]]:
    return ((a, b) for a, b in zip(ours, theirs, strict=True) if a != b)


def _done(shared: list[Any], key: str, item: Any) -> tuple[Facts, str, Any]:
    """Do a function on one item, in a worker."""
    if key not in _kept:
        import ray

        _kept.clear()
        _kept[key] = ray.get(shared[0])
    try:
        return facts_here(), socket.gethostname(), _kept[key](item, _untold)
    except BaseException:
        _kept.clear()  # given up in the middle of something: nobody knows what it holds now
        raise


def _untold(what: str, done: int, total: int) -> None:
    """Tell nobody: the command tells how many tasks are done."""


@cache
def facts_here() -> Facts:
    """Return what decides about results besides the work itself."""
    cpu = processors.here()
    return (*((name, _version(name)) for name in _PACKAGES), ("CPU", str(cpu)))


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "none"


def _line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0]
