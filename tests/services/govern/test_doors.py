"""A canary's histogram, the live page, and pages that come too late."""

import re
import time
from pathlib import Path

import pytest

from amble.core.errors import Refused
from amble.services.govern.canary import Canary, edges_s, load_request, with_canary
from amble.services.govern.eyes import Eyes, Memory
from amble.services.govern.fetch import Gone, Http, within
from amble.services.govern.head import Choice
from amble.services.govern.live import Live
from amble.services.govern.maps import recognise
from amble.services.govern.objective import Objective
from amble.services.govern.page import names_of
from amble.services.govern.watching import Told
from tests.services.govern.pages import PAGES
from tests.services.govern.rehearsing import a_server, governed

OBJECTIVE = Objective.parse("latency p99 < 40ms")


def test_a_canary_judges_a_server_without_a_histogram_and_counts_failures_as_late():
    answers = iter([None, None, OSError("refused")])

    def send():
        answer = next(answers)
        if answer is not None:
            raise answer

    canary = Canary(send, 1.0, edges_s((OBJECTIVE,)))
    fetch = canary.beside(lambda: PAGES["llama.cpp-b4000"])
    eyes = Eyes.open(with_canary(recognise(names_of(fetch()))), (OBJECTIVE,), fetch())
    memory, _ = eyes.look(Memory(), fetch(), 0.0)
    for _ in range(3):
        canary.once()
    _, look = eyes.look(memory, fetch(), 1.0)
    assert eyes.judged_s == (0.04,), "one edge is the limit itself"
    assert sum(look.counts[0]) == 3.0
    assert look.counts[0][-1] == 1.0


@pytest.mark.parametrize("text", ["{}", '{"url": "ftp://x"}', "no JSON", '{"url": "http://x", "boddy": 1}'])
def test_a_wrong_canary_is_refused(tmp_path, text):
    path = tmp_path / "request.json"
    path.write_text(text)
    with pytest.raises(Refused, match="--canary"):
        load_request(path)


def test_the_live_page_counts_late_answers_and_joules():
    told: list[Told] = []
    log, _ = governed(a_server(duration_s=60.0), 60.0, on_period=told.append, control=0.0)
    live = Live((log.governed,))
    for each in told:
        live.told(each)
    page = live.page()
    joules = sum(each.energy_j for each in log.periods)
    assert f'amble_govern_energy_joules_total{{server="rehearsed",number="0",side="governed"}} {joules:.6f}' in page
    answers = round(sum(sum(each.counts[0]) for each in log.periods))
    assert f'objective="latency p99 < 100ms"}} {answers}' in page


def test_a_page_that_comes_too_late_is_gone_and_the_next_one_is_fresh():
    count = [0]

    def slow():
        count[0] += 1
        if count[0] == 1:
            time.sleep(0.3)
        return f"page {count[0]}"

    fetch = within(slow, 0.1, "http://x")
    with pytest.raises(Gone, match="takes longer"):
        fetch()
    time.sleep(0.4)
    assert fetch() == "page 2"


@pytest.mark.parametrize("url", ["localhost:8000", "ftp://x/metrics", "http://x:99999/metrics"])
def test_what_is_no_address_is_refused(url):
    with pytest.raises(Refused):
        Http(url).open()


def test_every_series_of_ours_that_the_grafana_board_draws_is_on_the_live_page():
    board = (Path(__file__).parents[3] / "docs" / "grafana-dashboard.json").read_text()
    drawn = set(re.findall(r"amble_govern_[a-z_]+", board))
    log, _ = governed(a_server(duration_s=60.0), 60.0, control=0.2)
    live = Live((log.governed,))
    for each in log.periods:
        live.told(Told(0, each, Choice(each.decided, each.control, 1.0, "")))
    assert len(drawn) > 4
    assert drawn <= set(names_of(live.page()))
