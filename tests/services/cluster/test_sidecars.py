"""One budget over governors of other servers: never exceeded, divided anew when one is gone."""

import time
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
from click.testing import CliRunner

import amble
from amble.cli import main
from amble.core.errors import Refused
from amble.services.cluster.doors import Door, Report
from amble.services.cluster.sidecars import Budget
from amble.services.govern.cap import Cap
from amble.services.govern.live import serve_page

KINDS = (
    ((250.0, 180.0, 120.0, 80.0), (1.0, 0.9, 0.7, 0.4), 100.0),
    ((150.0, 100.0, 60.0), (1.0, 0.8, 0.5), 90.0),
    ((90.0, 70.0, 50.0, 40.0, 30.0), (1.0, 0.9, 0.8, 0.6, 0.5), 20.0),
)
TOKEN, OTHER = "secret", "guess"
LEAST_W = 80.0 + 60.0 + 30.0


@dataclass
class Simulated:
    """A governed device that draws the most it may at its floor; orders take effect at the end of a period."""

    kind: int
    arrivals_hz: float = 200.0
    alive: bool = True
    loss: float = 0.0
    random: np.random.Generator = field(default_factory=lambda: np.random.default_rng(0))
    cap: Cap = field(init=False)
    running_w: float = field(init=False)

    def __post_init__(self):
        self.cap = Cap(*KINDS[self.kind])
        self.running_w = self.cap.most_w[0]

    def report(self):
        if not self.alive or self.random.random() < self.loss:
            return None
        told = self.cap.report()
        # the floor that runs, not the one that was ordered a moment ago
        cap, serial = self.cap, int(str(told["serial"]))
        return Report(
            serial, cap.most_w, cap.speed, cap.capacity_hz, self.floor(), cap.holds(), self.running_w, self.arrivals_hz
        )

    def floor(self):
        return self.cap.most_w.index(self.running_w)

    def order(self, serial, cap_w):
        if self.alive and self.random.random() >= self.loss:
            self.cap.order(serial, cap_w)

    def period(self):
        if self.alive:
            self.running_w = self.cap.most_w[self.cap.floor()]


def run(budget, devices, periods):
    """Return what all draw at the end of each period [W], and the last that was told."""
    drawn, told = [], None
    for _ in range(periods):
        told = budget.step()
        for each in devices:
            each.period()
        drawn.append(sum(each.running_w for each in devices))
    return drawn, told


def three():
    return [Simulated(kind) for kind in range(3)]


@pytest.mark.parametrize("budget_w", [LEAST_W, 200.0, 300.0, 400.0, 490.0])
def test_the_sum_stays_within_the_budget_once_all_are_told(budget_w):
    devices = three()
    budget = Budget(devices, budget_w)
    for each in devices:
        each.period()
    drawn, told = run(budget, devices, 12)
    assert max(drawn) <= budget_w + 1e-6
    assert told.possible_w <= budget_w + 1e-6
    assert drawn[-1] > 0.75 * min(budget_w, 490.0), "watts that could serve were left"


def test_watts_go_where_they_serve_most():
    devices = three()
    budget = Budget(devices, 305.0)
    _, told = run(budget, devices, 12)
    assert told.cap_w[1] == 150.0, "0.9 requests a joule and more: first"
    assert told.cap_w[2] == 30.0, "0.17 requests a joule at best: last"


@pytest.mark.parametrize("seed", range(20))
def test_lost_orders_and_reports_do_not_break_the_budget(seed):
    devices = [
        Simulated(kind, loss=0.3, random=np.random.default_rng([seed, kind]), arrivals_hz=60.0) for kind in range(3)
    ]
    for each in devices:
        each.loss = 0.0
    budget = Budget(devices, 300.0)
    for each in devices:
        each.period()
        each.loss = 0.3
    random = np.random.default_rng(seed)
    for _ in range(60):
        for each in devices:
            each.arrivals_hz = float(random.uniform(0.0, 120.0))
        drawn, _ = run(budget, devices, 1)
        assert drawn[0] <= 300.0 + 1e-6


def test_a_governor_that_is_gone_is_charged_its_top_and_the_rest_is_divided_anew():
    devices = three()
    budget = Budget(devices, 400.0)
    _, before = run(budget, devices, 12)
    assert before.cap_w[0] > 80.0
    devices[1].alive = False
    devices[1].running_w = 150.0  # nobody holds its clocks any more
    drawn, told = run(budget, devices, 10)
    assert told.cap_w[1] is None
    assert max(drawn[5:]) <= 400.0 + 1e-6
    assert drawn[-1] >= 150.0 + 150.0, "what is left was not divided"


