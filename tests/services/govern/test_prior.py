"""What is known of a server's work before it is seen: measured tables, fits of them, the costs of a network."""

import json
from pathlib import Path

import numpy as np
import pytest

import amble
from amble.core.errors import Refused
from amble.core.point import Clocks
from amble.runtimes import synthetic
from amble.services.govern.hands import rungs
from amble.services.govern.prior import draws_of_table, from_table, known
from tests.services.govern.rehearsing import a_server, governed


def a_table(folder: Path) -> Path:
    path = folder / "table.csv"
    rows = [
        f"card,m,phase:{phase},,1,,,,{cap},{latency_s},100,,"
        for phase, latencies in (("prefill", (0.004, 0.002, 0.001)), ("decode", (0.03, 0.025, 0.02)))
        for cap, latency_s in zip((200, 250, 300), latencies, strict=True)
    ]
    header = (
        "device,workload,kernel,precision,batch,core_hz,memory_hz,cpu_hz,power_limit_w,latency_s,power_w,repeat,"
        "requested_core_hz"
    )
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


def test_a_recorded_table_tells_the_two_phases_apart(tmp_path):
    settings = tuple(Clocks(power_limit_w=cap) for cap in (300.0, 250.0, 200.0))
    found = from_table(known(a_table(tmp_path), settings), settings, ("ttft", "itl"))
    assert found[0] == (1.0, 1.0)
    assert found[1] == pytest.approx((2.0, 1.25))
    assert found[2] == pytest.approx((4.0, 1.5))


def test_a_recorded_table_tells_what_a_setting_draws_while_it_generates(tmp_path):
    settings = tuple(Clocks(power_limit_w=cap) for cap in (300.0, 260.0, 200.0))
    path = tmp_path / "table.csv"
    rows = ["device,workload,kernel,power_limit_w,latency_s,power_w"]
    for cap, prompt_w, step_w in ((300, 310.0, 280.0), (260, 260.0, 252.0), (200, 200.0, 140.0)):
        rows += [f"card,m,phase:prefill,{cap},0.1,{prompt_w}", f"card,m,phase:decode,{cap},0.1,{step_w}"]
    path.write_text("\n".join(rows) + "\n")
    assert draws_of_table(known(path, settings), settings) == pytest.approx((1.0, 0.9, 0.5))


def test_a_fit_of_a_table_tells_the_phases_apart_at_settings_that_were_not_measured(tmp_path):
    caps = np.array([200.0, 225.0, 250.0, 275.0, 300.0])
    rows = ["device,workload,kernel,power_limit_w,latency_s,power_w"]
    for cap in caps:
        rows += [f"card,m,phase:prefill,{cap:g},{0.3 / cap},{cap}", f"card,m,phase:decode,{cap:g},0.02,{0.9 * cap}"]
    table, costs = tmp_path / "table.csv", tmp_path / "costs.json"
    table.write_text("\n".join(rows) + "\n")
    amble.save(amble.fit(table), costs)
    settings = tuple(Clocks(power_limit_w=cap) for cap in (300.0, 260.0, 240.0))
    found = known(costs, settings)
    slow = np.array(from_table(found, settings, ("ttft", "itl")))
    assert slow[:, 0] == pytest.approx([1.0, 300 / 260, 300 / 240], rel=0.03)
    assert slow[:, 1] == pytest.approx(1.0, rel=0.03)
    assert draws_of_table(found, settings) == pytest.approx((1.0, 260 / 300, 240 / 300), rel=0.03)
    with pytest.raises(Refused, match="does not vary core_hz"):
        known(costs, (Clocks(core_hz=1e9), Clocks(core_hz=5e8)))


def test_the_costs_of_a_network_tell_its_whole_time_and_power(tmp_path):
    made = amble.fit(amble.measure(synthetic.chain(6, seed=0), amble.open("sim:v100")))
    path = tmp_path / "costs.json"
    amble.save(made, path)
    settings = rungs([point.clocks for point in made.points if point.precision == "fp32"])
    found = known(path, settings)
    slow = from_table(found, settings, ("latency",))
    arrays = made.arrays()
    whole_s = {point.clocks: time_s for point, time_s in zip(made.points, arrays.latency_s.sum(axis=0), strict=True)}
    assert slow[-1][0] == pytest.approx(whole_s[settings[-1]] / whole_s[settings[0]])
    draws = draws_of_table(found, settings)
    assert draws[0] == 1.0 > draws[-1]
    with pytest.raises(Refused, match="no rows of workload 'other'"):
        known(path, settings, "other")


def test_a_file_of_another_kind_says_what_is_wanted(tmp_path):
    path = tmp_path / "log.json"
    amble.save(governed(a_server(duration_s=20.0), 20.0)[0], path)
    with pytest.raises(Refused, match="is a log; give a measured table, or costs"):
        known(path, (Clocks(core_hz=1e9), Clocks(core_hz=5e8)))


def test_a_table_of_another_knob_is_refused(tmp_path):
    settings = (Clocks(core_hz=1e9), Clocks(core_hz=5e8))
    with pytest.raises(Refused, match="does not vary core_hz"):
        from_table(known(a_table(tmp_path), settings), settings, ("latency",))


HEADER = "device,workload,core_hz,cpu_hz,power_limit_w,latency_s,power_w"
CAPS = tuple(Clocks(power_limit_w=cap) for cap in (300.0, 250.0, 200.0))
CLOCKS = tuple(Clocks(core_hz=hz) for hz in (1e9, 7.5e8, 5e8))


def written(path: Path, *rows: str) -> Path:
    path.write_text("\n".join([HEADER, *rows]) + "\n")
    return path


