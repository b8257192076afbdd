"""A power cap that somebody above sets → the fastest setting allowed; and what the governor below it tells upwards.

The contract of a commanded governor, over HTTP beside its metrics page:

``GET /cap`` answers a JSON object: ``serial`` of the newest order seen (-1: none), ``cap_w`` (null: none), ``most_w``
and ``speed`` of every setting, fastest first (what it may draw at most, and what it serves of the fastest's rate),
``capacity_hz`` (requests a second at the fastest), ``floor`` (the fastest setting that is allowed, an index), ``holds``
(false where clocks are not this governor's to set now, so that anything up to ``most_w[0]`` may be drawn), and of the
last period ``power_w`` (null: unknown) and ``arrivals_hz``.

``PUT /cap`` with ``{"serial": N, "cap_w": W}`` orders: the device draws at most W from the next period on, blocks as
found and lost pages included; W null ends that. An order older than the newest seen is answered 409 and changes
nothing. A cap stays until the next order or the end of the governor, which puts back the clocks that it found.
"""

from __future__ import annotations

import hmac
import json
import math
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from amble.core.delimited import is_delimited
from amble.core.errors import Refused
from amble.core.point import Clocks
from amble.services.govern.prior import measured
from amble.services.govern.watching import Told

__all__ = ["NONE", "Cap", "most_w"]

NONE = -1
"""The serial of no order."""

_MOST_W = 1e12  # that a cap may be


@dataclass(slots=True)
class Cap:
    """The cap of one governed device: ``most_w`` and ``speed`` by setting, fastest first."""

    most_w: tuple[float, ...]
    speed: tuple[float, ...]
    capacity_hz: float
    holds: Callable[[], bool] = lambda: True
    token: str | None = None
    _serial: int = field(default=NONE, init=False)
    _cap_w: float | None = field(default=None, init=False)
    _power_w: float | None = field(default=None, init=False)
    _arrivals_hz: float = field(default=0.0, init=False)
    _guard: threading.Lock = field(default_factory=threading.Lock, init=False)

    def floor(self) -> int:
        """Return the fastest setting that is allowed; the slowest where the cap is below all of them."""
        with self._guard:
            return self._floor()

    def _floor(self) -> int:
        if self._cap_w is None:
            return 0
        within = [index for index, power_w in enumerate(self.most_w) if power_w <= self._cap_w * (1 + 1e-9)]
        return within[0] if within else len(self.most_w) - 1

    def order(self, serial: int, cap_w: float | None) -> bool:
        """Take an order; tell whether it is none older than the newest seen."""
        with self._guard:
            if serial < self._serial:
                return False
            self._serial, self._cap_w = serial, cap_w
            return True

    def told(self, told: Told) -> None:
        """Take note of a period."""
        period = told.period
        if period.span_s <= 0:
            return
        with self._guard:
            self._power_w = None if period.energy_j is None else period.energy_j / period.span_s
            self._arrivals_hz = period.arrivals / period.span_s if period.usable else self._arrivals_hz

    def report(self) -> dict[str, object]:
        """Return what ``GET /cap`` answers."""
        with self._guard:
            return {
                "serial": self._serial,
                "cap_w": self._cap_w,
                "most_w": self.most_w,
                "speed": self.speed,
                "capacity_hz": self.capacity_hz,
                "floor": self._floor(),
                "holds": self.holds(),
                "power_w": self._power_w,
                "arrivals_hz": self._arrivals_hz,
            }

    def answer(self, body: bytes | None, authorization: str) -> tuple[int, bytes]:
        """Answer a GET (no body) or a PUT → status, JSON."""
        if self.token is not None and not _same(authorization, f"Bearer {self.token}"):
            return 401, b'{"error": "a bearer token is needed: --cap-token-file of both sides"}'
        if body is not None:
            try:
                serial, cap_w = _read(body)
            except ValueError as error:
                return 400, json.dumps({"error": str(error)}).encode()
            if not self.order(serial, cap_w):
                return 409, json.dumps(self.report()).encode()
        return 200, json.dumps(self.report()).encode()


def _same(given: str, wanted: str) -> bool:
    return hmac.compare_digest(given.encode("utf-8", "replace"), wanted.encode("utf-8", "replace"))


def _read(body: bytes) -> tuple[int, float | None]:
    """Read an order; ValueError for what is none."""
    wrong = 'an order is like {"serial": 7, "cap_w": 250.0}, cap_w null for none'
    try:
        given = json.loads(body)
        serial, cap_w = given["serial"], given["cap_w"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(wrong) from error
    numbers = isinstance(serial, int) and (cap_w is None or isinstance(cap_w, int | float))
    if not numbers or isinstance(serial, bool) or isinstance(cap_w, bool) or serial < 0:
        raise ValueError(wrong)
    if cap_w is not None and not 0 < cap_w <= _MOST_W:
        raise ValueError(wrong)
    return serial, None if cap_w is None else float(cap_w)


def most_w(settings: Sequence[Clocks], table: Path | None, workload: str | None = None) -> tuple[float, ...]:
    """Return what each setting draws at most: its power limit, or the most that a table has at it or the next faster.

    Refused where neither is known.
    """
    limits = [each.power_limit_w for each in settings]
    if all(each is not None for each in limits):
        return tuple(float(each or 0.0) for each in limits)
    if table is None:
        raise Refused(
            "a cap needs to know what each setting draws at most: give --costs a table of amble measure --all-clocks"
        )
    if not is_delimited(table):
        raise Refused(f"--costs: {table} says what is drawn on average; a cap needs the measured table (CSV) itself")
    rows = measured(table, workload)
    core_hz = rows.knob("core_hz")
    usable = ~np.isnan(core_hz) & ~np.isnan(rows.power_w)
    found = []
    for each in settings:
        above = usable & (core_hz >= (each.core_hz or math.inf) * (1 - 1e-6))
        if not above.any():
            raise Refused(f"{table} has no power at {each} or faster, so that no cap can be kept; measure it there")
        at = core_hz[above].min()
        found.append(float(rows.power_w[usable & (core_hz == at)].max()))
    return tuple(np.maximum.accumulate(found[::-1])[::-1].tolist())
