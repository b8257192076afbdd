import os
from pathlib import Path

import numpy as np
import pytest

from amble.core.errors import Refused
from amble.core.graph import Graph, Operator
from amble.core.point import Clocks, OperatingPoint
from amble.core.table import read_table
from amble.devices import recorded

HEADER = (
    "device,workload,kernel,precision,batch,core_hz,memory_hz,cpu_hz,power_limit_w,latency_s,power_w,repeat,"
    "requested_core_hz\n"
)
SLOW, FAST = Clocks(1e9, 2e9), Clocks(2e9, 2e9)
TWO_KERNELS = """\
d,net,conv,fp32,1,1e9,2e9,,,0.4,10,,
d,net,conv,fp32,1,2e9,2e9,,,0.2,30,,
d,net,relu,fp32,1,1e9,2e9,,,0.1,8,,
d,net,relu,fp32,1,2e9,2e9,,,0.1,20,,
d,other,,fp32,1,2e9,2e9,,,0.5,5,,
"""


@pytest.fixture
def table(tmp_path):
    def write(rows: str) -> Path:
        path = tmp_path / "table.csv"
        path.write_text(HEADER + rows)
        return path

    return write


def test_a_run_takes_the_recorded_time_and_energy_at_the_setting(table):
    path = table(TWO_KERNELS)
    device = recorded.open(path, workload="net")
    graph = recorded.graph(path, "net")
    assert [operator.name for operator in graph.operators] == ["net/conv", "net/relu"]
    before, start_s = device.meter.read(), device.clock.now_s()
    device.runner.run(graph, OperatingPoint(), {})
    with device.held(SLOW):
        device.runner.run(graph.segment(0, 1), OperatingPoint(), {})
    passed = device.meter.read() - before
    assert device.clock.now_s() - start_s == pytest.approx(0.2 + 0.1 + 0.4)
    assert passed.latency_s == pytest.approx(0.7)
    assert passed.energy_j == pytest.approx(0.2 * 30 + 0.1 * 20 + 0.4 * 10)


def test_a_device_starts_at_its_fastest_setting(table):
    device = recorded.open(table(TWO_KERNELS), workload="net")
    assert device.actuator.available() == (SLOW, FAST)
    assert device.actuator.current() == FAST
    assert device.calibration == "recorded: table"


def test_settings_that_were_not_recorded_are_refused_with_the_nearest(table):
    device = recorded.open(table(TWO_KERNELS), workload="net")
    with pytest.raises(Refused, match="nearest: core 2000 MHz, memory 2000 MHz; core 1000 MHz"):
        device.actuator.apply(Clocks(1.8e9, 2e9))
    assert device.actuator.current() == FAST


def test_a_run_at_a_setting_that_only_another_workload_has_is_refused_unless_interpolation_was_asked_for(table):
    path = table(TWO_KERNELS + "d,other,,fp32,1,5e8,2e9,,,2.0,2,,\n")
    graph = recorded.graph(path, "other")
    device = recorded.open(path, workload="net")
    device.actuator.apply(SLOW)
    before_s = device.clock.now_s()
    with pytest.raises(
        Refused,
        match=r"other was not recorded at core 1000 MHz.*; nearest: core 500 MHz, .*; core 2000 MHz.*or open",
    ):
        device.runner.run(graph, OperatingPoint(), {})
    with pytest.raises(Refused, match="other was not recorded at"):
        device.runner.profile(graph, OperatingPoint(), 1)
    assert device.clock.now_s() == before_s
    asked = recorded.open(path, workload="net", interpolate=True)
    asked.actuator.apply(SLOW)
    assert asked.runner.profile(graph, OperatingPoint(), 1).whole.latency_s == pytest.approx(1.0)  # ~ 1 / clock


def test_all_workloads_share_only_the_settings_recorded_for_each(table):
    assert recorded.open(table(TWO_KERNELS)).actuator.available() == (FAST,)


def test_workloads_without_a_common_setting_are_refused(table):
    path = table("d,one,,,,1e9,,,,1,1,,\nd,two,,,,2e9,,,,1,1,,\n")
    with pytest.raises(Refused, match="name one workload"):
        recorded.open(path)
    assert recorded.open(path, workload="two").actuator.available() == (Clocks(2e9),)


