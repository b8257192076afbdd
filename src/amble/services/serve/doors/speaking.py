"""What a client wants of a model, by the last word of its path → how its body is read, and its answer written."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

from amble.core.graph import Port
from amble.services.serve.doors import generating, kserve
from amble.services.serve.doors.protocol import decode, encode
from amble.services.serve.doors.shared_memory import Memory
from amble.services.serve.requests.asking import Answer, Asked

__all__ = ["VERBS", "Body", "Spoken", "Writer", "spoken", "target"]

Body = bytes | memoryview
Writer = Callable[[Answer], tuple[bytes, int | None]]
"""An answer → its body, and the length of its JSON before binary tensors."""
Spoken = Callable[[Body, Sequence[Port]], tuple[Asked, Writer]]
"""A body, and a model's inputs → the request, and what writes its answer."""
VERBS = ("infer", "generate", "generate_stream")


def target(path: Sequence[str]) -> tuple[str, str, str] | None:
    """Read what follows ``/v2/models`` → a model's name, its version (empty: the newest), the verb; None for others."""
    match path:
        case (name, verb) if verb in VERBS:
            return name, "", verb
        case (name, "versions", version, verb) if verb in VERBS:
            return name, version, verb
    return None


def spoken(verb: str, header_length: int | None, memory: Memory | None) -> Spoken:
    """Return how a request is read; only ``infer`` has binary tensors and shared memory."""
    return _OTHERS.get(verb) or partial(_inferred, header_length, memory)


def _inferred(
    header_length: int | None, memory: Memory | None, text: Body, ports: Sequence[Port]
) -> tuple[Asked, Writer]:
    """Read a request of V2, in any thread → it, and what writes its answer."""
    asked = decode(text, header_length, ports, memory)
    return asked, partial(encode, asked=asked)


def _predicted(text: Body, ports: Sequence[Port]) -> tuple[Asked, Writer]:
    """Read a request of V1, in any thread → it, and what writes its answer."""
    asked, as_rows = kserve.decode(text, ports)
    return asked, lambda answer: (kserve.encode(answer, as_rows=as_rows), None)


def _generated(write: Callable[[Answer], bytes], text: Body, ports: Sequence[Port]) -> tuple[Asked, Writer]:
    """Read a request to generate, in any thread → it, and what writes its answer."""
    return generating.decode(text, ports), lambda answer: (write(answer), None)


_OTHERS: Mapping[str, Callable[[Body, Sequence[Port]], tuple[Asked, Writer]]] = {
    "predict": _predicted,
    "generate": partial(_generated, generating.encode),
    "generate_stream": partial(_generated, generating.event),
}