def capped(*caps, name="m", device="card"):
    return [f"{device},{name},,,{cap},{3.0 / cap},{cap}" for cap in caps]


def clocked(*clocks_hz, name="m", device="card"):
    return [f"{device},{name},{clock_hz:g},,,{3e7 / clock_hz},{clock_hz / 5e6}" for clock_hz in clocks_hz]


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ("card,m,,,300,0,300", "latency_s: 0 is not a positive number"),
        ("card,m,,,300,0.01,0", "power_w: 0 is not a positive number"),
        ("card,m,,,300,inf,300", "latency_s: inf is not a positive number"),
        ("card,m,,,300000,0.01,300", "looks like mW"),
    ],
)
def test_numbers_that_cannot_be_right_are_refused(tmp_path, row, why):
    path = written(tmp_path / "table.csv", *capped(200, 250), row)
    with pytest.raises(Refused, match=rf"^--costs: .*table.csv: line 4, column .*{why}"):
        known(path, CAPS)


def test_clocks_in_megahertz_do_not_pass_for_slow_settings_that_cost_nothing(tmp_path):
    path = written(tmp_path / "table.csv", *clocked(500, 750, 1000))
    with pytest.raises(Refused, match="looks like MHz"):
        known(path, CLOCKS)


@pytest.mark.parametrize("caps", [(300,), (60, 70, 80), (600, 700)])
@pytest.mark.parametrize("fitted", [False, True])
def test_what_says_nothing_of_the_settings_apart_is_refused(tmp_path, caps, fitted):
    path = written(tmp_path / "table.csv", *capped(*caps))
    if fitted:
        amble.save(amble.fit(path), path := tmp_path / "costs.json")
    with pytest.raises(Refused, match="does not vary power_limit_w from 200 to 300"):
        from_table(known(path, CAPS), CAPS, ("latency",))


def test_power_at_one_level_alone_tells_no_draws(tmp_path):
    rows = [row if row.startswith("card,m,,,300") else row.rpartition(",")[0] + "," for row in capped(200, 250, 300)]
    found = known(written(tmp_path / "table.csv", *rows), CAPS)
    assert draws_of_table(found, CAPS) is None
    assert from_table(found, CAPS, ("latency",))[2] == pytest.approx((1.5,))


def test_a_level_at_which_nothing_ran_that_ran_at_the_highest_says_nothing(tmp_path):
    path = written(tmp_path / "table.csv", *capped(200, 300, name="a"), *capped(250, name="b"))
    assert draws_of_table(known(path, CAPS), CAPS) == pytest.approx((1.0, 1.0, 2 / 3))
    path = written(tmp_path / "table.csv", *capped(225, 275, 300, name="a"), *capped(200, name="b"))
    assert draws_of_table(known(path, CAPS), CAPS)[2] == pytest.approx(225 / 300)


def test_a_fit_of_several_devices_is_read_by_those_that_have_the_knob(tmp_path):
    rows = [
        *capped(*range(200, 301, 25), name="a", device="one"),
        *clocked(5e8, 6e8, 7e8, 8e8, 1e9, name="b", device="two"),
    ]
    for name, ordered in (("forth", rows), ("back", rows[::-1])):
        path = tmp_path / f"{name}.json"
        amble.save(amble.fit(written(tmp_path / "table.csv", *ordered)), path)
        for settings, workload in ((CAPS, "a"), (CLOCKS, "b")):
            for asked in (None, workload):
                found = from_table(known(path, settings, asked), settings, ("latency",))
                ratio = (settings[0].power_limit_w or 1e9) / (settings[-1].power_limit_w or 5e8)
                assert found[-1] == pytest.approx((ratio,), rel=0.03)
    with pytest.raises(Refused, match="no rows of workload 'c'; its workloads: a, b; see --workload"):
        known(path, CAPS, "c")
    with pytest.raises(Refused, match="does not vary power_limit_w"):
        known(path, CAPS, "b")


def test_a_table_of_this_machine_is_read_by_its_cpu_clock(tmp_path):
    settings = tuple(Clocks(cpu_hz=hz) for hz in (3e9, 2e9, 1e9))
    rows = [f"host,m,,{hz:g},,{3e7 / hz},{hz / 1e8}" for hz in (1e9, 2e9, 3e9)]
    found = known(written(tmp_path / "table.csv", *rows), settings)
    assert from_table(found, settings, ("latency",)) == ((1.0,), pytest.approx((1.5,)), pytest.approx((3.0,)))
    shares = tuple(Clocks(cpu_share=share) for share in (2.0, 1.0))
    with pytest.raises(Refused, match="does not vary cpu_share from 1 to 2"):
        from_table(known(tmp_path / "table.csv", shares), shares, ("latency",))


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (lambda costs: costs["latency_s"][0].pop(), "is damaged"),
        (lambda costs: costs.update(latency_s=[[0.0] * len(row) for row in costs["latency_s"]]), "not above 0"),
        (lambda costs: costs.update(points=[], latency_s=[[]], energy_j=[]), "does not vary core_hz"),
    ],
)
def test_a_damaged_file_of_costs_is_refused_by_its_name(tmp_path, damage, why):
    path = tmp_path / "costs.json"
    amble.save(amble.fit(amble.measure(synthetic.chain(3, seed=0), amble.open("sim:v100"))), path)
    document = json.loads(path.read_text())
    damage(document["costs"])
    path.write_text(json.dumps(document))
    with pytest.raises(Refused, match=f"^--costs: .*costs.json.*{why}"):
        from_table(known(path, CLOCKS), CLOCKS, ("latency",))
