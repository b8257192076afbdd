"""The verb govern as a user meets it: real processes, a page over HTTP, a control group where one can be made."""

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from amble.cli import main
from tests.services.govern.pages import PAGES

AMBLE = Path(sys.executable).parent / "amble"
GROUPS = Path("/sys/fs/cgroup/cpu")
groups = pytest.mark.skipif(not os.access(GROUPS, os.W_OK), reason="no control group may be made here")


class Pages:
    """A metrics page of a server that answers 50 requests a second in 5 ms, or goes wrong as told."""

    def __init__(self) -> None:
        self.wrong = ""
        self.token = ""
        self.started_s = time.monotonic()
        owner = self

        class Door(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                if owner.wrong == "hangs":
                    time.sleep(3.0)
                refused = owner.token and self.headers.get("Authorization") != f"Bearer {owner.token}"
                body = owner.text().encode()
                self.send_response(503 if owner.wrong == "gone" else 401 if refused else 200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                self.send_response(200)
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"{}")

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Door)
        self.url = f"http://127.0.0.1:{self.server.server_port}/metrics"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def text(self) -> str:
        count = int(50 * (time.monotonic() - self.started_s))
        lines = ["amble_build_info 1", f"amble_requests_total {count}", "nv_inference_pending_request_count 0"]
        edges = ("0.001", "0.01", "0.1", "+Inf")
        rows = [
            f'amble_request_duration_seconds_bucket{{le="{edge}"}} {count if at else 0}'
            for at, edge in enumerate(edges)
        ]
        return "\n".join([*lines, *rows]) + "\n"


@pytest.fixture
def pages():
    found = Pages()
    yield found
    found.server.shutdown()
    found.server.server_close()


@pytest.fixture
def group():
    folder = GROUPS / f"amble-govern-{os.getpid()}"
    folder.mkdir()
    yield folder
    folder.rmdir()


def run(*words, cwd: Path) -> Result:
    """Call the verb in this process: what it says and how it ends."""
    environment = {"XDG_STATE_HOME": str(cwd / "state")}
    return CliRunner().invoke(main, ["govern", *map(str, words)], env=environment, prog_name="amble")


def test_a_probe_says_what_is_recognised_and_what_is_missing(pages, tmp_path):
    found = run(pages.url, "--probe", "--json", cwd=tmp_path)
    assert found.exit_code == 0, found.stderr
    (told,) = json.loads(found.stdout)
    assert told["server"] == "amble"
    assert told["found"]["latency"] == "amble_request_duration_seconds"
    assert "ttft" in told["missing"]


def test_a_token_is_sent(pages, tmp_path):
    pages.token = "secret"  # noqa: S105
    path = tmp_path / "token"
    path.write_text("secret\n")
    assert run(pages.url, "--probe", "--token-file", path, cwd=tmp_path).exit_code == 0
    found = run(pages.url, "--probe", cwd=tmp_path)
    assert found.exit_code == 2
    assert "401" in found.stderr
    assert "--token-file" in found.stderr


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--slo", "latency p99 < 40"], "has no unit"),
        (["--slo", "latency p99 < 30ms"], "too coarse"),
        (["--slo", "ttft p99 < 30ms"], "ttft p99"),
        ([], "no --slo"),
        (["--slo", "latency p99 < 100ms", "--device", "quota:nowhere-at-all"], "no control group"),
        (["--slo", "latency p99 < 100ms", "--device", "sim:v100"], "unknown device"),
        (["--slo", "latency p99 < 100ms", "--period", "1ms"], "--period"),
        (["--slo", "latency p99 < 100ms", "--extra", "2"], "--extra 2"),
    ],
)
def test_what_cannot_be_kept_is_refused_in_one_line(pages, tmp_path, words, named):
    found = run(pages.url, "--watch", *words, cwd=tmp_path)
    assert found.exit_code == 2
    assert named in found.stderr
    assert len(found.stderr.strip().splitlines()) == 1


def test_a_server_that_is_not_there_is_refused(tmp_path):
    found = run("http://127.0.0.1:9/metrics", "--slo", "latency p99 < 40ms", "--watch", cwd=tmp_path)
    assert found.exit_code == 2
    assert "does not answer" in found.stderr


