"""Requests, a device, a server → answers, each of them: the loop that does what `steering` decides, and tells it all.

One request at a time, in order of arrival. The device's half runs here, what crosses is sent, the answer is awaited
until the decision says otherwise; then, or when the server fails, the whole network runs here. So whatever link and
server do, every request is answered, at worst late. Between requests a thread probes the server when steering wants it.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field

import numpy as np

from amble.core.errors import Refused
from amble.core.log import Log, Served
from amble.core.ports import FloatArray, Tensors
from amble.levers.split.far import Example, Half, Known, Proof, finite, server_s, taken
from amble.levers.split.near import Near, Place
from amble.levers.split.packing import Packer
from amble.levers.split.probing import Prober
from amble.levers.split.ran import Journal, Ran, Share, place_of
from amble.levers.split.results import Split
from amble.levers.split.steering import LOCAL, Decision, Option, Rules, Seen, Steering
from amble.levers.split.wire import Heard, Wire
from amble.runtimes.remote.client import Body, Remote

__all__ = ["Requests", "Running", "options_of"]

_RETRIES = 2
_PAUSE_S = 0.01  # before a question is asked again
_TICK_S = 0.02  # between two looks at what the probes heard
_WITHIN_S = 5.0  # that a proof may take
_LATE = "in time"  # in the reason of what came too late
_TRIPS = 3.0  # that a connection may take which is opened between requests
_TELLING_S = 1e-3  # of the device's half: shorter ones say nothing of how quick the device is

OnProgress = Callable[[int, int, str], None]
OnAnswer = Callable[[int, Tensors, Tensors, int], None]


@dataclass(frozen=True, slots=True)
class Requests:
    """What is asked, and when [s], rising from 0; ``inputs`` gives the tensors of a request."""

    arrivals_s: FloatArray
    inputs: Callable[[int], Tensors]
    load: str


@dataclass(slots=True)
class _Counts:
    """What is told at the end."""

    fallen_back: int = 0
    retries: int = 0
    packed: int = 0
    radio_j: float = 0.0
    by_option: Counter[int] = field(default_factory=Counter)
    notes: dict[str, None] = field(default_factory=dict)


def options_of(nears: Sequence[Near]) -> tuple[Option, ...]:
    """Return pairs as steering sees them; all of the network on the device must be the first."""
    return tuple(
        Option(
            each.pair.name,
            None if each.pair.server is None else each.pair.server_s,
            8.0 * each.pair.sent_bytes,
            8.0 * each.pair.received_bytes,
            tuple((pace.latency_s, pace.energy_j) for pace in each.paces),
        )
        for each in nears
    )


class Running:
    """The state of one run. ``nears`` and ``examples`` are by option; the first is the whole network here."""

    def __init__(
        self,
        plan: Split,
        place: Place,
        nears: Sequence[Near],
        remote: Remote | None,
        examples: Sequence[Example],
        rules: Rules = Rules(),  # noqa: B008
    ) -> None:
        self.plan, self.place, self.nears, self._remote = plan, place, nears, remote
        self.steering = Steering(
            options_of(nears), (plan.link.rate_bit_s, plan.link.round_trip_s), plan.link.radio, rules
        )
        self._start_s = place.device.clock.now_s()
        self.state = self.steering.init(self._start_s)
        self._seen: list[Seen] = []
        self._decisions: list[Decision] = []
        self._halves: dict[int, Half] = {}
        self._answers, self._num_sent = [each.answers for each in examples], 0
        self._packers = [Packer() for _ in nears]
        self._counts = _Counts()
        self._served: list[Served] = []
        pairs = [each.pair for each in nears]
        self._wire = None if remote is None else Wire(remote)
        self._prober = None if remote is None else Prober(remote, pairs, examples, _WITHIN_S)

    def begin(self, on_progress: OnProgress = lambda done, total, stage: None) -> None:
        """Have the server prove its halves. Refused where it has others; where it is silent all runs here for now."""
        if self._prober is None:
            return
        absent = []
        for option in range(1, len(self.nears)):
            name = self.nears[option].pair.name
            on_progress(option - 1, len(self.nears) - 1, f"asking {self._url} for {name}")
            proof = self._prober.now(option)
            if proof.verdict == "refuted":
                raise Refused(
                    f"{self._url} has another version of {name}: {proof.why}; serve the folder repository of this plan"
                )
            self._learn(option, proof)
            if proof.verdict == "silent":
                self._note(f"{self._url} did not answer at the start ({proof.why}): all ran here until it did")
                return
            absent += [f"{name}: {proof.why}"] if proof.verdict == "absent" else []
        if absent and len(absent) == len(self.nears) - 1:
            raise Refused(
                f"{self._url} serves no half of this plan ({absent[0]}); start amble serve --repository with the "
                f"folder repository of the plan"
            )

    def run(
        self,
        requests: Requests,
        on_answer: OnAnswer = lambda index, inputs, outputs, option: None,
        on_progress: OnProgress = lambda done, total, stage: None,
    ) -> tuple[Ran, Log, Journal]:
        """Answer every request → what is told of it; an interrupt ends it with what was answered by then."""
        device, wait = self.place.device, self.nears[LOCAL].paces[-1].wait
        interrupted = False
        with device.held(wait) if self.place.follows else nullcontext():
            self.place.asked, self.place.num_changes = wait, 0
            begin, origin_s = device.meter.read(), device.clock.now_s()
            try:
                for index, arrival_s in enumerate((origin_s + requests.arrivals_s).tolist()):
                    self._idle(arrival_s)
                    self._one(index, arrival_s, requests, on_answer)
                    on_progress(index + 1, len(requests.arrivals_s), self._stage())
                self._idle(origin_s + float(requests.arrivals_s[-1]) + self.plan.period_s)
            except KeyboardInterrupt:
                interrupted = True
            energy_j, finish_s = (device.meter.read() - begin).energy_j, device.clock.now_s()
        log = Log(
            self.plan.subject,
            device.where,
            policy="split",
            load=requests.load,
            served=tuple(self._served),
            start_s=origin_s,
            finish_s=finish_s,
            energy_j=energy_j,
            num_changes=self.place.num_changes,
            deadline=self.plan.deadline,
        )
        return self._told(log, interrupted), log, self._journal()

    def close(self) -> None:
        """End connections and the probing thread."""
        if self._wire is not None:
            self._wire.close()
        if self._prober is not None:
            self._prober.close()

    @property
    def _url(self) -> str:
        return "no server" if self._remote is None else self._remote.url

    def _one(self, index: int, arrival_s: float, requests: Requests, on_answer: OnAnswer) -> None:
        """Answer one request."""
        device = self.place.device
        start_s, before = device.clock.now_s(), device.meter.read()
        inputs, due_s = requests.inputs(index), arrival_s + self.plan.deadline.latency_s
        self._seen.append(Seen(start_s, "request", up_s=due_s))
        self.state, decision = self.steering.decide(self.state, start_s, due_s)
        self._decisions.append(decision)
        option, outputs = decision.option, None
        if option != LOCAL:
            outputs = self._together(decision, inputs)
            self._counts.fallen_back += outputs is None
        if outputs is None:
            option, outputs = LOCAL, self._alone(inputs, due_s, decision if option == LOCAL else None)
        finish_s = device.clock.now_s()
        spent = device.meter.read() - before
        self.place.ask(self.nears[option].paces[-1].wait)
        self._counts.by_option[option] += 1
        self._served.append(Served(arrival_s, start_s, finish_s, due_s, spent.energy_j))
        on_answer(index, inputs, outputs, option)

    def _alone(self, inputs: Tensors, due_s: float, decision: Decision | None) -> Tensors:
        """Run the whole network here, at the pace decided; after a failure at the most frugal that is in time still."""
        if decision is not None:
            pace = decision.pace
        else:
            pace = self.steering.alone(self.state, due_s - self.place.device.clock.now_s())
        return self._timed(self.nears[LOCAL], inputs, pace)

    def _together(self, decision: Decision, inputs: Tensors) -> Tensors | None:
        """Run the device's half here and have the server answer; None where it does not."""
        near, half = self.nears[decision.option], self._halves.get(decision.option)
        if half is None or self._wire is None:
            return None
        made = self._timed(near, inputs, decision.pace)
        self.place.ask(near.paces[decision.pace].wait)
        known = {**inputs, **made}
        tensors = {name: known[name] for name in near.pair.sent}
        reason, heard = "", None
        for attempt in range(_RETRIES + 1):
            left_s = decision.give_up_s - self.place.device.clock.now_s()
            if left_s <= 0:
                break
            self._counts.retries += attempt > 0
            self._num_sent += 1
            identity = str(self._num_sent)
            heard = self._sent(decision.option, half, half.body(tensors, left_s, identity), left_s)
            like = self._answers[decision.option]
            found = taken(heard.reply, like, identity if half.echoes else "") if heard.answered else None
            if found is not None and (finite(found) or not finite(tensors) or not finite(like)):
                return {**made, **found}
            reason = heard.reply.reason or (
                "its answer is not one of this half to this request" if found is None else "its answer has no numbers"
            )
            if heard.reply.status or attempt == _RETRIES or _LATE in reason:
                break
            time.sleep(_PAUSE_S)
        if reason:
            self._failed(decision.option, reason, heard)
            self._note(f"the server failed: {reason}")
        return None

    def _sent(self, option: int, half: Half, plain: Body, left_s: float) -> Heard:
        """Ask the server once."""
        assert self._wire is not None
        body = plain
        if half.packs:
            body, self._packers[option] = self._packers[option].sent(plain, self.steering.rate_bit_s(self.state))
            self._counts.packed += body is not plain
        heard = self._wire.ask("POST", f"{half.path}/infer", body, time.perf_counter() + left_s)
        if heard.answered:
            self._see(self._exchange(option, heard, server_s(heard.reply), 8.0 * len(body.content)))
        back_bit = self.steering.options[option].received_bit
        self._counts.radio_j += self.plan.link.radio.energy_j(
            heard.whole_s - heard.asked_s, 8.0 * len(body.content), back_bit if heard.answered else 0.0
        )
        return heard

    def _exchange(self, option: int, heard: Heard, took_s: float | None, sent_bit: float) -> Seen:
        took_s = None if took_s is None else min(took_s, heard.first_s - heard.asked_s)
        up_s = heard.first_s - heard.asked_s - (took_s or 0.0)
        now_s = self.place.device.clock.now_s()
        return Seen(now_s, "exchange", option, max(up_s, 0.0), heard.whole_s - heard.first_s, took_s, sent_bit)

    def _timed(self, near: Near, inputs: Tensors, pace: int) -> Tensors:
        """Run what the device runs of a pair, and learn how quick it is."""
        clock, planned_s = self.place.device.clock, near.paces[pace].latency_s
        begun_s = clock.now_s()
        made = near.run(self.place, inputs, pace)
        if near.graph is not None and planned_s > _TELLING_S:
            self._see(Seen(clock.now_s(), "ran", up_s=clock.now_s() - begun_s, down_s=planned_s))
        return made

    def _idle(self, until_s: float) -> None:
        """Let the device idle until then; meanwhile hear probes and start what steering wants."""
        clock = self.place.device.clock
        while True:
            self._probe(clock.now_s())
            left_s = until_s - clock.now_s()
            if left_s <= 0:
                return
            trips_s = _TRIPS * self.state.round_trip.mean
            if self._wire is not None and not self._wire.is_open and not self.state.away and left_s > trips_s:
                self._wire.open(time.perf_counter() + trips_s)
                left_s = until_s - clock.now_s()
            clock.sleep(max(0.0, min(left_s, _TICK_S)))

    def _probe(self, now_s: float) -> None:
        if self._prober is None:
            return
        for option, proof in self._prober.heard():
            self._learn(option, proof)
        if self._prober.idle:
            self.state, look = self.steering.probe(self.state, now_s)
            if look is not None:
                half = self._halves.get(look.option)
                self._prober.ask(look.option, None if half is None else Known(half, look.in_use))

    def _learn(self, option: int, proof: Proof) -> None:
        """Tell steering what a proof says, of the half and of the link."""
        now_s = self.place.device.clock.now_s()
        self._counts.radio_j += self.plan.link.radio.energy_j(proof.took_s, 8.0 * proof.num_bytes, 0.0)
        if proof.verdict == "silent":
            self._failed(option, proof.why)
            return
        if proof.half is None:
            self._note(f"{self.nears[option].pair.name} was not used, at times: {proof.why}")
            self._halves.pop(option, None)
            self._see(Seen(now_s, proof.verdict, option))
            return
        self._halves[option] = proof.half
        if proof.ping_s is not None:
            self._see(Seen(now_s, "round_trip", up_s=proof.ping_s))
        if proof.heard is not None:
            sent_bit = self.steering.options[option].sent_bit
            self._see(self._exchange(option, proof.heard, proof.server_s, sent_bit))
        self._see(Seen(now_s, "proved", option))

    def _failed(self, option: int, why: str, heard: Heard | None = None) -> None:
        """Leave the server; where it was not only late it may be another one by now, of which nothing is known."""
        now_s = self.place.device.clock.now_s()
        if _LATE in why:
            waited_s = 0.0 if heard is None else heard.whole_s - heard.asked_s
            self._see(Seen(now_s, "late", option, waited_s))
        else:
            self._halves.clear()
            self._see(Seen(now_s, "failure", option))

    def _see(self, seen: Seen) -> None:
        self._seen.append(seen)
        self.state = self.steering.see(self.state, seen)

    def _note(self, text: str) -> None:
        self._counts.notes[text] = None

    def _stage(self) -> str:
        pair = self.nears[self.state.chosen].pair
        return place_of(pair.name, pair.after)

    def _journal(self) -> Journal:
        of = self.steering
        return Journal(
            of.options, of.planned, of.radio, of.rules, self._start_s, tuple(self._seen), tuple(self._decisions)
        )

    def _told(self, log: Log, interrupted: bool) -> Ran:
        latency_s = np.array([each.latency_s for each in log.served] or [np.nan])
        median_s, p95_s, p99_s = np.percentile(latency_s, [50, 95, 99]).tolist()
        counts = self._counts
        shares = tuple(
            Share(each.pair.name, each.pair.after, each.pair.precision, counts.by_option[option])
            for option, each in enumerate(self.nears)
        )
        return Ran(
            self.plan.subject.network,
            self.place.device.name,
            self._url,
            num_requests=len(log.served),
            num_late=sum(each.late for each in log.served),
            num_fallen_back=counts.fallen_back,
            num_retries=counts.retries,
            num_moves=self.state.num_moves,
            shares=shares,
            median_s=median_s,
            p95_s=p95_s,
            p99_s=p99_s,
            deadline_s=self.plan.deadline.latency_s,
            energy_j=log.energy_j,
            radio_j=counts.radio_j,
            rate_bit_s=self.steering.rate_bit_s(self.state),
            num_packed=counts.packed,
            interrupted=interrupted,
            notes=tuple(counts.notes),
        )
