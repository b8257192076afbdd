"""What a server answers is read as it is, or not at all; how far it is from what was expected is told."""

import numpy as np
import pytest

from amble.levers.split.far import Example, Half, Known, deviation, outputs_of, prove, server_s, taken
from amble.levers.split.pairs import HalfFile, Pair
from amble.levers.split.wire import Heard, Wire
from amble.runtimes.remote.client import Body, Input, Reply

Y = np.arange(6, dtype=np.float32).reshape(2, 3)


def test_outputs_come_as_bytes_one_after_the_other_or_as_numbers() -> None:
    raw, other = Y.tobytes(), np.array([7], np.uint8).tobytes()
    answer = {
        "outputs": [
            {"name": "y", "datatype": "FP32", "shape": [2, 3], "parameters": {"binary_data_size": len(raw)}},
            {"name": "z", "datatype": "UINT8", "shape": [1], "parameters": {"binary_data_size": 1}},
            {"name": "w", "datatype": "FP32", "shape": [2], "data": [0.5, 1.5]},
        ]
    }
    found = outputs_of(Reply(200, answer, raw + other))
    assert found is not None
    np.testing.assert_array_equal(found["y"], Y)
    assert found["z"].tolist() == [7]
    assert found["w"].tolist() == [0.5, 1.5]


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"outputs": [{"name": "y"}]},
        {"outputs": [{"name": "y", "datatype": "FP32", "shape": [2], "data": [1.0]}]},
        {"outputs": [{"name": "y", "datatype": "FP32", "shape": [2], "parameters": {"binary_data_size": 8}}]},
        {"outputs": [{"name": "y", "datatype": "FP33", "shape": [1], "data": [1.0]}]},
        {"outputs": "nothing"},
    ],
)
def test_what_cannot_be_read_is_no_answer(answer: dict[str, object]) -> None:
    assert outputs_of(Reply(200, answer, b"1234")) is None


def test_a_missing_a_misshapen_and_an_unequal_answer_are_infinitely_far() -> None:
    assert deviation({"y": Y}, {"y": Y, "more": Y}) == 0.0
    assert deviation({"y": Y}, {"y": Y + np.float32(0.05)}) == pytest.approx(0.01, rel=1e-4)
    assert deviation({"y": Y}, {}) == np.inf
    assert deviation({"y": Y}, {"y": Y.ravel()}) == np.inf
    assert deviation({"y": Y}, {"y": Y * np.float32(np.nan)}) == np.inf


def test_a_server_s_own_time_is_without_the_wait_in_which_the_link_is() -> None:
    assert server_s(Reply(200, {"parameters": {"queue_s": 3.0, "service_s": 0.25}})) == 0.25
    assert server_s(Reply(200, {"parameters": {}})) is None
    assert server_s(Reply(200, {})) is None


@pytest.mark.parametrize("told", [float("nan"), float("inf"), -1.0, 10**400, 1e9, True, "1"])
def test_a_time_that_no_server_takes_is_not_believed(told: object) -> None:
    assert server_s(Reply(200, {"parameters": {"service_s": told}})) is None


def answer(name: str = "y", kind: str = "FP32", shape: tuple[int, ...] = (2, 3), **more: object) -> Reply:
    output = {"name": name, "datatype": kind, "shape": list(shape), "parameters": {"binary_data_size": Y.nbytes}}
    return Reply(200, {"outputs": [output], **more}, Y.tobytes())


def test_only_the_outputs_of_the_half_in_their_type_and_shape_are_an_answer() -> None:
    found = taken(answer(), {"y": Y})
    assert found is not None
    np.testing.assert_array_equal(found["y"], Y)
    wrong = [answer("z"), answer(shape=(6,)), answer(kind="INT32"), Reply(200, {"outputs": []})]
    assert [taken(each, {"y": Y}) for each in wrong] == [None] * 4
    assert taken(answer(), {}) == {}, "what was not asked for replaces nothing"


def test_an_answer_to_another_request_is_none_to_this_one() -> None:
    assert taken(answer(id="7"), {"y": Y}, "7") is not None
    assert taken(answer(id="6"), {"y": Y}, "7") is None
    assert taken(answer(), {"y": Y}, "7") is None


def test_sizes_that_no_array_has_are_no_answer() -> None:
    empty = {"name": "y", "datatype": "FP32", "shape": [0, 2**70], "parameters": {"binary_data_size": 0}}
    assert outputs_of(Reply(200, {"outputs": [empty]})) is None


class Answering(Wire):
    """A server that answers what it was told to, by the end of the path."""

    def __init__(self, **replies: Reply) -> None:
        self.replies, self.asked = replies, list[str]()

    def ask(self, method: str, path: str, body: Body | None, until_s: float) -> Heard:
        end = path.rpartition("/")[2]
        self.asked.append(end)
        return Heard(self.replies.get(end, Reply(404, {})), 0.0, 0.0, 0.0)


def configured(sha256: str) -> Reply:
    return Reply(200, {"parameters": {"sha256": {"string_value": sha256}}} if sha256 else {})


@pytest.mark.parametrize(
    ("told", "asked", "verdict"),
    [("ours", False, "proved"), ("", True, "proved"), ("other", False, "refuted")],
)
def test_a_half_in_use_is_believed_for_its_hash_and_else_for_an_example(told: str, asked: bool, verdict: str) -> None:
    pair = Pair("half", 1, "fp32", 1, "a", ("x",), (), 4, 24, 0.001, 0.0, True, (), server=HalfFile("", "", "ours"))
    wire = Answering(config=configured(told), infer=answer(), ready=Reply(200, {}))
    known = Known(Half("/v2/models/half", (Input("x", "FP32", (1,)),), binary=True, told=True), in_use=True)
    example = Example({"x": np.zeros(1, np.float32)}, {"y": Y})
    assert prove(wire, "", pair, example, within_s=1.0, known=known).verdict == verdict
    assert ("infer" in wire.asked) == asked
