"""Groups, layers and what they count at other widths."""

import pytest

from amble.levers.widths.network import Group, Layer, Network

STEM = Layer("stem", "conv", (), "a", 3, 4, kernel=(3, 3), padding=(1, 1), size=(8, 8))
DEPTH = Layer(
    "depth", "depthwise", ("a",), "a", 4, 4, kernel=(3, 3), padding=(1, 1), stride=(2, 2), groups=4, size=(8, 8)
)
HEAD = Layer("head", "gemm", ("a",), None, 64, 10, spread=16)
NETWORK = Network("small", (STEM, DEPTH, HEAD), (Group("a", (0.1, 0.2, 0.5, 1.0)),))


def test_a_layers_output_size_follows_padding_stride_and_dilation() -> None:
    assert STEM.output_size == (8, 8)
    assert DEPTH.output_size == (4, 4)
    wide = Layer("d", "conv", (), None, 1, 1, kernel=(3, 3), dilation=(2, 2), size=(9, 7))
    assert wide.output_size == (5, 3)


def test_todays_network_counts_its_own_operations_and_weights() -> None:
    assert NETWORK.params() == 3 * 9 * 4 + 9 * 4 + 64 * 10
    assert NETWORK.flops() == 2 * (3 * 9 * 4 * 64 + 9 * 4 * 16 + 640)


def test_a_coupled_group_narrows_every_layer_that_touches_it() -> None:
    half = {"a": 2}
    assert NETWORK.num_outputs(STEM, half) == 2
    assert NETWORK.num_inputs(DEPTH, half) == NETWORK.num_groups(DEPTH, half) == 2
    assert NETWORK.num_inputs(HEAD, half) == 32
    assert NETWORK.params(half) == 3 * 9 * 2 + 9 * 2 + 32 * 10


def test_the_least_important_channels_go_first() -> None:
    assert NETWORK.lost({"a": 2}) == pytest.approx(0.3)
    assert NETWORK.lost({}) == 0.0
    assert NETWORK.by_name["a"].lost() == pytest.approx((1.8, 0.8, 0.3, 0.1, 0.0))


def test_a_concatenation_reads_several_groups() -> None:
    reads = Layer("mix", "conv", ("a", "b"), None, 6, 5)
    network = Network("concat", (reads,), (Group("a", (1.0,) * 4), Group("b", (1.0,) * 2)))
    assert network.num_inputs(reads, {"a": 3, "b": 1}) == 4
    assert network.readers("b") == (reads,)
    assert network.writers("b") == ()


def test_allowed_widths_are_multiples_not_below_the_least() -> None:
    assert Group("g", (1.0,) * 12, multiple=4, least=5).allowed == (8, 12)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: Group("g", (2.0, 1.0)),
        lambda: Group("g", (1.0,) * 6, multiple=4),
        lambda: Group("g", ()),
        lambda: Network("n", (HEAD,), ()),
        lambda: Network("n", (), (Group("g", (1.0,)), Group("g", (1.0,)))),
    ],
)
def test_contradictions_are_refused(wrong) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match=r"\w"):
        wrong()
