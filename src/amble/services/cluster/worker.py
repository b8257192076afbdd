"""One device that serves without doors of its own: the engine, governor and models of ``amble serve`` behind a link.

It obeys orders: its governors choose among the rungs that its step of the frontier allows. A change of steps replaces
the governors at once; what waits goes on waiting, and a batch that runs ends as it began. The new step is held once
that batch is over and the clocks that are asked for belong to it.
"""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from importlib import import_module
from pathlib import Path

from amble.core import files
from amble.core.errors import Refused
from amble.core.point import Clocks
from amble.core.ports import Actuator, Device
from amble.core.schedule import FORMAT as SCHEDULE
from amble.core.schedule import Deadline
from amble.inputs import open_for_serving, twin
from amble.runtimes.onnx.reading import as_written
from amble.runtimes.remote.fault import Fault
from amble.services.cluster.capping import Steps, Within, capped, steps_of
from amble.services.cluster.reports import Answered, Call, Order, Report, Served, Turned
from amble.services.serve.models.candidates import candidates
from amble.services.serve.models.loading import ModelLoader
from amble.services.serve.models.model import Found, Loader, Model
from amble.services.serve.models.options import Options
from amble.services.serve.models.repository import ReadText, Repository
from amble.services.serve.models.settings import Settings
from amble.services.serve.process import set_niceness, tuned
from amble.services.serve.requests.admission import Admission
from amble.stages.control.governors import Budget
from amble.stages.control.governors.named import governor as governor_named

__all__ = ["Asking", "Plan", "Worker", "digest"]

_LOG = logging.getLogger(__name__)
_DRAIN_S = 30.0
_SETTLING_S = 2.0
_LOOK_S = 0.01


@dataclass(frozen=True, slots=True)
class Plan:
    """What a device is to serve: its URI, models by name, a folder of models, and how.

    ``said`` are settings of single models, by name. ``capped``: it starts parked and obeys orders; else it goes as
    high as it likes.
    """

    device: str
    named: Mapping[str, Path] = field(default_factory=dict)
    folder: Path | None = None
    options: Options = field(default_factory=Options)
    objective: Deadline | None = None
    capped: bool = False
    said: Mapping[str, Settings] = field(default_factory=dict)


class Asking:
    """An actuator that remembers what it was asked for last; what runs is read back from the device."""

    def __init__(self, actuator: Actuator) -> None:
        self._actuator = actuator
        self.asked: Clocks | None = None

    def available(self) -> tuple[Clocks, ...]:
        """Return every legal setting."""
        return self._actuator.available()

    def current(self) -> Clocks:
        """Return the clocks that run."""
        return self._actuator.current()

    def apply(self, clocks: Clocks) -> None:
        """Ask for clocks."""
        self.asked = clocks
        self._actuator.apply(clocks)


