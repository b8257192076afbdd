"""What a fleet asks for -> a rung for every device, so that what they may draw together never exceeds the budget.

Pure, as governors are: ``init() -> State``, ``step(state, Seen) -> (State, Orders)``; a replayed log gives the same
orders. Each step estimates the demand, divides the budget (`filling`), and orders changes: lower first, then raise.

A change travels: it may come late, never, or after a newer one, and a device may not obey. So a device is charged what
it may possibly draw: the most of every rung it was sent since the last one that it confirmed. Every order has a serial
number; agents ignore orders older than the newest they have seen, and report that number with the rung that they hold
(reports of one device arrive in order, and what travels to a device that goes down is lost with it).
Only a report with the serial of the last order ends the charge of earlier ones. Orders to lower are free; orders to
raise are given only for as many watts as the budget has left above the sum of the charges. The sum of the charges so
never grows beyond the budget, and what is drawn never exceeds the charges of devices that report the truth. One whose
meter tells otherwise is charged its top rung from then on, and parked.

One that does not confirm for `patience` steps is wanted parked, and its charge is lost to the others until it does.

A device that is down (known to draw nothing) keeps its parked power charged, so that it may come back parked at any
moment. One that merely says nothing keeps its whole charge: nobody knows what it draws.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from amble.core.errors import Refused
from amble.core.ports import FloatArray
from amble.services.cluster.filling import BoolArray, Frontiers, IntArray, fill

__all__ = ["SILENT", "ClusterGovernor", "Orders", "Seen", "State"]

SILENT = -1
_LIE = 1.1  # measured over charged power from which on a device is not believed


class Seen(NamedTuple):
    """What came in since the last step.

    ``demand_hz`` is the rate asked for, refused requests included. By device: ``rung`` that it holds by its last report
    (SILENT: none came) and the ``serial`` of the newest order that it had seen then; ``down`` where it is known to draw
    nothing. ``power_w`` is what meters say, NaN where there are none.
    """

    demand_hz: float
    rung: IntArray
    serial: IntArray
    down: BoolArray
    power_w: FloatArray | None = None


class Orders(NamedTuple):
    """The devices whose rung is to change, to which, and the serial number of each order."""

    device: IntArray
    rung: IntArray
    serial: IntArray


class State(NamedTuple):
    """What is known of every device: its last order's ``rung`` and ``serial``, and for how many steps it is ``late``.

    Late is a device that does not say that it holds its last order. ``possible_w`` is what it may draw at most,
    ``caught`` tells whether its meter ever contradicted it. ``mean_hz`` and ``square`` are moments of the demand, None
    before any was seen.
    """

    rung: IntArray
    serial: IntArray
    late: IntArray
    possible_w: FloatArray
    caught: BoolArray
    down: BoolArray
    mean_hz: float | None = None
    square: float = 0.0


@dataclass(frozen=True)
class ClusterGovernor:
    """Divides ``budget_w`` [W] over the devices of a fleet.

    The demand planned for is the last one or the mean of the last ones, whichever is more, plus ``deviations``
    standard deviations, over ``busy``: the share of its rate up to which a device is loaded. ``learn`` is the weight
    of one step in the moments. Refused where the budget is below what the fleet draws parked.
    """

    frontiers: Frontiers
    budget_w: float
    busy: float = 0.95
    deviations: float = 2.0
    learn: float = 0.1
    patience: int = 3

    def __post_init__(self) -> None:
        """Refuse a budget that cannot be kept, with the least that can."""
        if not (0 < self.busy <= 1 and self.deviations >= 0 and 0 < self.learn <= 1 and self.patience >= 1):
            raise ValueError("busy and learn are shares above 0 and at most 1, deviations >= 0, patience at least 1")
        least_w = float(self.frontiers.parked_w.sum())
        if not self.budget_w >= least_w:
            raise Refused(
                f"a budget of {self.budget_w:.6g} W is below what the fleet draws with every device parked: "
                f"give at least {np.ceil(least_w):.0f} W, or take devices out"
            )

    def init(self) -> State:
        """Return the state of a fleet whose devices all start parked."""
        num = self.frontiers.num_devices
        zeros, no = np.zeros(num, dtype=np.int64), np.zeros(num, dtype=np.bool_)
        return State(zeros, zeros, zeros, self.frontiers.parked_w, no, no)

    def step(self, state: State, seen: Seen) -> tuple[State, Orders]:
        """Return the next state, and the orders to send, those to lower first."""
        state = self._believed(self._counted(state, seen.demand_hz), seen)
        wanted = self._divided(state, self.planned_hz(state, seen.demand_hz))
        lower = (self.frontiers.watts(wanted) < self.frontiers.watts(state.rung)) & ~state.down
        up = self._raises(state, wanted, (wanted != state.rung) & ~lower & ~state.down)
        again = (state.late > 0) & ~state.down & ~lower & ~up  # lost, or not obeyed: the same order once more
        rung = np.where(lower | up, wanted, state.rung)
        serial = state.serial + (lower | up)
        after = state._replace(
            rung=rung,
            serial=serial,
            late=np.where(lower | up, np.maximum(state.late, 1), state.late),
            possible_w=np.maximum(state.possible_w, np.where(state.down, 0.0, self.frontiers.watts(rung))),
        )
        device = np.concatenate([np.flatnonzero(each) for each in (lower, up, again)])
        return after, Orders(device, rung[device], serial[device])

    def planned_hz(self, state: State, demand_hz: float) -> float:
        """Return the rate [1/s] that rungs are chosen for."""
        if state.mean_hz is None:
            return demand_hz / self.busy
        spread_hz = float(np.sqrt(max(0.0, state.square - state.mean_hz**2)))
        return (max(demand_hz, state.mean_hz) + self.deviations * spread_hz) / self.busy

    def _counted(self, state: State, demand_hz: float) -> State:
        """Return the state whose moments have one more demand in them."""
        if state.mean_hz is None:
            return state._replace(mean_hz=demand_hz, square=demand_hz**2)
        mean_hz = state.mean_hz + self.learn * (demand_hz - state.mean_hz)
        return state._replace(mean_hz=mean_hz, square=state.square + self.learn * (demand_hz**2 - state.square))

    def _believed(self, state: State, seen: Seen) -> State:
        """Return the state after the reports: charges end where the last order is confirmed, or a device is down."""
        heard = (seen.rung != SILENT) & ~seen.down
        last = heard & (seen.serial == state.serial)
        obeyed = last & (seen.rung == state.rung)
        held_w = self.frontiers.watts(np.where(heard, seen.rung, 0))
        asked_w = self.frontiers.watts(state.rung)
        possible_w = np.where(last, np.maximum(held_w, asked_w), np.maximum(state.possible_w, held_w))
        caught = state.caught
        if seen.power_w is not None:
            caught = caught | (heard & (np.nan_to_num(seen.power_w) > _LIE * possible_w))
        possible_w = np.where(caught, self.frontiers.top_w, possible_w)
        fell = seen.down & ~state.down
        return state._replace(
            rung=np.where(seen.down, 0, state.rung),
            serial=state.serial + fell,
            late=np.where(seen.down | obeyed, 0, state.late + 1),
            possible_w=np.where(seen.down, self.frontiers.parked_w, possible_w),
            caught=caught,
            down=seen.down,
        )

    def _divided(self, state: State, planned_hz: float) -> IntArray:
        """Return the rung wanted for each device: parked, at the others' cost, where it is not to be relied on."""
        usable = ~state.down & ~state.caught & (state.late <= self.patience)
        held_w = np.where(usable | state.down, self.frontiers.parked_w, state.possible_w)
        lost_w = float((held_w - self.frontiers.parked_w).sum())
        least_w = float(self.frontiers.parked_w.sum())
        return fill(self.frontiers, max(least_w, self.budget_w - lost_w), planned_hz, usable).rung

    def _raises(self, state: State, wanted: IntArray, up: BoolArray) -> BoolArray:
        """Return which of the devices that want to go up may now: the cheapest first, as far as charges leave room."""
        mine = np.flatnonzero(up)
        more_w = np.maximum(0.0, self.frontiers.watts(wanted) - state.possible_w)[mine]
        gain_hz = (self.frontiers.rates(wanted) - self.frontiers.rates(state.rung))[mine]
        order = np.argsort(more_w / np.maximum(gain_hz, 1e-12), kind="stable")
        room_w = max(0.0, self.budget_w * (1 + 1e-9) - float(state.possible_w.sum()))
        raised = np.zeros(len(up), dtype=np.bool_)
        raised[mine[order[np.cumsum(more_w[order]) <= room_w]]] = True
        return raised