def test_waiting_costs_unknown_energy_and_spans_of_work_are_still_known(table):
    path = table(TWO_KERNELS)
    device = recorded.open(path, workload="net")
    before = device.meter.read()
    device.clock.sleep(1.0)
    between = device.meter.read()
    assert (between - before).energy_j is None
    assert (between - before).latency_s == 1.0
    device.runner.run(recorded.graph(path, "net/relu"), OperatingPoint(), {})
    assert (device.meter.read() - between).energy_j == pytest.approx(2.0)
    assert (device.meter.read() - before).energy_j is None


def test_energy_is_unknown_across_every_unknown_span_and_known_between_them(table):
    path = table(TWO_KERNELS)
    device, graph = recorded.open(path, workload="net"), recorded.graph(path, "net/relu")
    readings = [device.meter.read()]
    for _ in range(3):
        device.clock.sleep(1.0)
        readings.append(device.meter.read())
        device.runner.run(graph, OperatingPoint(), {})
        readings.append(device.meter.read())
    passed = [[(later - earlier).energy_j for later in readings[i + 1 :]] for i, earlier in enumerate(readings)]
    known = [(i, i + 1 + j) for i, row in enumerate(passed) for j, energy_j in enumerate(row) if energy_j is not None]
    assert known == [(1, 2), (3, 4), (5, 6)]


def test_waiting_costs_the_recorded_idle_power_where_there_is_one(table):
    device = recorded.open(table(TWO_KERNELS + "d,idle,,,,2e9,2e9,,,,3,,\n"), workload="net")
    before = device.meter.read()
    device.clock.sleep(2.0)
    assert (device.meter.read() - before).energy_j == pytest.approx(6.0)
    device.actuator.apply(SLOW)
    device.clock.sleep(2.0)
    assert (device.meter.read() - before).energy_j is None


def test_rows_without_power_have_no_energy(table):
    path = table("d,a,,,,1e9,,,,0.5,,,\nd,b,,,,1e9,,,,0.5,4,,\n")
    device = recorded.open(path)
    before = device.meter.read()
    device.runner.run(recorded.graph(path, "b"), OperatingPoint(), {})
    assert (device.meter.read() - before).energy_j == pytest.approx(2.0)
    device.runner.run(recorded.graph(path, "a"), OperatingPoint(), {})
    assert (device.meter.read() - before).energy_j is None
    timings = device.runner.profile(recorded.graph(path, "all"), OperatingPoint(), 3)
    assert [timing.energy_j for timing in timings.operators] == [None, pytest.approx(2.0)]
    assert timings.whole.energy_j is None


def test_a_table_without_any_power_has_a_meter_that_says_so(table):
    device = recorded.open(table("d,a,,,,1e9,,,,0.5,,,\n"))
    assert device.meter.read().energy_j is None


REPEATS = "".join(f"d,a,,,,1e9,,,,{latency_s},{10 * latency_s},{n},\n" for n, latency_s in enumerate((3, 1, 2), 1))


def test_runs_replay_the_repeats_in_order_and_start_over(table):
    path = table(REPEATS)
    device, graph = recorded.open(path), recorded.graph(path, "a")
    seen_s = []
    for _ in range(4):
        start_s = device.clock.now_s()
        device.runner.run(graph, OperatingPoint(), {})
        seen_s.append(device.clock.now_s() - start_s)
    assert seen_s == [3.0, 1.0, 2.0, 3.0]


def test_a_profile_is_the_median_of_the_repeats_with_their_spread(table):
    path = table(REPEATS)
    timings = recorded.open(path).runner.profile(recorded.graph(path, "a"), OperatingPoint(), 20)
    assert timings.repeats == 3
    assert timings.whole == timings.operators[0]
    assert timings.whole.latency_s == 2.0
    assert timings.whole.spread_s == pytest.approx(np.quantile([1, 2, 3], 0.9) - np.quantile([1, 2, 3], 0.1))
    assert timings.whole.energy_j == pytest.approx((90 + 10 + 40) / 3)
    assert timings.ratios == (1.5, 0.5, 1.0)


