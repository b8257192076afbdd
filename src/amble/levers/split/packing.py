"""What crosses, packed by gzip or not, whichever is sooner there as measured: packing takes time, too.

Content codings are HTTP's own (RFC 9110, 8.4); only a server that has answered a packed probe rightly is sent any.
Tensors in FP32 hardly shrink, those in INT8 after a ReLU often do. How much, and how long it takes, is measured on
every so many requests.
"""

from __future__ import annotations

import time
import zlib
from dataclasses import dataclass, replace

from amble.runtimes.remote.client import Body

__all__ = ["Packer", "packed"]

_LEVEL = 1  # quick rather than small
_AGAIN = 50  # requests after which what was not worth it is tried again
_LEAST_BYTES = 512


@dataclass(frozen=True, slots=True)
class Packer:
    """What is known of packing one pair's tensors: the share that is left, the time [s] it takes, and since when."""

    ratio: float = 1.0
    pack_s: float = 0.0
    age: int = _AGAIN

    def sent(self, body: Body, rate_bit_s: float) -> tuple[Body, Packer]:
        """Return a body as it is to be sent at this rate, and what is known now."""
        plain_bytes = len(body.content)
        if plain_bytes < _LEAST_BYTES:
            return body, self
        if self.age < _AGAIN and not self._pays(plain_bytes, rate_bit_s):
            return body, replace(self, age=self.age + 1)
        began_s = time.perf_counter()
        small = packed(body)
        found = Packer(len(small.content) / plain_bytes, time.perf_counter() - began_s, 0)
        return (small if found._pays(plain_bytes, rate_bit_s) else body), found

    def _pays(self, plain_bytes: int, rate_bit_s: float) -> bool:
        return self.pack_s < (1.0 - self.ratio) * 8.0 * plain_bytes / rate_bit_s


def packed(body: Body) -> Body:
    """Return a body packed by gzip."""
    packer = zlib.compressobj(_LEVEL, wbits=31)
    content = packer.compress(body.content) + packer.flush()
    return Body(content, {**body.headers, "Content-Encoding": "gzip"})
