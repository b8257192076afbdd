"""A cap from above holds whatever happens below it, and goes with the governor."""

import http.client
import json
import threading
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from amble.core.errors import Refused
from amble.core.point import Clocks
from amble.services.govern.cap import NONE, Cap, most_w
from amble.services.govern.fetch import Gone
from amble.services.govern.governing import Watching
from amble.services.govern.live import serve_page
from tests.services.govern.rehearsing import SETTINGS, a_server, governed

TOKEN = "secret"  # noqa: S105
MOST_W = (100.0, 80.0, 60.0, 45.0, 35.0, 30.0)
SPEED = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5)


def a_cap(**options):
    return Cap(MOST_W, SPEED, 90.0, **options)


@pytest.mark.parametrize(("cap_w", "floor"), [(None, 0), (100.0, 0), (99.9, 1), (60.0, 2), (44.0, 4), (1.0, 5)])
def test_the_floor_is_the_fastest_setting_within_the_cap(cap_w, floor):
    cap = a_cap()
    cap.order(1, cap_w)
    assert cap.floor() == floor


def test_an_order_older_than_the_newest_changes_nothing():
    cap = a_cap()
    assert cap.report()["serial"] == NONE
    assert cap.order(7, 60.0)
    assert not cap.order(6, 100.0)
    assert cap.order(7, 60.0), "the same order once more, as after a lost answer"
    assert cap.floor() == 2
    assert cap.report()["serial"] == 7


def test_a_capped_server_never_runs_faster_also_as_found_and_when_its_page_is_lost():
    server, cap = a_server(rate_hz=60.0, duration_s=300.0), a_cap()

    def fetch():
        if 100.0 < server.now_s() < 130.0:
            raise Gone("no page")
        return server.page()

    def told(each):
        cap.told(each)
        if each.period.finish_s > 20.0:
            cap.order(1, 60.0)

    log, _ = governed(server, 300.0, fetch=fetch, control=0.3, floor=cap.floor, on_period=told)
    capped = [each for each in log.periods if each.start_s > 24.0]
    assert {SETTINGS.index(each.asked) for each in capped} <= {2, 3, 4, 5}
    assert all(each.got in SETTINGS[2:] for each in capped)
    assert not any(each.control for each in capped), "clocks that were capped were counted as found"
    assert any(not each.usable for each in capped)
    assert any(each.asked == Clocks() for each in log.periods if each.finish_s < 20.0), "as found, before"
    server.sleep(0.1)
    assert server.current() == SETTINGS[0], "put back at the end"
    assert cap.report()["power_w"] is not None
    assert cap.report()["arrivals_hz"] > 10.0


@pytest.fixture
def door():
    cap = a_cap(token=TOKEN)
    server = serve_page(lambda: "", 0, cap=cap)
    yield f"http://127.0.0.1:{server.server_address[1]}", cap
    server.shutdown()
    server.server_close()


def ask(url, body=None, *, token=TOKEN, path="/cap"):
    line = http.client.HTTPConnection(urlsplit(url).netloc, timeout=5)
    try:
        line.request(
            "GET" if body is None else "PUT", path, body, {"Authorization": f"Bearer {token}"} if token else {}
        )
        answer = line.getresponse()
        found = answer.read()
        return answer.status, json.loads(found) if answer.getheader("Content-Type") == "application/json" else None
    finally:
        line.close()


def test_the_door_takes_orders_and_tells(door):
    url, cap = door
    status, told = ask(url, b'{"serial": 3, "cap_w": 60}')
    assert (status, told["floor"], told["most_w"]) == (200, 2, list(MOST_W))
    assert ask(url)[1]["serial"] == 3
    assert ask(url, b'{"serial": 2, "cap_w": 100}')[0] == 409
    assert cap.floor() == 2


@pytest.mark.parametrize(
    "body",
    [b"", b"no", b"[]", b'{"serial": 1}', b'{"serial": -1, "cap_w": 5}', b'{"serial": true, "cap_w": 5}',
     b'{"serial": 1, "cap_w": 0}', b'{"serial": 1, "cap_w": NaN}', b'{"serial": 1.5, "cap_w": 5}',
     b'{"serial": 1, "cap_w": "5"}', b'{"serial": 1, "cap_w": Infinity}'],
)  # fmt: skip
def test_what_is_no_order_is_refused_and_changes_nothing(door, body):
    url, cap = door
    assert ask(url, body)[0] == 400
    assert cap.report()["serial"] == NONE


