"""Devices on Ray: each one a deployment of Ray Serve with one replica, and the links to them.

The one module that serving has of Ray (extra ``ray``). Serve places the replicas, starts them anew when they die, and
carries calls; which device gets a request, and when one is given up, is decided at the door. A call is under way to
every device at all times (`Steering`), so that its death is seen at once and not when the next request would go there.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any, NoReturn

import ray
from ray import serve
from ray.exceptions import ActorDiedError, NodeDiedError, RayActorError, RayError, RayTaskError
from ray.serve.exceptions import RayServeException

from amble.core.errors import Refused
from amble.services.cluster.places import Place
from amble.services.cluster.reports import Answered, Call, Gone, Order, Report, Served, Turned
from amble.services.cluster.worker import Plan, Worker

__all__ = ["RayLink", "Replica", "deploy", "deployment", "joined", "remove"]

_STORE_BYTES = 128 << 20
_MOST_CALLS = 4096
_DRAIN_S = 35.0
_STARTING_S = 600.0
_LOOK_S = 0.2
_KNOWN_S = 10.0
_ALONE = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "disabled", "RAY_DEDUP_LOGS": "0"}


class Replica:
    """What Ray Serve runs: a worker."""

    async def __init__(self, plan: Plan, place: Place) -> None:  # type: ignore[misc] # Serve awaits it
        self._plan, self._place = plan, place
        self._worker = await asyncio.to_thread(Worker, plan)
        await self._worker.start()

    async def infer(self, call: Call) -> Answered | Turned:
        """Answer a request."""
        return await self._worker.infer(call)

    async def report(self, order: Order | None, wait_s: float) -> Report:
        """Take an order, and say how things are."""
        return await self._worker.report(order, wait_s)

    async def describe(self) -> tuple[Served, ...]:
        """Say what is served."""
        return await self._worker.describe()

    async def change(self, name: str, config: str | None, load: bool) -> Turned | None:
        """Load a model, or unload it."""
        return await self._worker.change(name, config, load=load)

    def plan(self) -> tuple[Plan, Place]:
        """Return what it was started with."""
        return self._plan, self._place

    def where(self) -> tuple[str, int]:
        """Return the node and the process it runs in."""
        return ray.get_runtime_context().get_node_id(), os.getpid()

    def check_health(self) -> None:
        """Fail once the engine has stopped, so that Serve starts another replica."""
        if not self._worker.working:
            raise RuntimeError("the engine has stopped: see this replica's log")

    async def __del__(self) -> None:
        """Answer what was accepted and put the clocks back; Serve calls this before it ends the process."""
        await self._worker.close()


class RayLink:
    """The way to one device through a handle of Ray Serve."""

    def __init__(self, name: str, handle: Any) -> None:
        self._name, self._handle = name, handle

    async def infer(self, call: Call) -> Answered | Turned:
        """Have a request answered."""
        return await self._told(self._handle.infer.remote(call))  # type: ignore[no-any-return]

    async def report(self, order: Order | None, wait_s: float) -> Report:
        """Send an order, and hear how the device is."""
        return await self._told(self._handle.report.remote(order, wait_s))  # type: ignore[no-any-return]

    async def describe(self) -> tuple[Served, ...]:
        """Hear what it serves."""
        return await self._told(self._handle.describe.remote())  # type: ignore[no-any-return]

    async def change(self, name: str, config: str | None, *, load: bool) -> Turned | None:
        """Load a model (anew), or unload it."""
        return await self._told(self._handle.change.remote(name, config, load))  # type: ignore[no-any-return]

    async def _told(self, response: Any) -> Any:
        """Wait for an answer; cancelled there too when nobody waits any more."""
        try:
            return await response
        except asyncio.CancelledError:
            response.cancel()
            raise
        except (RayError, RayServeException) as error:
            self._lost(error)

    def _lost(self, error: Exception) -> NoReturn:
        if isinstance(error, RayTaskError):
            raise error
        dead = isinstance(error, ActorDiedError | NodeDiedError)
        said = (
            "its process has died"
            if dead
            else "its process cannot be reached"
            if isinstance(error, RayActorError)
            else "Ray has lost it"
        )
        raise Gone(f"{self._name}: {said}", dead=dead) from error


def joined() -> bool:
    """Join the cluster that RAY_ADDRESS names or that runs here, else start one in this machine -> whether started.

    Refused where the cluster that is named cannot be joined.
    """
    if ray.is_initialized():
        return False
    address = os.environ.get("RAY_ADDRESS")
    options: dict[str, Any] = {"log_to_driver": False, "configure_logging": False}
    if address:
        try:
            ray.init(address=address, **options)
        except (ConnectionError, OSError, RuntimeError, ValueError) as error:
            raise Refused(
                f"cannot join the Ray cluster at {address}: {error}; start it (ray start --head), or mend RAY_ADDRESS"
            ) from error
        return False
    try:
        ray.init(address="auto", **options)
    except (ConnectionError, OSError, RuntimeError, ValueError):
        for name, value in _ALONE.items():
            os.environ.setdefault(name, value)
        ray.init(address="local", include_dashboard=False, object_store_memory=_STORE_BYTES, **options)
        return True
    return False


def deploy(app: str, plans: dict[str, Plan], places: dict[str, Place]) -> dict[str, Any]:
    """Start a replica for each device, or find those that run already -> their handles. Refused where one cannot start.

    Each is an application of its own, so that one that changes leaves the others alone.
    """
    for name, place in places.items():
        if place.resource is not None and place.resource not in ray.cluster_resources():
            raise Refused(
                f"{name}: no node of the cluster has the resource {place.resource!r}; "
                f"start one with ray start --resources '{{\"{place.resource}\": 1}}'"
            )
    serve.start(http_options={"location": "NoServer"})
    apps = _apps(app, plans)
    running = serve.status().applications
    for name, plan in plans.items():
        status = running.get(apps[name])
        if status is not None and status.status == "RUNNING" and _runs(apps[name], plan, places[name]):
            continue
        bound = deployment(places[name]).bind(plan, places[name])
        threading.Thread(target=_run, args=(bound, apps[name]), daemon=True).start()
    try:
        _await(apps)
    except BaseException:
        remove(app, plans)
        raise
    return {name: serve.get_app_handle(each) for name, each in apps.items()}


def remove(app: str, names: Iterable[str]) -> None:
    """End the replicas: they answer what they have, and put the clocks back."""
    apps = set(_apps(app, names).values())
    for each in apps & serve.status().applications.keys():
        serve.delete(each, _blocking=False)
    due_s = time.monotonic() + _DRAIN_S
    while time.monotonic() < due_s and apps & serve.status().applications.keys():
        time.sleep(_LOOK_S)


def _apps(app: str, names: Iterable[str]) -> dict[str, str]:
    return {name: f"{app}-{index}" for index, name in enumerate(names)}


def deployment(place: Place, name: str = "device") -> Any:
    """Return what Serve is to run for a device: one replica, where the device is."""
    return serve.deployment(
        name=name,
        num_replicas=1,
        max_ongoing_requests=_MOST_CALLS,
        health_check_period_s=2.0,
        health_check_timeout_s=10.0,
        graceful_shutdown_timeout_s=_DRAIN_S,
        graceful_shutdown_wait_loop_s=_LOOK_S,
        ray_actor_options={"num_cpus": 0, "resources": {} if place.resource is None else {place.resource: 0.001}},
    )(Replica)


def _run(bound: Any, name: str) -> None:
    """Ask Serve for an application; whether it comes to anything is told by its status."""
    with suppress(RuntimeError, RayError, RayServeException):
        serve.run(bound, name=name, route_prefix=None)


def _runs(name: str, plan: Plan, place: Place) -> bool:
    """Tell whether an application runs this very plan: a door before this one, which was killed, has left it."""
    try:
        return bool(serve.get_app_handle(name).plan.remote().result(timeout_s=_KNOWN_S) == (plan, place))
    except (RayError, RayServeException, TimeoutError):
        return False


def _await(apps: Mapping[str, str]) -> None:
    """Wait until all run; Refused as soon as one cannot."""
    due_s = time.monotonic() + _STARTING_S
    left = dict(apps)
    while left:
        known = serve.status().applications
        for name, each in tuple(left.items()):
            status = known.get(each)
            if status is not None and status.status == "RUNNING":
                del left[name]
            elif status is not None and status.status in ("DEPLOY_FAILED", "UNHEALTHY"):
                said = "; ".join(one.message for one in status.deployments.values() if one.message) or status.message
                raise Refused(f"{name} did not start: {_reason(said)}")
        if left and time.monotonic() > due_s:
            raise Refused(f"{', '.join(left)} did not start within {_STARTING_S:g} s: see the logs of Ray Serve")
        time.sleep(_LOOK_S)


def _reason(text: str) -> str:
    """Return the line of a traceback that says what was wrong."""
    lines = [line.strip() for line in text.splitlines() if "Refused" in line or "Error" in line]
    return (lines[-1] if lines else text.strip()).removeprefix("amble.core.errors.Refused: ")
