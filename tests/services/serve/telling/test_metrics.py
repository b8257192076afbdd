"""What Prometheus reads: the ecosystem's names, plain decimals, and nothing at all for what is unknown."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from amble.core.ladder import Rung
from amble.core.point import Clocks
from amble.services.serve.telling.ledger import Histogram, Ledger, Outcome
from amble.services.serve.telling.metrics import Host, Seen, host, processes, text
from amble.stages.control.engine import Totals
from tests.services.serve.house import Doubler, house

RUNG = Rung("int8", Clocks(core_hz=1.3e9), (1e-3,), (1e-2,))
LINE = re.compile(r'([a-z_]+)(\{(?:[a-z_]+="[^"]*",?)*\})? (-?\d+(?:\.\d+)?)')


def written(energy_j: float | None = 141733920768.25) -> dict[str, float]:
    ledger = Ledger()
    book = ledger.book("m", "1")
    for finish_s in (0.004, 0.020):
        book.answered(Outcome(RUNG, 2, 2, 0.0, 0.002, finish_s, 0.010, energy_j and 1.5e-7, 0.0, 1.3e9))
        book.ran(RUNG, 1, finish_s - 0.002)
    book.failed("REJECTED", "deadline", 0.0)
    book.failed("CANCELED", "canceled", 0.0)
    totals = Totals(active_j=2.0 if energy_j else None, idle_j=1.0 if energy_j else None)
    seen = Seen(
        'dev"ice:0', "0.1.0", "real", energy_j, energy_j and 1e-7, 0.25, Clocks(core_hz=1.3e9, power_limit_w=15.0)
    )
    found = {}
    for line in text(ledger, [(totals, seen)], Host()).splitlines():
        if not line.startswith("#"):
            name, value = line.rsplit(" ", 1)
            found[name] = float(value)
            assert re.fullmatch(r"-?\d+(\.\d+)?", value), line
    return found


def test_numbers_are_plain_decimals_however_large_or_small() -> None:
    found = written()
    assert found['nv_energy_consumption{gpu_uuid="dev\\"ice-0"}'] == 141733920768.25
    assert found['nv_gpu_power_usage{gpu_uuid="dev\\"ice-0"}'] == 1e-7
    assert found['nv_gpu_power_limit{gpu_uuid="dev\\"ice-0"}'] == 15.0


def test_counters_say_what_happened() -> None:
    found = written()
    of = 'model="m",version="1"'
    assert found[f"nv_inference_request_success{{{of}}}"] == 2
    assert found[f"nv_inference_count{{{of}}}"] == 4
    assert found[f"nv_inference_exec_count{{{of}}}"] == 2
    assert found[f"nv_inference_queue_duration_us{{{of}}}"] == 4000
    assert found[f'nv_inference_request_failure{{{of},reason="REJECTED"}}'] == 1
    assert found['amble_requests_total{model="m",version="1",outcome="met"}'] == 1
    assert found['amble_requests_total{model="m",version="1",outcome="late"}'] == 1
    assert found['amble_requests_total{model="m",version="1",outcome="refused"}'] == 1
    assert found['amble_refusals_total{model="m",version="1",cause="deadline"}'] == 1
    assert found['amble_answers_total{model="m",version="1",precision="int8"}'] == 2
    assert found['amble_request_energy_joules_count{model="m",version="1"}'] == 2
    assert found['amble_energy_joules_total{device="dev\\"ice:0",kind="idle"}'] == 1.0
    assert found['amble_clock_hertz{device="dev\\"ice:0",domain="core",kind="ran"}'] == 1.3e9


def test_what_is_unknown_is_left_out() -> None:
    found = written(energy_j=None)
    assert not [name for name in found if "energy" in name or "power_usage" in name or "memory" in name]


def test_buckets_are_cumulative_and_end_at_infinity() -> None:
    found = written()
    buckets = [value for name, value in found.items() if name.startswith("amble_request_duration_seconds_bucket")]
    assert buckets == sorted(buckets)
    assert buckets[-1] == found['amble_request_duration_seconds_count{model="m",version="1"}'] == 2
    assert found['amble_request_duration_seconds_bucket{model="m",version="1",le="0.005"}'] == 1
    assert found['amble_slack_seconds_bucket{model="m",version="1",le="-0.01"}'] == 1


def test_a_value_on_a_bound_is_inside() -> None:
    histogram = Histogram((1.0, 2.0))
    histogram.observe(1.0)
    assert histogram.counts == [1, 0, 0]


def test_the_host_is_read_from_proc_and_nothing_where_there_is_none(tmp_path: Path) -> None:
    assert host(None, tmp_path) == (Host(), None)
    (tmp_path / "stat").write_text("cpu  10 0 10 70 10 0 0 0 0 0\ncpu0 1\n")
    (tmp_path / "meminfo").write_text("MemTotal: 1000 kB\nMemFree: 1 kB\nMemAvailable: 400 kB\n")
    first, ticks = host(None, tmp_path)
    assert (first.utilization, first.total_bytes, first.used_bytes) == (None, 1024_000, 614_400)
    (tmp_path / "stat").write_text("cpu  20 0 20 120 40 0 0 0 0 0\n")
    assert host(ticks, tmp_path)[0].utilization == pytest.approx(0.2)


@pytest.mark.parametrize("metered", [True, False])
def test_a_running_server_publishes_what_its_device_tells(metered: bool) -> None:
    with house("plain", doubler=Doubler(metered=metered)) as found:
        joules = found.infer([1.0, 1.0])[1]["parameters"].get("energy_j")
        page = found.metrics()
    assert page.endswith("\n")
    assert all(line.startswith("#") or LINE.fullmatch(line) for line in page.splitlines())
    assert 'amble_requests_total{model="plain",version="1",outcome="met"} 1' in page
    assert (joules is not None) == metered == ("amble_request_energy_joules" in page)


def test_every_version_has_series_of_its_own_and_none_comes_twice() -> None:
    ledger = Ledger()
    for version in ("1", "2"):
        book = ledger.book("m", version)
        book.failed("REJECTED", "deadline", 0.1)
        book.duration.observe(0.003)
        book.energy.observe(0.1)
        book.error_ratio = 0.5
    page = text(ledger, [(Totals(), Seen(name, "0", "real")) for name in "de"], Host())
    series = [line.rpartition(" ")[0] for line in page.splitlines() if not line.startswith("#")]
    assert len(series) == len(set(series))
    kinds = [line.split()[2] for line in page.splitlines() if line.startswith("# TYPE")]
    assert len(kinds) == len(set(kinds))
    for version in ("1", "2"):
        assert f'amble_refusals_total{{model="m",version="{version}",cause="deadline"}} 1' in page


def test_processes_that_were_replaced_are_counted_by_cause() -> None:
    told = processes([("front 0", True, {"died": 0, "hung": 2}), ("the engine on host", False, {"died": 1})])
    lines = [line for line in told.splitlines() if not line.startswith("#")]
    assert lines == [
        'amble_process_up{process="front 0"} 1',
        'amble_process_up{process="the engine on host"} 0',
        'amble_process_replaced_total{process="front 0",cause="died"} 0',
        'amble_process_replaced_total{process="front 0",cause="hung"} 2',
        'amble_process_replaced_total{process="the engine on host",cause="died"} 1',
    ]
