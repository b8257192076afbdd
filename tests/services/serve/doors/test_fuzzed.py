"""Whatever a client sends, it is answered or told what is wrong: nothing that it says ends as an error of ours.

Requests are right ones in which something is replaced by anything, and bytes of right ones with some of them changed.
``AMBLE_FUZZ=5000`` tries as many of each.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import pytest
from google.protobuf.message import DecodeError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from amble.core.errors import AmbleError
from amble.core.graph import Port
from amble.runtimes.remote.datatypes import datatype
from amble.runtimes.remote.fault import Fault
from amble.services.serve.doors.messages import asked_of, identity_of, response_of
from amble.services.serve.doors.shared_memory import Memory, Regions
from amble.services.serve.doors.speaking import spoken
from amble.services.serve.doors.wire import cut
from amble.services.serve.models.configuration import parse_config
from amble.services.serve.requests.asking import Answer, Asked, matched, policy
from tests.services.serve.house import House, house

triton = pytest.importorskip("tritonclient.grpc")
pb = triton.service_pb2
often = settings(
    max_examples=int(os.environ.get("AMBLE_FUZZ", "250")),
    deadline=None,
    derandomize="AMBLE_FUZZ" not in os.environ,
    suppress_health_check=list(HealthCheck),
)

KINDS = {"f": "float", "i": "int64", "b": "bool", "s": "string", "h": "float16", "u": "uint8"}
PORTS = tuple(Port(name, (-1, 2), kind) for name, kind in KINDS.items())
SINGLE = (Port("f", (-1, 2), "float"),)
OUTPUTS = tuple(Port(f"{name}_out", (-1, 2), kind) for name, kind in KINDS.items())
NAMES = ("inputs", "outputs", "parameters", "name", "datatype", "shape", "data", "id", "instances", *KINDS)
TYPES = ("FP32", "INT64", "BOOL", "BYTES", "FP16", "BF16", "UINT8", "FP64")
WORDS = (
    "binary_data_size",
    "binary_data",
    "binary_data_output",
    "classification",
    "timeout",
    "priority",
    "sequence_id",
)
MEMORY_WORDS = ("shared_memory_region", "shared_memory_byte_size", "shared_memory_offset")

numbers = st.one_of(
    st.integers(-3, 5), st.integers(), st.integers(2**31 - 1, 2**64 + 1), st.floats(), st.sampled_from([10**400, -1])
)
texts = st.one_of(st.sampled_from([*NAMES, *TYPES, *WORDS, *MEMORY_WORDS, "", "NaN", "\0"]), st.text(max_size=8))
anything = st.recursive(
    st.one_of(st.none(), st.booleans(), numbers, texts),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(texts, inner, max_size=4)),
    max_leaves=8,
)
parameters = st.dictionaries(
    st.sampled_from([*WORDS, *MEMORY_WORDS]), st.one_of(numbers, texts, st.booleans()), max_size=3
)


def maybe(right: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Draw what is right, mostly."""
    return st.one_of(right, right, right, anything)


DATA = {"f": [0.5, 2], "i": [1, -2], "b": [True, False], "s": ["a", "b"], "h": [1.0, 2.0], "u": [1, 2]}


def tensors(name: str) -> st.SearchStrategy[dict[str, Any]]:
    kind = datatype(next(port for port in PORTS if port.name == name))
    return st.fixed_dictionaries(
        {
            "name": maybe(st.just(name)),
            "datatype": maybe(st.one_of(st.just(kind), st.just(kind), st.sampled_from(TYPES))),
            "shape": maybe(st.one_of(st.just([1, 2]), st.lists(st.integers(-1, 3), max_size=3))),
        },
        optional={"data": maybe(st.just(DATA[name])), "parameters": maybe(parameters)},
    )


inputs = st.one_of(st.tuples(*map(tensors, KINDS)).map(list), st.lists(tensors("f"), min_size=1, max_size=1))
outputs = st.lists(
    st.fixed_dictionaries(
        {"name": maybe(st.sampled_from([port.name for port in OUTPUTS]))}, optional={"parameters": maybe(parameters)}
    ),
    max_size=3,
)
bodies = st.one_of(
    anything,
    st.fixed_dictionaries(
        {"inputs": maybe(inputs)},
        optional={"id": maybe(texts), "outputs": maybe(outputs), "parameters": maybe(parameters)},
    ),
)
values = maybe(st.one_of(st.just([[1, 2]]), st.lists(numbers, max_size=4), st.lists(st.lists(anything, max_size=3))))
rows = st.dictionaries(st.sampled_from(list(KINDS)), anything, max_size=6)
predicted = st.one_of(
    anything,
    st.fixed_dictionaries(
        {"instances": st.one_of(values, st.lists(rows, max_size=3))}, optional={"parameters": parameters}
    ),
    st.fixed_dictionaries({"inputs": st.one_of(values, rows)}, optional={"parameters": maybe(parameters)}),
)
generated = st.one_of(
    anything, st.dictionaries(st.sampled_from([*KINDS, "parameters", "id"]), st.one_of(values, anything))
)
flips = st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255)), max_size=3)


