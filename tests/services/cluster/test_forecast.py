"""A fleet as it is asked for in Python: what is in the forecast, and what is refused."""

import pytest

import amble

DEVICES = ("12xsim:v100", "12xsim:jetson-orin-nano")


def test_a_forecast_keeps_the_budget_and_is_no_better_than_the_bound():
    found = amble.fleet(DEVICES, load="poisson:100000/s:3s", budget_w=1400.0)
    mine, equal, top, turns = found.rows
    assert found.devices == 24
    assert found.least_j <= mine.energy_j < min(equal.energy_j, top.energy_j)
    assert max(mine.most_w, equal.most_w) <= 1400.0 < top.most_w == found.top_w
    assert mine.missed == top.missed == 0.0 < turns.missed


@pytest.mark.parametrize(
    ("devices", "options", "what"),
    [
        (("4xnvml:0",), {}, "no part of a simulated fleet; write 200xsim:v100"),
        (("0xsim:v100",), {}, "no part of a simulated fleet"),
        (("4xsim:v10",), {}, "did you mean v100"),
        (("90000xsim:v100",), {}, "more than the 20000"),
        (DEVICES, {"budget_w": 10.0}, "give at least 43. W"),
        (DEVICES, {"deadline_s": 1e-4}, "cannot serve fashion-resnet within 0.1 ms"),
        (DEVICES, {"deadline_s": 0.0}, "the deadline must be above 0"),
    ],
)
def test_what_cannot_be_simulated_is_refused(devices, options, what):
    with pytest.raises(amble.Refused, match=what):
        amble.fleet(devices, load="poisson:1000/s:1s", **options)
