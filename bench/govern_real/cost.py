"""The processor time of the process that governs beside a page of 600 lines, once it has settled."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from bench.govern_real.servers import AMBLE

__all__ = ["big_page", "cpu_s", "measured"]


def measured(period_s: float, lasts_s: float) -> dict[str, Any]:
    """Return the processor time [s/s] of governing, after five seconds of settling."""
    with big_page() as url:
        words = [AMBLE, "govern", url, "--slo", "latency p99 < 100ms", "--watch", "--period", f"{period_s}s", "--json"]
        running = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            time.sleep(5.0)
            before = cpu_s(running.pid)
            time.sleep(lasts_s)
            used_s = cpu_s(running.pid) - before
        finally:
            running.terminate()
            running.wait(20)
    return {"period_s": period_s, "lines": 600, "cores": used_s / lasts_s}


@contextmanager
def big_page() -> Iterator[str]:
    """Serve a page of 600 lines of a server that answers 50 requests a second."""
    start_s = time.monotonic()
    edges = [f"{0.001 * 1.25**step:.6g}" for step in range(40)]
    others = [f'other_{index % 40}{{model="m",le="{index}"}} {index}' for index in range(557)]

    class Door(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            count = int(50 * (time.monotonic() - start_s))
            rows = [f'amble_request_duration_seconds_bucket{{le="{edge}"}} {count}' for edge in (*edges, "+Inf")]
            body = "\n".join([*others, *rows, f"amble_requests_total {count}", "amble_build_info 1", ""]).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    door = ThreadingHTTPServer(("127.0.0.1", 0), Door)
    threading.Thread(target=door.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{door.server_port}/metrics"
    finally:
        door.shutdown()
        door.server_close()


def cpu_s(pid: int) -> float:
    """Return the processor time [s] that a process has used."""
    words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")
