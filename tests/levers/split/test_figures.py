"""The page of a split shows what every cut takes, the best one, the deadline, and the energy over the link's rate."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from amble.core.point import Clocks
from amble.core.subject import Subject
from amble.levers.split import page as _page  # noqa: F401  registers the page of a split
from amble.levers.split.figures import cuts_figure, rates_figure
from amble.levers.split.link import Link
from amble.levers.split.planning import best, every, regimes
from amble.levers.split.results import Listed, Split
from amble.stages.check.show import show_html
from tests.levers.split.test_planning import RADIO, WHERE, question
from tests.stages.check.test_figures import read, values

LINK = Link(6e6, 0.002, RADIO)


def made(link: Link = LINK) -> Split:
    asked = question(1)
    chosen = best(asked, link)
    listed = tuple(
        Listed(f"op{len(asked.cuts[each.index].local)}", len(asked.cuts[each.index].local), ("t",), each)
        for each in every(asked, link, chosen.precision)
    )
    return Split(
        Subject("net", "a.onnx", "0" * 64, 1),
        WHERE,
        "fast",
        0.01,
        link,
        asked.deadline,
        asked.period_s,
        4,
        listed,
        listed[chosen.index],
        regimes(asked, link),
        (),
        Clocks(),
        ("t",),
        (),
        0.0,
        True,
    )


SPLIT = made()


def known(trace: dict[str, Any], axis: str) -> list[float | None]:
    return [None if each is None or np.isnan(each) else each for each in values(trace, axis)]


def test_bars_stack_to_latency_and_energy_of_every_cut() -> None:
    traces, _ = read(cuts_figure(SPLIT))
    parts = [known(traces[name], "y") for name in ("device computes", "waits for the link", "waits for the server")]
    for each, of in zip(SPLIT.cuts, zip(*parts, strict=True), strict=True):
        assert sum(part or 0.0 for part in of) == pytest.approx(each.choice.latency_s)
    device, radio = (known(traces[name], "y") for name in ("device, waiting too", "radio"))
    for each, here, sending in zip(SPLIT.cuts, device, radio, strict=True):
        total = None if here is None or sending is None else pytest.approx(here + sending)
        assert each.choice.energy_j == total
    assert parts[1][-1] == parts[2][-1] == 0.0
    assert parts[0][0] == pytest.approx(0.0, abs=1e-15)


def test_the_best_has_a_star_and_late_ones_are_pale() -> None:
    late = made(Link(1e6, 0.002, RADIO))
    assert {each.choice.fits for each in late.cuts} == {True, False}
    document = json.loads(cuts_figure(late))
    bars = document["data"][0]
    shades = [opacity == 1.0 for opacity in values(bars["marker"], "opacity")]
    assert shades == [each.choice.fits for each in late.cuts]
    stars = [each for each in document["data"] if each["name"] == "best"]
    at = late.cuts.index(late.best)
    assert [values(each, "x") for each in stars] == [[at], [at]]
    assert [values(each, "y") for each in stars] == [[late.best.choice.latency_s], [late.best.choice.energy_j]]


def test_the_deadline_is_a_line_and_both_ends_are_named() -> None:
    _, layout = read(cuts_figure(SPLIT))
    (line,) = layout["shapes"]
    assert line["y0"] == line["y1"] == SPLIT.deadline.latency_s
    assert str(SPLIT.deadline) in layout["annotations"][0]["text"]
    told = dict(zip(layout["xaxis2"]["tickvals"], layout["xaxis2"]["ticktext"], strict=True))
    assert told[0].startswith("all remote")
    assert told[len(SPLIT.cuts) - 1].startswith("all local")
    assert "best" in told[SPLIT.cuts.index(SPLIT.best)]


def test_energy_over_the_rate_is_that_of_the_best_cut_at_each() -> None:
    asked = question(1)
    document = json.loads(rates_figure(SPLIT))
    lines = [each for each in document["data"] if each["mode"] == "lines+markers"]
    assert len(lines) == sum(each.index is not None for each in SPLIT.regimes) > 1
    for line in lines:
        for rate, energy_j in zip(values(line, "x"), values(line, "y"), strict=True):
            assert energy_j == pytest.approx(best(asked, replace(LINK, rate_bit_s=rate)).energy_j)
    (told,) = document["layout"]["annotations"]
    assert (told["text"], told["x"]) == ("this link", pytest.approx(np.log10(LINK.rate_bit_s)))
    assert document["layout"]["shapes"][0]["x0"] == LINK.rate_bit_s


def test_all_remote_is_priced_at_every_rate_as_the_planner_prices_it() -> None:
    asked = question(1)
    traces, _ = read(rates_figure(SPLIT))
    remote, whole = traces["all remote, where in time"], traces["all local, always"]
    rates = values(remote, "x")
    for rate, energy_j in list(zip(rates, values(remote, "y"), strict=True))[::9]:
        of = every(asked, replace(LINK, rate_bit_s=rate), SPLIT.best.choice.precision)[0]
        assert of.fits
        assert energy_j == pytest.approx(of.energy_j)
    assert not every(asked, replace(LINK, rate_bit_s=rates[0] / 1.5), SPLIT.best.choice.precision)[0].fits
    assert set(values(whole, "y")) == {SPLIT.cuts[-1].choice.energy_j}


def test_the_page_holds_both_figures_every_number_and_that_it_is_predicted() -> None:
    assert 0 < SPLIT.best.num_local < SPLIT.num_operators
    page = show_html(SPLIT).replace("\u00a0", " ")
    assert page.count('class="plot"') == 2
    for needed in (
        "Energy, predicted",
        "Beside all local",
        "Beside all remote",
        "The best cut by link rate",
        "all of it, radio too, is predicted",
    ):
        assert needed in page


def test_a_split_without_energies_over_rates_is_shown_without_them() -> None:
    before = replace(SPLIT, regimes=tuple(replace(each, tried=()) for each in SPLIT.regimes))
    assert show_html(before).count('class="plot"') == 1
