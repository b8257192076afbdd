"""The page in a real browser, and the seconds that it draws."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from dataclasses import replace
from html.parser import HTMLParser
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from amble.core.cost import Reading
from amble.core.ladder import Level
from amble.core.point import Clocks
from amble.services.serve.models.configuration import Config
from amble.services.serve.models.model import Found, Model
from amble.services.serve.pulse import Sample
from amble.services.serve.telling.history import History, Second
from amble.services.serve.telling.ledger import Outcome
from amble.stages.control.engine import Batch
from tests.services.serve.house import HIGH, KINDS, Doubler, House, house, loaded

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--virtual-time-budget=3000", "--window-size=1280,900"),
)
MODEL = Model(Found("plain", "1", Path("x"), Config("plain")), loaded(KINDS["plain"]))
RUNG = MODEL.loaded.ladder.rungs[0]


def page(found: House, folder: Path, *more: str) -> str:
    """What a browser shows of the dashboard."""
    assert BROWSER is not None
    command = [BROWSER, *FLAGS, f"--user-data-dir={folder}", *more, "--dump-dom", str(found.addresses.dashboard)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout


def text_of(dom: str, identity: str) -> str:
    """The text inside an element."""
    match = re.search(rf'id="{identity}"[^>]*>(.*?)</(?:p|tbody|figure|select)>', dom, re.S)
    assert match, f"no {identity} in the page"
    return re.sub(r"<[^>]+>", " ", match[1])


@pytest.mark.skipif(BROWSER is None, reason="needs chromium")
@pytest.mark.parametrize("metered", [True, False])
def test_a_browser_draws_what_the_server_did(tmp_path: Path, metered: bool) -> None:
    with house("plain", doubler=Doubler(metered=metered)) as found:
        for _ in range(5):
            found.infer([1.0, 1.0], parameters={"timeout": 5_000_000})
        found.infer([1.0, 1.0], parameters={"timeout": 1})
        while sum(each["refused"] for each in seconds(found)) == 0:
            time.sleep(0.05)
        dom = page(found, tmp_path)
    assert text_of(dom, "state").strip() == "live"
    assert "5 since the start" in text_of(dom, "total")
    assert "1 deadline" in text_of(dom, "causes")
    assert "plain 1" in text_of(dom, "models")
    assert "polyline" in dom
    assert ("unknown" in text_of(dom, "power")) != metered
    assert ("unknown" in text_of(dom, "saved")) != metered


def seconds(found: House) -> list[dict[str, Any]]:
    """What the page is told."""
    with urllib.request.urlopen(f"{found.addresses.dashboard}/data", timeout=20) as answer:  # noqa: S310
        return list(json.load(answer)["series"])


def test_the_page_asks_nobody_else_for_anything() -> None:
    folder = files("amble.services.serve.doors")

    class Links(HTMLParser):
        found: tuple[str, ...] = ()

        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            self.found += tuple(value or "" for name, value in attrs if name in ("src", "href"))

    links = Links()
    links.feed((folder / "dashboard.html").read_text())
    assert links.found
    assert all(link.startswith(("/dashboard/", "data:")) for link in links.found)
    for name in ("dashboard.css", "dashboard.js"):
        outside = re.findall(r"(?:https?:)?//\w[^\s\"')]*", (folder / name).read_text())
        assert [link for link in outside if "www.w3.org/2000/svg" not in link and "//" in link and ":" in link] == []


def test_other_paths_of_the_door_lead_to_the_page_or_nowhere() -> None:
    with house("plain") as found:
        base = str(found.addresses.dashboard).removesuffix("/dashboard")
        with urllib.request.urlopen(base, timeout=20) as answer:  # noqa: S310
            assert answer.url.endswith("/dashboard")
            assert "default-src 'self'" in answer.headers["content-security-policy"]
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(f"{base}/nothing", timeout=20)  # noqa: S310


def sample(time_s: float, energy_j: float | None) -> Sample:
    return Sample(Reading(time_s, energy_j), Clocks(core_hz=1.3e9))


def answered(history: History, latency_s: float, *, due_s: float = 1.0) -> None:
    history.answered(MODEL, Outcome(RUNG, 1, 1, 0.0, 0.0, latency_s, due_s, None, None, None), {})


def test_quantiles_of_a_second_are_right_to_a_few_percent() -> None:
    history = History()
    for number in range(1, 1001):
        answered(history, number * 1e-3)
    history.tick(1.0, None, 0, ())
    assert history.series[0]["p50_s"] == pytest.approx(0.5, rel=0.05)
    assert history.series[0]["p99_s"] == pytest.approx(0.99, rel=0.05)
    assert Second().quantile_s(0.5) is None


def test_the_saving_is_against_the_same_batches_at_full_clocks_and_idling_in_between() -> None:
    history = History()
    history.tick(0.0, sample(10.0, 100.0), 0, (MODEL,))
    batch = Batch("plain/1", (), (), RUNG, 2, 0.0, 0.01, 0.02, 0.0, HIGH)
    history.ran(MODEL, batch)
    history.tick(1.0, sample(11.0, 100.5), 0, (MODEL,))
    expected_j = RUNG.joules[1] + (1.0 - RUNG.latency_s[1]) * RUNG.idle_w
    assert history.energy_j == pytest.approx(0.5)
    assert history.saved_j == pytest.approx(expected_j - 0.5)
    assert history.series[1]["power_w"] == pytest.approx(0.5)


def test_without_a_meter_there_is_no_saving() -> None:
    history = History()
    for time_s in (0.0, 1.0):
        history.tick(time_s, sample(time_s, None), 3, (MODEL,))
    assert history.saved_j is None
    assert history.series[1]["power_w"] is None
    assert history.series[1]["pending"] == 3


def test_history_is_bounded() -> None:
    history = History()
    for second in range(2000):
        history.tick(float(second), None, 0, ())
    assert len(history.series) == 600


def test_where_the_ladder_knows_no_energy_there_is_no_saving_although_the_device_has_a_meter() -> None:
    history = History()
    history.tick(0.0, sample(10.0, 100.0), 0, (MODEL,))
    top = replace(RUNG, energy_j=None)
    ladder = replace(MODEL.loaded.ladder, levels=(Level("fp32", 1.0, (top,)),))
    unknown = replace(MODEL, loaded=replace(MODEL.loaded, ladder=ladder))
    history.ran(unknown, Batch("plain/1", (), (), top, 2, 0.0, 0.01, 0.02, 0.0, HIGH))
    history.tick(1.0, sample(11.0, 100.5), 0, (unknown,))
    assert history.energy_j == pytest.approx(0.5)
    assert (history.saved_j, history.baseline_j) == (None, None)
