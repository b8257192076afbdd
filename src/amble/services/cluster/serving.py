"""What ``amble serve --ray`` does: devices on a Ray cluster behind one door, until it is told to stop."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

from amble.core.errors import Refused
from amble.core.ports import Device
from amble.core.schedule import Deadline
from amble.services.cluster.catalogue import Catalogue, agreed
from amble.services.cluster.entrance import Entrance, together
from amble.services.cluster.places import placed
from amble.services.cluster.reports import Link, Served
from amble.services.cluster.steering import Steering
from amble.services.cluster.upstreams import Upstream
from amble.services.cluster.worker import Plan
from amble.services.serve import front
from amble.services.serve.front import Backend, Doors, OnReady
from amble.services.serve.models.model import Found, Loaded, Loader
from amble.services.serve.models.options import Options
from amble.services.serve.models.repository import ReadText, Repository
from amble.services.serve.pulse import Do
from amble.services.serve.requests.admission import Admission, Listener
from amble.services.serve.requests.quota import Quota
from amble.services.serve.serving import by_name
from amble.stages.control.engine import Totals
from amble.stages.control.governors.named import governor as governor_named

__all__ = ["Cluster", "closed", "open_door", "ray_app", "serve_on_ray"]


def _on_ray(module: str = "replicas") -> Any:
    """Return a module that knows Ray; Refused where it is not installed."""
    try:
        return import_module(f"amble.services.cluster.{module}")
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != "ray":
            raise
        raise Refused(
            "Ray is not installed here: in the folder of amble's sources run "
            "pip install -c constraints.txt -e '.[cpu,serve,ray]', or leave --ray out"
        ) from error


@dataclass(frozen=True)
class Cluster:
    """Devices that have described themselves, and who keeps watch over them."""

    upstreams: tuple[Upstream, ...]
    known: tuple[Served, ...]
    steering: Steering
    totals: list[Callable[[], Totals]] = field(default_factory=list)

    @classmethod
    def of(
        cls, links: dict[str, Link], described: dict[str, tuple[Served, ...]], budget_w: float | None = None
    ) -> Cluster:
        """Return them. Refused where they disagree about a model, or the budget cannot be kept."""
        known = agreed(described)
        upstreams = tuple(Upstream(name, link, capped=budget_w is not None) for name, link in links.items())
        for upstream in upstreams:
            upstream.serves(described[upstream.name])
        steering = Steering(upstreams, budget_w)
        steering.begin()
        return cls(upstreams, known, steering)

    def backend(self) -> Backend:
        """Return who takes requests at the door, and who knows the models."""

        def admission(device: Device, *, quota: Quota, listeners: tuple[Listener, ...]) -> Admission:
            made = Entrance(
                device=device, quota=quota, listeners=listeners, upstreams=self.upstreams, starved=self.steering.hurry
            )
            self.steering.arrived = lambda: made.rows_arrived
            self.steering.heard = lambda: setattr(made.lanes, "told", self.steering.totals(made.served))
            self.totals.append(lambda: self.steering.totals(made.served))
            return made

        def repository(
            admission: Entrance, load: Loader, folder: Path | None, named: Mapping[str, Path], read: ReadText | None
        ) -> Repository:
            made = Catalogue(admission, load, folder, named, read, self.upstreams, self.known)
            admission.latest = made.is_latest
            self.steering.fits = made.fits
            return made

        return Backend(admission, repository, self._watched, self.steering.text)

    def device(self) -> Device:
        """Return all devices as one."""
        return together([upstream.name for upstream in self.upstreams], self.steering.energy_j)

    def _watched(self) -> AbstractAsyncContextManager[None]:
        return self.steering.running()


def open_door(cluster: Cluster, doors: Doors, on_ready: OnReady) -> Totals:
    """Answer clients with the devices of a cluster until told to stop."""
    front.serve(cluster.device(), closed, doors, named={}, on_ready=on_ready, backend=cluster.backend())
    return cluster.totals[-1]()


def closed(found: Found, do: Do) -> Loaded:
    """Load nothing: devices load models, a door does not."""
    raise AssertionError(f"{found.name}: devices load models, a door does not")


def _plans(
    models: Sequence[str],
    devices: dict[str, str],
    *,
    objective: Deadline | str | None,
    repository: Path | str | None,
    options: Options | None,
    capped: bool,
) -> dict[str, Plan]:
    """Return what each device is to serve: the same. ValueError where there is nothing."""
    chosen = options or Options()
    governor_named(chosen.governor)
    wanted = Deadline.parse(objective) if isinstance(objective, str) else objective
    if not models and repository is None:
        raise ValueError("nothing to serve: name a model, or a repository of models")
    folder = None if repository is None else Path(repository).absolute()
    paths, said = by_name(models, folder)
    return {name: Plan(uri, paths, folder, chosen, wanted, capped, said) for name, uri in devices.items()}


def serve_on_ray(
    models: Sequence[str],
    *,
    devices: Sequence[str] = ("host",),
    objective: Deadline | str | None = None,
    repository: Path | str | None = None,
    doors: Doors | None = None,
    options: Options | None = None,
    budget_w: float | None = None,
    app: str = "amble",
    on_ready: OnReady = lambda addresses, stop: None,
) -> Totals:
    """Serve models on many devices of a Ray cluster, behind one door in this process, until it is told to stop.

    ``devices`` are URIs, each also as ``RESOURCE=URI`` for a node of Ray that has this resource; the files of
    ``models`` and ``repository`` are looked for on each device's own machine. ``budget_w`` [W] is divided among all
    devices. A door that is started again under the same ``app`` finds the devices of one that was killed.
    """
    on_ray = _on_ray()
    places = placed(devices)
    plans = _plans(
        models,
        {name: place.uri for name, place in places.items()},
        objective=objective,
        repository=repository,
        options=options,
        capped=budget_w is not None,
    )
    started = on_ray.joined()
    try:
        handles = on_ray.deploy(app, plans, places)
        try:
            described = {name: handle.describe.remote().result() for name, handle in handles.items()}
            links: dict[str, Link] = {name: on_ray.RayLink(name, handle) for name, handle in handles.items()}
            return open_door(Cluster.of(links, described, budget_w), doors or Doors(), on_ready)
        finally:
            on_ray.remove(app, plans)
    finally:
        if started:
            on_ray.ray.shutdown()


def ray_app(
    models: Sequence[str],
    *,
    devices: Sequence[str] = ("host",),
    objective: Deadline | str | None = None,
    repository: Path | str | None = None,
    options: Options | None = None,
    budget_w: float | None = None,
) -> Any:
    """Return an application for ``ray.serve.run``: the devices, and a door that Serve's own HTTP proxies lead to.

    The arguments are those of `serve_on_ray`, whose door is quicker, and speaks gRPC too.
    """
    places = placed(devices)
    plans = _plans(
        models,
        {name: place.uri for name, place in places.items()},
        objective=objective,
        repository=repository,
        options=options,
        capped=budget_w is not None,
    )
    return _on_ray("ingress").application(plans, places, budget_w)