def test_a_profile_takes_no_more_repeats_than_asked_for(table):
    path = table(REPEATS)
    timings = recorded.open(path).runner.profile(recorded.graph(path, "a"), OperatingPoint(), 1)
    assert (timings.repeats, timings.whole.latency_s, timings.whole.spread_s) == (1, 3.0, 0.0)


OBSERVED = """\
d,a,,,,1.0e9,,,,2,10,,1.1e9
d,a,,,,1.7e9,,,,1,20,,1.9e9
d,a,,,,1.7e9,,,,1,20,,2.1e9
"""


def test_the_requested_clock_is_applied_and_the_observed_one_is_reported(table):
    path = table(OBSERVED)
    device = recorded.open(path)
    assert [clocks.core_hz for clocks in device.actuator.available()] == [1.1e9, 1.9e9, 2.1e9]
    device.actuator.apply(Clocks(1.1e9))
    assert device.actuator.current() == Clocks(1.0e9)
    timings = device.runner.profile(recorded.graph(path, "a"), OperatingPoint(), 1)
    assert timings.ran_at == Clocks(1.0e9)


def test_held_puts_back_the_request_that_was_in_force_although_another_clock_ran(table):
    device = recorded.open(table(OBSERVED))
    device.actuator.apply(Clocks(1.9e9))
    with device.held(Clocks(1.1e9)):
        pass
    assert device.actuator.current() == Clocks(1.7e9)
    with pytest.raises(Refused):
        device.actuator.apply(Clocks(1.65e9))


def test_a_setting_is_itself_although_its_clock_ran_at_another_one(table):
    path = table("d,a,,,,1.7e9,,,,2,10,,1.9e9\nd,a,,,,1.6e9,,,,3,10,,1.7e9\n")
    device = recorded.open(path)
    device.actuator.apply(Clocks(1.9e9))
    assert device.actuator.current() == Clocks(1.7e9)
    device.actuator.apply(Clocks(1.7e9))
    assert device.actuator.current() == Clocks(1.6e9)


def test_interpolation_lies_between_the_recorded_points_and_is_exact_on_them(table):
    path = table("".join(f"d,a,,,,{f},,,,{1e9 / f},{f / 1e8},,\n" for f in (1e9, 2e9, 4e9)))
    device, graph = recorded.open(path, interpolate=True), recorded.graph(path, "a")
    assert "interpolated" in device.calibration
    device.actuator.apply(Clocks(3e9))
    timing = device.runner.profile(graph, OperatingPoint(), 1).whole
    assert timing.latency_s == pytest.approx(1 / 3)  # a power law is a line in logarithms
    assert timing.energy_j == pytest.approx(10.0)
    device.actuator.apply(Clocks(2e9))
    assert device.runner.profile(graph, OperatingPoint(), 1).whole.latency_s == 0.5
    with pytest.raises(Refused, match="nearest: core 4000 MHz"):
        device.actuator.apply(Clocks(4.1e9))


def test_interpolation_over_two_clocks_is_refused_outside_the_recorded_points(table):
    rows = "".join(f"d,a,,,,{c},{m},,,{1e9 / c + 1e9 / m},5,,\n" for c in (1e9, 2e9) for m in (1e9, 4e9))
    path = table(rows + "d,b,,,,1e9,1e9,,,1,1,,\nd,b,,,,2e9,1e9,,,1,1,,\nd,b,,,,1e9,4e9,,,1,1,,\n")
    device = recorded.open(path, workload="a", interpolate=True)
    device.actuator.apply(Clocks(1.5e9, 3e9))
    timing = device.runner.profile(recorded.graph(path, "a"), OperatingPoint(), 1).whole
    assert 0.75 < timing.latency_s < 2.0
    assert timing.energy_j == pytest.approx(timing.latency_s * 5)
    device.actuator.apply(Clocks(1.9e9, 3.8e9))
    with pytest.raises(Refused, match="outside what was recorded"):
        device.runner.run(recorded.graph(path, "b"), OperatingPoint(), {})


