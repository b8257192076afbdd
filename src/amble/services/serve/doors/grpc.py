"""The Open Inference Protocol over gRPC, on the same admission and repository as HTTP.

The one module that knows grpcio and the protocol's stubs, which are tritonclient's (extra ``serve``).
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar

import grpc
from google.protobuf import json_format, text_format
from google.protobuf.message import DecodeError
from tritonclient.grpc import model_config_pb2, service_pb2, service_pb2_grpc

from amble.core.errors import Refused
from amble.runtimes.remote import limits
from amble.runtimes.remote.fault import Fault
from amble.services.serve.doors import health
from amble.services.serve.doors.access import Access
from amble.services.serve.doors.calls import SharedMemory, client_of, owner_of
from amble.services.serve.doors.http import extensions
from amble.services.serve.doors.messages import asked_of, identity_of, response_of
from amble.services.serve.doors.reading import Readers
from amble.services.serve.doors.shared_memory import Memory, Regions
from amble.services.serve.doors.statistics import statistics
from amble.services.serve.doors.tls import Certificate, Pem
from amble.services.serve.doors.wire import TooMany, cut
from amble.services.serve.models.model import Model
from amble.services.serve.models.options import NO_LOGGING, NO_TRACE
from amble.services.serve.models.repository import Repository, refuse_unknown
from amble.services.serve.requests.asking import Asked
from amble.services.serve.requests.dispatching import Dispatcher

__all__ = ["Grpc", "read_text"]

_LOG = logging.getLogger(__name__)
_FOREVER_S = 1e9  # grpcio's word for no deadline is 9.2e18 s
_DRAIN_S = 5.0
_IDLE_S = 75
_HANDSHAKE_S = 10
_FEW_FIELDS = 256  # are counted where they arrive
_STATUS = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    401: grpc.StatusCode.UNAUTHENTICATED,
    403: grpc.StatusCode.PERMISSION_DENIED,
    404: grpc.StatusCode.NOT_FOUND,
    499: grpc.StatusCode.CANCELLED,
    501: grpc.StatusCode.UNIMPLEMENTED,
    503: grpc.StatusCode.UNAVAILABLE,
}
_SERVICE = "inference.GRPCInferenceService"
_OPEN = (f"/{health.SERVICE}/", f"/{_SERVICE}/ServerLive", f"/{_SERVICE}/ServerReady")
_RESPONSE = service_pb2.ModelInferResponse

Context = Any  # grpcio has no types
T = TypeVar("T")


class Grpc:
    """The service on an address of its own."""

    def __init__(
        self,
        admission: Dispatcher,
        repository: Repository,
        *,
        access: Access,
        version: str,
        readers: Readers,
        max_bytes: int,
        shared: bool = False,
        regions: Regions | None = None,
    ) -> None:
        """Answer from a dispatcher and a repository. ``shared``: other processes of this server listen there too."""
        self._access = access
        self._servicer = _Servicer(admission, repository, access, version, readers)
        self._servicer.regions = regions
        self._health = health.Health(admission, repository)
        self._options = [
            ("grpc.max_receive_message_length", max_bytes),
            ("grpc.max_send_message_length", -1),
            ("grpc.so_reuseport", int(shared)),
            ("grpc.max_connection_idle_ms", 1000 * _IDLE_S),
            ("grpc.server_handshake_timeout_ms", 1000 * _HANDSHAKE_S),
            ("grpc.max_metadata_size", limits.HEADER_BYTES),
        ]
        self._server: Any = None

    async def start(self, host: str, port: int, *, tls: Certificate | None = None, most_calls: int = 4096) -> int:
        """Begin to serve → the port; 0 takes a free one. Refused when it is taken or not allowed."""
        gates = () if self._access.keys is None else (_Gate(self._access),)
        self._server = grpc.aio.server(interceptors=gates, options=self._options, maximum_concurrent_rpcs=most_calls)
        lean = grpc.unary_unary_rpc_method_handler(
            self._servicer.infer, response_serializer=_RESPONSE.SerializeToString
        )
        stream = grpc.stream_stream_rpc_method_handler(
            self._servicer.stream, response_serializer=service_pb2.ModelStreamInferResponse.SerializeToString
        )
        own = grpc.method_handlers_generic_handler(_SERVICE, {"ModelInfer": lean, "ModelStreamInfer": stream})
        self._server.add_generic_rpc_handlers((own, _health_handlers(self._health)))
        service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(self._servicer, _Unregistered(self._server))
        address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        try:
            if tls is None:
                bound = self._server.add_insecure_port(address)
            else:
                bound = self._server.add_secure_port(address, _credentials(tls))
        except RuntimeError as error:
            raise Refused(f"cannot listen on {address} for grpc; choose another with --grpc-port") from error
        await self._server.start()
        return int(bound)

    async def stop(self) -> None:
        """Take no more calls, and give those that run a moment."""
        self._health.close()
        if self._server is not None:
            await self._server.stop(_DRAIN_S)


class _Unregistered:
    """A server whose methods are looked up by name: it waits for every registered one apart, at each call anew."""

    def __init__(self, server: Any) -> None:
        self.add_generic_rpc_handlers = server.add_generic_rpc_handlers

    def add_registered_method_handlers(self, service: str, handlers: Any) -> None:
        """Leave them to be looked up."""


def _credentials(tls: Certificate) -> Any:
    """Return what grpcio asks for a certificate at every handshake."""
    known = tls.pem

    def configuration(pem: Pem) -> Any:
        return grpc.ssl_server_certificate_configuration([(pem.key, pem.cert)], pem.client_ca)

    def renew() -> Any:
        nonlocal known
        found = tls.look()
        if found == known:
            return None
        known = found
        return configuration(found)

    return grpc.dynamic_ssl_server_credentials(configuration(known), renew, tls.client_ca is not None)


def _health_handlers(told: health.Health) -> Any:
    """Return what grpcio is to call for the health of the server and its models."""

    async def check(service: str | None, context: Context) -> int:
        return await _or_abort_after(context, told.check(service))

    async def watch(service: str | None, context: Context) -> AsyncIterator[int]:
        async for each in told.watch(service):
            yield each

    handlers = {
        "Check": grpc.unary_unary_rpc_method_handler(check, health.read, health.write),
        "Watch": grpc.unary_stream_rpc_method_handler(watch, health.read, health.write),
    }
    return grpc.method_handlers_generic_handler(health.SERVICE, handlers)


def read_text(text: str) -> dict[str, Any]:
    """Read protobuf's text form of a model configuration → the same as JSON; ValueError when it is none."""
    try:
        read = text_format.Parse(text, model_config_pb2.ModelConfig(), allow_unknown_field=False)
    except text_format.ParseError as error:
        raise ValueError(f"config.pbtxt: {error}") from error
    return dict(json_format.MessageToDict(read, preserving_proto_field_name=True))


