"""Twenty networks at once over a real server, half of them not batchable: every answer is ONNX Runtime's own."""

from __future__ import annotations

import http.client
import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper

from tests.services.serve.networks import APART, MIXING, chain, network
from tests.services.serve.test_serving import serving

pytest.importorskip("uvicorn")

CLIENTS, REQUESTS = 12, 60


def networks() -> dict[str, onnx.ModelProto]:
    """Ten that keep rows apart, ten that do not."""
    apart = list(APART)
    made = {f"apart{index}": chain([APART[apart[index]], APART[apart[-index - 1]]]) for index in range(10)}
    made |= {f"mix_{name}": chain([step]) for name, step in list(MIXING.items())[:8]}
    made["compressed"] = network(
        [
            helper.make_node("ReduceMax", ["x", "one"], ["m"], keepdims=0),
            helper.make_node("Greater", ["m", "zero"], ["c"]),
            helper.make_node("Compress", ["x", "c"], ["y"], axis=0),
        ],
        {"one": np.array([1]), "zero": np.float32(0.7)},
        {"x": ["N", 4]},
        {"y": ["K", 4]},
    )
    made["whole"] = network([helper.make_node("ReduceMax", ["x"], ["y"])], {}, {"x": ["N", 4]}, {"y": [1, 1]})
    return made


class Asker:
    """Asks for answers over one connection at a time and compares them with the runtime's own."""

    def __init__(self, address: str, models: dict[str, onnx.ModelProto]) -> None:
        self.address = address.removeprefix("http://")
        self.names = sorted(models)
        chosen = onnxruntime.SessionOptions()
        chosen.intra_op_num_threads = 1
        self.sessions = {
            name: onnxruntime.InferenceSession(each.SerializeToString(), chosen, providers=["CPUExecutionProvider"])
            for name, each in models.items()
        }

    def many(self, seed: int) -> tuple[list[str], int]:
        """Ask many times → what was wrong, and in how many answers others shared the batch."""
        rng, wrong, shared = np.random.default_rng(seed), [], 0
        connection = http.client.HTTPConnection(self.address, timeout=60)
        try:
            for index in range(REQUESTS):
                name = self.names[(seed * 7 + index) % len(self.names)]
                x = rng.normal(size=(int(rng.integers(1, 3)), 4)).astype(np.float32)
                found, batch = self._ask(connection, name, x)
                want = self.sessions[name].run(None, {"x": x})[0]
                shared += batch > len(x)
                if found.shape != want.shape or not np.allclose(found, want, rtol=1e-4, atol=1e-5):
                    wrong.append(f"{name}: {x.tolist()} gave {found.tolist()}, not {want.tolist()}")
        finally:
            connection.close()
        return wrong, shared

    def _ask(self, connection: http.client.HTTPConnection, name: str, x: Any) -> tuple[Any, int]:
        tensor = {"name": "x", "datatype": "FP32", "shape": list(x.shape), "data": x.ravel().tolist()}
        connection.request("POST", f"/v2/models/{name}/infer", json.dumps({"inputs": [tensor]}))
        answer = connection.getresponse()
        body = json.loads(answer.read())
        assert answer.status == 200, body
        (output,) = body["outputs"]
        return np.array(output["data"], np.float32).reshape(output["shape"]), body["parameters"]["batch"]


def test_no_answer_is_changed_by_the_company_it_keeps(tmp_path: Path) -> None:
    models = networks()
    assert len(models) == 20
    paths = [tmp_path / f"{name}.onnx" for name in models]
    for path, model in zip(paths, models.values(), strict=True):
        onnx.save(model, path)
    with serving(*map(str, paths)) as at, ThreadPoolExecutor(CLIENTS) as pool:
        asker = Asker(at.http, models)
        told: Sequence[tuple[list[str], int]] = list(pool.map(asker.many, range(CLIENTS)))
    assert [each for wrong, _ in told for each in wrong] == []
    assert sum(shared for _, shared in told) > 0, "nothing was ever batched"


def test_inputs_that_the_network_cannot_be_run_on_are_their_senders_fault(tmp_path: Path) -> None:
    ids = helper.make_tensor_value_info("ids", onnx.TensorProto.INT64, ["N", 1])
    row = helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["N", 1, 4])
    table = onnx.numpy_helper.from_array(np.ones((3, 4), np.float32), "table")
    graph = helper.make_graph([helper.make_node("Gather", ["table", "ids"], ["y"])], "g", [ids], [row], [table])
    path = tmp_path / "table.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)
    with serving(str(path)) as at:
        for number, status in ((2, 200), (1000, 400), (0, 200)):
            tensor = {"name": "ids", "datatype": "INT64", "shape": [1, 1], "data": [number]}
            connection = http.client.HTTPConnection(at.http.removeprefix("http://"), timeout=30)
            connection.request("POST", "/v2/models/table/infer", json.dumps({"inputs": [tensor]}))
            answer = connection.getresponse()
            body = json.loads(answer.read())
            connection.close()
            assert answer.status == status, body
            assert (status == 200) == ("outputs" in body)
