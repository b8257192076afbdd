"""Models in folders and by name: which versions are served, what is loaded anew, and what an error leaves behind."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from amble.core.errors import Refused
from amble.services.serve.models.configuration import Config, parse_config
from amble.services.serve.models.repository import find
from tests.services.serve.house import Doubler, house


def put(folder: Path, name: str, *versions: str, config: Any = None) -> Path:
    for version in versions:
        (folder / name / version).mkdir(parents=True)
        (folder / name / version / "model.onnx").touch()
    if config is not None:
        (folder / name / "config.json").write_text(config if isinstance(config, str) else json.dumps(config))
    return folder / name


@pytest.mark.parametrize(
    ("policy", "served"),
    [
        (None, ["10"]),
        ({"latest": {"num_versions": 2}}, ["10", "9"]),
        ({"all": {}}, ["10", "9", "1"]),
        ({"specific": {"versions": [1, "9"]}}, ["9", "1"]),
    ],
)
def test_the_configuration_says_which_versions_are_served_and_the_highest_is_the_default(
    tmp_path: Path, policy: Any, served: list[str]
) -> None:
    folder = put(tmp_path, "plain", "1", "9", "10", "notes", config={"version_policy": policy} if policy else None)
    assert [each.version for each in find(folder)] == served


@pytest.mark.parametrize(
    ("config", "names"),
    [
        ("{", "JSON"),
        ({"name": "other"}, "'other'"),
        ({"max_batch_size": -1}, "max_batch_size"),
        ({"max_batch_size": "many"}, "max_batch_size"),
        ({"dynamic_batching": {"default_queue_policy": {"max_queue_size": -5}}}, "default_queue_policy"),
        ({"version_policy": {"specific": {"versions": [7]}}}, "no version"),
    ],
)
def test_a_configuration_that_cannot_be_kept_is_refused(tmp_path: Path, config: Any, names: str) -> None:
    with pytest.raises((Refused, ValueError), match=names):
        find(put(tmp_path, "plain", "1", config=config))


def test_a_text_configuration_without_its_reader_says_what_is_missing(tmp_path: Path) -> None:
    folder = put(tmp_path, "plain", "1")
    (folder / "config.pbtxt").touch()
    with pytest.raises(Refused, match="tritonclient"):
        find(folder)


@pytest.mark.parametrize(
    ("wish", "names"),
    [
        ({"model_warmup": [{"name": "w"}]}, "model_warmup"),
        ({"instance_group": [{"count": 2}]}, "instance_group"),
        ({"instance_group": [{"kind": "KIND_GPU"}]}, "KIND_GPU"),
        ({"dynamic_batching": {"max_queue_delay_microseconds": 100}}, "dynamic_batching.max_queue_delay_microseconds"),
        ({"dynamic_batching": {"default_queue_policy": {"timeout_action": "DELAY"}}}, "default_queue_policy"),
        ({"sequence_batching": {"max_sequence_idle_microseconds": 1}}, "sequence_batching"),
        ({"backend": "tensorrt"}, "backend"),
        ({"input": [{"name": "x", "reshape": {"shape": [1]}}]}, "input.reshape"),
    ],
)
def test_what_a_configuration_wishes_and_is_not_done_is_refused_by_name(wish: Any, names: str) -> None:
    with pytest.raises(ValueError, match=names):
        parse_config({"name": "m", **wish})


def test_empty_wishes_and_what_the_server_says_itself_are_taken() -> None:
    empty = {
        "optimization": {"graph": {"level": 0}},
        "model_warmup": [],
        "instance_group": [{"count": 1, "kind": "KIND_CPU"}],
    }
    assert parse_config({"name": "m", **empty, "parameters": {"batching": {"string_value": "b"}}}) == Config("m")
    with house("plain") as found:
        told = json.dumps(found.call("GET", "/v2/models/plain/config")[1])
        assert found.call("POST", "/v2/repository/models/plain/load", {"parameters": {"config": told}})[0] == 200


@pytest.mark.parametrize(
    ("claim", "names"),
    [
        ({"name": "z"}, "'z' is not in the network"),
        ({"name": "x", "data_type": "TYPE_INT8"}, "TYPE_FP32, not TYPE_INT8"),
        ({"name": "x", "dims": [3]}, "dims"),
    ],
)
def test_tensors_that_a_configuration_claims_and_the_network_has_not_are_refused(claim: Any, names: str) -> None:
    with house("plain") as found:
        loading = {"parameters": {"config": json.dumps({"input": [claim]})}}
        status, message, _ = found.call("POST", "/v2/repository/models/plain/load", loading)
        assert status == 400
        assert names in message["error"]
        assert found.infer([1.0, 1.0])[0] == 200


@pytest.mark.parametrize("name", ["file:1/model.onnx", "warmup"])
def test_a_load_with_more_than_a_configuration_is_refused(name: str) -> None:
    with house("plain") as found:
        loading = {"parameters": {"config": "{}", name: "bm90IGEgbW9kZWw="}}
        status, message, _ = found.call("POST", "/v2/repository/models/plain/load", loading)
        assert status == 400
        assert name in message["error"]


@pytest.mark.parametrize("name", ["config.json", "config.pbtxt"])
def test_a_configuration_that_is_a_link_out_of_the_repository_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "secret").write_text("{}")
    folder = put(tmp_path / "repository", "plain", "1")
    (folder / name).symlink_to(tmp_path / "secret")
    with pytest.raises(Refused, match="out of the repository"):
        find(folder, read_text=lambda text: {})


def test_what_waits_for_a_model_whose_configuration_changes_is_answered(tmp_path: Path) -> None:
    put(tmp_path, "unmeasured", "1")
    doubler = Doubler()
    with house(folder=tmp_path, doubler=doubler) as found, ThreadPoolExecutor(2) as pool:
        doubler.gate.clear()
        running = pool.submit(found.infer, [0.0, 0.0], model="unmeasured")
        assert doubler.begun.wait(20.0)
        waiting = pool.submit(found.infer, [1.0, 2.0], model="unmeasured")
        found.wait_for_pending(2)
        config = json.dumps({"dynamic_batching": {"default_queue_policy": {"max_queue_size": 3}}})
        loading = {"parameters": {"config": config}}
        assert found.call("POST", "/v2/repository/models/unmeasured/load", loading)[0] == 200
        doubler.gate.set()
        assert running.result()[0] == 200
        assert waiting.result()[1]["outputs"][0]["data"] == [2.0, 4.0]


def test_a_configuration_gives_the_default_deadline(tmp_path: Path) -> None:
    policy = {"default_timeout_microseconds": "10000", "max_queue_size": 3}
    put(tmp_path, "slow", "1", config={"dynamic_batching": {"default_queue_policy": policy}})
    with house(folder=tmp_path) as found:
        status, message, _ = found.infer([1.0, 1.0], model="slow")
        assert status == 503
        assert "in time" in message["error"]
        queue = found.call("GET", "/v2/models/slow/config")[1]["dynamic_batching"]["default_queue_policy"]
        assert queue == {"max_queue_size": 3, "default_timeout_microseconds": 10000}


def test_several_versions_are_served_side_by_side(tmp_path: Path) -> None:
    put(tmp_path, "plain", "1", "2", config={"version_policy": {"all": {}}})
    body = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [1, 1]}]}
    with house(folder=tmp_path) as found:
        assert found.call("GET", "/v2/models/plain")[1]["versions"] == ["2", "1"]
        assert found.call("POST", "/v2/models/plain/infer", body)[1]["model_version"] == "2"
        assert found.call("POST", "/v2/models/plain/versions/1/infer", body)[1]["model_version"] == "1"


def test_a_model_comes_and_goes_while_another_is_served(tmp_path: Path) -> None:
    with house("plain", folder=tmp_path) as found:
        put(tmp_path, "later", "1")
        assert found.infer([1.0, 1.0], model="later")[0] == 404
        assert found.call("POST", "/v2/repository/models/later/load", {})[0] == 200
        assert found.infer([1.0, 1.0], model="later")[0] == 200
        assert found.call("POST", "/v2/repository/models/later/unload", {})[0] == 200
        assert found.infer([1.0, 1.0], model="later")[0] == 404
        assert found.infer([1.0, 1.0])[0] == 200
        assert found.call("POST", "/v2/repository/models/later/unload", {})[0] == 404


def test_a_model_that_cannot_be_loaded_is_listed_with_the_reason(tmp_path: Path) -> None:
    put(tmp_path, "broken", "1")
    put(tmp_path, "empty")
    (tmp_path / "empty").mkdir()
    with house("plain", folder=tmp_path) as found:
        listed = {each["name"]: each for each in found.call("POST", "/v2/repository/index")[1]}
        assert listed["plain"]["state"] == "READY"
        assert listed["broken"]["state"] == "UNAVAILABLE"
        assert "is no network" in listed["broken"]["reason"]
        assert "no version" in listed["empty"]["reason"]
        ready = found.call("POST", "/v2/repository/index", {"ready": True})[1]
        assert [each["name"] for each in ready] == ["plain"]
        status, message, _ = found.call("POST", "/v2/repository/models/broken/load", {})
        assert status == 400
        assert "is no network" in message["error"]


def test_loading_what_is_loaded_changes_nothing_and_another_configuration_does(tmp_path: Path) -> None:
    put(tmp_path, "plain", "1")
    with house(folder=tmp_path) as found:
        found.infer([1.0, 1.0])
        found.call("POST", "/v2/repository/models/plain/load", {})
        config = json.dumps({"name": "plain", "max_batch_size": 2})
        loading = {"parameters": {"config": config}}
        assert found.call("POST", "/v2/repository/models/plain/load", loading)[0] == 200
        assert found.call("GET", "/v2/models/plain/config")[1]["max_batch_size"] == 2
        assert found.infer([1.0] * 6)[0] == 400


def test_what_waits_for_a_model_that_is_unloaded_is_answered_first(tmp_path: Path) -> None:
    doubler = Doubler()
    with house("plain", "many", doubler=doubler) as found, ThreadPoolExecutor(3) as pool:
        doubler.gate.clear()
        running = pool.submit(found.infer, [0.0, 0.0])
        assert doubler.begun.wait(20.0)
        waiting = pool.submit(found.infer, [0.0, 0.0])
        found.wait_for_pending(2)
        unloading = pool.submit(found.call, "POST", "/v2/repository/models/plain/unload", {})
        while found.call("GET", "/v2/models/plain")[0] != 404:  # a request might come before, and wait as well
            assert not unloading.done()
        assert found.infer([0.0, 0.0])[0] == 404
        doubler.gate.set()
        assert running.result()[0] == waiting.result()[0] == 200
        assert unloading.result()[0] == 200
