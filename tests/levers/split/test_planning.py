"""The planner against trying every cut, precision, path of clocks and clock of waiting."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise, product

import numpy as np
import pytest

from amble.core.cost import Cost
from amble.core.errors import Infeasible, Refused
from amble.core.graph import Graph, Port
from amble.core.point import Clocks, OperatingPoint
from amble.core.ports import CostTable, FloatArray
from amble.core.profile import SwitchCost
from amble.core.schedule import Deadline
from amble.core.subject import Where
from amble.levers.split.cuts import Cut, sent_bytes
from amble.levers.split.link import Link, Radio
from amble.levers.split.planning import Question, Server, best, choice, every, regimes, steps
from tests import fakes

RADIO = Radio("test", 0.3, 2e-8, 1e-8)
STALL = Cost(0.0004, 0.0006)
MARGIN = 1.2
WHERE = Where("made up", "uncalibrated")


@dataclass(frozen=True)
class Costs:
    """Costs of three points, made up."""

    latency_s: FloatArray
    energy_j: FloatArray
    idle_powers_w: tuple[float | None, ...] = (0.4, 0.5, 0.7)
    switches: tuple[SwitchCost, ...] = (SwitchCost("core", STALL),)
    where: Where = WHERE

    def table(self, graph: Graph) -> CostTable:
        clocks = [Clocks(core_hz=each * 1e9) for each in range(1, self.latency_s.shape[1] + 1)]
        return CostTable(tuple(OperatingPoint(each) for each in clocks), self.latency_s, self.energy_j)

    def idle_w(self, clocks: Clocks) -> float | None:
        return self.idle_powers_w[round((clocks.core_hz or 0) / 1e9) - 1]

    def margin(self, percentile: float) -> float:
        return MARGIN


def chain(sizes: list[int]) -> list[Cut]:
    """Cuts of a chain; ``sizes`` are those of the input and of what each operator but the last makes."""
    count = len(sizes)
    answer = (Port("y", (10,), "float"),)
    found = [Cut(tuple(range(at)), (Port(f"t{at}", (size,), "float"),), answer) for at, size in enumerate(sizes)]
    return [*found, Cut(tuple(range(count)), (), ())]


def question(seed: int, count: int = 4, deadline_s: float = 0.03) -> Question:
    rng = np.random.default_rng(seed)
    work = rng.uniform(1e-3, 6e-3, (count, 1))
    latency_s = work / np.array([1.0, 1.7, 2.3]) * rng.uniform(0.9, 1.1, (count, 3))
    energy_j = latency_s * np.array([1.0, 2.2, 4.5]) * rng.uniform(0.9, 1.1, (count, 3))
    server = Server("fast", tuple((work[:, 0] / 20).tolist()), 1.1)
    cuts = chain([int(each) for each in rng.integers(50, 6000, count)])
    graph = fakes.graph(*[1.0] * count)
    wanted = Deadline(deadline_s, 0.99)
    precisions = ("fp32", "fp16", "int8")
    return Question(graph, Costs(latency_s, energy_j), cuts, server, wanted, 0.08, precisions, exact=True)


def exhaustive(asked: Question, link: Link) -> float:
    """Return the least energy [J] of all that is in time, reckoned without the trellis."""
    return min(_energies(asked, link), default=np.inf)


def _energies(asked: Question, link: Link) -> Iterator[float]:
    count, points = asked.table.latency_s.shape
    for cut, precision in product(asked.cuts, asked.precisions):
        sent, received = sent_bytes(cut.crossing, precision), sent_bytes(cut.answers, "fp32")
        server_s = sum(asked.server.latency_s[row] for row in range(count) if row not in cut.local) * 1.1
        alone = len(cut.local) == count
        link_s = 0.0 if alone else link.round_trip_s + 8 * (sent + received) / link.rate_bit_s
        on_s = link_s + server_s
        radio_j = 0.0 if alone else RADIO.base_w * on_s + 8 * (RADIO.sent_j * sent + RADIO.received_j * received)
        for wait in range(points):
            for path in product(range(points), repeat=len(cut.local)):
                held = (wait, *path)
                changes = sum(one != other for one, other in pairwise(held))
                cells = list(zip(cut.local, path, strict=True))
                busy_s = sum(asked.table.latency_s[cell] for cell in cells) + changes * STALL.latency_s
                if MARGIN * busy_s + link_s + server_s > asked.deadline.latency_s:
                    continue
                parks = held[-1] != wait
                busy_j = sum(asked.table.energy_j[cell] for cell in cells) + (changes + parks) * STALL.energy_j
                idle_s = asked.period_s - busy_s - parks * STALL.latency_s
                yield busy_j + asked.idle_w[wait] * idle_s + radio_j


@pytest.mark.parametrize("seed", range(12))
def test_the_best_is_that_of_trying_everything_and_the_bound_is_below(seed: int) -> None:
    asked = question(seed, deadline_s=0.012 + 0.003 * (seed % 4))
    for rate in (2e5, 2e6, 1e7, 1e8):
        link = Link(rate, 0.002, RADIO)
        least_j = exhaustive(asked, link)
        if least_j == np.inf:
            with pytest.raises(Infeasible, match="no cut of fake"):
                best(asked, link)
            continue
        found = best(asked, link)
        assert found.energy_j == pytest.approx(least_j, rel=1e-7)
        assert found.bound_j is not None
        assert found.bound_j <= least_j * (1 + 1e-7)
        assert found.latency_s <= asked.deadline.latency_s * (1 + 1e-9)


def test_asking_at_other_rates_first_changes_no_answer() -> None:
    """What is kept for other rates is only used where it is right."""
    link = Link(3e6, 0.002, RADIO)
    fresh = [best(question(5), replace(link, rate_bit_s=rate)) for rate in (4e6, 4e7, 1e9)]
    asked = question(5)
    regimes(asked, link)
    assert [best(asked, replace(link, rate_bit_s=rate)) for rate in (4e6, 4e7, 1e9)] == fresh


def test_regimes_change_where_the_best_does_and_run_from_local_to_remote() -> None:
    asked, link = question(3, deadline_s=0.03), Link(1e6, 0.002, RADIO)
    found = regimes(asked, link)
    assert asked.whole(found[0].index or 0)
    assert found[-1].index is not None
    assert len(asked.cuts[found[-1].index].local) < len(asked.cuts) - 1
    assert [each.slowest_bit_s for each in found[1:]] == [each.fastest_bit_s for each in found[:-1]]
    for each in found:
        inside = best(asked, replace(link, rate_bit_s=float(np.sqrt(each.slowest_bit_s * each.fastest_bit_s))))
        assert (inside.index, inside.precision) == (each.index, each.precision)


def test_a_split_in_the_middle_wins_where_its_tensor_is_small() -> None:
    asked = question(2, deadline_s=0.03)
    asked.cuts = chain([6000, 6000, 5, 6000])
    assert best(asked, Link(4e6, 0.002, RADIO)).index == 2


def test_a_precision_that_loses_too_much_is_not_taken() -> None:
    asked, link = question(0), Link(1e7, 0.002, RADIO)
    loose = best(asked, link)
    assert loose.precision == "int8"
    strict = best(asked, link, lambda cut, precision: precision != "int8")
    assert strict.precision != "int8"
    assert (strict.energy_j or 0) >= (loose.energy_j or 0)


def test_every_cut_is_told_and_those_too_late_have_no_energy() -> None:
    asked, link = question(1, deadline_s=0.012), Link(1e6, 0.002, RADIO)
    told = every(asked, link)
    assert [each.index for each in told] == list(range(len(asked.cuts)))
    assert any(not each.fits for each in told)
    for each in told:
        late = each.latency_s > asked.deadline.latency_s
        assert late is (not each.fits)
        if late and asked.cuts[each.index].local:
            assert each.energy_j is None


def test_the_clocks_of_the_device_s_half_are_those_that_were_priced() -> None:
    asked, link = question(3, deadline_s=0.03), Link(1e6, 0.002, RADIO)
    local = choice(asked, link, len(asked.cuts) - 1, "fp32")
    found, wait = steps(asked, link, local)
    assert len(found) == len(asked.graph.operators)
    assert wait in [point.clocks for point in asked.table.points]
    assert steps(asked, link, choice(asked, link, 0, "fp32")) == ((), Clocks(core_hz=1e9))


def test_energy_that_is_unknown_stays_unknown() -> None:
    asked = question(0)
    costs = asked.costs
    assert isinstance(costs, Costs)
    with pytest.raises(Refused, match="while it waits is unknown"):
        replace_costs(asked, replace(costs, idle_powers_w=(0.4, None, 0.7)))
    with pytest.raises(Refused, match="while it runs is unknown"):
        replace_costs(asked, replace(costs, energy_j=np.full_like(costs.energy_j, np.nan)))


def replace_costs(asked: Question, costs: Costs) -> Question:
    return Question(asked.graph, costs, asked.cuts, asked.server, asked.deadline, asked.period_s)


def test_a_period_shorter_than_the_deadline_is_refused() -> None:
    asked = question(0)
    with pytest.raises(ValueError, match="two requests under way"):
        Question(asked.graph, asked.costs, asked.cuts, asked.server, asked.deadline, 0.01)


@pytest.mark.parametrize("seed", range(6))
def test_uncertain_links_keep_the_percentile_when_they_are_simulated(seed: int) -> None:
    """What is sent at a normal rate, from a half that takes its quantile, is late no more often than promised."""
    asked, rng = question(seed, deadline_s=0.03), np.random.default_rng(seed)
    link = Link(2e7, 0.002, RADIO, 0.2)
    found = best(asked, link)
    cut = asked.cuts[found.index]
    bits = 8.0 * (found.num_bytes + sent_bytes(cut.answers, "fp32"))
    rates = np.maximum(rng.normal(link.rate_bit_s, 0.2 * link.rate_bit_s, 100_000), 1e3)
    device_s = found.latency_s - found.link_s - found.server_s
    took_s = device_s + found.server_s + (link.round_trip_s + bits / rates if cut.crossing else 0.0)
    assert np.mean(took_s > asked.deadline.latency_s) <= 1 - asked.deadline.percentile + 0.002


def test_planning_for_the_mean_rate_would_break_the_promise() -> None:
    asked, rng = question(2, deadline_s=0.03), np.random.default_rng(0)
    whole = chain([6000] * 4)
    asked.cuts, asked.precisions = [whole[0], whole[-1]], ("fp32",)
    bits = 8.0 * (sent_bytes(whole[0].crossing, "fp32") + sent_bytes(whole[0].answers, "fp32"))
    link = Link(bits / 0.022, 0.0, Radio("nothing", 0.0))
    rates = rng.normal(link.rate_bit_s, 0.2 * link.rate_bit_s, 100_000)
    certain = best(asked, link)
    assert certain.index == 0
    assert np.mean(certain.server_s + bits / rates > asked.deadline.latency_s) > 0.03
    assert best(asked, replace(link, spread=0.2)).index == 1
