"""Which device gets a request: the cheapest that can finish in time, by the rungs that its step allows."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from amble.services.cluster.capping import steps_of
from amble.services.cluster.reports import Order, Report, Served
from amble.services.cluster.upstreams import Upstream, chosen
from amble.services.serve.models.configuration import Config
from amble.stages.control.engine import Totals
from tests.services.cluster.local import ladder


def upstream(name: str, watts: tuple[float, ...] = (40.0, 20.0, 10.0), *, service_s: float = 1e-3) -> Upstream:
    own = ladder(watts, service_s=service_s)
    served = Served("m", "1", ("1",), "same", Config("m"), (), (), True, "", None, own, "amble")
    made = Upstream(name, link=None, up=True, way_s=0.0)  # type: ignore[arg-type]
    made.serves([served])
    return made


def choice(upstreams: list[Upstream], due_s: float, rows: int = 1) -> Any:
    found = chosen(upstreams, "m", "", now_s=0.0, due_s=due_s, rows=rows)
    return None if found is None else (found[0].name, found[1])


def test_the_cheapest_that_finishes_in_time() -> None:
    quick, cheap = upstream("quick", (4000.0, 2000.0, 1000.0)), upstream("cheap", service_s=1e-2)
    assert choice([quick, cheap], 1.0) == ("cheap", True)
    assert choice([quick, cheap], 5e-3) == ("quick", True)
    assert choice([quick, cheap], 1e-5) == ("quick", False)


def test_what_waits_counts() -> None:
    quick, cheap = upstream("quick", (4000.0, 2000.0, 1000.0)), upstream("cheap", service_s=1e-2)
    cheap.rows = 100
    assert choice([quick, cheap], 0.5) == ("quick", True)
    assert choice([quick, cheap], 2.0) == ("cheap", True)


def test_a_slow_rung_is_cheaper_where_there_is_time() -> None:
    one = upstream("one")
    hurried = one.quote(one.served["m", "1"], 0.0, 1.2e-3, 1)
    easy = one.quote(one.served["m", "1"], 0.0, 1.0, 1)
    assert hurried.row_j > easy.row_j
    assert hurried.row_s < easy.row_s


def test_requests_without_a_deadline_do_not_pile_up_on_the_cheapest() -> None:
    dear, cheap = upstream("dear", (4000.0, 2000.0, 1000.0)), upstream("cheap")
    cheap.rows = 1000
    assert choice([dear, cheap], float("inf")) == ("dear", True)


@pytest.mark.parametrize("how", ["down", "closed", "parked", "without the model"])
def test_who_takes_no_work(how: str) -> None:
    cheap, other = upstream("cheap"), upstream("other", (4000.0, 2000.0, 1000.0))
    if how == "down":
        cheap.fall("gone", dead=True)
    elif how == "closed":
        cheap.open = False
    elif how == "parked":
        cheap.known = steps_of([ladder()], "cheap")
    else:
        cheap.serves([])
    assert choice([cheap, other], 1.0) == ("other", True)
    other.up = False
    assert choice([cheap, other], 1.0) is None


def test_a_step_allows_what_was_ordered_and_is_held() -> None:
    one = upstream("one")
    one.known = steps_of([ladder()], "one")
    report = Report("boot", 0, "one", "fake", 3, 1, 0.0, 0.0, None, None, Totals(), True)
    one.report, one.order = report, Order(1, 2)
    assert one.step == 1, "lowered: what is held still is not used any more"
    one.report, one.order = replace(report, step=1), Order(3, 2)
    assert one.step == 1, "raised: not before it is held"
    slowest = one.quote(one.served["m", "1"], 0.0, 1e-5, 1)
    assert slowest.row_s == pytest.approx(2e-3), "only the most frugal rung belongs to step 1"


def test_where_a_meter_is_missing_time_is_what_counts() -> None:
    blind, metered = upstream("blind", service_s=1e-4), upstream("metered")
    for key, each in blind.served.items():
        levels = tuple(
            replace(level, rungs=tuple(replace(rung, energy_j=None) for rung in level.rungs))
            for level in each.ladder.levels
        )
        blind.served[key] = replace(each, ladder=replace(each.ladder, levels=levels))
    assert choice([metered, blind], 1.0) == ("blind", True)
