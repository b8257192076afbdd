"""A second knob: a program turns a router to the faster variant in danger, and back, whatever it answers."""

import json
import shlex
import subprocess
import sys
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from amble.core.errors import Refused
from amble.core.point import Clocks
from amble.services.govern.governing import Watching
from amble.services.govern.head import AS_FOUND, Choice
from amble.services.govern.variants import FASTER, FOUND, Variants, by_program
from amble.services.govern.watching import Told
from tests.services.govern.rehearsing import SETTINGS, a_server, governed, poisson

TURN = Path(__file__).parents[3] / "deploy" / "prefer-triton-version.py"


class Router:
    """Takes words, slowly if it likes; remembers them."""

    def __init__(self, note=""):
        self.words: list[str] = []
        self.note = note

    def __call__(self, word):
        self.words.append(word)
        return self.note


def a_period():
    log, _ = governed(a_server(duration_s=5.0), 3.0, control=0.0)
    return log.periods[-1]


def told(period, at_s, setting, reason, *, asked=SETTINGS[0], control=False):
    return Told(0, replace(period, finish_s=at_s, asked=asked, decided=setting), Choice(setting, control, 1.0, reason))


def test_the_faster_variant_is_asked_for_when_the_fastest_clocks_are_not_enough_and_left_after_calm():
    period, router = a_period(), Router()
    variants = Variants(router, SETTINGS[0], hold_s=10.0)
    variants.told(told(period, 1.0, 0, "the queue grows", asked=SETTINGS[3]))
    assert variants.asked == FOUND, "the fastest clocks were asked for only now"
    variants.told(told(period, 2.0, 0, "until the queue has gone"))
    assert variants.asked == FASTER
    variants.told(told(period, 3.0, 1, "the slowest that keeps the objectives"))
    variants.told(told(period, 12.0, 1, "the slowest that keeps the objectives"))
    assert variants.asked == FASTER, "calm for nine seconds"
    variants.told(told(period, 13.0, 1, "the slowest that keeps the objectives"))
    variants.stop()
    assert router.words == [FASTER, FOUND]


def test_when_the_governor_lets_go_so_does_the_router_and_at_the_end_too():
    period = a_period()
    for last in ((AS_FOUND, "the page does not come"), (0, "the queue grows")):
        router = Router()
        variants = Variants(router, SETTINGS[0])
        variants.told(told(period, 1.0, 0, "the queue grows"))
        variants.told(told(period, 2.0, *last))
        variants.stop()
        assert router.words == [FASTER, FOUND]


def test_a_router_that_fails_is_told_and_still_asked_to_go_back():
    period, router = a_period(), Router(note="no such version")
    variants = Variants(router, SETTINGS[0])
    variants.told(told(period, 1.0, 0, "the queue grows", asked=Clocks()))
    variants.stop()
    assert router.words == [FASTER, FOUND]
    assert "no such version" in variants.note


def test_a_burst_on_a_rehearsed_server_turns_the_router_once_and_back():
    burst = 100.0 + poisson(400.0, 15.0, seed=3)
    server = a_server(times_s=np.sort(np.concatenate([poisson(20.0, 300.0), burst[burst < 115.0]])))
    router = Router()
    variants = Variants(router, SETTINGS[0])
    governed(server, 300.0, control=0.0, on_period=variants.told)
    variants.stop()
    assert router.words[:2] == [FASTER, FOUND]
    assert router.words.count(FASTER) == router.words.count(FOUND) <= 3


def test_a_program_is_called_with_the_word_and_refused_when_it_does_not_take_it(tmp_path):
    said = tmp_path / "said"
    script = (
        f"import sys; open({str(said)!r}, 'a').write(sys.argv[1]); sys.exit('broken' if sys.argv[1] == 'faster' else 0)"
    )
    call = by_program(shlex.join([sys.executable, "-c", script]))
    assert call(FOUND) == ""
    assert "broken" in call(FASTER)
    assert said.read_text() == "foundfoundfaster"
    for none in ("/no/such/program", "", "turn 'it"):
        with pytest.raises(Refused, match="--variants"):
            by_program(none)


class Triton:
    """The part of a Triton that loads versions."""

    def __init__(self):
        self.config: dict = {"name": "m", "version_policy": {"latest": {"num_versions": 1}}}
        self.loads = 0
        owner = self

        class Door(BaseHTTPRequestHandler):
            def do_GET(self):
                versions = owner.config["version_policy"].get("specific", {}).get("versions", ["2"])
                ready = not self.path.endswith("/ready") or self.path.split("/")[-2] in versions
                self.give(200 if ready else 404, json.dumps(owner.config).encode())

            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                owner.config = json.loads(body["parameters"]["config"])
                owner.loads += 1
                self.give(200, b"")

            def give(self, status, body):
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Door)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


def test_tritons_versions_are_turned_by_the_program_that_comes_with_amble():
    triton = Triton()
    words = shlex.join([sys.executable, str(TURN), triton.url, "m", "1", "2"])
    try:
        call = by_program(words)
        assert triton.config["version_policy"] == {"specific": {"versions": ["1"]}}
        assert call(FOUND) == ""
        assert triton.loads == 1, "the same word twice loads nothing"
        assert call(FASTER) == ""
        assert triton.config["version_policy"] == {"specific": {"versions": ["2"]}}
    finally:
        triton.server.shutdown()
        triton.server.server_close()
    assert "Connection refused" in call(FASTER)


def test_the_program_says_how_it_is_called():
    done = subprocess.run([sys.executable, str(TURN)], capture_output=True, text=True)
    assert done.returncode == 1
    assert "--variants" in done.stderr


def test_who_only_watches_turns_no_router():
    with pytest.raises(Refused, match="--variants"):
        Watching(watch=True, variants="turn it")
