"""What a run and the profiler cost, by networks of nothing."""

from amble.runtimes.onnx.overhead import overhead


def test_a_run_costs_microseconds_and_so_does_writing_a_kernel_down() -> None:
    found = overhead()
    assert 5e-7 < found.run_s < 1e-3
    assert 1e-7 < found.profiler_s < 1e-4


def test_it_is_measured_once() -> None:
    assert overhead() is overhead()
