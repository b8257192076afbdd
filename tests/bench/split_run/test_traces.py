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


RUN = {
    "what": "run", "trial": "30 % loss", "asked": 10, "answered": 9, "compared": 8, "different": 1, "together": 4,
}  # fmt: skip


def told(*records: dict[str, object]) -> dict[str, float | None]:
    return {each.target: each.value for each in study.targets(list(records))}


def test_what_was_not_answered_or_not_compared_is_lost() -> None:
    assert told({**RUN, "fallen_back": 5})["30 % loss: requests lost"] is None, "hardly anything was tried"
    found = told({**RUN, "fallen_back": 6})
    assert found["30 % loss: requests lost"] == 3
    assert found["30 % loss: answers not the whole network's"] == 1
    assert found["steady: requests lost"] is None
    assert found["5G trace: more late than the best fixed cut"] is None


def test_the_moving_cut_is_judged_by_all_that_is_taken_in_all_runs() -> None:
    def ran(way: str, energy_j: float, late: int) -> dict[str, object]:
        more = {"trial": f"5G trace, {way} cut", "energy_j": energy_j, "radio_j": 1.0, "late": late, "fallen_back": 0}
        return {**RUN, **more}

    found = told(ran("moving", 8.0, 1), ran("fixed", 9.0, 1), ran("moving", 8.0, 2), ran("fixed", 9.0, 1))
    assert found["5G trace: energy of the moving cut over the best fixed one's"] == pytest.approx(0.9)
    assert found["5G trace: more late than the best fixed cut"] == 1
    part = {"what": "virtual", "wait_j": 8.0, "moving: above_j": 1.0, "best fixed: above_j": 2.0}
    lates = {"moving: late": 3, "best fixed: late": 1}
    found = told({**part, **lates}, {**part, **lates, "moving: above_j": 4.0})
    name = "5G traces, virtual time: "
    assert found[f"{name}parts where the moving cut takes no more than the best fixed one"] == 0.5
    assert found[f"{name}energy of the moving cut over the best fixed one's, mean"] == pytest.approx((0.9 + 1.2) / 2)
    assert found[f"{name}more late than the best fixed cut"] == 4


@pytest.mark.parametrize("name", ["relay: rate off what was asked, worst", "steady link: p95 of the deadline"])
def test_what_was_not_measured_is_no_target_met(name: str) -> None:
    (found,) = [each for each in study.targets([]) if each.target == name]
    assert found.met is None
