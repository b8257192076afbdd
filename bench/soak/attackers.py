"""Kinds of attackers of a server that speaks TLS, each a coroutine that goes on until it is cancelled.

All of them come from 127.0.0.2, so that a server can tell them from honest clients. What the server closes is opened
anew after a short rest.
"""

from __future__ import annotations

import asyncio
import random
import ssl
import subprocess
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass

__all__ = ["KINDS", "Attack", "Target", "again_and_again", "hello"]

_FROM = ("127.0.0.2", 0)
_REST_S = 0.05
_SLOW_S = 0.2


@dataclass(frozen=True, slots=True)
class Target:
    """Where a server listens, and what its certificate is trusted by."""

    port: int
    context: ssl.SSLContext


Attack = Callable[[Target, random.Random], Awaitable[None]]
"""One attacker's one attempt."""


def hello() -> bytes:
    """Return what a client says first."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    context = ssl.create_default_context()
    with suppress(ssl.SSLWantReadError):
        context.wrap_bio(incoming, outgoing, server_hostname="localhost").do_handshake()
    return outgoing.read()


async def _plain(target: Target) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection("127.0.0.1", target.port, local_addr=_FROM)


async def _until_closed(reader: asyncio.StreamReader) -> None:
    while await reader.read(1 << 16):
        pass


async def half_open(target: Target, rng: random.Random) -> None:
    """Connect and say nothing, or only hello."""
    reader, writer = await _plain(target)
    try:
        if rng.random() < 0.5:
            writer.write(hello())
        await _until_closed(reader)
    finally:
        writer.transport.abort()


async def slow(target: Target, rng: random.Random) -> None:
    """Say hello a few bytes at a time."""
    reader, writer = await _plain(target)
    closed = asyncio.ensure_future(_until_closed(reader))
    try:
        text, place = hello(), 0
        while place < len(text) and not closed.done():
            step = rng.randint(1, 4)
            writer.write(text[place : place + step])
            place += step
            await asyncio.sleep(_SLOW_S)
        await closed
    finally:
        closed.cancel()
        writer.transport.abort()


async def idle(target: Target, rng: random.Random) -> None:
    """Shake hands and ask for nothing."""
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", target.port, local_addr=_FROM, ssl=target.context, server_hostname="localhost"
    )
    try:
        await _until_closed(reader)
    finally:
        writer.transport.abort()


async def garbage(target: Target, rng: random.Random) -> None:
    """Send nonsense: at once, after hello, as records of TLS, or inside of it."""
    kind, nonsense = rng.randrange(4), rng.randbytes(rng.randint(1, 4096))
    if kind == 3:
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", target.port, local_addr=_FROM, ssl=target.context, server_hostname="localhost"
        )
    else:
        reader, writer = await _plain(target)
    try:
        record = bytes([rng.choice((20, 21, 22, 23, 24)), 3, 3]) + len(nonsense).to_bytes(2, "big")
        writer.write({0: b"", 1: hello(), 2: record, 3: b""}[kind] + nonsense)
        await _until_closed(reader)
    finally:
        writer.transport.abort()


async def renegotiating(target: Target, rng: random.Random) -> None:
    """Ask for new keys again and again, as TLS 1.2 has it."""
    words = (
        "s_client",
        "-connect",
        f"127.0.0.1:{target.port}",
        "-bind",
        "127.0.0.2",
        "-tls1_2",
        "-quiet",
        "-no_ign_eof",
    )
    running = await asyncio.create_subprocess_exec(
        "openssl", *words, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        assert running.stdin is not None
        for _ in range(1000):
            running.stdin.write(b"R\n")
            await running.stdin.drain()
            await asyncio.sleep(0.005)
            if running.returncode is not None:
                break
    finally:
        if running.returncode is None:
            running.kill()
        await running.wait()


KINDS: dict[str, tuple[Attack, int]] = {
    "half-open handshakes": (half_open, 1000),
    "slow handshakes": (slow, 200),
    "idle connections": (idle, 2000),
    "garbage": (garbage, 50),
    "renegotiation": (renegotiating, 2),
}
"""Each kind, and how many of them work at once."""


async def again_and_again(attack: Attack, target: Target, seed: int) -> None:
    """Attack until cancelled."""
    rng = random.Random(seed)  # noqa: S311
    while True:
        with suppress(OSError, ssl.SSLError, asyncio.IncompleteReadError, TimeoutError):
            await attack(target, rng)
        await asyncio.sleep(_REST_S)
