"""The stopwatch counts an injector's own time and nothing else; curves compare means with what chance allows."""

from __future__ import annotations

import time

import pytest

torch = pytest.importorskip("torch")

from amble.core.dram import Uniform  # noqa: E402
from bench.injection import network as common  # noqa: E402
from bench.injection import study as injection  # noqa: E402


def busy(seconds: float) -> None:
    start = time.thread_time()
    while time.thread_time() - start < seconds:
        pass


class Slow(torch.nn.Module):  # type: ignore[misc, name-defined]
    def forward(self, given):  # type: ignore[no-untyped-def]
        busy(0.02)
        return given


def test_own_time_is_that_between_the_hooks_and_not_the_layer_s() -> None:
    layer, watch = Slow(), common.Stopwatch()
    watch.before([layer])
    layer.register_forward_pre_hook(lambda *_: busy(0.003))
    layer.register_forward_hook(lambda *_: busy(0.002))
    watch.behind([layer])
    own_s = common.own_s(watch, lambda: layer(torch.zeros(1)), 3)
    assert 0.005 <= own_s < 0.009


def test_the_overhead_is_what_the_second_call_takes_more() -> None:
    plain_s, extra_s = common.overhead(lambda: busy(0.004), lambda: busy(0.007), 3)
    assert plain_s == pytest.approx(0.004, rel=0.3)
    assert extra_s == pytest.approx(0.003, rel=0.4)


def test_equal_accuracies_differ_by_less_than_their_interval() -> None:
    same = injection.curve(1e-6, [0.9, 0.92, 0.88], [0.9, 0.91, 0.89])
    other = injection.curve(1e-6, [0.9, 0.92, 0.88], [0.5, 0.51, 0.49])
    assert same["difference"] <= same["interval"]
    assert other["difference"] > other["interval"]


def test_every_layer_s_weights_and_input_are_read() -> None:
    network, (images, _) = injection.faulty(Uniform(1.0, 1e-4)), common.images(2)
    with network.reading(0) as module:
        module(images)
    layers = sum(isinstance(each, torch.nn.Conv2d | torch.nn.Linear) for each in network.module.modules())
    assert len(network._weights) == len(network._inputs) == layers
    assert network.num_flips > 4_000


def test_the_exact_selector_is_compared_beside_the_usual_one() -> None:
    ours = injection.Cost("torch", "uniform, transient", 8, 0.1, 0.001, 0.001)
    theirs = [
        injection.Cost("MRFI", model, 8, 0.1, own_s, own_s) for model, own_s in (("sparse", 4e-3), ("classic", 0.02))
    ]
    exact, usual = injection.beside(ours, theirs)
    assert (exact.value, usual.value) == (pytest.approx(20.0), pytest.approx(4.0))
    assert [each.met for each in injection.beside(ours, [])] == [None, None]
