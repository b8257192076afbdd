"""The same door as an application of Ray Serve: its HTTP proxies hand every request to one replica that routes it.

For clusters where Serve's own proxies are what clients reach (KubeRay, ``serve deploy``). One hop more than the door of
``amble serve --ray``, which is the quicker one; HTTP only.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from importlib.metadata import version
from typing import Any

from ray import serve

from amble.core.schedule import Deadline
from amble.services.cluster.places import Place
from amble.services.cluster.replicas import RayLink, deployment
from amble.services.cluster.serving import Cluster, closed
from amble.services.cluster.worker import Plan
from amble.services.serve.doors.access import Access
from amble.services.serve.doors.dashboard import Panel
from amble.services.serve.doors.http import App, Http, Receive, Scope, Send
from amble.services.serve.models.options import Options
from amble.services.serve.requests.quota import Quota

__all__ = ["Door", "application", "build"]

_OURS = ("/metrics", "/dashboard")


@serve.ingress()
class Door:
    """The replica that all requests pass."""

    async def __init__(self, budget_w: float | None, **handles: Any) -> None:  # type: ignore[misc] # Serve awaits it
        links = {name: RayLink(name, handle) for name, handle in handles.values()}
        described = {name: await link.describe() for name, link in links.items()}
        cluster = Cluster.of(dict(links), described, budget_w)
        backend, device = cluster.backend(), cluster.device()
        self._admission = backend.admission(device=device, quota=Quota(), listeners=())
        self._repository = backend.repository(self._admission, closed, None, {}, None)
        self._panel = Panel(self._admission, version("amble"), Access())
        self._panel.models = lambda: self._repository.models
        self._panel.more = backend.more
        self._admission.listeners = (self._panel.history,)
        self._closing = AsyncExitStack()
        self._admission.mailbox.open()
        asyncio.get_running_loop().run_in_executor(None, self._admission.lanes.run)
        await self._closing.enter_async_context(backend.beside())
        self._panel.start(self._closing)
        self._admission.starting = False

    def __serve_build_asgi_app__(self) -> App:
        """Return the protocol's application, and the page's for its paths."""
        http = Http(self._admission, self._repository, version("amble"))

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] == "http" and scope["path"].startswith(_OURS):
                await self._panel(scope, receive, send)
            else:
                await http(scope, receive, send)

        return app

    async def __del__(self) -> None:
        """Let go of the devices; Serve calls this before it ends the process."""
        self._admission.draining = True
        self._admission.lanes.close()
        await self._closing.aclose()


def application(plans: dict[str, Plan], places: dict[str, Place], budget_w: float | None) -> Any:
    """Return the door and all devices as one application."""
    handles = {
        f"device_{index}": (name, deployment(places[name], f"device-{index}").bind(plan, places[name]))
        for index, (name, plan) in enumerate(plans.items())
    }
    door = serve.deployment(name="door", num_replicas=1, max_ongoing_requests=4096, ray_actor_options={"num_cpus": 0})
    return door(Door).bind(budget_w, **handles)


def build(arguments: dict[str, Any]) -> Any:
    """Return an application from a file's arguments (``import_path: amble.services.cluster.ingress:build``).

    ``models``, ``devices``, ``repository`` and ``objective`` are those of `amble.ray_app`, ``power_budget`` is its
    ``budget_w``; ``options`` are those of `serve.options.Options`.
    """
    from amble.services.cluster.serving import ray_app

    given = dict(arguments)
    objective = given.pop("objective", None)
    return ray_app(
        given.pop("models", []),
        devices=given.pop("devices", ["host"]),
        objective=None if objective is None else Deadline.parse(objective),
        options=Options(**given.pop("options", {})),
        budget_w=given.pop("power_budget", None),
        **given,
    )
