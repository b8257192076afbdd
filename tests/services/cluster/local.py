"""Devices of a cluster in this process: workers over a device that doubles its inputs, and links that can be cut."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from amble.core.ladder import Ladder, Level, Rung
from amble.core.point import Clocks
from amble.services.cluster.reports import Answered, Call, Gone, Order, Report, Served, Turned
from amble.services.cluster.serving import Cluster
from amble.services.cluster.worker import Plan, Worker
from amble.services.serve.models.model import Found, Loaded
from amble.services.serve.pulse import Do
from amble.services.serve.requests.asking import Asked, Tensor
from amble.services.serve.requests.quota import Quota
from amble.stages.control.governors import Fixed
from tests.services.serve.house import HIGH, LOW, Doubler, loaded

MIDDLE = Clocks(core_hz=1.5e9)


def ladder(watts: Sequence[float] = (40.0, 20.0, 10.0), *, service_s: float = 1e-3) -> Ladder:
    """Three rungs, from fast to frugal; the slower ones cost less for each row."""
    rungs = tuple(
        Rung("fp32", clocks, (slow * service_s,), (power_w * slow * service_s,), idle_w=2.0 + place, index=2 - place)
        for place, (clocks, slow, power_w) in enumerate(
            zip((LOW, MIDDLE, HIGH), (2.0, 1.5, 1.0), watts[::-1], strict=True)
        )
    )
    return Ladder("doubler", "fake:doubler", "gross", (Level("fp32", 1.0, rungs[::-1]),), LOW, 2.0)


def load(found: Found, do: Do) -> Loaded:
    """Load a model that doubles, with a ladder of three rungs; ``slow`` takes a hundred times as long."""
    do(lambda: None)
    made = loaded({"x": "float"}, max_batch=1)
    own = ladder(service_s=0.1 if found.name == "slow" else 1e-3)
    return replace(made, ladder=own, governor=Fixed("fixed", own.rungs[0], 1))


@dataclass
class Thread:
    """A link to a worker of this process. Once ``cut``, whoever waits hears that it has died; ``held`` answers wait."""

    worker: Worker
    cut: asyncio.Event = field(default_factory=asyncio.Event)
    held: asyncio.Event = field(default_factory=asyncio.Event)
    calls: list[Call] = field(default_factory=list)
    orders: list[Order | None] = field(default_factory=list)
    digest: str = ""
    lies: Mapping[str, Any] = field(default_factory=dict)

    async def infer(self, call: Call) -> Answered | Turned:
        self.calls.append(call)

        async def answered() -> Answered | Turned:
            if self.held.is_set():
                await asyncio.Event().wait()
            return await self.worker.infer(call)

        return await self._unless_cut(answered())

    async def report(self, order: Order | None, wait_s: float) -> Report:
        self.orders.append(order)
        return replace(await self._unless_cut(self.worker.report(order, wait_s)), **self.lies)

    async def describe(self) -> tuple[Served, ...]:
        found = await self._unless_cut(self.worker.describe())
        return tuple(replace(each, digest=self.digest or each.digest) for each in found)

    async def change(self, name: str, config: str | None, *, load: bool) -> Turned | None:
        return await self._unless_cut(self.worker.change(name, config, load=load))

    async def _unless_cut(self, answering: Any) -> Any:
        working, cut = asyncio.ensure_future(answering), asyncio.ensure_future(self.cut.wait())
        try:
            await asyncio.wait({working, cut}, return_when=asyncio.FIRST_COMPLETED)
            if cut.done():
                raise Gone("its process has died")
            return working.result()
        finally:
            working.cancel()
            cut.cancel()


@dataclass
class Rack:
    """A cluster of workers in this loop, and the backend at its door."""

    links: dict[str, Thread]
    cluster: Cluster
    admission: Any
    repository: Any

    def upstream(self, name: str) -> Any:
        return next(each for each in self.cluster.upstreams if each.name == name)

    async def infer(self, value: float = 1.0, *, model: str = "m", timeout_s: float | None = None) -> Any:
        x = np.full((1, 2), value, np.float32)
        parameters = {} if timeout_s is None else {"timeout": round(timeout_s * 1e6)}
        asked = Asked((Tensor("x", "FP32", (1, 2), x),), parameters=parameters)
        found = self.repository.model(model)
        return await self.admission.infer(found, asked, arrival_s=self.admission.now_s(), context={})


async def rack(
    names: Sequence[str], *, budget_w: float | None = None, models: Sequence[str] = ("m",), folder: Path | None = None
) -> Rack:
    """Start workers and describe them; nobody watches them yet."""
    links = {}
    for name in names:
        plan = Plan(name, {each: Path(each) for each in models}, folder, capped=budget_w is not None)
        worker = Worker.over(plan, Doubler().device(), load)
        worker.digest_of = lambda found: str(found.path)
        await worker.start()
        links[name] = Thread(worker)
    described = {name: await link.describe() for name, link in links.items()}
    try:
        cluster = Cluster.of(dict(links), described, budget_w)
    except BaseException:
        for link in links.values():
            await link.worker.close(1.0)
        raise
    backend = cluster.backend()
    admission = backend.admission(device=cluster.device(), quota=Quota(), listeners=())
    repository = backend.repository(admission, load, None, {}, None)
    admission.mailbox.open()
    admission.starting = False
    return Rack(links, cluster, admission, repository)


async def close(made: Rack) -> None:
    """End the workers."""
    for link in made.links.values():
        await link.worker.close(1.0)
    made.admission.mailbox.close()