class Worker:
    """A device at work; everything but ``report`` in the loop that started it."""

    def __init__(self, plan: Plan) -> None:
        """Open the device and make ready to serve; nothing is loaded before ``start``."""
        device, runner, by_size = open_for_serving(plan.device, threads=plan.options.threads)
        loader = ModelLoader(device, runner, plan.options, plan.objective, by_size, twin(plan.device), plan.said)
        self._begin(plan, device, loader.load)

    @classmethod
    def over(cls, plan: Plan, device: Device, load: Loader) -> Worker:
        """Return a worker over a device that is open already, with what loads its models."""
        made = cls.__new__(cls)
        made._begin(plan, device, load)
        return made

    def _begin(self, plan: Plan, device: Device, load: Loader) -> None:
        self._plan = plan
        self._boot = uuid.uuid4().hex
        self._changed = 0
        self._order = Order(0, -1)
        self._opened: tuple[Order, int] | None = None  # whose governors decide, after how many changes of models
        self._obeying = asyncio.Lock()
        self._carrying: set[asyncio.Future[None]] = set()
        self._held = 0 if plan.capped else -1
        self._steps: Steps | None = None
        self._digests: dict[tuple[str, str, int], str] = {}
        self.digest_of: Callable[[Found], str] = partial(digest, options=plan.options)
        self._within_step: dict[tuple[str, int, int], Model] = {}
        self._asking = Asking(device.actuator)
        self.admission = Admission(device=replace(device, actuator=self._asking))
        self._repository = Repository(self.admission, load, plan.folder, plan.named, _read_text())
        self._closing = ExitStack()

    async def start(self) -> None:
        """Run the engine, load all models, and begin parked where orders are to come. Refused when a model fails."""
        niceness = self._closing.enter_context(tuned())
        loop = asyncio.get_running_loop()
        computing = ThreadPoolExecutor(thread_name_prefix="amble", initializer=set_niceness, initargs=(niceness,))
        loop.set_default_executor(computing)
        self.admission.mailbox.open()
        self._working = loop.run_in_executor(computing, self.admission.lanes.run)
        for name in self._repository.names():
            try:
                await self._repository.start(name)
            except Fault as fault:
                await self.close()
                raise Refused(f"{self._plan.device}: {fault.text}") from fault
        await self._measured()
        self.admission.starting = False

    @property
    def working(self) -> bool:
        """Tell whether the engine runs."""
        return not self._working.done()

    async def infer(self, call: Call) -> Answered | Turned:
        """Answer a request within what is left of its time."""
        admission = self.admission
        arrival_s = admission.now_s()
        try:
            model = self._repository.model(call.name, call.version)
            reply = await admission.infer(
                model, call.asked, arrival_s=arrival_s, limit_s=call.left_s, context=call.context
            )
        except Fault as fault:
            return Turned(fault.status, fault.text)
        outcome = reply.outcome
        rung = outcome.rung if outcome.rung.schedule is None else replace(outcome.rung, schedule=None)
        return Answered(reply.answer, outcome._replace(rung=rung))

    async def report(self, order: Order | None, wait_s: float = 0.0) -> Report:
        """Take an order unless a newer one is known; after so much time [s] say how things are.

        Whoever asks may give up meanwhile: the order is carried out all the same.
        """
        new = order is not None and (
            order.serial > self._order.serial or (order == self._order and not self._opens(order))
        )
        if order is not None and new and self._plan.capped:
            carrying = asyncio.ensure_future(self._obey(order))
            self._carrying.add(carrying)
            carrying.add_done_callback(self._carrying.discard)
            await asyncio.shield(carrying)
        await asyncio.sleep(wait_s)
        if self._steps is not None:
            self._confirm()
        pulse = engine = self.admission.lanes
        last = pulse.last
        return Report(
            self._boot,
            self._changed,
            self.admission.device.name,
            self.admission.device.calibration,
            self._held,
            self._order.serial,
            self.admission.now_s() if last is None else last.reading.time_s,
            None if last is None else last.reading.energy_j,
            self._asking.asked,
            None if last is None else last.ran_at,
            engine.totals,
            self.working,
        )

    async def describe(self) -> tuple[Served, ...]:
        """Return what is served, with the whole ladders."""
        found = []
        for model in self._repository.models:
            key = (model.key, str(model.found.path), self._changed)
            if key not in self._digests:
                self._digests[key] = await asyncio.to_thread(self.digest_of, model.found)
            found.append(Served.of(model, self._digests[key], self._plan.options.governor))
        return tuple(found)

    async def change(self, name: str, config: str | None, *, load: bool) -> Turned | None:
        """Load a model (anew) or unload it, while others are served."""
        self._opened = None
        try:
            if load:
                await self._repository.start(name, config)
            else:
                await self._repository.stop(name)
        except Fault as fault:
            await self._measured()
            return Turned(fault.status, fault.text)
        self._changed += 1
        await self._measured()
        return None

    async def close(self, drain_s: float = _DRAIN_S) -> None:
        """Answer what was accepted, for some time at most; then put the clocks back."""
        admission = self.admission
        admission.draining = True
        try:
            async with asyncio.timeout(drain_s):
                while admission.pending and self.working:
                    await asyncio.sleep(0.01)
        except TimeoutError:
            admission.lanes.stop()
        admission.lanes.close()
        try:
            await self._working
        finally:
            admission.lanes.abandon()
            admission.mailbox.close()
            admission.lost()
            self._closing.close()

    async def _measured(self) -> None:
        """Work out the steps anew after the models have changed, and hold the one that was ordered."""
        if not self._plan.capped:
            return
        models = self._repository.models
        self._within_step = {key: each for key, each in self._within_step.items() if key[1] == self._changed}
        self._steps = steps_of([model.loaded.ladder for model in models], self._plan.device) if models else None
        await self._obey(self._order)

    async def _obey(self, order: Order) -> None:
        """Replace the governors by ones that know only what the step allows; wait for the batch that runs.

        Orders may overtake one another on the way here: one at a time is carried out, and none after a newer one.
        """
        self._order = order
        async with self._obeying:
            if self._steps is None or order != self._order or self._opens(order):
                return
            changed = self._changed
            for model in self._repository.models:
                key = (model.key, changed, order.step)
                if key not in self._within_step:
                    self._within_step[key] = await asyncio.to_thread(self._within, model, order.step)
                await asyncio.to_thread(self.admission.open, self._within_step[key])
            self._opened = order, changed
        due_s = time.monotonic() + _SETTLING_S
        while not self._confirm() and time.monotonic() < due_s:
            await asyncio.to_thread(self.admission.do, lambda: None)
            await asyncio.sleep(_LOOK_S)

    def _limit_w(self, step: int) -> float:
        assert self._steps is not None
        return self._steps.power_w[min(step, self._steps.top)]

    def _within(self, model: Model, step: int) -> Model:
        """Return a model whose governor never draws more than a step allows."""
        loaded, options = model.loaded, self._plan.options
        ladder = capped(loaded.ladder, self._limit_w(step))
        aim = self._plan.objective or Deadline(max(0.1, 10 * ladder.rungs[0].latency_s[0]))
        governor = governor_named(options.governor)(ladder, aim, Budget(options.max_loss.share(1.0)))
        held = Within.of(governor, ladder, parked=step == 0)
        return replace(model, loaded=replace(loaded, ladder=ladder, governor=held))

    def _opens(self, order: Order) -> bool:
        """Tell whether the governors of an order decide, over the models of now."""
        return self._opened == (order, self._changed)

    def _confirm(self) -> bool:
        """Hold the step that was ordered, once its governors decide and the clocks that are asked for belong to it."""
        ready = self._opens(self._order) and self._asking.asked in self._belonging(self._order.step)
        if ready:
            self._held = self._order.step
        return ready

    def _belonging(self, step: int) -> frozenset[Clocks]:
        """Return the clocks of a step, while a batch runs those of its own; none while a model comes in."""
        keys = [(model.key, self._changed, step) for model in self._repository.models]
        if not all(key in self._within_step for key in keys):
            return frozenset()
        governors = [self._within_step[key].loaded.governor for key in keys]
        return frozenset().union(*(each.allowed for each in governors if isinstance(each, Within)))


def digest(found: Found, options: Options) -> str:
    """Return what tells one content of a model's files from another."""
    if found.path.suffix == ".json" and files.kind_of(found.path) == "schedule":
        return files.load(found.path, SCHEDULE).subject.digest
    return "+".join(as_written(path)[1] for path in candidates(found.path, options).files)


def _read_text() -> ReadText | None:
    """Return what reads Protobuf's text form, where its package is installed."""
    try:
        return import_module("amble.services.serve.doors.grpc").read_text  # type: ignore[no-any-return]
    except ModuleNotFoundError:
        return None
