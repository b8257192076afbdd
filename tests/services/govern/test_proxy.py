"""What passes through the proxy is unchanged, timed, and held in little memory."""

import http.client
import socket
import threading
import time
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from amble.core.errors import Refused
from amble.services.govern.canary import edges_s
from amble.services.govern.eyes import Eyes, Memory
from amble.services.govern.maps import recognise
from amble.services.govern.objective import Objective
from amble.services.govern.proxy import Proxy, Way, with_proxy

WANTED = (Objective.parse("latency p99 < 500ms"), Objective.parse("ttft p99 < 50ms"))


class Door(BaseHTTPRequestHandler):
    """Gives back what it gets; /stream sends a first chunk at once and a second 0.6 s later; /breaks hangs up."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self._give(b"alive")

    def do_POST(self):
        body = self._body()
        if self.path == "/breaks":
            self.close_connection = True
        elif self.path == "/stream":
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for at, piece in enumerate((b"first ", body)):
                time.sleep(0.6 * at)
                self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            self.wfile.write(b"0\r\n\r\n")
        else:
            self._give(body)

    def _body(self):
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers["Content-Length"]))
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size + 2)[:-2]
        self.rfile.readline()
        return body

    def _give(self, body):
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    found = ThreadingHTTPServer(("127.0.0.1", 0), Door)
    threading.Thread(target=found.serve_forever, daemon=True).start()
    yield found
    found.shutdown()
    found.server_close()


@pytest.fixture
def proxy(server):
    found = Proxy(Way("127.0.0.1", 0, "127.0.0.1", server.server_port), edges_s(WANTED))
    found.start()
    yield found
    found.stop()


def opened(proxy):
    return closing(http.client.HTTPConnection("127.0.0.1", proxy.port, timeout=10.0))


def ask(line, path, body=None, *, method="POST", chunked=False):
    line.request(
        method, path, body, encode_chunked=chunked, headers={"Transfer-Encoding": "chunked"} if chunked else {}
    )
    answer = line.getresponse()
    return answer.status, answer.read()


def look(proxy):
    """What the eyes see of it since the start."""
    server = with_proxy(recognise(["amble_build_info"]))
    fresh = Proxy(Way("", 0, "", 0), edges_s(WANTED))
    eyes = Eyes.open(server, WANTED, fresh.page())
    memory, _ = eyes.look(Memory(), fresh.page(), 0.0)
    deadline_s = time.monotonic() + 5.0
    while not (proxy.page().splitlines()[2].endswith(" 0")) and time.monotonic() < deadline_s:
        time.sleep(0.01)
    return eyes, eyes.look(memory, proxy.page(), 1.0)[1]


def test_bodies_of_any_length_pass_unchanged_over_one_connection(proxy):
    with opened(proxy) as line:
        for size in (0, 1, 65536, 3_000_000):
            body = bytes(range(256)) * (size // 256 + 1)
            assert ask(line, "/", body[:size]) == (200, body[:size])
        assert ask(line, "/", iter([b"a" * 70_000, b"b"]), chunked=True) == (200, b"a" * 70_000 + b"b")
        assert ask(line, "/", method="GET") == (200, b"alive")
    _, seen = look(proxy)
    assert (seen.arrivals, seen.finished, sum(seen.counts[0])) == (5.0, 5.0, 5.0), "a GET asks for no work"


def test_the_first_byte_is_timed_apart_from_the_whole(proxy):
    with opened(proxy) as line:
        line.request("POST", "/stream", b"second")
        answer = line.getresponse()
        assert answer.read() == b"first second"
    eyes, seen = look(proxy)
    whole, first = (next(at for at, count in enumerate(counts) if count) for counts in seen.counts)
    assert eyes.edges_s[0][whole] > 0.5, "the second chunk came that much later"
    assert first < whole, "and the first one was not held back"


def test_an_answer_that_breaks_off_is_late_and_the_client_is_told(proxy):
    with opened(proxy) as line:
        status, body = ask(line, "/breaks", b"x")
    assert status == 502
    assert b"amble proxy" in body
    _, seen = look(proxy)
    assert seen.counts[0][-1] == 1.0


def test_a_server_that_is_not_there_is_a_late_answer(server):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    proxy = Proxy(Way("127.0.0.1", 0, "127.0.0.1", port), edges_s(WANTED))
    proxy.start()
    with opened(proxy) as line:
        assert ask(line, "/", b"x")[0] == 502
    assert look(proxy)[1].counts[0][-1] == 1.0
    proxy.stop()


@pytest.mark.parametrize(
    "head",
    [
        b"POST / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\nx",
        b"POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx",
        b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding : chunked\r\n\r\n",
        b"POST / HTTP/1.1\r\nno colon\r\n\r\n",
    ],
)
def test_what_two_readers_would_understand_differently_is_not_passed_on(proxy, head):
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=10.0) as line:
        line.sendall(head)
        assert line.recv(1000).startswith(b"HTTP/1.1 400 ")
    assert look(proxy)[1].arrivals == 0.0


def test_a_client_that_does_not_read_is_waited_for_and_not_stored_for(server):
    """A body of 64 MB to a client that reads nothing: no more than some buffers of it are taken from the server."""
    given = []

    class Pours(Door):
        def do_POST(self):
            self.send_response(200)
            self.send_header("Content-Length", str(64_000_000))
            self.end_headers()
            for _ in range(640):
                self.wfile.write(b"x" * 100_000)
                given.append(100_000)

    server.RequestHandlerClass = Pours
    proxy = Proxy(Way("127.0.0.1", 0, "127.0.0.1", server.server_port), edges_s(WANTED))
    proxy.start()
    with socket.socket() as line:
        line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        line.connect(("127.0.0.1", proxy.port))
        line.sendall(b"POST / HTTP/1.1\r\nContent-Length: 0\r\n\r\n")
        before = -1
        while before != len(given) or not given:
            before = len(given)
            time.sleep(0.3)
        assert sum(given) < 32_000_000
    proxy.stop()


def test_a_taken_port_and_a_wrong_way_are_refused(proxy):
    with pytest.raises(Refused, match="cannot be listened on"):
        Proxy(Way("127.0.0.1", proxy.port, "127.0.0.1", 1), edges_s(WANTED)).start()
    for wrong in ("9000", ":a=:8000", ":9000=:99999"):
        with pytest.raises(Refused, match="--proxy"):
            Way.parse(wrong)
    assert Way.parse(":9000=10.0.0.2:80") == Way("127.0.0.1", 9000, "10.0.0.2", 80)