class _Gate(grpc.aio.ServerInterceptor):  # type: ignore[misc]
    """Lets calls pass that bring a key; those for the health of the server need none."""

    def __init__(self, access: Access) -> None:
        self._access = access

    async def intercept_service(self, continuation: Callable[[Any], Awaitable[Any]], details: Any) -> Any:
        """Pass a call on, or have it answered by what says why not."""
        told = {name: value for name, value in details.invocation_metadata or () if isinstance(value, str)}
        if not details.method.startswith(_OPEN):
            try:
                self._access.check_key(told.get("authorization", ""), told.get("x-api-key", ""))
            except Fault as fault:
                return _answering(fault.status, fault.text)
        return await continuation(details)


def _answering(status: int, text: str) -> Any:
    async def refuse(message: bytes, context: Context) -> None:
        await context.abort(_STATUS[status], text)

    return grpc.unary_unary_rpc_method_handler(refuse)


class _Servicer(SharedMemory, service_pb2_grpc.GRPCInferenceServiceServicer):  # type: ignore[misc]
    """Calls → the admission and the repository, and what they say back."""

    stubs = service_pb2

    def __init__(
        self, admission: Dispatcher, repository: Repository, access: Access, version: str, readers: Readers
    ) -> None:
        self._access = access
        self._admission = admission
        self._readers = readers
        self._repository = repository
        self._version = version

    async def ServerLive(self, request: Any, context: Context) -> Any:  # noqa: N802
        """Tell that the server runs."""
        return service_pb2.ServerLiveResponse(live=self._admission.well)

    async def ServerReady(self, request: Any, context: Context) -> Any:  # noqa: N802
        """Tell whether requests are taken."""
        return service_pb2.ServerReadyResponse(ready=self._admission.open_for_all)

    async def ModelReady(self, request: Any, context: Context) -> Any:  # noqa: N802
        """Tell whether a model is served."""
        try:
            self._repository.model(request.name, request.version)
        except Fault:
            return service_pb2.ModelReadyResponse(ready=False)
        return service_pb2.ModelReadyResponse(ready=True)

    async def ServerMetadata(self, request: Any, context: Context) -> Any:  # noqa: N802
        """Tell what this server is."""
        return service_pb2.ServerMetadataResponse(
            name="amble", version=self._version, extensions=extensions(self.regions)
        )

    async def ModelMetadata(self, request: Any, context: Context) -> Any:  # noqa: N802
        """Describe a model."""
        model = await _or_abort(context, lambda: self._repository.model(request.name, request.version))
        return json_format.ParseDict(model.metadata(), service_pb2.ModelMetadataResponse())

    async def ModelConfig(self, request: Any, context: Context) -> Any:  # noqa: N802
        """Give a model's configuration."""
        model = await _or_abort(context, lambda: self._repository.model(request.name, request.version))
        return json_format.ParseDict({"config": model.config()}, service_pb2.ModelConfigResponse())

    async def ModelStatistics(self, request: Any, context: Context) -> Any:  # noqa: N802
        """Give counters of one model, or of all."""
        if request.name:
            models = [await _or_abort(context, lambda: self._repository.model(request.name, request.version))]
        else:
            models = list(self._repository.models)
        return json_format.ParseDict(
            statistics(await self._admission.whole(), models), service_pb2.ModelStatisticsResponse()
        )

    async def RepositoryIndex(self, request: Any, context: Context) -> Any:  # noqa: N802
        """List what can be served."""
        listed = [each for each in self._repository.index() if not request.ready or each["state"] == "READY"]
        return json_format.ParseDict({"models": listed}, service_pb2.RepositoryIndexResponse())

    async def RepositoryModelLoad(self, request: Any, context: Context) -> Any:  # noqa: N802
        """Load a model."""
        await _or_abort(context, self._access.check_control)
        await _or_abort(context, lambda: refuse_unknown(request.parameters))
        config = request.parameters["config"].string_param if "config" in request.parameters else None
        await _or_abort_after(context, self._repository.start(request.model_name, config))
        return service_pb2.RepositoryModelLoadResponse()

    async def RepositoryModelUnload(self, request: Any, context: Context) -> Any:  # noqa: N802
        """Unload a model."""
        await _or_abort(context, self._access.check_control)
        await _or_abort_after(context, self._repository.stop(request.model_name))
        return service_pb2.RepositoryModelUnloadResponse()

    async def checked(self, context: Context, call: Callable[[], T]) -> T:
        """Return what a call gives, or end the call with the status of its fault."""
        return await _or_abort(context, call)

    async def infer(self, message: bytes, context: Context) -> Any:
        """Answer a request, given as it came over the wire: this is ModelInfer."""
        answering = self._inferred(message, context, self._admission.now_s())
        del message  # grpcio keeps this frame until garbage is collected when the call is aborted
        return await _or_abort_after(context, answering)

    async def stream(self, messages: AsyncIterator[bytes], context: Context) -> AsyncIterator[Any]:
        """Answer requests one after the other, errors too, each in its place: this is ModelStreamInfer."""
        async for message in messages:
            try:
                found = await self._inferred(message, context, self._admission.now_s())
                made = service_pb2.ModelStreamInferResponse(infer_response=found)
            except Fault as fault:
                failed = _RESPONSE(id=identity_of(message, service_pb2.ModelInferRequest))
                made = service_pb2.ModelStreamInferResponse(error_message=fault.text, infer_response=failed)
            yield made

    async def TraceSetting(self, request: Any, context: Context) -> Any:  # noqa: N802
        """Refuse, with the reason."""
        await context.abort(grpc.StatusCode.UNIMPLEMENTED, NO_TRACE)

    async def LogSettings(self, request: Any, context: Context) -> Any:  # noqa: N802
        """Refuse, with the reason."""
        await context.abort(grpc.StatusCode.UNIMPLEMENTED, NO_LOGGING)

    async def _inferred(self, message: bytes, context: Context, arrival_s: float) -> Any:
        client = client_of(context)
        with self._admission.holding(client) as hold:
            hold.grow(len(message))
            memory = None if self.regions is None else Memory(self.regions, owner_of(self._access, context), hold.grow)
            model, asked = await self._asked(message, client, memory)
            left_s = context.time_remaining()
            limit_s = math.inf if left_s is None or left_s > _FOREVER_S else left_s
            reply = await self._admission.infer(
                model, asked, arrival_s=arrival_s, limit_s=limit_s, context=_described(context, asked.id)
            )
            return response_of(reply.answer, asked, _RESPONSE)

    async def _asked(self, message: bytes, client: str, memory: Memory | None) -> tuple[Model, Asked]:
        """Read a request: at once where it has few fields and little beside raw tensors, else beside the loop."""
        try:
            small, raw = cut(message, _FEW_FIELDS)
            beside = (b"BYTES" in small and sum(map(len, raw)) > limits.INLINE_BYTES) or (
                memory is not None and b"shared_memory_region" in small
            )
            if len(small) <= limits.INLINE_BYTES and not beside:
                return self._parsed(small, raw, memory)
        except TooMany:
            pass
        except ValueError as error:
            raise Fault(400, f"request is no ModelInferRequest: {error}") from error
        return await self._readers.read(client, partial(self._parsed_whole, message, memory))

    def _parsed_whole(self, message: bytes, memory: Memory | None) -> tuple[Model, Asked]:
        try:
            return self._parsed(*cut(message), memory)
        except ValueError as error:
            raise Fault(400, f"request is no ModelInferRequest: {error}") from error

    def _parsed(self, small: bytes, raw: Sequence[memoryview], memory: Memory | None) -> tuple[Model, Asked]:
        """Parse a request whose raw tensors were cut out, in any thread, and find its model."""
        if len(small) > limits.JSON_BYTES:
            raise Fault(400, f"more than {limits.JSON_BYTES} bytes beside raw tensors; send raw_input_contents")
        try:
            request = service_pb2.ModelInferRequest.FromString(small)
        except DecodeError as error:
            raise Fault(400, f"request is no ModelInferRequest: {error}") from error
        model = self._repository.model(request.model_name, request.model_version)
        return model, asked_of(request, raw, model.loaded.inputs, memory)


async def _or_abort(context: Context, call: Callable[[], T]) -> T:
    """Return what a call gives, or end the call with the status of its fault."""
    try:
        return call()
    except Fault as fault:
        await context.abort(_STATUS.get(fault.status, grpc.StatusCode.INTERNAL), fault.text)
        raise


async def _or_abort_after(context: Context, answering: Awaitable[T]) -> T:
    """Return what comes, or end the call with the status of its fault."""
    try:
        return await answering
    except Fault as fault:
        status, text = fault.status, fault.text
    with suppress(asyncio.CancelledError):  # not inside the except: it would keep the fault's frames, and the message
        await context.abort(_STATUS.get(status, grpc.StatusCode.INTERNAL), text)
    raise Fault(status, text)


def _described(context: Context, identity: str) -> dict[str, str]:
    """Return what a client says of its trace."""
    found = {"id": identity}
    for name, value in context.invocation_metadata() or ():
        if name in ("traceparent", "tracestate"):
            found[name] = str(value)
    return found
