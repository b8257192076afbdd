"""Tensors in shared memory over both protocols: only where it is offered, and only what is whose."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from multiprocessing import shared_memory
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from amble.runtimes.remote.fault import Fault
from amble.services.serve.doors.access import Keys
from amble.services.serve.doors.shared_memory import FIELDS, Memory, Regions, is_local
from amble.services.serve.front import Doors
from amble.services.serve.requests.quota import Quota, Reservation
from tests.services.serve.house import House, house

HERE = "127.0.0.1"


@pytest.fixture
def regions(tmp_path: Path) -> Regions:
    folder, root = tmp_path / "noted", tmp_path / "shm"
    folder.mkdir()
    root.mkdir()
    (root / "r").write_bytes(bytes(range(64)))
    (tmp_path / "secret").write_bytes(bytes(64))
    (root / "link").symlink_to(tmp_path / "secret")
    (root / "folder").mkdir()
    (root / "folder" / "inside").write_bytes(bytes(64))
    os.mkfifo(root / "pipe")
    return Regions(folder, root, most=4)


def register(
    regions: Regions, key: str = "/r", offset: int = 0, size: int = 64, owner: str = "", name: str = "a"
) -> None:
    regions.register(name, key, offset, size, owner=owner, client=HERE)


def test_a_region_is_read_and_written_within_its_bounds(regions: Regions) -> None:
    register(regions, offset=8, size=16)
    assert bytes(regions.read("a", 2, 4, owner="")) == bytes([10, 11, 12, 13])
    regions.write("a", 12, b"abcd", owner="")
    assert (regions.root / "r").read_bytes()[20:24] == b"abcd"
    for offset, size in ((0, 17), (13, 4), (16, 1)):
        with pytest.raises(Fault, match="has 16 bytes, not 17"):
            regions.read("a", offset, size, owner="")
    with pytest.raises(Fault, match="has 16 bytes"):
        regions.write("a", 14, b"abcd", owner="")


@pytest.mark.parametrize(
    "key",
    [
        *("", "/", "..", "/..", "../secret", "/../secret", "folder/inside", "/folder/inside", "/r\0", "link", "pipe"),
        *("folder", "none", "//r", "r" * 300),
    ],
)
def test_names_that_lead_elsewhere_or_to_no_file_are_refused(regions: Regions, key: str) -> None:
    with pytest.raises(Fault):
        register(regions, key)
    assert regions.of("", owner="") == []


@pytest.mark.parametrize(("offset", "size"), [(0, 65), (64, 1), (-1, 8), (0, 0), (0, -1), (1 << 62, 8), (0, 1 << 62)])
def test_parts_that_the_file_has_not_are_refused(regions: Regions, offset: int, size: int) -> None:
    with pytest.raises(Fault):
        register(regions, offset=offset, size=size)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_file_of_another_user_is_refused(regions: Regions) -> None:
    os.chown(regions.root / "r", 12345, 12345)
    with pytest.raises(Fault, match="server's own user"):
        register(regions)


def test_a_file_that_becomes_shorter_or_is_made_anew_is_an_error_and_nothing_dies(regions: Regions) -> None:
    register(regions)
    os.truncate(regions.root / "r", 10)
    with pytest.raises(Fault, match="become shorter"):
        regions.read("a", 0, 64, owner="")
    with pytest.raises(Fault, match="become shorter"):
        regions.write("a", 60, b"abcd", owner="")
    assert (regions.root / "r").stat().st_size == 10
    (regions.root / "other").write_bytes(bytes(64))
    (regions.root / "other").replace(regions.root / "r")
    with pytest.raises(Fault, match="made anew"):
        regions.read("a", 0, 4, owner="")


def test_regions_are_their_owners_alone(regions: Regions) -> None:
    register(regions, owner="one")
    register(regions, owner="two", size=8)
    assert [each.byte_size for each in regions.of("", owner="one")] == [64]
    regions.unregister("", owner="two")
    with pytest.raises(Fault, match="not registered"):
        regions.read("a", 0, 4, owner="two")
    with pytest.raises(Fault, match="not registered"):
        regions.of("a", owner="three")
    assert len(regions.read("a", 0, 64, owner="one")) == 64


def test_they_are_bounded_and_a_name_is_taken_once(regions: Regions) -> None:
    for name in "abcd":
        register(regions, name=name)
    with pytest.raises(Fault, match="4 regions of shared memory are registered already"):
        register(regions, name="e")
    regions.unregister("b", owner="")
    regions.unregister("b", owner="")
    with pytest.raises(Fault, match="'a' is registered already"):
        register(regions)
    assert sorted(each.name for each in regions.of("", owner="")) == ["a", "c", "d"]


def test_of_many_that_register_one_name_one_does(regions: Regions) -> None:
    def attempt(_: int) -> bool:
        try:
            register(regions)
        except Fault:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(attempt, range(8))) == 1


def test_what_is_read_takes_room_like_a_body(regions: Regions) -> None:
    register(regions)
    with Reservation(Quota(100), "a") as hold:
        memory = Memory(regions, "", hold.grow)
        asked = {"shared_memory_region": "a", "shared_memory_byte_size": 64}
        memory.input("x", asked)
        with pytest.raises(Fault, match="too much in flight"):
            memory.input("y", asked)
    for wrong in ({"shared_memory_byte_size": "64"}, {"shared_memory_offset": -1}, {"shared_memory_region": 1}):
        with pytest.raises(Fault, match="shared memory needs the name"):
            memory.input("x", {**asked, **wrong})


@pytest.mark.parametrize(
    ("client", "local"),
    [
        ("127.0.0.1", True), ("127.8.8.8", True), ("::1", True), ("ipv4:127.0.0.1", True), ("ipv6:%5B::1%5D", True),
        ("unix", True), ("10.0.0.1", False), ("ipv4:10.0.0.1", False), ("ipv6:[2001:db8::1]", False), ("", False),
    ],
)  # fmt: skip
def test_only_clients_on_this_machine_register(regions: Regions, client: str, local: bool) -> None:
    assert is_local(client) == local
    if not local:
        with pytest.raises(Fault, match="on this machine"):
            regions.register("a", "/r", 0, 64, owner="", client=client)


DOORS = Doors(http_port=0, grpc_port=0, metrics_port=0, drain_s=5.0)


@pytest.fixture(scope="module")
def open_house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with house("plain", "many", doors=replace(DOORS, regions=Regions(tmp_path_factory.mktemp("noted")))) as found:
        yield found


class OverHttp:
    """Asks by JSON."""

    def __init__(self, found: House) -> None:
        self.house = found

    def _call(self, method: str, path: str, body: Any = None) -> Any:
        status, told, _ = self.house.call(method, path, body)
        assert status == 200, told["error"]
        return told

    def register(self, name: str, key: str, size: int) -> None:
        self._call("POST", f"/v2/systemsharedmemory/region/{name}/register", {"key": key, "byte_size": size})

    def unregister(self, name: str = "") -> None:
        self._call("POST", f"/v2/systemsharedmemory/{f'region/{name}/' if name else ''}unregister")

    def regions(self, name: str = "") -> list[tuple[str, str, int]]:
        listed = self._call("GET", f"/v2/systemsharedmemory/{f'region/{name}/' if name else ''}status")
        return [(each["name"], each["key"], each["byte_size"]) for each in listed]

    def infer(self, model: str, inputs: list[dict[str, Any]], outputs: list[dict[str, Any]]) -> dict[str, Any]:
        wanted = {"outputs": outputs} if outputs else {}
        listed = self._call("POST", f"/v2/models/{model}/infer", {"inputs": inputs, **wanted})["outputs"]
        return {each["name"]: each.get("data", []) for each in listed}


class OverGrpc:
    """Asks by NVIDIA's client."""

    def __init__(self, found: House) -> None:
        self._module = pytest.importorskip("tritonclient.grpc")
        self._client = self._module.InferenceServerClient(found.addresses.grpc)

    def register(self, name: str, key: str, size: int) -> None:
        self._client.register_system_shared_memory(name, key, size)

    def unregister(self, name: str = "") -> None:
        self._client.unregister_system_shared_memory(name)

    def regions(self, name: str = "") -> list[tuple[str, str, int]]:
        found = self._client.get_system_shared_memory_status(name).regions
        return [(each.name, each.key, each.byte_size) for each in found.values()]

    def infer(self, model: str, inputs: list[dict[str, Any]], outputs: list[dict[str, Any]]) -> dict[str, Any]:
        given, wanted = [], []
        for each in inputs:
            asked = self._module.InferInput(each["name"], each["shape"], each["datatype"])
            if "data" in each:
                kind = {"FP32": np.float32, "INT64": np.int64, "BOOL": np.bool_}[each["datatype"]]
                asked.set_data_from_numpy(np.array(each["data"], kind).reshape(each["shape"]))
            else:
                asked.set_shared_memory(*_place(each["parameters"]))
            given.append(asked)
        for each in outputs:
            wanted.append(self._module.InferRequestedOutput(each["name"]))
            wanted[-1].set_shared_memory(*_place(each["parameters"]))
        answer = self._client.infer(model, given, outputs=wanted or None)
        made = answer.get_response()
        sent = zip(made.outputs, made.raw_output_contents, strict=True)
        return {each.name: answer.as_numpy(each.name).ravel().tolist() if raw else [] for each, raw in sent}


