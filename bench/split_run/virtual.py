"""Steering over recorded rates in virtual time → what requests take, and how many are late; many runs a minute.

As in a run: steering itself, the options and paces of a real plan, one request after the other, what is given up and
answered by the device, proofs of halves that have the link in turns with requests. Not as in a run: device and server
take exactly what was planned, and the link its rates and round trip, without losses, slow starts or a busy machine.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate

from amble.levers.split.link import Radio
from amble.levers.split.steering import LOCAL, Decision, Look, Option, Rules, Seen, State, Steering

__all__ = ["Load", "Played", "Rates", "clairvoyant", "played"]

_TICK_S, _WITHIN_S = 0.02, 5.0
_QUESTION_BIT = 3000.0  # of a question without a body, with its headers
_ASKED_FIRST = 3  # questions before the bodies of a proof


@dataclass(frozen=True, slots=True)
class Rates:
    """Rates [bit/s] of one second each, from the start again after the last; a round trip [s]."""

    rate_bit_s: Sequence[float]
    round_trip_s: float
    _bits: tuple[float, ...] = field(init=False)

    def __post_init__(self) -> None:
        """Add up what can be sent until each second."""
        if max(self.rate_bit_s) <= 0:
            raise ValueError("nothing can ever be sent over this link")
        object.__setattr__(self, "_bits", (0.0, *accumulate(self.rate_bit_s)))

    def sent_s(self, start_s: float, bits: float) -> float:
        """Return when so many bits are sent that begin at a time."""
        rounds, inside_s = divmod(start_s, len(self.rate_bit_s))
        second = min(int(inside_s), len(self.rate_bit_s) - 1)
        wanted = self._bits[second] + (inside_s - second) * self.rate_bit_s[second] + bits
        more, wanted = divmod(wanted, self._bits[-1])
        at = min(bisect_right(self._bits, wanted) - 1, len(self.rate_bit_s) - 1)
        left = wanted - self._bits[at]
        inside_s = at + (left / self.rate_bit_s[at] if left > 0 else 0.0)
        return max(start_s, (rounds + more) * len(self.rate_bit_s) + inside_s)


@dataclass(frozen=True, slots=True)
class Load:
    """So many requests, one every ``period_s`` [s], each to be answered within ``deadline_s`` [s]."""

    count: int
    period_s: float
    deadline_s: float


@dataclass(slots=True)
class Played:
    """What came of a run: energies [J] of the device above waiting for all of it, and of its radio."""

    late: int = 0
    above_j: float = 0.0
    radio_j: float = 0.0
    fallen_back: int = 0
    together: int = 0
    moves: int = 0


@dataclass(slots=True)
class _Probe:
    """What a server is asked beside requests: until when, and what is heard then."""

    until_s: float = 0.0
    heard: tuple[Seen, ...] = ()


@dataclass(slots=True)
class _World:
    """Link, server and device of one run. ``wait_j`` [J]: a period in which nothing runs."""

    steering: Steering
    rates: Rates
    wait_j: float
    state: State
    told: Played = field(default_factory=Played)
    free_s: float = 0.0  # from when on the link is
    probe: _Probe = field(default_factory=_Probe)
    known: set[int] = field(default_factory=set)

    def see(self, seen: Seen) -> None:
        """Tell steering."""
        if seen.what in ("absent", "refuted"):
            self.known.discard(seen.option)
        self.state = self.steering.see(self.state, seen)

    def exchange(self, option: int, start_s: float) -> tuple[float, Seen]:
        """Return when an option's answer is there, and what steering sees of it; the link is not taken yet."""
        of = self.steering.options[option]
        assert of.server_s is not None
        sent_s = self.rates.sent_s(max(start_s, self.free_s), of.sent_bit)
        first_s = sent_s + self.rates.round_trip_s + of.server_s
        whole_s = self.rates.sent_s(first_s, of.received_bit)
        up_s = first_s - start_s - of.server_s
        return whole_s, Seen(whole_s, "exchange", option, up_s, whole_s - first_s, of.server_s, of.sent_bit)

    def radio(self, start_s: float, end_s: float, sent_bit: float, received_bit: float = 0.0) -> None:
        """Count what the radio takes."""
        self.told.radio_j += self.steering.radio.energy_j(end_s - start_s, sent_bit, received_bit)

    def look(self, now_s: float) -> None:
        """Hear what was asked, and ask what steering wants."""
        if now_s < self.probe.until_s:
            return
        for seen in self.probe.heard:
            self.see(seen)
        self.probe.heard = ()
        self.state, look = self.steering.probe(self.state, now_s)
        if look is not None:
            self.probe = self._asked(look, now_s)

    def _asked(self, look: Look, now_s: float) -> _Probe:
        """Return when a proof is there; a body on the link is in the way of requests."""
        questions = 1 if look.option in self.known else _ASKED_FIRST
        at_s = now_s
        for _ in range(questions):
            before_s, at_s = at_s, self.rates.sent_s(max(at_s, self.free_s), _QUESTION_BIT) + self.rates.round_trip_s
            if at_s - before_s > _WITHIN_S:
                return self._silent(look.option, now_s, before_s + _WITHIN_S)
        proved = Seen(at_s, "proved", look.option)
        if look.in_use:
            self.radio(now_s, at_s, 0.0)
            return _Probe(at_s, (proved,))
        num_bodies = 1 if look.option in self.known else 2  # packed, too
        for _ in range(num_bodies):
            before_s, (at_s, seen) = at_s, self.exchange(look.option, at_s)
            if at_s - before_s > _WITHIN_S:
                self.free_s = max(self.free_s, before_s + _WITHIN_S)
                return self._silent(look.option, now_s, before_s + _WITHIN_S)
            self.free_s = self.rates.sent_s(max(before_s, self.free_s), self.steering.options[look.option].sent_bit)
        self.known.add(look.option)
        trip_s = self.rates.sent_s(at_s, _QUESTION_BIT) - at_s + self.rates.round_trip_s
        at_s += trip_s
        self.radio(now_s, at_s, num_bodies * self.steering.options[look.option].sent_bit)
        trip = Seen(at_s, "round_trip", up_s=trip_s)
        return _Probe(at_s, (trip, seen._replace(now_s=at_s), proved._replace(now_s=at_s)))

    def _silent(self, option: int, asked_s: float, now_s: float) -> _Probe:
        self.radio(asked_s, now_s, 0.0)
        return _Probe(now_s, (Seen(now_s, "late", option),))

    def answer(self, now_s: float, due_s: float) -> float:
        """Answer one request → when."""
        self.state, decision = self.steering.decide(self.state, now_s, due_s)
        if decision.option == LOCAL:
            return self._alone(now_s, decision.pace)
        latency_s, energy_j = self.steering.options[decision.option].paces[decision.pace]
        self.told.above_j += energy_j - self.wait_j
        end_s = self._together(decision, now_s + latency_s)
        if end_s is not None:
            self.told.together += 1
            return end_s
        self.told.fallen_back += 1
        now_s = max(now_s + latency_s, decision.give_up_s)
        return self._alone(now_s, self.steering.alone(self.state, due_s - now_s))

    def _together(self, decision: Decision, start_s: float) -> float | None:
        if start_s >= decision.give_up_s:
            return None
        end_s, seen = self.exchange(decision.option, start_s)
        of = self.steering.options[decision.option]
        if end_s <= decision.give_up_s:
            self.free_s = self.rates.sent_s(max(start_s, self.free_s), of.sent_bit)
            self.radio(start_s, end_s, of.sent_bit, of.received_bit)
            self.see(seen)
            return end_s
        self.radio(start_s, decision.give_up_s, of.sent_bit)
        waited_s = decision.give_up_s - start_s
        self.see(Seen(decision.give_up_s, "late", decision.option, waited_s, sent_bit=of.sent_bit))
        return None

    def _alone(self, now_s: float, pace: int) -> float:
        latency_s, energy_j = self.steering.options[LOCAL].paces[pace]
        self.told.above_j += energy_j - self.wait_j
        return now_s + latency_s