def test_precisions_are_those_of_the_table(table):
    path = table("d,a,,fp16,,1e9,,,,1,1,,\nd,a,,,,1e9,,,,2,1,,\nd,a,,int32,,1e9,,,,3,1,,\n")
    device, graph = recorded.open(path), recorded.graph(path, "a")
    assert device.precisions == ("fp32", "fp16", "int32")
    assert device.runner.profile(graph, OperatingPoint(precision="fp16"), 1).whole.latency_s == 1.0
    with pytest.raises(Refused, match="not recorded in int8, only in fp16, fp32, int32"):
        device.runner.run(graph, OperatingPoint(precision="int8"), {})


def test_a_graph_has_a_precision_in_which_all_of_it_was_recorded(table):
    path = table("d,a,,fp16,,1e9,,,,1,1,,\nd,a,,fp32,,1e9,,,,2,1,,\nd,b,,int8,,1e9,,,,3,1,,\n")
    assert recorded.graph(path, "a").precision == "fp32"
    assert recorded.graph(path, "a", precision="fp16").precision == "fp16"
    assert recorded.graph(path, "b").precision == "int8"
    with pytest.raises(Refused, match=r"not all recorded in int8 \(all of it: fp32, fp16\)"):
        recorded.graph(path, "a", precision="int8")
    with pytest.raises(Refused, match="not all recorded in one precision"):
        recorded.graph(path, "all")


def test_batch_sizes_are_workloads_of_their_own(table):
    path = table("d,a/x,,,8,1e9,,,,1,1,,\nd,a/x,,,16,1e9,,,,2,1,,\n")
    assert recorded.workloads(path) == ("a/x@8", "a/x@16")
    assert recorded.graph(path, "a/x@16").batch == 16
    with pytest.raises(Refused, match="such as a/x@8, a/x@16"):
        recorded.graph(path, "a/x")


def test_the_whole_of_a_workload_goes_before_its_phases(table):
    path = table("d,a,,,,1e9,,,,3,1,,\nd,a,phase:init,,,1e9,,,,1,,,\nd,a,phase:run,,,1e9,,,,2,,,\n")
    assert [operator.name for operator in recorded.graph(path, "a").operators] == ["a"]
    phases = recorded.graph(path, "a/*").operators
    assert [operator.name for operator in phases] == ["a/phase:init", "a/phase:run"]


def test_unknown_workloads_are_refused_with_the_nearest(table):
    with pytest.raises(Refused, match=r"no workload 'net/konv'.*such as net/conv"):
        recorded.graph(table(TWO_KERNELS), "net/konv")


def test_a_graph_of_another_origin_is_refused(table):
    graph = Graph("resnet", (Operator("conv1", "Conv", 1.0, 1.0, 1.0),), 1, "digest")
    with pytest.raises(Refused, match="conv1 is no workload of table"):
        recorded.open(table(TWO_KERNELS)).runner.run(graph, OperatingPoint(), {})


def test_the_digest_follows_the_rows_of_the_workload_alone(table):
    first = recorded.graph(table(TWO_KERNELS), "net").digest
    assert recorded.graph(table(TWO_KERNELS.replace("0.5,5", "0.6,5")), "net").digest == first
    assert recorded.graph(table(TWO_KERNELS.replace("0.4,10", "0.4,11")), "net").digest != first


def test_a_run_with_inputs_needs_someone_to_compute_outputs(table):
    path = table(TWO_KERNELS)
    graph, inputs = recorded.graph(path, "net"), {"x": np.zeros(1)}

    class Doubler:
        def run(self, graph, point, inputs):
            return {name: 2 * value + 2 for name, value in inputs.items()}

        def profile(self, graph, point, repeats):
            raise AssertionError

    with pytest.raises(Refused, match="no outputs"):
        recorded.open(path, workload="net").runner.run(graph, OperatingPoint(), inputs)
    device = recorded.open(path, workload="net", compute=Doubler())
    assert device.runner.run(graph, OperatingPoint(), inputs)["x"].tolist() == [2.0]
    assert device.clock.now_s() == pytest.approx(0.3)