def _place(parameters: dict[str, Any]) -> tuple[str, int, int]:
    return parameters[FIELDS[0]], parameters[FIELDS[1]], parameters.get(FIELDS[2], 0)


def at(region: str, size: int, offset: int = 0) -> dict[str, Any]:
    return {"parameters": {FIELDS[0]: region, FIELDS[1]: size, FIELDS[2]: offset}}


@pytest.fixture(params=[OverHttp, OverGrpc], ids=["http", "grpc"])
def client(request: pytest.FixtureRequest, open_house: House) -> Any:
    return request.param(open_house)


@pytest.fixture
def shared() -> Iterator[shared_memory.SharedMemory]:
    made = shared_memory.SharedMemory(create=True, size=256)
    yield made
    made.close()
    made.unlink()


def test_tensors_go_by_shared_memory_in_and_out(client: Any, shared: shared_memory.SharedMemory) -> None:
    given = np.array([[1.5, -2.0], [3.0, 4.0]], np.float32)
    shared.buf[:16] = given.tobytes()
    client.register("both", f"/{shared.name}", 64)
    assert client.regions() == client.regions("both") == [("both", f"/{shared.name}", 64)]
    asked = {"name": "x", "shape": [2, 2], "datatype": "FP32", **at("both", 16)}
    assert client.infer("plain", [asked], [{"name": "x_out", **at("both", 16, 16)}]) == {"x_out": []}
    assert bytes(shared.buf[16:32]) == (2 * given).tobytes()
    assert client.infer("plain", [asked], [])["x_out"] == (2 * given).ravel().tolist(), "in so, out as it is"
    client.unregister("both")
    assert client.regions() == []
    with pytest.raises(Exception, match="'both' is not registered"):
        client.infer("plain", [asked], [])