def played(
    options: tuple[Option, ...],
    rates: Rates,
    load: Load,
    *,
    planned: tuple[float, float],
    radio: Radio,
    wait_j: float,
    rules: Rules = Rules(),  # noqa: B008
) -> Played:
    """Let requests pass; all halves are proved before the first, over the link as planned."""
    steering = Steering(options, planned, radio, rules)
    state = steering.init(0.0)
    for option in range(1, len(options)):
        state = steering.see(state, Seen(0.0, "proved", option))
    world = _World(steering, rates, wait_j, state, known=set(range(1, len(options))))
    now_s = 0.0
    for index in range(load.count):
        arrival_s = index * load.period_s
        while now_s < arrival_s:
            world.look(now_s)
            now_s = min(arrival_s, now_s + _TICK_S)
        world.look(now_s)
        now_s = world.answer(now_s, arrival_s + load.deadline_s)
        world.told.late += now_s > arrival_s + load.deadline_s
    world.told.moves = world.state.num_moves
    return world.told


def clairvoyant(options: tuple[Option, ...], rates: Rates, load: Load, *, radio: Radio, wait_j: float) -> Played:
    """Choose, for each request by itself, what takes least of what will be in time: a bound that nobody can reach."""
    told = Played()
    for index in range(load.count):
        start_s, found = index * load.period_s, []
        for option, of in enumerate(options):
            for latency_s, energy_j in of.paces:
                sends_s = end_s = start_s + latency_s
                radio_j = 0.0
                if of.server_s is not None:
                    there_s = rates.sent_s(sends_s, of.sent_bit) + rates.round_trip_s + of.server_s
                    end_s = rates.sent_s(there_s, of.received_bit)
                    radio_j = radio.energy_j(end_s - sends_s, of.sent_bit, of.received_bit)
                found.append((end_s > start_s + load.deadline_s, energy_j + radio_j, option, radio_j))
        late, all_j, option, radio_j = min(found)
        told.late += late
        told.together += option != LOCAL
        told.above_j += all_j - radio_j - wait_j
        told.radio_j += radio_j
    return told
