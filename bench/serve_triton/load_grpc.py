"""A gRPC server's address and one message -> how many answers a second, in a closed loop over some connections.

    python bench/serve_triton/load_grpc.py PORT METHOD MESSAGE_FILE CONNECTIONS SECONDS CORE

Frames of HTTP/2, made beforehand, so that the load takes little of its core and says what the *server* can do:
a client of grpcio, with one core to itself, is slower than some servers. Windows are kept as the protocol wants. An
answer counts where it has a message: a call that failed has none. Prints answered, failed, and latencies [s].
"""

from __future__ import annotations

import json
import os
import selectors
import socket
import struct
import sys
import time
from dataclasses import dataclass, field

DATA, HEADERS, RESET, SETTINGS, PING, AWAY, WINDOW = 0, 1, 3, 4, 6, 7, 8
END_STREAM, END_HEADERS, ACK = 1, 4, 1
WIDE = 1 << 30
DRAIN_S = 5.0
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    """Write one frame."""
    return struct.pack(">I", len(payload))[1:] + bytes((kind, flags)) + struct.pack(">I", stream) + payload


def literal(name: bytes, value: bytes) -> bytes:
    """Write one header that no table remembers."""
    assert max(len(name), len(value)) < 127
    return b"\x00" + bytes((len(name),)) + name + bytes((len(value),)) + value


def head(method: str) -> bytes:
    """Write the headers of a call."""
    told = {
        b":method": b"POST", b":scheme": b"http", b":path": method.encode(), b":authority": b"localhost",
        b"te": b"trailers", b"content-type": b"application/grpc",
    }  # fmt: skip
    return b"".join(literal(name, value) for name, value in told.items())