def test_texts_and_mixed_inputs_go_too_and_wrong_sizes_are_told(
    client: Any, shared: shared_memory.SharedMemory
) -> None:
    words = b"".join(len(each).to_bytes(4, "little") + each for each in (b"yes", b"no"))
    shared.buf[: len(words)] = words
    client.register("texts", shared.name, 256)
    f, i, b = (
        {"name": name, "shape": [1, 2], "datatype": kind, "data": data}
        for name, kind, data in (("f", "FP32", [1, 2]), ("i", "INT64", [3, 4]), ("b", "BOOL", [True, False]))
    )
    s = {"name": "s", "shape": [1, 2], "datatype": "BYTES"}
    found = client.infer("many", [f, {**s, **at("texts", len(words))}, i, b], [])
    assert [each if isinstance(each, bytes) else each.encode() for each in found["s_out"]] == [b"yes", b"no"]
    assert found["i_out"] == [6, 8]
    with pytest.raises(Exception, match="cut off"):
        client.infer("many", [f, {**s, **at("texts", len(words) - 1)}, i, b], [])
    with pytest.raises(Exception, match="16 bytes, shared_memory_byte_size is 8"):
        client.infer("many", [f, {**s, **at("texts", len(words))}, i, b], [{"name": "i_out", **at("texts", 8, 64)}])
    with pytest.raises(Exception, match="8 bytes of data, not 16"):
        client.infer(
            "many",
            [
                f,
                {**s, **at("texts", len(words))},
                {**{key: value for key, value in i.items() if key != "data"}, **at("texts", 8)},
                b,
            ],
            [],
        )
    client.unregister()


