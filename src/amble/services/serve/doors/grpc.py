"""The Open Inference Protocol over gRPC, on the same admission and repository as HTTP.

The one module that knows the protocol's stubs, which are tritonclient's (extra ``serve``).
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

from google.protobuf import json_format, text_format
from google.protobuf.message import DecodeError
from google.protobuf.message_factory import GetMessageClass
from tritonclient.grpc import model_config_pb2, service_pb2

from amble.runtimes.remote import limits
from amble.runtimes.remote.fault import Fault
from amble.services.serve.doors import health
from amble.services.serve.doors.access import Access
from amble.services.serve.doors.calls import SharedMemory, owner_of
from amble.services.serve.doors.crowd import Crowd
from amble.services.serve.doors.handshake import Entrance, Guard
from amble.services.serve.doors.http import extensions
from amble.services.serve.doors.http2 import Connection, House
from amble.services.serve.doors.messages import asked_of, identity_of, response_of
from amble.services.serve.doors.reading import Readers
from amble.services.serve.doors.rpc import CALLS, Call, Method, Service
from amble.services.serve.doors.shared_memory import Memory, Regions
from amble.services.serve.doors.sockets import listen
from amble.services.serve.doors.statistics import statistics
from amble.services.serve.doors.tls import Certificate
from amble.services.serve.doors.wire import TooMany, cut
from amble.services.serve.models.model import Model
from amble.services.serve.models.options import NO_LOGGING, NO_TRACE
from amble.services.serve.models.repository import Repository, refuse_unknown
from amble.services.serve.process import most_connections
from amble.services.serve.requests.asking import Asked
from amble.services.serve.requests.dispatching import Dispatcher
from amble.services.serve.requests.elsewhere import Elsewhere, Nowhere
from amble.services.serve.requests.quota import Reservation

__all__ = ["Grpc", "read_text"]

_DRAIN_S = 5.0
_LOOK_S = 0.01
_SWEEP_S = 5.0
_FEW_FIELDS = 256  # are counted where they arrive
_WINDOW_BYTES = 1 << 16  # of a stream, beyond the largest message
_SERVICE = "inference.GRPCInferenceService"
_OPEN = ("ServerLive", "ServerReady")
_RESPONSE = service_pb2.ModelInferResponse

Message = bytes | memoryview


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
        body_s: float = 30.0,
        crowd: Crowd | None = None,
        calls: Elsewhere | None = None,
    ) -> None:
        """Answer from a dispatcher and a repository. ``shared``: other processes of this server listen there too.

        ``crowd`` are the connections that there may be, of other doors too; ``calls`` those of other processes.
        """
        self._shared = shared
        self._health = health.Health(admission, repository)
        servicer = _Servicer(admission, repository, access, version, readers)
        servicer.regions = regions
        methods = {**_methods(servicer), **_health_methods(self._health)}
        open_calls = Crowd(CALLS, elsewhere=calls or Nowhere())
        rules = (readers, max_bytes, body_s, open_calls)
        service = Service(methods, partial(_check_key, access), admission.holding, *rules)
        window_bytes = max_bytes + _WINDOW_BYTES
        crowd = crowd or Crowd(most_connections())
        self._house = House(service.begin, crowd, window_bytes, answer_s=body_s, look_s=min(_SWEEP_S, body_s / 2))
        self._accepting: Any = None
        self._opened: socket.socket | None = None

    async def start(self, host: str, port: int, *, tls: Certificate | None = None) -> int:
        """Begin to serve → the port; 0 takes a free one. Refused when it is taken or not allowed."""
        opened = self._opened = listen(host, port, "grpc", shared=self._shared)
        make = partial(Connection, self._house)
        if tls is None:
            self._accepting = await asyncio.get_running_loop().create_server(make, sock=opened)
        else:
            self._accepting = Entrance(opened, Guard(tls.server_context("h2"), self._house.crowd), make)
        return int(opened.getsockname()[1])

    async def stop(self) -> None:
        """Take no more calls, and give those that run a moment."""
        self._health.close()
        if self._accepting is None:
            return
        self._accepting.close()
        for each in list(self._house.connections):
            each.stop()
        with suppress(TimeoutError):
            async with asyncio.timeout(_DRAIN_S):
                while self._house.connections:
                    await asyncio.sleep(_LOOK_S)
        for each in list(self._house.connections):
            each.abort()
        await self._accepting.wait_closed()
        assert self._opened is not None, "it listened"
        self._opened.close()


def _check_key(access: Access, told: Mapping[str, str]) -> None:
    access.check_key(told.get("authorization", ""), told.get("x-api-key", ""))


def _methods(servicer: _Servicer) -> dict[str, Method]:
    """Return the methods of the protocol, by path, as its description has them."""
    found = {}
    service = service_pb2.DESCRIPTOR.services_by_name[_SERVICE.rpartition(".")[2]]
    for each in service.methods:
        run, read = getattr(servicer, each.name, None), GetMessageClass(each.input_type).FromString
        if run is not None:
            path = f"/{_SERVICE}/{each.name}"
            found[path] = Method(run, read, _written, open=each.name in _OPEN)
    own = {"ModelInfer": Method(servicer.infer, None, _written)}
    own["ModelStreamInfer"] = Method(servicer.stream, None, _written, many_in=True, many_out=True)
    return {**found, **{f"/{_SERVICE}/{name}": method for name, method in own.items()}}


def _written(message: Any) -> bytes:
    return bytes(message.SerializeToString())


def _health_methods(told: health.Health) -> dict[str, Method]:
    """Return the methods for the health of the server and its models, by path."""

    async def check(service: str | None, call: Call) -> int:
        return await told.check(service)

    def watch(service: str | None, call: Call) -> AsyncIterator[int]:
        return told.watch(service)

    return {
        f"/{health.SERVICE}/Check": Method(check, health.read, health.write, open=True),
        f"/{health.SERVICE}/Watch": Method(watch, health.read, health.write, many_out=True, open=True),
    }


def read_text(text: str) -> dict[str, Any]:
    """Read protobuf's text form of a model configuration → the same as JSON; ValueError when it is none."""
    try:
        read = text_format.Parse(text, model_config_pb2.ModelConfig(), allow_unknown_field=False)
    except text_format.ParseError as error:
        raise ValueError(f"config.pbtxt: {error}") from error
    return dict(json_format.MessageToDict(read, preserving_proto_field_name=True))


