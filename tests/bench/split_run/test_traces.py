"""Recorded traces become rates of a link; the study counts what was lost."""

import gzip
from pathlib import Path

import pytest

from bench.split_run import study, traces


def test_rates_are_the_downlink_in_bits_and_the_samples_of_one_second_are_averaged(tmp_path: Path) -> None:
    path = tmp_path / "traces.csv.gz"
    rows = ["trace,Timestamp,DL_bitrate,UL_bitrate", "a,1,100,7", "a,1,300,7", "a,2,50,7", "b,1,8,7"]
    path.write_bytes(gzip.compress("\n".join(rows).encode()))
    assert traces.rates(path) == {"a": [2e5, 5e4], "b": [8e3]}


def test_the_part_with_the_widest_range_is_taken_and_scaled() -> None:
    found = traces.trace([1e6] * 5 + [1e6, 1e8, 1e6, 1e8] + [1e6] * 5, 4, scale=0.5)
    assert sorted(found.rates_bit_s) == [5e5, 5e5, 5e7, 5e7]


def test_what_was_not_answered_or_not_compared_is_lost() -> None:
    run = {"what": "run", "trial": "30 % loss", "asked": 10, "answered": 9, "compared": 8, "different": 1}
    unused = {each.target: each.value for each in study.targets([{**run, "together": 9}])}
    assert unused["30 % loss: requests lost"] is None
    found = {each.target: each.value for each in study.targets([{**run, "together": 10}])}
    assert found["30 % loss: requests lost"] == 3
    assert found["30 % loss: answers not the whole network's"] == 1
    assert found["steady: requests lost"] is None
    assert found["5G trace: more late than the fixed cut"] is None


@pytest.mark.parametrize("name", ["relay: rate off what was asked, worst", "steady link: p95 of the deadline"])
def test_what_was_not_measured_is_no_target_met(name: str) -> None:
    (found,) = [each for each in study.targets([]) if each.target == name]
    assert found.met is None
