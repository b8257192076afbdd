"""What was seen of link and server → which cut answers the next request, at which pace, and how long to wait for it.

Pure decisions like those of a governor: frozen data in, frozen data out, no I/O and no clock of its own. Whoever
replays the observations of a journal gets the same decisions.

Theory of operation
-------------------
An exchange takes T = round trip + bits up × time of a bit + bits down × time of a bit + the server's time. Each of the
four is believed to have a mean and a variance, both forgotten exponentially; an exchange teaches the time of a bit only
as far as its bits took time beside the round trip. A cut is in time when device, and T at its quantile (mean + z
standard deviations), leave something of the deadline, enough for an answer by the device where that is quick; its pace
is the most frugal that fits there. Of the cuts that are in time the one of least energy is wanted, radio included;
where none is, the quickest.

What is wanted is done only where it pays: after several requests in a row wanted it, for a gain that is worth it. Moves
to a cut that needs the server are bounded in every minute; falling back to the device never is. So no minute has more
than twice the bound of moves, and one.

A failure sends everything to the device at once and unproves all halves; the server must prove each again, and answer
several probes in a row, before it is relied on. An answer that is only late teaches how slow the link is at least, and
unproves none. What it does not have now it may have soon (a server that starts loads
one half after the other): that is asked for again, and as soon as it proved another. A half in use is proved again from
time to time, since another may be served under its name by now. A proof takes the link from requests: after the first
half, only those are asked for that would be in time and worth it as the link is believed to be.

A request that waits for the server is given up while the device can still answer in time; where it cannot any more, at
its deadline: then it is late, and counted as such. Where so many wait that the deadline is over before anything could
be sent, whoever is quicker answers, and the queue gets shorter.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from math import inf, sqrt
from typing import TypeVar

from amble.levers.split.facts import LOCAL, Belief, Decision, Look, Option, Rules, Seen
from amble.levers.split.link import Radio

__all__ = ["LOCAL", "Belief", "Decision", "Look", "Option", "Rules", "Seen", "State", "Steering", "replay"]

_T = TypeVar("_T")
_TINY_S = 1e-5
_NEWS = 0.1  # of the time of a bit, by which a belief must change for another look soon


@dataclass(frozen=True, slots=True)
class State:
    """What is believed and what was decided.

    ``proved``: [option] ``?`` unknown, ``+`` proved, ``~`` absent, ``-`` refuted, and ``looked_s`` since when [s].
    ``away``: the server failed and has not yet proved itself again; ``good`` counts the proofs since. ``wish`` is
    wanted for ``agreed`` requests in a row; ``moves_s`` are the latest moves to the server. From ``ask_at_s`` on a half
    is asked for that is not proved, from ``probe_at_s`` on the link is measured; ``left_s`` had the last request.
    """

    round_trip: Belief
    up: Belief
    down: Belief
    server: Belief
    device: Belief
    proved: tuple[str, ...]
    looked_s: tuple[float, ...]
    away: bool = False
    good: int = 0
    chosen: int = LOCAL
    wish: int = LOCAL
    agreed: int = 0
    moves_s: tuple[float, ...] = ()
    ask_at_s: float = -inf
    probe_at_s: float = -inf
    left_s: float = inf
    gap_s: float = 0.0
    num_moves: int = 0


@dataclass(frozen=True, slots=True)
class _Outlook:
    """What an option would do now: a pace that is in time (None: none is), its energy, and its usual end."""

    pace: int | None
    energy_j: float
    mean_s: float
    link_s: float


@dataclass(frozen=True, slots=True)
class Steering:
    """Decides. The first option is the whole network on the device; ``planned``: rate [bit/s], round trip [s]."""

    options: tuple[Option, ...]
    planned: tuple[float, float]
    radio: Radio
    rules: Rules = field(default_factory=Rules)

    def init(self, now_s: float) -> State:
        """Return what is believed before anything was seen: the plan, and nothing of the server."""
        rate_bit_s, round_trip_s = self.planned
        beat = Belief(1 / rate_bit_s)
        unknown = ("+", *("?" for _ in self.options[1:]))
        return State(
            Belief(round_trip_s),
            beat,
            beat,
            Belief(1.0),
            Belief(1.0),
            unknown,
            (now_s,) * len(unknown),
            ask_at_s=now_s,
            probe_at_s=now_s,
            gap_s=self.rules.probe_s,
        )

    def see(self, state: State, seen: Seen) -> State:
        """Return what is believed after something happened."""
        match seen.what:
            case "exchange":
                return self._exchanged(state, seen)
            case "round_trip":
                return replace(state, round_trip=state.round_trip.told(seen.up_s, self.rules.forget))
            case "ran":
                ratio = seen.up_s / seen.down_s
                return replace(state, device=state.device.told(ratio, self.rules.forget))
            case "late":
                return self._late(state, seen)
            case "failure":
                unknown = ("+", *("?" for _ in self.options[1:]))
                return self._away(replace(state, proved=unknown), seen.now_s)
            case "proved":
                return self._proved(state, seen)
            case "absent":
                gap_s = min(2 * state.gap_s, self.rules.most_away_s)
                state = replace(state, gap_s=gap_s, ask_at_s=seen.now_s + gap_s)
                return self._left(self._looked(state, seen, "~"))
            case "refuted":
                if state.proved[seen.option] == "+":  # it was another one before: so may others be
                    state = replace(state, proved=tuple("?" if each == "+" else each for each in state.proved))
                    state = replace(state, proved=_with(state.proved, LOCAL, "+"))
                return self._left(self._looked(state, seen, "-"))
        raise ValueError(f"nobody sees {seen.what!r}")

    def decide(self, state: State, now_s: float, due_s: float) -> tuple[State, Decision]:
        """Choose for a request that is due at ``due_s``."""
        state = replace(self._left(state), left_s=due_s - now_s)
        able = self._able(state)
        recent_s = tuple(each for each in state.moves_s if each > now_s - self.rules.window_s)
        if len(recent_s) >= self.rules.most_moves:  # home is all that is left
            able = [index for index in able if index in (LOCAL, state.chosen)]
        outlooks = {index: self._outlook(state, index, due_s - now_s) for index in able}
        best = self._best(outlooks, state.chosen)
        state = self._steered(replace(state, moves_s=recent_s), outlooks, best, now_s)
        chosen = outlooks[state.chosen]
        pace = 0 if chosen.pace is None else chosen.pace
        give_up_s = due_s
        if self.options[state.chosen].server_s is not None:
            alone_s = self.options[LOCAL].paces[0][0] * state.device.mean
            sends_s = now_s + self.options[state.chosen].paces[pace][0] * state.device.mean
            give_up_s = due_s - alone_s if sends_s + chosen.link_s <= due_s - alone_s else due_s
            if sends_s >= give_up_s:  # late before anything is sent: then the server was chosen for being quicker
                give_up_s = sends_s + chosen.link_s
        return state, Decision(state.chosen, pace, give_up_s, chosen.link_s)

    def alone(self, state: State, left_s: float) -> int:
        """Return the pace at which the device answers by itself: the most frugal in time, the quickest if none is."""
        return self._outlook(state, LOCAL, left_s).pace or 0

    def probe(self, state: State, now_s: float) -> tuple[State, Look | None]:
        """Say whether to ask the server something for its own sake."""
        if state.chosen != LOCAL and now_s - state.looked_s[state.chosen] >= self.rules.again_s:
            return state, Look(state.chosen, in_use=True)
        remote = [index for index, proof in enumerate(state.proved) if index != LOCAL and proof == "+"]
        if now_s >= state.ask_at_s and (asked := self._asked(state, now_s, remote)):
            gap_s = self.rules.probe_s if state.chosen == LOCAL else self.rules.most_probe_s
            return replace(state, ask_at_s=now_s + gap_s), Look(self._least(asked), in_use=False)
        if now_s < state.probe_at_s or not remote:
            return state, None
        gap_s = min(2 * state.gap_s, self.rules.most_probe_s)
        state = replace(state, probe_at_s=now_s + state.gap_s, gap_s=gap_s)
        return state, Look(self._least(remote), in_use=False)

    def _least(self, asked: Iterable[int]) -> int:
        """Return the option that sends least."""
        return min(asked, key=lambda index: (self.options[index].sent_bit, index))

    def _asked(self, state: State, now_s: float, remote: list[int]) -> list[int]:
        """Return the options that are not proved and worth asking for: any, where no other is proved."""
        doubtful = self._doubtful(state, now_s)
        if not remote:
            return doubtful
        now_j = self._outlook(state, state.chosen, state.left_s).energy_j
        outlooks = {index: self._outlook(state, index, state.left_s) for index in doubtful}
        return [index for index, each in outlooks.items() if each.pace is not None and each.energy_j < now_j]

    def _doubtful(self, state: State, now_s: float) -> list[int]:
        """Return the options of which nothing is known, else those whose half was absent or another one long ago."""
        if unknown := [index for index, proof in enumerate(state.proved) if proof == "?"]:
            return unknown
        wait_s = {"~": self.rules.most_away_s if state.away else self.rules.most_probe_s, "-": self.rules.most_probe_s}
        return [
            index
            for index, proof in enumerate(state.proved)
            if proof in wait_s and now_s - state.looked_s[index] >= wait_s[proof]
        ]

    def rate_bit_s(self, state: State) -> float:
        """Return the rate that is believed, upwards."""
        return 1 / max(state.up.mean, 1e-12)

    def link_s(self, state: State, index: int) -> tuple[float, float]:
        """Return the mean [s] of an exchange with the server, and its quantile."""
        option = self.options[index]
        if option.server_s is None:
            return 0.0, 0.0
        parts = (
            (1.0, state.round_trip),
            (option.sent_bit, state.up),
            (option.received_bit, state.down),
            (option.server_s, state.server),
        )
        mean_s = sum(weight * belief.mean for weight, belief in parts)
        variance = sum(weight**2 * belief.variance for weight, belief in parts)
        return mean_s, mean_s + self.rules.z * sqrt(variance)

    def _exchanged(self, state: State, seen: Seen) -> State:
        """Learn from an exchange: what the server did not tell of its own time is as it was believed."""
        option, forget = self.options[seen.option], self.rules.forget
        assert option.server_s is not None
        server = state.server
        took_s = seen.up_s
        if seen.server_s is None:
            took_s -= option.server_s * state.server.mean
        else:
            server = server.told(seen.server_s / max(option.server_s, _TINY_S), forget)
        sent_bit = seen.sent_bit or option.sent_bit
        bits_s = max(took_s - state.round_trip.mean, 0.0)
        up, down = state.up, state.down
        if sent_bit > 0:
            up = up.told(bits_s / sent_bit, forget, _weight(max(bits_s, sent_bit * up.mean), state.round_trip.mean))
        if (back_bit := option.received_bit) > 0:
            down = down.told(
                seen.down_s / back_bit, forget, _weight(max(seen.down_s, back_bit * down.mean), state.round_trip.mean)
            )
        is_news = abs(up.mean - state.up.mean) > _NEWS * state.up.mean
        gap_s = self.rules.probe_s if is_news else state.gap_s
        return replace(state, up=up, down=down, server=server, gap_s=gap_s, probe_at_s=seen.now_s + gap_s)

    def _proved(self, state: State, seen: Seen) -> State:
        """Rely on a half; where that is news, what was absent may be there by now, too."""
        good = state.good + 1
        is_news = state.proved[seen.option] != "+"
        if state.away or is_news:  # the next one soon
            soon_s = seen.now_s + self.rules.probe_s
            state = replace(state, gap_s=self.rules.probe_s, ask_at_s=soon_s, probe_at_s=soon_s)
        if is_news:
            state = replace(state, proved=tuple("?" if each == "~" else each for each in state.proved))
        state = self._looked(state, seen, "+")
        return replace(state, good=good, away=state.away and good < self.rules.proofs)

    @staticmethod
    def _looked(state: State, seen: Seen, proof: str) -> State:
        looked_s = _with(state.looked_s, seen.option, seen.now_s)
        return replace(state, proved=_with(state.proved, seen.option, proof), looked_s=looked_s)

    def _late(self, state: State, seen: Seen) -> State:
        """Learn that the bits took longer than was waited, and leave the server; what it proved stays proved."""
        sent_bit = seen.sent_bit or self.options[seen.option].sent_bit
        bits_s = max(seen.up_s - state.round_trip.mean, 0.0)
        if sent_bit > 0 and bits_s > sent_bit * state.up.mean:
            weight = _weight(bits_s, state.round_trip.mean)
            state = replace(state, up=state.up.told(bits_s / sent_bit, self.rules.forget, weight))
        return self._away(state, seen.now_s)

    def _away(self, state: State, now_s: float) -> State:
        """Leave the server: it must answer again several times, and is asked more and more rarely."""
        gap_s = self.rules.probe_s if not state.away else min(2 * state.gap_s, self.rules.most_away_s)
        state = replace(state, away=True, good=0, gap_s=gap_s)
        return self._left(replace(state, ask_at_s=now_s + gap_s, probe_at_s=now_s + gap_s))

    def _left(self, state: State) -> State:
        """Fall back to the device where what was chosen cannot be relied on."""
        if state.chosen in self._able(state):
            return state
        return replace(state, chosen=LOCAL, wish=LOCAL, agreed=0, num_moves=state.num_moves + 1)

    def _able(self, state: State) -> list[int]:
        """Return the options that can be relied on now."""
        return [
            index for index, proof in enumerate(state.proved) if index == LOCAL or (proof == "+" and not state.away)
        ]

    def _outlook(self, state: State, index: int, left_s: float) -> _Outlook:
        option = self.options[index]
        mean_s, link_s = self.link_s(state, index)
        device_s = [latency_s * state.device.mean for latency_s, _ in option.paces]
        if option.server_s is not None:
            left_s -= self._spare_s(state, left_s)
        fitting = [pace for pace, each_s in enumerate(device_s) if each_s + link_s <= left_s]
        pace = fitting[-1] if fitting else None
        sent_bit, back_bit = (0.0, 0.0) if option.server_s is None else (option.sent_bit, option.received_bit)
        radio_j = 0.0 if option.server_s is None else self.radio.energy_j(mean_s, sent_bit, back_bit)
        return _Outlook(pace, option.paces[pace or 0][1] + radio_j, device_s[pace or 0] + mean_s, link_s)

    def _spare_s(self, state: State, left_s: float) -> float:
        """Return what is kept for an answer here, should the server fail; nothing where that is much of it all."""
        alone_s = self.options[LOCAL].paces[0][0] * state.device.mean
        return alone_s if alone_s <= self.rules.reserve * left_s else 0.0

    @staticmethod
    def _best(outlooks: dict[int, _Outlook], chosen: int) -> int:
        """Return the option of least energy in time, the quickest where none is; what is chosen wins ties."""
        in_time = {index: each.energy_j for index, each in outlooks.items() if each.pace is not None}
        costs = in_time or {index: each.mean_s for index, each in outlooks.items()}
        return min(costs, key=lambda index: (costs[index], index != chosen))

    def _steered(self, state: State, outlooks: dict[int, _Outlook], best: int, now_s: float) -> State:
        """Move to what is wanted, if it pays and is not too soon."""
        if best == state.chosen:
            return replace(state, wish=best, agreed=0)
        now, then = outlooks[state.chosen], outlooks[best]
        late = now.pace is None
        if not late and now.energy_j - then.energy_j < self.rules.gain * abs(now.energy_j):
            return replace(state, wish=state.chosen, agreed=0)
        agreed = state.agreed + 1 if best == state.wish else 1
        state = replace(state, wish=best, agreed=agreed)
        if best == LOCAL:
            enough = agreed >= (1 if late else self.rules.agree)
            return replace(state, chosen=LOCAL, agreed=0, num_moves=state.num_moves + 1) if enough else state
        if agreed < self.rules.agree:
            return state
        return replace(state, chosen=best, agreed=0, moves_s=(*state.moves_s, now_s), num_moves=state.num_moves + 1)


def replay(steering: Steering, start_s: float, journal: Iterable[Seen]) -> list[Decision]:
    """Return the decisions on a journal; a ``request`` in it is due at ``up_s`` [s]."""
    state, made = steering.init(start_s), []
    for each in journal:
        if each.what == "request":
            state, decision = steering.decide(state, each.now_s, each.up_s)
            made.append(decision)
        else:
            state = steering.see(state, each)
    return made


def _weight(bits_s: float, round_trip_s: float) -> float:
    """Return how much an exchange says of the time of a bit: as far as its bits took time beside the round trip."""
    return min(1.0, bits_s / max(round_trip_s, _TINY_S))


def _with(of: tuple[_T, ...], index: int, new: _T) -> tuple[_T, ...]:
    return tuple(new if at == index else each for at, each in enumerate(of))
