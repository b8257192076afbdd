"""What the governor of a server does now → its own metrics page (``amble_govern_*``), and the door it is behind."""

from __future__ import annotations

import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from amble.core.errors import Refused
from amble.core.log import Governed
from amble.services.govern.cap import Cap
from amble.services.govern.watching import Told

__all__ = ["Live", "serve_page"]

_MOST_BYTES = 4096  # of an order
_PATIENCE_S = 5.0  # with a client


class Live:
    """Counts what happens, server by server."""

    def __init__(self, governed: tuple[Governed, ...]) -> None:
        self._governed = governed
        self._guard = threading.Lock()
        self._last: dict[int, Told] = {}
        self._late = [[0.0] * len(each.objectives) for each in governed]
        self._answers = [[0.0] * len(each.objectives) for each in governed]
        self._joules = [{"governed": 0.0, "as_found": 0.0} for _ in governed]
        self._seconds = [{"governed": 0.0, "as_found": 0.0, "unusable": 0.0} for _ in governed]

    def told(self, told: Told) -> None:
        """Take a period."""
        period, about = told.period, self._governed[told.server]
        side = "as_found" if period.control else "governed"
        with self._guard:
            self._last[told.server] = told
            self._seconds[told.server][side if period.usable else "unusable"] += period.span_s
            self._joules[told.server][side] += period.energy_j or 0.0
            for index, counts in enumerate(period.counts):
                within = sum(1 for edge in about.edges_s[index] if edge <= about.judged_s[index] * (1 + 1e-9))
                self._late[told.server][index] += sum(counts[within:])
                self._answers[told.server][index] += sum(counts)

    def page(self) -> str:
        """Return the page."""
        with self._guard:
            lines = [line for server in sorted(self._last) for line in self._lines(server)]
        return "\n".join(lines) + "\n"

    def _lines(self, server: int) -> list[str]:
        about, told = self._governed[server], self._last[server]
        mine = f'server="{about.server}",number="{server}"'
        lines = [f"amble_govern_setting{{{mine}}} {told.choice.setting}"]
        lines.append(f"amble_govern_settings{{{mine}}} {len(about.settings)}")
        lines.append(f"amble_govern_usable{{{mine}}} {int(told.period.usable)}")
        for side, seconds in self._seconds[server].items():
            lines.append(f'amble_govern_seconds_total{{{mine},side="{side}"}} {seconds:.6f}')
        if told.period.energy_j is not None:
            for side, joules in self._joules[server].items():
                lines.append(f'amble_govern_energy_joules_total{{{mine},side="{side}"}} {joules:.6f}')
            if told.period.span_s > 0:
                lines.append(f"amble_govern_power_watts{{{mine}}} {told.period.energy_j / told.period.span_s:.6f}")
        for index, objective in enumerate(about.objectives):
            named = f'{mine},objective="{objective}"'
            lines.append(f"amble_govern_answers_total{{{named}}} {self._answers[server][index]:.0f}")
            lines.append(f"amble_govern_late_total{{{named}}} {self._late[server][index]:.0f}")
        return lines


def serve_page(
    page: Callable[[], str], port: int, host: str = "127.0.0.1", cap: Cap | None = None
) -> ThreadingHTTPServer:
    """Serve a page at ``/metrics``, and a cap at ``/cap``, in a thread; close it with ``shutdown``.

    Refused when the port is taken.
    """

    class Door(BaseHTTPRequestHandler):
        timeout = _PATIENCE_S

        def do_GET(self) -> None:
            if cap is not None and self._path == "/cap":
                self._give(*cap.answer(None, self.headers.get("Authorization", "")), "application/json")
                return
            known = self._path == "/metrics"
            body = page().encode() if known else b"there is only /metrics here\n"
            self._give(200 if known else 404, body, "text/plain; version=0.0.4")

        do_HEAD = do_GET  # noqa: N815  the name that http.server calls

        def do_PUT(self) -> None:
            length = self.headers.get("Content-Length", "")
            if cap is None or self._path != "/cap" or not length.isdecimal() or int(length) > _MOST_BYTES:
                self._give(404, b"no cap can be set here\n", "text/plain")
                return
            body = self.rfile.read(int(length))
            self._give(*cap.answer(body, self.headers.get("Authorization", "")), "application/json")

        @property
        def _path(self) -> str:
            return self.path.split("?")[0]

        def _give(self, status: int, body: bytes, kind: str) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(b"" if self.command == "HEAD" else body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    try:
        server = ThreadingHTTPServer((host, port), Door)
    except OSError as error:
        raise Refused(f"port {port} of {host} cannot be listened on: {error.strerror}; choose another") from error
    threading.Thread(target=server.serve_forever, name="amble govern metrics", daemon=True).start()
    return server
