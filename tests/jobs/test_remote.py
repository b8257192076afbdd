"""Checking a server from outside: against servers that are not amble's, and amble's own."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from click.testing import CliRunner, Result

import amble
from amble.cli import main
from amble.core.errors import Refused
from amble.stages.check.evidence import Evidence

INPUT = {"name": "x", "datatype": "FP32", "shape": [-1, 3]}
Answer = tuple[int, dict[str, Any]]


@dataclass
class Other:
    """A server of somebody else, that knows JSON only; ``infer`` answers a request's number and body."""

    infer: Callable[[int, dict[str, Any]], Answer] = lambda number, body: (200, {"outputs": []})
    inputs: list[dict[str, Any]] = field(default_factory=lambda: [INPUT])
    models: tuple[str, ...] = ("net",)
    asked: list[dict[str, Any]] = field(default_factory=list)

    def reply(self, method: str, path: str, body: bytes) -> Answer | tuple[int, list[Any]]:
        if path == "/v2/repository/index":
            return 200, [{"name": name, "state": "READY"} for name in self.models]
        if path == "/v2":
            return 200, {"name": "other", "extensions": []}
        if path.removeprefix("/v2/models/") in self.models:
            return 200, {"name": "net", "inputs": self.inputs}
        if path.endswith("/infer") and method == "POST":
            self.asked.append(json.loads(body))
            return self.infer(len(self.asked) - 1, self.asked[-1])
        return 404, {"error": f"nothing at {path}"}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    other: ClassVar[Other]

    def do_GET(self) -> None:
        self.answer("GET", b"")

    def do_POST(self) -> None:
        self.answer("POST", self.rfile.read(int(self.headers["Content-Length"])))

    def answer(self, method: str, body: bytes) -> None:
        status, content = self.other.reply(method, self.path, body)
        encoded = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(encoded)))
        self.end_headers()
        self.wfile.write(encoded)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


@contextmanager
def serving(other: Other) -> Iterator[str]:
    handler = type("Handler", (_Handler,), {"other": other})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def checked(other: Other, *, deadline: str = "10s@p90", load: str = "periodic:10ms:60", **more: Any) -> Evidence:
    with serving(other) as url:
        return amble.check(url, deadline=deadline, arrivals=load, **more)


def command(*words: str) -> Result:
    return CliRunner().invoke(main, ["check", *words])


def test_a_server_that_keeps_the_deadline_passes_by_what_was_sent() -> None:
    other = Other()
    report = checked(other).report
    assert report.verdict == "PASS"
    assert (report.policy, report.subject.network, report.checked.requests) == ("server", "net", 60)
    assert report.checked.percentile(0.5).latency_s.high is not None
    assert report.checked.gross_j is None
    assert len(other.asked) == 61  # one before the load
    first = other.asked[1]["inputs"][0]
    assert (first["shape"], len(first["data"])) == ([1, 3], 3)
    assert other.asked[1]["parameters"]["timeout"] == 10_000_000


def test_what_is_refused_counts_as_late_however_quickly_it_was_refused() -> None:
    def infer(number: int, body: dict[str, Any]) -> Answer:
        return (503, {"error": "too busy"}) if number % 4 == 3 else (200, {"outputs": []})

    report = checked(Other(infer)).report
    assert report.verdict == "FAIL"
    assert report.checked.late.count == 15
    assert report.checked.percentile(0.9).latency_s.value == pytest.approx(100.0)
    assert any("15 of 60 requests were refused or failed and count as late" in each for each in report.notes)
    assert any("too busy (15)" in each for each in report.notes)


def test_a_slow_server_fails_and_the_moment_a_request_was_due_counts() -> None:
    def infer(number: int, body: dict[str, Any]) -> Answer:
        time.sleep(0.2)
        return 200, {"outputs": []}

    report = checked(Other(infer), deadline="100ms@p90").report
    assert report.verdict == "FAIL"
    assert report.checked.late.count == 60
    assert report.checked.percentile(0.5).latency_s.value >= 0.2


def test_joules_are_those_that_the_server_reports_and_none_else() -> None:
    report = checked(Other(lambda number, body: (200, {"outputs": [], "parameters": {"energy_j": 0.25}}))).report
    assert report.checked.gross_j is not None
    assert report.checked.gross_j.value == pytest.approx(0.25)
    assert report.checked.period_j is None
    assert any("the server reports 250 mJ for an answer" in each for each in report.notes)


def test_examples_with_labels_are_sent_in_turn_and_judged(tmp_path: Path) -> None:
    x = np.eye(3, dtype=np.float64)
    np.savez(tmp_path / "data.npz", x=x, labels=np.array([0, 1, 1]))

    def infer(number: int, body: dict[str, Any]) -> Answer:
        output = {"name": "y", "datatype": "FP32", "shape": [1, 3], "data": body["inputs"][0]["data"]}
        return 200, {"outputs": [output]}

    accuracy = checked(Other(infer), data=str(tmp_path / "data.npz")).report.checked.accuracy
    assert accuracy is not None
    assert (accuracy.count, accuracy.out_of) == (40, 60)


