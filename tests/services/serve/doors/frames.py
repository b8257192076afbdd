"""A client of HTTP/2 that sends whatever frames it is told to."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np

from amble.services.serve.doors.hpack import Decoder, Headers, literal
from amble.services.serve.doors.outgoing import AWAY, DATA, HEADERS, SETTINGS, frame
from tests.services.serve.house import House

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
STREAM = "/inference.GRPCInferenceService/ModelStreamInfer"
INFER = "/inference.GRPCInferenceService/ModelInfer"
END_STREAM, END_HEADERS = 1, 4


class Frame(NamedTuple):
    """One frame from the server."""

    kind: int
    flags: int
    stream: int
    payload: bytes


class Client:
    """One connection."""

    def __init__(self, opened: socket.socket) -> None:
        self.socket = opened
        self.decoder = Decoder(1 << 16)
        self._unread = b""

    def send(self, *frames: bytes) -> None:
        self.socket.sendall(b"".join(frames))

    def frames(self) -> Iterator[Frame]:
        """Give what comes until the server closes."""
        while True:
            while len(self._unread) >= 9:
                size = int.from_bytes(self._unread[:3], "big")
                if len(self._unread) < 9 + size:
                    break
                kind, flags, stream = struct.unpack(">BBI", self._unread[3:9])
                payload, self._unread = self._unread[9 : 9 + size], self._unread[9 + size :]
                yield Frame(kind, flags, stream, payload)
            try:
                came = self.socket.recv(1 << 16)
            except ConnectionError:
                return
            if not came:
                return
            self._unread += came

    def until(self, kind: int, stream: int | None = None) -> Frame:
        """Return the next frame of a kind."""
        return next(each for each in self.frames() if each.kind == kind and stream in (None, each.stream))

    def away(self) -> tuple[int, str]:
        """Return the code and the reason that the server gives when it wants no more of this connection."""
        payload = self.until(AWAY).payload
        return struct.unpack(">I", payload[4:8])[0], payload[8:].decode()

    def answer(self, stream: int = 1) -> tuple[Headers, bytes]:
        """Return the headers and trailers of an answer together, and its body."""
        told: Headers = ()
        body = b""
        for each in self.frames():
            if each.stream != stream:
                continue
            if each.kind == HEADERS:
                told += self.decoder.read(each.payload)
            elif each.kind == DATA:
                body += each.payload
            if each.flags & END_STREAM:
                return told, body
        raise AssertionError("the server closed before it had answered")


@contextmanager
def client(found: House, *settings: tuple[int, int], greet: bool = True) -> Iterator[Client]:
    """Connect to the door of gRPC."""
    host, _, port = str(found.addresses.grpc).rpartition(":")
    with socket.create_connection((host, int(port)), 20) as opened:
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        made = Client(opened)
        if greet:
            told = b"".join(struct.pack(">HI", name, value) for name, value in settings)
            made.send(PREFACE, frame(SETTINGS, 0, 0, told))
        yield made


def head(stream: int, path: str = INFER, *more: tuple[bytes, bytes], flags: int = END_HEADERS) -> bytes:
    """Write the headers of a call."""
    told = (
        (b":method", b"POST"), (b":scheme", b"http"), (b":path", path.encode()),
        (b"content-type", b"application/grpc"), (b"te", b"trailers"), *more,
    )  # fmt: skip
    return frame(HEADERS, flags, stream, b"".join(literal(name, value) for name, value in told))


def prefixed(message: bytes) -> bytes:
    return b"\0" + struct.pack(">I", len(message)) + message


def message(rows: int = 1, model: str = "plain") -> bytes:
    """Write a request of so many rows, 0 1, 2 3, and so on."""
    from tritonclient.grpc import service_pb2

    values = np.arange(2 * rows, dtype=np.float32)
    made = service_pb2.ModelInferRequest(model_name=model, raw_input_contents=[values.tobytes()])
    made.inputs.add(name="x", datatype="FP32", shape=[rows, 2])
    return bytes(made.SerializeToString())


def values(body: bytes) -> list[float]:
    """Return the numbers of an answer."""
    from tritonclient.grpc import service_pb2

    size = int.from_bytes(body[1:5], "big")
    assert len(body) == 5 + size
    made = service_pb2.ModelInferResponse.FromString(body[5:])
    return [float(each) for each in np.frombuffer(made.raw_output_contents[0], np.float32)]
