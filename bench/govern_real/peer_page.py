"""A server's metrics page that can go wrong: peer_page.py PORT FILE. FILE holds how: ok, gone, hangs, frozen, nan."""

from __future__ import annotations

import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

START_S = time.monotonic()
FROZEN: list[str] = []


def text(how: str) -> str:
    """Return the page of a server that answers 50 requests a second, all in time."""
    count = int(50 * (time.monotonic() - START_S))
    lines = ["amble_build_info 1", f"amble_requests_total {count}"]
    lines.append(f"nv_inference_pending_request_count {1 if how == 'frozen' else 0}")
    for at, edge in enumerate(("0.001", "0.01", "0.1", "+Inf")):
        below = "NaN" if how == "nan" else count if at else 0
        lines.append(f'amble_request_duration_seconds_bucket{{le="{edge}"}} {below}')
    return "\n".join(lines) + "\n"


class Door(BaseHTTPRequestHandler):
    """Answers every GET with the page."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Give the page, or what there is instead."""
        how = Path(sys.argv[2]).read_text().strip()
        if how == "hangs":
            time.sleep(30.0)
        if how == "frozen":
            FROZEN[:] = FROZEN or [text(how)]
        body = (FROZEN[0] if how == "frozen" else text(how)).encode()
        self.send_response(404 if how == "gone" else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


if __name__ == "__main__":
    ThreadingHTTPServer.allow_reuse_address = True
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Door).serve_forever()