def flipped(body: bytes, changes: Sequence[tuple[int, int]]) -> bytes:
    """Change some bytes, drop one at each place that is beyond."""
    made = bytearray(body)
    for place, byte in changes:
        if place < len(made):
            made[place] = byte
        elif made:
            del made[place % len(made)]
    return bytes(made)


def told(work: Callable[[], object]) -> None:
    """Do what a door does; a fault is the client's."""
    found = None
    try:
        work()
    except Fault as fault:
        found = fault
    if found is not None:
        assert found.status < 500 or found.status in (501, 503), found.text
        assert found.text.encode()


def echoed(asked: Asked, ports: Sequence[Port]) -> Answer:
    """Answer as a model would that gives back what it got."""
    found, _ = matched(
        asked, ports, [port for port in OUTPUTS if port.name[0] in {each.name for each in ports}], batched=True
    )
    policy(asked.parameters)
    for name, value in found.items():
        assert value.shape[1:] == (2,), name
    return Answer("m", "1", asked.id, {f"{name}_out": value for name, value in found.items()}, {"late": False, "x": 1})


@pytest.fixture(scope="module")
def memory(tmp_path_factory: pytest.TempPathFactory) -> Memory:
    folder, root = tmp_path_factory.mktemp("noted"), tmp_path_factory.mktemp("shm")
    (root / "r").write_bytes(bytes(64))
    regions = Regions(folder, root)
    regions.register("f", "r", 0, 64, owner="", client="127.0.0.1")
    return Memory(regions, "", lambda num_bytes: None)


def ports_of(body: object) -> Sequence[Port]:
    listed = body.get("inputs") if isinstance(body, dict) else None
    return SINGLE if isinstance(listed, list) and len(listed) == 1 else PORTS


def spoken_to(
    verb: str, body: bytes, ports: Sequence[Port], *, head: int | None = None, at: Memory | None = None
) -> None:
    def work() -> None:
        asked, write = spoken(verb, head, at)(body, ports)
        write(echoed(asked, ports))

    told(work)


@often
@given(bodies, flips, st.booleans())
def test_requests_of_v2(memory: Memory, body: Any, changes: list[tuple[int, int]], with_memory: bool) -> None:
    text = flipped(json.dumps(body).encode("utf-8", "surrogatepass"), changes)
    spoken_to("infer", text, ports_of(body), at=memory if with_memory else None)


@often
@given(bodies, st.binary(max_size=40), st.integers(-2, 2), flips)
def test_requests_of_v2_with_binary_tensors(
    memory: Memory, body: Any, tail: bytes, off: int, changes: list[tuple[int, int]]
) -> None:
    text = flipped(json.dumps(body).encode(), changes)
    spoken_to("infer", text + tail, ports_of(body), head=max(0, len(text) + off), at=memory)


@often
@given(predicted, flips)
def test_requests_of_v1(body: Any, changes: list[tuple[int, int]]) -> None:
    for ports in (PORTS, SINGLE):
        spoken_to("predict", flipped(json.dumps(body).encode(), changes), ports)


@often
@given(generated, flips, st.sampled_from(["generate", "generate_stream"]))
def test_requests_to_generate(body: Any, changes: list[tuple[int, int]], verb: str) -> None:
    for ports in (PORTS, SINGLE):
        spoken_to(verb, flipped(json.dumps(body).encode(), changes), ports)


def filled(message: Any, body: Mapping[str, Any], raw: Sequence[bytes]) -> None:
    """Write what can be written of a body into a protobuf message."""
    message.model_name, message.id = "m", str(body.get("id", ""))[:20].encode("utf-8", "replace").decode()
    for side, made in (("inputs", message.inputs), ("outputs", message.outputs)):
        listed = body.get(side)
        for each in listed if isinstance(listed, list) else ():
            if isinstance(each, dict):
                tensor(made.add(), each)
    for name, value in (body.get("parameters") or {}).items() if isinstance(body.get("parameters"), dict) else ():
        put(message.parameters[name], value)
    message.raw_input_contents.extend(raw)


def tensor(made: Any, each: Mapping[str, Any]) -> None:
    for field in ("name", "datatype"):
        value = each.get(field)
        if hasattr(made, field) and isinstance(value, str):
            setattr(made, field, value.encode("utf-8", "replace").decode())
    shape = each.get("shape")
    if hasattr(made, "shape") and isinstance(shape, list):
        made.shape.extend(size for size in shape if type(size) is int and -(2**63) <= size < 2**63)
    if isinstance(each.get("parameters"), dict):
        for name, value in each["parameters"].items():
            put(made.parameters[name], value)
    if hasattr(made, "contents") and isinstance(data := each.get("data"), list):
        for value in data:
            content(made.contents, value)


def content(made: Any, value: Any) -> None:
    if isinstance(value, bool):
        made.bool_contents.append(value)
    elif isinstance(value, int) and -(2**31) <= value < 2**31:
        made.int_contents.append(value)
        made.int64_contents.append(value)
        made.uint_contents.append(abs(value))
    elif isinstance(value, float):
        made.fp32_contents.append(value if math.isfinite(value) and abs(value) < 1e30 else 0.0)
    elif isinstance(value, str):
        made.bytes_contents.append(value.encode("utf-8", "surrogatepass"))