def test_examples_that_do_not_fit_are_all_named(tmp_path: Path) -> None:
    np.savez(tmp_path / "data.npz", x=np.zeros((5, 4), np.float32))
    other = Other(inputs=[INPUT, {"name": "mask", "datatype": "INT64", "shape": [-1, 2]}])
    with pytest.raises(Refused, match=r"x that are float32 \[4\], .* FP32 \[-1, 3\]; lacks the array mask; it has x"):
        checked(other, data=str(tmp_path / "data.npz"))


def test_shapes_that_are_open_ask_for_examples() -> None:
    with pytest.raises(Refused, match=r"the shape of x \[-1, -1\] open; give examples with --data"):
        checked(Other(inputs=[{**INPUT, "shape": [-1, -1]}]))


@pytest.mark.parametrize("wrong", [{"name": "x"}, {**INPUT, "shape": "big"}, {**INPUT, "shape": None}])
def test_a_server_that_describes_its_model_otherwise_is_none_of_the_protocol(wrong: dict[str, Any]) -> None:
    with pytest.raises(Refused, match="does not describe its model as the Open Inference Protocol has it"):
        checked(Other(inputs=[wrong]))


def test_an_example_that_is_refused_in_peace_is_a_wrong_call() -> None:
    with pytest.raises(Refused, match="does not answer an example: no such tensor"):
        checked(Other(lambda number, body: (400, {"error": "no such tensor"})))


def test_a_page_instead_of_an_answer_is_none_whatever_its_status() -> None:
    with pytest.raises(Refused, match="does not answer an example: HTTP 200 without outputs"):
        checked(Other(lambda number, body: (200, {})))
    report = checked(Other(lambda number, body: (200, {} if number % 2 else {"outputs": []}))).report
    assert report.verdict == "FAIL"
    assert any("30 of 60 requests were refused or failed" in each for each in report.notes)


def test_a_server_of_several_models_wants_a_name() -> None:
    other = Other(models=("net", "other"))
    with serving(other) as url:
        with pytest.raises(Refused, match=r"serves net, other\); write http://.*/v2/models/NAME"):
            amble.check(url, deadline="1s", arrivals="periodic:10ms:5")
        found = amble.check(f"{url}/v2/models/other", deadline="1s", arrivals="periodic:10ms:5").report
    assert found.subject.network == "other"


def test_the_command_ends_with_0_or_1_and_writes_what_was_asked_for(tmp_path: Path) -> None:
    with serving(Other()) as url:
        words = (url, "--load", "periodic:5ms:60", "-o", str(tmp_path / "r.json"), "--html", str(tmp_path / "r.html"))
        passed = command(*words, "--deadline", "10s@p90", "--json")
        failed = command(url, "--load", "periodic:5ms:60", "--slo", "1us@p90")
    assert passed.exit_code == 0, passed.output
    assert json.loads(passed.stdout)["policy"] == "server"
    assert amble.read(tmp_path / "r.json").policy == "server"  # type: ignore[union-attr]
    assert "net on http://127.0.0.1:" in (tmp_path / "r.html").read_text()
    assert failed.exit_code == 1
    assert "FAIL" in failed.stdout


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("http://127.0.0.1:1", "--load", "periodic:5ms:60"), "give --deadline"),
        (("http://127.0.0.1:1",), "give --load and --deadline"),
        (("plan.json",), "--device"),
        (("plan.json", "-d", "host", "--deadline", "1s"), "leave --deadline out"),
        (("http://127.0.0.1:1", "--load", "periodic:5ms:60", "--deadline", "1s"), "cannot be reached"),
        (("http://", "--load", "periodic:5ms:60", "--deadline", "1s"), "is not like http://127.0.0.1:8000"),
        (("http://127.0.0.1:99999", "--load", "periodic:5ms:60", "--deadline", "1s"), "is not like http://127.0.0.1"),
        (("ftp://127.0.0.1", "--load", "periodic:5ms:60", "--deadline", "1s"), "at http://… or https://…, not at ftp:"),
    ],
)
def test_a_wrong_call_says_what_is_missing(words: tuple[str, ...], told: str) -> None:
    found = command(*words)
    assert found.exit_code == 2
    assert told in found.stderr


def test_amble_s_own_server_is_checked_with_its_bundled_data() -> None:
    pytest.importorskip("uvicorn")
    from tests.services.serve.test_serving import serving as own

    with own("fashion-resnet") as at:
        report = amble.check(at.http, deadline="5s@p90", arrivals="periodic:20ms:40", data="bundled").report
    assert report.verdict == "PASS"
    assert report.checked.accuracy is not None
    assert report.checked.accuracy.ratio.value > 0.8
