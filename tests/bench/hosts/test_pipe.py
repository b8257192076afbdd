"""What a link does to packets, without a link."""

import pytest

from bench.hosts.pipe import Pipe, Shape, Trace


def fates(shape: Shape, arrivals: list[float], num_bytes: int = 1250) -> list[float | None]:
    pipe = Pipe(shape)
    return [pipe.send(each, num_bytes) for each in arrivals]


def test_packets_wait_for_those_before_them_and_then_for_the_delay() -> None:
    assert fates(Shape.steady(1e6, delay_s=0.1), [0.0, 0.0, 1.0]) == pytest.approx([0.11, 0.12, 1.11])


def test_what_would_wait_longer_than_the_queue_holds_is_lost() -> None:
    found = fates(Shape.steady(1e6, queue_s=0.025), [0.0] * 5)
    assert found[:3] == pytest.approx([0.01, 0.02, 0.03])
    assert found[3:] == [None, None]


def test_losses_are_as_many_as_asked_for_and_the_same_again() -> None:
    shape = Shape.steady(1e12, loss=0.3, seed=4)
    arrivals = [each * 1e-3 for each in range(5000)]
    found = fates(shape, arrivals)
    assert found == fates(shape, arrivals)
    assert found.count(None) / 5000 == pytest.approx(0.3, abs=0.03)
    assert found != fates(Shape.steady(1e12, loss=0.3, seed=5), arrivals)


def test_order_is_kept_under_jitter_unless_packets_are_to_overtake() -> None:
    arrivals = [each * 1e-3 for each in range(2000)]
    kept = fates(Shape.steady(1e9, delay_s=0.02, jitter_s=0.005), arrivals)
    assert kept == sorted(kept, key=lambda each: each or 0.0)
    mixed = fates(Shape.steady(1e9, delay_s=0.02, reorder=0.2), arrivals)
    early = [each is not None and each < at + 0.01 for each, at in zip(mixed, arrivals, strict=True)]
    assert sum(early) / 2000 == pytest.approx(0.2, abs=0.04)


def test_a_trace_is_followed_through_an_outage_and_from_its_start_again() -> None:
    shape = Shape(Trace((1.0, 2.0), (1e6, 0.0)), queue_s=10.0)
    assert fates(shape, [0.995, 1.5, 3.0]) == pytest.approx([3.005, 3.015, 3.025])


def test_a_packet_takes_the_rates_under_which_it_is_sent() -> None:
    shape = Shape(Trace((0.005, 10.0), (1e6, 2e6)))
    assert fates(shape, [0.0]) == pytest.approx([0.0075])


def test_a_shape_is_read_as_it_was_written() -> None:
    shape = Shape(Trace((1.0, 2.0), (1e6, 0.0)), 0.01, 0.002, 0.1, 0.2, 0.3, 7)
    assert Shape.read(shape.written()) == shape


def test_a_trace_that_never_sends_is_refused() -> None:
    with pytest.raises(ValueError, match="one of them above 0"):
        Trace((1.0,), (0.0,))
