"""Whatever goes wrong with a page or a card, the clocks are as found, and a failed try to put them back is repeated."""

from amble.services.govern.hands import slowness
from amble.services.govern.rehearsal import Batcher, Requests
from bench.govern.faults import KINDS, injected
from bench.govern.plants import Case
from tests.services.govern.rehearsing import OBJECTIVES, SETTINGS, plant, poisson


def a_case(seed, duration_s=900.0):
    requests = Requests.plain(poisson(20.0, duration_s, seed))
    return Case(lambda: Batcher(plant(), requests, OBJECTIVES), OBJECTIVES, duration_s, slowness(SETTINGS, 1))


def test_faults_of_every_kind_leave_the_clocks_as_found():
    found = [injected(a_case(seed), seed) for seed in range(3)]
    assert [each.wrong for each in found] == [[], [], []]
    assert sum(each.count for each in found) > 60
    assert "stuck" in KINDS