def test_the_share_of_a_node_that_is_gone_goes_to_the_others_and_comes_back():
    devices = three()
    budget = Budget(devices, 330.0, "nothing")
    _, before = run(budget, devices, 12)
    devices[1].alive, devices[1].running_w = False, 0.0
    drawn, told = run(budget, devices, 10)
    assert told.cap_w[1] is None
    assert told.cap_w[0] > before.cap_w[0]
    assert max(drawn) <= 330.0 + 1e-6
    devices[1] = Simulated(1)  # started again, on its node
    budget.sidecars = devices
    devices[1].cap.order(0, 60.0)
    devices[1].period()
    drawn, told = run(budget, devices, 14)
    assert told.cap_w == before.cap_w
    assert max(drawn[2:]) <= 330.0 + 1e-6


def test_a_governor_that_was_started_again_is_capped_again():
    devices = three()
    budget = Budget(devices, 300.0)
    run(budget, devices, 12)
    devices[0].cap = Cap(*KINDS[0])
    drawn, _ = run(budget, devices, 12)
    assert max(drawn[4:]) <= 300.0 + 1e-6


def test_a_governor_that_is_being_started_again_is_gone_until_it_answers_rightly():
    """Its page is there before its cap is: a 404, which at the start would be refused."""
    devices = three()
    budget = Budget(devices, 400.0)
    run(budget, devices, 12)
    refusing = Starting()
    budget.sidecars = [devices[0], refusing, devices[2]]
    devices[1].running_w = 150.0
    drawn, told = run(budget, devices, 8)
    assert told.cap_w[1] is None
    assert max(drawn[5:]) <= 400.0 + 1e-6
    devices[1] = Simulated(1)
    budget.sidecars = devices
    drawn, told = run(budget, devices, 12)
    assert None not in told.cap_w
    assert max(drawn[2:]) <= 400.0 + 1e-6


class Starting:
    def report(self):
        raise Refused("http://node:9402 has no cap to set: start it with --capacity")

    def order(self, serial, cap_w):
        pass


@pytest.mark.parametrize("kind", [0, 1])
def test_a_governor_that_comes_back_with_other_settings_is_reckoned_with_anew(kind):
    devices = three()
    budget = Budget(devices, 330.0)
    run(budget, devices, 12)
    devices[2] = Simulated(kind)  # other watts, and fewer settings than it had
    budget.sidecars = devices
    drawn, told = run(budget, devices, 12)
    assert max(drawn[2:]) <= 330.0 + 1e-6
    assert told.cap_w[2] >= KINDS[kind][0][-1]
    assert drawn[-1] > 0.75 * 330.0


def test_one_that_comes_back_with_more_than_the_budget_has_stays_gone(caplog):
    devices = three()
    budget = Budget(devices, 175.0)
    run(budget, devices, 12)
    greedy = Simulated(2)
    greedy.cap = Cap((90.0, 60.0), (1.0, 0.5), 20.0)
    greedy.running_w = 60.0
    budget.sidecars = [*devices[:2], greedy]
    _, told = run(budget, devices[:2], 6)
    assert told.cap_w[2] is None
    assert told.cap_w[:2] == (80.0, 60.0)
    assert caplog.text.count("has come back with other settings") == 1


def test_the_division_waits_for_no_one_that_dawdles():
    class Slow(Simulated):
        def report(self):
            if slow:
                time.sleep(10.0)
            return super().report()

    slow: list[bool] = []
    devices = [Slow(0), Slow(1), Simulated(2)]
    budget = Budget(devices, 300.0)
    slow.append(True)
    began_s = time.perf_counter()
    told = budget.step()
    assert time.perf_counter() - began_s < 6.0, "two that dawdle were waited for one after the other, or to the end"
    assert told.cap_w[2] is not None


def test_one_that_does_not_hold_its_clocks_is_charged_its_top():
    devices = three()
    budget = Budget(devices, 400.0)
    run(budget, devices, 12)
    devices[1].cap.holds = lambda: False
    _, told = run(budget, devices, 8)
    assert told.cap_w[0] + told.cap_w[2] <= 400.0 - 150.0 + 1e-6