class _Servicer(SharedMemory):
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

    async def ServerLive(self, request: Any, call: Call) -> Any:  # noqa: N802
        """Tell that the server runs."""
        return service_pb2.ServerLiveResponse(live=self._admission.well)

    async def ServerReady(self, request: Any, call: Call) -> Any:  # noqa: N802
        """Tell whether requests are taken."""
        return service_pb2.ServerReadyResponse(ready=self._admission.open_for_all)

    async def ModelReady(self, request: Any, call: Call) -> Any:  # noqa: N802
        """Tell whether a model is served."""
        try:
            self._repository.model(request.name, request.version)
        except Fault:
            return service_pb2.ModelReadyResponse(ready=False)
        return service_pb2.ModelReadyResponse(ready=True)

    async def ServerMetadata(self, request: Any, call: Call) -> Any:  # noqa: N802
        """Tell what this server is."""
        return service_pb2.ServerMetadataResponse(
            name="amble", version=self._version, extensions=extensions(self.regions)
        )

    async def ModelMetadata(self, request: Any, call: Call) -> Any:  # noqa: N802
        """Describe a model."""
        model = self._repository.model(request.name, request.version)
        return json_format.ParseDict(model.metadata(), service_pb2.ModelMetadataResponse())

    async def ModelConfig(self, request: Any, call: Call) -> Any:  # noqa: N802
        """Give a model's configuration."""
        model = self._repository.model(request.name, request.version)
        return json_format.ParseDict({"config": model.config()}, service_pb2.ModelConfigResponse())

    async def ModelStatistics(self, request: Any, call: Call) -> Any:  # noqa: N802
        """Give counters of one model, or of all."""
        if request.name:
            models = [self._repository.model(request.name, request.version)]
        else:
            models = list(self._repository.models)
        return json_format.ParseDict(
            statistics(await self._admission.whole(), models), service_pb2.ModelStatisticsResponse()
        )

    async def RepositoryIndex(self, request: Any, call: Call) -> Any:  # noqa: N802
        """List what can be served."""
        listed = [each for each in self._repository.index() if not request.ready or each["state"] == "READY"]
        return json_format.ParseDict({"models": listed}, service_pb2.RepositoryIndexResponse())

    async def RepositoryModelLoad(self, request: Any, call: Call) -> Any:  # noqa: N802
        """Load a model."""
        self._access.check_control()
        refuse_unknown(request.parameters)
        config = request.parameters["config"].string_param if "config" in request.parameters else None
        await self._repository.start(request.model_name, config)
        return service_pb2.RepositoryModelLoadResponse()

    async def RepositoryModelUnload(self, request: Any, call: Call) -> Any:  # noqa: N802
        """Unload a model."""
        self._access.check_control()
        await self._repository.stop(request.model_name)
        return service_pb2.RepositoryModelUnloadResponse()

    async def infer(self, message: Message, call: Call) -> Any:
        """Answer a request, given as it came over the wire: this is ModelInfer."""
        return await self._inferred(message, call, call.hold)

    async def stream(self, messages: AsyncIterator[Message], call: Call) -> AsyncIterator[Any]:
        """Answer requests one after the other, errors too, each in its place: this is ModelStreamInfer."""
        async for message in messages:
            try:
                with self._admission.holding(call.client) as hold:
                    found = await self._inferred(message, call, hold)
                made = service_pb2.ModelStreamInferResponse(infer_response=found)
            except Fault as fault:
                failed = _RESPONSE(id=identity_of(message, service_pb2.ModelInferRequest))
                made = service_pb2.ModelStreamInferResponse(error_message=fault.text, infer_response=failed)
            yield made

    async def TraceSetting(self, request: Any, call: Call) -> Any:  # noqa: N802
        """Refuse, with the reason."""
        raise Fault(501, NO_TRACE)

    async def LogSettings(self, request: Any, call: Call) -> Any:  # noqa: N802
        """Refuse, with the reason."""
        raise Fault(501, NO_LOGGING)

    async def _inferred(self, message: Message, call: Call, hold: Reservation) -> Any:
        """Answer a request; ``hold`` takes what it needs beyond its message, which the call holds."""
        arrival_s = self._admission.now_s()
        memory = None if self.regions is None else Memory(self.regions, owner_of(self._access, call), hold.grow)
        model, asked = await self._asked(message, call.client, memory)
        reply = await self._admission.infer(
            model, asked, arrival_s=arrival_s, limit_s=call.left_s(), context=_described(call.told, asked.id)
        )
        return response_of(reply.answer, asked, _RESPONSE)

    async def _asked(self, message: Message, client: str, memory: Memory | None) -> tuple[Model, Asked]:
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

    def _parsed_whole(self, message: Message, memory: Memory | None) -> tuple[Model, Asked]:
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


def _described(told: Mapping[str, str], identity: str) -> dict[str, str]:
    """Return what a client says of its trace."""
    found = {"id": identity}
    for name in ("traceparent", "tracestate"):
        if name in told:
            found[name] = told[name]
    return found
