"""Calls of gRPC: what their headers say; messages packed, late, too large or none; deadlines; clients that go."""

from __future__ import annotations

import asyncio
import time
import zlib
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from amble.services.serve.doors.crowd import Crowd
from amble.services.serve.doors.hpack import literal
from amble.services.serve.doors.http2 import Connection
from amble.services.serve.doors.http2 import House as Shared
from amble.services.serve.doors.outgoing import DATA, HEADERS, RESET, WINDOW, frame
from amble.services.serve.doors.reading import Readers
from amble.services.serve.doors.rpc import Method, Service
from amble.services.serve.front import Doors
from amble.services.serve.requests.quota import Quota, Reservation
from tests.services.serve.doors.frames import INFER, STREAM, Client, client, head, message, prefixed, values
from tests.services.serve.house import Doubler, House, house

grpc = pytest.importorskip("grpc")
triton = pytest.importorskip("tritonclient.grpc")

DOORS = Doors(http_port=0, grpc_port=0, metrics_port=0, body_s=1.0, max_bytes=1 << 20, room_bytes=4 << 20)
ONE = prefixed(message())
GZIP = (b"grpc-encoding", b"gzip")


@pytest.fixture(scope="module")
def open_house() -> Iterator[House]:
    with house("plain", "wide", doors=DOORS) as found:
        yield found


def packed(text: bytes, wbits: int = 31) -> bytes:
    made = zlib.compressobj(wbits=wbits)
    whole = made.compress(text) + made.flush()
    return b"\1" + len(whole).to_bytes(4, "big") + whole


def last(body: bytes) -> bytes:
    return frame(DATA, 1, 1, body)


