"""What a batch took is shared by those who were in it, and the shares add up to what the meter counted."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import pytest

from amble.services.serve.desk import Listener
from amble.services.serve.model import Model
from amble.stages.control.engine import Batch
from tests.services.serve.house import Doubler, house


@dataclass
class Noted(Listener):
    """Remembers every batch."""

    batches: list[Batch] = field(default_factory=list)

    def ran(self, model: Model, batch: Batch) -> None:
        self.batches.append(batch)


@pytest.mark.parametrize("metered", [True, False])
def test_requests_of_unlike_size_share_the_energy_of_their_batch_and_of_waiting_for_it_by_rows(metered: bool) -> None:
    doubler, noted = Doubler(metered=metered), Noted()
    with house("plain", doubler=doubler, listeners=(noted,)) as found, ThreadPoolExecutor(3) as pool:
        doubler.gate.clear()
        first = pool.submit(found.infer, [0.0, 0.0])
        assert doubler.begun.wait(20.0)
        rest = [pool.submit(found.infer, [1.0] * (2 * rows)) for rows in (1, 3)]
        found.wait_for_pending(3)
        doubler.gate.set()
        assert first.result()[0] == 200
        small, large = (each.result()[1]["parameters"] for each in rest)
    assert doubler.batches == [1, 4]
    batch = noted.batches[-1]
    for name, whole_j in (("energy_j", batch.energy_j), ("idle_j", batch.idle_j)):
        assert (name in small) == (name in large) == (whole_j is not None) == metered
        if whole_j is not None:
            assert small[name] == pytest.approx(whole_j / 4)
            assert small[name] + large[name] == pytest.approx(whole_j)