@dataclass
class Lying(Simulated):
    """Says that it obeys, and draws what it drew before; its meter knows."""

    def report(self):
        return super().report()._replace(floor=self.cap.floor(), power_w=250.0 + self.random.uniform(-1.0, 1.0))

    def period(self):
        pass


def test_one_whose_meter_contradicts_the_setting_that_it_tells_of_is_charged_its_top(caplog):
    devices = [Lying(0), Simulated(1), Simulated(2)]
    budget = Budget(devices, 400.0)
    _, told = run(budget, devices, 12)
    assert told.cap_w[0] == 80.0, "it is to go to its slowest setting"
    assert told.possible_w >= 250.0 + 60.0 + 30.0
    assert told.cap_w[1] + told.cap_w[2] <= 400.0 - 250.0 + 1e-6
    assert caplog.text.count("draws more than the setting that it tells of") == 1


@dataclass
class Behind(Simulated):
    """Tells at once which setting is allowed, and only every few divisions of another period, with its power."""

    told_w: float = 250.0
    passed: int = 0

    def report(self):
        return super().report()._replace(floor=self.cap.floor(), power_w=self.told_w)

    def period(self):
        before_w = self.running_w
        super().period()
        self.passed += 1
        if self.passed % 4 == 0:
            self.told_w = before_w + self.random.uniform(-0.1, 0.1)


def test_the_power_of_a_period_before_the_order_is_held_against_nobody(caplog):
    devices = [Behind(0), Simulated(1), Simulated(2)]
    budget = Budget(devices, 480.0)
    for arrivals_hz in (200.0, 0.0, 200.0):
        for each in devices:
            each.arrivals_hz = arrivals_hz
        _, told = run(budget, devices, 30)
    assert told.cap_w[0] > 80.0
    assert "draws more" not in caplog.text


def test_a_budget_below_the_slowest_settings_is_refused_with_the_least():
    with pytest.raises(Refused, match="at least 170 W"):
        Budget(three(), LEAST_W - 1.0)


def test_over_http_it_divides_and_says_who_takes_no_cap():
    caps = [replace(Cap(*KINDS[kind]), token=TOKEN) for kind in (0, 1)]
    doors = [serve_page(lambda: "", 0, cap=each) for each in caps]
    plain = serve_page(lambda: "", 0)
    urls = [f"http://127.0.0.1:{each.server_address[1]}" for each in (*doors, plain)]
    try:
        told = amble.budget(urls[:2], budget_w=250.0, period_s=0.01, for_s=0.3, token=TOKEN)
        assert told.possible_w <= 250.0
        assert [each.floor() for each in caps] == [3, 2], "nothing arrives, so that nothing is raised"
        with pytest.raises(Refused, match="wants the token"):
            amble.budget(urls[:2], budget_w=250.0, token=OTHER)
        with pytest.raises(Refused, match="start it with --capacity"):
            amble.budget(urls, budget_w=250.0, token=TOKEN)
        doors[0].shutdown()
        doors[0].server_close()
        assert Door(urls[0], "secret").report() is None
        with pytest.raises(Refused, match=r"no governor answers at http://127"):
            amble.budget(urls[:2], budget_w=250.0, token=TOKEN)
    finally:
        for each in (*doors, plain):
            each.shutdown()
            each.server_close()


def test_the_command_refuses_what_is_no_address():
    for urls in (["node1:9402"], ["ftp://node1"]):
        done = CliRunner().invoke(main, ["budget", *urls, "--watts", "100"])
        assert done.exit_code == 2
        assert "write http://HOST:PORT" in done.output
    assert CliRunner().invoke(main, ["budget", "http://h:1", "--watts", "100", "--dry-run"]).exit_code == 0


@pytest.mark.parametrize("url", ["http://a b:1", "http://127.0.0.1:port", "http://127.0.0.1:99999", "http://[::1"])
def test_an_address_that_no_governor_can_have_is_refused(url):
    with pytest.raises(Refused, match="is no address"):
        amble.budget([url], budget_w=250.0)


def test_a_governor_named_twice_and_a_budget_that_is_no_power_are_refused():
    url = "http://127.0.0.1:1"
    with pytest.raises(Refused, match="is named twice"):
        amble.budget([url, url], budget_w=250.0)
    for budget_w in (float("nan"), float("inf")):
        with pytest.raises(Refused, match="a budget is a power above 0"):
            amble.budget([url], budget_w=budget_w)
