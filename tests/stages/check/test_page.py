from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from amble.core.schedule import FrontierPoint
from amble.core.subject import Where
from amble.stages.check.evidence import Evidence, Pair
from amble.stages.check.page import banner, report_page
from amble.stages.check.report import assess
from amble.stages.check.show import show_html
from tests.stages.check.builders import BEST, IDLE_W, KINDS, MAX, NAMES, costs, log, profile, schedule, without_meter

ROOT = Path(__file__).parents[3]
LOGS = (log(), log(MAX), log(BEST))
REPORT = assess(LOGS, schedule(), idle_w=IDLE_W)


class Page(HTMLParser):
    """What a browser would find: addresses, text outside of scripts, figures and the places for them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.ids: list[str] = []
        self.targets: list[str] = []
        self.open: list[str] = []
        self.words: list[str] = []
        self.rows = 0
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        self.links += [found[name] for name in ("src", "href") if name in found]
        self.ids += [found["id"]] if "id" in found else []
        self.targets += [found["data-for"]] if "data-for" in found else []
        self.rows += tag == "tr"
        if tag not in ("meta", "link", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not {"script", "style"} & set(self.open):
            self.words.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.words))


@pytest.fixture(scope="module")
def whole() -> str:
    pairs = tuple(Pair(name, kind, 1.1e-4, 1e-4) for name, kind in zip(NAMES, KINDS * 3, strict=True))
    frontier = tuple(FrontierPoint(float(t), 0.004 / float(t), 0.0039 / float(t)) for t in np.linspace(0.014, 0.03, 9))
    return report_page(Evidence(REPORT, replace(schedule(), frontier=frontier), LOGS, pairs, KINDS * 3))


def test_the_page_asks_nothing_of_the_network(whole: str) -> None:
    assert Page(whole).links == ["data:,"]
    assert "@import" not in whole.partition("</style>")[0]


def test_every_tag_is_closed_and_every_figure_has_its_place(whole: str) -> None:
    page = Page(whole)
    assert page.open == []
    assert len(page.targets) == 6
    assert sorted(page.targets) == sorted(page.ids)


def test_every_figure_is_json(whole: str) -> None:
    found = re.findall(r'<script type="application/json" data-for="[\w-]+">(.*?)</script>', whole)
    assert len(found) == 6
    assert all(json.loads(each)["data"] for each in found)


def test_findings_are_said_in_plain_words(whole: str) -> None:
    text = Page(whole).text
    assert "PASS" in text
    assert "amble answered 100 % of 600 requests within 28 ms" in text
    assert "A simulated device, calibrated: 6.1 % median against recorded/tx2." in text
    for wanted in ("Energy against maximum clocks", "Distance from the optimum", "Prediction error", "Accuracy"):
        assert wanted in text
    assert "It ran at core 1300.5 MHz, memory 1866 MHz" in text


def test_tables_are_there_without_scripts(whole: str) -> None:
    page = Page(re.sub(r"<script.*?</script>", "", whole, flags=re.S))
    assert page.rows > 30
    assert "best single clock" in page.text


def test_a_device_without_a_meter_shows_unknown_and_no_saving() -> None:
    dark = [without_meter(each) for each in LOGS]
    text = Page(report_page(Evidence(assess(dark, schedule()), schedule(), tuple(dark)))).text
    assert "Energy of an inference unknown" in text
    assert "Energy against" not in text
    assert "0 mJ" not in text


@pytest.mark.parametrize(
    ("deadline_s", "requests", "verdict"), [(0.028, 60, "INCONCLUSIVE"), (0.0225, 600, "FAIL"), (0.028, 600, "PASS")]
)
def test_the_verdict_is_the_first_tile(deadline_s: float, requests: int, verdict: str) -> None:
    found = assess([log(deadline_s=deadline_s, requests=requests)], schedule())
    text = Page(report_page(Evidence(found))).text
    assert re.search(rf"Deadline 28ms@p99 {verdict}", text)


def test_a_plan_that_needs_more_says_more() -> None:
    text = Page(report_page(Evidence(assess([log(MAX), log()], schedule())))).text
    assert re.search(r"maximum clocks answered .* \d\d\.\d % more than amble\.", text)
    assert re.search(r"4\d\.\d % to 5\d\.\d % more, idle included", text)


def test_a_baseline_that_missed_its_deadline_is_said_to_have() -> None:
    slow = log(BEST, deadline_s=0.021)
    text = Page(report_page(Evidence(assess([log(), slow], schedule())))).text
    assert "less than best single clock (which missed the deadline)" in text
    assert "of its answers were late" in text


def test_a_plan_that_changes_nothing_says_so() -> None:
    twin = replace(log(), policy="twin")
    text = Page(report_page(Evidence(assess([log(), twin], schedule())))).text
    assert "the same as twin" in text
    assert "Energy against twin the same" in text


def test_names_cannot_break_out_of_the_page() -> None:
    evil = replace(log(), policy="<script>alert(1)</script>")
    text = report_page(Evidence(assess([evil], schedule()), logs=(evil,)))
    assert "<script>alert(1)" not in text
    assert Page(text).open == []


@pytest.mark.parametrize(
    ("artefact", "plots", "words"),
    [
        (profile(), 1, "72 samples of 24 operators"),
        (costs(), 2, "24 operators at 36 points"),
        (schedule(), 2, "24 operators, in 3 runs of equal clocks"),
        (log(), 3, "600 requests in 18 s under amble"),
        (without_meter(replace(log(), slices=())), 1, "energy of the window unknown"),
        (REPORT, 1, "amble answered"),
        (Evidence(REPORT), 1, "amble answered"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_every_artefact_has_a_page(artefact: object, plots: int, words: str) -> None:
    page = Page(show_html(artefact))
    assert len(page.targets) == plots
    assert words in page.text
    assert page.open == []


def test_what_is_no_artefact_has_no_page() -> None:
    with pytest.raises(ValueError, match="cannot be shown"):
        show_html(3)


@pytest.mark.parametrize(
    ("calibration", "words"),
    [
        ("real", "Measured on the real device"),
        ("recorded: tx2", "A replay of real measurements"),
        ("calibrated: 5 %", "A simulated device, calibrated: 5 %"),
        ("uncalibrated", "how far it is from a real one is not known"),
    ],
)
def test_the_banner_says_how_real_the_device_is(calibration: str, words: str) -> None:
    assert words in banner(calibration)


def test_the_pages_of_this_machine_say_that_its_predictions_are_cpu_time() -> None:
    ran = [replace(each, where=Where("host")) for each in LOGS]
    plan = replace(schedule(), where=Where("host"))
    for page in (report_page(Evidence(assess(ran, plan), plan, tuple(ran))), show_html(plan)):
        assert "CPU time of the thread, which other load does not lengthen" in Page(page).text


def test_an_uncalibrated_device_is_marked_as_doubtful() -> None:
    doubtful = [replace(each, where=Where("fake", "uncalibrated")) for each in LOGS]
    assert 'class="banner doubtful"' in report_page(Evidence(assess(doubtful, schedule())))
    assert 'class="banner doubtful"' not in report_page(Evidence(REPORT))


def test_without_plotly_a_page_is_refused_with_what_to_install() -> None:
    code = (
        "import sys; sys.modules['plotly'] = None\n"
        "from amble.stages.check.show import show_html\n"
        "from amble.core.errors import Refused\n"
        "from tests.stages.check.builders import schedule\n"
        "try:\n    show_html(schedule())\nexcept Refused as error:\n    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == f"plots need plotly: run make setup in {ROOT}, or there pip install -e '.[plots]'"


def test_reading_a_report_needs_no_plotly() -> None:
    code = "import sys, amble.stages.check.show, amble.stages.check.trace; print('plotly' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "False"