def test_a_table_of_powers_alone_has_nothing_to_replay(table):
    path = table("d,idle,,,,1e9,,,,,30,,\n")
    with pytest.raises(Refused, match="holds no times"):
        recorded.open(path)
    assert recorded.describe(path).missing == ("no times were recorded, so there is nothing to replay",)


def test_descriptions_say_what_varies_and_whether_power_was_recorded(table):
    described = recorded.describe(table(TWO_KERNELS))
    assert (described.clocks, described.meter) == ("2 settings of core", "recorded")
    described = recorded.describe(table("d,a,,,,1e9,,,,0.5,,,\n"))
    assert (described.clocks, described.meter) == ("fixed clocks", "unknown")
    assert "no power was recorded" in described.missing[0]
    assert "is not a number" in recorded.describe(table("d,a,,,,1e9,,,,fast,,,\n")).missing[0]


def test_unknown_names_are_refused_with_the_nearest_known_one():
    with pytest.raises(Refused, match="did you mean v100-zeus-training"):
        recorded.resolve("v100-zeus-trainin")


def test_shipped_tables_are_found_by_name_and_replayed():
    device = recorded.open("rtx-a4000-kerneltuner-fma")
    assert len(device.actuator.available()) == 10
    asked = device.actuator.available()[-1]
    assert device.actuator.current().core_hz < asked.core_hz  # the power limit lowered the clock


def test_every_shipped_table_is_named_in_the_notice_and_has_its_licence():
    folder = Path(recorded.__file__).parent / "tables"
    notice = (folder / "NOTICE.md").read_text()
    for path in folder.glob("*.csv.gz"):
        assert f"`{path.name.removesuffix('.csv.gz')}`" in notice
    for path in folder.glob("LICENSE.*"):
        assert f"`{path.name}`" in notice
        assert "without warrant" in path.read_text().lower() or "as is" in path.read_text().lower()


DATA = Path(os.environ.get("AMBLE_DATA", Path(__file__).parents[4] / "shared/data")) / "recorded"


@pytest.mark.skipif(not DATA.is_dir(), reason="needs the recorded tables (AMBLE_DATA)")
@pytest.mark.parametrize("name", ["jetson-tx2-osldvfs-chai", "v100-hkbu-kernels", "rtx5000-ada-darsh-llm-cap"])
def test_every_row_of_a_real_table_is_replayed_exactly(name):
    table = read_table(DATA / f"{name}.csv.gz")
    device = recorded.open(name)
    graph = recorded.graph(name, "all")
    total_s = 0.0
    for clocks in device.actuator.available()[::97]:
        device.actuator.apply(clocks)
        timings = device.runner.profile(graph, OperatingPoint(), 1)
        total_s += timings.whole.latency_s
        rows = np.all([table.knob(k) == getattr(clocks, k) for k in ("core_hz", "memory_hz", "cpu_hz", "power_limit_w")
                       if getattr(clocks, k) is not None], axis=0)  # fmt: skip
        assert timings.whole.latency_s == pytest.approx(np.nansum(table.latency_s[rows]))
    assert device.clock.now_s() == pytest.approx(total_s)


def test_a_table_of_several_devices_is_refused_with_their_names(table):
    rows = "d,net,,,,1e9,,,,0.4,10,,\ne,net,,,,1e9,,,,0.1,90,,\n"
    with pytest.raises(Refused, match=r"holds several devices \(d, e\); replay one"):
        recorded.open(table(rows), workload="net")


def test_a_column_that_is_nearly_one_of_the_schema_is_refused_and_one_with_its_unit_is_read(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("workload,core_mhz,latency_ms,powr_w\nnet,500,40,5\n")
    with pytest.raises(Refused, match=r"column powr_w: if it is power_w, name it power_w, or drop it"):
        recorded.open(path, workload="net")
    path.write_text("workload,core_mhz,latency_ms,temp\nnet,500,40,5\n")
    device = recorded.open(path, workload="net")
    device.runner.run(recorded.graph(path, "net"), OperatingPoint(), {})
    assert device.actuator.available() == (Clocks(5e8),)
    assert device.clock.now_s() == pytest.approx(0.04)
