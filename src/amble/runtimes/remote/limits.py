"""How much one request may bring: refused before any work is done for it. What is beyond is no inference request.

Sizes that a model can take are checked against the model; these hold for all of them, whoever asks for what.
"""

from __future__ import annotations

__all__ = [
    "CONNECTIONS",
    "ELEMENTS",
    "FIELDS",
    "HEADER_BYTES",
    "INLINE_BYTES",
    "INPUTS",
    "JSON_BYTES",
    "OBJECTS",
    "PARAMETER_BYTES",
    "RANK",
    "SIZE",
    "TEXTS",
]

RANK = 32
"""Axes of a tensor."""
SIZE = (1 << 63) - 1
"""Elements along an axis, and of a tensor."""
INPUTS = 1024
"""Inputs, and outputs, of a request."""
ELEMENTS = 1 << 22
"""Elements of a tensor that comes as numbers one by one (in JSON, or in protobuf's typed fields)."""
TEXTS = 1 << 18
"""Elements of a tensor of BYTES."""
JSON_BYTES = 16 << 20
"""JSON of a request, without the binary tensors behind it."""
OBJECTS = 1 << 14
"""Objects (opening braces) in that JSON."""
PARAMETER_BYTES = 64 << 10
"""JSON of the parameters of a request, of an input, or of an output."""
FIELDS = 1 << 16
"""Fields of a message of protobuf, those inside its inputs included."""
HEADER_BYTES = 32 << 10
"""Headers of a request over HTTP."""
INLINE_BYTES = 64 << 10
"""What is read where it arrives; more than that is read by other threads, while the loop serves others."""
CONNECTIONS = 4096
"""Connections over HTTP and gRPC, as far as file descriptors allow."""
