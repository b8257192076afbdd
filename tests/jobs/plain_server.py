"""A server of the Open Inference Protocol that is nothing else: JSON, no extensions, no hashes, no statistics."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

__all__ = ["plain_server"]

_KINDS = {"tensor(float)": "FP32", "tensor(uint8)": "UINT8", "tensor(float16)": "FP16"}
_DTYPES = {"FP32": np.float32, "UINT8": np.uint8}


@contextmanager
def plain_server(
    repository: Path, *, scale: float = 1.0, say: Callable[[dict[str, Any]], object] = lambda document: document
) -> Iterator[int]:
    """Serve the models of a repository on a port; ``scale`` other than 1 makes all answers wrong.

    ``say`` is what becomes of an answer, or of a description, before it is sent.
    """
    sessions = {
        each.parts[-3]: onnxruntime.InferenceSession(str(each), providers=["CPUExecutionProvider"])
        for each in repository.glob("*/1/model.onnx")
    }

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            parts = self.path.strip("/").split("/")
            if parts == ["v2"]:
                self._say(200, {"name": "plain", "version": "1", "extensions": []})
            elif parts == ["v2", "health", "ready"]:
                self._say(200, {})
            elif len(parts) == 3 and parts[2] in sessions:
                inputs = [
                    {"name": each.name, "datatype": _KINDS[each.type], "shape": each.shape}
                    for each in sessions[parts[2]].get_inputs()
                ]
                self._say(200, {"name": parts[2], "inputs": inputs, "outputs": []})
            else:
                self._say(404, {"error": "not here"})

        def do_POST(self) -> None:
            content = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding"):
                self._say(415, {"error": "no codings"})
                return
            session, asked = sessions[self.path.split("/")[3]], json.loads(content)
            feed = {
                each["name"]: np.array(each["data"], _DTYPES[each["datatype"]]).reshape(each["shape"])
                for each in asked["inputs"]
            }
            outputs = [
                {
                    "name": port.name,
                    "datatype": "FP32",
                    "shape": list(found.shape),
                    "data": (scale * found).ravel().tolist(),
                }
                for port, found in zip(session.get_outputs(), session.run(None, feed), strict=True)
            ]
            named = {"id": asked["id"]} if "id" in asked else {}
            self._say(200, {"model_name": "m", **named, "outputs": outputs})

        def log_message(self, *words: object) -> None:
            pass

        def _say(self, status: int, document: dict[str, Any]) -> None:
            content = json.dumps(say(document)).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