def test_watching_needs_no_rights_and_its_log_can_be_checked_and_shown(pages, tmp_path):
    log = tmp_path / "log.json"
    found = run(
        pages.url, "--slo", "latency p99 < 100ms", "--watch", "--period", "100ms", "--for", "3s", "-o", log, "--json",
        cwd=tmp_path,
    )  # fmt: skip
    assert found.exit_code == 0, found.stderr
    (proof,) = json.loads(found.stdout)
    assert proof["saving"] is None
    for words in (["check", log, "--json"], ["show", log]):
        told = CliRunner().invoke(main, [str(word) for word in words])
        assert told.exit_code in (0, 1), told.stderr
        assert "watched only" in told.stdout
        assert "e+" not in told.stdout


def quota(folder: Path) -> str:
    return (folder / "cpu.cfs_quota_us").read_text().strip()


def until(true, limit_s=10.0) -> float:
    start_s = time.monotonic()
    while not true() and time.monotonic() - start_s < limit_s:
        time.sleep(0.01)
    assert true()
    return time.monotonic() - start_s


def governing(pages, folder: Path, tmp_path: Path) -> subprocess.Popen[str]:
    words = (pages.url, "--slo", "latency p99 < 100ms", "--device", f"quota:{folder.name}", "--period", "100ms")
    environment = {**os.environ, "XDG_STATE_HOME": str(tmp_path / "state")}
    process = subprocess.Popen(
        [AMBLE, "govern", *words, "--control", "0"], env=environment, stderr=subprocess.PIPE, text=True
    )
    until(lambda: quota(folder) not in ("-1",) and float(quota(folder)) < 9000, 30.0)
    return process


@groups
@pytest.mark.parametrize("wrong", ["gone", "hangs", "killed", "ended", "stopped"])
def test_a_quota_is_as_found_within_a_second_whatever_goes_wrong(pages, group, tmp_path, wrong):
    process = governing(pages, group, tmp_path)
    try:
        if wrong in ("gone", "hangs"):
            pages.wrong = wrong
        else:
            process.send_signal({"killed": signal.SIGKILL, "ended": signal.SIGTERM, "stopped": signal.SIGSTOP}[wrong])
        took_s = until(lambda: quota(group) == "-1")
        assert took_s < (1.0 if wrong in ("gone", "hangs") else 3.0)  # a loaded machine starts processes late
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


@groups
def test_a_second_governor_is_refused_by_the_lease(pages, group, tmp_path):
    process = governing(pages, group, tmp_path)
    try:
        found = run(
            pages.url, "--slo", "latency p99 < 100ms", "--device", f"quota:{group.name}", "--for", "1s", cwd=tmp_path
        )
        assert found.exit_code == 2
        assert "held by process" in found.stderr
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)
        process.stderr.close()
    assert quota(group) == "-1"


def test_every_page_that_comes_with_the_tests_is_probed(pages, tmp_path):
    for name, text in PAGES.items():
        pages.text = lambda text=text: text
        if name.startswith(("vllm-0.11", "llama")):
            found = run(pages.url, "--probe", cwd=tmp_path)
            assert found.exit_code == 0, found.stderr
            assert "Recognised" in found.stdout


def test_what_passes_through_the_proxy_is_the_judge(pages, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    log = tmp_path / "log.json"
    answered: list[bytes] = []

    def clients():
        until_s = time.monotonic() + 30.0
        while len(answered) < 40 and time.monotonic() < until_s:
            line = http.client.HTTPConnection("127.0.0.1", port, timeout=5.0)
            with contextlib.closing(line), contextlib.suppress(OSError):
                line.request("POST", "/infer", b"{}")
                answered.append(line.getresponse().read())
            time.sleep(0.02)

    asking = threading.Thread(target=clients)
    asking.start()
    way = f":{port}=:{pages.server.server_port}"
    found = run(
        pages.url, "--slo", "latency p99 < 1s", "--slo", "ttft p99 < 1s", "--proxy", way, "--watch", "--period",
        "100ms", "--for", "5s", "-o", log, "--json", cwd=tmp_path,
    )  # fmt: skip
    asking.join()
    assert found.exit_code == 0, found.stderr
    (proof,) = json.loads(found.stdout)
    assert proof["sight"] == f"a proxy, {way}"
    assert answered == 40 * [b"{}"]
    assert all(each["governed"]["out_of"] > 20 for each in proof["objectives"])
