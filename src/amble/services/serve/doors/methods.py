"""Generated method handlers → the same, looked up by name, which tell a client that sent bytes that are no message.

A server waits for every *registered* method apart, at each call anew, so they are not registered. And where grpcio
reads a message itself, one that is none ends as an unknown error, with a traceback in the log.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import grpc
from google.protobuf.message import DecodeError

__all__ = ["Methods"]


class Methods:
    """What generated code takes for the server that it is to add its methods to."""

    def __init__(self, server: Any) -> None:
        self._server = server

    def add_generic_rpc_handlers(self, handlers: Any) -> None:
        """Leave them out: they come once more, with their names."""

    def add_registered_method_handlers(self, service: str, handlers: Mapping[str, Any]) -> None:
        """Have the server look up those that answer one message by one."""
        single = {name: _reading(each) for name, each in handlers.items() if each.unary_unary is not None}
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, single),))


def _reading(handler: Any) -> Any:
    """Return a handler that reads its messages itself."""
    answer = partial(_answered, handler.unary_unary, handler.request_deserializer)
    return grpc.unary_unary_rpc_method_handler(answer, response_serializer=handler.response_serializer)


async def _answered(
    answer: Callable[[Any, Any], Any], read: Callable[[bytes], Any], message: bytes, context: Any
) -> Any:
    try:
        request = read(message)
    except DecodeError as error:
        told = str(error)
    else:
        return await answer(request, context)
    await context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"request is no message of this method: {told}")
    return None
