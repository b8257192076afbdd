"""The two ends that measure a link: echoes of datagrams, and a stream of bytes that is timed.

python -m bench.hosts.ends echo          on one host: UDP 7000 echoes, TCP 7001 swallows and answers one byte
python -m bench.hosts.ends ask N GAP_S   on the other: N datagrams, so far apart → their round trips, as JSON
python -m bench.hosts.ends send BYTES    … so many bytes in one stream → the time that they took
"""

from __future__ import annotations

import json
import selectors
import socket
import struct
import sys
import time

from bench.hosts.hosts import ADDRESSES
from bench.hosts.relay import ahead_of_others

__all__ = ["main"]

_UDP, _TCP = 7000, 7001
_FAR = ADDRESSES["far"]
_LAST_S = 1.0


def echo() -> None:
    """Answer until ended."""
    datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    datagrams.bind((_FAR, _UDP))
    streams = socket.create_server((_FAR, _TCP))
    print("ready", flush=True)
    watched = selectors.DefaultSelector()
    for each in (datagrams, streams):
        watched.register(each, selectors.EVENT_READ)
    while True:
        for key, _ in watched.select():
            if key.fileobj is datagrams:
                content, sender = datagrams.recvfrom(2048)
                datagrams.sendto(content, sender)
            else:
                _swallow(streams)


def _swallow(streams: socket.socket) -> None:
    stream, _ = streams.accept()
    with stream:
        left = struct.unpack("!Q", stream.recv(8, socket.MSG_WAITALL))[0]
        while left:
            got = len(stream.recv(65536))
            if not got:
                return
            left -= got
        stream.sendall(b"!")


def ask(count: int, gap_s: float) -> dict[str, object]:
    """Return the round trips [s] of datagrams that came back, and the order in which they did."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
        datagrams.setblocking(False)
        sent_s: dict[int, float] = {}
        trips_s: list[float] = []
        order: list[int] = []
        next_s, number = time.monotonic(), 0
        last_s = next_s + count * gap_s + _LAST_S
        while (now_s := time.monotonic()) < last_s and len(trips_s) < count:
            if number < count and now_s >= next_s:
                sent_s[number] = now_s
                datagrams.sendto(struct.pack("!Q", number) + bytes(92), (_FAR, _UDP))
                number, next_s = number + 1, next_s + gap_s
            try:
                content = datagrams.recv(2048)
            except BlockingIOError:
                time.sleep(5e-5)
                continue
            back = struct.unpack("!Q", content[:8])[0]
            trips_s.append(time.monotonic() - sent_s[back])
            order.append(back)
    return {"trips_s": trips_s, "order": order}


def send(num_bytes: int) -> dict[str, object]:
    """Return the time [s] from the first byte until the other end has said that it has all."""
    with socket.create_connection((_FAR, _TCP)) as stream:
        begun_s = time.monotonic()
        stream.sendall(struct.pack("!Q", num_bytes))
        stream.sendall(bytes(num_bytes))
        stream.recv(1, socket.MSG_WAITALL)
        return {"took_s": time.monotonic() - begun_s}


def main(words: list[str]) -> None:
    """Be the end that is asked for."""
    ahead_of_others()
    if words[0] == "echo":
        echo()
    elif words[0] == "ask":
        print(json.dumps(ask(int(words[1]), float(words[2]))), flush=True)
    else:
        print(json.dumps(send(int(words[1]))), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
