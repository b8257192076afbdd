"""Requests of unlike length: padded together where that changes no answer, else only their equals beside them."""

from __future__ import annotations

import http.client
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from amble.core.errors import Refused
from amble.inputs import open_for_serving
from amble.services.serve.explaining import explain
from amble.services.serve.models.lengths import Lengths, QueueByLength, lengths_of, tried
from amble.services.serve.models.loading import ModelLoader
from amble.services.serve.models.model import Found, Model
from amble.services.serve.models.options import Options
from amble.services.serve.serving import Serve, named
from amble.stages.control.batcher import Request
from tests.services.serve.test_serving import at_once, serving
from tests.services.serve.texts import encoder, saved, tokens

AXES = {"input_ids": ("n", "seq"), "attention_mask": ("n", "seq")}
BOTH = {"input_ids": (1,), "attention_mask": (1,)}
PADDED = Lengths("", BOTH, {"tokens": (1,)}, (8, 16))


def model(path: Path, words: str = "seq=24") -> Model:
    device, runner, by_size = open_for_serving("host")
    name, file, said = named(f"{path}?{words}")
    loader = ModelLoader(device, runner, Options(max_batch=4), None, by_size, said={name: said})
    found = Found(name, "1", file)
    return Model(found, loader.load(found, at_once))


def queue(lengths: Lengths, *inputs: Any) -> QueueByLength:
    made = QueueByLength(64, lengths)
    for index, each in enumerate(inputs):
        rows = len(each["input_ids"])
        made._keys.append((1, float(index), index))
        made._requests.append(Request(0.0, float(index), rows=rows, inputs=each, ticket=index))
        made._rows += rows
    return made


def test_where_padding_changes_nothing_it_is_done_and_told(tmp_path: Path) -> None:
    found = model(saved(tmp_path / "enc.onnx", encoder()))
    assert found.loaded.lengths is not None
    assert found.loaded.lengths.buckets == (16, 24)
    assert found.loaded.lengths.outputs == {"tokens": (1,), "pooled": ()}
    for told in (found.batching, found.config()["parameters"]["lengths"]["string_value"]):
        assert "requests of unlike length (seq) are padded to share a batch, up to 16,24" in told
        assert "not proved" in told


@pytest.mark.parametrize(
    ("network", "words", "why"),
    [
        (encoder(masked=False), "seq=24", "output 'pooled' differs"),
        (encoder(mask="weights"), "seq=24", "it has no mask"),
        (encoder(lengths=("seq", "keys")), "seq=24&keys=24", "'keys', 'seq') are not one length"),
        (encoder(), "seq=24&buckets=none", "buckets are none"),
        (encoder(), "seq=1", "too short"),
    ],
)
def test_where_it_is_not_proved_only_equals_share_a_batch_and_why_is_told(
    tmp_path: Path, network: Any, words: str, why: str
) -> None:
    path = saved(tmp_path / "enc.onnx", network)
    (told,) = explain(Serve((f"{path}?{words}",)))
    assert told.batched
    assert "requests of equal shape share a batch, others do not" in told.lengths
    assert why in told.lengths


def test_a_mask_that_only_now_and_then_fails_is_found() -> None:
    """Zeros at the end that count from a length of three quarters on."""

    def run(inputs: Any) -> Any:
        ids, mask = inputs["input_ids"], inputs["attention_mask"]
        share = mask.sum(axis=1, keepdims=True) / ids.shape[1]
        return {"y": np.where(share < 0.75, 1.0, 0.0) + (ids * mask).sum(axis=1, keepdims=True)}

    def draw(seed: int) -> Any:
        return tokens(32, seed)

    found = tried(AXES, None, [run], draw, 32)
    assert found is not None
    assert not found.buckets
    assert "padding was tried" in found.reason


def test_sizes_that_follow_the_length_in_another_way_are_not_padded() -> None:
    found = tried(AXES, None, [lambda inputs: {"y": inputs["input_ids"][:, 1:]}], lambda seed: tokens(32, seed), 32)
    assert found is not None
    assert "follows the length in another way" in found.reason


def test_buckets_beyond_what_is_tried_are_refused() -> None:
    with pytest.raises(Refused, match="buckets=64"):
        tried(AXES, (64,), [], lambda seed: tokens(32, seed), 32)


def test_what_is_taken_goes_with_the_first_and_is_padded_to_the_longest() -> None:
    waiting = queue(PADDED, tokens(3), tokens(12), tokens(7, 1), tokens(8, 2, rows=2), tokens(40), tokens(2))
    taken = waiting.take(4)
    assert [each.ticket for each in taken] == [0, 2, 3], "up to 8, and no more rows than asked for"
    assert [each.inputs["input_ids"].shape for each in taken if each.inputs] == [(1, 8), (1, 8), (2, 8)]
    assert taken[0].inputs is not None
    assert taken[0].inputs["attention_mask"].tolist() == [[1, 1, 1, 0, 0, 0, 0, 0]]
    assert (len(waiting), waiting.rows) == (3, 3)
    assert [each.ticket for each in waiting.take(4)] == [1]
    (alone,) = waiting.take(4)
    assert alone.ticket == 4
    assert alone.inputs is not None
    assert alone.inputs["input_ids"].shape == (1, 40), "longer than was tried: as it is"


def test_without_padding_only_equal_shapes_are_taken_together() -> None:
    waiting = queue(Lengths("equal"), tokens(3), tokens(4), tokens(3, 1), tokens(4, 1))
    assert [each.ticket for each in waiting.take(4)] == [0, 2]
    assert [each.ticket for each in waiting.take(4)] == [1, 3]


def test_a_request_whose_lengths_differ_is_nobodys_company() -> None:
    odd = {**tokens(5), "attention_mask": np.ones((1, 7), np.int64)}
    assert PADDED.of(odd) is None
    assert [each.ticket for each in queue(PADDED, odd, tokens(5), tokens(7)).take(4)] == [0]


def test_which_axes_are_one_length_is_read_from_the_names() -> None:
    assert lengths_of(AXES) == (BOTH, "")
    assert lengths_of({"x": ("n", "", 3), "mask": ("n", "")})[0] == {}
    assert lengths_of({"x": ("n", "t"), "y": ("n", "t")}) == ({}, "it has no mask")


def test_over_a_real_server_every_answer_is_the_runtimes_own_and_unlike_lengths_share_batches(tmp_path: Path) -> None:
    path = saved(tmp_path / "enc.onnx", encoder())
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    shared, wrong = list[int](), list[Any]()

    def ask(seed: int) -> None:
        connection = http.client.HTTPConnection(at.http.removeprefix("http://"), timeout=60)
        for index in range(40):
            given = tokens(1 + (seed * 13 + index * 7) % 40, seed * 100 + index)
            inputs = [
                {"name": name, "datatype": "INT64", "shape": list(value.shape), "data": value.ravel().tolist()}
                for name, value in given.items()
            ]
            connection.request("POST", "/v2/models/enc/infer", json.dumps({"inputs": inputs}))
            body = json.loads(connection.getresponse().read())
            shared.append(body["parameters"]["batch"])
            for want, got in zip(session.run(None, given), body["outputs"], strict=True):
                value = np.array(got["data"], np.float32).reshape(got["shape"])
                if value.shape != want.shape or not np.allclose(value, want, rtol=1e-4, atol=1e-5):
                    wrong.append((given, value, want))
        connection.close()

    with serving(f"{path}?seq=32") as at, ThreadPoolExecutor(12) as pool:
        list(pool.map(ask, range(12)))
    assert not wrong
    assert max(shared) > 1, "nothing was ever batched"