def test_an_input_that_comes_in_more_than_one_way_is_refused_by_name_over_http(open_house: House) -> None:
    shared = at("both", 8)["parameters"]
    asked: dict[str, Any] = {"name": "x", "shape": [1, 2], "datatype": "FP32"}
    data = {"data": [1, 2]}
    for twice in (
        {**asked, **data, "parameters": shared},
        {**asked, "parameters": {**shared, "binary_data_size": 8}},
        {**asked, **data, "parameters": {"binary_data_size": 8}},
    ):
        head = json.dumps({"inputs": [twice]}).encode()
        headers = {"Inference-Header-Content-Length": str(len(head))}
        status, told, _ = open_house.call("POST", "/v2/models/plain/infer", head + bytes(8), headers)
        assert status == 400
        assert "input 'x': it comes in more than one way" in told["error"]


def test_an_input_that_comes_in_more_than_one_way_is_refused_by_name_over_grpc(open_house: House) -> None:
    grpc = pytest.importorskip("grpc")
    from tritonclient.grpc import service_pb2, service_pb2_grpc

    with grpc.insecure_channel(open_house.addresses.grpc) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        for shared, contents, raw in ((True, True, False), (True, False, True), (False, True, True)):
            asked = service_pb2.ModelInferRequest(model_name="plain")
            given = asked.inputs.add(name="x", datatype="FP32", shape=[1, 2])
            if shared:
                given.parameters[FIELDS[0]].string_param = "both"
                given.parameters[FIELDS[1]].int64_param = 8
            if contents:
                given.contents.fp32_contents.extend([1, 2])
            if raw:
                asked.raw_input_contents.append(bytes(8))
            with pytest.raises(grpc.RpcError) as found:
                stub.ModelInfer(asked, timeout=20)
            assert found.value.code() == grpc.StatusCode.INVALID_ARGUMENT
            assert "input 'x': it comes in more than one way" in found.value.details()


@pytest.mark.parametrize("kind", [OverHttp, OverGrpc])
def test_without_the_flag_all_of_it_is_refused_with_the_reason(kind: Any) -> None:
    with house("plain", doors=DOORS) as found:
        assert "system_shared_memory" not in found.call("GET", "/v2")[1]["extensions"]
        asker = kind(found)
        asked = {"name": "x", "shape": [1, 2], "datatype": "FP32"}
        for call in (
            asker.regions,
            asker.unregister,
            partial(asker.register, "a", "/a", 8),
            partial(asker.infer, "plain", [{**asked, **at("a", 8)}], []),
            partial(asker.infer, "plain", [{**asked, "data": [1, 2]}], [{"name": "x_out", **at("a", 8)}]),
        ):
            with pytest.raises(Exception, match="start the server with --shared-memory"):
                call()


def test_it_is_announced_and_that_of_a_gpu_is_refused(open_house: House) -> None:
    assert "system_shared_memory" in open_house.call("GET", "/v2")[1]["extensions"]
    status, body, _ = open_house.call("GET", "/v2/cudasharedmemory/status")
    assert status == 501
    assert "CUDA shared memory is not offered" in body["error"]
    client = pytest.importorskip("tritonclient.grpc").InferenceServerClient(open_house.addresses.grpc)
    assert "system_shared_memory" in client.get_server_metadata().extensions
    with pytest.raises(Exception, match="CUDA shared memory is not offered"):
        client.get_cuda_shared_memory_status()
    client.close()


def test_a_key_owns_what_it_registers(tmp_path: Path) -> None:
    keys = ["a" * 32, "b" * 32]
    doors = replace(DOORS, grpc_port=None, regions=Regions(tmp_path), keys=Keys(given=" ".join(keys)))
    file = Path("/dev/shm") / f"test-{secrets.token_hex(8)}"  # noqa: S108
    file.write_bytes(bytes(8))
    try:
        with house("plain", doors=doors) as found:
            body = {"key": file.name, "byte_size": 8}
            ours, theirs = ({"X-API-Key": key} for key in keys)
            assert found.call("POST", "/v2/systemsharedmemory/region/a/register", body)[0] == 401
            assert found.call("POST", "/v2/systemsharedmemory/region/a/register", body, ours)[0] == 200
            assert len(found.call("GET", "/v2/systemsharedmemory/status", None, ours)[1]) == 1
            assert found.call("GET", "/v2/systemsharedmemory/status", None, theirs)[1] == []
            asked: dict[str, Any] = {"name": "x", "datatype": "FP32", "shape": [1, 2]}
            asked |= {"parameters": {"shared_memory_region": "a", "shared_memory_byte_size": 8}}
            for headers, status in ((theirs, 400), (ours, 200)):
                assert found.call("POST", "/v2/models/plain/infer", {"inputs": [asked]}, headers)[0] == status
    finally:
        file.unlink()