def test_nobody_else_may_order_and_nothing_else_is_there(door):
    url, cap = door
    assert ask(url, b'{"serial": 3, "cap_w": 60}', token=TOKEN[::-1])[0] == 401
    assert ask(url, token=None)[0] == 401
    assert ask(url, b"x" * 5000)[0] == 404
    assert ask(url, b"{}", path="/metrics")[0] == 404
    assert cap.floor() == 0


def test_a_page_without_a_cap_takes_none():
    server = serve_page(lambda: "x 1\n", 0)
    try:
        assert ask(f"http://127.0.0.1:{server.server_address[1]}", b'{"serial": 3, "cap_w": 60}')[0] == 404
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize(("path", "status"), [("/metrics", 200), ("/cap", 200), ("/none", 404)])
def test_a_probe_with_head_gets_what_get_would_without_its_body(door, path, status):
    line = http.client.HTTPConnection(urlsplit(door[0]).netloc, timeout=5)
    found = {}
    for method in ("GET", "HEAD"):
        line.request(method, path, None, {"Authorization": f"Bearer {TOKEN}"})
        answer = line.getresponse()
        found[method] = (answer.status, answer.getheader("Content-Length"), len(answer.read()))
    line.close()
    assert found["HEAD"] == (status, found["GET"][1], 0)
    assert found["GET"][0] == status


def test_orders_of_many_threads_leave_the_newest():
    cap = a_cap()
    threads = [threading.Thread(target=cap.order, args=(at, 10.0 + at)) for at in range(50)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert (cap.report()["serial"], cap.report()["cap_w"]) == (49, 59.0)


def test_power_limits_say_themselves_what_is_drawn_and_a_table_says_it_of_clocks(tmp_path: Path):
    limits = [Clocks(power_limit_w=each) for each in (300.0, 200.0)]
    assert most_w(limits, None) == (300.0, 200.0)
    path = tmp_path / "table.csv"
    path.write_text(
        "device,workload,core_hz,latency_s,power_w\n"
        "card,m,1000000000,0.01,90\ncard,m,1000000000,0.01,100\ncard,m,700000000,0.013,60\ncard,m,500000000,0.02,61\n"
    )
    found = most_w([SETTINGS[0], Clocks(core_hz=6e8), SETTINGS[5]], path)
    assert found == (100.0, 61.0, 61.0), "the next faster one, and no setting more than a faster one draws less"
    path.write_text(
        "device,workload,core_hz,requested_core_hz,latency_s,power_w\n"
        "card,m,980000000,1000000000,0.01,100\ncard,m,500000000,500000000,0.02,61\n"
    )
    assert most_w([SETTINGS[0], SETTINGS[5]], path) == (100.0, 61.0), "by the clocks asked for, which is what is set"
    with pytest.raises(Refused, match="has no power at"):
        most_w([Clocks(core_hz=2e9)], path)
    with pytest.raises(Refused, match="give --costs"):
        most_w(SETTINGS, None)
    with pytest.raises(Refused, match="on average"):
        most_w(SETTINGS, tmp_path / "costs.json")


def test_a_cap_needs_a_page_and_where_others_reach_it_a_token():
    with pytest.raises(Refused, match="--metrics-port"):
        Watching(capacity_hz=10.0)
    with pytest.raises(Refused, match="--cap-token-file"):
        Watching(capacity_hz=10.0, metrics_port=1, metrics_host="10.0.0.1")


@pytest.mark.parametrize("word", ["Bearer sécret", "Bearer \udcff", "", "Bearer "])
def test_a_token_of_any_letters_is_compared(word):
    assert a_cap(token=TOKEN).answer(None, word)[0] == 401


@pytest.mark.parametrize(
    "body", [b'{"serial": 1, "cap_w": 1%b}' % (b"0" * 400), b'{"serial": 1, "cap_w": true}', b"[" * 200_000]
)
def test_an_order_that_is_none_is_answered_and_changes_nothing(body):
    cap = a_cap()
    assert cap.answer(body, "")[0] == 400
    assert cap.report()["serial"] == NONE
