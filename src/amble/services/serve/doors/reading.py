"""Large requests are read in threads of their own, a few at a time, so that the loop goes on serving the small ones."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from amble.runtimes.remote import limits
from amble.runtimes.remote.fault import Fault
from amble.services.serve.process import set_niceness

__all__ = ["Readers", "is_small"]

T = TypeVar("T")

_THREADS = 2
_MOST_WAITING = 64


class Readers:
    """Some threads, and a short queue before them in which no client has more than half of the places left."""

    def __init__(self, niceness: int = 0) -> None:
        self._pool = ThreadPoolExecutor(
            _THREADS, thread_name_prefix="amble-read", initializer=set_niceness, initargs=(niceness,)
        )
        self._waiting: dict[str, int] = {}

    async def read(self, client: str, work: Callable[[], T]) -> T:
        """Do some work of a client's; Fault when too much of it waits already."""
        own = self._waiting.get(client, 0) + 1
        if own > _MOST_WAITING - sum(self._waiting.values()) - 1:
            raise Fault(503, "too many large requests are being read: try again later, or send less at a time")
        self._waiting[client] = own
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, work)
        finally:
            self._waiting[client] -= 1
            if not self._waiting[client]:
                del self._waiting[client]

    def close(self) -> None:
        """Finish what is being read, and read no more."""
        self._pool.shutdown(wait=False, cancel_futures=True)


def is_small(body: bytes | bytearray | memoryview, header_length: int | None, *, shared: bool = False) -> bool:
    """Tell whether a body is read in no time: little JSON, and no long texts behind it.

    ``shared``: it may name tensors in shared memory, which are as large as they are.
    """
    if shared and b"shared_memory_region" in bytes(body[: limits.INLINE_BYTES]):
        return False
    if len(body) <= limits.INLINE_BYTES:
        return True
    if header_length is None or header_length > limits.INLINE_BYTES:
        return False
    return b"BYTES" not in bytes(body[:header_length])
