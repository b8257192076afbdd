"""The protocol over gRPC, spoken by tritonclient and by bare stubs."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from amble.core.errors import Refused
from amble.services.serve.front import Doors
from tests.services.serve.house import Doubler, House, house

grpc = pytest.importorskip("grpc")
triton = pytest.importorskip("tritonclient.grpc")
service_pb2 = triton.service_pb2
InferenceServerException = pytest.importorskip("tritonclient.utils").InferenceServerException
DOORS = Doors(http_port=0, grpc_port=0, metrics_port=0, control=True)


@pytest.fixture(scope="module")
def open_house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    folder = tmp_path_factory.mktemp("repository")
    for name in ("plain", "extra"):
        (folder / name / "1").mkdir(parents=True)
        (folder / name / "1" / "model.onnx").touch()
    with house("many", "slow", doors=DOORS, folder=folder) as found:
        yield found


@pytest.fixture
def client(open_house: House) -> Iterator[Any]:
    with triton.InferenceServerClient(open_house.addresses.grpc) as found:
        yield found


@pytest.fixture
def stub(open_house: House) -> Iterator[Any]:
    with grpc.insecure_channel(open_house.addresses.grpc) as channel:
        yield triton.service_pb2_grpc.GRPCInferenceServiceStub(channel)


def request(model: str = "plain", **changes: Any) -> Any:
    tensor = {"name": "x", "datatype": "FP32", "shape": [1, 2]} | changes.pop("tensor", {})
    made = service_pb2.ModelInferRequest(model_name=model, inputs=[tensor], **changes)
    if not made.raw_input_contents and not made.inputs[0].HasField("contents"):
        made.raw_input_contents.append(np.array([1, 2], np.float32).tobytes())
    return made


def asked(value: np.ndarray[Any, Any], kind: str = "FP32", name: str = "x") -> Any:
    found = triton.InferInput(name, list(value.shape), kind)
    found.set_data_from_numpy(value)
    return found


def test_everything_that_a_client_asks_before_it_begins(client: Any) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("plain")
    assert not client.is_model_ready("none")
    assert "statistics" in client.get_server_metadata().extensions
    assert client.get_model_metadata("plain", as_json=True)["inputs"][0]["shape"] == ["-1", "2"]
    assert client.get_model_config("plain").config.max_batch_size == 4


def test_an_answer_carries_its_cost_as_numbers_that_every_client_can_read(client: Any) -> None:
    found = client.infer(
        "plain", [asked(np.array([[1, 2]], np.float32))], request_id="a-2", priority=1, timeout=1_000_000
    )
    assert found.as_numpy("x_out").tolist() == [[2.0, 4.0]]
    response = found.get_response()
    assert response.id == "a-2"
    cost = response.parameters
    assert cost["energy_j"].double_param > 0
    assert cost["energy_uj"].int64_param == round(cost["energy_j"].double_param * 1e6)
    assert cost["precision"].string_param == "fp32"
    assert cost["late"].bool_param is False


def test_texts_and_typed_contents_are_understood(client: Any, stub: Any) -> None:
    sent = [
        asked(np.array([[0.5, 1]], np.float32), "FP32", "f"),
        asked(np.array([[1, 2**61]], np.int64), "INT64", "i"),
        asked(np.array([[True, False]]), "BOOL", "b"),
        asked(np.array([["a", "ü"]], object), "BYTES", "s"),
    ]
    assert client.infer("many", sent).as_numpy("s_out").tolist() == [[b"a", "ü".encode()]]
    typed = request(tensor={"contents": {"fp32_contents": [3.0, 4.0]}})
    assert np.frombuffer(stub.ModelInfer(typed).raw_output_contents[0], np.float32).tolist() == [6.0, 8.0]


def test_statistics_advance(client: Any) -> None:
    before = client.get_inference_statistics("plain").model_stats[0]
    client.infer("plain", [asked(np.array([[1, 2]] * 3, np.float32))])
    after = client.get_inference_statistics("plain").model_stats[0]
    assert after.inference_count - before.inference_count == 3
    assert after.inference_stats.queue.count - before.inference_stats.queue.count == 1
    assert {each.name for each in client.get_inference_statistics().model_stats} == {"many", "slow", "plain", "extra"}


def test_models_are_unloaded_and_loaded_with_another_configuration(client: Any) -> None:
    client.unload_model("extra")
    assert not client.is_model_ready("extra")
    assert {"name": "extra", "state": "UNAVAILABLE", "reason": "unloaded"} in client.get_model_repository_index(
        as_json=True
    )["models"]
    client.load_model("extra", config=json.dumps({"max_batch_size": 2}))
    assert client.get_model_config("extra").config.max_batch_size == 2


CLASSES = ("INVALID_ARGUMENT", "classification is a number")


@pytest.mark.parametrize(
    ("made", "code", "names"),
    [
        (request("none"), "NOT_FOUND", "'none'"),
        (request(model_version="7"), "NOT_FOUND", "'7'"),
        (service_pb2.ModelInferRequest(model_name="plain"), "INVALID_ARGUMENT", "inputs"),
        (request(tensor={"shape": [1, 3]}), "INVALID_ARGUMENT", "'x'"),
        (request(tensor={"shape": [-1, 2]}), "INVALID_ARGUMENT", "negative"),
        (request(tensor={"datatype": "FP64"}), "INVALID_ARGUMENT", "'x'"),
        (request(tensor={"datatype": "FP31"}), "INVALID_ARGUMENT", "FP31"),
        (request(raw_input_contents=[b"", b""]), "INVALID_ARGUMENT", "raw_input_contents"),
        (request(tensor={"contents": {"fp32_contents": [1.0]}}), "INVALID_ARGUMENT", "1 elements"),
        (request(parameters={"timeout": {"double_param": float("nan")}}), "INVALID_ARGUMENT", "timeout"),
        (request(parameters={"priority": {"int64_param": -1}}), "INVALID_ARGUMENT", "priority"),
        (request(outputs=[{"name": "y", "parameters": {"classification": {"int64_param": -3}}}]), *CLASSES),
        (request("slow", parameters={"timeout": {"int64_param": 1000}}), "UNAVAILABLE", "in time"),
    ],
)
def test_what_is_wrong_has_a_status_and_a_reason(stub: Any, made: Any, code: str, names: str) -> None:
    with pytest.raises(grpc.RpcError) as error:
        stub.ModelInfer(made)
    assert error.value.code().name == code
    assert names in error.value.details()


def test_every_call_about_an_unknown_model_says_so(stub: Any) -> None:
    for call, made in (
        (stub.ModelMetadata, service_pb2.ModelMetadataRequest(name="none")),
        (stub.ModelConfig, service_pb2.ModelConfigRequest(name="none")),
        (stub.ModelStatistics, service_pb2.ModelStatisticsRequest(name="none")),
        (stub.RepositoryModelLoad, service_pb2.RepositoryModelLoadRequest(model_name="none")),
        (stub.RepositoryModelUnload, service_pb2.RepositoryModelUnloadRequest(model_name="none")),
    ):
        with pytest.raises(grpc.RpcError) as error:
            call(made)
        assert error.value.code().name == "NOT_FOUND"


def test_the_deadline_of_the_call_counts_too_and_is_refused_at_once(stub: Any) -> None:
    start_s = time.monotonic()
    with pytest.raises(grpc.RpcError) as error:
        stub.ModelInfer(request("slow"), timeout=0.045)
    assert error.value.code().name in ("UNAVAILABLE", "DEADLINE_EXCEEDED")
    assert time.monotonic() - start_s < 5.0
    assert stub.ModelInfer(request("slow"), timeout=20.0).model_name == "slow"


def test_a_call_that_is_cancelled_is_taken_back() -> None:
    doubler = Doubler()
    with house("plain", doubler=doubler, doors=DOORS) as found, ThreadPoolExecutor(1) as pool:
        with grpc.insecure_channel(found.addresses.grpc) as channel:
            stub = triton.service_pb2_grpc.GRPCInferenceServiceStub(channel)
            stub.ServerLive(service_pb2.ServerLiveRequest())
            doubler.gate.clear()
            running = pool.submit(found.infer, [0.0, 0.0])
            assert doubler.begun.wait(20.0)
            waiting = stub.ModelInfer.future(request())
            found.wait_for_pending(2)
            waiting.cancel()
            found.wait_for_pending(1)
            doubler.gate.set()
            assert running.result()[0] == 200
        assert doubler.batches == [1]


def test_a_port_that_is_taken_is_refused_with_a_way_out(open_house: House) -> None:
    port = int(str(open_house.addresses.grpc).rpartition(":")[2])
    with (
        pytest.raises(Refused, match="--grpc-port"),
        house("plain", doors=Doors(http_port=0, grpc_port=port, metrics_port=None)),
    ):
        pass


def test_a_configuration_in_protobufs_text_form_is_read(tmp_path: Path) -> None:
    (tmp_path / "plain" / "1").mkdir(parents=True)
    (tmp_path / "plain" / "1" / "model.onnx").touch()
    text = 'name: "plain" max_batch_size: 3 dynamic_batching { default_queue_policy { max_queue_size: 7 } }'
    (tmp_path / "plain" / "config.pbtxt").write_text(text)
    with house(doors=DOORS, folder=tmp_path) as found:
        config = found.call("GET", "/v2/models/plain/config")[1]
        assert config["max_batch_size"] == 3
        assert config["dynamic_batching"]["default_queue_policy"]["max_queue_size"] == 7
    (tmp_path / "plain" / "config.pbtxt").write_text("name: plain {")
    with house(doors=DOORS, folder=tmp_path) as found:
        assert "config.pbtxt" in found.call("POST", "/v2/repository/index", {})[1][0]["reason"]


def asked_health(channel: Any, service: bytes) -> int:
    call = channel.unary_unary("/grpc.health.v1.Health/Check")
    answer = call(bytes([10, len(service)]) + service if service else b"", timeout=20)
    return int(answer[1]) if answer else 0


def test_health_is_told_as_load_balancers_ask_for_it() -> None:
    with house("plain", doors=DOORS) as found, grpc.insecure_channel(found.addresses.grpc) as channel:
        assert asked_health(channel, b"") == 1
        assert asked_health(channel, b"inference.GRPCInferenceService") == 1
        assert asked_health(channel, b"plain") == 1
        assert found.call("POST", "/v2/repository/models/plain/unload", {})[0] == 200
        assert asked_health(channel, b"plain") == 2
        with pytest.raises(grpc.RpcError) as error:
            asked_health(channel, b"none")
        assert error.value.code() == grpc.StatusCode.NOT_FOUND
        with pytest.raises(grpc.RpcError) as error:
            channel.unary_unary("/grpc.health.v1.Health/Check")(b"\xff\xff", timeout=20)
        assert error.value.code() == grpc.StatusCode.INVALID_ARGUMENT


def test_health_is_watched_until_the_end() -> None:
    doubler = Doubler()
    with house("plain", doubler=doubler, doors=DOORS) as found, grpc.insecure_channel(found.addresses.grpc) as channel:
        watching = channel.unary_stream("/grpc.health.v1.Health/Watch")(b"\x0a\x05plain", timeout=20)
        told = [next(watching)]
        found.call("POST", "/v2/repository/models/plain/unload", {})
        told.append(next(watching))
        found.call("POST", "/v2/repository/models/plain/load", {})
        told.append(next(watching))
        assert told == [b"\x08\x01", b"\x08\x02", b"\x08\x01"]
        watching.cancel()


def test_a_load_with_a_file_in_it_is_refused() -> None:
    with house("plain", doors=DOORS) as found, grpc.insecure_channel(found.addresses.grpc) as channel:
        stub = triton.service_pb2_grpc.GRPCInferenceServiceStub(channel)
        asked = triton.service_pb2.RepositoryModelLoadRequest(model_name="plain")
        asked.parameters["file:1/model.onnx"].bytes_param = b"not a model"
        with pytest.raises(grpc.RpcError) as error:
            stub.RepositoryModelLoad(asked)
        assert error.value.code() == grpc.StatusCode.INVALID_ARGUMENT
        assert "file:1/model.onnx" in error.value.details()


def test_a_stream_is_answered_in_order_and_errors_are_in_their_place(stub: Any) -> None:
    values = [[[float(index), 2.0]] for index in range(12)]
    asking = [
        request(id=str(index), raw_input_contents=[np.array(value, np.float32).tobytes()])
        for index, value in enumerate(values)
    ]
    asking[3] = request("none", id="3")
    asking[7] = request(tensor={"shape": [1, 3]}, id="7")
    found = list(stub.ModelStreamInfer(iter(asking), timeout=20))
    assert [each.infer_response.id for each in found] == [str(index) for index in range(12)]
    assert ["'none'" in found[3].error_message, "'x'" in found[7].error_message] == [True, True]
    for index in set(range(12)) - {3, 7}:
        assert not found[index].error_message
        answer = np.frombuffer(found[index].infer_response.raw_output_contents[0], np.float32)
        assert answer.tolist() == [2.0 * index, 4.0]


def test_a_stream_of_rubbish_has_an_answer_for_each_of_it(open_house: House) -> None:
    with grpc.insecure_channel(open_house.addresses.grpc) as channel:
        call = channel.stream_stream(
            "/inference.GRPCInferenceService/ModelStreamInfer",
            response_deserializer=service_pb2.ModelStreamInferResponse.FromString,
        )
        rubbish = [b"", b"\xff\xff", bytes([42, 0]) * 100_000, request(id="good").SerializeToString()]
        found = list(call(iter(rubbish), timeout=20))
    assert all(each.error_message for each in found[:3])
    assert (found[3].error_message, found[3].infer_response.id) == ("", "good")


def test_nvidias_client_streams(open_house: House) -> None:
    got: list[Any] = []
    with triton.InferenceServerClient(open_house.addresses.grpc) as client:
        client.start_stream(lambda result, error: got.append(error or result.as_numpy("x_out").tolist()))
        for index in range(3):
            client.async_stream_infer("plain", [asked(np.array([[index, 1]], np.float32))])
        client.stop_stream()
    assert got == [[[0, 2]], [[2, 2]], [[4, 2]]]


def test_classes_are_those_that_the_scores_name(client: Any) -> None:
    wanted = [triton.InferRequestedOutput("x_out", class_count=2)]
    found = client.infer("plain", [asked(np.array([[1, 3], [5, 4]], np.float32))], outputs=wanted)
    assert found.as_numpy("x_out").tolist() == [[b"6.000000:1", b"2.000000:0"], [b"10.000000:0", b"8.000000:1"]]


def test_sequences_and_settings_are_refused_with_the_reason(client: Any, stub: Any) -> None:
    with pytest.raises(InferenceServerException) as no:
        client.infer("plain", [asked(np.array([[1, 3]], np.float32))], sequence_id=7, sequence_start=True)
    assert "no state" in str(no.value)
    for call, made in (
        (stub.TraceSetting, service_pb2.TraceSettingRequest()),
        (stub.LogSettings, service_pb2.LogSettingsRequest()),
    ):
        with pytest.raises(grpc.RpcError) as refused:
            call(made, timeout=20)
        assert refused.value.code() == grpc.StatusCode.UNIMPLEMENTED
        assert "start the server with" in refused.value.details()


@pytest.mark.parametrize("method", ["RepositoryModelLoad", "ModelConfig", "ModelReady", "ModelInfer"])
def test_bytes_that_are_no_message_are_the_clients_error(open_house: House, method: str) -> None:
    with grpc.insecure_channel(open_house.addresses.grpc) as channel:
        call = channel.unary_unary(f"/inference.GRPCInferenceService/{method}")
        with pytest.raises(grpc.RpcError) as found:
            call(b"\x0a\xff", timeout=20)
        assert found.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert "request is no" in found.value.details()
