"""A request's times are differences, and only what comes after its deadline is late."""

from __future__ import annotations

from amble.core.log import Served


def test_waiting_counts_in_latency_and_not_in_service() -> None:
    served = Served(1.0, 3.0, 4.5, 10.0)
    assert (served.latency_s, served.service_s) == (3.5, 1.5)


def test_an_answer_at_its_deadline_is_on_time() -> None:
    assert not Served(0.0, 0.0, 2.0, 2.0).late
    assert Served(0.0, 0.0, 2.0 + 1e-9, 2.0).late
    assert not Served(0.0, 0.0, 2.0, float("inf")).late
