"""What is known of a server's work before it is seen: measured tables, fits of them, the costs of a network."""

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
