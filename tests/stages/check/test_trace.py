from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from amble.core.log import Log, Slice
from amble.stages.check.trace import Event, trace, trace_json
from tests.stages.check.builders import FAST, KINDS, MAX, NAMES, PLAN, Policy, log

WEIGHTS = np.linspace(1.0, 2.0, len(NAMES))
SLOW = replace(PLAN, latency_s=0.045)  # longer than the period: requests wait


def events(*logs: Log) -> list[Event]:
    return trace(logs or (log(),), NAMES, weights=WEIGHTS)


def of(found: list[Event], ph: str, cat: str = "") -> list[Event]:
    return [each for each in found if each["ph"] == ph and (not cat or each["cat"] == cat)]


def ns(us: float) -> int:
    return round(us * 1000)


@pytest.mark.parametrize("policy", [PLAN, MAX, SLOW])
def test_slices_nest_within_their_thread(policy: Policy) -> None:
    threads = defaultdict(list)
    for each in of(events(log(policy)), "X"):
        threads[each["pid"], each["tid"]].append((ns(each["ts"]), ns(each["ts"]) + ns(each["dur"])))
    assert threads
    for slices in threads.values():
        open_until: list[int] = []
        for start, end in slices:  # in the order of the file: a parent comes before its children
            while open_until and open_until[-1] <= start:
                open_until.pop()
            assert not open_until or end <= open_until[-1]
            open_until.append(end)


def test_time_never_goes_back_or_below_zero() -> None:
    times = [each["ts"] for each in events(log(), log(MAX)) if each["ph"] != "M"]
    assert times == sorted(times)
    assert times[0] == 0


@pytest.mark.parametrize("policy", [PLAN, SLOW])
def test_every_asynchronous_begin_has_its_end(policy: Policy) -> None:
    open_pairs: dict[str, list[str]] = defaultdict(list)
    for each in events(log(policy)):
        if each["ph"] == "b":
            open_pairs[each["id"]].append(each["name"])
        if each["ph"] == "e":
            assert open_pairs[each["id"]].pop() == each["name"]
    assert len(open_pairs) == 8
    assert not any(open_pairs.values())


def test_a_request_that_waits_shows_its_wait() -> None:
    waits = [each for each in of(events(log(SLOW)), "b") if each["name"] == "wait"]
    assert len(waits) == 7  # all but the first
    assert not [each for each in of(events(log()), "b") if each["name"] == "wait"]


def test_the_queue_is_counted_and_ends_empty() -> None:
    lengths = [int(str(each["args"]["queue"])) for each in events(log(SLOW)) if each["name"] == "queue"]
    assert max(lengths) >= 2
    assert min(lengths) == 0
    assert lengths[-1] == 0


def test_each_operator_has_a_slice_with_its_name_in_order() -> None:
    operators = of(events(), "X", "operator")
    assert [each["name"] for each in operators[: len(NAMES)]] == list(NAMES)
    assert all(each["args"]["estimated"] is True for each in operators)


def test_operators_divide_their_segment_by_the_weights() -> None:
    segment = of(events(log(MAX)), "X", "segment")[0]
    first = of(events(log(MAX)), "X", "operator")[0]
    assert first["dur"] / segment["dur"] == pytest.approx(WEIGHTS[0] / WEIGHTS.sum(), rel=1e-4)


def test_without_weights_a_segment_is_not_divided() -> None:
    found = trace([log()], NAMES)
    assert not of(found, "X", "operator")
    assert [each["name"] for each in of(found, "X", "segment")[:3]] == [
        "operators 0–7",
        "operators 8–15",
        "operators 16–23",
    ]


def test_a_slice_of_one_operator_was_measured_and_not_estimated() -> None:
    whole = log()
    first = whole.served[0]
    single = replace(whole, slices=(Slice(0, 2, 3, first.start_s, first.finish_s, FAST),))
    (found,) = of(trace([single], NAMES), "X", "operator")
    assert found["name"] == NAMES[2]
    assert "estimated" not in found["args"]
    assert found["args"]["ran_at"] == str(FAST)
    (unnamed,) = of(trace([single]), "X", "operator")
    assert unnamed["name"] == "operator 2"


def test_clock_counters_hold_what_ran_and_only_its_changes() -> None:
    found = events()
    core = [each["args"]["core_mhz"] for each in found if each["name"] == "core_mhz"]
    assert core[:3] == [854.25, 420.75, 854.25]
    assert all(a != b for a, b in pairwise(core))
    memory = [each["args"]["memory_mhz"] for each in found if each["name"] == "memory_mhz"]
    assert memory == [1331.2]
    assert not [each for each in found if each["name"] == "cpu_mhz"]


def test_what_was_asked_of_the_clocks_is_marked_beside_what_came() -> None:
    asked = of(events(), "i", "clocks")
    assert len(asked) == len(log().changes)
    assert asked[0]["name"] == "ask core 854.25 MHz, memory 1331.2 MHz"
    assert "got" in asked[0]["args"]


def test_power_is_a_counter_in_watts() -> None:
    watts = [each["args"]["power_w"] for each in events() if each["name"] == "power_w"]
    assert watts[:2] == [PLAN.power_w, PLAN.wait_w]
    assert all(each["ph"] == "C" for each in events() if each["name"] == "power_w")


def test_processes_and_threads_are_named_and_say_how_real_the_device_is() -> None:
    names = of(events(log(), log(MAX)), "M")
    processes = [str(each["args"]["name"]) for each in names if each["name"] == "process_name"]
    assert [name.partition(":")[0] for name in processes] == ["amble", "maximum clocks"]
    assert all("calibrated" in name for name in processes)
    named = {(each["pid"], each["tid"]) for each in names if each["name"] == "thread_name"}
    used = {(each["pid"], each["tid"]) for each in events(log(), log(MAX)) if each["ph"] in "Xi"}
    assert used <= named


def test_requests_of_one_batch_share_the_slice_of_the_first() -> None:
    whole = log(MAX)
    first = whole.served[0]
    batch = (first, replace(first), *whole.served[2:])
    assert len(of(trace([replace(whole, served=batch)]), "X", "request")) == 7


def test_only_the_traced_requests_are_there() -> None:
    assert len(of(trace([log(traced=3)]), "X", "request")) == 3


def test_the_document_is_json_in_milliseconds() -> None:
    document = json.loads(trace_json([log()], NAMES))
    assert document["displayTimeUnit"] == "ms"
    assert len(document["traceEvents"]) == len(trace([log()], NAMES))


def test_weights_must_fit_the_operators() -> None:
    with pytest.raises(ValueError, match="weights for 24 operators"):
        trace([log()], NAMES, weights=np.ones(len(KINDS)))


def test_numbers_of_numpy_are_written_as_plain_ones() -> None:
    whole = log()
    served = tuple(replace(each, energy_j=np.float64(0.1), finish_s=np.float64(each.finish_s)) for each in whole.served)
    assert json.loads(trace_json([replace(whole, served=served)]))
