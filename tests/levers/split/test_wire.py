"""A connection is waited for until its time and no longer, whatever trickles in; one that was closed is opened anew."""

import http.client
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from amble.levers.split.wire import Wire
from amble.runtimes.remote.client import Body, Remote

ANSWER = b'HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n{"a":1}'


@contextmanager
def listening(serve: Callable[[socket.socket, int], None]) -> Iterator[int]:
    """Serve each connection by a function, which gets its number."""
    listener, threads = socket.create_server(("127.0.0.1", 0)), []

    def one(client: socket.socket, number: int) -> None:
        with client, suppress(OSError):
            serve(client, number)

    def accept() -> None:
        with suppress(OSError):
            for number in range(100):
                threads.append(threading.Thread(target=one, args=(listener.accept()[0], number), daemon=True))
                threads[-1].start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.close()
        for each in threads:
            each.join(5)


def wire(port: int) -> Wire:
    return Wire(Remote(f"http://127.0.0.1:{port}", False, f"127.0.0.1:{port}", "", 5.0))


def asked(client: socket.socket) -> bool:
    """Read a request to its end; False where none comes."""
    text = b""
    while not text.endswith(b"\r\n\r\n"):
        piece = client.recv(4096)
        if not piece:
            return False
        text += piece
    return True


def always(client: socket.socket, number: int) -> None:
    while asked(client):
        client.sendall(ANSWER)


def test_an_answer_has_its_times() -> None:
    with listening(always) as port:
        one = wire(port)
        heard = one.ask("GET", "/", None, time.perf_counter() + 5)
        again = one.ask("GET", "/", None, time.perf_counter() + 5)
        one.close()
    assert heard.answered
    assert heard.reply.answer == {"a": 1}
    assert heard.asked_s < heard.first_s <= heard.whole_s < again.asked_s
    assert again.answered


def test_what_trickles_is_not_waited_for_beyond_the_end() -> None:
    def trickle(client: socket.socket, number: int) -> None:
        asked(client)
        for at in range(len(ANSWER)):
            client.sendall(ANSWER[at : at + 1])
            time.sleep(0.1)

    with listening(trickle) as port:
        one, begun_s = wire(port), time.perf_counter()
        heard = one.ask("GET", "/", None, begun_s + 0.4)
        took_s = time.perf_counter() - begun_s
        one.close()
    assert not heard.answered
    assert heard.reply.reason == "no answer in time"
    assert took_s < 3


def test_a_connection_that_was_closed_while_idle_is_opened_again() -> None:
    def once(client: socket.socket, number: int) -> None:
        if asked(client):
            client.sendall(ANSWER)

    with listening(once) as port:
        one = wire(port)
        for _ in range(5):
            assert one.ask("GET", "/", None, time.perf_counter() + 5).answered
            time.sleep(0.05)
        one.close()


def test_a_new_connection_that_breaks_is_told_at_once() -> None:
    def breaking(client: socket.socket, number: int) -> None:
        asked(client)

    with listening(breaking) as port:
        one, begun_s = wire(port), time.perf_counter()
        heard = one.ask("GET", "/", None, begun_s + 30)
        one.close()
    assert not heard.answered
    assert heard.reply.status == 0
    assert time.perf_counter() - begun_s < 10


def test_an_answer_that_is_cut_off_is_none() -> None:
    def half(client: socket.socket, number: int) -> None:
        asked(client)
        client.sendall(ANSWER[:-3])

    with listening(half) as port:
        one = wire(port)
        assert not one.ask("POST", "/", Body(b"", {}), time.perf_counter() + 5).answered
        one.close()


def test_nothing_is_asked_when_there_is_no_time_or_it_was_closed() -> None:
    with listening(always) as port:
        one = wire(port)
        assert not one.ask("GET", "/", None, time.perf_counter() - 1).answered
        one.close()
        assert not one.ask("GET", "/", None, time.perf_counter() + 5).answered


def test_json_that_is_nested_without_end_is_an_answer_that_says_nothing() -> None:
    text = b"[" * 200_000

    def serve(client: socket.socket, number: int) -> None:
        while asked(client):
            client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(text), text))

    with listening(serve) as port:
        of = wire(port)
        heard = of.ask("GET", "/", None, time.perf_counter() + 5.0)
        of.close()
    assert heard.answered
    assert heard.reply.answer == {}


@dataclass(frozen=True, slots=True)
class Watched(Remote):
    """A server whose connections tell what happens to them, and in which thread."""

    on_open: Callable[[], object] = lambda: None
    closed_by: list[threading.Thread] = field(default_factory=list)

    def connection(self) -> http.client.HTTPConnection:
        of = self

        class Connection(http.client.HTTPConnection):
            def connect(self) -> None:
                super().connect()
                of.on_open()

            def close(self) -> None:
                of.closed_by.append(threading.current_thread())
                super().close()

        return Connection(self.place, timeout=self.timeout_s)


def test_another_thread_ends_what_is_under_way_and_leaves_closing_to_the_one_that_asks() -> None:
    begun = threading.Event()

    def serve(client: socket.socket, number: int) -> None:
        asked(client)
        begun.set()
        client.recv(1)

    with listening(serve) as port:
        remote = Watched("", False, f"127.0.0.1:{port}", "", 5.0)
        of = Wire(remote)

        def stop() -> None:
            begun.wait(5.0)
            of.stop()

        stopper = threading.Thread(target=stop)
        stopper.start()
        heard = of.ask("GET", "/", None, time.perf_counter() + 5.0)
        stopper.join()
        of.close()
    assert heard.reply.status == 0
    assert heard.whole_s - heard.asked_s < 4.0
    assert set(remote.closed_by) == {threading.current_thread()}


def test_one_that_is_stopped_while_it_connects_asks_nothing() -> None:
    questions: list[bool] = []
    with listening(lambda client, number: questions.append(asked(client))) as port:
        stop: list[Callable[[], None]] = []
        of = Wire(Watched("", False, f"127.0.0.1:{port}", "", 5.0, on_open=lambda: stop[0]()))
        stop.append(of.stop)
        assert of.ask("GET", "/", None, time.perf_counter() + 5.0).reply.status == 0
        of.close()
    assert True not in questions


def test_a_connection_is_opened_ahead_and_one_that_cannot_be_is_no_error() -> None:
    with listening(always) as port:
        of = wire(port)
        of.open(time.perf_counter() + 5)
        assert of.is_open
        assert of.ask("GET", "/", None, time.perf_counter() + 5).answered
        of.close()
    with socket.socket() as deaf:  # bound, but nobody listens
        deaf.bind(("127.0.0.1", 0))
        nowhere = wire(deaf.getsockname()[1])
        nowhere.open(time.perf_counter() + 5)
    assert not nowhere.is_open


def test_what_is_given_up_is_not_sent_any_more() -> None:
    """A large body on a slow link would be in the way of all that comes after it, for an answer nobody waits for."""
    given_up, ended, read = threading.Event(), threading.Event(), []

    def slow(client: socket.socket, number: int) -> None:
        given_up.wait(10)
        try:
            while piece := client.recv(1 << 16):
                read.append(len(piece))
            read.append(-1)  # an orderly end, after all of it
        except ConnectionResetError:
            pass
        finally:
            ended.set()

    body = Body(bytes(1 << 23), {})
    with listening(slow) as port:
        found = wire(port).ask("POST", "/", body, time.perf_counter() + 0.3)
        given_up.set()
        assert ended.wait(10)
    assert found.reply.reason == "no answer in time"
    assert -1 not in read
