"""What changes with time changes all works alike."""

from dataclasses import dataclass, field

import numpy as np
import pytest

from amble.stages.measure.rounds import rounds, speedups


@dataclass
class Machine:
    """Works take what they take, times a slow-down that grows with time."""

    drift: float = 0.0
    time_s: float = 0.0
    ran: list[str] = field(default_factory=list)

    def now_s(self) -> float:
        return self.time_s

    def work(self, name: str, latency_s: float) -> object:
        def run() -> None:
            self.ran.append(name)
            self.time_s += latency_s * (1.0 + self.drift * self.time_s)

        return run


def test_each_work_gets_its_own_time() -> None:
    machine = Machine()
    works = [machine.work("a", 0.01), machine.work("b", 0.002)]
    times_s = rounds(works, machine.now_s, num_rounds=4)  # type: ignore[arg-type]
    np.testing.assert_allclose(times_s, np.tile([0.01, 0.002], (4, 1)))
    np.testing.assert_allclose(speedups(times_s), np.tile([1.0, 5.0], (4, 1)))


def test_a_machine_that_slows_down_does_not_change_the_ratio() -> None:
    machine = Machine(drift=1.0)
    works = [machine.work("a", 0.01), machine.work("b", 0.005)]
    times_s = rounds(works, machine.now_s, num_rounds=20)  # type: ignore[arg-type]
    assert times_s[-1, 0] > 1.5 * times_s[0, 0]
    assert np.median(speedups(times_s)[:, 1]) == pytest.approx(2.0, rel=0.05)


def test_the_order_changes_from_round_to_round() -> None:
    machine = Machine()
    works = [machine.work(name, 1.0) for name in "abc"]
    rounds(works, machine.now_s, num_rounds=3)  # type: ignore[arg-type]
    timed = "".join(machine.ran[6:])  # after the warm-up
    assert timed == "aaabbbccc" + "bbbcccaaa" + "cccaaabbb"


def test_short_work_runs_more_often_in_a_round() -> None:
    machine = Machine()
    rounds([machine.work("a", 0.001)], machine.now_s, num_rounds=1, round_s=0.05)  # type: ignore[list-item]
    assert len(machine.ran) == 2 + 50


def test_progress_is_told_after_every_round() -> None:
    machine, told = Machine(), []
    rounds(
        [machine.work("a", 1.0)],  # type: ignore[list-item]
        machine.now_s,
        num_rounds=3,
        on_progress=lambda done, total: told.append((done, total)),
    )
    assert told == [(1, 3), (2, 3), (3, 3)]


def test_nothing_cannot_be_timed() -> None:
    with pytest.raises(ValueError, match="at least one"):
        rounds([], Machine().now_s)
    with pytest.raises(ValueError, match="at least one"):
        rounds([lambda: None], Machine().now_s, num_rounds=0)