@dataclass(slots=True)
class Connection:
    """One call at a time, again and again."""

    port: int
    headers: bytes
    body: bytes
    stream: int = -1
    frame_bytes: int = 16384
    first_window: int = 65535
    window: int = 65535  # of the connection
    own_window: int = 65535  # of the stream
    sent: int = 0
    began_s: float = 0.0
    told: bool = False  # a message has come
    waits: bool = False  # for an answer
    unread: bytearray = field(default_factory=bytearray)
    out: bytearray = field(default_factory=bytearray)
    latencies_s: list[float] = field(default_factory=list)
    failed: int = 0
    socket: socket.socket = field(init=False)

    def __post_init__(self) -> None:
        """Connect and shake hands."""
        self.greet()

    def greet(self) -> None:
        """Connect, for the first time or again."""
        self.stream, self.frame_bytes, self.first_window, self.window = -1, 16384, 65535, 65535
        self.unread.clear()
        self.out.clear()
        self.socket = socket.create_connection(("127.0.0.1", self.port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        settings = struct.pack(">HIHI", 4, WIDE, 1, 0)
        self.out += PREFACE + frame(SETTINGS, 0, 0, settings) + frame(WINDOW, 0, 0, struct.pack(">I", WIDE))
        self.socket.setblocking(False)

    def call(self) -> None:
        """Begin a call."""
        self.stream += 2
        self.own_window, self.sent, self.told, self.waits = self.first_window, 0, False, True
        self.began_s = time.perf_counter()
        self.out += frame(HEADERS, END_HEADERS, self.stream, self.headers)
        self.go_on()

    def go_on(self) -> None:
        """Send as much of the message as windows allow, and what is left of earlier."""
        while self.sent < len(self.body):
            size = min(self.frame_bytes, len(self.body) - self.sent, self.window, self.own_window)
            if size <= 0:
                break
            last = self.sent + size == len(self.body)
            piece = self.body[self.sent : self.sent + size]
            self.out += frame(DATA, END_STREAM if last else 0, self.stream, piece)
            self.sent += size
            self.window -= size
            self.own_window -= size
        self.flush()

    def flush(self) -> None:
        """Write what can be written now."""
        while self.out:
            try:
                gone = self.socket.send(self.out)
            except BlockingIOError:
                return
            except OSError:  # which reading tells, too
                self.out.clear()
                return
            del self.out[:gone]

    def read(self, *, more: bool) -> None:
        """Take what has come; begin the next call after an answer if there is to be one."""
        while True:
            try:
                came = self.socket.recv(1 << 20)
            except BlockingIOError:
                break
            if not came:
                raise ConnectionError("the server has closed the connection")
            self.unread += came
            if len(came) < 1 << 16:
                break
        at = 0
        while len(self.unread) - at >= 9:
            size = int.from_bytes(self.unread[at : at + 3], "big")
            if len(self.unread) - at - 9 < size:
                break
            kind, flags = self.unread[at + 3], self.unread[at + 4]
            stream = int.from_bytes(self.unread[at + 5 : at + 9], "big")
            self.take(kind, flags, stream, bytes(self.unread[at + 9 : at + 9 + size]), more=more)
            at += 9 + size
        del self.unread[:at]
        self.go_on()

    def take(self, kind: int, flags: int, stream: int, payload: bytes, *, more: bool) -> None:
        """Take one frame."""
        if kind == DATA and payload:
            self.told = True
            self.out += frame(WINDOW, 0, 0, struct.pack(">I", len(payload)))
        if kind == RESET or (kind in (DATA, HEADERS) and flags & END_STREAM):
            self.end()
            if more:
                self.call()
        elif not flags & ACK:
            self.heed(kind, stream, payload)

    def heed(self, kind: int, stream: int, payload: bytes) -> None:
        """Take a frame that is about the connection."""
        if kind == SETTINGS:
            for name, value in struct.iter_unpack(">HI", payload):
                if name == 4:
                    self.own_window += value - self.first_window
                    self.first_window = value
                elif name == 5:
                    self.frame_bytes = value
            self.out += frame(SETTINGS, ACK, 0, b"")
        elif kind == PING:
            self.out += frame(PING, ACK, 0, payload)
        elif kind == WINDOW:
            (size,) = struct.unpack(">I", payload)
            if stream == 0:
                self.window += size
            elif stream == self.stream:
                self.own_window += size
        elif kind == AWAY:
            raise ConnectionError("the server wants no more of this connection")

    def end(self) -> None:
        """Count an answer."""
        self.waits = False
        if self.told:
            self.latencies_s.append(time.perf_counter() - self.began_s)
        else:
            self.failed += 1


def closed(port: int, method: str, message: bytes, connections: int, seconds: float) -> dict[str, object]:
    """Run the closed loop."""
    body = b"\0" + struct.pack(">I", len(message)) + message
    own = [Connection(port, head(method), body) for _ in range(connections)]
    with selectors.DefaultSelector() as waiting:
        for each in own:
            waiting.register(each.socket, selectors.EVENT_READ, each)
        for each in own:
            each.call()
        start_s = time.perf_counter()
        while (now_s := time.perf_counter()) < start_s + seconds:
            busy = any(each.out for each in own)
            for key, _ in waiting.select(0.001 if busy else start_s + seconds - now_s):
                one: Connection = key.data
                try:
                    one.read(more=True)
                except OSError:  # the server has hung up, which is a failure; what is asked next goes elsewhere
                    waiting.unregister(one.socket)
                    one.socket.close()
                    one.failed += 1
                    one.greet()
                    one.call()
                    waiting.register(one.socket, selectors.EVENT_READ, one)
            for each in own:
                if each.out:
                    each.flush()
        took_s = time.perf_counter() - start_s
        latencies_s = [latency for each in own for latency in each.latencies_s]
        drain(own, waiting)
    for each in own:
        each.socket.close()
    failed = sum(each.failed for each in own)
    return {"answered": len(latencies_s), "failed": failed, "seconds": took_s, "latencies_s": sorted(latencies_s)}


def drain(own: list[Connection], waiting: selectors.BaseSelector) -> None:
    """Wait for what is still out, uncounted: Triton has crashed when many calls were cut off at once."""
    until_s = time.perf_counter() + DRAIN_S
    while any(each.waits for each in own) and time.perf_counter() < until_s:
        for key, _ in waiting.select(0.01):
            one: Connection = key.data
            try:
                one.read(more=False)
            except OSError:
                waiting.unregister(one.socket)
                one.waits = False
        for each in own:
            each.flush()


def main() -> None:
    """Run it and print what became of it."""
    port, method, path, connections, seconds, core = sys.argv[1:]
    os.sched_setaffinity(0, {int(core)})
    with open(path, "rb") as file:
        message = file.read()
    found = closed(int(port), method, message, int(connections), float(seconds))
    latencies_s = found.pop("latencies_s")
    assert isinstance(latencies_s, list)
    found["p50_s"] = latencies_s[len(latencies_s) // 2] if latencies_s else None
    found["p99_s"] = latencies_s[int(len(latencies_s) * 0.99)] if latencies_s else None
    print(json.dumps(found))


if __name__ == "__main__":
    main()
