"""Whatever goes wrong with a page or a card, the clocks are as found, and a failed try to put them back is repeated."""

import random

from amble.services.govern.hands import slowness
from amble.services.govern.proof import prove
from amble.services.govern.rehearsal import Batcher, Requests
from bench.govern.faults import KINDS, Faults, injected
from bench.govern.plants import Case
from bench.govern.trials import truth
from tests.services.govern.rehearsing import OBJECTIVES, SETTINGS, plant, poisson


def a_case(seed, duration_s=900.0):
    requests = Requests.plain(poisson(20.0, duration_s, seed))
    return Case(lambda: Batcher(plant(), requests, OBJECTIVES), OBJECTIVES, duration_s, slowness(SETTINGS, 1))


def test_faults_of_every_kind_leave_the_clocks_as_found():
    found = [injected(a_case(seed), seed) for seed in range(2)]
    assert [each.wrong for each in found] == [[], []]
    assert sum(each.count for each in found) > 40
    assert len({kind for each in found for kind in each.counts} & set(KINDS)) >= 8


def test_a_log_full_of_faults_states_no_saving_above_the_truth():
    case = a_case(7, 400.0)
    found = injected(case, 7, control=0.35, gap_s=4.0)
    assert found.count >= 25
    assert found.wrong == []
    saving = prove(found.log).saving
    assert saving is None or saving.low <= truth(case, found.log) + 0.01


def test_a_fault_is_seen_when_the_clocks_are_not_as_found():
    faults = Faults(a_case(0).server(), random.Random(0), kind="gone", since_s=0.0, until_s=9.0)
    faults.server.apply(SETTINGS[2])
    faults.server.sleep(3.0)
    faults.looked(None)
    assert [kind for kind, _ in faults.wrong] == ["gone"]
