"""Without a key nothing but health is answered, and models are changed only where that was allowed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from amble.core.errors import Refused
from amble.runtimes.remote.fault import Fault
from amble.services.serve.doors.access import Access, Keys
from amble.services.serve.front import Doors
from tests.services.serve.house import house

FIRST, SECOND = "a" * 32, "b" * 32


def keys(path: Path, *lines: str) -> Keys:
    path.write_text("\n".join(lines))
    return Keys(path, look_s=0.0)


def test_over_http_a_key_opens_what_is_closed_without_and_health_is_open() -> None:
    doors = Doors(http_port=0, grpc_port=None, metrics_port=None, keys=Keys(given=FIRST))
    body = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [1.0, 2.0]}]}
    with house("plain", doors=doors) as found:
        for headers in ({}, {"Authorization": f"Bearer {SECOND}"}, {"X-API-Key": "no"}, {"Authorization": FIRST}):
            for method, path in (("POST", "/v2/models/plain/infer"), ("GET", "/v2/models/plain"), ("GET", "/v2/none")):
                status, answer, told = found.call(method, path, body if method == "POST" else None, headers)
                assert (status, told["www-authenticate"]) == (401, "Bearer")
                assert "key" in answer["error"]
        for headers in (
            {"Authorization": f"Bearer {FIRST}"},
            {"authorization": f"bearer  {FIRST}"},
            {"X-API-Key": FIRST},
        ):
            assert found.call("POST", "/v2/models/plain/infer", body, headers)[0] == 200
        assert found.call("GET", "/v2/health/ready")[0] == 200
        assert found.doubler.batches == [1, 1, 1], "nothing else ran"


def test_over_grpc_a_key_opens_what_is_closed_without_and_health_is_open() -> None:
    grpc = pytest.importorskip("grpc")
    from tritonclient.grpc import service_pb2, service_pb2_grpc

    doors = Doors(http_port=0, grpc_port=0, metrics_port=None, keys=Keys(given=FIRST))
    with house("plain", doors=doors) as found, grpc.insecure_channel(found.addresses.grpc) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        asked = service_pb2.ModelInferRequest(model_name="plain")
        tensor = asked.inputs.add(name="x", datatype="FP32", shape=[1, 2])
        tensor.contents.fp32_contents.extend([1.0, 2.0])
        for call in (stub.ModelInfer, stub.ModelMetadata):
            message = asked if call is stub.ModelInfer else service_pb2.ModelMetadataRequest(name="plain")
            for metadata in ((), (("authorization", f"Bearer {SECOND}"),)):
                with pytest.raises(grpc.RpcError) as refused:
                    call(message, metadata=metadata, timeout=20)
                assert refused.value.code() == grpc.StatusCode.UNAUTHENTICATED
            call(message, metadata=(("authorization", f"Bearer {FIRST}"),), timeout=20)
            call(message, metadata=(("x-api-key", FIRST),), timeout=20)
        assert stub.ServerReady(service_pb2.ServerReadyRequest(), timeout=20).ready
        assert found.doubler.batches == [1, 1]


def test_models_are_not_changed_from_outside_unless_that_was_allowed() -> None:
    doors = Doors(http_port=0, grpc_port=None, metrics_port=None)
    with house("plain", doors=doors) as found:
        for what in ("load", "unload"):
            status, answer, _ = found.call("POST", f"/v2/repository/models/plain/{what}")
            assert status == 403
            assert "--model-control explicit" in answer["error"]
        assert found.call("POST", "/v2/repository/index")[0] == 200
        assert found.infer([1.0, 2.0])[0] == 200


def test_over_grpc_models_are_not_changed_either() -> None:
    grpc = pytest.importorskip("grpc")
    from tritonclient.grpc import service_pb2, service_pb2_grpc

    doors = Doors(http_port=0, grpc_port=0, metrics_port=None)
    with house("plain", doors=doors) as found, grpc.insecure_channel(found.addresses.grpc) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        for call, message in (
            (stub.RepositoryModelLoad, service_pb2.RepositoryModelLoadRequest(model_name="plain")),
            (stub.RepositoryModelUnload, service_pb2.RepositoryModelUnloadRequest(model_name="plain")),
        ):
            with pytest.raises(grpc.RpcError) as refused:
                call(message, timeout=20)
            assert refused.value.code() == grpc.StatusCode.PERMISSION_DENIED
        assert found.infer([1.0, 2.0])[0] == 200


@pytest.mark.parametrize(
    ("headers", "passes"),
    [
        ({"Host": "evil.example"}, False),
        ({"Host": "evil.example:8000"}, False),
        ({"Host": "[::1"}, False),
        ({"Host": "127.0.0.1.evil.example"}, False),
        ({"Host": "localhost:1"}, True),
        ({"Host": "amble.example"}, True),
        ({"Host": "localhost", "Origin": "http://evil.example"}, False),
        ({"Host": "localhost", "Origin": "null"}, False),
        ({"Host": "localhost:7", "Origin": "http://localhost:8"}, False),
        ({"Host": "localhost:7", "Origin": "http://localhost:7"}, True),
    ],
)
def test_a_page_of_somebody_else_may_not_ask(headers: dict[str, str], passes: bool) -> None:
    doors = Doors(http_port=0, grpc_port=None, metrics_port=None, hosts=("amble.example",))
    with house("plain", doors=doors) as found:
        assert (found.call("GET", "/v2", None, headers)[0] == 200) == passes


def test_where_it_listens_for_all_any_name_is_its_own() -> None:
    Access(listens="0.0.0.0").check("/v2", {b"host": b"anything.example"})  # noqa: S104
    with pytest.raises(Fault, match="other origins"):
        Access(listens="0.0.0.0").check("/v2", {b"host": b"a.example", b"origin": b"http://b.example"})  # noqa: S104


def test_a_name_that_was_seen_before_is_still_one_of_its_own_servers_only() -> None:
    for _ in range(2):
        Access(hosts=("amble.example",)).check("/v2", {b"host": b"amble.example:80"})
        with pytest.raises(Fault, match="not called"):
            Access().check("/v2", {b"host": b"amble.example:80"})


def test_keys_are_read_again_when_their_file_changes(tmp_path: Path) -> None:
    found = keys(tmp_path / "keys", f"{FIRST}  # of one", "# nobody")
    assert (found.know(FIRST), found.know(SECOND), found.know("nobody")) == (True, False, False)
    (tmp_path / "new").write_text(SECOND)
    os.replace(tmp_path / "new", tmp_path / "keys")
    assert (found.know(FIRST), found.know(SECOND)) == (False, True)


def test_a_file_that_has_become_no_use_leaves_the_keys_as_they_were(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    found = keys(tmp_path / "keys", FIRST)
    (tmp_path / "keys").write_text("")
    assert found.know(FIRST)
    (tmp_path / "keys").unlink()
    assert found.know(FIRST)
    assert "the keys stay as they were" in caplog.text


@pytest.mark.parametrize(("text", "says"), [("", "no key"), ("# none", "no key"), ("short", "less than 16")])
def test_keys_that_protect_nothing_are_refused_at_the_start(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(Refused, match=says):
        keys(tmp_path / "keys", text)


def test_a_file_of_keys_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="cannot read the keys"):
        Keys(tmp_path / "none")