REFUSED: dict[str, tuple[int, str, bytes]] = {
    "an unknown method": (12, "/none: there is no such method", head(1, "/none") + last(ONE)),
    "what is no call": (12, "POST application/grpc", frame(HEADERS, 5, 1, b"\x82\x84\x86")),
    "gRPC for browsers": (
        12,
        "POST application/grpc",
        frame(HEADERS, 4, 1, b"\x83\x86\x84" + literal(b"content-type", b"application/grpc-web+proto")) + last(ONE),
    ),
    "an unknown coding": (12, "'zstd': use gzip", head(1, INFER, (b"grpc-encoding", b"zstd")) + last(ONE)),
    "a deadline that is none": (3, "'soon' is no time", head(1, INFER, (b"grpc-timeout", b"soon")) + last(ONE)),
    "large headers": (8, "larger than 32768", head(1, INFER, *((b"x", b"y" * 100),) * 280) + last(ONE)),
    "no message": (3, "before its message did", head(1) + last(b"")),
    "half a message": (3, "before its message did", head(1) + last(ONE[:-1])),
    "half of what says how long": (3, "before its message did", head(1) + last(b"\0\0")),
    "two messages": (3, "more than one", head(1) + last(ONE + ONE)),
    "a message too large": (8, "larger than 1048576", head(1) + last(b"\0\x7f\0\0\0")),
    "packed and no coding": (3, "no grpc-encoding", head(1) + last(packed(b"x"))),
    "packed rubbish": (3, "not gzip", head(1, INFER, GZIP) + last(b"\1\0\0\0\2xx")),
    "much in few bytes": (8, "larger than 1048576", head(1, INFER, GZIP) + last(packed(bytes(1 << 22)))),
    "another message": (
        3,
        "ModelReady",
        head(1, "/inference.GRPCInferenceService/ModelReady") + last(prefixed(b"\xff")),
    ),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_wrong_has_a_status_and_a_reason_and_the_connection_serves_on(open_house: House, kind: str) -> None:
    status, reason, sent = REFUSED[kind]
    with client(open_house) as one:
        one.send(sent)
        found = {name.decode(): value.decode() for name, value in one.answer()[0]}
        assert (found[":status"], found["grpc-status"]) == ("200", str(status))
        assert reason in found["grpc-message"]
        one.send(head(3), frame(DATA, 1, 3, ONE))
        assert values(one.answer(3)[1]) == [0.0, 2.0]


def test_a_refusal_comes_before_all_of_the_message_has(open_house: House) -> None:
    with client(open_house) as one:
        one.send(head(1), frame(DATA, 0, 1, b"\0\x7f\0\0\0"))
        assert dict(one.answer()[0])[b"grpc-status"] == b"8"
        assert one.until(RESET).payload == bytes(4)
        one.send(frame(DATA, 1, 1, bytes(1000)), head(3), frame(DATA, 1, 3, ONE))
        assert values(one.answer(3)[1]) == [0.0, 2.0]


def test_reasons_in_any_script_arrive_whole(open_house: House) -> None:
    with grpc.insecure_channel(open_house.addresses.grpc) as channel, pytest.raises(grpc.RpcError) as error:
        channel.unary_unary(INFER)(message(model="größer 100%\n"), timeout=20)
    assert "'größer 100%\\n'" in error.value.details()


def test_a_long_reason_is_cut_off_so_that_clients_take_it(open_house: House) -> None:
    with client(open_house) as one, grpc.insecure_channel(open_house.addresses.grpc) as channel:
        one.send(head(1), last(prefixed(message(model="模" * 4000))))
        assert len(one.until(HEADERS, 1).payload) < 8000
        with pytest.raises(grpc.RpcError) as error:
            channel.unary_unary(INFER)(message(model="模" * 4000), timeout=20)
        assert error.value.code() == grpc.StatusCode.NOT_FOUND
        assert "模" * 600 in error.value.details()


def test_a_reason_that_is_no_text_is_told_all_the_same() -> None:
    doors = Doors(http_port=0, grpc_port=0, metrics_port=0, control=True)
    with house("plain", doors=doors) as found, grpc.insecure_channel(found.addresses.grpc) as channel:
        asked = triton.service_pb2.RepositoryModelLoadRequest(model_name="plain")
        asked.parameters["config"].string_param = '{"\\ud800": 1}'
        with pytest.raises(grpc.RpcError) as error:
            triton.service_pb2_grpc.GRPCInferenceServiceStub(channel).RepositoryModelLoad(asked, timeout=5)
        assert error.value.code() == grpc.StatusCode.INVALID_ARGUMENT


def test_one_client_cannot_have_all_calls() -> None:
    async def run() -> None:
        waits = Method(lambda given, call: given, None, bytes, many_in=True, many_out=True)
        room, readers = Quota(), Readers()
        service = Service(
            {"/": waits}, lambda told: None, lambda name: Reservation(room, name), readers, 100, calls=Crowd(8)
        )
        shared = Shared(service.begin, Crowd(10), 100)
        made = {name: Connection(shared) for name in "ab"}
        for name, each in made.items():
            each.client = name
        asked = ((b":method", b"POST"), (b":path", b"/"), (b"content-type", b"application/grpc"))
        taken = [service.begin(made["a"], number, asked, False) for number in range(1, 17, 2)]
        assert [each is not None for each in taken] == [True] * 4 + [False] * 4
        assert service.begin(made["b"], 1, asked, False) is not None
        for call in taken[:2]:
            assert call is not None
            call.gone()
        assert service.begin(made["a"], 21, asked, False) is not None
        for each in made.values():
            each.connection_lost(None)
        assert not service.calls.total
        readers.close()

    asyncio.run(run())


def test_messages_with_nothing_in_them_take_room_too(open_house: House) -> None:
    with client(open_house, (4, 0)) as one:
        one.send(head(1, STREAM), *(frame(DATA, 0, 1, bytes(16000)) for _ in range(20)))
        one.send(frame(WINDOW, 0, 1, (1 << 20).to_bytes(4, "big")))
        assert b"too much in flight" in dict(one.answer()[0])[b"grpc-message"]


def test_the_rest_of_a_later_message_is_waited_for_some_time(open_house: House) -> None:
    with client(open_house) as one:
        one.send(head(1, STREAM), frame(DATA, 0, 1, ONE + ONE[:-1]))
        assert b"did not come within 1 s" in dict(one.answer()[0])[b"grpc-message"]
    with client(open_house) as one:
        one.send(head(1, STREAM), frame(DATA, 0, 1, ONE))
        time.sleep(2.0)
        one.send(frame(DATA, 1, 1, ONE))
        assert dict(one.answer()[0])[b"grpc-status"] == b"0"


@pytest.mark.parametrize("rest", [ONE[:-1], b"\0\0"])
def test_a_stream_that_ends_in_the_midst_of_a_message_is_told_so(open_house: House, rest: bytes) -> None:
    with client(open_house) as one:
        one.send(head(1, STREAM), frame(DATA, 0, 1, ONE))
        one.until(DATA, 1)
        one.send(frame(DATA, 1, 1, rest))
        told = dict(one.answer()[0])
        assert (told[b"grpc-status"], told[b"grpc-message"]) == (b"3", b"the call ended before its message did")


@pytest.mark.parametrize("coding", ["Gzip", "Deflate"])
def test_packed_messages_are_read(open_house: House, coding: str) -> None:
    stub = triton.service_pb2_grpc.GRPCInferenceServiceStub
    with grpc.insecure_channel(open_house.addresses.grpc, compression=getattr(grpc.Compression, coding)) as channel:
        asked = triton.service_pb2.ModelInferRequest.FromString(message(4000, "wide"))
        assert len(stub(channel).ModelInfer(asked, timeout=20).raw_output_contents[0]) == 32_000


def test_a_message_that_does_not_come_is_waited_for_some_time(open_house: House) -> None:
    with client(open_house) as one:
        began_s = time.monotonic()
        one.send(head(1), frame(DATA, 0, 1, ONE[:-1]))
        found = dict(one.answer()[0])
        assert found[b"grpc-status"] == b"4"
        assert b"did not come within 1 s" in found[b"grpc-message"]
        assert 0.9 < time.monotonic() - began_s < 10.0


def test_a_deadline_ends_a_call_that_is_being_computed() -> None:
    doubler = Doubler()
    with house("plain", doubler=doubler, doors=DOORS) as found:
        doubler.gate.clear()
        with client(found) as one:
            one.send(head(1, INFER, (b"grpc-timeout", b"300m")), last(ONE))
            assert dict(one.answer()[0])[b"grpc-status"] == b"4"
            found.wait_for_pending(0)
        doubler.gate.set()


@pytest.mark.parametrize("how", ["resets", "hangs up"])
def test_what_a_client_asked_for_is_taken_back_when_it_goes(how: str) -> None:
    doubler = Doubler()
    with house("plain", doubler=doubler, doors=DOORS) as found:
        doubler.gate.clear()
        with client(found) as one:
            one.send(head(1), last(ONE))
            assert doubler.begun.wait(20.0)
            one.send(head(3), frame(DATA, 1, 3, ONE), head(5, STREAM), frame(DATA, 0, 5, ONE))
            found.wait_for_pending(3)
            if how == "resets":
                one.send(*(frame(RESET, 0, stream, bytes(4)) for stream in (1, 3, 5)))
                found.wait_for_pending(0)
        found.wait_for_pending(0)
        doubler.gate.set()
        assert found.infer([1.0, 2.0])[0] == 200
    assert doubler.batches in ([1, 1], [1])


def test_room_is_taken_by_what_has_come_and_given_back(open_house: House) -> None:
    half = prefixed(message(60_000, "wide"))
    with client(open_house, (4, 1 << 30)) as one:
        for stream in range(1, 21, 2):  # ten times 480 kB of 4 MB, of which a client may have half
            one.send(head(stream))
            for start in range(0, len(half) - 16384, 16384):
                one.send(frame(DATA, 0, stream, half[start : start + 16384]))
        refused = next(each for each in one.frames() if each.kind == HEADERS and each.flags & 1)
        assert b"too much in flight" in dict(one.decoder.read(refused.payload))[b"grpc-message"]
    with client(open_house, (4, 1 << 30)) as one:
        one.send(frame(WINDOW, 0, 0, (1 << 30).to_bytes(4, "big")))
        until_s = time.monotonic() + 10.0
        for stream in range(1, 2000, 2):
            one.send(
                head(stream), *(frame(DATA, 0, stream, half[at : at + 16384]) for at in range(0, len(half), 16384))
            )
            one.send(frame(DATA, 1, stream, b""))
            if dict(one.answer(stream)[0])[b"grpc-status"] == b"0":
                break
            assert time.monotonic() < until_s, "what hung up still has its room"


def test_answers_that_are_not_read_take_room_and_a_place_until_their_client_reads_or_goes() -> None:
    with house("plain", "wide", doors=replace(DOORS, body_s=60.0)) as found:
        sent = prefixed(message(60_000, "wide"))
        with client(found, (4, 0)) as one:  # no answer has any window
            told = [_answered_first(one, stream, sent) for stream in range(1, 21, 2)]
            assert told == [b""] * 4 + [b"14"] * 6  # of 480 kB each, of which a client may have half of 4 MB
            one.send(_opened(0), _opened(1))
            assert len(values(one.answer(1)[1])) == 120_000
            assert [_answered_first(one, stream, sent) for stream in (21, 23)] == [b"", b"14"]
        with client(found, (4, 1 << 30)) as other:
            other.send(_opened(0))
            until_s = time.monotonic() + 20.0
            for stream in range(1, 20_000, 8):
                asked = [_asked(other, number, sent) for number in range(stream, stream + 8, 2)]
                if asked == [b"0"] * 4:
                    break
                assert time.monotonic() < until_s, "answers to who has gone still have their room"


def test_answers_of_calls_whose_deadline_has_passed_take_room_until_they_are_read() -> None:
    with house("plain", "wide", doors=replace(DOORS, body_s=60.0)) as found:
        sent = prefixed(message(60_000, "wide"))
        with client(found, (4, 0)) as one:
            asked = (STREAM, (b"grpc-timeout", b"3S"))
            assert [_answered_first(one, stream, sent, *asked) for stream in range(1, 9, 2)] == [b""] * 4
            time.sleep(4.0)
            assert _answered_first(one, 9, sent, *asked) == b"14"


def _opened(stream: int) -> bytes:
    return frame(WINDOW, 0, stream, (1 << 30).to_bytes(4, "big"))


def _pieces(stream: int, sent: bytes, path: str = INFER, *more: tuple[bytes, bytes]) -> bytes:
    return head(stream, path, *more) + b"".join(
        frame(DATA, int(at + 16384 >= len(sent)), stream, sent[at : at + 16384]) for at in range(0, len(sent), 16384)
    )


def _answered_first(one: Client, stream: int, sent: bytes, path: str = INFER, *more: tuple[bytes, bytes]) -> bytes:
    """Ask, and return the status that comes first; empty: an answer begins."""
    one.send(_pieces(stream, sent, path, *more))
    return dict(one.decoder.read(one.until(HEADERS, stream).payload)).get(b"grpc-status", b"")


def _asked(one: Client, stream: int, sent: bytes) -> bytes:
    one.send(_pieces(stream, sent))
    return dict(one.answer(stream)[0])[b"grpc-status"]


def test_a_stream_gives_room_back_with_each_answer(open_house: House) -> None:
    asked = triton.service_pb2.ModelInferRequest.FromString(message(60_000, "wide"))
    with grpc.insecure_channel(open_house.addresses.grpc) as channel:
        stub = triton.service_pb2_grpc.GRPCInferenceServiceStub(channel)
        answered: list[str] = []
        for answer in stub.ModelStreamInfer(_one_by_one(asked, 30, answered), timeout=60):
            answered.append(answer.error_message)
        assert answered == [""] * 30  # 14 MB through a room of 4


def _one_by_one(asked: Any, times: int, answered: list[str]) -> Iterator[Any]:
    for number in range(times):
        while len(answered) < number:
            time.sleep(0.001)
        yield asked


def test_a_method_that_fails_unforeseen_says_so_and_the_server_lives(
    open_house: House, caplog: pytest.LogCaptureFixture
) -> None:
    open_house.doubler.fail = True
    try:
        with client(open_house) as one:
            one.send(head(1), last(ONE))
            assert dict(one.answer()[0])[b"grpc-status"] == b"13"
    finally:
        open_house.doubler.fail = False