def put(parameter: Any, value: Any) -> None:
    if isinstance(value, bool):
        parameter.bool_param = value
    elif isinstance(value, int) and -(2**63) <= value < 2**63:
        parameter.int64_param = value
    elif isinstance(value, float):
        parameter.double_param = value
    elif isinstance(value, str):
        parameter.string_param = value.encode("utf-8", "replace").decode()


messages = st.tuples(
    bodies.filter(lambda body: isinstance(body, dict)), st.lists(st.binary(max_size=20), max_size=6), flips
)


def written(body: Mapping[str, Any], raw: Sequence[bytes], changes: Sequence[tuple[int, int]]) -> bytes:
    message = pb.ModelInferRequest()
    filled(message, body, raw)
    return flipped(message.SerializeToString(), changes)


@often
@given(messages)
def test_messages_of_grpc(memory: Memory, given_: tuple[Any, list[bytes], list[tuple[int, int]]]) -> None:
    sent = written(*given_)
    identity_of(sent, pb.ModelInferRequest)

    def work() -> None:
        try:
            small, raw = cut(sent)
            request = pb.ModelInferRequest.FromString(small)
        except (ValueError, DecodeError):
            return
        ports = SINGLE if len(request.inputs) == 1 else PORTS
        asked = asked_of(request, raw, ports, memory)
        response_of(echoed(asked, ports), asked, pb.ModelInferResponse).SerializeToString()

    told(work)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with house("plain", "many") as found:
        yield found


paths = st.lists(
    st.one_of(
        st.sampled_from(["v1", "v2", "models", "plain", "many", "versions", "1", "infer", "generate", "plain:predict"]),
        st.sampled_from(
            ["repository", "index", "load", "unload", "config", "stats", "ready", "health", "live", "trace"]
        ),
        st.sampled_from(
            ["systemsharedmemory", "region", "register", "status", "cudasharedmemory", "setting", "logging"]
        ),
        st.text("abc%./?:;=&~\u00e9", max_size=6),
    ),
    max_size=7,
)
headers = st.dictionaries(
    st.sampled_from(
        [
            "Inference-Header-Content-Length",
            "Content-Encoding",
            "Accept-Encoding",
            "Traceparent",
            "X-Request-Id",
            "Origin",
        ]
    ),
    st.one_of(
        st.sampled_from(["0", "9", "gzip", "deflate", "identity", "gzip, br;q=0"]),
        st.text("0123456789a,;=-", max_size=9),
    ),
    max_size=3,
)


@settings(often, max_examples=often.max_examples // 2)
@given(
    st.sampled_from(["GET", "POST", "HEAD", "PUT", "DELETE", "OPTIONS"]),
    paths,
    st.one_of(bodies, predicted),
    headers,
    flips,
)
def test_paths_and_headers(
    server: House, method: str, path: list[str], body: Any, given_: dict[str, str], changes: list[tuple[int, int]]
) -> None:
    where = "/" + "/".join(each.encode("ascii", "ignore").decode() for each in path)
    sent = flipped(json.dumps(body).encode(), changes) if method in ("POST", "PUT") else None
    status, answer, _ = server.raw(method, where.replace("?", "%3f"), sent, given_)
    assert status < 500 or status in (501, 503), (status, answer)


@settings(often, max_examples=often.max_examples // 2)
@given(messages, st.sampled_from(["plain", "many"]))
def test_raw_messages_to_a_server(
    server: House, given_: tuple[Any, list[bytes], list[tuple[int, int]]], name: str
) -> None:
    grpc = pytest.importorskip("grpc")
    body, raw, changes = given_
    sent = written(body, raw, changes).replace(b"\x0a\x01m", b"\x0a" + bytes([len(name)]) + name.encode(), 1)
    with grpc.insecure_channel(server.addresses.grpc) as channel:
        for method in (
            "ModelInfer",
            "RepositoryModelLoad",
            "ModelConfig",
            "ModelStatistics",
            "SystemSharedMemoryRegister",
        ):
            call = channel.unary_unary(f"/inference.GRPCInferenceService/{method}")
            code, details = status_of(lambda: call(sent, timeout=20))  # noqa: B023
            assert code != "UNKNOWN", (method, details)
            assert code != "INTERNAL" or "deserializing" in details, (method, details)


def status_of(call: Callable[[], object]) -> tuple[str, str]:
    """Make a call → the name of its status, and what it says."""
    import grpc

    try:
        call()
    except grpc.RpcError as error:
        return error.code().name, error.details()
    return "OK", ""


@often
@given(
    st.dictionaries(
        st.sampled_from(
            [
                "name",
                "max_batch_size",
                "input",
                "output",
                "version_policy",
                "dynamic_batching",
                "parameters",
                "instance_group",
                "platform",
                "backend",
                "optimization",
                "default_model_filename",
            ]
        ),
        anything,
        max_size=5,
    )
)
def test_configurations(body: dict[str, Any]) -> None:
    with suppress(AmbleError, ValueError):
        parse_config(body)
