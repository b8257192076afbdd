"""The bench's own references: trying everything, and the programme that HiGHS is given, agree on small problems."""

from dataclasses import replace

import numpy as np
import pytest
import scipy.optimize

from amble.core.cost import Cost
from amble.core.errors import Infeasible
from amble.core.profile import SwitchCost
from amble.levers.split.link import Link
from amble.levers.split.planning import best
from bench.split import exactness, study
from bench.split.policies import POLICIES
from tests.levers.split.test_planning import RADIO, Costs, exhaustive, question


@pytest.mark.parametrize("seed", range(4))
def test_trying_everything_and_the_programme_agree_with_a_plain_reckoning(seed: int) -> None:
    asked = question(seed, deadline_s=0.02)
    assert isinstance(asked.costs, Costs)
    asked.costs = replace(asked.costs, switches=(*asked.costs.switches, SwitchCost("memory", Cost())))
    for rate in (2e6, 2e7):
        link = Link(rate, 0.002, RADIO)
        expected_j = exhaustive(asked, link)
        assert exactness._least(asked, link) == pytest.approx(expected_j, rel=1e-9)
        answer = scipy.optimize.milp(**exactness._Programme(asked, link).model(30.0))
        if np.isinf(expected_j):
            assert answer.x is None
            with pytest.raises(Infeasible):
                best(asked, link)
        else:
            assert answer.fun == pytest.approx(expected_j, rel=1e-6)


def cell(**late: float) -> list[dict[str, object]]:
    where = {"what": "policy", "network": "n", "rate_bit_s": 1e6, "deadline": 1.5, "specimen": 0}
    return [
        {**where, "policy": name, "energy_j": 2.0 if name == "amble" else 1.0, "late": late.get(name, 0.0)}
        for name in POLICIES
    ]


def judged(records: list[dict[str, object]], *parts: str) -> float | None:
    found = [each for each in study.targets(records) if all(part in each.target for part in parts)]
    assert len(found) == 1
    return found[0].value


def test_energy_is_compared_only_where_the_other_is_in_time_and_misses_everywhere() -> None:
    energy = ("energy over that of local-max", "on the board")
    assert judged(cell(), *energy) == 2.0
    assert judged(cell(**{"local-max": 0.5}), *energy) is None
    misses = ("more late than local-max", "on the board")
    assert judged(cell(amble=0.3, **{"local-max": 0.02}), *misses) == 1
    assert judged(cell(amble=0.01), *misses) == 0
