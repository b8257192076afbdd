"""What arrives, and what waiting for it brought → until when to hold requests back for a larger batch.

A hold pays only if it saves energy and company may be expected in time: where one expected gap after the last arrival
is later than the deadline allows there is none, and none goes on for more than two. Expectations are checked: if holds
bring nobody (a client that sends its next request only after the answer to this one never comes to a held one), there
are no more of them for a hundred batches or so.
"""

from __future__ import annotations

from typing import NamedTuple

from amble.stages.control.governor import NEVER_S, Observation
from amble.stages.control.governors.rate import Rate

__all__ = ["Company", "held", "hold", "unheld"]

_LEARN = 0.05  # weight of one hold in the luck; Poisson arrivals have a luck of 0.63
_PATIENCE = 2.0  # expected gaps after the last arrival; nobody comes for so long in 14 % of Poisson gaps
_LEAST = 0.4  # luck below which holding is given up
_FORGET = 0.005  # of a given-up luck, with each batch: worth another try after a hundred


class Company(NamedTuple):
    """When somebody came last [s], how many waited when the hold began and until when it goes [s], the luck so far.

    ``luck`` is the share of recent holds that ended because somebody came; ``until_s`` is -inf where none goes on, and
    ``arrived_s`` after one that was in vain: nobody is waited for twice.
    """

    arrived_s: float = -NEVER_S
    waiting: int = 0
    until_s: float = -NEVER_S
    luck: float = 1.0


def held(state: Company, seen: Observation) -> Company:
    """Return the state after an observation: somebody has come, or the hold was in vain, or it goes on."""
    arrived_s = seen.now_s if seen.num_arrived else state.arrived_s
    if state.until_s == -NEVER_S:
        return state if arrived_s == state.arrived_s else state._replace(arrived_s=arrived_s)
    came = seen.num_waiting > state.waiting
    if not came and seen.now_s < state.until_s:
        return state
    luck = state.luck + _LEARN * (came - state.luck)
    return Company(arrived_s if came else -NEVER_S, 0, -NEVER_S, luck if luck >= _LEAST else 0.0)


def unheld(state: Company) -> Company:
    """Return the state after a batch that was not held back."""
    return state if state.luck >= _LEAST else state._replace(luck=state.luck + _FORGET * (1.0 - state.luck))


def hold(state: Company, seen: Observation, rate: Rate, latest_s: float) -> float:
    """Return until when to wait [s] where serving must begin at ``latest_s``; now or earlier: do not wait."""
    if state.until_s > seen.now_s:
        return min(state.until_s, latest_s)
    rate_hz = min(rate.hz(seen.now_s))
    if state.luck < _LEAST or rate_hz <= 0.0:
        return seen.now_s
    gap_s = rate.clump / rate_hz
    if state.arrived_s + gap_s > latest_s:
        return seen.now_s
    return min(latest_s, state.arrived_s + _PATIENCE * gap_s)
